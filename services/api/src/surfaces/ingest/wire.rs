//! The shapes for the document; [`rollcall_model::ingest`] has what is read and written.
#![expect(
    dead_code,
    reason = "the shapes for the document; the model's types are read and written"
)]

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::surfaces::resources::{BrokerNodeFigures, SessionBackend, SessionSubscription};

/// Events of one relay, in the order in which they happened on each service.
#[derive(ToSchema)]
#[schema(as = IngestBatch, example = json!({
    "relay": { "version": "0.1.0", "spool": { "events": 2, "bytes": 40960, "oldest": "2026-11-21T09:05:00Z", "set_aside": 0 } },
    "services": [{
        "name": "front-desk", "kind": "pager", "at": "2026-11-21T09:05:01Z",
        "statistics": {
            "guests_served": 1, "percent_late": 0, "percent_on_time": 100, "average_time_served": 300, "sessions": 1
        }
    }, {
        "name": "plant-broker", "kind": "broker", "at": "2026-11-21T09:05:01Z",
        "watch": {
            "source": "rabbitmq", "version": "3.10.8", "seen": "2026-11-21T09:05:00Z",
            "knows": ["client_id", "inflight", "queue_depth", "remote", "subscriptions", "user"],
            "broker": {
                "connections": 12, "disconnections": 4,
                "nodes": [{ "id": "rabbit@plant", "healthy": true, "uptime_seconds": 86400.5 }]
            }
        }
    }],
    "events": [
        {
            "id": "5d3c1ed6-2f0c-8b61-a7b4-0f2c1d9b11aa", "service": "front-desk",
            "spool": "3b241101-e2bb-4255-8caf-4136c566a962", "sequence": 2, "at": "2026-11-21T09:05:00Z", "type": "paged",
            "session": {
                "uuid": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11", "id": 7, "number": 12, "party_size": 4, "goal_seconds": 600,
                "state": "paged", "created": "2026-11-21T09:00:00Z", "notified": "2026-11-21T09:05:00Z", "label": "Ada",
                "session_sequence": 121
            }
        },
        {
            "id": "0b8b2a3e-7c11-8a52-9d1c-5d2b8f6f0a11", "service": "front-desk",
            "spool": "3b241101-e2bb-4255-8caf-4136c566a962", "sequence": 3, "at": "2026-11-21T09:06:00Z", "type": "gap",
            "gap": { "events": 3, "since": "2026-11-21T08:00:00Z", "until": "2026-11-21T08:10:00Z", "reason": "the spool was full" }
        },
        {
            "id": "f1c8a7be-03d1-8b52-8c33-5d2b8f6f0a11", "service": "plant-broker",
            "spool": "3b241101-e2bb-4255-8caf-4136c566a962", "sequence": 1, "at": "2026-11-21T09:05:00Z", "type": "connected",
            "connection": {
                "source_id": "dev/a live", "kind": "mqtt", "presence": "connected", "state": "running", "client_id": "dev/a live",
                "protocol": "mqtt3.1.1", "user": "guest", "remote": "10.0.0.7", "port": 45747,
                "connected_at": "2026-11-21T09:04:58Z", "clean_start": false, "queue_depth": 3,
                "subscriptions": [{ "filter": "devices/+/events", "qos": 1 }]
            }
        }
    ],
    "reports": [{
        "command": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11", "status": "done", "at": "2026-11-21T09:05:00.12Z", "code": "2.04",
        "answer": { "sessions": [{ "id": 7, "number": 12, "state": "paged" }] }
    }]
}))]
pub struct Batch {
    relay: RelayReport,
    /// Services that the relay speaks for, as they stand; those without news may be left out.
    services: Option<Vec<ServiceReport>>,
    /// At most 5,000. May be empty: then the relay only says that it is there.
    #[schema(max_items = 5000)]
    events: Option<Vec<IngestEvent>>,
    /// What became of commands: at most 1,000. Of one command the first that comes counts; what is said of commands that are not
    /// the relay's is passed over.
    #[schema(max_items = 1000)]
    reports: Option<Vec<CommandReport>>,
}

