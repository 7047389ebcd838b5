//! Sessions: list, show, and what belongs to one.

use actix_web::{HttpResponse, get, web};
use rollcall_model::{AttachmentId, Connection, Point, Session};
use rollcall_store::PAGE_BYTES;
use rollcall_store::listing::{Column, Condition, Order, Query, Start, Value};
use rollcall_store::sessions::columns;
use rollcall_store::{attachments, services, sessions};
use serde::Deserialize;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::Common;
use super::asked::Asked;
use super::document::{Collection, Document, Relationship, answer};
use super::filters::SessionFilters;
use super::paging::Paging;
use super::wire::{AttachmentResource, ServiceResource, SessionResource, services_of};
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::{ApiError, Problem};

/// Sessions that an ambiguous name is said to mean, at most.
const NAMED: i64 = 10;
const INCLUDES: [&str; 2] = ["services", "attachments"];

/// A session in a path.
#[derive(Deserialize)]
pub struct SessionPath {
    pub id: String,
}

/// List sessions
///
/// Of every kind, deleted and ended ones too; newest first where `sort` is left out. `fields[sessions]` names the members
/// wanted, as paths into attributes and relationships. A page ends where its sessions take 8 MiB: clients with a thousand
/// subscriptions come with few on a page.
#[utoipa::path(
    tag = "resources",
    params(
        SessionFilters, Paging, Common,
        ("fields[sessions]" = Option<String>, Query, description = "Members wanted of sessions: paths into attributes and relationships, separated by commas."),
        ("fields[services]" = Option<String>, Query, description = "Members wanted of included services."),
        ("fields[attachments]" = Option<String>, Query, description = "Members wanted of included attachments."),
        ("include" = Option<String>, Query, description = "`services`, `attachments`, or both, separated by a comma."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of sessions.", body = Collection<SessionResource>)),
)]
#[get("/sessions")]
pub async fn list_all_sessions(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    filters: web::Query<SessionFilters>,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let include = asked.include(&INCLUDES)?;
    let pager = paging.read(&who, &asked, "sessions", filters.read(&who)?)?;
    let (page, included) = app
        .db
        .tenant(who.org, async |tx| {
            let page = sessions::list(tx, &pager.query).await?;
            let included = included(tx, &page.rows, &include, &asked.base).await?;
            Ok::<_, ApiError>((page, included))
        })
        .await?;
    let columns = pager.query.order.columns;
    let place = |session: &Session| place(session, columns);
    let now = OffsetDateTime::now_utc();
    let show = |session: &Session, base: &str| SessionResource::of(session, base, now);
    let mut document = pager.collection(&asked, &page, place, show);
    document.included = included;
    answer(&asked, &document)
}

fn place(session: &Session, columns: &[Column]) -> Vec<Value> {
    let value = |column: &Column| match *column {
        columns::STARTED => Value::Time(session.created_at),
        columns::UPDATED => Value::Time(session.received_at),
        columns::SOURCE_ID => Value::Text(session.source_id.clone()),
        columns::NUMBER => {
            let number = session.pager.as_ref().map(|pager| pager.number);
            Value::Number(number.unwrap_or_default().into())
        }
        columns::INFLIGHT => count(session, |held| held.facts.inflight),
        columns::QUEUE_DEPTH => count(session, |held| held.facts.queue_depth),
        columns::IDLE_SINCE => {
            let connection = session.connection.as_ref();
            let since = connection.and_then(|held| held.idle_since());
            Value::Time(since.unwrap_or(OffsetDateTime::UNIX_EPOCH))
        }
        _ => Value::Id(session.id.0),
    };
    columns.iter().map(value).collect()
}

/// A number that a row in this order has: what lacks it has no place in it.
fn count(session: &Session, of: impl Fn(&Connection) -> Option<u64>) -> Value {
    let number = session.connection.as_ref().and_then(|held| of(held));
    Value::Number(number.map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX)))
}

/// Show a session
///
/// By its id, or by its name at its source where only one session in the key's reach is called so.
#[utoipa::path(
    tag = "resources",
    params(
        ("id" = String, Path, description = "The session's id, or its name at its source.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        Common,
        ("fields[sessions]" = Option<String>, Query, description = "Members wanted of the session: paths into attributes and relationships, separated by commas."),
        ("fields[services]" = Option<String>, Query, description = "Members wanted of an included service."),
        ("fields[attachments]" = Option<String>, Query, description = "Members wanted of included attachments."),
        ("include" = Option<String>, Query, description = "`services`, `attachments`, or both, separated by a comma."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The session.", body = Document<SessionResource>),
        (status = 409, description = "Several sessions have this name; the error lists them.", body = crate::error::JsonApiErrors),
    ),
)]
#[get("/sessions/{id}")]
pub async fn get_session(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<SessionPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let include = asked.include(&INCLUDES)?;
    let (session, included) = app
        .db
        .tenant(who.org, async |tx| {
            let session = named(tx, &who, &path.id).await?;
            let included =
                included(tx, std::slice::from_ref(&session), &include, &asked.base).await?;
            Ok::<_, ApiError>((session, included))
        })
        .await?;
    let shown = SessionResource::of(&session, &asked.base, OffsetDateTime::now_utc());
    let mut document = Document::of(&asked, shown);
    document.included = included;
    answer(&asked, &document)
}

/// List the name of a session's service
///
/// The relationship itself.
#[utoipa::path(
    tag = "resources",
    params(("id" = String, Path, description = "The session's id, or its name at its source.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"), Common),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The name of the one service.", body = Relationship),
        (status = 409, description = "Several sessions have this name; the error lists them.", body = crate::error::JsonApiErrors),
    ),
)]
#[get("/sessions/{id}/relationships/services")]
pub async fn list_session_service_names(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<SessionPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let session = show(&app, &allow.who, &path.id).await?;
    answer(&asked, &services_of(&session, &asked.base))
}

