//! Giving commands: they are queued for the relay that owns the service, and the caller may wait for what becomes of them.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_LOCATION, LOCATION};
use actix_web::{HttpRequest, HttpResponse, patch, post, web};
use rollcall_model::command::Order;
use rollcall_model::{Kind, ProjectId, SessionId};
use rollcall_store::commands::{self, Command, NewCommand};
use rollcall_store::{TenantConn, services};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::super::Common;
use super::super::asked::Asked;
use super::super::document::{Document, SelfLink, written};
use super::super::services::{ServicePath, no_service};
use super::super::sessions::{SessionPath, named};
use super::super::wire::{CommandResource, NewSession, SessionAction};
use super::{EXPIRED_AT_ONCE, find, input, not_a_pager};
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::{ApiError, Dialect, JsonApiErrors, Problem};
use crate::idempotency::{self, Reply};
use crate::surfaces::forms::body::fingerprint;
use crate::watch::{self, Watch};

/// For how long a command may be carried out, in seconds: by default, and at most.
const DEFAULT_TTL: u32 = 60;
const MAX_TTL: u32 = 3_600;

/// How a command is given.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Giving {
    /// Wait for what becomes of the command, so many seconds at most: 0 to 30.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 30)]
    wait: Option<String>,
    /// For how many seconds the command may be carried out: 1 to 3600, 60 where left out.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 3600)]
    ttl: Option<String>,
}

impl Giving {
    fn read(&self) -> Result<(Duration, u32), ApiError> {
        let ttl = self.ttl.as_deref().map_or(Some(DEFAULT_TTL), |text| {
            let ttl = text.parse().ok();
            ttl.filter(|seconds| (1..=MAX_TTL).contains(seconds))
        });
        let ttl = ttl.ok_or_else(|| {
            let message = format!("ttl must be a whole number of seconds, from 1 to {MAX_TTL}");
            ApiError::Invalid(Problem::new("ttl_invalid", message).of_parameter("ttl"))
        })?;
        Ok((watch::wait(self.wait.as_deref())?, ttl))
    }
}

/// Page a guest, or end a session
///
/// Of pagers. The order is queued for the relay of the session's service, which carries it out where the pager still has this
/// session; what it does to the session is told by an event, as everything is.
#[utoipa::path(
    tag = "resources",
    params(
        ("id" = String, Path, description = "The session's id, or its name at its source.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        Giving, Common,
        ("fields[commands]" = Option<String>, Query, description = "Members wanted of the command."),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key give no second command, for 24 hours."),
    ),
    request_body(content((SessionAction = "application/json"), (SessionAction = "application/vnd.api+json"))),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The command came to its end while the request waited: `status` says to which.", body = Document<CommandResource>),
        (status = 202, description = "The command is queued; `Location` says where to look for what becomes of it.", body = Document<CommandResource>),
        (status = 409, description = "The session is none with a pager, or has ended; nobody speaks for its service; several sessions have this name; or `id` or `type` of the document is another's.", body = JsonApiErrors),
        (status = 413, description = "The body is over its limit.", body = JsonApiErrors),
        (status = 415, description = "The body is neither `application/json` nor `application/vnd.api+json`.", body = JsonApiErrors),
    ),
)]
#[patch("/sessions/{id}")]
pub async fn command_session(
    allow: Allow<perm::CommandsWrite>,
    asked: Asked,
    path: web::Path<SessionPath>,
    giving: web::Query<Giving>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let (wait, ttl_seconds) = giving.read()?;
    asked.style()?;
    let body = input::read(&app, &req, payload).await?;
    let action = input::action(&body.bytes, &app.limits)?;
    let work = async |tx: &mut TenantConn| {
        let session = named(tx, &who, &path.id).await?;
        if session.kind != Kind::Pager {
            return Err(not_a_pager());
        }
        let order = action.order(&session, &path.id)?;
        if !session.is_active() {
            return Err(session_ended());
        }
        let owner = services::owner(tx, None, &session.service).await?;
        let relay = owner.and_then(|owner| owner.relay_id);
        let new = NewCommand {
            project: session.project,
            service: session.service,
            relay: relay.ok_or_else(relay_unknown)?,
            session: Some(SessionId(session.id.0)),
            order,
            created_by: who.key_id.clone(),
            ttl_seconds,
        };
        give(tx, &new, &asked).await
    };
    let request = idempotency::Request {
        app: &app,
        who: &who,
        http: &req,
        fingerprint: fingerprint(&body.bytes),
        dialect: Dialect::JsonApi,
    };
    let reply = request.run(work).await?;
    drop(body);
    answer(&app, &who, &asked, (reply, wait)).await
}

