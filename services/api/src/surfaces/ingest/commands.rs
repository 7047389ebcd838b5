//! What relays are told to do: they ask for it on their outgoing connections.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, get, web};
use rollcall_model::command;
use rollcall_store::TenantConn;
use rollcall_store::commands::{self, Command};
use serde::Deserialize;
use time::UtcOffset;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{find_relay, wire};
use crate::App;
use crate::auth::{self, Allow, perm};
use crate::error::{ApiError, Style};
use crate::surfaces::resources::Common;
use crate::surfaces::resources::asked::Asked;
use crate::watch::{self, PAUSE, Watch};

/// Commands that are told at once, at most.
const MAX_COMMANDS: i64 = 100;

/// How long to wait.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Waiting {
    /// Where there is no command, wait for one, so many seconds at most: 0 to 30.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 30)]
    wait: Option<String>,
}

/// Fetch commands
///
/// For relays, with the key that `rollcall-api admin relay create` printed. What the services that the relay speaks for are to
/// do, oldest first, at most 100 at a time. A command is told until the relay reports of it in a batch, or its time is over:
/// carry each out at most once, by its id. With `wait` the answer comes as soon as there is a command; one that was told before
/// is told again after a second.
#[utoipa::path(
    tag = "ingest",
    params(Waiting, Common),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The commands; perhaps none.", body = wire::Commands)),
)]
#[get("/relays/commands")]
pub async fn fetch_commands(
    allow: Allow<perm::Ingest>,
    asked: Asked,
    waiting: web::Query<Waiting>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let style = Style {
        media_type: Style::PLAIN.media_type,
        ..asked.style()?
    };
    let wait = watch::wait(waiting.wait.as_deref())?;
    let relay = find_relay(&app, &who).await?.id;
    let mut watch = Watch::new(&app, who.org, wait);
    let mut has_waited = false;
    let told = loop {
        let open = async |tx: &mut TenantConn| commands::open(tx, relay, MAX_COMMANDS).await;
        let open = app.db.tenant(who.org, open).await?;
        let is_new = open.iter().any(|command| command.delivered_at.is_none());
        // What was told before is carried out at the moment, most likely: the relay is not to ask for it without a pause.
        if is_new || watch.is_over() || (!open.is_empty() && watch.waited() >= PAUSE) {
            // A key may have been revoked since the request came.
            if has_waited && !auth::still_holds(&app, &who).await {
                break Vec::new();
            }
            let told = deliver(&app, who.org, &open).await?;
            if !told.is_empty() || watch.is_over() {
                break told;
            }
        }
        watch.pause().await;
        has_waited = true;
    };
    let commands = told.into_iter().map(shown).collect();
    let bytes = style
        .json(&command::Commands { commands })
        .map_err(|error| anyhow::Error::new(error).context("write the commands"))?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type(style.media_type)
        .body(bytes))
}

async fn deliver(
    app: &App,
    org: rollcall_model::OrgId,
    open: &[Command],
) -> Result<Vec<Command>, ApiError> {
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = open.iter().map(|command| command.id).collect();
    let deliver = async |tx: &mut TenantConn| commands::deliver(tx, &ids).await;
    Ok(app.db.tenant(org, deliver).await?)
}

fn shown(command: Command) -> command::Command {
    command::Command {
        id: command.id,
        service: command.service,
        created: command.created_at.to_offset(UtcOffset::UTC),
        expires: command.expires_at.to_offset(UtcOffset::UTC),
        order: command.order.0,
    }
}
