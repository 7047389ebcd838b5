//! A point's file: download, replace or add, take away (contract §2.5, M20).

use actix_multipart::Multipart;
use actix_web::{HttpRequest, HttpResponse, delete, get, put, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use rollcall_model::{Attachment, ObjectKey, Op, Point, ProjectId};
use rollcall_store::{changes, sessions};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{self, Uploads};
use super::input::point_name;
use super::wire::{SessionObject, Success, no_attachment, session_reply, settled};
use super::{change, in_reach, no_session, project_number, session_id};
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::download::Download;
use crate::error::{ApiError, Dialect};
use crate::idempotency::{self, Reply};

/// A point of a session in a path.
#[derive(Deserialize)]
pub struct AttachmentPath {
    #[serde(deserialize_with = "project_number")]
    project_id: ProjectId,
    uuid: String,
    point: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PutQuery {
    /// The file's name, where the body is the bare bytes.
    #[param(example = "photo.jpg")]
    filename: Option<String>,
}

/// What was stored.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "length": 48213, "md5": "9e107d9d372bb6826bd81d3542a419d6" }))]
pub struct StoredObject {
    /// Size in bytes.
    length: u64,
    /// Lower-case hexadecimal.
    md5: String,
}

/// Download a file
///
/// The type is always `application/octet-stream`; the session's point has the type that the client gave. One range of
/// bytes may be asked for.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        ("point" = String, Path, description = "The point's name.", example = "photo"),
        ("Range" = Option<String>, Header, description = "One range of bytes.", example = "bytes=0-1023"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The bytes.", body = FileBytes, content_type = "application/octet-stream"),
        (status = 206, description = "The range of bytes.", body = FileBytes, content_type = "application/octet-stream"),
        (status = 304, description = "The client has these bytes."),
        (status = 416, description = "The file is shorter than the range's start."),
    ),
)]
#[get("/projects/{project_id}/sessions/{uuid}/attachments/{point}")]
pub async fn get_attachment(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<AttachmentPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let (key, file) = find(&app, &allow.who, &path).await?;
    let file = Download {
        key,
        filename: &file.filename,
        length: file.length,
        sha256: &file.sha256,
        is_retired: false,
    };
    file.answer(&app, &req).await
}

/// Store a file in a point
///
/// Adds the file or replaces the one that is there. The body is `multipart/form-data` with the field `attachment`, or the
/// bare bytes as `application/octet-stream`.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        ("point" = String, Path, description = "The point's name.", example = "photo"),
        PutQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    request_body(content(
        (FileBytes = "application/octet-stream"),
        (AttachmentForm = "multipart/form-data"),
    )),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The file is stored.", body = Success<StoredObject>),
        (status = 413, description = "The file is over its limit.", body = crate::error::FormsError),
    ),
)]
#[put("/projects/{project_id}/sessions/{uuid}/attachments/{point}")]
pub async fn put_attachment(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<AttachmentPath>,
    query: web::Query<PutQuery>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let project = in_reach(&who, path.project_id)?;
    let point = point_name(&path.point, &app.limits).map_err(ApiError::Invalid)?;
    let id = session_id(&who, project, &path.uuid);
    let found = app
        .db
        .tenant(who.org, async |tx| {
            sessions::find(tx, id).await.map_err(ApiError::from)
        })
        .await?;
    if found.is_none_or(|session| session.deleted) {
        return Err(no_session());
    }
    let File {
        filename,
        content_type,
        chunks,
    } = file(&req, payload, query.into_inner().filename).await?;
    let Some(chunks) = body::peeked(chunks).await? else {
        return Err(body::empty_file(point.as_str()));
    };
    let key = body::new_object(who.org, project, &path.uuid);
    let mut uploads = Uploads::one(key);
    let stored =
        body::store_file(&app, key, &point, filename.as_deref(), content_type, chunks).await;
    let attachment = match stored {
        Ok(attachment) => attachment,
        Err(error) => {
            uploads.discard(&app.objects).await;
            return Err(error);
        }
    };
    let answer = StoredObject {
        length: attachment.length,
        md5: attachment.md5.clone(),
    };
    let description = format!(
        "{}\0{}\0{}",
        attachment.filename, attachment.content_type, attachment.sha256
    );
    let op = Op::Attach {
        point,
        attachment,
        max_points: app.limits.points,
    };
    let change = change(&who, project, &path.uuid, op);
    let fingerprint = body::fingerprint(description.as_bytes());
    let request = idempotency::Request {
        app: &app,
        who: &who,
        http: &req,
        fingerprint,
        dialect: Dialect::Forms,
    };
    let reply = request
        .run(async |tx| {
            let outcome = changes::apply_one(tx, change).await?;
            Ok(Reply::ok(&Success::of(answer))?.holding(&settled(&app, outcome)?))
        })
        .await;
    uploads.settle(&app.objects, &reply).await;
    Ok(reply?.into_response())
}

