//! Revisions: what a session was, page by page.

use reqwest::multipart::Form;
use rollcall_tests::{TestApp, file};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrations = "../migrations")]
async fn what_was_replaced_stays_readable(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let form = |value: &str, photo: &str| {
        Form::new()
            .text("session[uuid]", "s")
            .text("session[unit_id]", "u")
            .text("session[data][a]", value.to_owned())
            .part(
                "session[data][photo]",
                file("photo.jpg", "image/jpeg", photo.to_owned()),
            )
    };
    let first = app
        .admin
        .post_multipart(&app.sessions(), form("1", "old bytes"))
        .await
        .result();
    let second = app
        .admin
        .post_multipart(&app.sessions(), form("2", "new"))
        .await
        .result();
    app.admin
        .delete(&format!("{}/s/attachments/photo", app.sessions()))
        .await
        .result();
    app.admin
        .delete(&format!("{}/s", app.sessions()))
        .await
        .result();
    let path = format!("{}/s/revisions", app.sessions());
    let revisions = app.reader.get(&path).await.result();
    let told: Vec<_> = revisions
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| (r["revision"].clone(), r["event"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!(4), json!("deleted")),
            (json!(3), json!("detached")),
            (json!(2), json!("replaced")),
            (json!(1), json!("created"))
        ]
    );
    assert_eq!(
        (&revisions[3]["session"], &revisions[2]["session"]),
        (&first, &second)
    );
    assert_eq!(revisions[3]["session"]["data"]["photo"]["length"], 9);
    let page = app.reader.get(&format!("{path}?limit=3")).await.json();
    let token = page["next_page_token"].as_str().expect("a token");
    let rest = app
        .reader
        .get(&format!("{path}?limit=3&page_token={token}"))
        .await
        .result();
    assert_eq!(rest[0]["event"], "created");
    assert_eq!(
        app.reader
            .get(&format!("{path}?page_token=x"))
            .await
            .error(),
        (400, "page_token_invalid".into())
    );
    assert_eq!(
        app.reader
            .get(&format!("{}/missing/revisions", app.sessions()))
            .await
            .error(),
        (404, "session_not_found".into())
    );
}
