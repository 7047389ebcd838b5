//! A service.

use rollcall_store::services::{Gap, Service};
use serde::Serialize;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;

use super::super::document::{Relationship, SelfLink, ToOne};
use super::super::parameters::segment;
use super::{identifier, related, rfc3339, to_one};
use crate::surfaces::ingest::wire::PagerStatistics;

/// What sessions are created on: a project's form intake, a transmitter of pagers, and what is to come.
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
    /// The relay that speaks for it, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relays: Option<ToOne>,
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
    /// What the service counts of itself. Of transmitters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<PagerStatistics>)]
    pub statistics: Option<serde_json::Value>,
    /// When the service stood so, by its relay's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub reported: Option<String>,
    /// The id of the relay that speaks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
    /// Events that the service will never have, the latest 20; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gaps: Option<Vec<GapValue>>,
}

/// Events that are missing, and why.
#[derive(Serialize, ToSchema)]
pub struct GapValue {
    /// When it was noticed, by the relay's clock.
    #[schema(format = DateTime)]
    pub at: String,
    /// How many are missing, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<i64>,
    /// When the first of them happened, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// When the last did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// In words.
    pub reason: String,
}

impl GapValue {
    fn of(gap: &Gap) -> Self {
        let utc = |at: OffsetDateTime| rfc3339(at.to_offset(UtcOffset::UTC));
        Self {
            at: utc(gap.at),
            events: gap.events,
            since: gap.since.map(utc),
            until: gap.until.map(utc),
            reason: gap.reason.clone(),
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
                relays: service.relay_id.and_then(|id| {
                    to_one(format!("{base}/v1/relays/{id}"), identifier("relays", id))
                }),
            }),
            attributes: Some(ServiceAttributes {
                kind: service.kind.clone(),
                state: service.state.clone(),
                started: rfc3339(service.created_at),
                project: service.project_id,
                connections: service.active,
                total_connections: service.total,
                statistics: service.statistics.clone(),
                reported: service.reported_at.map(rfc3339),
                relay: service.relay_id.map(|id| id.to_string()),
                gaps: (!service.gaps.is_empty())
                    .then(|| service.gaps.iter().map(GapValue::of).collect()),
            }),
            links: SelfLink {
                own: format!("{base}/v1/services/{name}"),
            },
        }
    }
}
