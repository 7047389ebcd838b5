//! A reader that starts at the beginning and applies every event ends with exactly what `/v1/sessions` lists, whatever
//! happens meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rollcall_tests::{Client, Relay, TestApp, for_all};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Stream, page};

/// One write.
#[derive(Clone, Debug)]
enum Write {
    Create(u8, u8),
    Update(u8, u8),
    Delete(u8),
    Restore(u8),
    Batch(Vec<(u8, u8)>),
    /// What a relay says of guests, each with a place in its spool: repeats, late ones, and ids of other guests' events.
    Report(Vec<(u8, u8)>),
    /// Page a guest from the cloud.
    Command(u8),
    /// The relay carries out what it is told to.
    Carry,
}

fn write() -> impl Strategy<Value = Write> {
    let name = 0..6_u8;
    prop_oneof![
        (name.clone(), 0..4_u8).prop_map(|(name, value)| Write::Create(name, value)),
        (name.clone(), 0..4_u8).prop_map(|(name, value)| Write::Update(name, value)),
        name.clone().prop_map(Write::Delete),
        name.clone().prop_map(Write::Restore),
        prop::collection::vec((name, 0..4_u8), 1..4).prop_map(Write::Batch),
        prop::collection::vec((0..4_u8, any::<u8>()), 1..6).prop_map(Write::Report),
        (0..4_u8).prop_map(Write::Command),
        Just(Write::Carry),
    ]
}

/// What several writers do at once.
fn writers() -> impl Strategy<Value = Vec<Vec<Write>>> {
    prop::collection::vec(prop::collection::vec(write(), 1..12), 4)
}

async fn perform((client, relay): (&Client, &Relay), sessions: &str, write: &Write) {
    let path = |name: &u8| format!("{sessions}/s{name}");
    let session =
        |value: &u8| json!({ "unit_id": "x", "data": { "a": value.to_string(), "b": "b" } });
    // What is refused (a session that is not there) is as good as what is done.
    match write {
        Write::Create(name, value) => {
            let mut session = session(value);
            session["uuid"] = json!(format!("s{name}"));
            client.post(sessions, &json!({ "session": session })).await;
        }
        Write::Update(name, value) => {
            client
                .put(&path(name), &json!({ "session": session(value) }))
                .await;
        }
        Write::Delete(name) => {
            client.delete(&path(name)).await;
        }
        Write::Restore(name) => {
            client
                .put(&path(name), &json!({ "session": { "is_deleted": false } }))
                .await;
        }
        Write::Batch(items) => {
            let items: Vec<Value> = items
                .iter()
                .map(|(name, value)| {
                    let mut session = session(value);
                    session["uuid"] = json!(format!("s{name}"));
                    session
                })
                .collect();
            client.put(sessions, &json!({ "sessions": items })).await;
        }
        Write::Report(items) => {
            let events = items.iter().map(|(guest, place)| {
                let (what, state) = [
                    ("created", "started"),
                    ("paged", "paged"),
                    ("updated", "paged"),
                    ("cleared", "cleared"),
                ][usize::from(place % 4)];
                let session = json!({ "state": state, "number": u16::from(*place) + 1 });
                let guest = Uuid::from_u128((*guest).into());
                relay.event(("desk", (*place).into()), what, guest, &session)
            });
            let clients = items.iter().map(|item| connection(relay, item));
            relay
                .forward(&events.chain(clients).collect::<Vec<_>>())
                .await;
        }
        Write::Command(guest) => {
            let guest = Uuid::from_u128((*guest).into());
            let page = json!({ "data": { "type": "sessions", "id": guest, "attributes": { "action": "page" } } });
            client.patch(&format!("/v1/sessions/{guest}"), &page).await;
        }
        Write::Carry => {
            let done = |command: &Value| json!({ "command": command["id"], "status": "done", "at": "2026-11-21T09:05:00Z" });
            let reports: Vec<Value> = relay.commands(0).await.iter().map(done).collect();
            relay.report(&reports).await;
        }
    }
}

