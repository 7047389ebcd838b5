//! Whose brokers are seen: the credential's, and of those one project's or one by its name.

use rollcall_model::Permission;
use rollcall_tests::{Client, TestApp};
use serde_json::json;
use sqlx::PgPool;

use super::{clients, connect, document, names};

#[sqlx::test(migrations = "../migrations")]
async fn brokers_of_others_are_not_there(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let second = app.second_project().await;
    let subscribed = |filter: &str| json!({ "subscriptions": [{ "filter": filter, "qos": 1 }, { "filter": "all", "qos": 0 }] });
    let first = app.relay("first").await;
    connect(&first, "a", &["a1", "a2"], &subscribed("a")).await;
    connect(&first, "b", &["b1"], &subscribed("b")).await;
    let other = app.relay_of(app.org, second, "second").await;
    connect(&other, "c", &["c1"], &subscribed("c")).await;
    let strange = app
        .relay_of(app.strange_org, app.strange_project, "first")
        .await;
    connect(&strange, "a", &["s1"], &subscribed("s")).await;
    // What is no broker's is not shown: forms, guests, clients of proxies.
    let form = json!({ "session": { "uuid": "form", "unit_id": "x" } });
    app.admin.post(&app.sessions(), &form).await.result();
    let proxy = json!({ "kind": "proxy", "subscriptions": [{ "filter": "proxy", "qos": 0 }] });
    let event = first.connection(("proxy", 1), "connected", "p1", &proxy);
    assert_eq!(first.verdicts(&[event]).await, ["stored"]);

    let of_first = app
        .client(Some(app.project), &[Permission::SessionsRead])
        .await;
    let of_second = app.client(Some(second), &[Permission::SessionsRead]).await;
    let project = format!("/api/v1/projects/{}/broker", app.project);
    let strange_project = format!("/api/v1/projects/{}/broker", app.strange_project);
    let all = "/api/v1".to_owned();
    let see = async |client: &Client, prefix: &str, service: &str, seen: &[&str]| {
        let at = format!("{prefix} {service}");
        let service = format!("service={service}");
        assert_eq!(
            clients(client, &format!("{prefix}/sessions?{service}")).await,
            seen,
            "{at}"
        );
        let path = format!("{prefix}/subscriptions/all/clients?{service}");
        assert_eq!(
            names(&document(client, &path).await, "clients", "client_id"),
            seen,
            "{at}"
        );
        let mut filters: Vec<String> = seen.iter().map(|id| id[..1].to_owned()).collect();
        filters.push("all".into());
        filters.sort();
        filters.dedup();
        let path = format!("{prefix}/subscriptions?{service}");
        assert_eq!(
            names(&document(client, &path).await, "subscriptions", "filter"),
            filters,
            "{at}"
        );
        for id in ["a1", "a2", "b1", "c1", "s1", "p1", "form"] {
            let found = client
                .get(&format!("{prefix}/sessions/{id}?{service}"))
                .await;
            let expected = if seen.contains(&id) { 200 } else { 404 };
            assert_eq!(found.status, expected, "{at} {id}");
        }
        let overview = document(client, &format!("{prefix}/overview?{service}")).await;
        assert_eq!(overview["sessions"]["total"], seen.len(), "{at}");
    };
    see(&app.reader, &all, "", &["a1", "a2", "b1", "c1"]).await;
    see(&app.reader, &all, "b", &["b1"]).await;
    see(&app.reader, &all, "c", &["c1"]).await;
    see(&app.reader, &project, "", &["a1", "a2", "b1"]).await;
    see(&app.reader, &project, "a", &["a1", "a2"]).await;
    see(&of_first, &all, "", &["a1", "a2", "b1"]).await;
    see(&of_first, &project, "", &["a1", "a2", "b1"]).await;
    see(&of_second, &all, "", &["c1"]).await;
    see(&app.stranger, &all, "", &["s1"]).await;
    see(&app.stranger, &strange_project, "a", &["s1"]).await;
    for (client, path) in [
        (&app.reader, format!("{project}/sessions?service=c")),
        (&of_second, "/api/v1/sessions?service=a".to_owned()),
        (&app.reader, "/api/v1/stats?service=proxy".to_owned()),
        (&of_second, format!("{project}/sessions")),
        (&app.stranger, format!("{project}/sessions/a1")),
        (&app.reader, format!("{strange_project}/stats")),
    ] {
        assert_eq!(client.get(&path).await.status, 404, "{path}");
    }
}
