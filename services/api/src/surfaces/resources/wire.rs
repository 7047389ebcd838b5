//! The resources as clients see them: JSON:API with the member names of seed 002, and beyond them our own. A member that a
//! kind of session or its source does not know is absent.

use std::collections::BTreeMap;

use rollcall_model::{Points, Session};
use rollcall_store::attachments::Attachment;
use rollcall_store::events::Event;
use rollcall_store::projects::Project;
use rollcall_store::services::Service;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use utoipa::ToSchema;

use super::document::{Identifier, Relationship, RelationshipLinks, SelfLink, ToOne};
use super::parameters::segment;

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
    /// How the session stands, in its kind's words; of a form `saved` or `deleted`.
    pub state: &'static str,
    /// When it began, as C's `asctime` prints it, in UTC.
    pub connected: String,
    /// Whether it still is on the roll; one that is not stays as history.
    pub active: bool,
    /// What the session is one of: `form`, and kinds to come.
    pub kind: &'static str,
    /// The project's number.
    pub project: i64,
    /// The session's name at its source: of a form the client's `uuid`.
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

/// What sessions are created on: a project's form intake, and what is to come.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "forms-1",
    "type": "services",
    "relationships": {
        "sessions": { "links": { "related": "http://localhost:8080/v1/sessions?filter%5Bservice%5D=forms-1" } },
        "projects": {
            "links": { "related": "http://localhost:8080/v1/projects/1" },
            "data": { "id": "1", "type": "projects" }
        }
    },
    "attributes": {
        "kind": "form", "state": "Started", "started": "2026-11-21T09:00:00Z", "project": 1,
        "connections": 2, "total_connections": 3
    },
    "links": { "self": "http://localhost:8080/v1/services/forms-1" }
}))]
pub struct ServiceResource {
    /// Its name, unique in the organization.
    pub id: String,
    /// Always `services`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<ServiceRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<ServiceAttributes>,
    pub links: SelfLink,
}

/// What belongs to a service.
#[derive(Serialize, ToSchema)]
pub struct ServiceRelationships {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Relationship>,
    /// The one project that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<ToOne>,
}

/// A service's members, with MaxScale's names for the counts (proxy contract §1.6).
#[derive(Serialize, ToSchema)]
pub struct ServiceAttributes {
    /// What its sessions are.
    pub kind: String,
    /// `Started`.
    pub state: String,
    /// Since when there is the service.
    #[schema(format = DateTime)]
    pub started: String,
    /// The project's number.
    pub project: i64,
    /// Sessions that are active.
    pub connections: i64,
    /// Sessions there ever were.
    pub total_connections: i64,
}

/// A scope inside an organization.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "1",
    "type": "projects",
    "relationships": {
        "sessions": { "links": { "related": "http://localhost:8080/v1/sessions?filter%5Bproject%5D=1" } },
        "services": { "links": { "related": "http://localhost:8080/v1/services?filter%5Bproject%5D=1" } }
    },
    "attributes": { "name": "Demo", "created": "2026-11-21T09:00:00Z" },
    "links": { "self": "http://localhost:8080/v1/projects/1" }
}))]
pub struct ProjectResource {
    /// Its number, as text.
    pub id: String,
    /// Always `projects`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<ProjectRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<ProjectAttributes>,
    pub links: SelfLink,
}

/// What belongs to a project.
#[derive(Serialize, ToSchema)]
pub struct ProjectRelationships {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Relationship>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Relationship>,
}

/// A project's members.
#[derive(Serialize, ToSchema)]
pub struct ProjectAttributes {
    pub name: String,
    #[schema(format = DateTime)]
    pub created: String,
}

/// A file of a session. `links.content` leads to its bytes.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11",
    "type": "attachments",
    "relationships": {
        "sessions": {
            "links": { "related": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa" },
            "data": { "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa", "type": "sessions" }
        }
    },
    "attributes": {
        "point": "photo", "filename": "photo.jpg", "content_type": "image/jpeg", "length": 48213,
        "md5": "9e107d9d372bb6826bd81d3542a419d6",
        "sha256": "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
        "project": 1, "created": "2026-11-21T09:00:00.25Z"
    },
    "links": {
        "self": "http://localhost:8080/v1/attachments/0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11",
        "content": "http://localhost:8080/v1/attachments/0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11/content"
    }
}))]
pub struct AttachmentResource {
    /// A UUID.
    pub id: String,
    /// Always `attachments`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<AttachmentRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<AttachmentAttributes>,
    pub links: AttachmentLinks,
}

