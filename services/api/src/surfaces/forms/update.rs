//! Update sessions: only what is sent changes (contract §2.4, M10, M11).

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, put, web};
use rollcall_model::{Op, SessionChange};
use rollcall_store::changes;
use serde::Deserialize;
use utoipa::ToSchema;

use super::body::{self, Received, Target};
use super::input::SessionInput;
use super::wire::{SessionObject, Success, session_reply, settled};
use super::{ProjectPath, SessionPath, change, existing, in_reach, json};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::{ApiError, Dialect};
use crate::idempotency::{self, Reply};

/// A session to write, as JSON.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of `SessionInput` for the document")]
pub struct SessionEnvelope {
    session: SessionToWrite,
}

/// Several sessions to update, as JSON.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of `SessionInput` for the document")]
pub struct SessionsEnvelope {
    sessions: Vec<SessionToWrite>,
}

/// What can be written of a session.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of `SessionInput` for the document")]
#[schema(example = json!({
    "uuid": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11",
    "unit_id": "mydevice",
    "created": 1234567890,
    "saved": 1234567890,
    "data": { "point1": "value1", "sketch1": { "rawData": "AAECAw==" } }
}))]
pub struct SessionToWrite {
    /// Any text of 1 to 255 bytes; one is made where it is left out of a create.
    uuid: Option<String>,
    /// The device; required in a create.
    unit_id: Option<String>,
    /// Seconds since 1970; now, where left out. Cannot be updated.
    created: Option<i64>,
    /// Seconds since 1970; now, where left out.
    saved: Option<i64>,
    /// Points by name, compared without regard to case: a scalar, or `{"rawData": "<Base64>"}`.
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
    /// `false` in a batch's update restores a deleted session; without effect elsewhere.
    is_deleted: Option<bool>,
}

/// The same as form fields.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a form for the document")]
#[schema(example = json!({
    "session[uuid]": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11",
    "session[unit_id]": "mydevice",
    "session[created]": "1234567890",
    "session[saved]": "1234567890",
    "session[data][point1]": "value1",
    "session[data][sketch1][rawData]": "AAECAw=="
}))]
pub struct SessionFields {
    #[schema(rename = "session[uuid]")]
    uuid: Option<String>,
    #[schema(rename = "session[unit_id]")]
    unit_id: Option<String>,
    #[schema(rename = "session[created]")]
    created: Option<String>,
    #[schema(rename = "session[saved]")]
    saved: Option<String>,
    /// `session[data][<point>]` and `session[data][<point>][rawData]`; in `multipart/form-data` also files.
    #[serde(flatten)]
    points: BTreeMap<String, String>,
}

/// Update a session
///
/// Values that are not sent stay as they are; `created` and `uuid` cannot be changed. A new file replaces the one that
/// the point held. A deleted session is not found; restore it with a batch.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    request_body(content(
        (SessionEnvelope = "application/json"),
        (SessionFields = "application/x-www-form-urlencoded"),
        (SessionFields = "multipart/form-data"),
    )),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The session, as it now is.", body = Success<SessionObject>),
        (status = 413, description = "The body or a file is over its limit.", body = crate::error::FormsError),
        (status = 415, description = "The content type is missing or not one of the three.", body = crate::error::FormsError),
    ),
)]
#[put("/projects/{project_id}/sessions/{uuid}")]
pub async fn update_session(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<SessionPath>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let mut project = in_reach(&who, path.project_id)?;
    if body::media_type(&req)? == "multipart/form-data" {
        project = existing(&app, &who, project).await?;
    }
    let target = Target {
        org: who.org,
        project,
        uuid: Some(&path.uuid),
    };
    let Received {
        mut input,
        mut uploads,
        fingerprint,
        lease: _lease,
    } = body::read_session(&app, &req, payload, target).await?;
    // Deleting and restoring have their own requests.
    input.is_deleted = None;
    let change = change(
        &who,
        project,
        &path.uuid,
        Op::Merge(input.into_merge(&app.limits)),
    );
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
            session_reply(&settled(&app, outcome)?)
        })
        .await;
    uploads.settle(&app.objects, &reply).await;
    Ok(reply?.into_response())
}

/// Update several sessions
///
/// Each names its `uuid`. All are updated, or none: where one is not found the answer is 404.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    request_body = SessionsEnvelope,
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The sessions, as they now are, in the order sent.", body = Success<Vec<SessionObject>>),
        (status = 413, description = "The body is over its limit.", body = crate::error::FormsError),
        (status = 415, description = "The content type is not JSON.", body = crate::error::FormsError),
    ),
)]
#[put("/projects/{project_id}/sessions")]
pub async fn update_sessions(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    #[derive(Deserialize)]
    struct Envelope {
        sessions: Vec<SessionInput>,
    }

    let who = allow.who;
    let project = in_reach(&who, path.project_id)?;
    let body = body::read_json_body(&app, &req, payload).await?;
    let Envelope { sessions } = json::parse(&body.bytes, &app.limits).map_err(ApiError::Invalid)?;
    check_count(sessions.len(), app.limits.items)?;
    let mut changes: Vec<SessionChange> = Vec::with_capacity(sessions.len());
    for (at, input) in sessions.into_iter().enumerate() {
        let mut input = input.check(&app.limits).map_err(ApiError::Invalid)?;
        input.is_deleted = None;
        let Some(uuid) = input.uuid.clone() else {
            return Err(ApiError::invalid(
                "uuid_missing",
                format!("sessions[{at}] has no uuid; name the session to update"),
            ));
        };
        changes.push(change(
            &who,
            project,
            &uuid.0,
            Op::Merge(input.into_merge(&app.limits)),
        ));
    }
    let fingerprint = body::fingerprint(&body.bytes);
    let request = idempotency::Request {
        app: &app,
        who: &who,
        http: &req,
        fingerprint,
        dialect: Dialect::Forms,
    };
    let reply = request
        .run(async |tx| {
            let outcomes = changes::apply(tx, &changes).await?;
            let sessions = outcomes
                .into_iter()
                .map(|outcome| settled(&app, outcome))
                .collect::<Result<Vec<_>, _>>()?;
            Reply::ok(&Success::of(
                sessions.iter().map(SessionObject::of).collect::<Vec<_>>(),
            ))
        })
        .await?;
    Ok(reply.into_response())
}

/// Bounds what one request may change.
pub fn check_count(count: usize, limit: usize) -> Result<(), ApiError> {
    if count <= limit {
        return Ok(());
    }
    Err(ApiError::invalid(
        "too_many_items",
        format!(
            "one request may change at most {limit} sessions (limit: items), this one has {count}"
        ),
    ))
}
