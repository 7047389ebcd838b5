//! An attachment.

use rollcall_store::attachments::Attachment;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::document::ToOne;
use super::{identifier, rfc3339, to_one};

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
