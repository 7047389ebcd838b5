//! `/v1/ingest`: what relays forward, and how it is read again.

mod bodies;
mod connections;
mod reading;
mod relays;
mod repeats;
mod services;
mod verdicts;
mod watch;

use rollcall_tests::{Client, TestApp};
use serde_json::{Value, json};

/// Gets a document.
async fn document(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The attributes of a guest's session.
async fn guest(app: &TestApp, uuid: uuid::Uuid) -> Value {
    let found = document(&app.reader, &format!("/v1/sessions/{uuid}")).await;
    found["data"]["attributes"].clone()
}

/// What a paged guest's session has.
fn paged() -> Value {
    json!({ "state": "paged", "notified": "2026-11-21T09:05:00Z", "session_sequence": 2 })
}

/// How many rows a table has.
async fn rows(app: &TestApp, table: &'static str) -> i64 {
    let count = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(count))
        .fetch_one(&app.superuser)
        .await
        .expect("a count")
}
