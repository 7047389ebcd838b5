//! Updating one session and many: only what is sent changes (contract §2.4, M7, M10, M11).

use reqwest::{Method, StatusCode};
use rollcall_model::Permission;
use rollcall_tests::{Answer, Credential, TestApp, send};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::multipart::Body;
use super::steps::{
    count, create, create_with_photo, events, file_of, path_of, prefix_of, revisions, show, update,
};

/// Updates by a body that is not JSON.
async fn put_body(app: &TestApp, uuid: &str, content_type: &str, body: Vec<u8>) -> Answer {
    let request = app.admin.request(Method::PUT, &path_of(app, uuid));
    send(request.header("content-type", content_type).body(body)).await
}

fn whole(uuid: &str) -> Value {
    json!({
        "uuid": uuid, "unit_id": "u", "created": 1, "saved": 2,
        "data": { "a": "1", "b": "2", "r": { "rawData": "AA==" } }
    })
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_not_sent_stays(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, whole("s")).await;
    let edit = json!({ "saved": 50, "data": { "B": "two", "c": 3 } });
    let updated = update(&app, "S", edit).await.result();
    insta::assert_json_snapshot!(updated, {
        ".received" => "[date]",
        ".received_timestamp" => "[seconds]",
        ".received_from" => "[key]",
    }, @r#"
    {
      "created": "1970-01-01 00:00:01",
      "created_timestamp": 1,
      "data": {
        "a": "1",
        "b": "two",
        "c": "3",
        "r": {
          "rawData": "AA=="
        }
      },
      "is_deleted": false,
      "received": "[date]",
      "received_from": "[key]",
      "received_timestamp": "[seconds]",
      "saved": "1970-01-01 00:00:50",
      "saved_timestamp": 50,
      "unit_id": "u",
      "uuid": "s"
    }
    "#);
    assert_eq!(show(&app, "s").await, updated);
    let unit = update(&app, "s", json!({ "unit_id": "v", "saved": 51 }))
        .await
        .result();
    assert_eq!(unit["unit_id"], "v");
    assert_eq!(unit["data"], updated["data"]);
    assert_eq!(events(&app, "s").await, ["created", "updated", "updated"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn saved_defaults_to_now_and_who_and_when_move(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, whole("s")).await;
    let colleague = app.client(None, &[Permission::SessionsWrite]).await;
    let edit = json!({ "session": { "data": { "a": "9" } } });
    let updated = colleague.put(&path_of(&app, "s"), &edit).await.result();
    assert_eq!(updated["saved_timestamp"], updated["received_timestamp"]);
    assert_eq!(updated["saved"], updated["received"]);
    assert_eq!(updated["created_timestamp"], 1);
    let Credential::Basic { id, .. } = &colleague.credential else {
        panic!("a key");
    };
    assert_eq!(updated["received_from"], id.as_str());
}

#[sqlx::test(migrations = "../migrations")]
async fn created_and_uuid_cannot_be_changed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, whole("s")).await;
    let edit = json!({ "uuid": "other", "created": 777, "saved": 5, "unit_id": "v" });
    let updated = update(&app, "s", edit).await.result();
    assert_eq!(updated["uuid"], "s");
    assert_eq!(updated["created_timestamp"], 1);
    assert_eq!(updated["unit_id"], "v");
    let other = app.reader.get(&path_of(&app, "other")).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrations = "../migrations")]