/// List a session's service
#[utoipa::path(
    tag = "resources",
    params(
        ("id" = String, Path, description = "The session's id, or its name at its source.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        Common,
        ("fields[services]" = Option<String>, Query, description = "Members wanted of services."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The one service.", body = Collection<ServiceResource>),
        (status = 409, description = "Several sessions have this name; the error lists them.", body = crate::error::JsonApiErrors),
    ),
)]
#[get("/sessions/{id}/services")]
pub async fn list_session_services(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<SessionPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let found = app
        .db
        .tenant(who.org, async |tx| {
            let session = named(tx, &who, &path.id).await?;
            Ok::<_, ApiError>(services::list(tx, &by_names(vec![session.service])).await?)
        })
        .await?;
    let data = found
        .rows
        .iter()
        .map(|service| ServiceResource::of(service, &asked.base));
    answer(&asked, &Collection::whole(&asked, data.collect()))
}

/// List a session's attachments
///
/// The files that it holds.
#[utoipa::path(
    tag = "resources",
    params(
        ("id" = String, Path, description = "The session's id, or its name at its source.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        Common,
        ("fields[attachments]" = Option<String>, Query, description = "Members wanted of attachments."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The files.", body = Collection<AttachmentResource>),
        (status = 409, description = "Several sessions have this name; the error lists them.", body = crate::error::JsonApiErrors),
    ),
)]
#[get("/sessions/{id}/attachments")]
pub async fn list_session_attachments(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<SessionPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let files = app
        .db
        .tenant(who.org, async |tx| {
            let session = named(tx, &who, &path.id).await?;
            Ok::<_, ApiError>(attachments::list(tx, &files_of([&session])).await?)
        })
        .await?;
    let data = files
        .iter()
        .map(|file| AttachmentResource::of(file, &asked.base));
    answer(&asked, &Collection::whole(&asked, data.collect()))
}

async fn show(app: &App, who: &Principal, name: &str) -> Result<Session, ApiError> {
    app.db
        .tenant(who.org, async |tx| named(tx, who, name).await)
        .await
}

/// The session that a path means.
pub async fn named(
    tx: &mut rollcall_store::TenantConn,
    who: &Principal,
    name: &str,
) -> Result<Session, ApiError> {
    // Postgres knows no text with a NUL: nothing is called so.
    if name.contains('\0') {
        return Err(no_session());
    }
    let mut found = sessions::find_named(tx, who.project, name, NAMED + 1).await?;
    // Our own id means one session, whatever others are called at their sources.
    if let Some(own) = found
        .iter()
        .position(|session| session.id.to_string() == name.to_lowercase())
    {
        return Ok(found.swap_remove(own));
    }
    if found.len() > 1 {
        return Err(ambiguous(name, &found));
    }
    found.pop().ok_or_else(no_session)
}

fn ambiguous(name: &str, found: &[Session]) -> ApiError {
    let shown = usize::try_from(NAMED).unwrap_or_default();
    let mut list: Vec<String> = found
        .iter()
        .take(shown)
        .map(|session| format!("{} on {}", session.id, session.service))
        .collect();
    if found.len() > shown {
        list.push("and more".to_owned());
    }
    let message = format!(
        "several sessions are called `{}` at their sources; ask for one by its id: {}",
        name.escape_debug(),
        list.join(", ")
    );
    ApiError::Conflict(Problem::new("session_ambiguous", message))
}

fn no_session() -> ApiError {
    ApiError::not_found(
        "session_not_found",
        "there is no such session in this key's reach",
    )
}

fn files_of<'a>(sessions: impl IntoIterator<Item = &'a Session>) -> Vec<AttachmentId> {
    let points = sessions
        .into_iter()
        .flat_map(|session| session.points.values());
    points
        .filter_map(Point::attachment)
        .map(|file| file.id)
        .collect()
}

fn by_names(names: Vec<String>) -> Query {
    use services::columns::NAME;
    Query {
        limit: u32::try_from(names.len()).unwrap_or(u32::MAX),
        bytes: PAGE_BYTES,
        count_to: None,
        conditions: vec![Condition::OneOf(NAME, names)],
        order: Order {
            columns: &[NAME],
            descending: false,
        },
        start: Start::First,
    }
}

/// What is included with sessions; absent where nothing was asked for.
pub async fn included(
    tx: &mut rollcall_store::TenantConn,
    sessions: &[Session],
    include: &[&str],
    base: &str,
) -> Result<Option<Vec<Json>>, ApiError> {
    if include.is_empty() {
        return Ok(None);
    }
    let mut included = Vec::new();
    if include.contains(&"services") {
        let mut names: Vec<String> = sessions
            .iter()
            .map(|session| session.service.clone())
            .collect();
        names.sort();
        names.dedup();
        let found = services::list(tx, &by_names(names)).await?;
        included.extend(
            found
                .rows
                .iter()
                .map(|service| json(&ServiceResource::of(service, base))),
        );
    }
    if include.contains(&"attachments") {
        let files = attachments::list(tx, &files_of(sessions)).await?;
        included.extend(
            files
                .iter()
                .map(|file| json(&AttachmentResource::of(file, base))),
        );
    }
    Ok(Some(included))
}

fn json(resource: &impl serde::Serialize) -> Json {
    serde_json::to_value(resource).expect("resources have text for keys")
}
