//! A session, and what its kind adds to it.

use std::collections::BTreeMap;

use rollcall_model::ingest::ClearType;
use rollcall_model::{Kind, Points, Session};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use utoipa::ToSchema;

use super::super::document::{Identifier, Relationship, RelationshipLinks, SelfLink};
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

/// A session's members. Without `fields[sessions]` those that are required here are always there.
#[derive(Serialize, ToSchema)]
pub struct SessionAttributes {
    /// How the session stands, in its kind's words; of a form `saved` or `deleted`, of a pager `started`, `paged`, `cleared` or
    /// `removed`.
    pub state: String,
    /// When it began, as C's `asctime` prints it, in UTC.
    pub connected: String,
    /// Whether it still is on the roll; one that is not stays as history.
    pub active: bool,
    /// What the session is one of: `form`, `pager`, and kinds to come.
    pub kind: &'static str,
    /// The project's number.
    pub project: i64,
    /// The session's name at its source: of a form the client's `uuid`, of a pager the transmitter's.
    pub source_id: String,
    /// Counts the session's changes from 1.
    pub revision: i64,
    /// When it began, by its source's clock: RFC 3339, as all times but `connected`.
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
    /// The address that it comes from. Of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// For how many seconds it has been idle. Of connections.
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
}

/// What a form's attributes hold beyond those of every kind.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape for the document; `SessionAttributes` has the members"
)]
pub struct FormAttributes {
    /// `saved` or `deleted`.
    #[schema(pattern = "^(saved|deleted)$")]
    state: Option<String>,
    /// When it was last saved, by its source's clock.
    #[schema(format = DateTime)]
    saved: Option<String>,
    /// The device that created or last edited it.
    unit_id: Option<String>,
    /// The values by lower-case name.
    points: Option<BTreeMap<String, PointValue>>,
}

/// What a pager's attributes hold beyond those of every kind.
#[derive(ToSchema)]
#[schema(example = json!({
    "state": "paged", "number": 12, "party_size": 4, "goal": 600, "notified": "2026-11-21T09:05:00Z", "pager_id": 7,
    "session_sequence": 121
}))]
#[expect(
    dead_code,
    reason = "the shape for the document; `SessionAttributes` has the members"
)]
pub struct PagerAttributes {
    /// `started`, `paged`, `cleared` or `removed`.
    #[schema(pattern = "^(started|paged|cleared|removed)$")]
    state: Option<String>,
    /// The pager's number.
    #[schema(minimum = 1, maximum = 65535)]
    number: Option<u16>,
    /// Guests in the party.
    #[schema(minimum = 1, maximum = 1000000)]
    party_size: Option<u32>,
    /// After how many seconds the guest is to be paged.
    #[schema(maximum = 86400)]
    goal: Option<u32>,
    /// When the guest was paged first, by the source's clock.
    #[schema(format = DateTime)]
    notified: Option<String>,
    /// When the session ended, by the source's clock.
    #[schema(format = DateTime)]
    cleared: Option<String>,
    /// How it ended: `STOP` (the guest came) or `REMOVED`.
    #[schema(pattern = "^(STOP|REMOVED)$")]
    clear_type: Option<String>,
    /// The transmitter's own number for the session.
    pager_id: Option<u64>,
    /// The transmitter's `sessionSequence` of the last change; 65535 where it does not know.
    session_sequence: Option<u16>,
}

/// A point of a form.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape for the document")]
pub enum PointValue {
    /// A scalar, as text.
    Text(String),
    Raw(RawValue),
    File(FileValue),
}

/// A small piece of embedded binary data.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document")]
pub struct RawValue {
    /// Base64, as it was sent.
    #[serde(rename = "rawData")]
    raw_data: String,
}

/// The description of a file; its bytes are the attachment's content.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document")]
pub struct FileValue {
    filename: String,
    content_type: String,
    /// Size in bytes.
    length: u64,
    /// Lower-case hexadecimal.
    md5: String,
    /// Lower-case hexadecimal.
    sha256: String,
    /// The attachment's id.
    id: String,
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
    pub fn of(session: &Session, base: &str) -> Self {
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
            attributes: Some(SessionAttributes::of(session)),
            links: SelfLink { own },
        }
    }
}

impl SessionAttributes {
    fn of(session: &Session) -> Self {
        let unit_id = session.unit_id.clone();
        let is_form = session.kind == Kind::Form;
        let pager = session.pager.as_ref();
        Self {
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
            idle: None,
            points: is_form.then(|| session.points.clone()),
            number: pager.map(|pager| pager.number),
            party_size: pager.map(|pager| pager.party_size),
            goal: pager.map(|pager| pager.goal_seconds),
            notified: pager.and_then(|pager| pager.notified).map(rfc3339),
            cleared: pager.and_then(|pager| pager.cleared).map(rfc3339),
            clear_type: pager.and_then(|pager| pager.clear_type).map(clear_type),
            pager_id: pager.map(|pager| pager.id),
            session_sequence: pager.map(|pager| pager.session_sequence),
        }
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
