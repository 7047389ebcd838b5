//! Bad input: a clear answer, and nothing stored.

use std::io::{Read, Write};

use reqwest::Method;
use reqwest::multipart::Form;
use rollcall_tests::{Answer, Stored, TestApp, file, send};
use serde_json::json;
use sqlx::PgPool;

const FORM: &str = "application/x-www-form-urlencoded";

/// Status, stable code, and words that the message must have.
fn check(what: &str, answer: &Answer, status: u16, code: &str, words: &[&str]) {
    assert_eq!(
        answer.error(),
        (status, code.to_owned()),
        "{what}: {}",
        answer.text()
    );
    let message = answer.json()["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    for word in words {
        assert!(
            message.contains(word),
            "{what}: `{word}` is not in `{message}`"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn json(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let deep = format!(
        "{{\"session\":{{\"unit_id\":\"x\",\"data\":{{\"a\":{}1{}}}}}}}",
        "[".repeat(1_000),
        "]".repeat(1_000)
    );
    let points: Vec<String> = (0..10_000).map(|at| format!("\"p{at}\":\"\"")).collect();
    let many = format!(
        "{{\"session\":{{\"unit_id\":\"x\",\"data\":{{{}}}}}}}",
        points.join(",")
    );
    let long = format!(
        "{{\"session\":{{\"unit_id\":\"x\",\"data\":{{\"{}\":\"\"}}}}}}",
        "n".repeat(300)
    );
    let session = |inner: &str| format!("{{\"session\":{{\"unit_id\":\"x\",{inner}}}}}");
    let cases: Vec<(&str, String, &str, &[&str])> = vec![
        (
            "syntax",
            "{\"session\":\n x}".into(),
            "json_broken",
            &["line 2 column 2"],
        ),
        (
            "cut off",
            "{\"session\":{\"unit_id\":".into(),
            "json_truncated",
            &["line 1"],
        ),
        ("empty", String::new(), "json_truncated", &[]),
        ("no session", "{}".into(), "json_invalid", &["session"]),
        ("a list", "[]".into(), "json_invalid", &["line 1"]),
        (
            "session a text",
            "{\"session\":\"x\"}".into(),
            "json_invalid",
            &["a session"],
        ),
        (
            "no unit_id",
            "{\"session\":{\"data\":{}}}".into(),
            "unit_id_missing",
            &["session[unit_id]"],
        ),
        (
            "unit_id empty",
            "{\"session\":{\"unit_id\":\"\"}}".into(),
            "json_invalid",
            &["empty"],
        ),
        (
            "unit_id a number",
            "{\"session\":{\"unit_id\":7}}".into(),
            "json_invalid",
            &["string"],
        ),
        (
            "uuid empty",
            session("\"uuid\":\"\""),
            "json_invalid",
            &["empty"],
        ),
        (
            "uuid with U+0000",
            session("\"uuid\":\"a\\u0000\""),
            "json_invalid",
            &["control"],
        ),
        (
            "created a text",
            session("\"created\":\"yesterday\""),
            "json_invalid",
            &["integers"],
        ),
        (
            "created a fraction",
            session("\"created\":1.5"),
            "json_invalid",
            &["integers"],
        ),
        (
            "created negative",
            session("\"created\":-1"),
            "json_invalid",
            &["integers"],
        ),
        (
            "created huge",
            session("\"created\":99999999999999999999"),
            "json_invalid",
            &["9999"],
        ),
        (
            "saved a boolean",
            session("\"saved\":true"),
            "json_invalid",
            &["integers"],
        ),
        (
            "data a list",
            session("\"data\":[]"),
            "json_invalid",
            &["points"],
        ),
        (
            "a list as value",
            session("\"data\":{\"a\":[1]}"),
            "json_invalid",
            &["array"],
        ),
        (
            "a hash as value",
            session("\"data\":{\"a\":{\"b\":1}}"),
            "json_invalid",
            &["rawData"],
        ),
        (
            "bad base64",
            session("\"data\":{\"a\":{\"rawData\":\"%%%\"}}"),
            "json_invalid",
            &["Base64"],
        ),
        (
            "U+0000 in a value",
            session("\"data\":{\"a\":\"x\\u0000\"}"),
            "json_invalid",
            &["U+0000"],
        ),
        (
            "half a surrogate",
            session("\"data\":{\"a\":\"\\ud800\"}"),
            "json_invalid",
            &[],
        ),
        (
            "__proto__",
            session("\"data\":{\"__proto__\":\"x\"}"),
            "json_invalid",
            &["__proto__"],
        ),
        (
            "a bracket in a name",
            session("\"data\":{\"a[b\":\"x\"}"),
            "json_invalid",
            &["a[b"],
        ),
        (
            "a name twice",
            session("\"data\":{\"a\":\"1\",\"A\":\"2\"}"),
            "json_invalid",
            &["twice"],
        ),
        (
            "a key twice",
            session("\"unit_id\":\"y\""),
            "json_invalid",
            &["twice"],
        ),
        (
            "an unknown key",
            session("\"dta\":{}"),
            "json_invalid",
            &["dta"],
        ),
        (
            "a file's description",
            session("\"data\":{\"a\":{\"filename\":\"x\"}}"),
            "file_not_sent",
            &["multipart"],
        ),
        (
            "1,000 deep",
            deep,
            "json_too_deep",
            &["16", "limit: nesting"],
        ),
        (
            "10,000 points",
            many,
            "too_many_points",
            &["2000", "limit: points"],
        ),
        (
            "a long name",
            long,
            "name_too_long",
            &["255", "limit: name"],
        ),
    ];
    for (what, body, code, words) in cases {
        let answer = app
            .admin
            .post_raw(&app.sessions(), "application/json", body)
            .await;
        check(what, &answer, 400, code, words);
    }
    let broken = app
        .admin
        .post_raw(
            &app.sessions(),
            "application/json",
            b"{\"session\":\"\xff\"}".to_vec(),
        )
        .await;
    check("broken UTF-8", &broken, 400, "utf8_broken", &["byte 12"]);
    let huge = app
        .admin
        .post_raw(&app.sessions(), "application/json", vec![b' '; 17 << 20])
        .await;
    check(
        "17 MiB",
        &huge,
        413,
        "body_too_large",
        &["16777216", "limit: body"],
    );
    assert_eq!(app.stored().await, Stored::default());
}

#[sqlx::test(migrations = "../migrations")]
async fn fields(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let many: Vec<String> = (0..10_000)
        .map(|at| format!("session[data][p{at}]=x"))
        .collect();
    let deep = format!("session{}=x", "[a]".repeat(40));
    let cases: Vec<(&str, String, &str, &[&str])> = vec![
        (
            "no unit_id",
            "session[data][a]=1".into(),
            "unit_id_missing",
            &["session[unit_id]"],
        ),
        ("empty", String::new(), "unit_id_missing", &[]),
        (
            "created a text",
            "session[unit_id]=x&session[created]=now".into(),
            "time_invalid",
            &["integers"],
        ),
        (
            "broken UTF-8",
            "session[unit_id]=%FF".into(),
            "utf8_broken",
            &["byte 0"],
        ),
        (
            "bad base64",
            "session[unit_id]=x&session[data][a][rawData]=%25".into(),
            "point_invalid",
            &["Base64", "[a]"],
        ),
        (
            "__proto__",
            "session[unit_id]=x&session[data][__proto__]=x".into(),
            "point_invalid",
            &["__proto__"],
        ),
        (
            "a bracket in a name",
            "session[unit_id]=x&session[data][a[b]=x".into(),
            "field_invalid",
            &["byte 15"],
        ),
        (
            "an open bracket",
            "session[unit_id=x".into(),
            "field_invalid",
            &["brackets"],
        ),
        (
            "a point without a name",
            "session[unit_id]=x&session[data][]=x".into(),
            "point_invalid",
            &["empty"],
        ),
        (
            "U+0000",
            "session[unit_id]=x&session[data][a]=%00".into(),
            "point_invalid",
            &["U+0000"],
        ),
        (
            "a field twice",
            "session[unit_id]=x&session[unit_id]=y".into(),
            "field_duplicate",
            &["unit_id"],
        ),
        (
            "a point twice",
            "session[unit_id]=x&session[data][a]=1&session[data][A]=2".into(),
            "field_duplicate",
            &["a"],
        ),
        (
            "value and bytes",
            "session[data][a]=1&session[data][a][rawData]=AA".into(),
            "field_duplicate",
            &["a"],
        ),
        (
            "an unknown field",
            "session[unit_id]=x&session[dta][a]=1".into(),
            "field_unknown",
            &["dta"],
        ),
        (
            "too deep a point",
            "session[unit_id]=x&session[data][a][b][c]=1".into(),
            "field_unknown",
            &["rawData"],
        ),
        (
            "1,000 deep",
            format!("session{}=x", "[a]".repeat(1_000)),
            "field_invalid",
            &["limit: name"],
        ),
        ("40 deep", deep, "field_invalid", &["limit: nesting"]),
        (
            "10,000 fields",
            many.join("&"),
            "too_many_points",
            &["limit: points"],
        ),
    ];
    for (what, body, code, words) in cases {
        let answer = app.admin.post_raw(&app.sessions(), FORM, body).await;
        check(what, &answer, 400, code, words);
    }
    assert_eq!(app.stored().await, Stored::default());
}

#[sqlx::test(migrations = "../migrations")]
async fn content_types(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = r#"{"session":{"unit_id":"x"}}"#;
    for (content_type, status, code) in [
        ("text/plain", 415, "content_type_unsupported"),
        ("application/xml", 415, "content_type_unsupported"),
        ("", 415, "content_type_unsupported"),
        ("multipart/form-data", 400, "boundary_wrong"),
        ("multipart/form-data; boundary=", 400, "boundary_wrong"),
        ("multipart/form-data; boundary=x", 400, "body_truncated"),
    ] {
        let answer = app
            .admin
            .post_raw(&app.sessions(), content_type, body)
            .await;
        check(content_type, &answer, status, code, &[]);
    }
    let missing = send(app.admin.request(Method::POST, &app.sessions()).body(body)).await;
    check(
        "no content type",
        &missing,
        415,
        "content_type_missing",
        &["Content-Type"],
    );
    let packed = app
        .admin
        .request(Method::POST, &app.sessions())
        .header("content-encoding", "gzip");
    let packed = send(packed.header("content-type", "application/json").body(body)).await;
    check(
        "packed",
        &packed,
        415,
        "content_encoding_unsupported",
        &["Content-Encoding"],
    );
    assert_eq!(app.stored().await, Stored::default());
}

#[sqlx::test(migrations = "../migrations")]
async fn files(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_file_bytes = 1_000).await;
    let photo = |name: &str| file(name, "image/jpeg", "bytes");
    let form = || {
        Form::new()
            .text("session[unit_id]", "x")
            .part("session[data][first]", photo("first.jpg"))
    };
    let many = (0..2_100).fold(form(), |form, at| {
        form.text(format!("session[data][p{at}]"), "")
    });
    let cases: Vec<(&str, Form, u16, &str, &[&str])> = vec![
        (
            "a file for unit_id",
            Form::new().part("session[unit_id]", photo("a")),
            400,
            "file_misplaced",
            &["unit_id"],
        ),
        (
            "a file for data",
            form().part("session[data]", photo("a")),
            400,
            "file_misplaced",
            &["session[data]"],
        ),
        (
            "a file elsewhere",
            form().part("upload", photo("a")),
            400,
            "file_misplaced",
            &["upload"],
        ),
        (
            "a file below a point",
            form().part("session[data][a][rawData]", photo("a")),
            400,
            "file_misplaced",
            &[],
        ),
        (
            "0 bytes",
            form().part("session[data][a]", file("a", "image/jpeg", "")),
            400,
            "file_empty",
            &["point a"],
        ),
        (
            "a point twice",
            form().part("session[data][First]", photo("a")),
            400,
            "field_duplicate",
            &["first"],
        ),
        (
            "__proto__",
            form().part("session[data][__proto__]", photo("a")),
            400,
            "point_invalid",
            &["__proto__"],
        ),
        (
            "a long file name",
            form().part("session[data][a]", photo(&"n".repeat(300))),
            400,
            "filename_invalid",
            &["255"],
        ),
        (
            "too large",
            form().part("session[data][a]", file("a", "image/jpeg", vec![0; 1_001])),
            413,
            "file_too_large",
            &["1000", "limit: file"],
        ),
        (
            "no unit_id",
            Form::new().part("session[data][a]", photo("a")),
            400,
            "unit_id_missing",
            &[],
        ),
        (
            "too many fields",
            many,
            400,
            "too_many_points",
            &["limit: points"],
        ),
    ];
    for (what, form, status, code, words) in cases {
        let answer = app.admin.post_multipart(&app.sessions(), form).await;
        check(what, &answer, status, code, words);
    }
    let just = form().part("session[data][a]", file("a", "image/jpeg", vec![0; 1_000]));
    for path in [
        "/api/v1/projects/999999/sessions".to_owned(),
        format!("/api/v1/projects/{}/sessions", app.strange_project),
    ] {
        let answer = app.admin.post_multipart(&path, form()).await;
        check(&path, &answer, 404, "project_not_found", &[]);
    }
    assert_eq!(app.stored().await, Stored::default());
    app.admin
        .post_multipart(&app.sessions(), just)
        .await
        .result();
}

#[sqlx::test(migrations = "../migrations")]
async fn file_names(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (sent, kept) in [
        ("a.jpg", "a.jpg"),
        ("../../etc/passwd", "passwd"),
        ("/", "photo"),
        ("..", "photo"),
        ("höhe 1.jpg", "höhe 1.jpg"),
    ] {
        let form = Form::new()
            .text("session[unit_id]", "x")
            .part("session[data][photo]", file(sent, "image/jpeg", "bytes"));
        let created = app
            .admin
            .post_multipart(&app.sessions(), form)
            .await
            .result();
        assert_eq!(created["data"]["photo"]["filename"], kept, "{sent}");
    }
    let before = app.stored().await;
    let body = "--x\r\nContent-Disposition: form-data; name=\"session[unit_id]\"\r\n\r\nu\r\n--x\r\nContent-Disposition: \
        form-data; name=\"session[data][a]\"; filename*=UTF-8''a%0Ab\r\n\r\nbytes\r\n--x--\r\n";
    let answer = app
        .admin
        .post_raw(&app.sessions(), "multipart/form-data; boundary=x", body)
        .await;
    check(
        "a control character",
        &answer,
        400,
        "filename_invalid",
        &["control"],
    );
    assert_eq!(app.stored().await, before);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_multipart_body_cut_anywhere_stores_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = "--x\r\nContent-Disposition: form-data; name=\"session[unit_id]\"\r\n\r\nu\r\n--x\r\nContent-Disposition: \
        form-data; name=\"session[data][a]\"; filename=\"a\"\r\n\r\nbytes\r\n--x--\r\n";
    let whole = body.len() - "\r\n".len();
    for cut in 0..whole {
        let answer = app
            .admin
            .post_raw(
                &app.sessions(),
                "multipart/form-data; boundary=x",
                &body.as_bytes()[..cut],
            )
            .await;
        assert_eq!(answer.status, 400, "cut at {cut}: {}", answer.text());
    }
    assert_eq!(app.stored().await, Stored::default());
    app.admin
        .post_raw(
            &app.sessions(),
            "multipart/form-data; boundary=x",
            &body.as_bytes()[..whole],
        )
        .await
        .result();
}

#[sqlx::test(migrations = "../migrations")]
async fn a_connection_that_ends_early_stores_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = json!({ "session": { "unit_id": "x" } }).to_string();
    let (path, addr) = (app.sessions(), app.addr());
    let rollcall_tests::Credential::Basic { secret, .. } = app.admin.credential.clone() else {
        panic!("the admin has a key");
    };
    let ended = tokio::task::spawn_blocking(move || {
        for cut in 0..body.len() {
            let mut stream = std::net::TcpStream::connect(addr).expect("a connection");
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{}",
                body.len(),
                &body[..cut]
            );
            stream.write_all(head.as_bytes()).expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("closed");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(
                !answer.starts_with("HTTP/1.1 200"),
                "cut at {cut}: {answer}"
            );
        }
    });
    ended.await.expect("no panic");
    assert_eq!(app.stored().await, Stored::default());
}
