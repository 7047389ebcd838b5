//! Repeats are recognized, by content and by key.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::multipart::Form;
use rollcall_tests::{Answer, Stored, TestApp, file, send};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinSet;

fn session(saved: Option<i64>, value: &str) -> Value {
    let mut session =
        json!({ "session": { "uuid": "s", "unit_id": "u", "created": 5, "data": { "a": value } } });
    if let Some(saved) = saved {
        session["session"]["saved"] = saved.into();
    }
    session
}

fn photo_form(uuid: Option<&str>) -> Form {
    let form = Form::new()
        .text("session[unit_id]", "tablet")
        .text("session[data][a]", "1")
        .part(
            "session[data][photo]",
            file("photo.jpg", "image/jpeg", vec![7; 50_000]),
        );
    match uuid {
        Some(uuid) => form.text("session[uuid]", uuid.to_owned()),
        None => form,
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_content_changes_nothing_and_gets_the_same_answer(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for saved in [None, Some(9)] {
        let first = app.admin.post(&app.sessions(), &session(saved, "1")).await;
        let stored = app.stored().await;
        let again = app.admin.post(&app.sessions(), &session(saved, "1")).await;
        assert_eq!(again.text(), first.text());
        assert_eq!(app.stored().await, stored);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_late_repeat_does_not_wipe_a_newer_edit(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = app
        .admin
        .post(&app.sessions(), &session(Some(1), "old"))
        .await;
    app.admin
        .post(&app.sessions(), &session(Some(2), "new"))
        .await
        .result();
    let stored = app.stored().await;
    let late = app
        .admin
        .post(&app.sessions(), &session(Some(1), "old"))
        .await;
    assert_eq!(late.text(), first.text());
    assert_eq!(app.stored().await, stored);
    let path = format!("{}/s", app.sessions());
    assert_eq!(app.reader.get(&path).await.result()["data"]["a"], "new");
    // A deliberate change back carries a new time, or none.
    app.admin
        .post(&app.sessions(), &session(Some(3), "old"))
        .await
        .result();
    assert_eq!(app.reader.get(&path).await.result()["data"]["a"], "old");
    app.admin
        .post(&app.sessions(), &session(None, "new"))
        .await
        .result();
    assert_eq!(app.reader.get(&path).await.result()["data"]["a"], "new");
}

#[sqlx::test(migrations = "../migrations")]
async fn fifty_equal_submissions_with_files_at_once_are_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut posts = JoinSet::new();
    for _ in 0..50 {
        let (client, path) = (app.admin.clone(), app.sessions());
        posts.spawn(async move { client.post_multipart(&path, photo_form(Some("s"))).await });
    }
    let answers: Vec<Answer> = posts.join_all().await;
    let texts: BTreeSet<String> = answers.iter().map(Answer::text).collect();
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{texts:?}"
    );
    assert_eq!(texts.len(), 1, "equal answers");
    assert_eq!(
        app.stored().await,
        Stored {
            sessions: 1,
            events: 1,
            attachments: 1,
            objects: 1
        }
    );
    let back = app
        .reader
        .get(&format!("{}/s/attachments/photo", app.sessions()))
        .await;
    assert_eq!(back.bytes, vec![7; 50_000]);
}

#[sqlx::test(migrations = "../migrations")]
async fn fifty_requests_under_one_key_are_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut posts = JoinSet::new();
    for _ in 0..50 {
        let request = app
            .admin
            .request(Method::POST, &app.sessions())
            .header("idempotency-key", "k");
        posts.spawn(async move { send(request.multipart(photo_form(None))).await });
    }
    let answers: Vec<Answer> = posts.join_all().await;
    let texts: BTreeSet<String> = answers.iter().map(Answer::text).collect();
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{texts:?}"
    );
    assert_eq!(texts.len(), 1, "equal answers");
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotent-replayed") == Some("true"))
        .count();
    assert_eq!(replayed, 49);
    assert_eq!(
        app.stored().await,
        Stored {
            sessions: 1,
            events: 1,
            attachments: 1,
            objects: 1
        }
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn fifty_different_edits_at_once_are_fifty_revisions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.admin
        .post(&app.sessions(), &session(None, "first"))
        .await
        .result();
    let mut edits = JoinSet::new();
    for at in 0..50 {
        let (client, path) = (app.admin.clone(), format!("{}/s", app.sessions()));
        edits.spawn(async move {
            client
                .put(
                    &path,
                    &json!({ "session": { "data": { format!("p{at}"): "x" } } }),
                )
                .await
                .result()
        });
    }
    edits.join_all().await;
    let revisions = app
        .reader
        .get(&format!("{}/s/revisions", app.sessions()))
        .await
        .result();
    let numbers: Vec<i64> = revisions
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|r| r["revision"].as_i64())
        .collect();
    assert_eq!(numbers, (1..=51).rev().collect::<Vec<_>>());
    let data = app
        .reader
        .get(&format!("{}/s", app.sessions()))
        .await
        .result()["data"]
        .clone();
    assert_eq!(
        data.as_object().map(serde_json::Map::len),
        Some(51),
        "no edit is lost"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_stands_for_one_request(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let post = async |key: &str, body: &Value| {
        send(
            app.admin
                .request(Method::POST, &app.sessions())
                .header("idempotency-key", key)
                .json(body),
        )
        .await
    };
    let body = json!({ "session": { "unit_id": "u" } });
    let first = post("k", &body).await;
    let again = post("k", &body).await;
    assert_eq!(again.text(), first.text());
    assert_eq!(
        (
            first.header("idempotent-replayed"),
            again.header("idempotent-replayed")
        ),
        (None, Some("true"))
    );
    let other = post("k", &json!({ "session": { "unit_id": "other" } })).await;
    assert_eq!(other.error(), (400, "idempotency_key_reused".into()));
    // What was refused before the work began is not kept.
    assert_eq!(post("j", &json!({ "session": {} })).await.error().0, 400);
    post("j", &body).await.result();
    // Another key's answers are its own.
    let stranger = app.client(None, &[rollcall_model::Permission::Admin]).await;
    let request = stranger
        .request(Method::POST, &app.sessions())
        .header("idempotency-key", "k")
        .json(&body);
    assert_ne!(send(request).await.text(), first.text());
    // After a day a key is free.
    sqlx::query("update idempotency_keys set created_at = now() - interval '25 hours'")
        .execute(&app.superuser)
        .await
        .expect("aged");
    assert_ne!(post("k", &body).await.text(), first.text());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refusal_is_kept_too_and_leaves_nothing_half_done(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.admin
        .post(&app.sessions(), &session(None, "1"))
        .await
        .result();
    let stored = app.stored().await;
    let bulk = json!({ "sessions": [{ "uuid": "s", "data": { "a": "2" } }, { "uuid": "missing", "data": {} }] });
    let put = async || {
        let request = app
            .admin
            .request(Method::PUT, &app.sessions())
            .header("idempotency-key", "k")
            .json(&bulk);
        send(request).await
    };
    let first = put().await;
    assert_eq!(first.error(), (404, "session_not_found".into()));
    assert_eq!(app.stored().await, stored);
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "missing", "unit_id": "u" } }),
        )
        .await
        .result();
    assert_eq!(put().await.text(), first.text());
    assert_eq!(
        app.reader
            .get(&format!("{}/s", app.sessions()))
            .await
            .result()["data"]["a"],
        "1"
    );
}
