//! A relay as a test plays it: what it says of guests with pagers, and of clients of brokers.

use rollcall_api::admin;
use rollcall_model::ingest::event_id;
use rollcall_model::{OrgId, ProjectId};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::{Answer, Client, Credential, TestApp};

/// A relay with a spool.
#[derive(Clone)]
pub struct Relay {
    pub client: Client,
    pub id: Uuid,
    pub key_id: String,
    pub spool: Uuid,
}

impl TestApp {
    /// A new relay of the organization's project.
    pub async fn relay(&self, name: &str) -> Relay {
        self.relay_of(self.org, self.project, name).await
    }

    /// A new relay of any organization's.
    pub async fn relay_of(&self, org: OrgId, project: ProjectId, name: &str) -> Relay {
        let (relay, key) = admin::create_relay(&self.db, org, project, name)
            .await
            .expect("a relay");
        Relay {
            client: self.admin.with(Credential::Basic {
                id: key.id.clone(),
                secret: key.secret,
            }),
            id: relay.id,
            key_id: key.id,
            spool: Uuid::new_v4(),
        }
    }
}

impl Relay {
    /// An event of a guest's session: `changed` is what differs from a guest who just came with pager 12.
    pub fn event(
        &self,
        (service, sequence): (&str, u64),
        what: &str,
        guest: Uuid,
        changed: &Value,
    ) -> Value {
        let mut session = json!({
            "uuid": guest, "id": 7, "number": 12, "party_size": 4, "goal_seconds": 600, "state": "started",
            "created": "2026-11-21T09:00:00Z", "session_sequence": 1,
        });
        for (name, value) in changed.as_object().expect("an object") {
            session[name] = value.clone();
        }
        let mut event = self.happening((service, sequence), what);
        event["session"] = session;
        event
    }

    /// An event of a client's session on a broker: `changed` is what differs from a client that connected over MQTT.
    pub fn connection(
        &self,
        (service, sequence): (&str, u64),
        what: &str,
        client_id: &str,
        changed: &Value,
    ) -> Value {
        let mut connection = json!({
            "source_id": client_id, "kind": "mqtt", "presence": "connected", "client_id": client_id,
            "protocol": "mqtt3.1.1", "user": "guest", "remote": "10.0.0.7", "connected_at": "2026-11-21T09:00:00Z",
        });
        for (name, value) in changed.as_object().expect("an object") {
            connection[name] = value.clone();
        }
        let mut event = self.happening((service, sequence), what);
        event["connection"] = connection;
        event
    }

    /// Says that a broker was seen, just now and so many seconds ago; `changed` is what is said of it beyond that.
    pub async fn sees(&self, service: &str, seconds_ago: i64, changed: &Value) {
        let now = time::OffsetDateTime::now_utc();
        let text = |at: time::OffsetDateTime| at.format(&Rfc3339).expect("a time");
        let seen = text(now - time::Duration::seconds(seconds_ago));
        let mut watch =
            json!({ "source": "rabbitmq", "version": "3.10.8", "seen": seen, "knows": ["user"] });
        for (name, value) in changed.as_object().expect("an object") {
            watch[name] = value.clone();
        }
        let mut batch = self.batch(&[]);
        batch["services"] =
            json!([{ "name": service, "kind": "broker", "at": text(now), "watch": watch }]);
        let answer = self.client.post("/v1/ingest", &batch).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Events that are missing.
    pub fn gap(&self, place: (&str, u64), reason: &str) -> Value {
        let mut event = self.happening(place, "gap");
        event["gap"] = json!({ "events": 3, "since": "2026-11-21T08:00:00Z", "reason": reason });
        event
    }

    fn happening(&self, (service, sequence): (&str, u64), what: &str) -> Value {
        json!({
            "id": event_id(self.spool, service, sequence), "service": service, "spool": self.spool,
            "sequence": sequence, "at": "2026-11-21T09:05:00Z", "type": what,
        })
    }

    /// A batch of these events.
    pub fn batch(&self, events: &[Value]) -> Value {
        json!({
            "relay": { "version": "0.1.0", "spool": { "events": 0, "bytes": 4096 } },
            "events": events,
        })
    }

    /// Forwards events.
    pub async fn forward(&self, events: &[Value]) -> Answer {
        self.client.post("/v1/ingest", &self.batch(events)).await
    }

    /// What the relay is told to do; `wait` in seconds.
    pub async fn commands(&self, wait: u32) -> Vec<Value> {
        let path = format!("/v1/relays/commands?wait={wait}");
        let answer = self.client.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let commands = answer.json()["commands"].as_array().cloned();
        commands.expect("commands")
    }

    /// Reports of commands.
    pub async fn report(&self, reports: &[Value]) -> Answer {
        let mut batch = self.batch(&[]);
        batch["reports"] = json!(reports);
        self.client.post("/v1/ingest", &batch).await
    }

    /// Forwards events, and gives what became of each: its status, or its code where it was refused.
    pub async fn verdicts(&self, events: &[Value]) -> Vec<String> {
        verdicts(&self.forward(events).await)
    }
}

/// What an answer says of each event: its status, or its code where it was refused.
pub fn verdicts(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let verdicts = answer.json()["verdicts"].clone();
    let verdict = |verdict: &Value| {
        let word = verdict.get("code").unwrap_or(&verdict["status"]);
        word.as_str().expect("a word").to_owned()
    };
    verdicts
        .as_array()
        .expect("verdicts")
        .iter()
        .map(verdict)
        .collect()
}
