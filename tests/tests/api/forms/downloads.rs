//! Downloading a point's file: whole, in part, or not at all where the client has it.

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rollcall_tests::{Answer, TestApp, send};
use serde_json::json;
use sqlx::PgPool;

use super::steps::{create, create_with_photo, file_of, put_bytes, put_file};

const BYTES: &[u8] = b"0123456789";

/// An application with a session `s` whose point `f` holds [`BYTES`].
async fn with_file(pool: PgPool) -> TestApp {
    let app = TestApp::start(pool).await;
    create(
        &app,
        json!({ "uuid": "s", "unit_id": "u", "data": { "text": "t" } }),
    )
    .await;
    put_file(&app, "s", "f", BYTES).await.result();
    app
}

/// Downloads with extra headers.
async fn get(app: &TestApp, headers: &[(&'static str, &str)]) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let value = value.parse().expect("a header's value");
            (reqwest::header::HeaderName::from_static(name), value)
        })
        .collect();
    let request = app.reader.request(Method::GET, &file_of(app, "s", "f"));
    send(request.headers(headers)).await
}

async fn etag(app: &TestApp) -> String {
    get(app, &[])
        .await
        .header("etag")
        .expect("a tag")
        .to_owned()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_comes_as_bytes_that_no_browser_runs(pool: PgPool) {
    let app = with_file(pool).await;
    let answer = get(&app, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.bytes, BYTES);
    let sha256 = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    let headers = [
        ("content-type", "application/octet-stream"),
        ("content-length", "10"),
        ("content-disposition", "attachment; filename=\"f\""),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox; default-src 'none'"),
        ("cache-control", "private, no-cache"),
        ("accept-ranges", "bytes"),
        ("etag", &format!("\"{sha256}\"")),
    ];
    for (name, value) in headers {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("content-range"), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_type_that_a_client_gave_is_never_served(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "s", b"<script>alert(1)</script>").await;
    let answer = app.reader.get(&file_of(&app, "s", "photo")).await;
    assert_eq!(
        answer.header("content-type"),
        Some("application/octet-stream")
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_files_name_goes_into_the_disposition_whatever_it_holds(pool: PgPool) {
    let app = with_file(pool).await;
    let names = [
        ("photo.jpg", "attachment; filename=\"photo.jpg\""),
        ("two%20words.jpg", "attachment; filename=\"two words.jpg\""),
        ("a%22b%5Cc.txt", "attachment; filename=\"c.txt\""),
        ("a%22b.txt", "attachment; filename=\"a\\\"b.txt\""),
        ("a%3Bb%3D1.txt", "attachment; filename=\"a;b=1.txt\""),
        (
            "%C3%A9t%C3%A9.jpg",
            "attachment; filename*=UTF-8''%C3%A9t%C3%A9.jpg",
        ),
        (
            "%E6%97%A5%E6%9C%AC%22.jpg",
            "attachment; filename*=UTF-8''%E6%97%A5%E6%9C%AC%22.jpg",
        ),
    ];
    for (name, disposition) in names {
        let path = format!("{}?filename={name}", file_of(&app, "s", "f"));
        put_bytes(&app, &path, BYTES).await.result();
        let answer = get(&app, &[]).await;
        assert_eq!(
            answer.header("content-disposition"),
            Some(disposition),
            "{name}"
        );
        assert_eq!(answer.bytes, BYTES);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn one_range_is_sent_alone(pool: PgPool) {
    let app = with_file(pool).await;
    let ranges = [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=3-5", "345", "bytes 3-5/10"),
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=9-9", "9", "bytes 9-9/10"),
        ("bytes=4-", "456789", "bytes 4-9/10"),
        ("bytes=0-", "0123456789", "bytes 0-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-99", "0123456789", "bytes 0-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ];
    for (range, bytes, content_range) in ranges {
        let answer = get(&app, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.text(), bytes, "{range}");
        assert_eq!(answer.header("content-range"), Some(content_range));
        assert_eq!(
            answer.header("content-length"),
            Some(bytes.len().to_string().as_str())
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("etag"), Some(etag(&app).await.as_str()));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_range_behind_the_end_cannot_be_satisfied(pool: PgPool) {
    let app = with_file(pool).await;
    for range in ["bytes=10-", "bytes=10-12", "bytes=99-", "bytes=-0"] {
        let answer = get(&app, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
        assert!(answer.bytes.is_empty());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_range_that_makes_no_sense_is_answered_whole(pool: PgPool) {
    let app = with_file(pool).await;
    for range in [
        "bytes=0-1,3-4",
        "bytes=0-1, -1",
        "bytes=5-2",
        "bytes=",
        "bytes=x-y",
        "bytes=--1",
        "bytes",
        "lines=0-1",
        "",
    ] {
        let answer = get(&app, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{range}");
        assert_eq!(answer.bytes, BYTES, "{range}");
        assert_eq!(answer.header("content-range"), None);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_range_of_what_has_changed_is_answered_whole(pool: PgPool) {
    let app = with_file(pool).await;
    let tag = etag(&app).await;
    let part = get(&app, &[("range", "bytes=0-3"), ("if-range", &tag)]).await;
    assert_eq!(
        (part.status, part.text().as_str()),
        (StatusCode::PARTIAL_CONTENT, "0123")
    );
    let weak = format!("W/{tag}");
    for other in [
        "\"another\"",
        &weak,
        "Wed, 21 Oct 2099 07:28:00 GMT",
        "nonsense",
    ] {
        let whole = get(&app, &[("range", "bytes=0-3"), ("if-range", other)]).await;
        assert_eq!(
            (whole.status, whole.bytes.as_slice()),
            (StatusCode::OK, BYTES),
            "{other}"
        );
    }
    put_file(&app, "s", "f", b"9876543210").await.result();
    let whole = get(&app, &[("range", "bytes=0-3"), ("if-range", &tag)]).await;
    assert_eq!(
        (whole.status, whole.text().as_str()),
        (StatusCode::OK, "9876543210")
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn what_the_client_has_is_not_sent_again(pool: PgPool) {
    let app = with_file(pool).await;
    let tag = etag(&app).await;
    for held in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let answer = get(&app, &[("if-none-match", &held)]).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{held}");
        assert!(answer.bytes.is_empty());
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        assert_eq!(answer.header("content-range"), None);
    }
    let both = get(&app, &[("if-none-match", &tag), ("range", "bytes=0-3")]).await;
    assert_eq!(both.status, StatusCode::NOT_MODIFIED);
    for other in ["\"x\"", "\"\"", tag.trim_matches('"')] {
        let answer = get(&app, &[("if-none-match", other)]).await;
        assert_eq!(
            (answer.status, answer.bytes.as_slice()),
            (StatusCode::OK, BYTES),
            "{other}"
        );
    }
    put_file(&app, "s", "f", b"changed").await.result();
    let answer = get(&app, &[("if-none-match", &tag)]).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (StatusCode::OK, "changed")
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_bytes_have_the_same_tag_wherever_they_are(pool: PgPool) {
    let app = with_file(pool).await;
    let tag = etag(&app).await;
    create(&app, json!({ "uuid": "t", "unit_id": "u" })).await;
    let path = format!("{}?filename=other", file_of(&app, "t", "g"));
    put_bytes(&app, &path, BYTES).await.result();
    let other = app.reader.get(&file_of(&app, "t", "g")).await;
    assert_eq!(other.header("etag"), Some(tag.as_str()));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_point_without_a_file_is_not_found_nor_is_anothers(pool: PgPool) {
    let app = with_file(pool).await;
    let no_file = (404, "attachment_not_found".to_owned());
    for point in ["text", "none", "%00", "__proto__", "a%5Bb"] {
        assert_eq!(
            app.reader.get(&file_of(&app, "s", point)).await.error(),
            no_file,
            "{point}"
        );
    }
    let no_session = (404, "session_not_found".to_owned());
    assert_eq!(
        app.reader.get(&file_of(&app, "none", "f")).await.error(),
        no_session
    );
    assert_eq!(
        app.stranger.get(&file_of(&app, "s", "f")).await.error(),
        no_session
    );
    let singular = file_of(&app, "S", "F").replace("/projects/", "/project/");
    assert_eq!(
        app.reader.get(&singular).await.bytes,
        BYTES,
        "names are folded"
    );
}