/// A relay about itself.
#[derive(ToSchema)]
pub struct RelayReport {
    /// Of its program.
    version: String,
    spool: SpoolReport,
}

/// What waits at a relay to be sent.
#[derive(ToSchema)]
pub struct SpoolReport {
    /// Events that wait.
    events: u64,
    /// Bytes of the spool's file.
    bytes: u64,
    /// When the oldest that waits happened.
    #[schema(format = DateTime)]
    oldest: Option<String>,
    /// Events that were refused and that the relay set aside, since the spool was made.
    set_aside: Option<u64>,
}

/// A service as it stands.
#[derive(ToSchema)]
pub struct ServiceReport {
    /// Unique in the organization. What another relay speaks for, and `forms-..`, is refused.
    name: String,
    /// What it is: `pager`, `broker` or `proxy`. Other kinds are passed over.
    kind: String,
    /// When it stood so, by the relay's clock. What is older than what is known is passed over.
    #[schema(format = DateTime)]
    at: String,
    statistics: Option<PagerStatistics>,
    /// Of a broker or a proxy's service: how it is watched. Takes the place of what was said before.
    watch: Option<WatchReport>,
}

/// How a relay watches a service.
#[derive(ToSchema)]
pub struct WatchReport {
    /// What is asked: `rabbitmq`, `pgbouncer`, `maxscale`, `fluxmq`. At most 200 bytes, as all texts here but `trouble`.
    source: String,
    /// The version that the source names.
    version: Option<String>,
    /// How the service stands, in its source's words.
    state: Option<String>,
    /// When the last whole picture was taken; never, where left out.
    #[schema(format = DateTime)]
    seen: Option<String>,
    /// Since when no picture could be taken; left out where the last one could.
    #[schema(format = DateTime)]
    unreachable_since: Option<String>,
    /// Why not, or what the picture lacks, in words: at most 1,000 bytes.
    trouble: Option<String>,
    /// The attributes of a session that the source can know, by their names on `/v1/sessions`. Others are passed over.
    #[schema(max_items = 100)]
    knows: Option<Vec<String>>,
    /// What a broker says of itself.
    broker: Option<BrokerReport>,
}

/// What a broker says of itself; what it does not is left out.
#[derive(ToSchema)]
pub struct BrokerReport {
    uptime_seconds: Option<f64>,
    /// Connections there ever were.
    connections: Option<u64>,
    /// Connections that ended.
    disconnections: Option<u64>,
    /// Messages that clients sent to the broker.
    messages_received: Option<u64>,
    /// Messages that the broker sent to clients.
    messages_sent: Option<u64>,
    bytes_received: Option<u64>,
    bytes_sent: Option<u64>,
    protocol_errors: Option<u64>,
    #[schema(max_items = 64)]
    nodes: Option<Vec<BrokerNodeFigures>>,
}

/// A transmitter's statistics.
#[derive(ToSchema)]
pub struct PagerStatistics {
    /// Guests that were paged.
    guests_served: u64,
    /// Share of these paged after the goal, in percent.
    percent_late: u8,
    /// Share of these paged within the goal, in percent.
    percent_on_time: u8,
    /// Mean seconds from the session's begin to its page.
    average_time_served: u64,
    /// Sessions created.
    sessions: u64,
}

