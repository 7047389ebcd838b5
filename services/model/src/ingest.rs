//! What relays send, and what they are answered: the bodies of `POST /v1/ingest`.
//!
//! A batch is read in two steps: [`Batch`] whole, then each event by itself, so that one that cannot be read is refused
//! alone.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::command::CommandReport;

/// Events of one relay, in the order in which they happened on each service.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    pub relay: RelayReport,
    /// Services that the relay speaks for, as they stand; those without news may be left out.
    #[serde(default)]
    pub services: Vec<ServiceReport>,
    /// Each an [`IngestEvent`]. May be empty: then the relay only says that it is there.
    #[serde(default)]
    pub events: Vec<Box<RawValue>>,
    /// What became of commands; an answer of success means that all are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<CommandReport>,
}

/// A relay about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayReport {
    /// Of its program.
    pub version: String,
    pub spool: SpoolReport,
}

/// What waits at a relay to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolReport {
    /// Events that wait.
    pub events: u64,
    /// Bytes of the spool's file.
    pub bytes: u64,
    /// When the oldest that waits happened.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub oldest: Option<OffsetDateTime>,
    /// Events that the cloud refused and that were set aside, since the spool was made.
    #[serde(default)]
    pub set_aside: u64,
}

/// A service as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    pub name: String,
    /// What it is: a [`ServiceKind`](crate::ServiceKind).
    pub kind: String,
    /// When it stood so, by the relay's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What the service counts of itself; of a transmitter its statistics (pager contract, 1.4), in the store's spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<PagerStatistics>,
    /// Of a broker or a proxy's service: how it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchReport>,
}

/// How a relay watches a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WatchReport {
    /// What is asked: `rabbitmq`, `pgbouncer`, `maxscale`, `fluxmq`.
    pub source: String,
    /// The version that the source names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How the service stands, in its source's words: `Started` ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When the last whole picture was taken; never, where absent.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub seen: Option<OffsetDateTime>,
    /// Since when no picture could be taken; absent where the last one could. The sessions are as they were then.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub unreachable_since: Option<OffsetDateTime>,
    /// Why not, or what the picture lacks, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The members of a session that the source can know, by their names in `/v1`; what is not here is unknown, not zero.
    #[serde(default)]
    pub knows: Vec<String>,
    /// What a broker says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerReport>,
}

/// What a broker says of itself; what it does not is absent (proxy contract, 2.4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerReport {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    /// Connections there ever were, and those that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnections: Option<u64>,
    /// Messages that clients sent to the broker, and that it sent to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_received: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_sent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_errors: Option<u64>,
    #[serde(default)]
    pub nodes: Vec<BrokerNode>,
}

/// A node of a broker's cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerNode {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub healthy: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
}

/// A transmitter's statistics (pager contract, 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagerStatistics {
    /// Guests that were paged.
    pub guests_served: u64,
    /// Share of these paged after the goal, in percent.
    pub percent_late: u8,
    /// Share of these paged within the goal, in percent.
    pub percent_on_time: u8,
    /// Mean seconds from the session's begin to its page.
    pub average_time_served: u64,
    /// Sessions created.
    pub sessions: u64,
}

/// One thing that happened at a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngestEvent {
    /// Always the same for the same event: see [`event_id`].
    pub id: Uuid,
    pub service: String,
    /// The spool that the event was first written to: [`Self::sequence`] counts in there. Nil where the relay never had
    /// another.
    #[serde(default)]
    pub spool: Uuid,
    /// Counts the service's events in its relay's spool from 1.
    pub sequence: u64,
    /// When it happened, by the relay's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Happening {
    /// A session began; where it began with a page, it is `paged` already.
    Created { session: PagerSession },
    /// A guest was paged, perhaps not for the first time.
    Paged { session: PagerSession },
    /// A session ended: the guest came.
    Cleared { session: PagerSession },
    /// A session ended: it was taken off the roll.
    Removed {
        #[serde(flatten)]
        subject: Subject,
    },
    /// What is known of a session changed.
    Updated {
        #[serde(flatten)]
        subject: Subject,
    },
    /// A client connected, perhaps not for the first time.
    Connected { connection: Box<ConnectionSession> },
    /// A client is no longer connected; its session may stay at its source.
    Disconnected { connection: Box<ConnectionSession> },
    /// Events are missing before this one.
    Gap { gap: Gap },
}

