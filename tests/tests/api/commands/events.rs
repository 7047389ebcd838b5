//! Commands in the feed: facts of their sessions, in which nothing of the session changed.

use serde_json::{Value, json};
use sqlx::PgPool;

use super::{action, age, desk, done, id_of, paged};

async fn history(app: &rollcall_tests::TestApp, guest: uuid::Uuid) -> Vec<Value> {
    let answer = app
        .reader
        .get(&format!("/v1/sessions/{guest}/events"))
        .await;
    let events = answer.json()["data"].as_array().cloned().expect("events");
    events
        .iter()
        .map(|event| event["attributes"].clone())
        .collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_command_is_told_when_given_and_when_it_ends(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let asked = json!({ "action": "page", "pageMode": "Flash5Min", "message": "Table 4" });
    let given = app
        .admin
        .patch(&format!("/v1/sessions/{guest}"), &action(guest, &asked))
        .await
        .json();
    let id = id_of(&given["data"]);
    let over = paged(&app.admin, guest, "").await;
    relay.commands(0).await;
    relay.report(&[done(&id)]).await;
    age(&app, &over, 31.0).await;
    super::show(&app.reader, &over).await;

    let events = history(&app, guest).await;
    let words: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event_type"].as_str())
        .collect();
    assert_eq!(
        words,
        [
            "created",
            "commanded",
            "commanded",
            "command_finished",
            "command_finished"
        ]
    );
    let expires = &given["data"]["attributes"]["expires"];
    assert_eq!(
        events[1]["context"],
        json!({ "command": id, "action": "page", "expires": expires, "pageMode": "Flash5Min", "message": "Table 4" })
    );
    assert_eq!(
        events[3]["context"],
        json!({ "command": id, "action": "page", "status": "done", "code": "2.04", "at": "2026-11-21T09:05:00.5Z" })
    );
    assert_eq!(
        events[4]["context"],
        json!({ "command": over, "action": "page", "status": "unknown" })
    );
    let by = |event: &Value| event["session"]["attributes"]["received_from"].clone();
    assert_eq!(by(&events[3]), relay.key_id);
    assert_eq!(
        by(&events[1]),
        by(&events[4]),
        "time ends a command as its giver said"
    );
    for event in &events[1..] {
        assert_eq!(event["changed"], json!([]));
        assert_eq!(event["session"]["attributes"]["state"], "started");
    }
    let session = app
        .reader
        .get(&format!("/v1/sessions/{guest}"))
        .await
        .json();
    assert_eq!(
        session["data"], events[4]["session"],
        "the feed's last is the list's"
    );
    crate::feed::settle(&app).await;
    let found = app
        .reader
        .get("/v1/events?filter[type]=command_finished")
        .await
        .json();
    assert_eq!(found["data"].as_array().map(Vec::len), Some(2));
}

/// What the transmitter says of the page comes by its own way, and is not late for a command's sake.
#[sqlx::test(migrations = "../migrations")]
async fn a_command_between_them_keeps_no_event_out(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    let paged = json!({ "state": "paged", "notified": "2026-11-21T09:05:00Z" });
    let mut batch = relay.batch(&[relay.event(("desk", 2), "paged", guest, &paged)]);
    batch["reports"] = json!([done(&id)]);
    let answer = relay.client.post("/v1/ingest", &batch).await;
    assert_eq!(rollcall_tests::verdicts(&answer), ["stored"]);
    let events = history(&app, guest).await;
    let words: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event_type"].as_str())
        .collect();
    assert_eq!(words, ["created", "commanded", "paged", "command_finished"]);
    assert_eq!(events[2]["changed"], json!(["/state", "/notified"]));
    assert_eq!(events[3]["session"]["attributes"]["state"], "paged");
}
