//! What MaxScale's resources mean, version by version. Pure.
//!
//! Invariant: what a version does not tell is absent; a time whose zone is unknown too.

use std::collections::{BTreeMap, HashMap};

use rollcall_model::ServiceKind;
use rollcall_model::connection::{MAX_BACKENDS, MAX_ID_BYTES};
use rollcall_model::ingest::{Backend, ConnectionFacts, ConnectionKind, ConnectionSession};
use serde::Deserialize;
use serde_json::Value;
use time::format_description::FormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

use crate::sources::{SeenService, Snapshot, bounds};

/// Sessions of MaxScale itself, and such as are no more, though they are listed.
const NO_CLIENTS: &[&str] = &[
    "Listener Session",
    "Stopped Listener Session",
    "Dummy Session",
    "Session creation failed",
    "Session to be freed",
    "Freed session",
    "Invalid State",
];
/// Bytes of a service's name that the cloud takes.
const MAX_SERVICE_BYTES: usize = 200;
/// How far times may be off before it is said.
const MAX_SKEW: Duration = Duration::minutes(7);
/// Nobody is idle for longer.
const MAX_IDLE_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

/// `GET /v1/sessions`.
#[derive(Debug, Deserialize)]
pub struct Listing {
    pub data: Vec<Session>,
    #[serde(default)]
    pub meta: Option<Meta>,
}

/// Where there are pages.
#[derive(Debug, Deserialize)]
pub struct Meta {
    #[serde(default)]
    pub total: Option<usize>,
}

/// `GET /v1/sessions/:id`, `GET /v1/maxscale`.
#[derive(Debug, Deserialize)]
pub struct One<T> {
    pub data: T,
}

/// `GET /v1/maxscale`.
#[derive(Debug, Deserialize)]
pub struct About {
    pub attributes: AboutAttributes,
}

#[derive(Debug, Deserialize)]
pub struct AboutAttributes {
    #[serde(default)]
    pub version: Option<String>,
}

/// A session as MaxScale tells it (proxy contract, 1.2).
#[derive(Debug, Deserialize)]
pub struct Session {
    pub id: String,
    attributes: Attributes,
    #[serde(default)]
    relationships: Relationships,
}

#[derive(Debug, Deserialize)]
struct Attributes {
    state: String,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    remote: Option<String>,
    /// From 6.
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    connected: Option<String>,
    #[serde(default)]
    idle: Option<f64>,
    /// From 24.02.
    #[serde(default)]
    seconds_alive: Option<f64>,
    /// Of 2.5 alone.
    #[serde(default)]
    default_database: Option<String>,
    /// From 2.3.
    #[serde(default)]
    connections: Option<Vec<Connection>>,
    #[serde(default)]
    client: Option<Client>,
}

