//! Storing a file in a point and taking it away (contract §2.5, M18, M20).

use reqwest::Method;
use rollcall_model::Permission;
use rollcall_tests::{Answer, Credential, TestApp, send};
use serde_json::json;
use sqlx::PgPool;

use super::multipart::Body;
use super::steps::{
    count, create, create_with_photo, events, file_of, path_of, prefix_of, put_bytes, put_file,
    revisions, show,
};

/// Stores what a form holds.
async fn put_form(app: &TestApp, path: &str, form: Body) -> Answer {
    let (content_type, bytes) = form.finish();
    let request = app.admin.request(Method::PUT, path);
    send(request.header("content-type", content_type).body(bytes)).await
}

async fn with_session(pool: PgPool) -> TestApp {
    let app = TestApp::start(pool).await;
    let session =
        json!({ "uuid": "s", "unit_id": "u", "created": 1, "saved": 2, "data": { "a": "1" } });
    create(&app, session).await;
    app
}

#[sqlx::test(migrations = "../migrations")]
async fn bare_bytes_are_stored_and_measured(pool: PgPool) {
    let app = with_session(pool).await;
    let path = format!("{}?filename=dir%2Fphoto.jpg", file_of(&app, "S", "Photo"));
    let stored = put_bytes(&app, &path, b"hello").await;
    assert_eq!(
        stored.json(),
        json!({
            "status": "success", "message": "success",
            "result": { "length": 5, "md5": "5d41402abc4b2a76b9719d911017c592" }
        })
    );
    let shown = show(&app, "s").await;
    insta::assert_json_snapshot!(shown["data"], { ".photo.id" => "[id]" }, @r#"
    {
      "a": "1",
      "photo": {
        "content_type": "application/octet-stream",
        "filename": "photo.jpg",
        "id": "[id]",
        "length": 5,
        "md5": "5d41402abc4b2a76b9719d911017c592",
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
      }
    }
    "#);
    assert_eq!(
        app.reader.get(&file_of(&app, "s", "photo")).await.bytes,
        b"hello"
    );
    assert!(app.s3.keys()[0].starts_with(&prefix_of(&app, "s")));
    assert_eq!(events(&app, "s").await, ["created", "attached"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_form_holds_the_file_in_the_field_attachment(pool: PgPool) {
    let app = with_session(pool).await;
    let form = Body::new()
        .text("comment", "not the file")
        .file(
            "attachment",
            "C:\\\\dir\\\\f\u{e9}.png",
            "image/png",
            b"hello",
        )
        .text("submit", "Send");
    let stored = put_form(&app, &file_of(&app, "s", "p"), form)
        .await
        .result();
    assert_eq!(
        stored,
        json!({ "length": 5, "md5": "5d41402abc4b2a76b9719d911017c592" })
    );
    let file = &show(&app, "s").await["data"]["p"];
    assert_eq!(file["filename"], "fé.png");
    assert_eq!(file["content_type"], "image/png");
    // Without a name of its own, the query's; without that, the point's.
    let nameless = || Body::new().part("name=\"attachment\"", Some("text/x"), b"hello");
    let query = format!("{}?filename=query.txt", file_of(&app, "s", "q"));
    put_form(&app, &query, nameless()).await.result();
    put_form(&app, &file_of(&app, "s", "Bare"), nameless())
        .await
        .result();
    put_file(&app, "s", "Raw", b"hello").await.result();
    let data = show(&app, "s").await["data"].clone();
    assert_eq!(data["q"]["filename"], "query.txt");
    assert_eq!(data["bare"]["filename"], "bare");
    assert_eq!(data["raw"]["filename"], "raw");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_new_file_takes_the_olds_place(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "s", b"old").await;
    put_file(&app, "s", "PHOTO", b"new one").await.result();
    assert_eq!(
        app.reader.get(&file_of(&app, "s", "photo")).await.bytes,
        b"new one"
    );
    let current = "select count(*) from attachments where retired_at is null";
    assert_eq!(count(&app, current).await, 1);
    assert_eq!(count(&app, "select count(*) from attachments").await, 2);
    let old = &revisions(&app, "s").await[1]["session"]["data"]["photo"];
    assert_eq!(old["length"], 3);
    assert_eq!(old["filename"], "photo.jpg");
    // A text gives way, too.
    put_file(&app, "s", "note", b"bytes").await.result();
    create(
        &app,
        json!({ "uuid": "t", "unit_id": "u", "data": { "note": "text" } }),
    )
    .await;
    put_file(&app, "t", "note", b"bytes").await.result();
    assert_eq!(show(&app, "t").await["data"]["note"]["length"], 5);
}

#[sqlx::test(migrations = "../migrations")]
async fn who_and_when_move_with_every_file(pool: PgPool) {
    let app = with_session(pool).await;
    let colleague = app.client(None, &[Permission::SessionsWrite]).await;
    let Credential::Basic { id, .. } = &colleague.credential else {
        panic!("a key");
    };
    let path = file_of(&app, "s", "f");
    let request = colleague.request(Method::PUT, &path);
    let octets = request.header("content-type", "application/octet-stream");
    send(octets.body("x")).await.result();
    let attached = show(&app, "s").await;
    assert_eq!(attached["received_from"], id.as_str());
    assert_eq!(attached["saved_timestamp"], attached["received_timestamp"]);
    assert_eq!(attached["created_timestamp"], 1);
    let detached = app.admin.delete(&path).await.result();
    assert_ne!(detached["received_from"], id.as_str());
    assert_eq!(detached["saved_timestamp"], detached["received_timestamp"]);
    let at: Vec<_> = revisions(&app, "s")
        .await
        .iter()
        .map(|r| r["session"]["saved_timestamp"].clone())
        .collect();
    assert_eq!(at[2], 2);
    assert_eq!(at[1], attached["saved_timestamp"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_is_taken_away_with_its_point(pool: PgPool) {
    let app = with_session(pool).await;
    put_file(&app, "s", "f", b"bytes").await.result();
    let left = app.admin.delete(&file_of(&app, "S", "F")).await.result();
    assert_eq!(left["data"], json!({ "a": "1" }));
    assert_eq!(show(&app, "s").await, left);
    let no_file = (404, "attachment_not_found".to_owned());
    assert_eq!(
        app.reader.get(&file_of(&app, "s", "f")).await.error(),
        no_file
    );
    assert_eq!(
        app.admin.delete(&file_of(&app, "s", "f")).await.error(),
        no_file,
        "twice"
    );
    assert_eq!(
        app.admin.delete(&file_of(&app, "s", "a")).await.error(),
        no_file,
        "a text"
    );
    assert_eq!(show(&app, "s").await["data"], json!({ "a": "1" }));
    assert_eq!(events(&app, "s").await, ["created", "attached", "detached"]);
    assert_eq!(
        count(
            &app,
            "select count(*) from attachments where retired_at is not null"
        )
        .await,
        1
    );
    assert_eq!(app.s3.keys().len(), 1, "the sweep's to delete");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_for_no_session_is_refused_before_it_is_stored(pool: PgPool) {
    let app = with_session(pool).await;
    app.admin.delete(&path_of(&app, "s")).await.result();
    let not_found = (404, "session_not_found".to_owned());
    for uuid in ["none", "s"] {
        assert_eq!(put_file(&app, uuid, "f", b"bytes").await.error(), not_found);
        assert_eq!(
            app.admin.delete(&file_of(&app, uuid, "f")).await.error(),
            not_found
        );
    }
    let strange = format!(
        "/api/v1/projects/{}/sessions/s/attachments/f",
        app.strange_project
    );
    assert_eq!(put_bytes(&app, &strange, b"bytes").await.error().0, 404);
    // Not a byte went to S3: nothing was asked of it at all.
    let metrics = app.anonymous().get("/metrics").await.text();
    assert!(!metrics.contains("operation=\"put_object\""), "{metrics}");
    assert_eq!(count(&app, "select count(*) from attachments").await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_no_file_is_refused(pool: PgPool) {
    let app = with_session(pool).await;
    let path = file_of(&app, "s", "f");
    let raw = async |content_type: Option<&str>, body: &'static [u8]| {
        let mut request = app.admin.request(Method::PUT, &path).body(body);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        send(request).await.error()
    };
    let code = |code: &str| (400, code.to_owned());
    // The contract asks for 400 here where 415 would be usual.
    assert_eq!(
        raw(Some("image/jpeg"), b"x").await,
        code("content_type_unsupported")
    );
    assert_eq!(
        raw(Some("application/json"), b"{}").await,
        code("content_type_unsupported")
    );
    assert_eq!(raw(None, b"x").await, code("content_type_missing"));
    assert_eq!(
        raw(Some("application/octet-stream"), b"").await,
        code("file_empty")
    );
    let missing = put_form(&app, &path, Body::new().text("file", "x")).await;
    assert_eq!(missing.error(), code("file_missing"));
    let empty = put_form(
        &app,
        &path,
        Body::new().file("attachment", "f", "text/x", b""),
    )
    .await;
    assert_eq!(empty.error(), code("file_empty"));
    for (point, code) in [
        ("a%5Bb", "point_invalid"),
        ("__PROTO__", "point_invalid"),
        ("%01", "point_invalid"),
    ] {
        assert_eq!(
            put_file(&app, "s", point, b"x").await.error(),
            (400, code.to_owned()),
            "{point}"
        );
    }
    let long = put_file(&app, "s", &"x".repeat(256), b"x").await;
    assert_eq!(long.error(), code("name_too_long"));
    let named = put_bytes(&app, &format!("{path}?filename=a%0Ab"), b"x").await;
    assert_eq!(named.error(), code("filename_invalid"));
    assert_eq!(events(&app, "s").await, ["created"]);
    assert!(app.s3.keys().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_may_be_so_large_and_no_larger(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_file_bytes = 1_000).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    put_file(&app, "s", "f", &[1; 1_000]).await.result();
    let (before, keys) = (show(&app, "s").await, app.s3.keys());
    let refused = put_file(&app, "s", "f", &[1; 1_001]).await;
    assert_eq!(refused.error(), (413, "file_too_large".to_owned()));
    assert!(refused.text().contains("at most 1000 bytes (limit: file)"));
    assert_eq!(show(&app, "s").await, before);
    assert_eq!(app.s3.keys(), keys);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_of_several_parts_comes_back_byte_for_byte(pool: PgPool) {
    let app = with_session(pool).await;
    // 9 MiB and a bit; its hashes are another program's.
    let bytes: Vec<u8> = (0..9_437_201_u64)
        .map(|at| u8::try_from((at * at * 31 + at / 251) % 256).expect("a byte"))
        .collect();
    let md5 = "16f2134040595a1a3037bca1b83e2088";
    let stored = put_file(&app, "s", "raw", &bytes).await.result();
    assert_eq!(stored, json!({ "length": 9_437_201, "md5": md5 }));
    let form = Body::new().file("attachment", "big.bin", "application/x-big", &bytes);
    let stored = put_form(&app, &file_of(&app, "s", "form"), form)
        .await
        .result();
    assert_eq!(stored["md5"], md5);
    for point in ["raw", "form"] {
        let described = &show(&app, "s").await["data"][point];
        assert_eq!(
            described["sha256"],
            "4c89e6583d336711c92c1c92bbba863249e69f2034605243e3e62ef1ceeaed47"
        );
        let path = file_of(&app, "s", point);
        assert!(app.reader.get(&path).await.bytes == bytes, "{point}");
        // Across the border of the parts.
        let request = app.reader.request(Method::GET, &path);
        let part = send(request.header("range", "bytes=8388600-8388620")).await;
        assert!(part.bytes == bytes[8_388_600..=8_388_620]);
    }
    let metrics = app.anonymous().get("/metrics").await.text();
    assert!(
        metrics.contains("operation=\"upload_part\""),
        "it went in parts"
    );
    assert_eq!(app.s3.keys().len(), 2);
}
