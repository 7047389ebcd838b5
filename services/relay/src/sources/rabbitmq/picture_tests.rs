//! What becomes of the broker's rows, and of rows that are late. Rows are those that a RabbitMQ 3.10.8 gave (proxy contract, 3),
//! or what differs from them.

use std::time::{Duration, Instant};

use rollcall_model::ingest::{ConnectionSession, Presence};
use serde_json::{Value, json};

use super::kept::Kept;
use super::memory::{Memory, Taken};
use super::picture::{Scope, Seen, picture};
use super::rows::{ConnectionRow, QueueRow};

const SETTLE: Duration = Duration::from_secs(7);

/// The connection of an MQTT client, as captured; `changed` is what differs.
fn mqtt(id: &str, changed: &Value) -> Value {
    let row = json!({
        "name": "127.0.0.1:45747 -> 127.0.0.1:1883", "protocol": "MQTT 3.1.1", "state": "running",
        "connected_at": 1_795_216_492_461_i64, "user": "guest", "vhost": "/", "node": "rabbit@localhost",
        "peer_host": "127.0.0.1", "peer_port": 45747, "ssl_cipher": null, "variable_map": { "client_id": id },
    });
    with(row, changed)
}

/// The connection of an AMQP client, as captured.
fn amqp(changed: &Value) -> Value {
    let row = json!({
        "name": "127.0.0.1:48702 -> 127.0.0.1:5672", "protocol": "AMQP 0-9-1", "state": "running",
        "connected_at": 1_795_216_492_437_i64, "user": "guest", "user_provided_name": "orders-consumer",
        "peer_host": "127.0.0.1", "peer_port": 48702, "vhost": "/", "node": "rabbit@localhost",
    });
    with(row, changed)
}

/// The queue of a persistent session whose client is away, as captured.
fn queue(id: &str, changed: &Value) -> Value {
    let row = json!({
        "name": format!("mqtt-subscription-{id}qos1"), "durable": true, "auto_delete": false, "exclusive": false,
        "arguments": { "x-expires": 86_400_000 }, "consumers": 0, "messages_ready": 4, "messages_unacknowledged": 0,
    });
    with(row, changed)
}

fn with(mut row: Value, changed: &Value) -> Value {
    for (name, value) in changed.as_object().unwrap() {
        row[name] = value.clone();
    }
    row
}

/// What a broker has in one vhost, as a picture.
fn look(
    scope: &Scope,
    connections: &[Value],
    vhost: &str,
    queues: &[Value],
    bindings: &[(&str, &str)],
) -> Seen {
    let mut kept = Kept::default();
    for row in queues {
        let row: QueueRow = serde_json::from_value(row.clone()).unwrap();
        kept.add_queue(vhost, &row);
    }
    for (queue, key) in bindings {
        let row = json!({ "destination": queue, "destination_type": "queue", "routing_key": key });
        kept.add_binding(vhost, &serde_json::from_value(row).unwrap());
    }
    let consumer = json!({
        "queue": { "name": "orders.work", "vhost": "/" },
        "channel_details": { "connection_name": "127.0.0.1:48702 -> 127.0.0.1:5672" },
    });
    kept.add_consumer(serde_json::from_value(consumer).unwrap());
    let rows = connections
        .iter()
        .map(|row| serde_json::from_value::<Box<ConnectionRow>>(row.clone()).unwrap());
    picture(scope, rows, kept)
}

fn one_vhost() -> Scope {
    Scope {
        vhost: Some("/".to_owned()),
        other_protocols: false,
    }
}

fn as_json(seen: &Seen) -> Vec<Value> {
    let mut all: Vec<_> = seen
        .sessions
        .iter()
        .map(|held| serde_json::to_value(held).unwrap())
        .collect();
    all.sort_by_key(|held| held["source_id"].to_string());
    all
}

