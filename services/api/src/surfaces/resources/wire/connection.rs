//! What a client's connection adds to a session: on a broker (`mqtt`, `amqp`), or through a proxy of a database (`proxy`).

use rollcall_model::connection::RECONNECT_WINDOW;
use rollcall_model::ingest::{Backend, Subscription};
use rollcall_model::{Connection, Session};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::rfc3339;
use super::session::SessionAttributes;

/// What a client wants to be sent; over AMQP, the queue that it consumes.
#[derive(Serialize, ToSchema)]
pub struct SessionSubscription {
    /// The topic filter, or the queue.
    pub filter: String,
    /// The quality of service that was granted.
    #[schema(maximum = 2)]
    pub qos: u8,
    /// Whether the client's own messages are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_local: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_as_published: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_handling: Option<u8>,
    /// The group that shares the messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<u32>,
}

/// A proxy's connection to a database server.
#[derive(Serialize, ToSchema)]
pub struct SessionBackend {
    /// The server, as the proxy calls it.
    pub server: String,
    /// The connection's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
}

/// How often a client came back.
#[derive(Serialize, ToSchema)]
pub struct SessionReconnects {
    /// Times that it connected again; 31 stands for 31 and more.
    #[schema(maximum = 31)]
    pub count: usize,
    /// In which time, up to now.
    pub window_seconds: i64,
}

/// What the attributes of a client's session on a broker hold beyond those of every kind. What the broker does not know is
/// absent; what it can know is in the service's `source`.
#[derive(ToSchema)]
#[schema(example = json!({
    "state": "connected", "connected": "Sat Nov 21 09:00:00 2026", "user": "guest", "remote": "10.0.0.7", "port": 45747,
    "client_id": "dev/a live", "protocol": "mqtt3.1.1", "source_state": "running", "connected_at": "2026-11-21T09:00:00Z",
    "clean_start": false, "expiry_interval": 86400, "inflight": 0, "queue_depth": 3, "subscription_count": 1,
    "subscriptions": [{ "filter": "devices/+/events", "qos": 1 }], "reconnects": { "count": 0, "window_seconds": 3600 }
}))]
#[expect(
    dead_code,
    reason = "the shape for the document; `SessionAttributes` has the members"
)]
pub struct BrokerSessionAttributes {
    /// `connected`; `disconnected` where the broker keeps the session for its client; `gone` where it has it no longer.
    #[schema(pattern = "^(connected|disconnected|gone)$")]
    state: Option<String>,
    /// The client's id as broker tools know it.
    client_id: Option<String>,
    /// By filter, at most 1,000.
    subscriptions: Option<Vec<SessionSubscription>>,
    reconnects: Option<SessionReconnects>,
}

/// What the attributes of a client's connection through a proxy hold beyond those of every kind. What the proxy does not
/// know is absent; what it can know is in the service's `source`.
#[derive(ToSchema)]
#[schema(example = json!({
    "state": "Session started", "connected": "Sat Nov 21 09:00:00 2026", "user": "maxuser", "remote": "10.0.0.7", "idle": 42.5,
    "port": 45747, "protocol": "mariadb", "connected_at": "2026-11-21T09:00:00Z",
    "backends": [{ "server": "server1", "id": "17" }], "reconnects": { "count": 0, "window_seconds": 3600 }
}))]
#[expect(
    dead_code,
    reason = "the shape for the document; `SessionAttributes` has the members"
)]
pub struct ProxySessionAttributes {
    /// As the proxy says it; `connected` where it says nothing, and `gone` where it has the session no longer.
    state: Option<String>,
    /// The database that the client is connected to.
    database: Option<String>,
    /// The proxy's own connections that work for this one, at most 100.
    backends: Option<Vec<SessionBackend>>,
    reconnects: Option<SessionReconnects>,
}

impl SessionSubscription {
    fn of(held: &Subscription) -> Self {
        Self {
            filter: held.filter.clone(),
            qos: held.qos,
            no_local: held.no_local,
            retain_as_published: held.retain_as_published,
            retain_handling: held.retain_handling,
            consumer_group: held.consumer_group.clone(),
            subscription_id: held.subscription_id,
        }
    }
}

impl SessionBackend {
    fn of(held: &Backend) -> Self {
        Self {
            server: held.server.clone(),
            id: held.id.clone(),
            state: held.state.clone(),
            cipher: held.cipher.clone(),
        }
    }
}

impl SessionAttributes {
    /// Adds what is known of a connection at a time.
    pub(super) fn tell_connection(
        &mut self,
        (session, connection): (&Session, &Connection),
        at: OffsetDateTime,
    ) {
        let facts = &connection.facts;
        let subscriptions = facts.subscriptions.as_ref();
        let backends = facts.backends.as_ref();
        self.idle = connection.idle_since().map(|since| seconds(at - since));
        self.source_state = session.source_state().map(str::to_owned);
        self.client_id.clone_from(&facts.client_id);
        self.protocol.clone_from(&facts.protocol);
        self.vhost.clone_from(&facts.vhost);
        self.node.clone_from(&facts.node);
        self.port = facts.port;
        self.database.clone_from(&facts.database);
        self.cipher.clone_from(&facts.cipher);
        self.connected_at = facts.connected_at.map(rfc3339);
        self.disconnected_at = facts.disconnected_at.map(rfc3339);
        self.clean_start = facts.clean_start;
        self.expiry_interval = facts.expiry_seconds;
        self.receive_maximum = facts.receive_maximum;
        self.max_packet_size = facts.max_packet_size;
        self.topic_alias_max = facts.topic_alias_max;
        self.request_response = facts.request_response;
        self.request_problem = facts.request_problem;
        self.has_will = facts.has_will;
        self.inflight = facts.inflight;
        self.queue_depth = facts.queue_depth;
        self.subscription_count = connection.subscription_count();
        self.subscriptions =
            subscriptions.map(|listed| listed.iter().map(SessionSubscription::of).collect());
        self.backends = backends.map(|listed| listed.iter().map(SessionBackend::of).collect());
        self.reconnects = Some(SessionReconnects {
            count: connection.reconnects(at),
            window_seconds: RECONNECT_WINDOW.whole_seconds(),
        });
    }
}

