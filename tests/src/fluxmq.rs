//! A stand-in for FluxMQ's admin API: answers as the proxy contract says that its source does (sections 2.1 to 2.4), and wrongly
//! where a test asks for that.

use serde_json::{Map, Value, json};

use crate::Fault;
use crate::stand_in::{Request, StandIn, announced, response};

/// What a test may change while the stand-in runs.
pub struct FluxInside {
    /// The sessions as the details show them.
    pub sessions: Vec<Value>,
    /// Whether there is `/api/v1/overview`.
    pub has_overview: bool,
    /// The value of `Authorization` that is asked for; FluxMQ itself asks nobody.
    pub authorization: Option<String>,
    pub fault: Fault,
    /// That fault is the details' alone.
    pub only_details: bool,
    /// The token is told as it is not: always the same.
    pub stuck_token: bool,
    /// Requests' targets as they came.
    pub requests: Vec<String>,
}

/// A FluxMQ that is none.
pub type FluxMq = StandIn<FluxInside>;

impl FluxMq {
    pub async fn start(sessions: Vec<Value>) -> Self {
        let inside = FluxInside {
            sessions,
            has_overview: true,
            authorization: None,
            fault: Fault::None,
            only_details: false,
            stuck_token: false,
            requests: Vec::new(),
        };
        Self::serve(inside, FluxInside::answer).await
    }

    /// Requests since this was asked last, of sessions' details alone.
    pub fn details_asked(&self) -> Vec<String> {
        let requests = std::mem::take(&mut self.inside().requests);
        let details = requests.into_iter().filter_map(|target| {
            let id = target.strip_prefix("/api/v1/sessions/")?;
            Some(id.to_owned())
        });
        let mut details: Vec<_> = details.collect();
        details.sort();
        details
    }
}

/// A session of MQTT 5, as FluxMQ writes it (2.3); `changed` is what differs.
pub fn flux_session(client_id: &str, filters: &[&str], changed: &Value) -> Value {
    let subscription = |filter: &&str| {
        json!({ "filter": filter, "qos": 1, "no_local": false, "retain_as_published": false, "retain_handling": 0,
            "consumer_group": client_id })
    };
    let subscriptions: Vec<_> = filters.iter().map(subscription).collect();
    let mut row = json!({
        "client_id": client_id, "state": "connected", "connected": true, "protocol": "mqtt5", "version": 5,
        "clean_start": false, "expiry_interval": 300, "connected_at": "2026-11-21T09:00:00.5Z", "receive_maximum": 256,
        "max_packet_size": 0, "topic_alias_max": 10, "request_response": false, "request_problem": true, "has_will": false,
        "subscription_count": filters.len(), "inflight_count": 0, "offline_queue_depth": 0,
    });
    if !subscriptions.is_empty() {
        row["subscriptions"] = json!(subscriptions);
    }
    for (name, value) in changed.as_object().expect("an object") {
        row[name] = value.clone();
    }
    row
}

impl FluxInside {
    /// The bytes of the answer, or none ever.
    fn answer(&mut self, request: &Request) -> Option<Vec<u8>> {
        let target = request.target.clone();
        self.requests.push(target.clone());
        if self.authorization.is_some() && request.authorization != self.authorization {
            return Some(error(401, "unauthorized"));
        }
        let (path, _) = target.split_once('?').unwrap_or((&target, ""));
        let details = path.strip_prefix("/api/v1/sessions/");
        let (status, body) = match path {
            "/api/v1/sessions" => self.list(&target),
            "/api/v1/overview" if self.has_overview => {
                let mut overview = cluster();
                overview["uptime_seconds"] = json!(77.5);
                overview["sessions"] = json!({ "connected": 1, "total": 1 });
                overview["cluster"] = json!({ "nodes": overview["nodes"].take() });
                overview["stats"] = stats();
                (200, overview)
            }
            "/api/v1/stats" => (200, stats()),
            "/api/v1/cluster" => (200, cluster()),
            _ => match details {
                Some(id) => self.details(id),
                // Go's own 404.
                None => return Some(response(404, "404 page not found\n")),
            },
        };
        let fault = if self.only_details && details.is_none() {
            Fault::None
        } else {
            self.fault
        };
        self.spoil(fault, status, &body.to_string())
    }