/// What an attachment belongs to.
#[derive(Serialize, ToSchema)]
pub struct AttachmentRelationships {
    /// The one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<ToOne>,
}

/// Where an attachment is.
#[derive(Serialize, ToSchema)]
pub struct AttachmentLinks {
    #[serde(rename = "self")]
    pub own: String,
    /// The bytes.
    pub content: String,
}

/// An attachment's members.
#[derive(Serialize, ToSchema)]
pub struct AttachmentAttributes {
    /// The session's point that holds it, or held it.
    pub point: String,
    pub filename: String,
    /// As the client named it.
    pub content_type: String,
    /// Size in bytes.
    pub length: i64,
    /// Lower-case hexadecimal.
    pub md5: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// The project's number.
    pub project: i64,
    #[schema(format = DateTime)]
    pub created: String,
    /// Since when its session no longer holds it; the bytes are deleted some time later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub retired: Option<String>,
}

/// Something that happened to a session, and the session as it then was.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa.2",
    "type": "events",
    "relationships": {
        "sessions": {
            "links": { "related": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa" },
            "data": { "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa", "type": "sessions" }
        }
    },
    "attributes": {
        "event_type": "updated",
        "kind": "form",
        "project": 1,
        "service": "forms-1",
        "revision": 2,
        "at": "2026-11-21T09:00:00.25Z",
        "changed": ["/saved", "/points/point1"],
        "session": { "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa", "type": "sessions",
            "links": { "self": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa" } }
    },
    "links": { "self": "http://localhost:8080/v1/events/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa.2" }
}))]
pub struct EventResource {
    /// The session's id, a dot, and the revision that the event made.
    pub id: String,
    /// Always `events`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<EventRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<EventAttributes>,
    pub links: SelfLink,
}

/// What an event is about.
#[derive(Serialize, ToSchema)]
pub struct EventRelationships {
    /// The one session, as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<ToOne>,
}

/// An event's members.
#[derive(Serialize, ToSchema)]
pub struct EventAttributes {
    /// What happened: `created`, `replaced`, `updated`, `attached`, `detached`, `deleted` or `restored`.
    pub event_type: String,
    /// What the session is one of.
    pub kind: &'static str,
    /// The project's number.
    pub project: i64,
    pub service: String,
    /// Counts the session's changes from 1.
    pub revision: i64,
    /// When it arrived, by our clock.
    #[schema(format = DateTime)]
    pub at: String,
    /// What differs from the revision before, as JSON pointers into the session's attributes; `""`, the whole, where the
    /// session is new. `revision`, `updated` and `received_from` always differ and are not named.
    pub changed: Vec<String>,
    /// The session as it was after the event.
    pub session: SessionResource,
    /// What the source said of the change itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub context: Option<serde_json::Value>,
}

fn identifier(kind: &'static str, id: impl ToString) -> Identifier {
    Identifier {
        id: id.to_string(),
        kind,
    }
}

fn related(link: String, data: Option<Vec<Identifier>>) -> Option<Relationship> {
    let links = RelationshipLinks {
        own: None,
        related: link,
    };
    Some(Relationship { links, data })
}

fn to_one(link: String, data: Identifier) -> Option<ToOne> {
    let links = RelationshipLinks {
        own: None,
        related: link,
    };
    Some(ToOne { links, data })
}

/// RFC 3339, in UTC.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("the year has four digits")
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
        Self {
            id: session.id.to_string(),
            kind: "sessions",
            relationships: Some(SessionRelationships {
                services: Some(services_of(session, base)),
                events: related(format!("{own}/events"), None),
                attachments,
            }),
            attributes: Some(SessionAttributes::of(session)),
            links: SelfLink { own },
        }
    }
}

