//! `Idempotency-Key`, by Stripe's rules: the first answer under a key is given again to every repeat of the request,
//! another request under it is refused; nothing is kept of what was refused before its work began.

use reqwest::{Method, RequestBuilder, StatusCode};
use rollcall_model::Permission;
use rollcall_tests::{Answer, Client, TestApp, send};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::multipart::Body;
use super::steps::{
    count, create, create_with_photo, events, file_of, path_of, post_body, put_file, show, update,
};

/// Sends a request under a key.
async fn keyed(request: RequestBuilder, key: &str) -> Answer {
    send(request.header("idempotency-key", key)).await
}

/// Creates under a key.
async fn create_keyed(client: &Client, app: &TestApp, key: &str, session: Value) -> Answer {
    let request = client.request(Method::POST, &app.sessions());
    keyed(request.json(&json!({ "session": session })), key).await
}

/// Every write of the surface, on sessions `a` and `b`.
fn writes(app: &TestApp) -> Vec<RequestBuilder> {
    let (a, photo) = (path_of(app, "a"), file_of(app, "a", "photo"));
    let request = |method, path: &str| app.admin.request(method, path);
    let (form_type, form) = Body::new()
        .text("session[unit_id]", "u")
        .file("session[data][f]", "f", "text/plain", b"in a form")
        .finish();
    let (update_type, form_update) = Body::new()
        .file("session[data][f]", "f", "text/plain", b"in an update")
        .finish();
    vec![
        request(Method::POST, &app.sessions()).json(&json!({ "session": { "unit_id": "u" } })),
        request(Method::POST, &app.sessions()).form(&[("session[unit_id]", "u")]),
        request(Method::POST, &app.sessions())
            .header("content-type", form_type)
            .body(form),
        request(Method::PUT, &a).json(&json!({ "session": { "data": { "x": "1" } } })),
        request(Method::PUT, &a)
            .header("content-type", update_type)
            .body(form_update),
        request(Method::PUT, &app.sessions())
            .json(&json!({ "sessions": [{ "uuid": "a", "data": { "x": "2" } }, { "uuid": "b", "unit_id": "v" }] })),
        request(Method::POST, &format!("{}/batch", app.sessions())).json(&json!({
            "sessionsToUpdate": { app.project.to_string(): [{ "uuid": "b", "data": { "y": "1" } }, { "uuid": "?" }] },
            "sessionsToAdd": { app.project.to_string(): [{ "unit_id": "u" }] }
        })),
        request(Method::PUT, &photo)
            .header("content-type", "application/octet-stream")
            .body("bytes"),
        request(Method::DELETE, &photo),
        request(Method::DELETE, &a),
    ]
}

#[sqlx::test(migrations = "../migrations")]
async fn every_write_under_a_key_is_done_once_and_answered_alike(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["a", "b"] {
        create(&app, json!({ "uuid": uuid, "unit_id": "u" })).await;
    }
    let mut answers = Vec::new();
    for (at, request) in writes(&app).into_iter().enumerate() {
        let key = format!("key-{at}");
        let first = keyed(request.try_clone().expect("bytes"), &key).await;
        assert_eq!(first.status, StatusCode::OK, "{at}: {}", first.text());
        assert_eq!(first.header("idempotent-replayed"), None);
        let (happened, keys) = (
            count(&app, "select count(*) from events").await,
            app.s3.keys(),
        );
        let again = keyed(request, &key).await;
        check_replay(&first, &again);
        assert_eq!(
            count(&app, "select count(*) from events").await,
            happened,
            "{at}"
        );
        assert_eq!(
            app.s3.keys(),
            keys,
            "{at}: what the repeat stored is gone again"
        );
        answers.push(first);
    }
    // Whatever has happened since: the first answer is the answer.
    for (at, (request, first)) in writes(&app).into_iter().zip(answers).enumerate().take(2) {
        check_replay(&first, &keyed(request, &format!("key-{at}")).await);
    }
}

