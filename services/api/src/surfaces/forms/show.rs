//! Show one session.

use actix_web::{HttpResponse, get, web};
use rollcall_store::sessions;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::wire::{SessionObject, Success};
use super::{SessionPath, in_reach, no_session, session_id};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ShowQuery {
    /// Look among deleted sessions, and only there.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = bool)]
    deleted: bool,
    /// Add `sub_project_sessions`.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = bool)]
    include_sub_sessions: bool,
}

/// Show a session
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        ShowQuery,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The session.", body = Success<SessionObject>)),
)]
#[get("/projects/{project_id}/sessions/{uuid}")]
pub async fn show_session(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<SessionPath>,
    query: web::Query<ShowQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let project = in_reach(&who, path.project_id)?;
    let id = session_id(&who, project, &path.uuid);
    let found = app
        .db
        .tenant(who.org, async |tx| {
            sessions::find(tx, id).await.map_err(ApiError::from)
        })
        .await?;
    let session = found
        .filter(|session| session.deleted == query.deleted)
        .ok_or_else(no_session)?;
    let mut object = SessionObject::of(&session);
    if query.include_sub_sessions {
        object = object.with_sub_sessions();
    }
    Ok(HttpResponse::Ok().json(Success::of(object)))
}

/// `1`, `true` and nothing at all (`?deleted`) are yes, `0` and `false` are no.
pub fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "1" | "true" | "" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "`{}` is not a boolean; use true or false",
            other.escape_debug()
        ))),
    }
}