/// The proxy contract, 3.2, row by row.
#[test]
#[expect(
    clippy::too_many_lines,
    reason = "the rows, and what becomes of each, are read side by side"
)]
fn captured_rows_become_sessions() {
    let queues = [
        queue("dev-offline", &json!({})),
        queue(
            "dev/a live",
            &json!({ "consumers": 1, "messages_ready": 3, "messages_unacknowledged": 10 }),
        ),
        json!({ "name": "mqtt-subscription-dev/a liveqos0", "durable": false, "auto_delete": true, "consumers": 1 }),
        queue(
            "clean",
            &json!({ "auto_delete": true, "arguments": {}, "consumers": 1 }),
        ),
        queue(
            "late",
            &json!({ "consumers": null, "messages_ready": null, "messages_unacknowledged": null }),
        ),
    ];
    let bindings = [
        ("mqtt-subscription-dev-offlineqos1", "devices.*.events"),
        ("mqtt-subscription-dev/a liveqos0", "zero.#"),
        ("mqtt-subscription-dev/a liveqos1", "devices.*.events"),
        ("orders.work", "orders.*"),
    ];
    let connections = [
        mqtt("dev/a live", &json!({})),
        mqtt(
            "clean",
            &json!({ "protocol": "Web MQTT 3.1.1", "state": null }),
        ),
        mqtt("late", &json!({ "protocol": "MQTT 3.1.0" })),
        amqp(&json!({})),
    ];
    let seen = look(&one_vhost(), &connections, "/", &queues, &bindings);
    assert_eq!(seen.notes, super::picture::Notes::default());
    assert!(seen.doubtful.is_empty(), "{:?}", seen.doubtful);
    let both = |id: &str, protocol: &str, more: Value| {
        let row = json!({
            "source_id": id, "client_id": id, "kind": "mqtt", "user": "guest", "remote": "127.0.0.1", "port": 45747,
            "presence": "connected", "state": "running", "protocol": protocol, "vhost": "/", "node": "rabbit@localhost",
            "connected_at": "2026-11-20T23:14:52.461Z",
        });
        with(row, &more)
    };
    let mut clean = both(
        "clean",
        "mqtt3.1.1",
        json!({
            "clean_start": true, "expiry_seconds": 0, "inflight": 0, "queue_depth": 4, "subscriptions": [],
        }),
    );
    clean.as_object_mut().unwrap().remove("state");
    assert_eq!(
        as_json(&seen),
        [
            json!({
                "source_id": "amqp091:127.0.0.1:48702", "client_id": "amqp091:127.0.0.1:48702", "kind": "amqp",
                "label": "orders-consumer", "user": "guest", "remote": "127.0.0.1", "port": 48702, "presence": "connected",
                "state": "running", "protocol": "amqp0.9.1", "vhost": "/", "node": "rabbit@localhost",
                "connected_at": "2026-11-20T23:14:52.437Z", "subscriptions": [{ "filter": "orders.work", "qos": 1 }],
            }),
            clean,
            json!({
                "source_id": "dev-offline", "client_id": "dev-offline", "kind": "mqtt", "presence": "disconnected",
                "vhost": "/", "clean_start": false, "expiry_seconds": 86400, "inflight": 0, "queue_depth": 4,
                "subscriptions": [{ "filter": "devices/+/events", "qos": 1 }],
            }),
            both(
                "dev/a live",
                "mqtt3.1.1",
                json!({
                    "clean_start": false, "expiry_seconds": 86400, "inflight": 10, "queue_depth": 3,
                    "subscriptions": [{ "filter": "devices/+/events", "qos": 1 }, { "filter": "zero/#", "qos": 0 }],
                })
            ),
            both(
                "late",
                "mqtt3.1",
                json!({ "clean_start": false, "expiry_seconds": 86400, "subscriptions": [] })
            ),
        ]
    );
}

#[test]
fn the_consumers_of_an_amqp_connection_without_statistics_are_unknown() {
    let new =
        amqp(&json!({ "name": "127.0.0.1:5 -> 127.0.0.1:5672", "peer_port": 5, "state": null }));
    let seen = look(&one_vhost(), &[new], "/", &[], &[]);
    assert_eq!(seen.sessions[0].facts.subscriptions, None);
}

