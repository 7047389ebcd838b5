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
