//! Lists without a limit: whole, however long; held up by nobody who does not read; never complete where they broke off.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::{clients, connect, document, names, walk};

const ROWS: usize = 3_000;

/// Connections to Postgres.
const CONNECTIONS: u32 = 3;

async fn start(pool: PgPool) -> (TestApp, Vec<String>) {
    let app = TestApp::start_with(pool, |config| {
        config.database.database_connections = CONNECTIONS;
        config.database.database_wait_ms = 10_000;
    })
    .await;
    let ids: Vec<String> = (0..ROWS).map(|at| format!("client-{at:05}")).collect();
    let texts: Vec<&str> = ids.iter().map(String::as_str).collect();
    let subscribed = json!({ "subscriptions": [{ "filter": "all", "qos": 1 }], "user": "u".repeat(900), "label": "l".repeat(900) });
    connect(&app.relay("edge").await, "rabbit", &texts, &subscribed).await;
    (app, ids)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_without_a_limit_has_every_row_once(pool: PgPool) {
    let (app, ids) = start(pool).await;
    assert_eq!(clients(&app.reader, "/api/v1/sessions?limit=0").await, ids);
    let list = app.reader.get("/api/v1/sessions").await;
    assert_eq!(list.header("transfer-encoding"), Some("chunked"));
    assert!(list.headers.contains_key("age"));
    let document = document(&app.reader, "/api/v1/subscriptions/all/clients").await;
    assert_eq!(names(&document, "clients", "client_id"), ids);
    // Pages of any size, at and around the size of a piece.
    for limit in [1, 249, 250, 251, 500, 501, ROWS - 1, ROWS, ROWS + 1] {
        let path = format!("/api/v1/sessions?limit={limit}");
        let page = super::document(&app.reader, &path).await;
        assert_eq!(
            names(&page, "sessions", "client_id"),
            ids[..limit.min(ROWS)],
            "{limit}"
        );
        assert_eq!(
            page.get("next_page_token").is_some(),
            limit < ROWS,
            "{limit}"
        );
    }
    let walked = walk(
        &app.reader,
        "/api/v1/sessions?limit=700",
        "sessions",
        "client_id",
    )
    .await;
    assert_eq!(walked, ids);
}

/// Sends the request for the whole list, and reads no more than the answer's beginning. Not on this thread: connections to
/// Postgres may be served by it.
async fn begin(app: &TestApp) -> TcpStream {
    let request = app
        .reader
        .request(Method::GET, "/")
        .build()
        .expect("a request");
    let authorization = request.headers()["authorization"].to_str().expect("text");
    let sent = format!(
        "GET /api/v1/sessions HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n"
    );
    let addr = app.addr();
    let begun = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(addr).expect("connected");
        socket.write_all(sent.as_bytes()).expect("sent");
        let mut begin = [0; 12];
        socket.read_exact(&mut begin).expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200");
        socket
    });
    begun.await.expect("no panic")
}

/// Reads what is left of an answer, as text.
async fn rest(mut socket: TcpStream) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // A connection that is broken off may end with an error.
        let _ = socket.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    read.await.expect("no panic")
}

/// Sessions of Postgres that are in a transaction.
async fn in_transactions(app: &TestApp) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and state like '%in transaction%' and pid <> pg_backend_pid()",
    )
    .fetch_one(&app.superuser)
    .await
    .expect("a count")
}

#[sqlx::test(migrations = "../migrations")]
async fn clients_that_do_not_read_hold_nothing_and_read_on_when_they_like(pool: PgPool) {
    let (app, _) = start(pool).await;
    let mut stalled = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        stalled.push(begin(&app).await);
    }
    let mut idle = false;
    for _ in 0..100 {
        idle = in_transactions(&app).await == 0;
        if idle {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(idle, "a client that does not read holds a transaction");
    assert_eq!(
        clients(&app.reader, "/api/v1/sessions?limit=1").await.len(),
        1
    );
    for socket in stalled {
        let whole = rest(socket).await;
        let told = &whole[..whole.len().min(400)];
        assert!(
            whole.ends_with("}]}\r\n0\r\n\r\n"),
            "{} bytes: {told}",
            whole.len()
        );
        assert_eq!(whole.matches("\"client_id\"").count(), ROWS);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_that_cannot_be_read_on_breaks_off(pool: PgPool) {
    let (app, _) = start(pool).await;
    let socket = begin(&app).await;
    // Rows that are not sent yet cannot be read any more.
    sqlx::raw_sql("revoke select on sessions from rollcall_app")
        .execute(&app.superuser)
        .await
        .expect("revoked");
    let broken = rest(socket).await;
    assert!(
        broken.matches("\"client_id\"").count() < ROWS,
        "it was sent already"
    );
    assert!(
        !broken.ends_with("0\r\n\r\n") && !broken.contains("]}"),
        "it looks complete"
    );
    let refused = app.reader.get("/api/v1/sessions").await;
    let text = "something went wrong on our side; repeat the request, and report its request id if it happens again";
    assert_eq!(refused.error(), (500, text.into()));
}
