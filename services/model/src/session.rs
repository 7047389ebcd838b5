//! A session as it stands, whatever its source.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ingest::Presence;
use crate::{Connection, OrgId, Pager, Point, Points, ProjectId, SessionId};

/// What a session is one of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A form filled in by a field device.
    Form,
    /// A guest who waits with a pager.
    Pager,
    /// A client's session on a broker, over MQTT.
    Mqtt,
    /// A client's connection to a broker, over AMQP.
    Amqp,
    /// A client's connection through a proxy of a database.
    Proxy,
}

/// What a service is, and so what its sessions may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ServiceKind {
    /// A project's form intake.
    Form,
    /// A transmitter of pagers.
    Pager,
    /// A message broker.
    Broker,
    /// A service of a database proxy.
    Proxy,
}

/// A session as it stands, or as it stood when an event happened. Serialized, it is the event's snapshot.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub org: OrgId,
    pub id: SessionId,
    pub project: ProjectId,
    /// What the session was created on; unique in the organization.
    pub service: String,
    pub kind: Kind,
    /// The session's name at its source: for a form the client's `uuid`, as last written; for a pager the transmitter's.
    pub source_id: String,
    /// The device that created or last edited the session; empty where its source knows none.
    pub unit_id: String,
    /// What the session is called at its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whose it is, as its source knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The address that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// When the session began, by its source's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last saved, by its source's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub saved_at: OffsetDateTime,
    /// When its last change arrived, by ours.
    #[serde(with = "time::serde::rfc3339")]
    pub received_at: OffsetDateTime,
    /// Who sent that change: the credential's name.
    pub received_from: String,
    pub deleted: bool,
    pub points: Points,
    /// What is known of a guest with a pager; of other kinds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pager: Option<Pager>,
    /// What is known of a client's connection; of other kinds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Box<Connection>>,
    /// Counts the session's changes from 1; with the id it names the event that made it so.
    pub revision: i64,
}

impl Session {
    /// How the session stands, in its kind's words.
    pub fn state(&self) -> &str {
        match self.kind {
            // Nothing writes a session of these kinds without its facts.
            Kind::Pager => self.pager.as_ref().map_or("started", Pager::state),
            Kind::Mqtt | Kind::Amqp => self.presence().as_str(),
            Kind::Proxy => self
                .connection
                .as_ref()
                .and_then(|connection| connection.facts.state.as_deref())
                .filter(|_| self.presence() == Presence::Connected)
                .unwrap_or(self.presence().as_str()),
            Kind::Form if self.deleted => "deleted",
            Kind::Form => "saved",
        }
    }

    /// How a client's session on a broker stands in the broker's own words, where it has some. Of a proxy that is the state.
    pub fn source_state(&self) -> Option<&str> {
        let is_broker = self.kind.service() == ServiceKind::Broker;
        let connection = self.connection.as_ref().filter(|_| is_broker);
        connection.and_then(|held| held.facts.state.as_deref())
    }

    fn presence(&self) -> Presence {
        let connection = self.connection.as_ref();
        connection.map_or(Presence::Gone, |held| held.facts.presence)
    }

    /// Whether it still is on the roll; one that is not stays as history.
    pub fn is_active(&self) -> bool {
        match self.kind {
            Kind::Mqtt | Kind::Amqp | Kind::Proxy => self.presence() != Presence::Gone,
            Kind::Form | Kind::Pager => {
                !self.deleted && self.pager.as_ref().is_none_or(Pager::is_active)
            }
        }
    }

    /// What differs from the session as it was, as JSON pointers (RFC 6901) into the attributes that `/v1` shows; of a new
    /// session the whole, which is the pointer `""`. Not listed is what every change changes: `revision`, `updated`
    /// and who made it.
    pub fn changed_since(&self, before: Option<&Self>) -> Vec<String> {
        let Some(before) = before else {
            return vec![String::new()];
        };
        let members = [
            ("/state", self.state() != before.state()),
            (
                "/source_state",
                self.source_state() != before.source_state(),
            ),
            ("/active", self.is_active() != before.is_active()),
            ("/source_id", self.source_id != before.source_id),
            ("/unit_id", self.unit_id != before.unit_id),
            ("/label", self.label != before.label),
            ("/user", self.user != before.user),
            ("/remote", self.remote != before.remote),
            ("/started", self.created_at != before.created_at),
            (
                "/saved",
                self.kind == Kind::Form && self.saved_at != before.saved_at,
            ),
        ];
        let pager = Pager::changed_since(self.pager.as_ref(), before.pager.as_ref());
        let connection =
            Connection::changed_since(self.connection.as_deref(), before.connection.as_deref());
        let members = members
            .into_iter()
            .chain(pager)
            .chain(connection)
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name.to_owned());
        let set = self
            .points
            .iter()
            .filter(|(name, point)| before.points.get(*name) != Some(*point));
        let gone = before
            .points
            .iter()
            .filter(|(name, _)| !self.points.contains_key(*name));
        let points = set.chain(gone).map(|(name, _)| {
            let name = name.as_str().replace('~', "~0").replace('/', "~1");
            format!("/points/{name}")
        });
        members.chain(points).collect()
    }

    /// Bytes of the points' values; a file counts nothing, it is elsewhere.
    pub fn value_bytes(&self) -> usize {
        let bytes = |point: &Point| match point {
            Point::Text(text) => text.len(),
            Point::Raw { raw_data } => raw_data.len(),
            Point::Attachment(_) => 0,
        };
        self.points.values().map(bytes).sum()
    }

    /// About what the session takes in memory, in bytes.
    pub fn footprint(&self) -> usize {
        /// A point's own, and most of what describes a file.
        const POINT_BYTES: usize = 256;
        /// A pager's facts.
        const PAGER_BYTES: usize = 256;
        let names: usize = self.points.keys().map(|name| name.as_str().len()).sum();
        let label = self.label.as_ref().map_or(0, String::len);
        let connection = self.connection.as_ref().map_or(0, |held| held.footprint());
        let facts = usize::from(self.pager.is_some()) * PAGER_BYTES + connection;
        self.value_bytes() + names + label + facts + (self.points.len() + 1) * POINT_BYTES
    }
}

/// Text that names no kind of session.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of session")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "form" => Ok(Self::Form),
            "pager" => Ok(Self::Pager),
            "mqtt" => Ok(Self::Mqtt),
            "amqp" => Ok(Self::Amqp),
            "proxy" => Ok(Self::Proxy),
            _ => Err(UnknownKind(text.to_owned())),
        }
    }
}

impl Kind {
    /// The name as stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Pager => "pager",
            Self::Mqtt => "mqtt",
            Self::Amqp => "amqp",
            Self::Proxy => "proxy",
        }
    }

    /// What a service is that has such sessions.
    pub fn service(self) -> ServiceKind {
        match self {
            Self::Form => ServiceKind::Form,
            Self::Pager => ServiceKind::Pager,
            Self::Mqtt | Self::Amqp => ServiceKind::Broker,
            Self::Proxy => ServiceKind::Proxy,
        }
    }
}

impl ServiceKind {
    /// The name as stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Pager => "pager",
            Self::Broker => "broker",
            Self::Proxy => "proxy",
        }
    }

    /// Of what a relay may speak for.
    pub fn of_relay(name: &str) -> Option<Self> {
        [Self::Pager, Self::Broker, Self::Proxy]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// The service that a project's forms are created on. Project numbers are unique, so the name is too.
pub fn forms_service(project: ProjectId) -> String {
    format!("forms-{project}")
}