/// A file's bytes, as they are.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a body for the document")]
#[schema(value_type = String, format = Binary)]
pub struct FileBytes(Vec<u8>);

/// A file as a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a form for the document")]
pub struct AttachmentForm {
    #[schema(value_type = String, format = Binary)]
    attachment: Vec<u8>,
}

/// Take a file away
///
/// The point is gone with it. The file stays described in the session's revisions.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        ("point" = String, Path, description = "The point's name.", example = "photo"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The session without the file.", body = Success<SessionObject>)),
)]
#[delete("/projects/{project_id}/sessions/{uuid}/attachments/{point}")]
pub async fn delete_attachment(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<AttachmentPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let project = in_reach(&who, path.project_id)?;
    let point = point_name(&path.point, &app.limits).map_err(ApiError::Invalid)?;
    let change = change(&who, project, &path.uuid, Op::Detach { point });
    let request = idempotency::Request {
        app: &app,
        who: &who,
        http: &req,
        fingerprint: [0; 32],
        dialect: Dialect::Forms,
    };
    let reply = request
        .run(async |tx| {
            let outcome = changes::apply_one(tx, change).await?;
            session_reply(&settled(&app, outcome)?)
        })
        .await?;
    Ok(reply.into_response())
}

/// The file that a point of a live session holds.
async fn find(
    app: &App,
    who: &Principal,
    path: &AttachmentPath,
) -> Result<(ObjectKey, Attachment), ApiError> {
    let project = in_reach(who, path.project_id)?;
    let id = session_id(who, project, &path.uuid);
    let found = app
        .db
        .tenant(who.org, async |tx| {
            sessions::find(tx, id).await.map_err(ApiError::from)
        })
        .await?;
    let session = found
        .filter(|session| !session.deleted)
        .ok_or_else(no_session)?;
    let point = session.points.get(path.point.to_lowercase().as_str());
    let file = point
        .and_then(Point::attachment)
        .ok_or_else(no_attachment)?;
    let key = ObjectKey {
        org: who.org,
        project,
        session: id,
        attachment: file.id,
    };
    Ok((key, file.clone()))
}

/// A file on its way in.
struct File {
    filename: Option<String>,
    content_type: Option<String>,
    chunks: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>>>>,
}

async fn file(
    req: &HttpRequest,
    payload: web::Payload,
    filename: Option<String>,
) -> Result<File, ApiError> {
    // The contract asks for 400 where the content type is unknown or missing, not for 415.
    let media_type = body::media_type(req).map_err(|error| match error {
        ApiError::UnsupportedMedia(problem) => ApiError::Invalid(problem),
        other => other,
    })?;
    match media_type.as_str() {
        "application/octet-stream" => Ok(File {
            filename,
            content_type: None,
            chunks: Box::pin(payload.map_err(|error| body::of_payload(&error))),
        }),
        "multipart/form-data" => {
            let mut parts = Multipart::new(req.headers(), payload);
            while let Some(part) = parts.try_next().await.map_err(body::of_multipart)? {
                if part.name() == Some("attachment") {
                    return Ok(File {
                        filename: body::filename(&part).or(filename),
                        content_type: part.content_type().map(ToString::to_string),
                        chunks: Box::pin(whole(parts, part)),
                    });
                }
            }
            Err(ApiError::invalid(
                "file_missing",
                "the form has no field `attachment`; send the file in it",
            ))
        }
        _ => Err(ApiError::invalid(
            "content_type_unsupported",
            "send the file as application/octet-stream, or as multipart/form-data in the field `attachment`",
        )),
    }
}

/// A part's bytes, then the rest of the form: a file is whole only where the form is.
fn whole(
    parts: Multipart,
    part: actix_multipart::Field,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let rest = stream::once(async move {
        let mut parts = parts;
        while parts
            .try_next()
            .await
            .map_err(body::of_multipart)?
            .is_some()
        {}
        Ok(Bytes::new())
    });
    part.map_err(body::of_multipart).chain(rest)
}
