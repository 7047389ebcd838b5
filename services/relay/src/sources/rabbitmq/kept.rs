//! What queues, bindings and consumers tell of clients (proxy contract, 3.2). Pure: rows are folded in as they come, so that what
//! tells nothing of a client is not held.
//!
//! What RabbitMQ loses of a filter is lost here too: `.` comes back as `/`, a `*` in a level as `+`, QoS 2 as 1.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rollcall_model::ingest::Subscription;

use super::rows::{BindingRow, ConsumerRow, QueueRow};

/// How the MQTT plugin names a client's queues: this, the client's id, and `qos0` or `qos1`.
const PREFIX: &str = "mqtt-subscription-";
const SUFFIX_BYTES: usize = 4;

/// What a broker keeps for its clients.
#[derive(Debug, Default)]
pub struct Kept {
    /// By vhost, then by MQTT client id.
    pub clients: BTreeMap<String, HashMap<String, Client>>,
    /// The queues that an AMQP connection consumes, by the connection's vhost and name.
    pub consumed: HashMap<(String, String), BTreeSet<String>>,
}

/// What the broker keeps for an MQTT client.
#[derive(Debug, Default)]
pub struct Client {
    /// The queue of what was subscribed to at QoS 1.
    pub store: Option<Store>,
    /// It has a queue for QoS 0, which goes when the client does.
    pub has_qos0: bool,
    /// The highest QoS by filter, in order; most clients have few.
    filters: Vec<(Box<str>, u8)>,
}

#[derive(Debug)]
pub struct Store {
    /// It goes when the client does.
    pub is_clean: bool,
    pub expires_ms: Option<u64>,
    /// Late statistics; not zero where absent.
    pub consumers: Option<u64>,
    pub ready: Option<u64>,
    pub unacknowledged: Option<u64>,
}

/// The client's id and the QoS, by the queue's name. The id is any text: it may end in `qos1` itself.
pub fn parse_queue(name: &str) -> Option<(&str, u8)> {
    let rest = name.strip_prefix(PREFIX)?;
    let at = rest.len().checked_sub(SUFFIX_BYTES)?;
    let (id, suffix) = (rest.get(..at)?, rest.get(at..)?);
    match suffix {
        "qos0" => Some((id, 0)),
        "qos1" => Some((id, 1)),
        _ => None,
    }
}

/// An MQTT filter, from how the topic exchange has it.
pub fn filter(routing_key: &str) -> String {
    let level = |c| match c {
        '.' => '/',
        '*' => '+',
        other => other,
    };
    routing_key.chars().map(level).collect()
}

impl Kept {
    fn client(&mut self, vhost: &str, id: &str) -> &mut Client {
        if !self.clients.contains_key(vhost) {
            self.clients.insert(vhost.to_owned(), HashMap::new());
        }
        let clients = self.clients.get_mut(vhost).expect("it was just made");
        clients.entry(id.to_owned()).or_default()
    }

    pub fn add_queue(&mut self, vhost: &str, row: &QueueRow) {
        let Some((id, qos)) = parse_queue(&row.name) else {
            return;
        };
        let client = self.client(vhost, id);
        if qos == 0 {
            client.has_qos0 = true;
            return;
        }
        // Since 3.12 the queue of a clean session is exclusive; before, it deletes itself.
        let is_clean = row.auto_delete == Some(true) || row.exclusive == Some(true);
        client.store = Some(Store {
            is_clean: is_clean || row.durable == Some(false),
            expires_ms: row.arguments.as_ref().and_then(|held| held.expires),
            consumers: row.consumers,
            ready: row.messages_ready,
            unacknowledged: row.messages_unacknowledged,
        });
    }

    /// A binding of the MQTT exchange.
    pub fn add_binding(&mut self, vhost: &str, row: &BindingRow) {
        let Some((id, qos)) = parse_queue(&row.destination) else {
            return;
        };
        if row.destination_type != "queue" {
            return;
        }
        let filters = &mut self.client(vhost, id).filters;
        let filter = filter(&row.routing_key);
        match filters.binary_search_by(|(held, _)| (**held).cmp(&filter)) {
            Ok(at) => filters[at].1 = qos.max(filters[at].1),
            Err(at) => {
                filters.reserve_exact(usize::from(filters.is_empty()));
                filters.insert(at, (filter.into(), qos));
            }
        }
    }

    /// A consumer of an AMQP connection. Those of MQTT say nothing that the queues do not.
    pub fn add_consumer(&mut self, row: ConsumerRow) {
        let connection = row.channel_details.and_then(|held| held.connection_name);
        if let Some(connection) = connection
            && parse_queue(&row.queue.name).is_none()
        {
            let of = (row.queue.vhost, connection);
            self.consumed.entry(of).or_default().insert(row.queue.name);
        }
    }
}

impl Client {
    pub fn subscriptions(&self) -> Vec<Subscription> {
        let held = self.filters.iter();
        held.map(|(filter, qos)| subscription(filter.to_string(), *qos))
            .collect()
    }
}

/// A subscription of which no more is known.
pub fn subscription(filter: String, qos: u8) -> Subscription {
    Subscription {
        filter,
        qos,
        no_local: None,
        retain_as_published: None,
        retain_handling: None,
        consumer_group: None,
        subscription_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy contract, 3.2: ids that were observed.
    #[test]
    fn a_queues_name_gives_the_id_whatever_the_id_holds() {
        for (name, expected) in [
            (
                "mqtt-subscription-dev-offlineqos1",
                Some(("dev-offline", 1)),
            ),
            (
                "mqtt-subscription-dev/a live qos1qos1",
                Some(("dev/a live qos1", 1)),
            ),
            ("mqtt-subscription-qos1qos0", Some(("qos1", 0))),
            ("mqtt-subscription-grün/éqos1", Some(("grün/é", 1))),
            (
                "mqtt-subscription-mqtt-subscription-xqos1",
                Some(("mqtt-subscription-x", 1)),
            ),
            ("mqtt-subscription-qos1", Some(("", 1))),
            ("mqtt-subscription-", None),
            ("mqtt-subscription-éé", None),
            ("mqtt-subscription-aqos2", None),
            ("amqp-subscription-aqos1", None),
            ("orders.work", None),
        ] {
            assert_eq!(parse_queue(name), expected, "{name}");
        }
    }

    /// The proxy contract, 3.2: observed, with its losses.
    #[test]
    fn a_routing_key_gives_the_filter_with_what_the_broker_loses() {
        for (key, expected) in [
            ("devices.*.events", "devices/+/events"),
            (".lead.ing.", "/lead/ing/"),
            ("a.b.c", "a/b/c"),
            ("s*t", "s+t"),
            ("$share.g.t", "$share/g/t"),
            ("#", "#"),
        ] {
            assert_eq!(filter(key), expected);
        }
    }

    #[test]
    fn a_filter_in_both_queues_counts_once_with_the_higher_qos() {
        let mut kept = Kept::default();
        for (queue, key) in [("aqos1", "t.*"), ("aqos0", "t.*"), ("aqos0", "only0")] {
            let row = BindingRow {
                destination: format!("{PREFIX}{queue}"),
                destination_type: "queue".to_owned(),
                routing_key: key.to_owned(),
            };
            kept.add_binding("/", &row);
        }
        let held = kept.clients["/"]["a"].subscriptions();
        let listed: Vec<_> = held.iter().map(|held| (&*held.filter, held.qos)).collect();
        assert_eq!(listed, [("only0", 0), ("t/+", 1)]);
    }
}