impl SessionAttributes {
    fn of(session: &Session) -> Self {
        let unit_id = session.unit_id.clone();
        Self {
            state: session.state(),
            connected: asctime(session.created_at),
            active: session.is_active(),
            kind: session.kind.as_str(),
            project: session.project.get(),
            source_id: session.source_id.clone(),
            revision: session.revision,
            started: rfc3339(session.created_at),
            updated: rfc3339(session.received_at),
            received_from: session.received_from.clone(),
            saved: Some(rfc3339(session.saved_at)),
            unit_id: (!unit_id.is_empty()).then_some(unit_id),
            label: session.label.clone(),
            user: session.user.clone(),
            remote: session.remote.clone(),
            idle: None,
            points: Some(session.points.clone()),
        }
    }
}

impl ServiceResource {
    pub fn of(service: &Service, base: &str) -> Self {
        let name = segment(&service.name);
        let sessions = format!("{base}/v1/sessions?filter%5Bservice%5D={name}");
        let project = format!("{base}/v1/projects/{}", service.project_id);
        Self {
            id: service.name.clone(),
            kind: "services",
            relationships: Some(ServiceRelationships {
                sessions: related(sessions, None),
                projects: to_one(project, identifier("projects", service.project_id)),
            }),
            attributes: Some(ServiceAttributes {
                kind: service.kind.clone(),
                state: service.state.clone(),
                started: rfc3339(service.created_at),
                project: service.project_id,
                connections: service.active,
                total_connections: service.total,
            }),
            links: SelfLink {
                own: format!("{base}/v1/services/{name}"),
            },
        }
    }
}

impl ProjectResource {
    pub fn of(project: &Project, base: &str) -> Self {
        let number = project.project_id;
        let narrowed = |what: &str| format!("{base}/v1/{what}?filter%5Bproject%5D={number}");
        Self {
            id: number.to_string(),
            kind: "projects",
            relationships: Some(ProjectRelationships {
                sessions: related(narrowed("sessions"), None),
                services: related(narrowed("services"), None),
            }),
            attributes: Some(ProjectAttributes {
                name: project.name.clone(),
                created: rfc3339(project.created_at),
            }),
            links: SelfLink {
                own: format!("{base}/v1/projects/{number}"),
            },
        }
    }
}

impl AttachmentResource {
    pub fn of(file: &Attachment, base: &str) -> Self {
        let own = format!("{base}/v1/attachments/{}", file.id);
        let session = format!("{base}/v1/sessions/{}", file.session_id);
        Self {
            id: file.id.to_string(),
            kind: "attachments",
            relationships: Some(AttachmentRelationships {
                sessions: to_one(session, identifier("sessions", file.session_id)),
            }),
            attributes: Some(AttachmentAttributes {
                point: file.point.clone(),
                filename: file.filename.clone(),
                content_type: file.content_type.clone(),
                length: file.length,
                md5: file.md5.clone(),
                sha256: file.sha256.clone(),
                project: file.project_id,
                created: rfc3339(file.created_at),
                retired: file.retired_at.map(rfc3339),
            }),
            links: AttachmentLinks {
                content: format!("{own}/content"),
                own,
            },
        }
    }
}

impl EventResource {
    pub fn of(event: &Event, base: &str) -> Self {
        let session = &event.session;
        let id = format!("{}.{}", session.id, event.revision);
        let related_session = format!("{base}/v1/sessions/{}", session.id);
        Self {
            kind: "events",
            relationships: Some(EventRelationships {
                sessions: to_one(related_session, identifier("sessions", session.id)),
            }),
            attributes: Some(EventAttributes {
                event_type: event.event_type.clone(),
                kind: session.kind.as_str(),
                project: session.project.get(),
                service: session.service.clone(),
                revision: event.revision,
                at: rfc3339(event.at),
                changed: event.changed.clone(),
                session: SessionResource::of(session, base),
                context: event.context.clone(),
            }),
            links: SelfLink {
                own: format!("{base}/v1/events/{id}"),
            },
            id,
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