/// Whom an event is about that sessions of several kinds have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    Session(PagerSession),
    Connection(Box<ConnectionSession>),
}

/// A guest with a pager, as after the event (pager contract, 1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagerSession {
    /// The session's name at its source.
    pub uuid: Uuid,
    /// The transmitter's own number for it.
    pub id: u64,
    /// The pager's number: 1 to 65535.
    pub number: u16,
    pub party_size: u32,
    pub goal_seconds: u32,
    pub state: PagerState,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When the guest was paged first.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub notified: Option<OffsetDateTime>,
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub cleared: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_type: Option<ClearType>,
    /// The transmitter's `sessionSequence` of the change.
    pub session_sequence: u16,
}

/// How a guest's session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PagerState {
    Started,
    Paged,
    Cleared,
}

/// How a guest's session ended; in JSON as the transmitter says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClearType {
    Stop,
    Removed,
}

/// A client's session on a broker or a proxy, as after the event. What its source does not know is absent, never guessed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionSession {
    /// The session's name at its source, unique in its service.
    pub source_id: String,
    pub kind: ConnectionKind,
    /// What the client calls its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The address that the client comes from, without the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    #[serde(flatten)]
    pub facts: ConnectionFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionKind {
    /// A session on a broker, over MQTT.
    Mqtt,
    /// A connection to a broker, over AMQP.
    Amqp,
    /// A client's connection through a proxy of a database.
    Proxy,
}

/// Whether a client is there, and if not, whether its session is kept for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    #[default]
    Connected,
    /// The source keeps the session until the client comes back.
    Disconnected,
    /// The source has the session no longer.
    Gone,
}

/// What is known of a connection beyond what sessions of every kind have (proxy contract, 2.3, 3.2 and 4).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionFacts {
    pub presence: Presence,
    /// How it stands, in the words of its source: `running`, `Session started` ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// On a broker, the client's id as broker tools know it: MQTT's, or `amqp091:` and the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// `mqtt3.1`, `mqtt3.1.1`, `mqtt5`, `amqp0.9.1`, `mariadb`, `postgres` ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The broker's virtual host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The broker's or proxy's node that has the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The client's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Where a proxy's client is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The protection of the client's connection, in the words of the source: a cipher, or a version of TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// When the client last connected.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub connected_at: Option<OffsetDateTime>,
    /// When it last disconnected.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub disconnected_at: Option<OffsetDateTime>,
    /// Since when it has been idle.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub idle_since: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_start: Option<bool>,
    /// For how many seconds the session is kept once the client is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_maximum: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_packet_size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_alias_max: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_response: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_problem: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_will: Option<bool>,
    /// Messages that were sent to the client and that it has not acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inflight: Option<u64>,
    /// Messages that wait for the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u64>,
    /// How many subscriptions it has, where they are more than are listed, or are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_count: Option<u32>,
    /// By filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Vec<Subscription>>,
    /// The proxy's own connections that work for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<Backend>>,
}

/// What a client wants to be sent (proxy contract, 2.3); over AMQP the queue that it consumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub filter: String,
    pub qos: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_local: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_as_published: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_handling: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<u32>,
}

/// A proxy's connection to a database server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The server, as the proxy calls it.
    pub server: String,
    /// The connection's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
}

/// Events that will never come, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// When the first of them happened, as far as is known.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<OffsetDateTime>,
    /// When the last did.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<OffsetDateTime>,
    /// In words: `the spool was full` ...
    pub reason: String,
}

/// The answer to a batch: a verdict for each of its events, in their order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    pub verdicts: Vec<Verdict>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The event's, or nil where it could not be read.
    pub id: Uuid,
    pub status: VerdictStatus,
    /// Of a refused event, what is wrong with it: a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictStatus {
    /// It is in the store now.
    Stored,
    /// It was already.
    Repeated,
    /// It will not be, however often it is sent.
    Refused,
}

/// The id of an event: it follows from the spool that it was first written to, its service, and its place there. So a repeat
/// has the id of the first.
pub fn event_id(spool: Uuid, service: &str, sequence: u64) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"rollcall event\0");
    context.update(spool.as_bytes());
    context.update(&sequence.to_be_bytes());
    context.update(service.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Uuid::new_v8(bytes)
}
