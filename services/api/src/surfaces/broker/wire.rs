//! The shapes of this surface (seed 004; contract §2.3 and §2.4). They have no null and, of a session, nothing for what is
//! unknown: that is zero, false, `unknown` or left out here (decision 16); `/v1` tells unknown from zero.

use std::collections::BTreeMap;

use rollcall_model::ingest::{BrokerNode, Subscription};
use rollcall_store::brokers::{Client, Filter, Subscriber};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// A page of sessions. As the other pages a shape for the document: lists are written row by row.
#[derive(Serialize, ToSchema)]
pub struct BrokerSessions {
    sessions: Vec<SessionObject>,
    /// For the page after this one; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1fV6Zr2a1s0gAAAAKbXktZGV2aWNl")]
    next_page_token: Option<String>,
}

/// A client's session on a broker.
#[derive(Serialize, ToSchema)]
#[schema(as = BrokerSession, example = json!({
    "client_id": "my-device-001", "connection_name": "orders-consumer", "state": "connected", "connected": true,
    "protocol": "mqtt5", "version": 5, "clean_start": true, "expiry_interval": 0, "connected_at": "2019-08-24T14:15:22Z",
    "disconnected_at": "2019-08-24T14:15:22Z", "receive_maximum": 0, "max_packet_size": 0, "topic_alias_max": 0,
    "request_response": true, "request_problem": true, "has_will": true, "subscription_count": 1, "inflight_count": 0,
    "offline_queue_depth": 0,
    "subscriptions": [{
        "filter": "devices/+/events", "qos": 1, "no_local": true, "retain_as_published": true, "retain_handling": 2,
        "consumer_group": "string", "subscription_id": 1
    }]
}))]
pub struct SessionObject {
    /// MQTT's client id; of AMQP 0.9.1 `amqp091:` and the client's address.
    pub client_id: String,
    /// What an AMQP client calls its connection, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_name: Option<String>,
    /// `connected` or `disconnected`.
    pub state: &'static str,
    pub connected: bool,
    /// `mqtt3.1`, `mqtt3.1.1`, `mqtt5`, `amqp0.9.1`, `amqp1.0` or `unknown`.
    pub protocol: String,
    /// Of MQTT: 3, 4 or 5; else 0.
    pub version: u8,
    /// `false` also where it is unknown; so with everything that follows, and 0.
    pub clean_start: bool,
    /// For how many seconds the session is kept.
    pub expiry_interval: u32,
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub connected_at: Option<OffsetDateTime>,
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disconnected_at: Option<OffsetDateTime>,
    pub receive_maximum: u16,
    pub max_packet_size: u32,
    pub topic_alias_max: u16,
    pub request_response: bool,
    pub request_problem: bool,
    pub has_will: bool,
    pub subscription_count: i64,
    /// Messages sent and not acknowledged.
    pub inflight_count: u64,
    /// Messages that wait for the client.
    pub offline_queue_depth: u64,
    /// By filter; of one session alone, and left out where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub subscriptions: Vec<SessionSubscription>,
}

/// What a client wants to be sent; over AMQP the queue that it consumes.
#[derive(Serialize, ToSchema)]
#[schema(as = BrokerSessionSubscription)]
pub struct SessionSubscription {
    pub filter: String,
    #[schema(minimum = 0, maximum = 2)]
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    #[schema(minimum = 0, maximum = 2)]
    pub retain_handling: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<u32>,
}

/// A page of filters.
#[derive(Serialize, ToSchema)]
pub struct BrokerSubscriptions {
    subscriptions: Vec<SubscriptionObject>,
    /// For the page after this one; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// A filter that clients subscribe to.
#[derive(Serialize, ToSchema)]
#[schema(as = BrokerSubscription, example = json!({ "filter": "devices/+/events", "subscriber_count": 42, "max_qos": 1 }))]
pub struct SubscriptionObject {
    pub filter: String,
    pub subscriber_count: i64,
    pub max_qos: i16,
}

/// A page of a filter's clients.
#[derive(Serialize, ToSchema)]
pub struct BrokerSubscribers {
    #[schema(example = "devices/+/events")]
    filter: String,
    clients: Vec<SubscriberObject>,
    /// For the page after this one; left out where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// A client that subscribes to a filter.
#[derive(Serialize, ToSchema)]
#[schema(as = BrokerSubscriber, example = json!({ "client_id": "my-device-001", "qos": 1 }))]
pub struct SubscriberObject {
    pub client_id: String,
    pub qos: i16,
}

impl SessionObject {
    /// A row of a list: without subscriptions.
    pub fn of_list(client: Client) -> Self {
        Self {
            subscriptions: Vec::new(),
            ..Self::of(client)
        }
    }

