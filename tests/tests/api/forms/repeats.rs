//! Repeats: content that a session holds, or once held under the same `saved`, changes nothing and gets the answer that
//! the first got. What is no repeat is applied, a deliberate change back included.

use reqwest::{Method, StatusCode};
use rollcall_model::Permission;
use rollcall_tests::{TestApp, send};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::multipart::Body;
use super::steps::{
    count, create, create_with_photo, events, file_of, path_of, post, post_body, put_bytes,
    put_file, show, update,
};

fn session(saved: Option<i64>, value: &str) -> Value {
    let mut session = json!({ "uuid": "s", "unit_id": "u", "data": { "a": value } });
    if let Some(saved) = saved {
        session["saved"] = saved.into();
    }
    session
}

#[sqlx::test(migrations = "../migrations")]
async fn content_that_is_held_changes_nothing_and_gets_the_same_answer(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for session in [
        json!({ "uuid": "bare", "unit_id": "u", "data": { "a": "1" } }),
        json!({ "uuid": "saved", "unit_id": "u", "saved": 7, "data": { "a": "1" } }),
        json!({ "uuid": "whole", "unit_id": "u", "created": 5, "saved": 7, "data": { "R": { "rawData": "AA==" } } }),
        json!({ "uuid": "empty", "unit_id": "u" }),
    ] {
        let first = post(&app, session.clone()).await;
        for _ in 0..3 {
            let again = post(&app, session.clone()).await;
            assert_eq!(again.status, StatusCode::OK);
            assert_eq!(again.text(), first.text());
        }
        let uuid = session["uuid"].as_str().expect("a text");
        assert_eq!(events(&app, uuid).await, ["created"], "{session}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_repeat_is_known_by_content_whatever_its_spelling(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = create(
        &app,
        json!({ "uuid": "S", "unit_id": "u", "saved": 7, "data": { "a": "1", "B": "2", "n": 3 } }),
    )
    .await;
    let json =
        r#"{"session":{"data":{"n":"3","b":"2","A":"1"},"saved":"7","unit_id":"u","uuid":"s"}}"#;
    let again = app
        .admin
        .post_raw(&app.sessions(), "application/json", json)
        .await;
    assert_eq!(again.result(), first);
    let fields = [
        ("session[data][N]", "3"),
        ("session[saved]", "7"),
        ("session[data][b]", "2"),
        ("session[uuid]", "s"),
        ("session[data][a]", "1"),
        ("session[unit_id]", "u"),
    ];
    let again = app.admin.post_form(&app.sessions(), &fields).await;
    assert_eq!(again.result(), first);
    for (boundary, reversed) in [("x", false), ("----another-boundary", true)] {
        let mut fields = fields.to_vec();
        if reversed {
            fields.reverse();
        }
        let body = fields
            .iter()
            .fold(Body::new().bounded(boundary), |body, (name, value)| {
                body.text(name, value)
            });
        assert_eq!(post_body(&app, body).await.result(), first);
    }
    assert_eq!(events(&app, "s").await, ["created"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_file_again_is_a_repeat_and_leaves_no_object(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = create_with_photo(&app, "s", b"photo").await;
    let keys = app.s3.keys();
    assert_eq!(create_with_photo(&app, "s", b"photo").await, first);
    let body = |boundary, filename, content_type| {
        Body::new()
            .bounded(boundary)
            .file("session[data][PHOTO]", filename, content_type, b"photo")
            .text("session[unit_id]", "tablet")
            .text("session[uuid]", "S")
    };
    let reordered = post_body(&app, body("b", "/a/folder/photo.jpg", "image/jpeg")).await;
    assert_eq!(reordered.result(), first);
    assert_eq!(app.s3.keys(), keys);
    assert_eq!(events(&app, "s").await, ["created"]);
    // The same bytes by another name, or of another type, are another file.
    post_body(&app, body("b", "other.jpg", "image/jpeg"))
        .await
        .result();
    post_body(&app, body("b", "other.jpg", "image/png"))
        .await
        .result();
    assert_eq!(events(&app, "s").await, ["created", "replaced", "replaced"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_repeats_the_first_to_send_it_stays_the_receiver(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = create(&app, session(None, "1")).await;
    let colleague = app.client(None, &[Permission::SessionsWrite]).await;
    let body = json!({ "session": session(None, "1") });
    assert_eq!(colleague.post(&app.sessions(), &body).await.result(), first);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_late_retry_that_names_its_save_does_not_wipe_a_newer_edit(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = create(&app, session(Some(100), "1")).await;
    let second = create(&app, session(Some(200), "2")).await;
    assert_eq!(create(&app, session(Some(100), "1")).await, first);
    assert_eq!(show(&app, "s").await, second);
    assert_eq!(events(&app, "s").await, ["created", "replaced"]);
    // Not even where the newer edit was a deletion.
    app.admin.delete(&path_of(&app, "s")).await.result();
    assert_eq!(create(&app, session(Some(200), "2")).await, second);
    assert_eq!(events(&app, "s").await, ["created", "replaced", "deleted"]);
    let gone = app.reader.get(&path_of(&app, "s")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_late_retry_with_its_file_leaves_the_newer_file(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let form = |saved: &str, bytes: &[u8]| {
        Body::new()
            .text("session[uuid]", "s")
            .text("session[unit_id]", "u")
            .text("session[saved]", saved)
            .file("session[data][photo]", "p.jpg", "image/jpeg", bytes)
    };
    let first = post_body(&app, form("1", b"old")).await.result();
    post_body(&app, form("2", b"new")).await.result();
    let keys = app.s3.keys();
    assert_eq!(post_body(&app, form("1", b"old")).await.result(), first);
    let file = app.reader.get(&file_of(&app, "s", "photo")).await;
    assert_eq!(file.bytes, b"new");
    assert_eq!(app.s3.keys(), keys, "what the retry stored is gone again");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deliberate_change_back_is_applied(pool: PgPool) {
    let app = TestApp::start(pool).await;
    // Without `saved` ..
    for value in ["1", "2", "1"] {
        let answer = create(&app, session(None, value)).await;
        assert_eq!(answer["data"]["a"], value);
        assert_eq!(show(&app, "s").await, answer);
    }
    assert_eq!(events(&app, "s").await, ["created", "replaced", "replaced"]);
    // .. and with a new one.
    for (saved, value) in [(10, "1"), (11, "2"), (12, "1")] {
        let answer = create(&app, session(Some(saved), value)).await;
        assert_eq!(answer["saved_timestamp"], saved);
        assert_eq!(show(&app, "s").await["data"]["a"], value);
    }
    assert_eq!(events(&app, "s").await.len(), 6);
}

#[sqlx::test(migrations = "../migrations")]
async fn other_content_under_the_same_save_is_applied(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, session(Some(100), "1")).await;
    create(&app, session(Some(100), "2")).await;
    assert_eq!(show(&app, "s").await["data"]["a"], "2");
    let mut unit = session(Some(100), "2");
    unit["unit_id"] = "v".into();
    create(&app, unit).await;
    let mut created = session(Some(100), "2");
    created["unit_id"] = "v".into();
    created["created"] = 3.into();
    create(&app, created).await;
    assert_eq!(show(&app, "s").await["created_timestamp"], 3);
    assert_eq!(
        events(&app, "s").await,
        ["created", "replaced", "replaced", "replaced"]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn updates_are_recognized_by_the_same_rules(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, session(Some(1), "0")).await;
    let edit = |saved: Option<i64>, value: &str| {
        let mut edit = json!({ "data": { "b": value } });
        if let Some(saved) = saved {
            edit["saved"] = saved.into();
        }
        edit
    };
    // Held: nothing happens, with and without `saved`.
    let first = update(&app, "s", edit(Some(2), "1")).await;
    assert_eq!(
        update(&app, "s", edit(Some(2), "1")).await.text(),
        first.text()
    );
    assert_eq!(
        update(&app, "s", edit(None, "1")).await.text(),
        first.text()
    );
    assert_eq!(events(&app, "s").await, ["created", "updated"]);
    // Once held, under the same `saved`: the newer edit stays.
    update(&app, "s", edit(Some(3), "2")).await.result();
    assert_eq!(
        update(&app, "s", edit(Some(2), "1")).await.text(),
        first.text()
    );
    assert_eq!(show(&app, "s").await["data"], json!({ "a": "0", "b": "2" }));
    assert_eq!(events(&app, "s").await.len(), 3);
    // Back on purpose.
    update(&app, "s", edit(Some(4), "1")).await.result();
    assert_eq!(show(&app, "s").await["data"]["b"], "1");
    update(&app, "s", edit(None, "2")).await.result();
    assert_eq!(show(&app, "s").await["data"]["b"], "2");
    assert_eq!(events(&app, "s").await.len(), 5);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_bulk_update_is_recognized_session_by_session(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["x", "y"] {
        create(&app, json!({ "uuid": uuid, "unit_id": "u" })).await;
    }
    let bulk = json!({ "sessions": [
        { "uuid": "x", "saved": 9, "data": { "a": "1" } },
        { "uuid": "y", "saved": 9, "data": { "a": "1" } }
    ] });
    let first = app.admin.put(&app.sessions(), &bulk).await;
    create(&app, json!({ "uuid": "y", "unit_id": "newer" })).await;
    let again = app.admin.put(&app.sessions(), &bulk).await;
    assert_eq!(again.text(), first.text());
    assert_eq!(events(&app, "x").await, ["created", "updated"]);
    assert_eq!(events(&app, "y").await, ["created", "updated", "replaced"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_file_in_the_same_point_is_a_repeat(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, session(Some(1), "0")).await;
    let path = format!("{}?filename=a.bin", file_of(&app, "s", "f"));
    let first = put_bytes(&app, &path, b"bytes").await;
    let (shown, keys) = (show(&app, "s").await, app.s3.keys());
    assert_eq!(put_bytes(&app, &path, b"bytes").await.text(), first.text());
    let (content_type, form) = Body::new()
        .file("attachment", "a.bin", "application/octet-stream", b"bytes")
        .finish();
    let request = app
        .admin
        .request(Method::PUT, &file_of(&app, "s", "F"))
        .header("content-type", content_type);
    assert_eq!(send(request.body(form)).await.text(), first.text());
    assert_eq!(show(&app, "s").await, shown);
    assert_eq!(app.s3.keys(), keys);
    assert_eq!(events(&app, "s").await, ["created", "attached"]);
    // There is no `saved` to know a late one by: another file, and this one again, are both meant.
    put_bytes(&app, &path, b"others").await.result();
    put_bytes(&app, &path, b"bytes").await.result();
    assert_eq!(
        app.reader.get(&file_of(&app, "s", "f")).await.bytes,
        b"bytes"
    );
    assert_eq!(events(&app, "s").await.len(), 4);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_update_with_the_file_that_is_held_is_a_repeat(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, session(Some(1), "0")).await;
    put_file(&app, "s", "f", b"bytes").await.result();
    let before = count(&app, "select count(*) from events").await;
    let (content_type, form) = Body::new()
        .file(
            "session[data][f]",
            "f",
            "application/octet-stream",
            b"bytes",
        )
        .finish();
    let request = app
        .admin
        .request(Method::PUT, &path_of(&app, "s"))
        .header("content-type", content_type);
    let answer = send(request.body(form)).await.result();
    assert_eq!(answer, show(&app, "s").await);
    assert_eq!(count(&app, "select count(*) from events").await, before);
    assert_eq!(app.s3.keys().len(), 1);
}