/// Create a session
///
/// Of a service of pagers: a guest who came gets a pager. The order is queued for the service's relay; the session is there once
/// its transmitter made it. Where the pager has a session already, that is changed.
#[utoipa::path(
    tag = "resources",
    params(
        ("service" = String, Path, description = "The service's name.", example = "front-desk"),
        Giving, Common,
        ("fields[commands]" = Option<String>, Query, description = "Members wanted of the command."),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeats of the request under this key give no second command, for 24 hours."),
    ),
    request_body(content((NewSession = "application/json"), (NewSession = "application/vnd.api+json"))),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The command came to its end while the request waited: `status` says to which.", body = Document<CommandResource>),
        (status = 202, description = "The command is queued; `Location` says where to look for what becomes of it.", body = Document<CommandResource>),
        (status = 409, description = "The service is none of pagers, or nobody speaks for it; or `type` of the document is another's.", body = JsonApiErrors),
        (status = 413, description = "The body is over its limit.", body = JsonApiErrors),
        (status = 415, description = "The body is neither `application/json` nor `application/vnd.api+json`.", body = JsonApiErrors),
    ),
)]
#[post("/services/{service}/sessions")]
pub async fn create_service_session(
    allow: Allow<perm::CommandsWrite>,
    asked: Asked,
    path: web::Path<ServicePath>,
    giving: web::Query<Giving>,
    req: HttpRequest,
    payload: web::Payload,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let (wait, ttl_seconds) = giving.read()?;
    asked.style()?;
    let body = input::read(&app, &req, payload).await?;
    let order: Order = input::new_session(&body.bytes, &app.limits)?;
    let work = async |tx: &mut TenantConn| {
        // Postgres knows no text with a NUL: nothing is called so.
        let name = Some(path.service.as_str()).filter(|name| !name.contains('\0'));
        let name = name.ok_or_else(no_service)?;
        let owner = services::owner(tx, who.project, name).await?;
        let owner = owner.ok_or_else(no_service)?;
        if owner.kind != Kind::Pager.as_str() {
            return Err(not_a_pager());
        }
        let new = NewCommand {
            project: ProjectId::new(owner.project_id).ok_or_else(no_service)?,
            service: name.to_owned(),
            relay: owner.relay_id.ok_or_else(relay_unknown)?,
            session: None,
            order,
            created_by: who.key_id.clone(),
            ttl_seconds,
        };
        give(tx, &new, &asked).await
    };
    let request = idempotency::Request {
        app: &app,
        who: &who,
        http: &req,
        fingerprint: fingerprint(&body.bytes),
        dialect: Dialect::JsonApi,
    };
    let reply = request.run(work).await?;
    answer(&app, &who, &asked, (reply, wait)).await
}

async fn give(tx: &mut TenantConn, new: &NewCommand, asked: &Asked) -> Result<Reply, ApiError> {
    let (command, is_active) = commands::give(tx, new).await?;
    // It may have ended since it was read.
    if !is_active {
        return Err(session_ended());
    }
    Reply::accepted(&document(&command, &asked.base))
}

fn document(command: &Command, base: &str) -> Document<CommandResource> {
    Document {
        links: SelfLink {
            own: CommandResource::link(command.id, base),
        },
        data: CommandResource::of(command, base),
        included: None,
    }
}

/// The answer: the command as it is, once it came to its end or the wait did.
async fn answer(
    app: &App,
    who: &Principal,
    asked: &Asked,
    (reply, wait): (Reply, Duration),
) -> Result<HttpResponse, ApiError> {
    let Some(accepted) = reply.accepted_body() else {
        return Ok(reply.into_response());
    };
    let accepted: serde_json::Value =
        serde_json::from_slice(accepted).map_err(anyhow::Error::new)?;
    let id = accepted["data"]["id"]
        .as_str()
        .and_then(|id| Uuid::try_parse(id).ok());
    let id = id.ok_or_else(|| anyhow::anyhow!("a command was accepted without an id"))?;
    let (status, bytes) = if wait.is_zero() {
        (StatusCode::ACCEPTED, written(asked, &accepted)?)
    } else {
        let command = outcome(app, who, id, wait).await?;
        let status = if command.is_finished() {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        };
        (status, written(asked, &document(&command, &asked.base))?)
    };
    let link = CommandResource::link(id, &asked.base);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((LOCATION, link.as_str()))
        .insert_header((CONTENT_LOCATION, link.as_str()))
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type(asked.style()?.media_type);
    if let Some(replayed) = reply.replayed() {
        response.insert_header(replayed);
    }
    Ok(response.body(bytes))
}

/// The command, as soon as it came to its end, or when the wait is over.
async fn outcome(
    app: &App,
    who: &Principal,
    id: Uuid,
    wait: Duration,
) -> Result<Command, ApiError> {
    let mut watch = Watch::new(app, who.org, wait);
    loop {
        let look = async |tx: &mut TenantConn| {
            commands::expire(tx, EXPIRED_AT_ONCE).await?;
            find(tx, who, id).await
        };
        let command = app.db.tenant(who.org, look).await?;
        if command.is_finished() || watch.is_over() {
            return Ok(command);
        }
        watch.pause().await;
    }
}

fn session_ended() -> ApiError {
    ApiError::Conflict(Problem::new(
        "session_ended",
        "the session has ended, and nothing can be done to it; create another at /v1/services/{service}/sessions",
    ))
}

fn relay_unknown() -> ApiError {
    ApiError::Conflict(Problem::new(
        "relay_unknown",
        "no relay speaks for the service, so that nobody could carry the command out; connect the service to a relay",
    ))
}
