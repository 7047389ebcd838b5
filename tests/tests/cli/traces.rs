//! Traces: a collector gets the server's spans, joined to the trace that the request came with.

use std::time::Duration;

use reqwest::Method;
use rollcall_tests::{TestApp, send};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::server::Server;

const TRACE: [u8; 16] = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";
const PARENT: [u8; 8] = *b"\x00\xf0\x67\xaa\x0b\xa9\x02\xb7";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Takes one export: its head and its protobuf.
async fn take(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1)?;
        let length: usize = length.lines().next()?.parse().ok()?;
        let mut body = bytes.split_off(end + 4);
        while body.len() < length {
            stream.read_buf(&mut body).await.ok()?;
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.ok()?;
        return Some((head, body));
    }
}

/// A collector on loopback.
async fn collector() -> (String, mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                while let Some(export) = take(&mut stream).await {
                    let _ = sender.send(export);
                }
            });
        }
    });
    (endpoint, receiver)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[sqlx::test(migrations = "../migrations")]
async fn spans_reach_the_collector_under_the_callers_trace(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (endpoint, mut exports) = collector().await;
    let server = Server::start(&app, |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    })
    .await;
    let reader = server.client.with(app.reader.credential.clone());
    let path = format!("{}/a-guests-name?deleted=true", app.sessions());
    let request = reader.request(Method::GET, &path);
    let answer = send(request.header("traceparent", TRACEPARENT)).await;
    assert_eq!(answer.status, 404);
    // What is still queued leaves when the server stops.
    let ended = server.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let mut spans = Vec::new();
    while !holds(&spans, &TRACE) {
        let export = tokio::time::timeout(Duration::from_secs(10), exports.recv()).await;
        let (head, body) = export.expect("the spans arrive").expect("a collector");
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        spans.extend(body);
    }
    for part in [
        &PARENT[..],
        b"rollcall-api",
        b"GET /api/v1/projects/{project_id}/sessions/{uuid}",
        app.org.to_string().as_bytes(),
    ] {
        assert!(holds(&spans, part), "{}", String::from_utf8_lossy(part));
    }
    assert!(!holds(&spans, b"deleted=true"), "a query string in a trace");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_collector_that_is_away_keeps_nobody_waiting(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let server = Server::start(&app, |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    })
    .await;
    let reader = server.client.with(app.reader.credential.clone());
    assert_eq!(reader.get(&app.sessions()).await.status, 200);
    assert_eq!(server.terminate().await.code, Some(0));
}
