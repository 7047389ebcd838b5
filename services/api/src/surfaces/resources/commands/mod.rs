//! Commands: what services are told to do. List and show; giving them is in [`give`], and relays fetch them at
//! [`crate::surfaces::ingest::commands`].

pub mod give;
mod input;

use actix_web::{HttpResponse, get, web};
use rollcall_store::TenantConn;
use rollcall_store::commands::{self, Command};
use rollcall_store::listing::Value;
use serde::Deserialize;
use uuid::Uuid;

use super::Common;
use super::asked::Asked;
use super::document::{Collection, Document, answer};
use super::filters::CommandFilters;
use super::paging::Paging;
use super::wire::CommandResource;
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::{ApiError, Problem};

/// Commands that a reader ends, where their time is over, at most.
const EXPIRED_AT_ONCE: i64 = 1_000;

/// A command in a path.
#[derive(Deserialize)]
pub struct CommandPath {
    command_id: String,
}

/// List commands
///
/// What services were told to do, and what became of it; newest first.
#[utoipa::path(
    tag = "resources",
    params(
        CommandFilters, Paging, Common,
        ("fields[commands]" = Option<String>, Query, description = "Members wanted of commands."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of commands.", body = Collection<CommandResource>)),
)]
#[get("/commands")]
pub async fn list_commands(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    filters: web::Query<CommandFilters>,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let pager = paging.read(&who, &asked, "commands", filters.read(&who)?)?;
    let page = app
        .db
        .tenant(who.org, async |tx| {
            commands::expire(tx, EXPIRED_AT_ONCE).await?;
            commands::page(tx, &pager.query)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let place = |command: &Command| vec![Value::Time(command.created_at), Value::Id(command.id)];
    answer(
        &asked,
        &pager.collection(&asked, &page, place, CommandResource::of),
    )
}

/// Show a command
#[utoipa::path(
    tag = "resources",
    params(
        ("command_id" = String, Path, description = "The command's id.", example = "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"),
        Common,
        ("fields[commands]" = Option<String>, Query, description = "Members wanted of the command."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The command.", body = Document<CommandResource>)),
)]
#[get("/commands/{command_id}")]
pub async fn get_command(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<CommandPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    // What is no id is no command either.
    let id = Uuid::try_parse(&path.command_id).map_err(|_| no_command())?;
    let command = app
        .db
        .tenant(who.org, async |tx| {
            commands::expire(tx, EXPIRED_AT_ONCE).await?;
            find(tx, &who, id).await
        })
        .await?;
    answer(
        &asked,
        &Document::of(&asked, CommandResource::of(&command, &asked.base)),
    )
}

async fn find(tx: &mut TenantConn, who: &Principal, id: Uuid) -> Result<Command, ApiError> {
    let found = commands::find(tx, who.project, id).await?;
    found.ok_or_else(no_command)
}

fn no_command() -> ApiError {
    ApiError::not_found(
        "command_not_found",
        "there is no such command in this key's reach",
    )
}

fn not_a_pager() -> ApiError {
    ApiError::Conflict(Problem::new(
        "not_a_pager",
        "only sessions with pagers take commands; forms are changed on the forms surface, \
         /api/v1/projects/{project_id}/sessions",
    ))
}
