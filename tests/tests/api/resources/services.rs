//! Services, their counts, and projects.

use rollcall_model::Permission;
use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{create, document};

async fn counts(app: &TestApp) -> (i64, i64) {
    let service = document(&app.reader, &format!("/v1/services/forms-{}", app.project)).await;
    let count = |name: &str| {
        service["data"]["attributes"][name]
            .as_i64()
            .expect("a count")
    };
    (count("connections"), count("total_connections"))
}

#[sqlx::test(migrations = "../migrations")]
async fn counts_follow_what_happens(pool: PgPool) {
    let app = TestApp::start(pool).await;
    assert_eq!(counts(&app).await, (0, 0));
    let session = json!({ "uuid": "a", "unit_id": "x", "saved": 1_600_000_000 });
    create(&app, app.project, session.clone()).await;
    create(&app, app.project, json!({ "uuid": "b", "unit_id": "x" })).await;
    assert_eq!(counts(&app).await, (2, 2));
    // A repeat, a change, a refused one.
    create(&app, app.project, session).await;
    let path = format!("{}/a", app.sessions());
    app.admin
        .put(&path, &json!({ "session": { "data": { "p": "1" } } }))
        .await
        .result();
    app.admin
        .post(&app.sessions(), &json!({ "session": { "uuid": "c" } }))
        .await;
    assert_eq!(counts(&app).await, (2, 2));
    app.admin.delete(&path).await.result();
    assert_eq!(counts(&app).await, (1, 2));
    app.admin.delete(&path).await;
    assert_eq!(counts(&app).await, (1, 2));
    create(
        &app,
        app.project,
        json!({ "uuid": "a", "unit_id": "again" }),
    )
    .await;
    assert_eq!(counts(&app).await, (2, 2));
    // All or nothing: the second is not there, so the first is not deleted either.
    let both = json!({ "sessions": [{ "uuid": "a", "is_deleted": true }, { "uuid": "none", "unit_id": "x" }] });
    app.admin.put(&app.sessions(), &both).await;
    assert_eq!(counts(&app).await.1, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn counts_are_exact_however_many_write_at_once(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.database.database_wait_ms = 60_000).await;
    let writes = (0..64).map(|at| {
        let app = &app;
        async move {
            let session = json!({ "session": { "uuid": format!("s{}", at % 40), "unit_id": format!("u{at}") } });
            app.admin.post(&app.sessions(), &session).await.result();
            if at % 3 == 0 {
                app.admin.delete(&format!("{}/s{}", app.sessions(), at % 40)).await;
            }
        }
    });
    futures_util::future::join_all(writes).await;
    let truth: (i64, i64) =
        sqlx::query_as("select count(*) filter (where active), count(*) from sessions")
            .fetch_one(&app.superuser)
            .await
            .expect("counts");
    assert_eq!(counts(&app).await, truth);
    assert_eq!(truth.1, 40);
}

#[sqlx::test(migrations = "../migrations")]
async fn services_and_projects_are_those_in_reach(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other = app.second_project().await;
    let ids = |document: Value| -> Vec<String> {
        let all = document["data"].as_array().expect("an array").clone();
        all.iter()
            .map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect()
    };
    let own = app.project;
    assert_eq!(
        ids(document(&app.reader, "/v1/projects").await),
        [own.to_string(), other.to_string()]
    );
    let mut services = vec![format!("forms-{own}"), format!("forms-{other}")];
    services.sort();
    assert_eq!(ids(document(&app.reader, "/v1/services").await), services);
    let bound = app.client(Some(other), &[Permission::SessionsRead]).await;
    assert_eq!(
        ids(document(&bound, "/v1/projects").await),
        [other.to_string()]
    );
    assert_eq!(
        ids(document(&bound, "/v1/services").await),
        [format!("forms-{other}")]
    );
    for (query, expected) in [
        (
            format!("filter[project]={other}"),
            vec![format!("forms-{other}")],
        ),
        ("filter[kind]=pager".to_owned(), vec![]),
        ("filter[state]=Started".to_owned(), services.clone()),
        ("page[size]=1".to_owned(), services[..1].to_vec()),
    ] {
        assert_eq!(
            ids(document(&app.reader, &format!("/v1/services?{query}")).await),
            expected,
            "{query}"
        );
    }
    let first = document(&app.reader, "/v1/services?page[size]=1").await;
    let second = document(&app.reader, &super::path_of(&first["links"]["next"])).await;
    assert_eq!(ids(second), services[1..]);
    let project = document(&app.reader, &format!("/v1/projects/{own}")).await;
    assert_eq!(project["data"]["attributes"]["name"], "inspections");
    let service = document(&app.reader, &format!("/v1/services/forms-{own}")).await;
    let attributes = &service["data"]["attributes"];
    assert_eq!(
        (
            &attributes["kind"],
            &attributes["state"],
            &attributes["project"]
        ),
        (&json!("form"), &json!("Started"), &json!(own.get()))
    );
}