/// An event of a client of a broker or of a proxy.
fn connection(relay: &Relay, (client, place): &(u8, u8)) -> Value {
    let (what, presence) = [
        ("connected", "connected"),
        ("updated", "connected"),
        ("disconnected", "disconnected"),
        ("removed", "gone"),
    ][usize::from(place % 4)];
    let subscriptions: Vec<Value> = (0..place % 3)
        .map(|at| json!({ "filter": format!("f{at}"), "qos": place % 2 }))
        .collect();
    let mut changed = json!({
        "presence": presence, "queue_depth": place, "idle_since": format!("2026-11-21T09:04:{:02}Z", place % 60),
        "subscriptions": subscriptions,
    });
    let service = if client % 2 == 0 { "broker" } else { "proxy" };
    if service == "proxy" {
        changed["kind"] = json!("proxy");
        changed["state"] = json!(format!("Session {}", place % 3));
        changed["backends"] = json!([{ "server": format!("s{}", place % 2) }]);
    }
    let place = (service, u64::from(*place));
    relay.connection(place, what, &format!("c{client}"), &changed)
}

/// A session as it is whenever it is read: what goes on by itself stands in an event as it did then.
fn lasting(session: &Value) -> Value {
    let mut session = session.clone();
    let attributes = session["attributes"].as_object_mut().expect("an object");
    for name in ["idle", "reconnects"] {
        attributes.remove(name);
    }
    session
}

type Roll = BTreeMap<String, Value>;

fn apply(roll: &mut Roll, event: &Value) {
    let session = &event["attributes"]["session"];
    let id = session["id"].as_str().expect("an id").to_owned();
    let revision = |session: &Value| {
        session["attributes"]["revision"]
            .as_i64()
            .expect("a revision")
    };
    let before = roll.get(&id).map_or(0, revision);
    assert_eq!(
        revision(session),
        before + 1,
        "of {id} a revision is missing, doubled or early"
    );
    roll.insert(id, lasting(session));
}

async fn listed(client: &Client) -> Roll {
    let mut roll = Roll::new();
    let mut path = "/v1/sessions?page[size]=4".to_owned();
    loop {
        let document = client.get(&path).await.json();
        for session in document["data"].as_array().expect("an array") {
            roll.insert(
                session["id"].as_str().expect("an id").to_owned(),
                lasting(session),
            );
        }
        match &document["links"]["next"] {
            Value::Null => return roll,
            next => path = super::path_of(next),
        }
    }
}

/// Follows by page until the writers are done and nothing is left.
async fn follow(client: &Client, is_done: Arc<AtomicBool>) -> Roll {
    let mut roll = Roll::new();
    let mut path = "/v1/events?page[size]=3".to_owned();
    loop {
        // Read before the page: what was written by then is on it, or it has none.
        let was_done = is_done.load(Ordering::SeqCst);
        let (events, next) = page(client, &path).await;
        events.iter().for_each(|event| apply(&mut roll, event));
        if was_done && events.is_empty() {
            return roll;
        }
        path = next;
    }
}

/// Follows by stream until it has seen as much as there is.
async fn stream(client: &Client, until: impl Future<Output = Roll>) -> Roll {
    let mut roll = Roll::new();
    let mut stream = Stream::open(client, "/v1/events", None).await;
    let mut until = std::pin::pin!(until);
    let end = loop {
        tokio::select! {
            end = &mut until => break end,
            (_, event) = stream.event() => apply(&mut roll, &event),
        }
    };
    while roll != end {
        let (_, event) = stream.event().await;
        apply(&mut roll, &event);
    }
    roll
}

async fn check(app: &TestApp, relay: &Relay, writers: &[Vec<Write>]) {
    let is_done = Arc::new(AtomicBool::new(false));
    let (done, when_done) = tokio::sync::oneshot::channel();
    let writing = async {
        let each = writers.iter().map(|writes| async move {
            for write in writes {
                perform((&app.admin, relay), &app.sessions(), write).await;
            }
        });
        futures_util::future::join_all(each).await;
        super::settle(app).await;
        is_done.store(true, Ordering::SeqCst);
        let roll = listed(&app.reader).await;
        done.send(roll.clone()).expect("somebody waits");
        roll
    };
    let streaming = stream(&app.reader, async { when_done.await.expect("it comes") });
    let (roll, followed, streamed) = tokio::join!(
        writing,
        follow(&app.reader, Arc::clone(&is_done)),
        streaming
    );
    assert_eq!(followed, roll);
    assert_eq!(streamed, roll);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reader_who_applies_every_event_has_the_roll(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    // Rounds go on from each other's sessions; the feed is read from its beginning each time.
    for_all(12, writers(), async move |writers| {
        check(&app, &relay, &writers).await
    })
    .await;
}
