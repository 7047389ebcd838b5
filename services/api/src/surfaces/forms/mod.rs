//! The forms surface: what field devices post (seed 003; forms-http contract and its decisions M1 to M22).

pub mod attachments;
mod batch;
pub mod body;
mod create;
mod delete;
pub mod fields;
pub mod input;
pub mod json;
mod list;
mod revisions;
mod show;
mod time;
mod update;
mod wire;

use ::time::OffsetDateTime;
use rollcall_model::{Kind, Op, ProjectId, SessionChange, SessionId, forms_service};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tracing::Span;
use tracing::field::display;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::App;
use crate::auth::Principal;
use crate::error::ApiError;
use rollcall_store::projects;

/// What needs no credential.
pub(super) fn open_routes(cfg: &mut ServiceConfig) {
    cfg.service(time::show_time);
}

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(create::create_session)
        .service(list::list_sessions)
        .service(update::update_sessions)
        .service(batch::apply_batch)
        .service(show::show_session)
        .service(update::update_session)
        .service(delete::delete_session)
        .service(revisions::list_revisions)
        .service(attachments::get_attachment)
        .service(attachments::put_attachment)
        .service(attachments::delete_attachment);
}

/// A project in a path.
#[derive(Deserialize)]
pub struct ProjectPath {
    #[serde(deserialize_with = "project_number")]
    pub project_id: ProjectId,
}

/// A session in a path.
#[derive(Deserialize)]
pub struct SessionPath {
    #[serde(deserialize_with = "project_number")]
    project_id: ProjectId,
    uuid: String,
}

fn project_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProjectId, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

/// The project of a path, where the principal reaches it; whether it exists is still to be seen.
pub fn in_reach(who: &Principal, project: ProjectId) -> Result<ProjectId, ApiError> {
    Span::current().record("project_id", display(project));
    if who.reaches(project) {
        Ok(project)
    } else {
        Err(no_project())
    }
}

/// The project of a path, which exists.
async fn existing(app: &App, who: &Principal, project: ProjectId) -> Result<ProjectId, ApiError> {
    let project = in_reach(who, project)?;
    let exists = app.db.tenant(who.org, async |tx| {
        projects::exists(tx, project).await.map_err(ApiError::from)
    });
    if exists.await? {
        Ok(project)
    } else {
        Err(no_project())
    }
}

/// The error for a project that is not there.
pub fn no_project() -> ApiError {
    ApiError::not_found(
        "project_not_found",
        "there is no such project in this key's reach",
    )
}

fn no_session() -> ApiError {
    ApiError::not_found(
        "session_not_found",
        "there is no such session in this project",
    )
}

fn session_id(who: &Principal, project: ProjectId, uuid: &str) -> SessionId {
    SessionId::of(who.org, &forms_service(project), uuid)
}

/// A change of one form, as of now.
fn change(who: &Principal, project: ProjectId, uuid: &str, op: Op) -> SessionChange {
    let now = OffsetDateTime::now_utc();
    SessionChange {
        org: who.org,
        project,
        service: forms_service(project),
        kind: Kind::Form,
        source_id: uuid.to_owned(),
        from: who.key_id.clone(),
        // Postgres keeps microseconds; an answer shows what is kept.
        at: now
            .replace_nanosecond(now.microsecond() * 1_000)
            .expect("below a second"),
        op,
        context: None,
    }
}
