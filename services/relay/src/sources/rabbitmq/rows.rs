//! What RabbitMQ's management API answers, as far as it is looked at. Any member may be missing, or be something else: statistics
//! come late, and empty lists of Erlang's are told as `[]`, `{}` or `""`.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Asked for by name: among all members of a connection one stands twice (`client_properties`).
pub const CONNECTION_COLUMNS: &str = "name,protocol,state,connected_at,user,vhost,node,peer_host,peer_port,\
     variable_map.client_id,user_provided_name,ssl_cipher";
pub const QUEUE_COLUMNS: &str = "name,durable,auto_delete,exclusive,arguments.x-expires,consumers,messages_ready,\
     messages_unacknowledged";
pub const BINDING_COLUMNS: &str = "destination,destination_type,routing_key";
pub const CONSUMER_COLUMNS: &str = "queue.name,queue.vhost,channel_details.connection_name";

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub total_count: usize,
    pub page_count: usize,
    pub items: Vec<T>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct ConnectionRow {
    pub name: String,
    #[serde(default, deserialize_with = "loose")]
    pub protocol: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub state: Option<String>,
    /// In ms since 1970.
    #[serde(default, deserialize_with = "loose")]
    pub connected_at: Option<i64>,
    #[serde(default, deserialize_with = "loose")]
    pub user: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub vhost: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub node: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub peer_host: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub peer_port: Option<u16>,
    #[serde(default, deserialize_with = "loose")]
    pub variable_map: Option<Variables>,
    #[serde(default, deserialize_with = "loose")]
    pub user_provided_name: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub ssl_cipher: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Variables {
    #[serde(default, deserialize_with = "loose")]
    pub client_id: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct QueueRow {
    pub name: String,
    #[serde(default, deserialize_with = "loose")]
    pub auto_delete: Option<bool>,
    #[serde(default, deserialize_with = "loose")]
    pub exclusive: Option<bool>,
    #[serde(default, deserialize_with = "loose")]
    pub durable: Option<bool>,
    #[serde(default, deserialize_with = "loose")]
    pub arguments: Option<Arguments>,
    #[serde(default, deserialize_with = "loose")]
    pub consumers: Option<u64>,
    #[serde(default, deserialize_with = "loose")]
    pub messages_ready: Option<u64>,
    #[serde(default, deserialize_with = "loose")]
    pub messages_unacknowledged: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Arguments {
    /// In ms.
    #[serde(default, rename = "x-expires", deserialize_with = "loose")]
    pub expires: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct BindingRow {
    pub destination: String,
    #[serde(default)]
    pub destination_type: String,
    pub routing_key: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ConsumerRow {
    pub queue: QueueName,
    #[serde(default, deserialize_with = "loose")]
    pub channel_details: Option<ChannelDetails>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct QueueName {
    pub name: String,
    #[serde(default)]
    pub vhost: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ChannelDetails {
    #[serde(default, deserialize_with = "loose")]
    pub connection_name: Option<String>,
}

/// Who asks, by `/api/whoami`.
#[derive(Debug, Deserialize)]
pub struct Whoami {
    pub name: String,
    /// A list since 3.8, `administrator,monitoring` before.
    pub tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Tags {
    Listed(Vec<String>),
    Joined(String),
}

impl Tags {
    pub fn has(&self, wanted: &[&str]) -> bool {
        match self {
            Self::Listed(tags) => tags.iter().any(|tag| wanted.contains(&tag.as_str())),
            Self::Joined(tags) => tags.split(',').any(|tag| wanted.contains(&tag.trim())),
        }
    }
}

#[derive(Debug, Deserialize)]
pub struct VhostRow {
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
pub struct Overview {
    #[serde(default, deserialize_with = "loose")]
    pub rabbitmq_version: Option<String>,
    #[serde(default, deserialize_with = "loose")]
    pub node: Option<String>,
    #[serde(default)]
    pub disable_stats: bool,
    #[serde(default, deserialize_with = "loose")]
    pub message_stats: Option<MessageStats>,
    #[serde(default, deserialize_with = "loose")]
    pub churn_rates: Option<ChurnRates>,
}

#[derive(Debug, Default, Deserialize)]
pub struct MessageStats {
    #[serde(default, deserialize_with = "loose")]
    pub publish: Option<u64>,
    #[serde(default, deserialize_with = "loose")]
    pub deliver_get: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
pub struct ChurnRates {
    #[serde(default, deserialize_with = "loose")]
    pub connection_created: Option<u64>,
    #[serde(default, deserialize_with = "loose")]
    pub connection_closed: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub struct NodeRow {
    pub name: String,
    #[serde(default)]
    pub running: bool,
    /// In ms.
    #[serde(default, deserialize_with = "loose")]
    pub uptime: Option<u64>,
}

/// The value where it is what is looked for, and nothing where it is not.
fn loose<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Loose<T> {
        Is(T),
        IsNot(IgnoredAny),
    }
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Is(value) => Some(value),
        Loose::IsNot(IgnoredAny) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy contract, 3.2: a captured row, with the member that stands twice as 3.1 says.
    #[test]
    fn a_row_with_client_properties_twice_is_read() {
        let row: ConnectionRow = serde_json::from_str(
            r#"{"name":"127.0.0.1:45747 -> 127.0.0.1:1883","protocol":"MQTT 3.1.1","type":"direct","state":"running",
            "connected_at":1795216492461,"user":"guest","vhost":"/","node":"rabbit@localhost","peer_host":"127.0.0.1",
            "peer_port":45747,"port":1883,"channels":1,"client_properties":{},"variable_map":{"client_id":"dev/a live"},
            "client_properties":{"client_id":"dev/a live"}}"#,
        )
        .unwrap();
        assert_eq!(row.variable_map.unwrap().client_id.unwrap(), "dev/a live");
        assert_eq!(row.peer_port, Some(45747));
    }

    #[test]
    fn what_is_not_as_expected_is_unknown_and_spoils_nothing_else() {
        let row: QueueRow = serde_json::from_str(
            r#"{"name":"q","durable":true,"arguments":[],"consumers":"","messages_ready":-1,"messages_unacknowledged":null}"#,
        )
        .unwrap();
        assert_eq!(row.durable, Some(true));
        assert!(
            row.arguments
                .is_none_or(|arguments| arguments.expires.is_none())
        );
        assert_eq!(row.consumers, None);
        assert_eq!(row.messages_ready, None);
        assert_eq!(row.messages_unacknowledged, None);
    }

    #[test]
    fn tags_are_a_list_or_a_text() {
        let tags = |json| serde_json::from_str::<Tags>(json).unwrap();
        assert!(tags(r#"["management","monitoring"]"#).has(&["monitoring"]));
        assert!(tags(r#""management, monitoring""#).has(&["monitoring"]));
        assert!(!tags(r#"["management"]"#).has(&["administrator", "monitoring"]));
        assert!(!tags("[]").has(&["administrator"]));
    }
}
