//! A point's file by itself.

use reqwest::Method;
use reqwest::multipart::Form;
use rollcall_tests::{Answer, TestApp, file, send};
use serde_json::json;
use sqlx::PgPool;

async fn put(app: &TestApp, point: &str, bytes: impl Into<Vec<u8>>) -> Answer {
    let path = format!(
        "{}/s/attachments/{point}?filename=dir/h%C3%B6he.bin",
        app.sessions()
    );
    let request = app
        .admin
        .request(Method::PUT, &path)
        .header("content-type", "application/octet-stream");
    send(request.body(bytes.into())).await
}

async fn with_session(pool: PgPool) -> TestApp {
    let app = TestApp::start(pool).await;
    let session =
        json!({ "session": { "uuid": "s", "unit_id": "u", "saved": 5, "data": { "text": "x" } } });
    app.admin.post(&app.sessions(), &session).await.result();
    app
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_is_put_replaced_read_and_taken_away(pool: PgPool) {
    let app = with_session(pool).await;
    let path = format!("{}/s/attachments/photo", app.sessions());
    let stored = put(&app, "Photo", "first").await.result();
    assert_eq!(
        stored,
        json!({ "length": 5, "md5": "8b04d5e3775d298e78455efc5ca404d5" })
    );
    let session = app
        .reader
        .get(&format!("{}/s", app.sessions()))
        .await
        .result();
    assert_eq!(session["data"]["photo"]["filename"], "höhe.bin");
    assert!(
        session["saved_timestamp"].as_i64() > Some(5),
        "a file saves the session"
    );

    let form = Form::new()
        .text("note", "x")
        .part("attachment", file("second.jpg", "image/jpeg", "second!"));
    let second = send(app.admin.request(Method::PUT, &path).multipart(form))
        .await
        .result();
    assert_eq!(second["length"], 7);
    assert_eq!(app.reader.get(&path).await.bytes, b"second!");
    let retired: i64 =
        sqlx::query_scalar("select count(*) from attachments where retired_at is not null")
            .fetch_one(&app.superuser)
            .await
            .expect("a count");
    assert_eq!(retired, 1);

    let left = app.admin.delete(&path).await.result();
    assert_eq!(left["data"], json!({ "text": "x" }));
    assert_eq!(
        app.admin.delete(&path).await.error(),
        (404, "attachment_not_found".into())
    );
    assert_eq!(
        app.reader.get(&path).await.error(),
        (404, "attachment_not_found".into())
    );
    let text = format!("{}/s/attachments/text", app.sessions());
    assert_eq!(
        app.reader.get(&text).await.error(),
        (404, "attachment_not_found".into())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_is_stored_for_what_is_not_there(pool: PgPool) {
    let app = with_session(pool).await;
    let before = app.stored().await;
    let missing = format!("{}/missing/attachments/photo", app.sessions());
    let request = app
        .admin
        .request(Method::PUT, &missing)
        .header("content-type", "application/octet-stream");
    assert_eq!(
        send(request.body("x")).await.error(),
        (404, "session_not_found".into())
    );
    assert_eq!(
        put(&app, "photo", "").await.error(),
        (400, "file_empty".into())
    );
    assert_eq!(
        put(&app, "__proto__", "x").await.error(),
        (400, "point_invalid".into())
    );
    let path = format!("{}/s/attachments/photo", app.sessions());
    let wrong = Form::new().part("file", file("a", "image/jpeg", "x"));
    let answer = send(app.admin.request(Method::PUT, &path).multipart(wrong)).await;
    assert_eq!(answer.error(), (400, "file_missing".into()));
    for content_type in ["text/plain", "image/jpeg"] {
        let request = app
            .admin
            .request(Method::PUT, &path)
            .header("content-type", content_type);
        assert_eq!(
            send(request.body("x")).await.error(),
            (400, "content_type_unsupported".into())
        );
    }
    assert_eq!(app.stored().await, before);
    app.admin
        .delete(&format!("{}/s", app.sessions()))
        .await
        .result();
    assert_eq!(
        put(&app, "photo", "x").await.error(),
        (404, "session_not_found".into())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn downloads_are_safe_and_take_ranges_and_etags(pool: PgPool) {
    let app = with_session(pool).await;
    put(&app, "photo", "0123456789").await.result();
    let path = format!("{}/s/attachments/PHOTO", app.sessions());
    let get = async |headers: &[(&str, &str)]| {
        let request = headers.iter().fold(
            app.reader.request(Method::GET, &path),
            |r, (name, value)| r.header(*name, *value),
        );
        send(request).await
    };
    let whole = get(&[]).await;
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("x-content-type-options", "nosniff"),
        (
            "content-disposition",
            "attachment; filename*=UTF-8''h%C3%B6he.bin",
        ),
        ("accept-ranges", "bytes"),
        ("content-length", "10"),
    ] {
        assert_eq!(whole.header(name), Some(value));
    }
    let etag = whole.header("etag").expect("an ETag").to_owned();
    for (range, status, content_range, bytes) in [
        ("bytes=0-0", 206, "bytes 0-0/10", "0"),
        ("bytes=3-5", 206, "bytes 3-5/10", "345"),
        ("bytes=7-", 206, "bytes 7-9/10", "789"),
        ("bytes=7-99", 206, "bytes 7-9/10", "789"),
        ("bytes=-2", 206, "bytes 8-9/10", "89"),
        ("bytes=-99", 206, "bytes 0-9/10", "0123456789"),
        ("bytes=10-", 416, "bytes */10", ""),
        ("bytes=5-3", 200, "", "0123456789"),
        ("bytes=0-1,4-5", 200, "", "0123456789"),
        ("lines=0-1", 200, "", "0123456789"),
        ("bytes=x", 200, "", "0123456789"),
    ] {
        let answer = get(&[("range", range)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (status, bytes),
            "{range}"
        );
        assert_eq!(
            answer.header("content-range").unwrap_or_default(),
            content_range,
            "{range}"
        );
    }
    let same = get(&[("range", "bytes=0-0"), ("if-range", etag.as_str())]).await;
    assert_eq!(same.status, 206);
    assert_eq!(
        get(&[("range", "bytes=0-0"), ("if-range", "\"other\"")])
            .await
            .status,
        200
    );
    for known in [etag.as_str(), "*", &format!("\"other\", W/{etag}")] {
        let answer = get(&[("if-none-match", known)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.bytes.len()),
            (304, 0),
            "{known}"
        );
    }
    assert_eq!(get(&[("if-none-match", "\"other\"")]).await.status, 200);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_of_several_parts_comes_back(pool: PgPool) {
    let app = with_session(pool).await;
    for length in [8 << 20, (17 << 20) + 5] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let stored = put(&app, "film", bytes.clone()).await.result();
        assert_eq!(stored["length"], length);
        let path = format!("{}/s/attachments/film", app.sessions());
        let back = app.reader.get(&path).await;
        assert!(back.bytes == bytes);
        let tail = app
            .reader
            .request(Method::GET, &path)
            .header("range", "bytes=-3");
        assert_eq!(send(tail).await.bytes, &bytes[bytes.len() - 3..]);
    }
    assert_eq!(
        put(&app, "film", vec![0; 9 << 20]).await.result(),
        put(&app, "film", vec![0; 9 << 20]).await.result()
    );
}
