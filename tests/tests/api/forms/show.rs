//! Showing one session.

use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::steps::{create, path_of, show};

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_session_is_shown_where_it_is_asked_for_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["live", "gone"] {
        create(
            &app,
            json!({ "uuid": uuid, "unit_id": "u", "data": { "a": "1" } }),
        )
        .await;
    }
    app.admin.delete(&path_of(&app, "gone")).await.result();
    for (flag, is_deleted) in [
        ("", false),
        ("?deleted=false", false),
        ("?deleted=0", false),
        ("?deleted=true", true),
        ("?deleted=1", true),
        ("?deleted", true),
    ] {
        let (found, missing) = if is_deleted {
            ("gone", "live")
        } else {
            ("live", "gone")
        };
        let shown = app
            .reader
            .get(&format!("{}{flag}", path_of(&app, found)))
            .await
            .result();
        assert_eq!(shown["is_deleted"], is_deleted, "{flag}");
        assert_eq!(shown["data"], json!({ "a": "1" }));
        let refused = app
            .reader
            .get(&format!("{}{flag}", path_of(&app, missing)))
            .await;
        assert_eq!(
            refused.error(),
            (404, "session_not_found".to_owned()),
            "{flag}"
        );
    }
    let nonsense = app
        .reader
        .get(&format!("{}?deleted=maybe", path_of(&app, "live")))
        .await;
    assert_eq!(nonsense.error(), (400, "query_invalid".to_owned()));
}

#[sqlx::test(migrations = "../migrations")]
async fn sub_sessions_are_named_where_asked_for_and_there_are_none(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let created = create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    let path = format!("{}?include_sub_sessions=1", path_of(&app, "s"));
    let mut with = app.reader.get(&path).await.result();
    assert_eq!(with["sub_project_sessions"], json!({}));
    let object = with.as_object_mut().expect("an object");
    object.remove("sub_project_sessions");
    assert_eq!(with, created);
    let without = format!("{}?include_sub_sessions=0", path_of(&app, "s"));
    assert_eq!(app.reader.get(&without).await.result(), created);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_not_there_and_what_is_not_ones_own_look_alike(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    let not_found = (404, "session_not_found".to_owned());
    assert_eq!(app.reader.get(&path_of(&app, "t")).await.error(), not_found);
    assert_eq!(
        app.stranger.get(&path_of(&app, "s")).await.error(),
        not_found
    );
    let elsewhere = format!("/api/v1/projects/{}/sessions/s", app.strange_project);
    assert_eq!(app.reader.get(&elsewhere).await.error(), not_found);
    assert_eq!(app.stranger.get(&elsewhere).await.error(), not_found);
    show(&app, "s").await;
    for bad in ["0", "-1", "x", "1.5", "99999999999999999999"] {
        let answer = app
            .reader
            .get(&format!("/api/v1/projects/{bad}/sessions/s"))
            .await;
        assert_eq!(answer.error(), (400, "path_invalid".to_owned()), "{bad}");
    }
}
