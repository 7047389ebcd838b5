//! Seed 002's envelope and member names, and beyond them our own.

use rollcall_model::Permission;
use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{complaint, create, document};

fn member_names(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn the_seeds_requests_give_documents_of_the_seeds_shape(pool: PgPool) {
    let app = TestApp::start(pool).await;
    // `Wed May 17 10:06:35 2017`, in UTC.
    let session = json!({ "uuid": "1", "unit_id": "x", "created": 1_495_015_595 });
    let id = create(&app, app.project, session).await;
    let one = document(&app.reader, "/v1/sessions/1").await;
    let own = format!("{}/v1/sessions/{id}", app.url);
    let service = format!("forms-{}", app.project);
    assert_eq!(member_names(&one), ["data", "links"]);
    assert_eq!(
        one["links"],
        json!({ "self": format!("{}/v1/sessions/1", app.url) })
    );
    let data = &one["data"];
    assert_eq!(
        member_names(data),
        ["attributes", "id", "links", "relationships", "type"]
    );
    assert_eq!(
        (&data["type"], &data["links"]),
        (&json!("sessions"), &json!({ "self": own }))
    );
    assert_eq!(
        data["relationships"]["services"],
        json!({
            "links": { "self": format!("{own}/relationships/services"), "related": format!("{own}/services") },
            "data": [{ "id": service, "type": "services" }],
        })
    );
    assert_eq!(data["attributes"]["state"], "saved");
    assert_eq!(data["attributes"]["connected"], "Wed May 17 10:06:35 2017");
    for path in ["/v1/sessions", "/v1/sessions/"] {
        let all = document(&app.reader, path).await;
        assert_eq!(all["links"]["self"], format!("{}/v1/sessions/", app.url));
        assert_eq!(all["data"], json!([data]));
    }
    assert_eq!(
        document(&app.reader, &format!("/v1/sessions/{id}")).await["data"],
        *data
    );
    assert_eq!(
        document(&app.reader, "/v1/sessions/1/").await["data"],
        *data
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_is_shown_whole_and_what_is_unknown_is_absent(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let session = json!({
        "uuid": "A", "unit_id": "tablet", "created": 1_495_015_595, "saved": 1_495_015_596,
        "data": { "Note": "fine", "sketch": { "rawData": "AAECAw==" } },
    });
    create(&app, app.project, session).await;
    let mut attributes = document(&app.reader, "/v1/sessions/A").await["data"]["attributes"].take();
    let told = attributes.as_object_mut().expect("an object");
    assert!(
        told.remove("updated")
            .is_some_and(|at| at.as_str().is_some_and(|at| at.ends_with('Z')))
    );
    assert!(
        told.remove("received_from")
            .is_some_and(|key| key.is_string())
    );
    assert_eq!(
        attributes,
        json!({
            "state": "saved", "connected": "Wed May 17 10:06:35 2017", "active": true, "kind": "form",
            "project": app.project.get(), "source_id": "A", "revision": 1, "started": "2017-05-17T10:06:35Z",
            "saved": "2017-05-17T10:06:36Z", "unit_id": "tablet",
            "points": { "note": "fine", "sketch": { "rawData": "AAECAw==" } },
        })
    );
    sqlx::query(
        "update sessions set label = 'a label', username = 'somebody', remote = '192.0.2.1'",
    )
    .execute(&app.superuser)
    .await
    .expect("updated");
    let attributes = document(&app.reader, "/v1/sessions/A").await["data"]["attributes"].take();
    let known = ["label", "user", "remote"].map(|name| attributes[name].clone());
    assert_eq!(known, ["a label", "somebody", "192.0.2.1"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_is_found_by_whatever_name_it_has(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for name in ["a/b", "100%", "a b", "é", "a%2Fb", "+", "?", "#x"] {
        let id = create(&app, app.project, json!({ "uuid": name, "unit_id": "x" })).await;
        let mut url: reqwest::Url = "http://host/v1/sessions".parse().expect("a URL");
        url.path_segments_mut().expect("segments").push(name);
        assert_eq!(
            document(&app.reader, url.path()).await["data"]["id"],
            id,
            "{name}"
        );
        assert_eq!(
            document(&app.reader, &format!("/v1/sessions/{}", id.to_uppercase())).await["data"]["id"],
            id
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_name_that_several_sessions_have_is_answered_with_all_of_them(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other = app.second_project().await;
    let session = json!({ "uuid": "same", "unit_id": "x" });
    let ids = [
        create(&app, app.project, session.clone()).await,
        create(&app, other, session.clone()).await,
    ];
    let path = format!("/api/v1/projects/{}/sessions", app.strange_project);
    app.stranger
        .post(&path, &json!({ "session": session }))
        .await
        .result();
    for path in [
        "",
        "/services",
        "/attachments",
        "/events",
        "/relationships/services",
    ] {
        let answer = app.reader.get(&format!("/v1/sessions/same{path}")).await;
        assert_eq!(complaint(&answer), (409, "session_ambiguous".into(), None));
        for id in &ids {
            assert!(answer.text().contains(id.as_str()), "{}", answer.text());
        }
        assert!(
            !answer
                .text()
                .contains(&format!("forms-{}", app.strange_project))
        );
    }
    let bound = app.client(Some(other), &[Permission::SessionsRead]).await;
    assert_eq!(
        document(&bound, "/v1/sessions/same").await["data"]["id"],
        ids[1]
    );
    // A session that is called as another's id hides nothing.
    let named = create(&app, app.project, json!({ "uuid": ids[0], "unit_id": "x" })).await;
    assert_ne!(named, ids[0]);
    assert_eq!(
        document(&app.reader, &format!("/v1/sessions/{}", ids[0])).await["data"]["id"],
        ids[0]
    );
}