/// To the millisecond; what has not begun yet, by a clock that is ahead, is none.
fn seconds(idle: time::Duration) -> f64 {
    let milliseconds = (idle.as_seconds_f64() * 1_000.0).round();
    milliseconds.max(0.0) / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rollcall_model::connection::MEMBERS;
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    /// A session of whom everything is known that anybody may know.
    fn whole(kind: &str) -> Value {
        let mut connection = json!({
            "presence": "connected", "state": "running", "client_id": "a", "protocol": "p", "vhost": "/", "node": "n",
            "port": 1, "database": "d", "cipher": "c", "connected_at": "2026-11-21T09:00:00Z",
            "disconnected_at": "2026-11-21T08:00:00Z", "idle_since": "2026-11-21T09:10:00Z",
            "connects": ["2026-11-21T09:00:00Z"], "spool": "00000000-0000-0000-0000-000000000003", "sequence": 1,
        });
        let more = json!({
            "clean_start": false, "expiry_seconds": 1, "receive_maximum": 1, "max_packet_size": 1, "topic_alias_max": 1,
            "request_response": false, "request_problem": false, "has_will": false, "inflight": 1, "queue_depth": 1,
            "subscription_count": 2, "subscriptions": [{ "filter": "a", "qos": 1 }], "backends": [{ "server": "b" }],
        });
        for (name, value) in more.as_object().expect("an object") {
            connection[name] = value.clone();
        }
        json!({
            "org": "00000000-0000-0000-0000-000000000001", "id": "00000000-0000-0000-0000-000000000002", "project": 1,
            "service": "s", "kind": kind, "source_id": "a", "unit_id": "", "label": "l", "user": "u", "remote": "r",
            "created_at": "2026-11-21T09:00:00Z", "saved_at": "2026-11-21T09:30:00Z",
            "received_at": "2026-11-21T09:30:01Z", "received_from": "k", "deleted": false, "points": {}, "revision": 1,
            "connection": connection,
        })
    }

    /// Another value in its place.
    fn other(value: &Value) -> Value {
        match value {
            Value::Bool(flag) => json!(!flag),
            Value::Number(number) => json!(number.as_u64().unwrap_or_default() + 1),
            Value::String(text) if text.starts_with("2026") => json!("2026-11-21T07:00:00Z"),
            Value::String(text) if text == "connected" => json!("gone"),
            Value::String(text) => json!(format!("{text}{text}")),
            Value::Array(items) => items.iter().chain(items).cloned().collect(),
            _ => panic!("{value}"),
        }
    }

    fn shown(session: &Session) -> Value {
        serde_json::to_value(SessionAttributes::of(session, NOW)).expect("JSON")
    }

    fn read(session: &Value) -> Session {
        serde_json::from_value(session.clone()).expect("a session")
    }

    /// What differs in the attributes and is to be named.
    fn differing(one: &Value, two: &Value) -> BTreeSet<String> {
        let names = |of: &Value| -> BTreeSet<String> {
            of.as_object()
                .into_iter()
                .flat_map(|o| o.keys().cloned())
                .collect()
        };
        let mut names = &names(one) | &names(two);
        names.retain(|name| one.get(name) != two.get(name));
        // Those that always differ, and another spelling of `started`.
        for name in ["revision", "updated", "received_from", "connected"] {
            names.remove(name);
        }
        names.into_iter().map(|name| format!("/{name}")).collect()
    }

    #[test]
    fn an_event_names_what_differs_in_the_attributes() {
        for kind in ["mqtt", "amqp", "proxy"] {
            let before = whole(kind);
            let own = before.as_object().expect("an object").keys();
            let facts = before["connection"].as_object().expect("an object").keys();
            let pointers = own
                .filter(|name| {
                    !["org", "id", "project", "kind", "connection", "points"]
                        .contains(&name.as_str())
                })
                .map(|name| format!("/{name}"))
                .chain(
                    facts
                        .filter(|name| *name != "spool")
                        .map(|name| format!("/connection/{name}")),
                );
            let mut named = 0;
            for pointer in pointers {
                let mut after = before.clone();
                let member = after.pointer_mut(&pointer).expect("it is there");
                *member = other(member);
                for (one, two) in [(&before, &after), (&after, &before)] {
                    let (one, two) = (read(one), read(two));
                    let changed: BTreeSet<String> =
                        two.changed_since(Some(&one)).into_iter().collect();
                    assert_eq!(
                        changed,
                        differing(&shown(&one), &shown(&two)),
                        "{kind}: {pointer}"
                    );
                    named += changed.len();
                }
            }
            assert!(named > 60, "{kind}: {named}");
        }
    }

    #[test]
    fn what_sources_may_know_is_called_as_in_the_attributes() {
        let shown = shown(&read(&whole("mqtt")));
        for name in MEMBERS {
            assert!(shown.get(name).is_some(), "{name}");
        }
    }
}
