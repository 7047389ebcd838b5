//! Attachments: what is known of a file, and its bytes.

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{HttpRequest, HttpResponse, get, web};
use rollcall_model::{AttachmentId, ObjectKey, ProjectId, SessionId};
use rollcall_store::attachments::{self, Attachment};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Common;
use super::asked::Asked;
use super::document::{Document, answer};
use super::wire::AttachmentResource;
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::download::{Download, disposition};
use crate::error::{ApiError, Problem};
use crate::surfaces::forms::attachments::FileBytes;

/// An attachment in a path.
#[derive(Deserialize)]
pub struct AttachmentPath {
    attachment_id: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ContentQuery {
    /// Answer with 303 and a link to the bytes in the storage, which holds for some minutes, where clients can reach that;
    /// else with the bytes themselves.
    #[param(value_type = Option<bool>)]
    redirect: Option<String>,
}

/// Show an attachment
///
/// Of a session as it stands, or of one of its revisions, as long as the file is kept.
#[utoipa::path(
    tag = "resources",
    params(
        ("attachment_id" = Uuid, Path, description = "The attachment's id.", example = "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"),
        Common,
        ("fields[attachments]" = Option<String>, Query, description = "Members wanted of the attachment."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The attachment.", body = Document<AttachmentResource>)),
)]
#[get("/attachments/{attachment_id}")]
pub async fn get_attachment_resource(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<AttachmentPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    asked.include(&[])?;
    let file = find(&app, &allow.who, &path).await?;
    answer(
        &asked,
        &Document::of(&asked, AttachmentResource::of(&file, &asked.base)),
    )
}

/// Download an attachment
///
/// The type is always `application/octet-stream`; the attachment has the type that the client gave. One range of bytes
/// may be asked for.
#[utoipa::path(
    tag = "resources",
    params(
        ("attachment_id" = Uuid, Path, description = "The attachment's id.", example = "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"),
        ContentQuery, Common,
        ("Range" = Option<String>, Header, description = "One range of bytes.", example = "bytes=0-1023"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The bytes.", body = FileBytes, content_type = "application/octet-stream"),
        (status = 206, description = "The range of bytes.", body = FileBytes, content_type = "application/octet-stream"),
        (status = 303, description = "The bytes are at `Location`, for some minutes."),
        (status = 304, description = "The client has these bytes."),
        (status = 416, description = "The file is shorter than the range's start."),
    ),
)]
#[get("/attachments/{attachment_id}/content")]
pub async fn get_attachment_content(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<AttachmentPath>,
    query: web::Query<ContentQuery>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let wants_link = match query.redirect.as_deref() {
        None | Some("false" | "0") => false,
        Some("true" | "1" | "") => true,
        Some(_) => {
            return Err(ApiError::Invalid(
                Problem::new("redirect_invalid", "redirect must be true or false")
                    .of_parameter("redirect"),
            ));
        }
    };
    let who = allow.who;
    let file = find(&app, &who, &path).await?;
    let project = ProjectId::new(file.project_id)
        .ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a project's number is not positive")))?;
    let key = ObjectKey {
        org: who.org,
        project,
        session: SessionId(file.session_id),
        attachment: AttachmentId(file.id),
    };
    if wants_link {
        let name = disposition(&file.filename).to_string();
        if let Some(link) = app.objects.presigned(&key, name).await? {
            return Ok(HttpResponse::SeeOther()
                .insert_header((LOCATION, link))
                .insert_header((CACHE_CONTROL, "no-store"))
                .finish());
        }
    }
    let download = Download {
        key,
        filename: &file.filename,
        length: u64::try_from(file.length).unwrap_or_default(),
        sha256: &file.sha256,
        is_retired: file.retired_at.is_some(),
    };
    download.answer(&app, &req).await
}

async fn find(app: &App, who: &Principal, path: &AttachmentPath) -> Result<Attachment, ApiError> {
    let none = || {
        ApiError::not_found(
            "attachment_not_found",
            "there is no such attachment in this key's reach",
        )
    };
    // What is no id names no attachment either.
    let id = AttachmentId(Uuid::try_parse(&path.attachment_id).map_err(|_| none())?);
    let found = app
        .db
        .tenant(who.org, async |tx| {
            attachments::find(tx, who.project, id)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    found.ok_or_else(none)
}
