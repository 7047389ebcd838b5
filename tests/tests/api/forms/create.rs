//! Creating and replacing sessions.

use reqwest::multipart::Form;
use rollcall_tests::{TestApp, file};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrations = "../migrations")]
async fn the_seeds_json_is_taken_and_shown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let session = json!({ "session": {
        "uuid": "12341234-12341234-1234-1234-123412341234",
        "unit_id": "mydevice",
        "created": 1_234_567_890,
        "saved": 1_234_567_890,
        "data": {
            "point1": "value1",
            "point2": "value2",
            "sketch1": { "rawData": "base-64-data-goes-here" }
        }
    } });
    let created = app.admin.post(&app.sessions(), &session).await.result();
    assert_eq!(created["data"], session["session"]["data"]);
    assert_eq!(created["created"], "2009-02-13 23:31:30");
    let shown = app
        .reader
        .get(&format!(
            "{}/12341234-12341234-1234-1234-123412341234",
            app.sessions()
        ))
        .await
        .result();
    assert_eq!(shown, created);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_photo_goes_in_with_its_form_and_comes_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let photo = vec![0xff_u8; 300_000];
    let form = Form::new()
        .text("session[unit_id]", "mydevice")
        .part(
            "session[data][photo]",
            file("photo.jpg", "image/jpeg", photo.clone()),
        )
        .text("session[uuid]", "abc");
    let created = app
        .admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    assert_eq!(created["data"]["photo"]["filename"], "photo.jpg");
    let back = app
        .reader
        .get(&format!("{}/abc/attachments/photo", app.sessions()))
        .await;
    assert_eq!(back.bytes, photo);
    assert_eq!(app.s3.keys().len(), 1);
}
