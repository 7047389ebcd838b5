//! Sessions, out of what the broker told (proxy contract, 3.2). Pure.
//!
//! Invariant: what the broker does not know is absent. Where its lists contradict each other, because their statistics are late,
//! the session is doubtful, and `memory` decides.

use std::collections::{HashMap, HashSet};

use rollcall_model::ingest::{ConnectionFacts, ConnectionKind, ConnectionSession, Presence};
use time::OffsetDateTime;

use super::kept::{Client, Kept, Store, subscription};
use super::rows::ConnectionRow;
use crate::sources::bounds;

/// Which connections are looked at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// This vhost alone; all where absent.
    pub vhost: Option<String>,
    /// Those of other protocols too.
    pub other_protocols: bool,
}

/// Everything that the broker told, as sessions.
#[derive(Debug, Default)]
pub struct Seen {
    pub sessions: Vec<ConnectionSession>,
    /// Sessions of whom it cannot be said yet how they are, by id; with what they are if it stays so, and gone where absent.
    pub doubtful: HashMap<String, Option<ConnectionSession>>,
    pub notes: Notes,
}

/// What the picture lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Ids that the cloud cannot hold.
    pub unfit: usize,
    /// Connections that the broker knows nothing of but that they are there.
    pub nameless: usize,
    /// Sessions whose id another has.
    pub doubles: usize,
    /// Connections of protocols that are not watched; not a lack.
    pub others: usize,
}

impl Notes {
    /// In words; nothing where nothing is lacking.
    pub fn trouble(&self) -> Option<String> {
        let lacks = [
            (
                self.unfit,
                "with an id that is empty, longer than 1,000 bytes, or holds U+0000",
            ),
            (
                self.nameless,
                "of which the broker tells neither protocol nor client yet",
            ),
            (self.doubles, "with the id of another session"),
        ];
        let lacks = lacks.iter().filter(|(count, _)| *count > 0);
        let said: Vec<_> = lacks
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!said.is_empty()).then(|| format!("sessions that are left out: {}", said.join("; ")))
    }
}

/// One picture in the making.
struct Picture<'a> {
    scope: &'a Scope,
    kept: Kept,
    seen: Seen,
    taken: HashSet<String>,
}

/// Puts connections, and what is kept for clients, together.
pub fn picture(
    scope: &Scope,
    connections: impl ExactSizeIterator<Item = Box<ConnectionRow>>,
    kept: Kept,
) -> Seen {
    let mut picture = Picture {
        scope,
        kept,
        seen: Seen::default(),
        taken: HashSet::new(),
    };
    // Growing would have it in memory twice.
    picture.seen.sessions.reserve_exact(connections.len());
    let mut by_client: HashMap<(String, String), Box<ConnectionRow>> = HashMap::new();
    let mut others = Vec::new();
    for mut row in connections {
        if row.state.as_deref() == Some("closed") {
            continue;
        }
        let (Some(vhost), Some(protocol)) = (&row.vhost, &row.protocol) else {
            picture.seen.notes.nameless += 1;
            continue;
        };
        if scope.vhost.as_ref().is_some_and(|watched| watched != vhost) {
            continue;
        }
        if mqtt_version(protocol).is_none() {
            others.push(*row);
            continue;
        }
        let vhost = vhost.clone();
        let Some(id) = row.variable_map.take().and_then(|held| held.client_id) else {
            picture.seen.notes.nameless += 1;
            continue;
        };
        // While one connection takes over from another both are listed: the later one is the client's.
        let later = by_client.get(&(vhost.clone(), id.clone()));
        if later.is_none_or(|held| held.connected_at <= row.connected_at) {
            by_client.insert((vhost, id), row);
        }
    }
    for ((vhost, id), row) in by_client {
        picture.add_mqtt(&vhost, id, *row);
    }
    picture.add_kept();
    picture.add_others(others);
    picture.seen
}

