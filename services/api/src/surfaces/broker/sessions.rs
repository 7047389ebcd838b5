//! Sessions: list and show.

use actix_web::http::header::AGE;
use actix_web::{HttpRequest, HttpResponse, get, web};
use rollcall_store::{TenantConn, brokers};

use super::asked::{Asked, ListParameters, OneBroker};
use super::list::{self, Kind};
use super::reach::{self, Reach};
use super::wire::{BrokerSessions, SessionObject};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;
use crate::surfaces::forms::ProjectPath;

/// List sessions on brokers
///
/// Those that MQTT clients and AMQP connections have now, by client id in the order of its bytes. Of one id on several brokers
/// or virtual hosts the connected session is shown, then the latest. Without a limit the list is streamed.
#[utoipa::path(
    tag = "broker",
    params(
        ("state" = Option<String>, Query, description = "`all` (the default), `connected` or `disconnected`.", example = "connected"),
        ListParameters, OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "A page of sessions, without their subscriptions.", body = BrokerSessions,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/sessions")]
pub async fn list_broker_sessions(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let reach = Reach::of(allow.who);
    list::answer(app, reach, Asked::of(&req), Kind::Sessions).await
}

/// List sessions on a project's brokers
#[utoipa::path(
    tag = "broker",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("state" = Option<String>, Query, description = "`all` (the default), `connected` or `disconnected`.", example = "connected"),
        ListParameters, OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "A page of sessions, without their subscriptions.", body = BrokerSessions,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/sessions")]
pub async fn list_project_broker_sessions(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let reach = Reach::of_project(allow.who, &path)?;
    list::answer(app, reach, Asked::of(&req), Kind::Sessions).await
}

/// Show a session on a broker
///
/// With its subscriptions. The id is one segment of the path, percent-encoded: `a/b` is `a%2Fb`.
#[utoipa::path(
    tag = "broker",
    params(
        ("client_id" = String, Path, description = "The client's id, percent-encoded.", example = "my-device-001"),
        OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "The session.", body = SessionObject,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in reach was taken.")),
    )),
)]
#[get("/sessions/{client_id}")]
pub async fn get_broker_session(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    show(Reach::of(allow.who), &req, &app).await
}

/// Show a session on a project's broker
///
/// With its subscriptions. The id is one segment of the path, percent-encoded: `a/b` is `a%2Fb`.
#[utoipa::path(
    tag = "broker",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("client_id" = String, Path, description = "The client's id, percent-encoded.", example = "my-device-001"),
        OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "The session.", body = SessionObject,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in reach was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/sessions/{client_id}")]
pub async fn get_project_broker_session(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    show(Reach::of_project(allow.who, &path)?, &req, &app).await
}

async fn show(reach: Reach, req: &HttpRequest, app: &App) -> Result<HttpResponse, ApiError> {
    let (asked, name) = (Asked::of(req), reach::name(req, 0));
    let read = async |tx: &mut TenantConn| {
        let seen = reach.brokers(tx).await?;
        let (seen, selection) = reach.narrow(seen, asked.service())?;
        let found = match &name {
            Some(name) => brokers::session(tx, &selection, name).await?,
            None => None,
        };
        let found =
            found.ok_or_else(|| ApiError::not_found("session_not_found", "session not found"))?;
        Ok::<_, ApiError>((reach::age(&seen), found))
    };
    let (age, found) = app.db.tenant(reach.org(), read).await?;
    Ok(HttpResponse::Ok()
        .insert_header((AGE, age))
        .json(SessionObject::of(found)))
}
