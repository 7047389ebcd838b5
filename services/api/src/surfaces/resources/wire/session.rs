//! A session, and what its kind adds to it.

use rollcall_model::ingest::ClearType;
use rollcall_model::{Kind, Pager, Points, Session};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use utoipa::ToSchema;

use super::super::document::{Identifier, Relationship, RelationshipLinks, SelfLink};
use super::connection::{SessionBackend, SessionReconnects, SessionSubscription};
use super::{identifier, related, rfc3339};

/// C's `asctime`, as seed 002 prints times; in UTC (proxy contract, decision 4).
const ASCTIME: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
);

/// A session of any kind.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa",
    "type": "sessions",
    "relationships": {
        "services": {
            "links": {
                "self": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa/relationships/services",
                "related": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa/services"
            },
            "data": [{ "id": "forms-1", "type": "services" }]
        },
        "events": { "links": { "related": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa/events" } },
        "attachments": {
            "links": { "related": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa/attachments" },
            "data": [{ "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11", "type": "attachments" }]
        }
    },
    "attributes": {
        "state": "saved",
        "connected": "Wed May 17 10:06:35 2017",
        "active": true,
        "kind": "form",
        "project": 1,
        "source_id": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11",
        "revision": 1,
        "started": "2017-05-17T10:06:35Z",
        "updated": "2026-11-21T09:00:00.25Z",
        "received_from": "rk_ahk3hcgv6f7r3nqkz5c4o6x2pe2k7i5xw3dd5ya",
        "saved": "2017-05-17T10:06:35Z",
        "unit_id": "mydevice",
        "points": {
            "point1": "value1",
            "photo": {
                "filename": "photo.jpg", "content_type": "image/jpeg", "length": 48213,
                "md5": "9e107d9d372bb6826bd81d3542a419d6",
                "sha256": "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
                "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"
            }
        }
    },
    "links": { "self": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa" }
}))]
pub struct SessionResource {
    /// Rollcall's own: a UUID.
    pub id: String,
    /// Always `sessions`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<SessionRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<SessionAttributes>,
    pub links: SelfLink,
}

/// What belongs to a session.
#[derive(Serialize, ToSchema)]
pub struct SessionRelationships {
    /// The one service that the session was created on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Relationship>,
    /// Its history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Relationship>,
    /// The files that it holds. Of forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Relationship>,
}

/// A session's members. Without `fields[sessions]` those that are required here are always there; what a kind of session does
/// not have, or its source does not know, is absent.
#[derive(Default, Serialize, ToSchema)]
pub struct SessionAttributes {
    /// How the session stands, in its kind's words; of a form `saved` or `deleted`, of a pager `started`, `paged`, `cleared` or
    /// `removed`; of a client of a broker `connected`, `disconnected` or `gone`; of one of a proxy as the proxy says it, or `gone`.
    pub state: String,
    /// When it began, as C's `asctime` prints it, in UTC: `started` in the spelling of MaxScale's tools.
    pub connected: String,
    /// Whether it still is on the roll; one that is not stays as history.
    pub active: bool,
    /// What the session is one of: `form`, `pager`, `mqtt`, `amqp`, `proxy`, and kinds to come.
    pub kind: &'static str,
    /// The project's number.
    pub project: i64,
    /// The session's name at its source: of a form the client's `uuid`, of a pager the transmitter's, of a client of a broker its
    /// client id (or its address, over AMQP), of one of a proxy the proxy's own number.
    pub source_id: String,
    /// Counts the session's changes from 1.
    pub revision: i64,
    /// When it began, by its source's clock: RFC 3339, as all times but `connected`. Of a client, when it connected, or was
    /// first seen where its source does not tell.
    #[schema(format = DateTime)]
    pub started: String,
    /// When its last change arrived, by our clock.
    #[schema(format = DateTime)]
    pub updated: String,
    /// The id of the key that sent that change.
    pub received_from: String,
    /// When it was last saved, by its source's clock. Of forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub saved: Option<String>,
    /// The device that created or last edited it. Of forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_id: Option<String>,
    /// What the session is called at its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The address that it comes from, without the port. Of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// For how many seconds it has been idle; in an event, had been when that happened. Of connections, while they are
    /// there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<f64>,
    /// The values by lower-case name: a text, `{"rawData": ".."}`, or the description of a file. Of forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub points: Option<Points>,
    /// The pager's number. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub number: Option<u16>,
    /// Guests in the party. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party_size: Option<u32>,
    /// After how many seconds the guest is to be paged. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<u32>,
    /// When the guest was paged first, by the source's clock. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub notified: Option<String>,
    /// When the session ended, by the source's clock. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub cleared: Option<String>,
    /// How it ended: `STOP` or `REMOVED`. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_type: Option<&'static str>,
    /// The transmitter's own number for the session. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pager_id: Option<u64>,
    /// The transmitter's `sessionSequence` of the last change. Of pagers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_sequence: Option<u16>,
    /// How a client's session stands in its broker's own words. Of `mqtt` and `amqp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_state: Option<String>,
    /// The client's id as broker tools know it: MQTT's, or `amqp091:` and the address. Of `mqtt` and `amqp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// `mqtt3.1`, `mqtt3.1.1`, `mqtt5`, `amqp0.9.1`, `mariadb`, `postgres` ... Of connections, as all from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The broker's virtual host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost: Option<String>,
    /// The node that has the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The client's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The database that a proxy's client is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What protects the client's connection, in the source's words: a cipher, or a version of TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// When the client last connected; absent where the source does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub connected_at: Option<String>,
    /// When it last disconnected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub disconnected_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clean_start: Option<bool>,
    /// For how many seconds the session is kept once the client is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_interval: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_maximum: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_packet_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_alias_max: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_response: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_problem: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub has_will: Option<bool>,
    /// Messages that were sent to the client and that it has not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inflight: Option<u64>,
    /// Messages that wait for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u64>,
    /// How many subscriptions there are: more than are listed, where those are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_count: Option<u32>,
    /// By filter, at most 1,000. A page of sessions with many of them is shorter; `fields[sessions]` leaves them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Vec<SessionSubscription>>,
    /// The proxy's own connections that work for this one, at most 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<Vec<SessionBackend>>,
    /// How often the client came back lately; in an event, as when that happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnects: Option<SessionReconnects>,
}

