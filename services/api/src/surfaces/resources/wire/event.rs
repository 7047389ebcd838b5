//! An event.

use rollcall_store::events::Event;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::document::{SelfLink, ToOne};
use super::{SessionResource, identifier, rfc3339, to_one};

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
    /// What happened: `created`, `replaced`, `updated`, `attached`, `detached`, `deleted` or `restored` to a form; `created`,
    /// `paged`, `cleared`, `removed` or `updated` to a pager; `connected`, `disconnected`, `updated` or `removed` to a client of a
    /// broker or a proxy; `commanded` or `command_finished` where the cloud gave a command,
    /// which changes nothing of the session by itself.
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
    /// session is new. `revision`, `updated` and `received_from` always differ and are not named; nor is `connected`, which is
    /// `/started` in another spelling.
    pub changed: Vec<String>,
    /// The session as it was after the event.
    pub session: SessionResource,
    /// What the source said of the change itself. Of a relay's event `at`, when it happened by the relay's clock, and
    /// `sequence`, its place in the relay's spool; one that came after a later one changed nothing. Of a command `command`, its
    /// id, and `action`; when given `expires`, and with it `pageMode` and `message`; at its end `status`, and of the relay's
    /// report `at`, `code` and `detail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub context: Option<serde_json::Value>,
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
                // What goes on by itself stands as it did then, by the source's clock: an event is always the same.
                session: SessionResource::of(session, base, session.saved_at),
                context: event.context.clone(),
            }),
            links: SelfLink {
                own: format!("{base}/v1/events/{id}"),
            },
            id,
        }
    }
}
