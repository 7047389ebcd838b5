//! A command, and the documents that give one.

use rollcall_model::command::Order;
use rollcall_store::commands::Command;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::document::{SelfLink, ToOne};
use super::super::parameters::segment;
use super::{identifier, rfc3339, to_one};

/// What a service is told to do, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11",
    "type": "commands",
    "relationships": {
        "sessions": {
            "links": { "related": "http://localhost:8080/v1/sessions/0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa" },
            "data": { "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa", "type": "sessions" }
        },
        "services": {
            "links": { "related": "http://localhost:8080/v1/services/front-desk" },
            "data": { "id": "front-desk", "type": "services" }
        }
    },
    "attributes": {
        "action": "page", "number": 12, "pageMode": "Flash30Sec", "status": "done", "project": 1,
        "created": "2026-11-21T09:05:00Z", "expires": "2026-11-21T09:06:00Z",
        "created_by": "rk_ahk3hcgv6f7r3nqkz5c4o6x2pe2k7i5xw3dd5ya", "delivered": "2026-11-21T09:05:00.02Z",
        "finished": "2026-11-21T09:05:00.25Z", "at": "2026-11-21T09:05:00.12Z", "code": "2.04",
        "answer": { "sessions": [{ "id": 7, "number": 12, "state": "paged" }] }
    },
    "links": { "self": "http://localhost:8080/v1/commands/0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11" }
}))]
pub struct CommandResource {
    /// A UUID.
    pub id: String,
    /// Always `commands`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<CommandRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<CommandAttributes>,
    pub links: SelfLink,
}

/// What a command is about.
#[derive(Serialize, ToSchema)]
pub struct CommandRelationships {
    /// The one session that is meant; of `create` the one that it made, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<ToOne>,
    /// The one service that is to carry it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ToOne>,
}

/// A command's members.
#[derive(Serialize, ToSchema)]
pub struct CommandAttributes {
    /// `create`, `page`, `clear` or `remove`.
    pub action: &'static str,
    /// The pager's number.
    #[schema(minimum = 1, maximum = 65535)]
    pub number: u16,
    /// How to page; the transmitter's own default where absent. Of `page`.
    #[serde(rename = "pageMode", skip_serializing_if = "Option::is_none")]
    pub page_mode: Option<String>,
    /// What the pager shows. Of `page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// After how many seconds the guest is to be paged. Of `create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<u32>,
    /// What the session is called. Of `create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Guests in the party. Of `create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub party_size: Option<u32>,
    /// How far it came. `queued`: no relay knows of it yet. `delivered`: its relay was told. `done`: the transmitter did it.
    /// `refused`: the transmitter would not. `expired`: it was not carried out in its time, and will not be. `unknown`: it may
    /// have been carried out or not.
    pub status: String,
    /// The project's number.
    pub project: i64,
    #[schema(format = DateTime)]
    pub created: String,
    /// It is not carried out after this.
    #[schema(format = DateTime)]
    pub expires: String,
    /// The id of the key that gave it.
    pub created_by: String,
    /// When its relay was told first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub delivered: Option<String>,
    /// When its end became known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub finished: Option<String>,
    /// When it ended, by the relay's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub at: Option<String>,
    /// The transmitter's own answer: its CoAP code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The transmitter's own answer: its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub answer: Option<Value>,
    /// In words, where it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl CommandResource {
    pub fn of(command: &Command, base: &str) -> Self {
        let service = format!("{base}/v1/services/{}", segment(&command.service));
        Self {
            id: command.id.to_string(),
            kind: "commands",
            relationships: Some(CommandRelationships {
                sessions: command.session_id.and_then(|id| {
                    let session = format!("{base}/v1/sessions/{id}");
                    to_one(session, identifier("sessions", id))
                }),
                services: to_one(service, identifier("services", &command.service)),
            }),
            attributes: Some(CommandAttributes::of(command)),
            links: SelfLink {
                own: Self::link(command.id, base),
            },
        }
    }

    /// Where a command is.
    pub fn link(id: uuid::Uuid, base: &str) -> String {
        format!("{base}/v1/commands/{id}")
    }
}

impl CommandAttributes {
    fn of(command: &Command) -> Self {
        let order = command.order.0.clone();
        let report = command.report.as_ref().map(|report| &report.0);
        let mut attributes = Self {
            action: order.name(),
            number: order.number(),
            page_mode: None,
            message: None,
            goal: None,
            label: None,
            party_size: None,
            status: command.status.clone(),
            project: command.project_id,
            created: rfc3339(command.created_at),
            expires: rfc3339(command.expires_at),
            created_by: command.created_by.clone(),
            delivered: command.delivered_at.map(rfc3339),
            finished: command.finished_at.map(rfc3339),
            at: report.map(|report| rfc3339(report.at)),
            code: report.and_then(|report| report.code.clone()),
            answer: report.and_then(|report| report.answer.clone()),
            detail: report.and_then(|report| report.detail.clone()),
        };
        match order {
            Order::Create {
                goal,
                label,
                party_size,
                ..
            } => {
                (attributes.goal, attributes.label) = (goal, label);
                attributes.party_size = party_size;
            }
            Order::Page {
                page_mode, message, ..
            } => (attributes.page_mode, attributes.message) = (page_mode, message),
            Order::Clear { .. } | Order::Remove { .. } => {}
        }
        attributes
    }
}

/// What to do to a session.
#[derive(ToSchema)]
#[schema(example = json!({
    "data": {
        "type": "sessions", "id": "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa",
        "attributes": { "action": "page", "pageMode": "Flash30Sec" }
    }
}))]
#[expect(dead_code, reason = "the shape for the document; `input` reads it")]
pub struct SessionAction {
    data: SessionActionData,
}

/// The session that is meant, and what to do to it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; `input` reads it")]
pub struct SessionActionData {
    /// `sessions`.
    #[schema(rename = "type", pattern = "^sessions$")]
    r#type: String,
    /// The session's id, as in the path.
    id: String,
    attributes: SessionActionAttributes,
}

/// What to do to a session.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; `input` reads it")]
pub struct SessionActionAttributes {
    /// `page`, `clear` (the guest came) or `remove` (off the roll).
    #[schema(pattern = "^(page|clear|remove)$")]
    action: String,
    /// How to page: a mode that the transmitter knows. Of `page`.
    #[schema(rename = "pageMode")]
    page_mode: Option<String>,
    /// What the pager shows. Of `page`.
    message: Option<String>,
}

/// A session to make.
#[derive(ToSchema)]
#[schema(example = json!({
    "data": { "type": "sessions", "attributes": { "number": 12, "goal": 600, "label": "Ada", "party_size": 4 } }
}))]
#[expect(dead_code, reason = "the shape for the document; `input` reads it")]
pub struct NewSession {
    data: NewSessionData,
}

/// A session to make; its id is not the client's to choose.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; `input` reads it")]
pub struct NewSessionData {
    /// `sessions`.
    #[schema(rename = "type", pattern = "^sessions$")]
    r#type: String,
    attributes: NewSessionAttributes,
}

/// What a session begins with.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; `input` reads it")]
pub struct NewSessionAttributes {
    /// The pager's number; where it has a session already, that is changed.
    #[schema(minimum = 1, maximum = 65535)]
    number: u16,
    /// After how many seconds the guest is to be paged; the transmitter's setting where left out.
    #[schema(maximum = 86400)]
    goal: Option<u32>,
    /// What the session is called: at most 1,000 bytes.
    label: Option<String>,
    /// Guests in the party.
    #[schema(minimum = 1, maximum = 1000000)]
    party_size: Option<u32>,
}
