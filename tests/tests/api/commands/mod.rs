//! Commands: given to services, fetched and reported by relays, ended by time.

mod at_once;
mod bad_input;
mod events;
mod fetch;
mod give;
mod list;
mod reach;
mod reports;
mod time;

use rollcall_tests::{Answer, Client, Relay, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// A system with a relay, and a guest with pager 12 on its service `desk`.
async fn desk(pool: PgPool) -> (TestApp, Relay, Uuid) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let guest = Uuid::new_v4();
    came(&relay, 1, guest).await;
    (app, relay, guest)
}

/// A guest comes.
async fn came(relay: &Relay, sequence: u64, guest: Uuid) {
    let created = relay.event(("desk", sequence), "created", guest, &json!({}));
    assert_eq!(relay.verdicts(&[created]).await, ["stored"]);
}

/// What to do to a guest's session.
fn action(guest: Uuid, attributes: &Value) -> Value {
    json!({ "data": { "type": "sessions", "id": guest, "attributes": attributes } })
}

/// Gives a command to page a guest; `query` is what the path ends with.
async fn page(client: &Client, guest: Uuid, query: &str) -> Answer {
    let path = format!("/v1/sessions/{guest}{query}");
    client
        .patch(&path, &action(guest, &json!({ "action": "page" })))
        .await
}

/// Gives a command that is taken, and its id.
async fn paged(client: &Client, guest: Uuid, query: &str) -> String {
    let answer = page(client, guest, query).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    id_of(&answer.json()["data"])
}

fn id_of(resource: &Value) -> String {
    resource["id"].as_str().expect("an id").to_owned()
}

/// A relay's report that a command was done.
fn done(command: &str) -> Value {
    json!({
        "command": command, "status": "done", "at": "2026-11-21T09:05:00.5Z", "code": "2.04",
        "answer": { "sessions": [{ "id": 7, "number": 12, "state": "paged" }] },
    })
}

/// A command's attributes.
async fn show(client: &Client, command: &str) -> Value {
    let answer = client.get(&format!("/v1/commands/{command}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"]["attributes"].clone()
}

/// Moves a command's end into the past.
async fn age(app: &TestApp, command: &str, seconds: f64) {
    let aged = sqlx::query(
        "update commands set expires_at = now() - make_interval(secs => $2) where id = $1::uuid",
    )
    .bind(command)
    .bind(seconds)
    .execute(&app.superuser)
    .await
    .expect("aged");
    assert_eq!(aged.rows_affected(), 1);
}

/// The ids of what a relay is told.
fn ids(commands: &[Value]) -> Vec<String> {
    commands.iter().map(id_of).collect()
}