    pub fn of(client: Client) -> Self {
        let facts = client.facts.0;
        let protocol = facts.protocol.filter(|name| !name.is_empty());
        let protocol = protocol.unwrap_or_else(|| protocol_of_id(&client.kind, &client.client_id));
        Self {
            connection_name: client.label,
            state: if client.connected {
                "connected"
            } else {
                "disconnected"
            },
            connected: client.connected,
            version: version(&protocol),
            protocol,
            clean_start: facts.clean_start.unwrap_or_default(),
            expiry_interval: facts.expiry_seconds.unwrap_or_default(),
            connected_at: facts.connected_at,
            disconnected_at: facts.disconnected_at,
            receive_maximum: facts.receive_maximum.unwrap_or_default(),
            max_packet_size: facts.max_packet_size.unwrap_or_default(),
            topic_alias_max: facts.topic_alias_max.unwrap_or_default(),
            request_response: facts.request_response.unwrap_or_default(),
            request_problem: facts.request_problem.unwrap_or_default(),
            has_will: facts.has_will.unwrap_or_default(),
            subscription_count: client.subscription_count.unwrap_or_default(),
            inflight_count: facts.inflight.unwrap_or_default(),
            offline_queue_depth: facts.queue_depth.unwrap_or_default(),
            subscriptions: by_filter(facts.subscriptions.unwrap_or_default()),
            client_id: client.client_id,
        }
    }
}

/// Of a source that lists a filter twice, the higher QoS counts.
fn by_filter(listed: Vec<Subscription>) -> Vec<SessionSubscription> {
    let mut by_filter: BTreeMap<String, SessionSubscription> = BTreeMap::new();
    for held in listed {
        if by_filter
            .get(&held.filter)
            .is_some_and(|other| other.qos >= held.qos)
        {
            continue;
        }
        let subscription = SessionSubscription {
            filter: held.filter.clone(),
            qos: held.qos,
            no_local: held.no_local.unwrap_or_default(),
            retain_as_published: held.retain_as_published.unwrap_or_default(),
            retain_handling: held.retain_handling.unwrap_or_default(),
            consumer_group: held.consumer_group.filter(|group| !group.is_empty()),
            subscription_id: held.subscription_id.filter(|id| *id > 0),
        };
        by_filter.insert(held.filter, subscription);
    }
    by_filter.into_values().collect()
}

/// What an AMQP session's id says of its protocol, where its source does not (§2.3).
fn protocol_of_id(kind: &str, client_id: &str) -> String {
    let protocol = match kind {
        "amqp" if client_id.starts_with("amqp091:") => "amqp0.9.1",
        "amqp" if client_id.starts_with("amqp:") => "amqp1.0",
        _ => "unknown",
    };
    protocol.to_owned()
}

fn version(protocol: &str) -> u8 {
    match protocol {
        "mqtt3.1" => 3,
        "mqtt3.1.1" => 4,
        "mqtt5" => 5,
        _ => 0,
    }
}

impl SubscriptionObject {
    pub fn of(filter: Filter) -> Self {
        Self {
            filter: filter.filter,
            subscriber_count: filter.clients,
            max_qos: filter.qos,
        }
    }
}

impl SubscriberObject {
    pub fn of(subscriber: Subscriber) -> Self {
        Self {
            client_id: subscriber.client_id,
            qos: subscriber.qos,
        }
    }
}

/// Counters; what a broker in reach does not tell is left out.
#[derive(Clone, Default, Serialize, ToSchema)]
#[schema(example = json!({
    "uptime_seconds": 86400.5, "connections": { "current": 342, "total": 15000, "disconnections": 14658 },
    "messages": { "received": 1250000, "sent": 980000 }, "bytes": { "received": 524288000, "sent": 412000000 },
    "errors": { "protocol": 12 }, "by_protocol": { "mqtt": { "connections": { "current": 342 } } }
}))]
pub struct BrokerStats {
    /// Since when all of them are up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    pub connections: ConnectionStats,
    pub messages: TrafficStats,
    pub bytes: TrafficStats,
    pub errors: ErrorStats,
    pub by_protocol: ProtocolStats,
}

/// Connections.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct ConnectionStats {
    /// Clients that are connected.
    pub current: i64,
    /// Connections there were since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnections: Option<u64>,
}

/// From clients, and to them.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct TrafficStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
}

/// Errors.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct ErrorStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u64>,
}

/// The same by protocol, of those that are spoken.
#[derive(Clone, Default, Serialize, ToSchema)]
pub struct ProtocolStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<OneProtocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amqp: Option<OneProtocol>,
}

/// What is known by protocol.
#[derive(Clone, Serialize, ToSchema)]
pub struct OneProtocol {
    pub connections: ConnectionStats,
}

/// The brokers' nodes.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = BrokerCluster, example = json!({
    "node_id": "node-1", "cluster_mode": true, "is_leader": true,
    "nodes": [{ "id": "node-1", "address": "10.0.0.1:7946", "healthy": true, "leader": true, "uptime_seconds": 86400.5 }]
}))]
pub struct Cluster {
    /// The leader, where it is known; `single-node` where no broker is a cluster.
    pub node_id: String,
    pub cluster_mode: bool,
    pub is_leader: bool,
    /// Where there are several brokers, each node's id is behind its broker's name and a slash.
    pub nodes: Vec<Node>,
}

/// A node of a broker's.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = BrokerNode)]
pub struct Node {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
}

/// Everything for a dashboard's first page.
#[derive(Serialize, ToSchema)]
#[schema(as = BrokerOverview, example = json!({
    "node_id": "single-node", "cluster_mode": false, "is_leader": true, "uptime_seconds": 86400.5,
    "sessions": { "connected": 342, "total": 500 },
    "stats": {
        "uptime_seconds": 86400.5, "connections": { "current": 342 }, "messages": {}, "bytes": {}, "errors": {},
        "by_protocol": { "mqtt": { "connections": { "current": 342 } } }
    },
    "cluster": { "nodes": [] }
}))]
pub struct Overview {
    pub node_id: String,
    pub cluster_mode: bool,
    pub is_leader: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    pub sessions: SessionCounts,
    pub stats: BrokerStats,
    pub cluster: OverviewCluster,
}

/// Sessions that brokers have.
#[derive(Serialize, ToSchema)]
pub struct SessionCounts {
    pub connected: i64,
    pub total: i64,
}

/// The nodes alone.
#[derive(Serialize, ToSchema)]
pub struct OverviewCluster {
    pub nodes: Vec<Node>,
}

impl Node {
    pub fn of(node: &BrokerNode, id: String) -> Self {
        Self {
            id,
            address: node.address.clone(),
            healthy: node.healthy,
            leader: node.leader,
            uptime_seconds: node.uptime_seconds,
        }
    }
}
