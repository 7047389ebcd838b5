//! Bodies that stop coming.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::Method;
use rollcall_tests::{Stored, TestApp};
use sqlx::PgPool;

/// Sends a request's head and the beginning of its body, no more, and reads the answer.
async fn stall(
    app: &TestApp,
    method: &str,
    path: &str,
    content_type: &str,
    beginning: &[u8],
) -> String {
    let request = app
        .admin
        .request(Method::GET, path)
        .build()
        .expect("a request");
    let authorization = request.headers()["authorization"].to_str().expect("text");
    let mut sent = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-type: {content_type}\r\n\
         content-length: 1000000\r\n\r\n"
    )
    .into_bytes();
    sent.extend_from_slice(beginning);
    let addr = app.addr();
    let answer = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(addr).expect("connected");
        socket.write_all(&sent).expect("sent");
        let mut answer = vec![0; 4_096];
        let length = socket.read(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    });
    answer.await.expect("no panic")
}

#[sqlx::test(migrations = "../migrations")]
async fn a_body_that_stalls_is_given_up_and_leaves_nothing(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_idle_seconds = 1).await;
    let sessions = app.sessions();
    let part = b"--b\r\ncontent-disposition: form-data; name=\"session[data][p]\"; filename=\"p\"\r\n\r\nbytes";
    let session = serde_json::json!({ "session": { "uuid": "a", "unit_id": "x" } });
    app.admin.post(&sessions, &session).await.result();
    let before = app.stored().await;
    let attachment = format!("{sessions}/a/attachments/p");
    for (method, path, content_type, beginning) in [
        (
            "POST",
            &sessions,
            "application/json",
            br#"{"session": {"# as &[u8],
        ),
        (
            "POST",
            &sessions,
            "application/x-www-form-urlencoded",
            b"session[uuid]=b&",
        ),
        ("POST", &sessions, "multipart/form-data; boundary=b", part),
        ("PUT", &attachment, "application/octet-stream", b"bytes"),
        ("POST", &sessions, "application/json", b""),
    ] {
        let answer = stall(&app, method, path, content_type, beginning).await;
        assert!(
            answer.starts_with("HTTP/1.1 408"),
            "{content_type}: {answer}"
        );
        assert!(
            answer.contains("body_stalled") && answer.contains("limit: idle"),
            "{answer}"
        );
    }
    assert_eq!(app.stored().await, before);
    assert_eq!(
        before,
        Stored {
            sessions: 1,
            events: 1,
            ..Stored::default()
        }
    );
}