/// As the transmitter says it.
fn clear_type(clear_type: ClearType) -> &'static str {
    match clear_type {
        ClearType::Stop => "STOP",
        ClearType::Removed => "REMOVED",
    }
}

fn asctime(at: OffsetDateTime) -> String {
    at.format(ASCTIME)
        .expect("the format has only what a time has")
}

/// A session's relationship to its service: links and data.
pub fn services_of(session: &Session, base: &str) -> Relationship {
    let own = format!("{base}/v1/sessions/{}", session.id);
    Relationship {
        links: RelationshipLinks {
            own: Some(format!("{own}/relationships/services")),
            related: format!("{own}/services"),
        },
        data: Some(vec![identifier("services", &session.service)]),
    }
}

impl SessionResource {
    /// The session as it stands at a time.
    pub fn of(session: &Session, base: &str, at: OffsetDateTime) -> Self {
        let own = format!("{base}/v1/sessions/{}", session.id);
        let files = session
            .points
            .values()
            .filter_map(|point| point.attachment());
        let files: Vec<Identifier> = files
            .map(|file| identifier("attachments", file.id))
            .collect();
        let attachments = related(format!("{own}/attachments"), Some(files));
        let is_form = session.kind == Kind::Form;
        Self {
            id: session.id.to_string(),
            kind: "sessions",
            relationships: Some(SessionRelationships {
                services: Some(services_of(session, base)),
                events: related(format!("{own}/events"), None),
                attachments: attachments.filter(|_| is_form),
            }),
            attributes: Some(SessionAttributes::of(session, at)),
            links: SelfLink { own },
        }
    }
}

impl SessionAttributes {
    pub(super) fn of(session: &Session, at: OffsetDateTime) -> Self {
        let unit_id = session.unit_id.clone();
        let is_form = session.kind == Kind::Form;
        let mut attributes = Self {
            state: session.state().to_owned(),
            connected: asctime(session.created_at),
            active: session.is_active(),
            kind: session.kind.as_str(),
            project: session.project.get(),
            source_id: session.source_id.clone(),
            revision: session.revision,
            started: rfc3339(session.created_at),
            updated: rfc3339(session.received_at),
            received_from: session.received_from.clone(),
            saved: is_form.then(|| rfc3339(session.saved_at)),
            unit_id: (!unit_id.is_empty()).then_some(unit_id),
            label: session.label.clone(),
            user: session.user.clone(),
            remote: session.remote.clone(),
            points: is_form.then(|| session.points.clone()),
            ..Self::default()
        };
        if let Some(pager) = &session.pager {
            attributes.tell_pager(pager);
        }
        if let Some(connection) = &session.connection {
            attributes.tell_connection((session, connection), at);
        }
        attributes
    }

    fn tell_pager(&mut self, pager: &Pager) {
        self.number = Some(pager.number);
        self.party_size = Some(pager.party_size);
        self.goal = Some(pager.goal_seconds);
        self.notified = pager.notified.map(rfc3339);
        self.cleared = pager.cleared.map(rfc3339);
        self.clear_type = pager.clear_type.map(clear_type);
        self.pager_id = Some(pager.id);
        self.session_sequence = Some(pager.session_sequence);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn connected_is_printed_as_the_seed_does() {
        assert_eq!(
            asctime(datetime!(2017-05-17 10:06:35 UTC)),
            "Wed May 17 10:06:35 2017"
        );
        assert_eq!(
            asctime(datetime!(2017-05-07 00:00:00 UTC)),
            "Sun May  7 00:00:00 2017"
        );
    }
}