async fn forms_update_as_json_does(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, whole("s")).await;
    let urlencoded = "session[data][a]=one&session[data][new][rawData]=AAEC&session%5Bsaved%5D=9";
    let form = "application/x-www-form-urlencoded";
    let updated = put_body(&app, "s", form, urlencoded.into()).await.result();
    let mut data =
        json!({ "a": "one", "b": "2", "r": { "rawData": "AA==" }, "new": { "rawData": "AAEC" } });
    assert_eq!(updated["data"], data);
    assert_eq!(updated["saved_timestamp"], 9);
    let (content_type, body) = Body::new()
        .text("session[data][B]", "two")
        .file(
            "session[data][r]",
            "dir/r.bin",
            "application/x-r",
            b"a file now",
        )
        .finish();
    let updated = put_body(&app, "s", &content_type, body).await.result();
    data["b"] = "two".into();
    data["r"] = updated["data"]["r"].clone();
    assert_eq!(updated["data"], data);
    assert_eq!(updated["data"]["r"]["filename"], "r.bin");
    let file = app.reader.get(&file_of(&app, "s", "r")).await;
    assert_eq!(file.bytes, b"a file now");
    assert!(app.s3.keys()[0].starts_with(&prefix_of(&app, "s")));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_new_file_or_value_retires_the_old_file(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "s", b"old").await;
    let (content_type, body) = Body::new()
        .file("session[data][photo]", "new.jpg", "image/jpeg", b"new")
        .finish();
    put_body(&app, "s", &content_type, body).await.result();
    assert_eq!(
        app.reader.get(&file_of(&app, "s", "photo")).await.bytes,
        b"new"
    );
    let retired = "select count(*) from attachments where retired_at is not null";
    assert_eq!(count(&app, retired).await, 1);
    update(&app, "s", json!({ "data": { "photo": "a text" } }))
        .await
        .result();
    assert_eq!(count(&app, retired).await, 2);
    let gone = app.reader.get(&file_of(&app, "s", "photo")).await;
    assert_eq!(gone.error(), (404, "attachment_not_found".to_owned()));
    let names: Vec<_> = revisions(&app, "s")
        .await
        .iter()
        .map(|revision| revision["session"]["data"]["photo"]["filename"].clone())
        .collect();
    assert_eq!(names, [json!(null), json!("new.jpg"), json!("photo.jpg")]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_read_may_be_sent_back_and_the_file_stays(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let created = create_with_photo(&app, "s", b"photo").await;
    let mut data = show(&app, "s").await["data"].clone();
    data["note"] = "added".into();
    let updated = update(&app, "s", json!({ "data": data })).await.result();
    assert_eq!(updated["data"]["photo"], created["data"]["photo"]);
    assert_eq!(updated["data"]["note"], "added");
    let file = app.reader.get(&file_of(&app, "s", "photo")).await;
    assert_eq!(file.bytes, b"photo");
    // Unchanged, it is a repeat.
    update(&app, "s", json!({ "data": data })).await.result();
    assert_eq!(events(&app, "s").await, ["created", "updated"]);
    // In bulk and in a batch, too.
    let item = json!({ "uuid": "s", "data": data, "unit_id": "v" });
    app.admin
        .put(&app.sessions(), &json!({ "sessions": [item] }))
        .await
        .result();
    assert_eq!(show(&app, "s").await["data"], updated["data"]);
    // But a description makes no file.
    for (point, filename) in [
        ("photo", "other.jpg"),
        ("note", "photo.jpg"),
        ("none", "photo.jpg"),
    ] {
        let refused = update(
            &app,
            "s",
            json!({ "data": { point: { "filename": filename } } }),
        )
        .await;
        assert_eq!(
            refused.error(),
            (400, "file_not_there".to_owned()),
            "{point}"
        );
    }
    let refused =
        super::steps::post(&app, json!({ "uuid": "s", "unit_id": "u", "data": data })).await;
    assert_eq!(refused.error(), (400, "file_not_sent".to_owned()));
}

#[sqlx::test(migrations = "../migrations")]
async fn null_changes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, whole("s")).await;
    let edit = json!({ "unit_id": null, "data": { "a": null, "none": null, "b": "two" } });
    let updated = update(&app, "s", edit).await.result();
    assert_eq!(updated["unit_id"], "u");
    assert_eq!(
        updated["data"],
        json!({ "a": "1", "b": "two", "r": { "rawData": "AA==" } })
    );
    // The empty string is a value.
    let emptied = update(&app, "s", json!({ "data": { "a": "" } }))
        .await
        .result();
    assert_eq!(emptied["data"]["a"], "");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_does_not_grow_beyond_its_points(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_points = 4).await;
    create(&app, whole("s")).await;
    update(&app, "s", json!({ "data": { "fourth": "4" } }))
        .await
        .result();
    update(&app, "s", json!({ "data": { "a": "same", "b": "same" } }))
        .await
        .result();
    let before = show(&app, "s").await;
    let refused = update(&app, "s", json!({ "data": { "fifth": "5", "a": "x" } })).await;
    assert_eq!(refused.error(), (400, "too_many_points".to_owned()));
    assert!(
        refused
            .text()
            .contains("more than 4 points (limit: points)")
    );
    let (content_type, body) = Body::new()
        .file("session[data][fifth]", "f", "text/plain", b"x")
        .finish();
    let refused = put_body(&app, "s", &content_type, body).await;
    assert_eq!(refused.error(), (400, "too_many_points".to_owned()));
    let refused = super::steps::put_file(&app, "s", "fifth", b"x").await;
    assert_eq!(refused.error(), (400, "too_many_points".to_owned()));
    assert_eq!(show(&app, "s").await, before);
    assert!(app.s3.keys().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn an_update_creates_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let not_found = (404, "session_not_found".to_owned());
    assert_eq!(update(&app, "none", whole("none")).await.error(), not_found);
    let (content_type, body) = Body::new()
        .text("session[unit_id]", "u")
        .file("session[data][f]", "f", "text/plain", b"x")
        .finish();
    assert_eq!(
        put_body(&app, "none", &content_type, body).await.error(),
        not_found
    );
    assert_eq!(count(&app, "select count(*) from sessions").await, 0);
    assert!(app.s3.keys().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn many_are_updated_together_and_answered_in_order(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["x", "y", "z"] {
        create(&app, whole(uuid)).await;
    }
    let bulk = json!({ "sessions": [
        { "uuid": "z", "saved": 9, "data": { "a": "z" } },
        { "uuid": "X", "unit_id": "v", "created": 99 },
        { "uuid": "z", "saved": 9, "data": { "b": "again" } }
    ] });
    let answered = app.admin.put(&app.sessions(), &bulk).await.result();
    let names: Vec<_> = answered
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| s["uuid"].clone())
        .collect();
    assert_eq!(names, ["z", "x", "z"]);
    assert_eq!(answered[0]["data"]["b"], "2");
    assert_eq!(answered[2], show(&app, "z").await);
    assert_eq!(answered[1], show(&app, "x").await);
    assert_eq!(answered[1]["created_timestamp"], 1);
    assert_eq!(
        answered[2]["data"],
        json!({ "a": "z", "b": "again", "r": { "rawData": "AA==" } })
    );
    assert_eq!(events(&app, "z").await, ["created", "updated", "updated"]);
    assert_eq!(events(&app, "y").await, ["created"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn all_are_updated_or_none(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_points = 3).await;
    for uuid in ["x", "y"] {
        create(&app, whole(uuid)).await;
    }
    app.admin.delete(&path_of(&app, "y")).await.result();
    let theirs = format!("/api/v1/projects/{}/sessions", app.strange_project);
    app.stranger
        .post(&theirs, &json!({ "session": whole("theirs") }))
        .await
        .result();
    let before = show(&app, "x").await;
    let bad = [
        (json!({ "uuid": "none" }), 404, "session_not_found"),
        (json!({ "uuid": "y" }), 404, "session_not_found"),
        (json!({ "uuid": "theirs" }), 404, "session_not_found"),
        (
            json!({ "uuid": "x", "data": { "p4": "4" } }),
            400,
            "too_many_points",
        ),
        (
            json!({ "uuid": "x", "data": { "a": { "filename": "f" } } }),
            400,
            "file_not_there",
        ),
        (json!({ "unit_id": "v" }), 400, "uuid_missing"),
        (json!({ "uuid": "x", "saved": "soon" }), 400, "json_invalid"),
    ];
    for (bad, status, code) in bad {
        let bulk = json!({ "sessions": [{ "uuid": "x", "unit_id": "v" }, bad] });
        let refused = app.admin.put(&app.sessions(), &bulk).await;
        assert_eq!(refused.error(), (status, code.to_owned()), "{bulk}");
        assert!(
            !refused.text().contains("theirs"),
            "nothing of others is named"
        );
        assert_eq!(show(&app, "x").await, before, "{bulk}");
    }
    assert_eq!(events(&app, "x").await, ["created"]);
    let none = app
        .admin
        .put(&app.sessions(), &json!({ "sessions": [] }))
        .await;
    assert_eq!(none.result(), json!([]));
    for bad in [json!({}), json!({ "sessions": {} }), json!([])] {
        let refused = app.admin.put(&app.sessions(), &bad).await;
        assert_eq!(refused.error(), (400, "json_invalid".to_owned()));
    }
    let form = app
        .admin
        .request(Method::PUT, &app.sessions())
        .form(&[("sessions[][uuid]", "x")]);
    assert_eq!(
        send(form).await.error(),
        (415, "content_type_unsupported".to_owned())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn one_update_changes_at_most_so_many_sessions(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_items = 2).await;
    create(&app, whole("x")).await;
    let bulk =
        |count: usize| json!({ "sessions": vec![json!({ "uuid": "x", "unit_id": "v" }); count] });
    let refused = app.admin.put(&app.sessions(), &bulk(3)).await;
    assert_eq!(refused.error(), (400, "too_many_items".to_owned()));
    assert!(refused.text().contains("at most 2 sessions (limit: items)"));
    assert_eq!(events(&app, "x").await, ["created"]);
    app.admin.put(&app.sessions(), &bulk(2)).await.result();
    assert_eq!(events(&app, "x").await, ["created", "updated"]);
}