/// One thing that happened at a service.
#[derive(ToSchema)]
pub struct IngestEvent {
    /// Always the same for the same event.
    #[schema(format = Uuid)]
    id: String,
    service: String,
    /// The spool that the event was first written to: `sequence` counts in there. Left out where the relay never had another.
    spool: Option<Uuid>,
    /// Counts the service's events in its relay's spool from 1.
    sequence: u64,
    /// When it happened, by the relay's clock.
    #[schema(format = DateTime)]
    at: String,
    /// `created`, `paged`, `cleared`, `removed` or `updated`, with `session`; `connected`, `disconnected`, `removed` or `updated`,
    /// with `connection`; or `gap`, with `gap`.
    #[schema(pattern = "^(created|paged|cleared|removed|updated|connected|disconnected|gap)$")]
    r#type: String,
    session: Option<PagerSession>,
    connection: Option<ConnectionSession>,
    gap: Option<IngestGap>,
}

/// A guest with a pager, as after the event.
#[derive(ToSchema)]
pub struct PagerSession {
    /// The session's name at its source.
    uuid: Uuid,
    /// The transmitter's own number for it.
    id: u64,
    /// The pager's number.
    #[schema(minimum = 1, maximum = 65535)]
    number: u16,
    #[schema(minimum = 1, maximum = 1000000)]
    party_size: u32,
    /// After how many seconds the guest is to be paged.
    #[schema(maximum = 86400)]
    goal_seconds: u32,
    #[schema(pattern = "^(started|paged|cleared)$")]
    state: String,
    #[schema(format = DateTime)]
    created: String,
    /// When the guest was paged first.
    #[schema(format = DateTime)]
    notified: Option<String>,
    #[schema(format = DateTime)]
    cleared: Option<String>,
    /// At most 1,000 bytes.
    label: Option<String>,
    /// How the session ended: `STOP` or `REMOVED`.
    #[schema(pattern = "^(STOP|REMOVED)$")]
    clear_type: Option<String>,
    /// The transmitter's `sessionSequence` of the change.
    session_sequence: u16,
}

/// A client's session on a broker or a proxy, as after the event. What its source does not know is left out, never guessed.
/// Texts have at most 1,000 bytes.
#[derive(ToSchema)]
pub struct ConnectionSession {
    /// The session's name at its source, unique in its service.
    source_id: String,
    #[schema(pattern = "^(mqtt|amqp|proxy)$")]
    kind: String,
    /// What the client calls its connection.
    label: Option<String>,
    user: Option<String>,
    /// The address that the client comes from, without the port.
    remote: Option<String>,
    /// `disconnected` where the source keeps the session for its client, `gone` where it has it no longer.
    #[schema(pattern = "^(connected|disconnected|gone)$")]
    presence: String,
    /// How it stands, in the words of its source.
    state: Option<String>,
    /// On a broker, the client's id as broker tools know it: MQTT's, or `amqp091:` and the address.
    client_id: Option<String>,
    protocol: Option<String>,
    /// The broker's virtual host.
    vhost: Option<String>,
    /// The node that has the connection.
    node: Option<String>,
    /// The client's port.
    port: Option<u16>,
    /// Where a proxy's client is connected to.
    database: Option<String>,
    /// What protects the client's connection: a cipher, or a version of TLS.
    cipher: Option<String>,
    /// When the client last connected.
    #[schema(format = DateTime)]
    connected_at: Option<String>,
    /// When it last disconnected.
    #[schema(format = DateTime)]
    disconnected_at: Option<String>,
    /// Since when it has been idle.
    #[schema(format = DateTime)]
    idle_since: Option<String>,
    clean_start: Option<bool>,
    /// For how many seconds the session is kept once the client is gone.
    expiry_seconds: Option<u32>,
    receive_maximum: Option<u16>,
    max_packet_size: Option<u32>,
    topic_alias_max: Option<u16>,
    request_response: Option<bool>,
    request_problem: Option<bool>,
    has_will: Option<bool>,
    /// Messages that were sent to the client and that it has not acknowledged.
    inflight: Option<u64>,
    /// Messages that wait for the client.
    queue_depth: Option<u64>,
    /// How many subscriptions it has, where they are more than are listed.
    subscription_count: Option<u32>,
    /// By filter, of 256 KiB together at most.
    #[schema(max_items = 1000)]
    subscriptions: Option<Vec<SessionSubscription>>,
    /// The proxy's own connections that work for this one.
    #[schema(max_items = 100)]
    backends: Option<Vec<SessionBackend>>,
}

