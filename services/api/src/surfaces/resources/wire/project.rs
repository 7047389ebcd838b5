//! A project.

use rollcall_store::projects::Project;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::document::{Relationship, SelfLink};
use super::{related, rfc3339};

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
