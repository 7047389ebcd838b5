//! HEAD and OPTIONS, on every path there is.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::{Method, StatusCode};
use rollcall_tests::{Answer, TestApp, file, send};
use sqlx::PgPool;

use crate::openapi::operations;

/// What a client learns from an answer's head, without what differs from request to request.
fn head(answer: &Answer) -> (StatusCode, Vec<(String, String)>) {
    let told = |name: &str| !["age", "date", "x-request-id", "connection"].contains(&name);
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| told(name.as_str()));
    let mut headers: Vec<(String, String)> = headers
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    headers.sort();
    (answer.status, headers)
}

/// A path filled with names of things that are there.
async fn filled(app: &TestApp, path: &str) -> String {
    let session = &app.admin.get("/v1/sessions?filter[kind]=form").await.json()["data"][0];
    let text = |pointer: &str| {
        session
            .pointer(pointer)
            .expect(pointer)
            .as_str()
            .expect("text")
            .to_owned()
    };
    path.replace("{project_id}", &app.project.to_string())
        .replace("{uuid}", "a-session")
        .replace("{point}", "photo")
        .replace("{id}", "a-session")
        .replace("{service}", &text("/relationships/services/data/0/id"))
        .replace(
            "{attachment_id}",
            &text("/relationships/attachments/data/0/id"),
        )
        .replace("{event_id}", &format!("{}.1", text("/id")))
        .replace("{relay_id}", &first(app, "/v1/relays").await)
        .replace("{command_id}", &first(app, "/v1/commands").await)
        .replace("{client_id}", "device")
        .replace("{filter}", "a%2F%2B")
}

async fn first(app: &TestApp, list: &str) -> String {
    let list = app.admin.get(list).await.json();
    let id = list["data"][0]["id"].as_str();
    id.expect("one at least").to_owned()
}

async fn start(pool: PgPool) -> TestApp {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    relay.verdicts(&[relay.gap(("desk", 1), "lost")]).await;
    let subscribed = serde_json::json!({ "subscriptions": [{ "filter": "a/+", "qos": 1 }] });
    let device = relay.connection(("rabbit", 1), "connected", "device", &subscribed);
    assert_eq!(relay.verdicts(&[device]).await, ["stored"]);
    relay.sees("rabbit", 0, &serde_json::json!({})).await;
    let guest =
        serde_json::json!({ "data": { "type": "sessions", "attributes": { "number": 12 } } });
    let given = app.admin.post("/v1/services/desk/sessions", &guest).await;
    assert_eq!(given.status, StatusCode::ACCEPTED, "{}", given.text());
    let form = reqwest::multipart::Form::new()
        .text("session[uuid]", "a-session")
        .text("session[unit_id]", "x")
        .part(
            "session[data][photo]",
            file("a.jpg", "image/jpeg", vec![7; 100_000]),
        );
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    app
}

#[sqlx::test(migrations = "../migrations")]
async fn head_answers_as_get_does_without_the_body(pool: PgPool) {
    let app = start(pool).await;
    for (path, ..) in operations()
        .into_iter()
        .filter(|(_, method, _)| method == "GET")
    {
        let path = filled(&app, &path).await;
        for client in [&app.admin, &app.anonymous()] {
            let get = client.get(&path).await;
            let answer = send(client.request(Method::HEAD, &path)).await;
            assert!(answer.bytes.is_empty(), "{path}");
            let (got, told) = (head(&get), head(&answer));
            // What a document of the moment holds is another in the next.
            let is_of_the_moment =
                ["/metrics", "/api/v1/time", "/v1/auth", "/v1/events"].contains(&path.as_str());
            if is_of_the_moment || got.0.is_client_error() {
                assert_eq!(got.0, told.0, "{path}");
            } else {
                assert_eq!(got, told, "{path}");
            }
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_connection_goes_on_after_head(pool: PgPool) {
    let app = start(pool).await;
    let photo = filled(&app, "/v1/attachments/{attachment_id}/content").await;
    let request = app
        .admin
        .request(Method::HEAD, &photo)
        .build()
        .expect("a request");
    let authorization = request.headers()["authorization"]
        .to_str()
        .expect("text")
        .to_owned();
    let addr = app.addr();
    let (first, second) = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(addr).expect("connected");
        let text =
            format!("HEAD {photo} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n\r\n");
        socket.write_all(text.as_bytes()).expect("sent");
        let mut first = Vec::new();
        while !first.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("an answer");
            first.extend(byte);
        }
        let text = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        socket.write_all(text.as_bytes()).expect("sent");
        let mut second = String::new();
        socket.read_to_string(&mut second).expect("read to the end");
        (String::from_utf8(first).expect("text"), second)
    })
    .await
    .expect("no panic");
    assert!(
        first.starts_with("HTTP/1.1 200") && first.contains("content-length: 100000"),
        "{first}"
    );
    assert!(
        second.starts_with("HTTP/1.1 200") && second.ends_with("\r\n\r\nok\n"),
        "{second}"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn options_says_what_a_path_takes_and_another_method_is_told_the_same(pool: PgPool) {
    let app = start(pool).await;
    let all = operations();
    for (path, ..) in &all {
        let mut expected: Vec<&str> = all
            .iter()
            .filter(|(other, ..)| other == path)
            .map(|(_, method, _)| method.as_str())
            .collect();
        if expected.contains(&"GET") {
            expected.push("HEAD");
        }
        expected.push("OPTIONS");
        expected.sort_unstable();
        let path = filled(&app, path).await;
        let options = send(app.admin.request(Method::OPTIONS, &path)).await;
        assert_eq!(options.status, StatusCode::NO_CONTENT, "{path}");
        // A method that no path takes.
        let report = Method::from_bytes(b"REPORT").expect("a method");
        let other = send(app.admin.request(report, &path)).await;
        assert_eq!(other.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        for answer in [options, other] {
            let mut allowed: Vec<&str> =
                answer.header("allow").expect("Allow").split(", ").collect();
            allowed.sort_unstable();
            assert_eq!(allowed, expected, "{path}");
        }
    }
}
