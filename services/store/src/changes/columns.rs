//! Sessions as arrays, one a column.

use rollcall_model::ingest::{ConnectionFacts, Presence};
use rollcall_model::{Connection, Pager, Session};
use serde::Serialize;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

/// Sessions as the arrays that `unnest` takes.
pub struct Columns<'a> {
    pub org: Vec<Uuid>,
    pub id: Vec<Uuid>,
    pub project: Vec<i64>,
    pub service: Vec<String>,
    pub kind: Vec<String>,
    pub source_id: Vec<String>,
    pub unit_id: Vec<String>,
    pub created_at: Vec<OffsetDateTime>,
    pub saved_at: Vec<OffsetDateTime>,
    pub received_at: Vec<OffsetDateTime>,
    pub received_from: Vec<String>,
    pub deleted: Vec<bool>,
    pub points: Vec<Json<&'a rollcall_model::Points>>,
    pub revision: Vec<i64>,
    pub state: Vec<String>,
    pub active: Vec<bool>,
    pub label: Vec<Option<&'a str>>,
    pub user: Vec<Option<&'a str>>,
    pub remote: Vec<Option<&'a str>>,
    pub footprint: Vec<i64>,
    pub number: Vec<Option<i32>>,
    pub facts: Vec<Option<Json<KindFacts<'a>>>>,
    pub client_id: Vec<Option<&'a str>>,
    pub protocol: Vec<Option<&'a str>>,
    pub connected: Vec<Option<bool>>,
    pub inflight: Vec<Option<i64>>,
    pub queue_depth: Vec<Option<i64>>,
    pub idle_since: Vec<Option<OffsetDateTime>>,
}

impl<'a> Columns<'a> {
    pub fn of(sessions: &[&'a Session]) -> Self {
        Self {
            org: sessions.iter().map(|s| s.org.0).collect(),
            id: sessions.iter().map(|s| s.id.0).collect(),
            project: sessions.iter().map(|s| s.project.get()).collect(),
            service: sessions.iter().map(|s| s.service.clone()).collect(),
            kind: sessions
                .iter()
                .map(|s| s.kind.as_str().to_owned())
                .collect(),
            source_id: sessions.iter().map(|s| s.source_id.clone()).collect(),
            unit_id: sessions.iter().map(|s| s.unit_id.clone()).collect(),
            created_at: sessions.iter().map(|s| s.created_at).collect(),
            saved_at: sessions.iter().map(|s| s.saved_at).collect(),
            received_at: sessions.iter().map(|s| s.received_at).collect(),
            received_from: sessions.iter().map(|s| s.received_from.clone()).collect(),
            deleted: sessions.iter().map(|s| s.deleted).collect(),
            points: sessions.iter().map(|s| Json(&s.points)).collect(),
            revision: sessions.iter().map(|s| s.revision).collect(),
            state: sessions.iter().map(|s| s.state().to_owned()).collect(),
            active: sessions.iter().map(|s| s.is_active()).collect(),
            label: sessions.iter().map(|s| s.label.as_deref()).collect(),
            user: sessions.iter().map(|s| s.user.as_deref()).collect(),
            remote: sessions.iter().map(|s| s.remote.as_deref()).collect(),
            footprint: sessions
                .iter()
                .map(|s| i64::try_from(s.footprint()).unwrap_or(i64::MAX))
                .collect(),
            number: sessions
                .iter()
                .map(|s| s.pager.as_ref().map(|pager| pager.number.into()))
                .collect(),
            facts: sessions.iter().map(|s| facts(s)).collect(),
            client_id: connections(sessions, |facts| facts.client_id.as_deref()),
            protocol: connections(sessions, |facts| facts.protocol.as_deref()),
            connected: connections(sessions, |facts| {
                Some(facts.presence == Presence::Connected)
            }),
            inflight: connections(sessions, |facts| facts.inflight.map(count)),
            queue_depth: connections(sessions, |facts| facts.queue_depth.map(count)),
            idle_since: sessions
                .iter()
                .map(|s| s.connection.as_ref()?.idle_since())
                .collect(),
        }
    }
}

/// What only a session's kind has; each stored as it is.
#[derive(Serialize)]
#[serde(untagged)]
pub enum KindFacts<'a> {
    Pager(&'a Pager),
    Connection(&'a Connection),
}

fn facts(session: &Session) -> Option<Json<KindFacts<'_>>> {
    let pager = session.pager.as_ref().map(KindFacts::Pager);
    let connection = session.connection.as_deref().map(KindFacts::Connection);
    pager.or(connection).map(Json)
}

/// A column that only connections have.
fn connections<'a, T>(
    sessions: &[&'a Session],
    of: impl Fn(&'a ConnectionFacts) -> Option<T>,
) -> Vec<Option<T>> {
    let one = |session: &&'a Session| of(&session.connection.as_ref()?.facts);
    sessions.iter().map(one).collect()
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