#[test]
fn of_two_connections_of_one_client_the_later_counts() {
    let older = mqtt("a", &json!({ "peer_port": 1 }));
    let later = mqtt(
        "a",
        &json!({ "peer_port": 2, "connected_at": 1_795_216_492_999_i64 }),
    );
    for rows in [[older.clone(), later.clone()], [later, older]] {
        let seen = look(&one_vhost(), &rows, "/", &[], &[]);
        let ports: Vec<_> = seen.sessions.iter().map(|held| held.facts.port).collect();
        assert_eq!(ports, [Some(2)]);
    }
}

#[test]
fn vhosts_and_nodes_tell_apart_what_has_the_same_id() {
    let rows = [
        mqtt("a", &json!({})),
        mqtt("a", &json!({ "vhost": "blue" })),
        amqp(&json!({ "peer_host": "::1" })),
        amqp(&json!({ "peer_host": "::1", "node": "rabbit@two", "vhost": "blue" })),
        amqp(&json!({ "peer_port": 9, "vhost": "blue" })),
    ];
    let ids = |scope: &Scope| {
        let seen = look(scope, &rows, "/", &[], &[]);
        as_json(&seen)
            .iter()
            .map(|held| held["source_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all = Scope::default();
    assert_eq!(
        ids(&all),
        [
            "a",
            "amqp091:[::1]:48702@rabbit@localhost",
            "blue/a",
            "blue/amqp091:127.0.0.1:9",
            "blue/amqp091:[::1]:48702@rabbit@two",
        ]
    );
    assert_eq!(ids(&one_vhost()), ["a", "amqp091:[::1]:48702"]);
}

#[test]
fn other_protocols_are_passed_over_unless_they_are_asked_for() {
    let stomp = amqp(&json!({ "protocol": "STOMP 1.2", "peer_port": 61613 }));
    let seen = look(&one_vhost(), std::slice::from_ref(&stomp), "/", &[], &[]);
    assert_eq!((seen.sessions.len(), seen.notes.others), (0, 1));
    assert_eq!(seen.notes.trouble(), None);
    let scope = Scope {
        other_protocols: true,
        ..one_vhost()
    };
    let seen = look(&scope, &[stomp], "/", &[], &[]);
    let held = &seen.sessions[0];
    assert_eq!(held.source_id, "stomp:127.0.0.1:61613");
    assert_eq!(held.facts.protocol.as_deref(), Some("unknown"));
    assert_eq!(held.facts.subscriptions, None);
}

#[test]
fn what_cannot_be_told_is_counted() {
    let rows = [
        mqtt("", &json!({})),
        mqtt(&"x".repeat(1_001), &json!({})),
        mqtt("a", &json!({ "variable_map": null })),
        mqtt("b", &json!({ "protocol": null })),
        mqtt("c", &json!({ "state": "closed" })),
    ];
    let seen = look(&one_vhost(), &rows, "/", &[], &[]);
    assert_eq!(seen.sessions.len(), 0);
    let said = seen.notes.trouble().unwrap();
    assert!(
        said.contains("2 with an id that is empty") && said.contains("2 of which"),
        "{said}"
    );
}

/// A broker over time, as the relay remembers it.
struct Watched {
    memory: Memory,
    begun: Instant,
}

impl Watched {
    fn new() -> Self {
        Self {
            memory: Memory::default(),
            begun: Instant::now(),
        }
    }

    /// A picture after so many seconds; who is there, and how.
    fn see(
        &mut self,
        seconds: u64,
        is_shaky: bool,
        connections: &[Value],
        queues: &[Value],
    ) -> Vec<(String, Presence)> {
        let taken = Taken {
            at: self.begun + Duration::from_secs(seconds),
            is_shaky,
        };
        let seen = look(&one_vhost(), connections, "/", queues, &[]);
        let sessions = self.memory.settle(seen, taken, SETTLE);
        let mut all: Vec<_> = sessions.into_iter().map(presence).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

fn presence(held: ConnectionSession) -> (String, Presence) {
    (held.source_id, held.facts.presence)
}

fn is(id: &str, presence: Presence) -> Vec<(String, Presence)> {
    vec![(id.to_owned(), presence)]
}

/// Observed: a connection leaves at once, and its queue's count of consumers up to 6.6 s later; while one connection takes over
/// from another none is listed, and the queue has a consumer.
#[test]
fn a_client_whose_queue_still_has_a_consumer_stays_until_statistics_have_settled() {
    let mut broker = Watched::new();
    let (there, stale) = (
        mqtt("a", &json!({})),
        queue("a", &json!({ "consumers": 1 })),
    );
    let stale = std::slice::from_ref(&stale);
    assert_eq!(
        broker.see(0, false, std::slice::from_ref(&there), stale),
        is("a", Presence::Connected)
    );
    assert_eq!(
        broker.see(10, false, &[], stale),
        is("a", Presence::Connected)
    );
    assert_eq!(
        broker.see(12, false, &[], stale),
        is("a", Presence::Connected)
    );
    assert_eq!(
        broker.see(17, false, &[], stale),
        is("a", Presence::Disconnected)
    );
    // It is no longer doubtful once it is listed again.
    assert_eq!(
        broker.see(18, false, &[there], stale),
        is("a", Presence::Connected)
    );
    assert_eq!(
        broker.see(30, false, &[], stale),
        is("a", Presence::Connected)
    );
    assert_eq!(
        broker.see(31, false, &[], &[queue("a", &json!({}))]),
        is("a", Presence::Disconnected)
    );
    assert_eq!(broker.see(32, false, &[], &[]), []);
}

/// Observed: a new queue is listed at once, without its number of consumers; its connection comes seconds later.
#[test]
fn a_new_client_is_never_told_to_be_away() {
    let mut broker = Watched::new();
    broker.see(0, false, &[], &[]);
    let new = queue("a", &json!({ "consumers": null, "messages_ready": null }));
    assert_eq!(broker.see(10, false, &[], std::slice::from_ref(&new)), []);
    assert_eq!(
        broker.see(14, false, &[mqtt("a", &json!({}))], &[new]),
        is("a", Presence::Connected)
    );
}

#[test]
fn a_clean_session_ends_when_its_connection_does() {
    let mut broker = Watched::new();
    assert_eq!(broker.see(0, false, &[mqtt("a", &json!({}))], &[]).len(), 1);
    assert_eq!(broker.see(10, false, &[], &[]), []);
    // Its queue outlives it in the statistics: then it is asked once more.
    let stale = queue("a", &json!({ "auto_delete": true, "consumers": 1 }));
    assert_eq!(
        broker
            .see(
                20,
                false,
                &[mqtt("a", &json!({}))],
                std::slice::from_ref(&stale)
            )
            .len(),
        1
    );
    assert_eq!(
        broker
            .see(30, false, &[], std::slice::from_ref(&stale))
            .len(),
        1
    );
    assert_eq!(broker.see(40, false, &[], &[stale]), []);
}

#[test]
fn who_is_missing_in_lists_that_moved_is_kept_until_the_next_picture() {
    let mut broker = Watched::new();
    let both = [amqp(&json!({})), amqp(&json!({ "peer_port": 2 }))];
    assert_eq!(broker.see(0, false, &both, &[]).len(), 2);
    assert_eq!(broker.see(10, true, &both[..1], &[]).len(), 2);
    assert_eq!(broker.see(20, true, &both[..1], &[]).len(), 1);
    // In lists that did not move, missing is gone.
    assert_eq!(broker.see(30, false, &[], &[]), []);
}

#[test]
fn a_first_picture_with_doubts_is_taken_again() {
    let mut memory = Memory::default();
    let begun = Instant::now();
    let taken = |seconds| Taken {
        at: begun + Duration::from_secs(seconds),
        is_shaky: false,
    };
    let doubtful = || {
        look(
            &one_vhost(),
            &[],
            "/",
            &[queue("a", &json!({ "consumers": null }))],
            &[],
        )
    };
    assert!(memory.must_wait(&doubtful(), taken(0)));
    let sessions = memory.settle(doubtful(), taken(7), SETTLE);
    let all: Vec<_> = sessions.into_iter().map(presence).collect();
    assert_eq!(all, is("a", Presence::Disconnected));
    assert!(!memory.must_wait(&doubtful(), taken(8)));
    assert!(!Memory::default().must_wait(&look(&one_vhost(), &[], "/", &[], &[]), taken(0)));
}
