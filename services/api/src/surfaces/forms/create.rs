//! Create a session, or replace the one of that name (seed 003).

use actix_web::{HttpRequest, HttpResponse, post, web};
use rollcall_model::Op;
use rollcall_store::changes;

use super::body::{self, Received, Target};
use super::wire::{SessionObject, Success, session_reply, settled};
use super::{ProjectPath, change, existing, in_reach};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::{ApiError, Dialect};
use crate::idempotency;

/// Create a session
///
/// An existing session of the same `uuid` (compared without regard to case) is replaced in one transaction; what it was
/// stays readable as a revision. Content that the session already holds, or that it once held under the same `saved`,
/// is recognized as a repeat: it changes nothing and gets the answer that the first one got.
///
/// As a form, the fields are `session[uuid]`, `session[unit_id]`, `session[created]`, `session[saved]`,
/// `session[data][<point>]` and `session[data][<point>][rawData]`; in `multipart/form-data` a `session[data][<point>]`
/// may be a file.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key get its answer again, for 24 hours."),
    ),
    request_body(content(
        (super::update::SessionEnvelope = "application/json"),
        (super::update::SessionFields = "application/x-www-form-urlencoded"),
        (super::update::SessionFields = "multipart/form-data"),
    )),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The session, as it now is.", body = Success<SessionObject>),
        (status = 413, description = "The body or a file is over its limit.", body = crate::error::FormsError),
        (status = 415, description = "The content type is missing or not one of the three.", body = crate::error::FormsError),
    ),
)]
#[post("/projects/{project_id}/sessions")]
pub async fn create_session(
    allow: Allow<perm::SessionsWrite>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let mut project = in_reach(&who, path.project_id)?;
    if body::media_type(&req)? == "multipart/form-data" {
        // Files are stored while they are read: not for a project that is not there.
        project = existing(&app, &who, project).await?;
    }
    let target = Target {
        org: who.org,
        project,
        uuid: None,
    };
    let Received {
        input,
        mut uploads,
        fingerprint,
        lease: _lease,
    } = body::read_session(&app, &req, payload, target).await?;
    let uuid = input
        .uuid
        .clone()
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), |name| name.0);
    let put = match input.into_put() {
        Ok(put) => put,
        Err(error) => {
            uploads.discard(&app.objects).await;
            return Err(error);
        }
    };
    let change = change(&who, project, &uuid, Op::Put(put));
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