/// Events that will never come, and why.
#[derive(ToSchema)]
pub struct IngestGap {
    /// How many are missing, where that is known.
    events: Option<u64>,
    /// When the first of them happened, as far as is known.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// When the last did.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// In words, at most 1,000 bytes.
    reason: String,
}

/// The answer to a batch: a verdict for each of its events, in their order.
#[derive(ToSchema)]
#[schema(as = IngestVerdicts, example = json!({ "verdicts": [
    { "id": "5d3c1ed6-2f0c-8b61-a7b4-0f2c1d9b11aa", "status": "stored" },
    { "id": "0b8b2a3e-7c11-8a52-9d1c-5d2b8f6f0a11", "status": "refused", "code": "service_taken",
      "detail": "the service front-desk is not this relay's; give the relay's service another name" }
] }))]
pub struct Verdicts {
    verdicts: Vec<Verdict>,
}

/// What became of one event.
#[derive(ToSchema)]
#[schema(as = IngestVerdict)]
pub struct Verdict {
    /// The event's; nil where it could not be read.
    id: Uuid,
    /// `stored` now, `repeated` where it was already, `refused` where it will not be, however often it is sent.
    #[schema(pattern = "^(stored|repeated|refused)$")]
    status: String,
    /// Of a refused event, what is wrong with it. Stable; for programs.
    code: Option<String>,
    /// The same in a sentence.
    detail: Option<String>,
}

/// What became of a command.
#[derive(ToSchema)]
pub struct CommandReport {
    /// The command's id.
    command: Uuid,
    /// `done`: the transmitter did it. `refused`: it would not. `expired`: it did not reach the transmitter in its time.
    /// `unknown`: it may have been done or not.
    #[schema(pattern = "^(done|refused|expired|unknown)$")]
    status: String,
    /// When it ended, by the relay's clock.
    #[schema(format = DateTime)]
    at: String,
    /// The transmitter's own answer: its CoAP code.
    code: Option<String>,
    /// The transmitter's own answer: its body. One of more than 16 KiB is not kept.
    answer: Option<serde_json::Value>,
    /// In words, where it was not done.
    detail: Option<String>,
}

/// What a relay's services are to do.
#[derive(ToSchema)]
#[schema(as = RelayCommands, example = json!({ "commands": [
    {
        "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11", "service": "front-desk", "created": "2026-11-21T09:05:00Z",
        "expires": "2026-11-21T09:06:00Z", "order": "page", "session": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11", "number": 12,
        "page_mode": "Flash30Sec"
    }
] }))]
pub struct Commands {
    /// Oldest first; of one service in the order in which they were given.
    #[schema(max_items = 100)]
    commands: Vec<Command>,
}

/// Something for a service to do.
#[derive(ToSchema)]
#[schema(as = RelayCommand)]
pub struct Command {
    /// By which a repeat is recognized.
    id: Uuid,
    service: String,
    #[schema(format = DateTime)]
    created: String,
    /// It must not be carried out after this.
    #[schema(format = DateTime)]
    expires: String,
    #[schema(pattern = "^(create|page|clear|remove)$")]
    order: String,
    /// The pager's number.
    #[schema(minimum = 1, maximum = 65535)]
    number: u16,
    /// The transmitter's `uuid` of the session that is meant: where the pager has another one, nothing is to be done. Of all but
    /// `create`.
    session: Option<Uuid>,
    /// Of `page`.
    page_mode: Option<String>,
    /// Of `page`.
    message: Option<String>,
    /// Seconds. Of `create`.
    goal: Option<u32>,
    /// Of `create`.
    label: Option<String>,
    /// Of `create`.
    party_size: Option<u32>,
}

/// RFC 3339; the time is in UTC.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("the year has four digits")
}
