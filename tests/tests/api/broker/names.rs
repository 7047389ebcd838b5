//! Names in paths: matched as they are escaped, decoded once, never cleaned (decision 18).

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::Method;
use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::connect;

/// Sends a path as it is: clients' libraries clean it.
async fn get(app: &TestApp, path: &str) -> (u16, String) {
    let request = app
        .reader
        .request(Method::GET, "/")
        .build()
        .expect("a request");
    let authorization = request.headers()["authorization"].to_str().expect("text");
    let sent = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n"
    );
    let addr = app.addr();
    let answer = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(addr).expect("connected");
        socket.write_all(sent.as_bytes()).expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let answer = answer.await.expect("no panic");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

#[sqlx::test(migrations = "../migrations")]
async fn a_client_is_found_by_its_id_whatever_is_in_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let ids = [
        "a/b",
        "..",
        ".",
        "a%b",
        "a%2Fb",
        "a b",
        "a+b",
        "é",
        "\u{1F4DF}",
        "a?b#c",
        "/",
        "a//b",
        "clients",
        "%zz",
        "a/",
    ];
    connect(&relay, "rabbit", &ids, &json!({})).await;
    for (escaped, id) in [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("%2E%2E", ".."),
        ("..", ".."),
        ("%2E", "."),
        ("a%25b", "a%b"),
        ("a%252Fb", "a%2Fb"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("%C3%A9", "é"),
        ("%F0%9F%93%9F", "\u{1F4DF}"),
        ("a%3Fb%23c", "a?b#c"),
        ("%2F", "/"),
        ("a%2F%2Fb", "a//b"),
        ("clients", "clients"),
        ("%25zz", "%zz"),
        ("a%2F", "a/"),
    ] {
        for prefix in [
            "/api/v1".to_owned(),
            format!("/api/v1/projects/{}/broker", app.project),
        ] {
            let (status, body) = get(&app, &format!("{prefix}/sessions/{escaped}")).await;
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(status, 200, "{escaped}: {body}");
            assert_eq!(body["client_id"], id, "{escaped}");
        }
    }
    for escaped in [
        "a/b", "a/", "/", "//", "%zz", "%", "%2", "%FF", "%00", "b", "a%2Fb/", "A%2FB",
    ] {
        let (status, body) = get(&app, &format!("/api/v1/sessions/{escaped}")).await;
        // Slashes alone are the list's end.
        if escaped.chars().all(|c| c == '/') {
            assert_eq!(status, 200, "{escaped}: {body}");
            continue;
        }
        let not_found = (404, r#"{"error":"session not found"}"#.to_owned());
        assert_eq!((status, body), not_found, "{escaped}");
    }
    let not_found = (404, r#"{"error":"subscription not found"}"#.to_owned());
    for rest in [
        "a",
        "a/b",
        "a/clients/x",
        "a/client",
        "%zz/clients",
        "a/b/clients",
        "%FF/clients",
        "a/clients/",
        "/clients",
    ] {
        assert_eq!(
            get(&app, &format!("/api/v1/subscriptions/{rest}")).await,
            not_found,
            "{rest}"
        );
    }
}