impl Picture<'_> {
    fn push(&mut self, session: ConnectionSession) {
        match bounds::fit(session) {
            None => self.seen.notes.unfit += 1,
            Some(session) if !self.taken.insert(session.source_id.clone()) => {
                self.seen.notes.doubles += 1;
            }
            Some(session) => self.seen.sessions.push(session),
        }
    }

    /// A name at the source: with the vhost in front, where several are watched and it is not the usual one.
    fn source_id(&self, vhost: &str, client_id: &str) -> String {
        if self.scope.vhost.is_some() || vhost == "/" {
            client_id.to_owned()
        } else {
            format!("{vhost}/{client_id}")
        }
    }

    fn add_mqtt(&mut self, vhost: &str, id: String, row: ConnectionRow) {
        let clients = self.kept.clients.get_mut(vhost);
        let client = clients.and_then(|clients| clients.remove(&id));
        let client = client.unwrap_or_default();
        let source_id = self.source_id(vhost, &id);
        let protocol = row.protocol.as_deref().and_then(mqtt_version);
        let mut session = connected(source_id, ConnectionKind::Mqtt, id, row);
        session.facts.protocol = protocol.flatten().map(str::to_owned);
        session.facts.subscriptions = Some(client.subscriptions());
        if let Some(store) = &client.store {
            tell_store(&mut session.facts, store);
        }
        self.push(session);
    }

    /// Clients that have queues and no connection.
    fn add_kept(&mut self) {
        for (vhost, clients) in std::mem::take(&mut self.kept.clients) {
            for (id, client) in clients {
                let source_id = self.source_id(&vhost, &id);
                let session = kept_for(source_id.clone(), &vhost, id, &client);
                let is_sure = client.store.is_some_and(|store| store.consumers == Some(0));
                match session {
                    Some(session) if is_sure => self.push(session),
                    // Its statistics say that the client is there, or nothing yet.
                    session => {
                        let session = session.and_then(bounds::fit);
                        self.seen.doubtful.insert(source_id, session);
                    }
                }
            }
        }
        let taken = &self.taken;
        self.seen.doubtful.retain(|id, _| !taken.contains(id));
    }

    /// Connections that are their own session: AMQP's, and those of other protocols where they are wanted.
    fn add_others(&mut self, rows: Vec<ConnectionRow>) {
        let mut nodes: HashMap<String, HashSet<Option<String>>> = HashMap::new();
        for row in &rows {
            if let Some(id) = address_id(row) {
                nodes.entry(id).or_default().insert(row.node.clone());
            }
        }
        for row in rows {
            let is_amqp = row.protocol.as_deref() == Some("AMQP 0-9-1");
            if !is_amqp && !self.scope.other_protocols {
                self.seen.notes.others += 1;
                continue;
            }
            let Some(mut id) = address_id(&row) else {
                self.seen.notes.nameless += 1;
                continue;
            };
            if let Some(node) = &row.node
                && nodes.get(&id).is_some_and(|nodes| nodes.len() > 1)
            {
                id = format!("{id}@{node}");
            }
            let vhost = row.vhost.clone().unwrap_or_default();
            let consumed = self
                .kept
                .consumed
                .remove(&(vhost.clone(), row.name.clone()));
            // The first statistics bring the state, and the consumers about then.
            let knows_consumers = is_amqp && (row.state.is_some() || consumed.is_some());
            let source_id = self.source_id(&vhost, &id);
            let mut session = connected(source_id, ConnectionKind::Amqp, id, row);
            let protocol = if is_amqp { "amqp0.9.1" } else { "unknown" };
            session.facts.protocol = Some(protocol.to_owned());
            session.facts.subscriptions = knows_consumers.then(|| {
                let queues = consumed.unwrap_or_default().into_iter();
                queues.map(|queue| subscription(queue, 1)).collect()
            });
            self.push(session);
        }
    }
}

fn connected(
    source_id: String,
    kind: ConnectionKind,
    client_id: String,
    row: ConnectionRow,
) -> ConnectionSession {
    let connected_at = row
        .connected_at
        .and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok());
    ConnectionSession {
        source_id,
        kind,
        label: row.user_provided_name,
        user: row.user,
        remote: row.peer_host,
        facts: ConnectionFacts {
            presence: Presence::Connected,
            state: row.state,
            client_id: Some(client_id),
            vhost: row.vhost,
            node: row.node,
            port: row.peer_port,
            cipher: row.ssl_cipher,
            connected_at,
            ..ConnectionFacts::default()
        },
    }
}

/// A session that waits for its client; nothing where the broker keeps none once the client is gone.
fn kept_for(
    source_id: String,
    vhost: &str,
    client_id: String,
    client: &Client,
) -> Option<ConnectionSession> {
    let store = client.store.as_ref().filter(|store| !store.is_clean)?;
    let mut facts = ConnectionFacts {
        presence: Presence::Disconnected,
        client_id: Some(client_id),
        vhost: Some(vhost.to_owned()),
        subscriptions: Some(client.subscriptions()),
        ..ConnectionFacts::default()
    };
    tell_store(&mut facts, store);
    Some(ConnectionSession {
        source_id,
        kind: ConnectionKind::Mqtt,
        label: None,
        user: None,
        remote: None,
        facts,
    })
}

fn tell_store(facts: &mut ConnectionFacts, store: &Store) {
    facts.clean_start = Some(store.is_clean);
    facts.expiry_seconds = if store.is_clean {
        Some(0)
    } else {
        let seconds = store.expires_ms.map(|ms| ms / 1_000);
        seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
    };
    facts.inflight = store.unacknowledged;
    facts.queue_depth = store.ready;
}

/// Of an MQTT connection the version, where it is one that is known.
fn mqtt_version(protocol: &str) -> Option<Option<&'static str>> {
    let protocol = protocol.strip_prefix("Web ").unwrap_or(protocol);
    let version = protocol.strip_prefix("MQTT ")?;
    Some(match version {
        "3.1.0" | "3.1" => Some("mqtt3.1"),
        "3.1.1" => Some("mqtt3.1.1"),
        "5.0" | "5" => Some("mqtt5"),
        _ => None,
    })
}

/// `amqp091:127.0.0.1:48702`, `stomp:[::1]:61613`.
fn address_id(row: &ConnectionRow) -> Option<String> {
    let (host, port) = (row.peer_host.as_deref()?, row.peer_port?);
    let protocol = row.protocol.as_deref()?;
    let scheme = match protocol {
        "AMQP 0-9-1" => "amqp091".to_owned(),
        _ => protocol.split(' ').next()?.to_lowercase(),
    };
    Some(if host.contains(':') {
        format!("{scheme}:[{host}]:{port}")
    } else {
        format!("{scheme}:{host}:{port}")
    })
}
