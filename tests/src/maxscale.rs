//! A stand-in for MaxScale's REST API: answers as the proxy contract records it of each version (sections 1.2 to 1.6 and 4),
//! and wrongly where a test asks for that.

use serde_json::{Map, Value, json};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::stand_in::{Request, StandIn, announced, response};

/// Versions between which answers differ.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Version {
    V2_2,
    V2_4,
    V2_5,
    V6,
    V22_08,
    V23_08,
    V24_02,
}

impl Version {
    pub const ALL: [Self; 7] = [
        Self::V2_2,
        Self::V2_4,
        Self::V2_5,
        Self::V6,
        Self::V22_08,
        Self::V23_08,
        Self::V24_02,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::V2_2 => "2.2.21",
            Self::V2_4 => "2.4.19",
            Self::V2_5 => "2.5.29",
            Self::V6 => "6.4.16",
            Self::V22_08 => "22.08.16",
            Self::V23_08 => "23.08.9",
            Self::V24_02 => "24.02.5",
        }
    }
}

/// A client's session.
#[derive(Clone, Debug)]
pub struct SqlClient {
    pub id: u64,
    pub user: &'static str,
    pub address: &'static str,
    pub port: u16,
    pub service: &'static str,
    pub connected: OffsetDateTime,
    /// Absent while the client's socket is not polled.
    pub idle: Option<f64>,
    pub program: Option<&'static str>,
    /// Servers with the ids of the connections to them.
    pub servers: Vec<(&'static str, u64)>,
}

/// What is wrong with the next answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// The body ends before its announced end.
    BrokenOff,
    /// JSON that stops in the middle, announced as such.
    HalfJson,
    Html,
    /// A length that nobody would read.
    Huge,
    /// `data` holds something else than resources.
    WrongTypes,
    /// A page with a session less than `meta.total` asks for.
    ShortPage,
    ShuttingDown,
    Silence,
}

/// What happens to the sessions once a page was answered; is told the page's number.
pub type AfterPage = Box<dyn FnMut(&mut Vec<SqlClient>, usize) + Send>;

/// What a test may change while the stand-in runs.
pub struct Inside {
    pub version: Version,
    pub clients: Vec<SqlClient>,
    /// The zone that local times are told in.
    pub zone: UtcOffset,
    /// By how much the clock is behind that `connected` is told by.
    pub clock_behind: Duration,
    pub fault: Fault,
    /// The value of `Authorization` that is asked for.
    pub authorization: String,
    pub after_page: Option<AfterPage>,
    /// Paths and queries as they came.
    pub requests: Vec<String>,
}

/// A MaxScale that is none.
pub type MaxScale = StandIn<Inside>;

impl MaxScale {
    pub async fn start(version: Version, clients: Vec<SqlClient>) -> Self {
        let inside = Inside {
            version,
            clients,
            zone: UtcOffset::UTC,
            clock_behind: Duration::ZERO,
            fault: Fault::None,
            // admin:mariadb, as it is delivered.
            authorization: "Basic YWRtaW46bWFyaWFkYg==".to_owned(),
            after_page: None,
            requests: Vec::new(),
        };
        Self::serve(inside, Inside::answer).await
    }
}

