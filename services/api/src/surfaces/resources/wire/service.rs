//! A service.

use rollcall_model::ingest::{BrokerNode, BrokerReport, WatchReport};
use rollcall_store::services::{Gap, Service};
use serde::Serialize;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;

use super::super::document::{Relationship, SelfLink, ToOne};
use super::super::parameters::segment;
use super::{identifier, related, rfc3339, to_one};
use crate::surfaces::ingest::wire::PagerStatistics;

/// What sessions are created on: a project's form intake, a transmitter of pagers, a message broker, a service of a database
/// proxy.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "forms-1",
    "type": "services",
    "relationships": {
        "sessions": { "links": { "related": "http://localhost:8080/v1/sessions?filter%5Bservice%5D=forms-1" } },
        "projects": {
            "links": { "related": "http://localhost:8080/v1/projects/1" },
            "data": { "id": "1", "type": "projects" }
        }
    },
    "attributes": {
        "kind": "form", "state": "Started", "started": "2026-11-21T09:00:00Z", "project": 1,
        "connections": 2, "total_connections": 3
    },
    "links": { "self": "http://localhost:8080/v1/services/forms-1" }
}))]
pub struct ServiceResource {
    /// Its name, unique in the organization.
    pub id: String,
    /// Always `services`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<ServiceRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<ServiceAttributes>,
    pub links: SelfLink,
}

/// What belongs to a service.
#[derive(Serialize, ToSchema)]
pub struct ServiceRelationships {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Relationship>,
    /// The one project that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<ToOne>,
    /// The relay that speaks for it, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relays: Option<ToOne>,
}

/// A service's members, with MaxScale's names for the counts (proxy contract §1.6).
#[derive(Serialize, ToSchema)]
pub struct ServiceAttributes {
    /// What it is: `form`, `pager`, `broker` (its sessions are `mqtt` or `amqp`), `proxy`.
    pub kind: String,
    /// `Started`; of brokers and proxies as the source last said it, where it says anything.
    pub state: String,
    /// Since when there is the service.
    #[schema(format = DateTime)]
    pub started: String,
    /// The project's number.
    pub project: i64,
    /// Sessions that are active.
    pub connections: i64,
    /// Sessions there ever were.
    pub total_connections: i64,
    /// What the service counts of itself. Of transmitters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PagerStatistics>)]
    pub statistics: Option<serde_json::Value>,
    /// When the service stood so, by its relay's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub reported: Option<String>,
    /// The id of the relay that speaks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// When that relay was last heard of, by our clock: whatever it says is no newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub relay_last_seen: Option<String>,
    /// Where its relay has the sessions from. Of brokers and proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ServiceSource>,
    /// Since when the source cannot be read, by the relay's clock: the sessions stand as they did then. Absent where it can. Of
    /// brokers and proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub unreachable_since: Option<String>,
    /// What the broker says of itself. Of brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerFigures>,
    /// Events that the service will never have, the latest 20; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps: Option<Vec<GapValue>>,
}

/// What a relay asks for a service's sessions.
#[derive(Serialize, ToSchema)]
pub struct ServiceSource {
    /// `rabbitmq`, `pgbouncer`, `maxscale`, `fluxmq`, and sources to come.
    pub kind: String,
    /// The version that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The attributes of a session that it can know. Whatever else is absent is unknown, not zero.
    pub knows: Vec<String>,
    /// When its sessions were last seen whole, by the relay's clock; absent where they never were.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub seen: Option<String>,
    /// Why it cannot be read, or what is missing though it can be, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a broker says of itself; what it does not say is absent.
#[derive(Serialize, ToSchema)]
pub struct BrokerFigures {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    /// Connections there ever were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Connections that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnections: Option<u64>,
    /// Messages that clients sent to the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_received: Option<u64>,
    /// Messages that the broker sent to clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol_errors: Option<u64>,
    /// At most 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub nodes: Vec<BrokerNodeFigures>,
}

/// A node of a broker's cluster.
#[derive(Serialize, ToSchema)]
pub struct BrokerNodeFigures {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
}

impl ServiceSource {
    fn of(watch: &WatchReport) -> Self {
        Self {
            kind: watch.source.clone(),
            version: watch.version.clone(),
            knows: watch.knows.clone(),
            seen: watch.seen.map(rfc3339),
            trouble: watch.trouble.clone(),
        }
    }
}

impl BrokerFigures {
    fn of(broker: &BrokerReport) -> Self {
        let node = |node: &BrokerNode| BrokerNodeFigures {
            id: node.id.clone(),
            address: node.address.clone(),
            healthy: node.healthy,
            leader: node.leader,
            uptime_seconds: node.uptime_seconds,
        };
        Self {
            uptime_seconds: broker.uptime_seconds,
            connections: broker.connections,
            disconnections: broker.disconnections,
            messages_received: broker.messages_received,
            messages_sent: broker.messages_sent,
            bytes_received: broker.bytes_received,
            bytes_sent: broker.bytes_sent,
            protocol_errors: broker.protocol_errors,
            nodes: broker.nodes.iter().map(node).collect(),
        }
    }
}

/// Events that are missing, and why.
#[derive(Serialize, ToSchema)]
pub struct GapValue {
    /// When it was noticed, by the relay's clock.
    #[schema(format = DateTime)]
    pub at: String,
    /// How many are missing, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<i64>,
    /// When the first of them happened, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// When the last did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// In words.
    pub reason: String,
}

impl GapValue {
    fn of(gap: &Gap) -> Self {
        let utc = |at: OffsetDateTime| rfc3339(at.to_offset(UtcOffset::UTC));
        Self {
            at: utc(gap.at),
            events: gap.events,
            since: gap.since.map(utc),
            until: gap.until.map(utc),
            reason: gap.reason.clone(),
        }
    }
}

impl ServiceResource {
    pub fn of(service: &Service, base: &str) -> Self {
        let name = segment(&service.name);
        let sessions = format!("{base}/v1/sessions?filter%5Bservice%5D={name}");
        let project = format!("{base}/v1/projects/{}", service.project_id);
        let watch = service.watch.as_deref();
        let broker = watch.and_then(|watch| watch.broker.as_ref());
        Self {
            id: service.name.clone(),
            kind: "services",
            relationships: Some(ServiceRelationships {
                sessions: related(sessions, None),
                projects: to_one(project, identifier("projects", service.project_id)),
                relays: service.relay_id.and_then(|id| {
                    to_one(format!("{base}/v1/relays/{id}"), identifier("relays", id))
                }),
            }),
            attributes: Some(ServiceAttributes {
                kind: service.kind.clone(),
                state: service.state.clone(),
                started: rfc3339(service.created_at),
                project: service.project_id,
                connections: service.active,
                total_connections: service.total,
                statistics: service.statistics.clone(),
                reported: service.reported_at.map(rfc3339),
                relay: service.relay_id.map(|id| id.to_string()),
                relay_last_seen: service.heard_at.map(rfc3339),
                source: watch.map(ServiceSource::of),
                unreachable_since: watch.and_then(|watch| watch.unreachable_since).map(rfc3339),
                broker: broker.map(BrokerFigures::of),
                gaps: (!service.gaps.is_empty())
                    .then(|| service.gaps.iter().map(GapValue::of).collect()),
            }),
            links: SelfLink {
                own: format!("{base}/v1/services/{name}"),
            },
        }
    }
}