fn check_replay(first: &Answer, again: &Answer) {
    assert_eq!(again.status, first.status);
    assert_eq!(again.text(), first.text());
    assert_eq!(again.header("content-type"), first.header("content-type"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_is_for_one_request_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["a", "b"] {
        create(&app, json!({ "uuid": uuid, "unit_id": "u" })).await;
    }
    let edit = json!({ "session": { "unit_id": "v" } });
    let put = |path: &str, body: &Value| app.admin.request(Method::PUT, path).json(body);
    let a = path_of(&app, "a");
    keyed(put(&a, &edit), "k").await.result();
    let before = count(&app, "select count(*) from events").await;
    let others = [
        put(&a, &json!({ "session": { "unit_id": "w" } })),
        put(&path_of(&app, "b"), &edit),
        put(
            &app.sessions(),
            &json!({ "sessions": [{ "uuid": "a", "unit_id": "v" }] }),
        ),
        app.admin.request(Method::POST, &app.sessions()).json(&edit),
        app.admin.request(Method::DELETE, &a),
        app.admin
            .request(Method::PUT, &file_of(&app, "a", "f"))
            .header("content-type", "application/octet-stream")
            .body("x"),
    ];
    for (at, other) in others.into_iter().enumerate() {
        let refused = keyed(other, "k").await;
        assert_eq!(
            refused.error(),
            (400, "idempotency_key_reused".to_owned()),
            "{at}"
        );
    }
    assert_eq!(count(&app, "select count(*) from events").await, before);
    assert!(app.s3.keys().is_empty());
    // The one it is for is still answered.
    assert_eq!(
        keyed(put(&a, &edit), "k")
            .await
            .header("idempotent-replayed"),
        Some("true")
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_form_with_another_file_is_another_request(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let form = |bytes: &[u8], filename: &str| {
        let body = Body::new().text("session[unit_id]", "u").file(
            "session[data][f]",
            filename,
            "text/plain",
            bytes,
        );
        let (content_type, bytes) = body.finish();
        let request = app.admin.request(Method::POST, &app.sessions());
        request.header("content-type", content_type).body(bytes)
    };
    keyed(form(b"one", "f"), "k").await.result();
    for other in [form(b"two", "f"), form(b"one", "g")] {
        assert_eq!(
            keyed(other, "k").await.error(),
            (400, "idempotency_key_reused".to_owned())
        );
    }
    assert_eq!(app.s3.keys().len(), 1);
    assert_eq!(
        keyed(form(b"one", "f"), "k")
            .await
            .header("idempotent-replayed"),
        Some("true")
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn two_api_keys_do_not_share_their_keys(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let colleague = app.client(None, &[Permission::SessionsWrite]).await;
    let first = create_keyed(&app.admin, &app, "k", json!({ "unit_id": "one" })).await;
    let second = create_keyed(&colleague, &app, "k", json!({ "unit_id": "two" })).await;
    assert_eq!(second.result()["unit_id"], "two");
    assert_eq!(second.header("idempotent-replayed"), None);
    let other = format!("/api/v1/projects/{}/sessions", app.strange_project);
    let body = json!({ "session": { "unit_id": "three" } });
    let third = keyed(app.stranger.request(Method::POST, &other).json(&body), "k").await;
    assert_eq!(third.result()["unit_id"], "three");
    let again = create_keyed(&app.admin, &app, "k", json!({ "unit_id": "one" })).await;
    check_replay(&first, &again);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refusal_after_the_work_began_is_an_answer_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let request = || {
        let edit = json!({ "session": { "unit_id": "v" } });
        app.admin
            .request(Method::PUT, &path_of(&app, "s"))
            .json(&edit)
    };
    let first = keyed(request(), "k").await;
    assert_eq!(first.error(), (404, "session_not_found".to_owned()));
    assert_eq!(first.header("idempotent-replayed"), None);
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    check_replay(&first, &keyed(request(), "k").await);
    assert_eq!(show(&app, "s").await["unit_id"], "u");
    assert_eq!(keyed(request(), "another").await.result()["unit_id"], "v");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refusal_before_the_work_began_is_not_kept(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let invalid = create_keyed(&app.admin, &app, "k", json!({ "data": { "a": "1" } })).await;
    assert_eq!(invalid.error(), (400, "unit_id_missing".to_owned()));
    let forbidden = create_keyed(&app.reader, &app, "k", json!({ "unit_id": "u" })).await;
    assert_eq!(forbidden.status, StatusCode::FORBIDDEN);
    let put = app.admin.request(Method::PUT, &file_of(&app, "none", "f"));
    let nowhere = keyed(
        put.header("content-type", "application/octet-stream")
            .body("x"),
        "k",
    );
    assert_eq!(nowhere.await.error(), (404, "session_not_found".to_owned()));
    assert_eq!(
        count(&app, "select count(*) from idempotency_keys").await,
        0
    );
    let mended = create_keyed(&app.admin, &app, "k", json!({ "unit_id": "u" })).await;
    assert_eq!(mended.result()["unit_id"], "u");
    assert_eq!(mended.header("idempotent-replayed"), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_is_forgotten_after_24_hours(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = create_keyed(&app.admin, &app, "k", json!({ "unit_id": "u" })).await;
    age(&app, "23 hours 59 minutes").await;
    check_replay(
        &first,
        &create_keyed(&app.admin, &app, "k", json!({ "unit_id": "u" })).await,
    );
    age(&app, "24 hours 1 second").await;
    let second = create_keyed(&app.admin, &app, "k", json!({ "unit_id": "other" })).await;
    assert_eq!(second.result()["unit_id"], "other");
    assert_eq!(second.header("idempotent-replayed"), None);
    let again = create_keyed(&app.admin, &app, "k", json!({ "unit_id": "other" })).await;
    check_replay(&second, &again);
}

/// Makes every kept answer this old.
async fn age(app: &TestApp, age: &str) {
    sqlx::query("update idempotency_keys set created_at = now() - $1::text::interval")
        .bind(age)
        .execute(&app.superuser)
        .await
        .expect("aged");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_is_1_to_255_visible_characters(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (content_type, bytes) = Body::new()
        .text("session[unit_id]", "u")
        .file("session[data][f]", "f", "text/plain", b"x")
        .finish();
    let send_with = async |key: &[u8]| {
        let request = app
            .admin
            .request(Method::POST, &app.sessions())
            .header("content-type", content_type.as_str())
            .header("idempotency-key", key);
        send(request.body(bytes.clone())).await
    };
    for bad in [b"".as_slice(), "clé".as_bytes(), &[b'k'; 256]] {
        let refused = send_with(bad).await;
        assert_eq!(refused.error(), (400, "idempotency_key_invalid".to_owned()));
    }
    assert_eq!(count(&app, "select count(*) from sessions").await, 0);
    assert!(app.s3.keys().is_empty());
    for good in [b"k".as_slice(), b"!\"$%&/()=?", &[b'k'; 255]] {
        send_with(good).await.result();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_failed_bulk_update_under_a_key_leaves_nothing_half_done(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let before = create(&app, json!({ "uuid": "a", "unit_id": "u" })).await;
    let request = || {
        let bulk = json!({ "sessions": [{ "uuid": "a", "unit_id": "v" }, { "uuid": "none", "unit_id": "v" }] });
        app.admin.request(Method::PUT, &app.sessions()).json(&bulk)
    };
    let first = keyed(request(), "k").await;
    assert_eq!(first.error(), (404, "session_not_found".to_owned()));
    assert_eq!(show(&app, "a").await, before);
    assert_eq!(events(&app, "a").await, ["created"]);
    check_replay(&first, &keyed(request(), "k").await);
    assert_eq!(show(&app, "a").await, before);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_replayed_answer_shows_the_past_and_touches_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "s", b"first").await;
    let request = || {
        let put = app.admin.request(Method::PUT, &file_of(&app, "s", "photo"));
        put.header("content-type", "application/octet-stream")
            .body("second")
    };
    let second = keyed(request(), "k").await;
    put_file(&app, "s", "photo", b"third").await.result();
    update(&app, "s", json!({ "unit_id": "newer" }))
        .await
        .result();
    let (shown, keys) = (show(&app, "s").await, app.s3.keys());
    check_replay(&second, &keyed(request(), "k").await);
    assert_eq!(show(&app, "s").await, shown);
    assert_eq!(app.s3.keys(), keys);
    // Without the key it is a change like any other.
    let other = Body::new()
        .text("session[uuid]", "s")
        .text("session[unit_id]", "u")
        .file("session[data][photo]", "photo", "text/plain", b"second");
    post_body(&app, other).await.result();
    assert_eq!(
        app.reader.get(&file_of(&app, "s", "photo")).await.bytes,
        b"second"
    );
}