impl Inside {
    /// The bytes of the answer, or none ever.
    fn answer(&mut self, request: &Request) -> Option<Vec<u8>> {
        let target = &request.target;
        self.requests.push(target.clone());
        if request.authorization.as_ref() != Some(&self.authorization) {
            return Some(errors(401, "Access denied"));
        }
        let url = reqwest::Url::parse(&format!("http://maxscale{target}")).expect("a URL");
        let query = |name: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned())
        };
        let path: Vec<&str> = url.path_segments().expect("a path").collect();
        let document = match path[..] {
            ["v1", "maxscale"] => self.about(),
            ["v1", "services"] => self.services(),
            ["v1", "sessions"] => return self.sessions(query),
            ["v1", "sessions", id] => {
                let found = self.clients.iter().find(|held| held.id.to_string() == id);
                match found {
                    Some(client) => json!({ "data": self.session(client) }),
                    None => return Some(response(404, "")),
                }
            }
            _ => return Some(response(404, "")),
        };
        Some(response(200, &document.to_string()))
    }

    fn about(&self) -> Value {
        json!({ "data": { "id": "maxscale", "type": "maxscale",
            "attributes": { "version": self.version.name(), "uptime": 77 } } })
    }

    fn services(&self) -> Value {
        let service = |name: &str, state: &str, protocol: &str| {
            let listener = json!({ "id": format!("{name}-Listener"), "type": "listeners",
                "attributes": { "parameters": { "port": 4006, "protocol": protocol } } });
            json!({ "id": name, "type": "services", "relationships": {}, "attributes": {
                "router": "readwritesplit", "state": state, "total_connections": 12, "connections": 2,
                "listeners": [listener] } })
        };
        let mariadb = if self.version < Version::V2_4 {
            "MySQLClient"
        } else {
            "MariaDBProtocol"
        };
        json!({ "data": [
            service("RW-Split-Router", "Started", mariadb),
            service("Read-Connection-Router", "Stopped", mariadb),
            service("Documents", "Started", "nosqlprotocol"),
        ] })
    }

    fn sessions(&mut self, query: impl Fn(&str) -> Option<String>) -> Option<Vec<u8>> {
        let mut data: Vec<Value> = (self.clients.iter())
            .map(|client| self.session(client))
            .collect();
        if self.version < Version::V2_4 {
            let row = json!({ "id": "1", "type": "sessions",
                "relationships": self.relationships("RW-Split-Router"),
                "attributes": { "state": "Listener Session", "connected": "Wed May 17 10:06:35 2017" } });
            data.insert(0, row);
        }
        let mut document = json!({ "links": { "self": "http://maxscale/v1/sessions/" } });
        let mut page = None;
        if self.version >= Version::V6
            && let Some(size) = query("page[size]").and_then(|size| size.parse::<usize>().ok())
        {
            let number = query("page[number]").and_then(|number| number.parse().ok());
            let number: usize = number.unwrap_or_default();
            document["meta"] = json!({ "total": data.len() });
            data = data.into_iter().skip(number * size).take(size).collect();
            page = Some(number);
        }
        if self.version >= Version::V2_5
            && let Some(fields) = query("fields[sessions]")
        {
            data.iter_mut().for_each(|row| select(row, &fields));
        }
        if self.fault == Fault::ShortPage {
            data.pop();
        }
        document["data"] = json!(data);
        let body = document.to_string();
        if let (Some(number), Some(mut after)) = (page, self.after_page.take()) {
            after(&mut self.clients, number);
            self.after_page = Some(after);
        }
        match self.fault {
            Fault::None | Fault::ShortPage => Some(response(200, &body)),
            Fault::BrokenOff => Some(announced(body.len() + 1_000, &body)),
            Fault::HalfJson => Some(response(200, &body[..body.len() / 2])),
            Fault::Html => Some(response(200, "<!DOCTYPE html><title>Sign in</title>")),
            Fault::Huge => Some(announced(1 << 40, &body)),
            Fault::WrongTypes => Some(response(200, r#"{"data":[{"id":7,"attributes":[]}]}"#)),
            Fault::ShuttingDown => Some(errors(503, "MaxScale is shutting down")),
            Fault::Silence => None,
        }
    }

    fn relationships(&self, service: &str) -> Value {
        let links = if self.version < Version::V2_5 {
            json!({ "self": "http://maxscale/v1/services/" })
        } else {
            json!({ "self": "http://maxscale/v1/sessions/1/relationships/services/",
                "related": "http://maxscale/v1/services/" })
        };
        json!({ "services": { "links": links, "data": [{ "id": service, "type": "services" }] } })
    }

    /// A session as the version tells it (proxy contract, 1.2).
    fn session(&self, client: &SqlClient) -> Value {
        let version = self.version;
        let mut told = Map::new();
        let mut tell = |name: &str, value: Value| told.insert(name.to_owned(), value);
        let state = if version < Version::V2_4 {
            "Session ready for routing"
        } else {
            "Session started"
        };
        tell("state", json!(state));
        tell("user", json!(client.user));
        let remote = if version < Version::V6 {
            format!("::ffff:{}", client.address)
        } else {
            client.address.to_owned()
        };
        tell("remote", json!(remote));
        tell(
            "connected",
            json!(self.connected(client.connected - self.clock_behind)),
        );
        if let Some(idle) = client.idle {
            tell("idle", json!(idle));
        }
        if version >= Version::V2_4 {
            tell("connections", self.connections(client));
            tell("queries", json!([]));
            tell("log", json!([]));
        }
        if version >= Version::V2_5 {
            tell("client", self.client(client));
        }
        if version == Version::V2_5 {
            tell("default_database", json!("shop"));
        }
        if version >= Version::V6 {
            tell("port", json!(client.port));
            tell("parameters", json!({ "log_info": false }));
        }
        if version == Version::V22_08 {
            tell("memory", json!({ "connection_buffers": 67_000 }));
        }
        if version >= Version::V23_08 {
            tell(
                "memory",
                json!({ "connection_buffers": { "total": 67_000 } }),
            );
            tell("io_activity", json!(3));
            tell("thread", json!(1));
        }
        if version >= Version::V24_02 {
            let alive = OffsetDateTime::now_utc() - client.connected;
            tell("seconds_alive", json!(alive.as_seconds_f64()));
        }
        json!({ "id": client.id.to_string(), "type": "sessions", "attributes": told,
            "relationships": self.relationships(client.service),
            "links": { "self": format!("http://maxscale/v1/sessions/{}", client.id) } })
    }

    fn connections(&self, client: &SqlClient) -> Value {
        let connection = |(server, id): &(&str, u64)| {
            if self.version < Version::V2_5 {
                json!({ "id": format!("0x{id:x}"), "server": server })
            } else {
                json!({ "connection_id": id, "server": server, "cipher": "TLS_AES_256_GCM_SHA384" })
            }
        };
        client.servers.iter().map(connection).collect()
    }

    fn client(&self, client: &SqlClient) -> Value {
        let mut told = json!({ "cipher": "" });
        if self.version >= Version::V24_02 {
            told["connection_attributes"] = match client.program {
                Some(program) => {
                    json!({ "_client_name": "libmariadb", "_pid": "3102", "program_name": program })
                }
                None => Value::Null,
            };
            told["sescmd_history_len"] = json!(2);
        }
        told
    }

    /// An HTTP date from 23.02 on, before that asctime's local time.
    fn connected(&self, at: OffsetDateTime) -> String {
        const ASCTIME: &[BorrowedFormatItem<'_>] = format_description!(
            "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
        );
        const HTTP: &[BorrowedFormatItem<'_>] = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let (at, shape) = if self.version < Version::V23_08 {
            (at.to_offset(self.zone), ASCTIME)
        } else {
            (at.to_offset(UtcOffset::UTC), HTTP)
        };
        at.format(shape).expect("a time")
    }
}

/// `fields[sessions]`: paths into attributes and relationships; an object left empty is removed whole.
fn select(row: &mut Value, fields: &str) {
    for part in ["attributes", "relationships"] {
        let held = row[part].take();
        let mut kept = json!({});
        for field in fields.split(',') {
            match field.split_once('/') {
                Some((outer, inner)) if held[outer].get(inner).is_some() => {
                    kept[outer][inner] = held[outer][inner].clone();
                }
                None if held.get(field).is_some() => kept[field] = held[field].clone(),
                _ => {}
            }
        }
        row[part] = kept;
        if row[part] == json!({})
            && let Some(row) = row.as_object_mut()
        {
            row.remove(part);
        }
    }
}

fn errors(status: u16, detail: &str) -> Vec<u8> {
    let body = json!({ "errors": [{ "detail": detail }] });
    response(status, &body.to_string())
}