/// From 2.5 it has `connection_id`; before, `id` is an address in MaxScale's memory.
#[derive(Debug, Deserialize)]
struct Connection {
    #[serde(default)]
    connection_id: Option<u64>,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    cipher: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Client {
    #[serde(default)]
    cipher: Option<String>,
    /// From 24.02.
    #[serde(default)]
    connection_attributes: Option<HashMap<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct Relationships {
    #[serde(default)]
    services: Option<Related>,
}

#[derive(Debug, Deserialize)]
struct Related {
    data: Vec<Name>,
}

#[derive(Debug, Deserialize)]
struct Name {
    id: String,
}

/// `GET /v1/services`.
#[derive(Debug, Deserialize)]
pub struct Services {
    data: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    id: String,
    attributes: ServiceAttributes,
}

#[derive(Debug, Deserialize)]
struct ServiceAttributes {
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    listeners: Option<Vec<Listener>>,
}

#[derive(Debug, Deserialize)]
struct Listener {
    #[serde(default)]
    attributes: Option<ListenerAttributes>,
}

#[derive(Debug, Deserialize)]
struct ListenerAttributes {
    #[serde(default)]
    parameters: HashMap<String, Value>,
}

/// What is put together of a service.
struct Seen {
    state: Option<String>,
    protocol: Option<String>,
    connections: Vec<ConnectionSession>,
}

/// A picture that is being put together.
pub struct Picture {
    services: BTreeMap<String, Seen>,
    utc_offset: Option<UtcOffset>,
    now: OffsetDateTime,
    /// Sessions whose time of connecting has no zone.
    without_zone: usize,
    unreadable_times: usize,
    /// By how much a time of connecting is wrong, as far as that shows.
    skew: Duration,
    left_out: usize,
    cut: usize,
}

impl Picture {
    pub fn new(services: Services, utc_offset: Option<UtcOffset>, now: OffsetDateTime) -> Self {
        let services = services.data.into_iter().map(|service| {
            let seen = Seen {
                protocol: protocol(service.attributes.listeners.as_deref().unwrap_or_default()),
                state: service.attributes.state,
                connections: Vec::new(),
            };
            (service.id, seen)
        });
        Self {
            services: services.collect(),
            utc_offset,
            now,
            without_zone: 0,
            unreadable_times: 0,
            skew: Duration::ZERO,
            left_out: 0,
            cut: 0,
        }
    }

    /// Takes a session, where it is a client's.
    pub fn add(&mut self, session: Session) {
        let told = session.attributes;
        if NO_CLIENTS.contains(&told.state.as_str()) {
            return;
        }
        let related = session.relationships.services;
        let service = related.and_then(|related| related.data.into_iter().next());
        let Some(service) = service else {
            self.left_out += 1;
            return;
        };
        let connected_at = (told.connected.as_deref()).and_then(|text| self.connected_at(text));
        if let (Some(at), Some(alive)) = (connected_at, told.seconds_alive.and_then(seconds)) {
            self.note_skew(at - (self.now - alive));
        }
        let backends = told
            .connections
            .map(|connections| self.backends(connections));
        let (cipher, label) = told.client.map_or((None, None), |client| {
            let label = client.connection_attributes.and_then(|held| label(&held));
            (client.cipher.and_then(filled), label)
        });
        let seen = self.services.entry(service.id).or_insert_with(|| Seen {
            state: None,
            protocol: protocol(&[]),
            connections: Vec::new(),
        });
        // Exactly nothing stands for a query that runs.
        let idle = told.idle.filter(|idle| *idle > 0.0).and_then(seconds);
        let session = bounds::fit(ConnectionSession {
            source_id: session.id,
            kind: ConnectionKind::Proxy,
            label,
            user: told.user.and_then(filled),
            remote: told.remote.and_then(filled).map(without_mapping),
            facts: ConnectionFacts {
                state: Some(told.state),
                protocol: seen.protocol.clone(),
                port: told.port.filter(|port| *port != 0),
                database: told.default_database.and_then(filled),
                cipher,
                connected_at,
                idle_since: idle.map(|idle| self.now - idle),
                backends,
                ..ConnectionFacts::default()
            },
        });
        match session {
            Some(session) => seen.connections.push(session),
            None => self.left_out += 1,
        }
    }

    fn backends(&mut self, mut connections: Vec<Connection>) -> Vec<Backend> {
        if connections.len() > MAX_BACKENDS {
            connections.truncate(MAX_BACKENDS);
            self.cut += 1;
        }
        let known = connections.into_iter().filter_map(|held| {
            Some(Backend {
                server: held.server.filter(|server| bounds::is_id(server))?,
                id: held.connection_id.map(|id| id.to_string()),
                state: None,
                cipher: held.cipher.and_then(filled),
            })
        });
        let mut known: Vec<Backend> = known.collect();
        // MaxScale promises no order; one that changes by itself would be news.
        known.sort_by(|a, b| (&a.server, &a.id).cmp(&(&b.server, &b.id)));
        known
    }

    /// `Sat, 21 Nov 2026 10:33:59 GMT` from 23.02 on; before, `Sat Nov 21 10:33:59 2026` where the server is.
    fn connected_at(&mut self, text: &str) -> Option<OffsetDateTime> {
        const HTTP: &[FormatItem<'_>] = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        const ASCTIME: &[FormatItem<'_>] = format_description!(
            "[weekday repr:short] [month repr:short] [day padding:none] [hour]:[minute]:[second] [year]"
        );
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Ok(at) = PrimitiveDateTime::parse(&text, HTTP) {
            return Some(at.assume_utc());
        }
        let Ok(local) = PrimitiveDateTime::parse(&text, ASCTIME) else {
            self.unreadable_times += 1;
            return None;
        };
        let Some(offset) = self.utc_offset else {
            self.without_zone += 1;
            return None;
        };
        let at = local.assume_offset(offset).to_offset(UtcOffset::UTC);
        if at > self.now {
            self.note_skew(at - self.now);
        }
        Some(at)
    }

    fn note_skew(&mut self, skew: Duration) {
        if skew.abs() > self.skew.abs() {
            self.skew = skew;
        }
    }

    /// All of it.
    pub fn snapshot(self, prefix: &str, version: Option<String>) -> Snapshot {
        let mut trouble = Vec::new();
        if self.without_zone > 0 {
            trouble.push(
                "this version tells local times without their zone, so it is unknown when clients connected: set `utc_offset`"
                    .to_owned(),
            );
        }
        if self.unreadable_times > 0 {
            trouble.push(format!(
                "of {} sessions it is unknown when they connected: `connected` is neither an HTTP date nor asctime's",
                self.unreadable_times
            ));
        }
        if self.skew.abs() > MAX_SKEW {
            trouble.push(format!(
                "clients connected {} s off from when they can have: `utc_offset` is wrong, or the clocks are",
                self.skew.whole_seconds()
            ));
        }
        if self.left_out > 0 {
            trouble.push(format!(
                "{} sessions are left out: they name no service, or have an id of more than {MAX_ID_BYTES} bytes",
                self.left_out
            ));
        }
        if self.cut > 0 {
            trouble.push(format!(
                "of {} sessions, {MAX_BACKENDS} connections to servers are listed, and not the others",
                self.cut
            ));
        }
        let found = self.services.len();
        let services: Vec<SeenService> = (self.services.into_iter())
            .filter_map(|(id, seen)| {
                let name = format!("{prefix}{id}");
                let is_fine = (1..=MAX_SERVICE_BYTES).contains(&name.len())
                    && !name.chars().any(char::is_control);
                is_fine.then_some(SeenService {
                    name,
                    kind: ServiceKind::Proxy,
                    state: seen.state,
                    broker: None,
                    connections: seen.connections,
                })
            })
            .collect();
        if services.len() < found {
            trouble.push(format!(
                "{} services are left out: their names have more than {MAX_SERVICE_BYTES} bytes, or control characters",
                found - services.len()
            ));
        }
        Snapshot {
            version,
            services,
            trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
        }
    }
}

/// What a service's clients speak: unknown where its listeners differ.
fn protocol(listeners: &[Listener]) -> Option<String> {
    let mut spoken = listeners.iter().filter_map(|listener| {
        let parameters = &listener.attributes.as_ref()?.parameters;
        let module = parameters.get("protocol")?.as_str()?.to_lowercase();
        Some(match module.as_str() {
            module if module.starts_with("maria") || module.starts_with("mysql") => {
                "mariadb".to_owned()
            }
            module if module.starts_with("postgres") => "postgres".to_owned(),
            module => module.trim_end_matches("protocol").to_owned(),
        })
    });
    let first = spoken.next().unwrap_or_else(|| "mariadb".to_owned());
    spoken.all(|other| other == first).then_some(first)
}

fn label(attributes: &HashMap<String, Value>) -> Option<String> {
    let names = ["program_name", "_client_name"];
    let mut found = names
        .iter()
        .filter_map(|name| attributes.get(*name)?.as_str());
    found.find_map(|name| filled(name.to_owned()))
}

fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// IPv4 as IPv4: older versions say `::ffff:10.0.0.7`.
fn without_mapping(address: String) -> String {
    match address.strip_prefix("::ffff:") {
        Some(plain) if plain.parse::<std::net::Ipv4Addr>().is_ok() => plain.to_owned(),
        _ => address,
    }
}

fn seconds(number: f64) -> Option<Duration> {
    (0.0..MAX_IDLE_SECONDS)
        .contains(&number)
        .then(|| Duration::seconds_f64(number))
}
