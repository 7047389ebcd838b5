//! `/v1/relays`: who forwards, and how they are doing.

use rollcall_model::Permission;
use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::document;

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_is_shown_as_it_last_said(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let path = format!("/v1/relays/{}", relay.id);
    let before = document(&app.reader, &path).await["data"]["attributes"].clone();
    assert_eq!(before["name"], "front");
    assert_eq!(before["project"], json!(app.project.get()));
    assert_eq!(before["spool"], json!({ "events": 0, "bytes": 0 }));
    assert!(before.get("last_seen").is_none() && before.get("version").is_none());
    let mut batch = relay.batch(&[
        relay.gap(("desk", 1), "lost"),
        relay.gap(("annex", 2), "lost"),
    ]);
    batch["relay"] = json!({
        "version": "1.2.3",
        "spool": { "events": 7, "bytes": 8192, "oldest": "2026-11-21T10:00:00+01:00", "set_aside": 2 },
    });
    assert_eq!(relay.client.post("/v1/ingest", &batch).await.status, 200);
    let after = document(&app.reader, &path).await["data"].clone();
    let attributes = &after["attributes"];
    assert_eq!(attributes["version"], "1.2.3");
    assert_eq!(
        attributes["spool"],
        json!({ "events": 7, "bytes": 8192, "oldest": "2026-11-21T09:00:00Z" })
    );
    assert_eq!(attributes["set_aside"], 2);
    assert!(attributes["last_seen"].is_string());
    let services = document(&app.reader, &format!("{path}/services")).await;
    let names: Vec<_> = services["data"]
        .as_array()
        .expect("services")
        .iter()
        .map(|service| service["id"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["annex", "desk"]);
    let related = after["relationships"]["services"]["links"]["related"].as_str();
    assert!(related.is_some_and(|link| link.ends_with(&format!("{path}/services"))));
}

#[sqlx::test(migrations = "../migrations")]
async fn relays_are_listed_within_reach(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other_project = app.second_project().await;
    for name in ["b", "a"] {
        app.relay(name).await;
    }
    let far = app.relay_of(app.org, other_project, "c").await;
    let names = async |client: &rollcall_tests::Client, path: &str| {
        let list = document(client, path).await;
        let names: Vec<String> = list["data"]
            .as_array()
            .expect("relays")
            .iter()
            .map(|relay| {
                relay["attributes"]["name"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        (
            names.join(" "),
            list["links"]["next"].as_str().map(str::to_owned),
        )
    };
    assert_eq!(names(&app.reader, "/v1/relays").await.0, "a b c");
    let filtered = format!("/v1/relays?filter[project]={other_project}");
    assert_eq!(names(&app.reader, &filtered).await.0, "c");
    let (first, next) = names(&app.reader, "/v1/relays?page[size]=2").await;
    assert_eq!(first, "a b");
    let next: reqwest::Url = next.expect("a next page").parse().expect("a URL");
    let next = format!("{}?{}", next.path(), next.query().unwrap_or_default());
    assert_eq!(names(&app.reader, &next).await.0, "c");
    assert_eq!(names(&app.stranger, "/v1/relays").await.0, "");
    let bound = app
        .client(Some(app.project), &[Permission::SessionsRead])
        .await;
    assert_eq!(names(&bound, "/v1/relays").await.0, "a b");
    for path in [format!("/v1/relays/{}", far.id), "/v1/relays/x".to_owned()] {
        for path in [path.clone(), format!("{path}/services")] {
            assert_eq!(
                bound.get(&path).await.error(),
                (404, "relay_not_found".into()),
                "{path}"
            );
        }
    }
}