    fn spoil(&self, fault: Fault, status: u16, body: &str) -> Option<Vec<u8>> {
        match fault {
            Fault::None | Fault::ShortPage => Some(response(status, &format!("{body}\n"))),
            Fault::BrokenOff => Some(announced(body.len() + 1_000, body)),
            Fault::HalfJson => Some(response(200, &body[..body.len() / 2])),
            Fault::Html => Some(response(200, "<!DOCTYPE html><title>Sign in</title>")),
            Fault::Huge => Some(announced(1 << 40, body)),
            Fault::WrongTypes => Some(response(200, r#"{"sessions":[{"client_id":7}]}"#)),
            Fault::ShuttingDown => Some(error(503, "broker not available")),
            Fault::Silence => None,
        }
    }

    /// 2.2, with the trimming of the token.
    fn list(&self, target: &str) -> (u16, Value) {
        let url = reqwest::Url::parse(&format!("http://fluxmq{target}")).expect("a URL");
        let query = |name: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(key, _)| key == name);
            found
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let limit = query("limit");
        let limit: usize = match limit.as_str() {
            "" => 0,
            text => match text.parse() {
                Ok(limit) => limit,
                Err(_) => {
                    return (
                        400,
                        json!({ "error": "limit must be a non-negative integer" }),
                    );
                }
            },
        };
        let token = query("page_token");
        let mut rows: Vec<&Value> = self.sessions.iter().collect();
        rows.sort_by_key(|row| id(row).to_owned());
        rows.retain(|row| token.is_empty() || id(row) > token.as_str());
        let has_more = limit > 0 && rows.len() > limit;
        if has_more {
            rows.truncate(limit);
        }
        let mut page = Map::new();
        if has_more {
            let last = id(rows.last().expect("a limit above zero"));
            let token = if self.stuck_token { "stuck" } else { last };
            page.insert("next_page_token".to_owned(), json!(token));
        }
        let rows = rows.into_iter().cloned().map(|mut row| {
            row.as_object_mut()
                .expect("a session")
                .remove("subscriptions");
            row
        });
        page.insert("sessions".to_owned(), rows.collect());
        (200, Value::Object(page))
    }

    fn details(&self, escaped: &str) -> (u16, Value) {
        let not_found = || (404, json!({ "error": "session not found" }));
        if escaped.contains('/') {
            return not_found();
        }
        let wanted = percent_encoding::percent_decode_str(escaped).decode_utf8_lossy();
        let found = self.sessions.iter().find(|row| id(row) == wanted);
        found.map_or_else(not_found, |row| (200, row.clone()))
    }
}

fn id(row: &Value) -> &str {
    row["client_id"].as_str().expect("an id")
}

/// 2.4, and the source that it was read from.
fn stats() -> Value {
    json!({
        "uptime_seconds": 77.5, "connections": { "current": 1, "total": 9, "disconnections": 8 },
        "messages": { "received": 100, "sent": 200 }, "bytes": { "received": 3000, "sent": 4000 },
        "errors": { "protocol": 2 }, "by_protocol": {},
    })
}

fn cluster() -> Value {
    json!({
        "node_id": "node-1", "cluster_mode": true, "is_leader": true, "nodes": [
            { "id": "node-1", "address": "10.0.0.1:7948", "healthy": true, "leader": true, "uptime_seconds": 77.5 },
            { "id": "node-2", "address": "10.0.0.2:7948", "healthy": false, "leader": false, "uptime_seconds": 0.0 },
        ],
    })
}

fn error(status: u16, text: &str) -> Vec<u8> {
    response(status, &json!({ "error": text }).to_string())
}
