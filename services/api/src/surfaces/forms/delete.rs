//! Delete a session: softly, restorable through a batch (M12).

use actix_web::{HttpRequest, HttpResponse, delete, web};
use rollcall_model::Op;
use rollcall_store::changes;

use super::wire::{SessionObject, Success, session_reply, settled};
use super::{SessionPath, change, in_reach};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::{ApiError, Dialect};
use crate::idempotency;

/// Delete a session
///
/// The session is marked as deleted and keeps its data: `deleted=true` shows it, a batch restores it.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The session, now deleted.", body = Success<SessionObject>)),
)]
#[delete("/projects/{project_id}/sessions/{uuid}")]
pub async fn delete_session(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<SessionPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let project = in_reach(&who, path.project_id)?;
    let change = change(&who, project, &path.uuid, Op::Delete);
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
