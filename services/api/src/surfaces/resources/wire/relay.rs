//! A relay.

use rollcall_store::relays::Relay;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::document::{Relationship, SelfLink, ToOne};
use super::{identifier, related, rfc3339, to_one};

/// Who forwards what happens at services that the cloud does not reach.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11",
    "type": "relays",
    "relationships": {
        "services": {
            "links": { "related": "http://localhost:8080/v1/relays/0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11/services" }
        },
        "projects": {
            "links": { "related": "http://localhost:8080/v1/projects/1" },
            "data": { "id": "1", "type": "projects" }
        }
    },
    "attributes": {
        "name": "front-desk", "project": 1, "created": "2026-11-21T09:00:00Z",
        "last_seen": "2026-11-21T09:05:01.25Z", "version": "0.1.0",
        "spool": { "events": 2, "bytes": 40960, "oldest": "2026-11-21T09:05:00Z" }, "set_aside": 0
    },
    "links": { "self": "http://localhost:8080/v1/relays/0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11" }
}))]
pub struct RelayResource {
    /// Rollcall's own: a UUID.
    pub id: String,
    /// Always `relays`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relationships: Option<RelayRelationships>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<RelayAttributes>,
    pub links: SelfLink,
}

/// What belongs to a relay.
#[derive(Serialize, ToSchema)]
pub struct RelayRelationships {
    /// The services that it speaks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Relationship>,
    /// The one project that it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projects: Option<ToOne>,
}

/// A relay's members. What it says of itself is as it last said it.
#[derive(Serialize, ToSchema)]
pub struct RelayAttributes {
    /// Unique in the organization.
    pub name: String,
    /// The project's number.
    pub project: i64,
    /// Since when there is the relay.
    #[schema(format = DateTime)]
    pub created: String,
    /// When it was last heard of, by our clock; absent where it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub last_seen: Option<String>,
    /// Of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub spool: RelaySpool,
    /// Events that were refused and that it set aside.
    pub set_aside: i64,
}

/// What waits at a relay to be sent.
#[derive(Serialize, ToSchema)]
pub struct RelaySpool {
    /// Events that wait.
    pub events: i64,
    /// Bytes of the spool's file.
    pub bytes: i64,
    /// When the oldest that waits happened, by the relay's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub oldest: Option<String>,
}

impl RelayResource {
    pub fn of(relay: &Relay, base: &str) -> Self {
        let own = format!("{base}/v1/relays/{}", relay.id);
        let project = format!("{base}/v1/projects/{}", relay.project_id);
        Self {
            id: relay.id.to_string(),
            kind: "relays",
            relationships: Some(RelayRelationships {
                services: related(format!("{own}/services"), None),
                projects: to_one(project, identifier("projects", relay.project_id)),
            }),
            attributes: Some(RelayAttributes {
                name: relay.name.clone(),
                project: relay.project_id,
                created: rfc3339(relay.created_at),
                last_seen: relay.last_seen_at.map(rfc3339),
                version: relay.version.clone(),
                spool: RelaySpool {
                    events: relay.spool_events,
                    bytes: relay.spool_bytes,
                    oldest: relay.spool_oldest_at.map(rfc3339),
                },
                set_aside: relay.set_aside,
            }),
            links: SelfLink { own },
        }
    }
}
