//! What FluxMQ's admin API answers (proxy contract, 2.3 and 2.4), and the sessions that come of it. Pure.
//!
//! Invariant: members that FluxMQ fills with a constant because it does not know them are absent.

use rollcall_model::ingest::{
    BrokerNode, BrokerReport, ConnectionFacts, ConnectionKind, ConnectionSession, Presence,
    Subscription,
};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Deserialize)]
pub struct Page {
    pub sessions: Vec<SessionRow>,
    #[serde(default)]
    pub next_page_token: Option<String>,
}

#[derive(Clone, Debug, Default, Hash, Deserialize)]
#[serde(default)]
pub struct SessionRow {
    pub client_id: String,
    pub connection_name: Option<String>,
    pub state: String,
    pub connected: bool,
    pub protocol: String,
    pub clean_start: bool,
    pub expiry_interval: u32,
    pub connected_at: Option<String>,
    pub disconnected_at: Option<String>,
    pub receive_maximum: u16,
    pub topic_alias_max: u16,
    pub has_will: bool,
    pub subscription_count: u32,
    pub inflight_count: u64,
    pub offline_queue_depth: u64,
    /// In the details alone.
    pub subscriptions: Vec<SubscriptionRow>,
}

#[derive(Clone, Debug, Default, Hash, Deserialize)]
#[serde(default)]
pub struct SubscriptionRow {
    pub filter: String,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: u8,
    pub consumer_group: Option<String>,
    pub subscription_id: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Overview {
    pub node_id: Option<String>,
    pub cluster_mode: bool,
    pub stats: Stats,
    pub cluster: Cluster,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub uptime_seconds: Option<f64>,
    pub connections: Connections,
    pub messages: Traffic,
    pub bytes: Traffic,
    pub errors: Errors,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Connections {
    pub total: Option<u64>,
    pub disconnections: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Traffic {
    pub received: Option<u64>,
    pub sent: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Errors {
    pub protocol: Option<u64>,
}

/// `/api/v1/cluster`, and the part of `/api/v1/overview`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cluster {
    pub node_id: Option<String>,
    pub cluster_mode: bool,
    /// Null on a node that is alone, in some versions.
    pub nodes: Option<Vec<NodeRow>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeRow {
    pub id: String,
    pub address: Option<String>,
    pub healthy: bool,
    pub leader: Option<bool>,
    pub uptime_seconds: Option<f64>,
}

impl SessionRow {
    fn is_amqp(&self) -> bool {
        self.protocol.starts_with("amqp")
            || ["amqp091:", "amqp:"]
                .iter()
                .any(|prefix| self.client_id.starts_with(prefix))
    }

    /// The session; `subscriptions` where they are known.
    pub fn session(
        self,
        node: Option<&str>,
        subscriptions: Option<Vec<Subscription>>,
    ) -> ConnectionSession {
        let is_amqp = self.is_amqp();
        let is_mqtt5 = self.protocol == "mqtt5";
        let (remote, port) = address(&self.client_id).unzip();
        let presence = if self.connected {
            Presence::Connected
        } else {
            Presence::Disconnected
        };
        // Of AMQP, FluxMQ says zero and false of all that is MQTT's (2.3).
        let mqtt = !is_amqp;
        let filled = |text: String| (!text.is_empty()).then_some(text);
        ConnectionSession {
            source_id: self.client_id.clone(),
            kind: if is_amqp {
                ConnectionKind::Amqp
            } else {
                ConnectionKind::Mqtt
            },
            label: self.connection_name.and_then(filled),
            user: None,
            remote,
            facts: ConnectionFacts {
                presence,
                state: filled(self.state),
                client_id: Some(self.client_id),
                protocol: filled(self.protocol).filter(|name| name != "unknown"),
                node: node.map(str::to_owned),
                port,
                connected_at: time(self.connected_at.as_deref()),
                disconnected_at: time(self.disconnected_at.as_deref()),
                clean_start: mqtt.then_some(self.clean_start),
                expiry_seconds: mqtt.then_some(self.expiry_interval),
                receive_maximum: is_mqtt5.then_some(self.receive_maximum),
                topic_alias_max: is_mqtt5.then_some(self.topic_alias_max),
                has_will: mqtt.then_some(self.has_will),
                inflight: mqtt.then_some(self.inflight_count),
                queue_depth: mqtt.then_some(self.offline_queue_depth),
                subscription_count: Some(self.subscription_count),
                subscriptions,
                ..ConnectionFacts::default()
            },
        }
    }

    /// What the details tell beyond the list.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let is_amqp = self.is_amqp();
        let told = |row: &SubscriptionRow| Subscription {
            filter: row.filter.clone(),
            qos: row.qos,
            no_local: (!is_amqp).then_some(row.no_local),
            retain_as_published: (!is_amqp).then_some(row.retain_as_published),
            retain_handling: (!is_amqp).then_some(row.retain_handling),
            consumer_group: self.group(row),
            subscription_id: row.subscription_id,
        };
        self.subscriptions.iter().map(told).collect()
    }

    /// A real group: FluxMQ says the client's own id where there is none (2.3).
    fn group(&self, row: &SubscriptionRow) -> Option<String> {
        let told = row.consumer_group.clone();
        let told = told.filter(|group| !group.is_empty() && *group != self.client_id);
        let shared = || {
            let (group, _) = row.filter.strip_prefix("$share/")?.split_once('/')?;
            (!group.is_empty()).then(|| group.to_owned())
        };
        told.or_else(shared)
    }
}

/// The address in an id of AMQP 0.9.1: `amqp091:10.0.0.7:5123`, and since v0.50 `amqp091:[::1]:5123@17`.
fn address(client_id: &str) -> Option<(String, u16)> {
    let address = client_id.strip_prefix("amqp091:")?;
    let address = address
        .split_once('@')
        .map_or(address, |(address, _)| address);
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (!host.is_empty()).then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// FluxMQ's times have nanoseconds and the server's offset. One that cannot be read is unknown.
fn time(text: Option<&str>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text?, &Rfc3339).ok()
}

/// What the broker says of itself.
pub fn report(stats: Stats, cluster: Cluster) -> BrokerReport {
    let nodes = cluster.nodes.unwrap_or_default();
    BrokerReport {
        uptime_seconds: stats.uptime_seconds,
        connections: stats.connections.total,
        disconnections: stats.connections.disconnections,
        messages_received: stats.messages.received,
        messages_sent: stats.messages.sent,
        bytes_received: stats.bytes.received,
        bytes_sent: stats.bytes.sent,
        protocol_errors: stats.errors.protocol,
        nodes: nodes
            .into_iter()
            .map(|node| BrokerNode {
                id: node.id,
                address: node.address.filter(|address| !address.is_empty()),
                healthy: node.healthy,
                leader: node.leader,
                uptime_seconds: node.uptime_seconds,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: serde_json::Value) -> SessionRow {
        serde_json::from_value(value).unwrap()
    }

    /// The proxy contract, 2.3: an MQTT 5 session, as the server writes it.
    #[test]
    fn a_session_is_told_without_what_fluxmq_does_not_know() {
        let row = row(json!({
            "client_id": "tenant/a/client-1", "state": "connected", "connected": true, "protocol": "mqtt5", "version": 5,
            "clean_start": false, "expiry_interval": 300, "connected_at": "2026-08-21T10:00:00.123456789+02:00",
            "disconnected_at": "2026-08-21T09:59:00Z", "receive_maximum": 256, "max_packet_size": 0, "topic_alias_max": 10,
            "request_response": false, "request_problem": true, "has_will": true, "subscription_count": 3,
            "inflight_count": 2, "offline_queue_depth": 0,
            "subscriptions": [
                { "filter": "$share/g/t/#", "qos": 1, "no_local": false, "retain_as_published": false, "retain_handling": 0,
                  "consumer_group": "tenant/a/client-1" },
                { "filter": "a", "qos": 0, "no_local": true, "retain_as_published": true, "retain_handling": 2,
                  "consumer_group": "tenant/a/client-1" },
                { "filter": "b", "qos": 2, "no_local": false, "retain_as_published": false, "retain_handling": 0,
                  "consumer_group": "workers" },
            ],
        }));
        let subscriptions = row.subscriptions();
        let session = serde_json::to_value(row.session(Some("n1"), Some(subscriptions))).unwrap();
        assert_eq!(
            session,
            json!({
                "source_id": "tenant/a/client-1", "kind": "mqtt", "presence": "connected", "state": "connected",
                "client_id": "tenant/a/client-1", "protocol": "mqtt5", "node": "n1",
                "connected_at": "2026-08-21T10:00:00.123456789+02:00", "disconnected_at": "2026-08-21T09:59:00Z",
                "clean_start": false, "expiry_seconds": 300, "receive_maximum": 256, "topic_alias_max": 10, "has_will": true,
                "inflight": 2, "queue_depth": 0, "subscription_count": 3,
                "subscriptions": [
                    { "filter": "$share/g/t/#", "qos": 1, "no_local": false, "retain_as_published": false,
                      "retain_handling": 0, "consumer_group": "g" },
                    { "filter": "a", "qos": 0, "no_local": true, "retain_as_published": true, "retain_handling": 2 },
                    { "filter": "b", "qos": 2, "no_local": false, "retain_as_published": false, "retain_handling": 0,
                      "consumer_group": "workers" },
                ],
            })
        );
    }

    /// The proxy contract, 2.3: AMQP's mapping, whose zeros say nothing.
    #[test]
    fn of_an_amqp_connection_zeros_are_unknown() {
        let row = row(json!({
            "client_id": "amqp091:[::1]:5123@42", "connection_name": "orders", "state": "connected", "connected": true,
            "protocol": "amqp0.9.1", "version": 0, "clean_start": false, "expiry_interval": 0, "receive_maximum": 0,
            "max_packet_size": 0, "topic_alias_max": 0, "request_response": false, "request_problem": false,
            "has_will": false, "subscription_count": 1, "inflight_count": 0, "offline_queue_depth": 0,
            "subscriptions": [{ "filter": "orders.work", "qos": 1, "no_local": false, "retain_as_published": false,
                "retain_handling": 0 }],
        }));
        let subscriptions = row.subscriptions();
        let session = serde_json::to_value(row.session(None, Some(subscriptions))).unwrap();
        assert_eq!(
            session,
            json!({
                "source_id": "amqp091:[::1]:5123@42", "kind": "amqp", "label": "orders", "remote": "::1",
                "presence": "connected", "state": "connected", "client_id": "amqp091:[::1]:5123@42", "protocol": "amqp0.9.1",
                "port": 5123, "subscription_count": 1, "subscriptions": [{ "filter": "orders.work", "qos": 1 }],
            })
        );
    }

    #[test]
    fn ids_give_addresses_in_both_forms_and_nothing_where_there_is_none() {
        let found = |id| address(id).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(found("amqp091:127.0.0.1:48702").unwrap(), "127.0.0.1 48702");
        assert_eq!(
            found("amqp091:127.0.0.1:48702@7").unwrap(),
            "127.0.0.1 48702"
        );
        assert_eq!(found("amqp091:[fe80::1]:1@7").unwrap(), "fe80::1 1");
        for id in [
            "amqp091:",
            "amqp091:@",
            "amqp091:x",
            "amqp091::1",
            "127.0.0.1:1",
            "amqp091:h:99999",
        ] {
            assert_eq!(found(id), None, "{id}");
        }
    }

    /// The proxy contract, 2.3: states beyond the published two go with `connected`.
    #[test]
    fn presence_follows_connected_and_not_the_state() {
        for state in ["new", "connecting", "disconnecting", "unknown"] {
            let session = row(json!({ "client_id": "a", "state": state, "connected": false }));
            let facts = session.session(None, None).facts;
            assert_eq!(facts.presence, Presence::Disconnected);
            assert_eq!(facts.state.as_deref(), Some(state));
        }
    }
}
