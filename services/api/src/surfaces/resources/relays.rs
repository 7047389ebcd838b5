//! Relays: list, show, and the services that one speaks for.

use actix_web::{HttpResponse, get, web};
use rollcall_store::listing::{Condition, Query, Start, Value};
use rollcall_store::relays::{self, Relay, columns};
use rollcall_store::{PAGE_BYTES, TenantConn, services};
use serde::Deserialize;
use uuid::Uuid;

use super::Common;
use super::asked::Asked;
use super::document::{Collection, Document, answer};
use super::filters::{RelayFilters, ServiceFilters};
use super::paging::Paging;
use super::wire::{RelayResource, ServiceResource};
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::ApiError;

/// A relay in a path.
#[derive(Deserialize)]
pub struct RelayPath {
    relay_id: String,
}

/// List relays
///
/// By name.
#[utoipa::path(
    tag = "resources",
    params(
        RelayFilters, Paging, Common,
        ("fields[relays]" = Option<String>, Query, description = "Members wanted of relays."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of relays.", body = Collection<RelayResource>)),
)]
#[get("/relays")]
pub async fn list_relays(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    filters: web::Query<RelayFilters>,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let pager = paging.read(&who, &asked, "relays", filters.read(&who)?)?;
    let page = app
        .db
        .tenant(who.org, async |tx| {
            relays::page(tx, &pager.query).await.map_err(ApiError::from)
        })
        .await?;
    let place = |relay: &Relay| vec![Value::Text(relay.name.clone())];
    answer(
        &asked,
        &pager.collection(&asked, &page, place, RelayResource::of),
    )
}

/// Show a relay
#[utoipa::path(
    tag = "resources",
    params(
        ("relay_id" = String, Path, description = "The relay's id.", example = "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"),
        Common,
        ("fields[relays]" = Option<String>, Query, description = "Members wanted of the relay."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The relay.", body = Document<RelayResource>)),
)]
#[get("/relays/{relay_id}")]
pub async fn get_relay(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<RelayPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let relay = app
        .db
        .tenant(who.org, async |tx| find(tx, &who, &path.relay_id).await)
        .await?;
    answer(
        &asked,
        &Document::of(&asked, RelayResource::of(&relay, &asked.base)),
    )
}

/// List a relay's services
///
/// Those that it speaks for, by name.
#[utoipa::path(
    tag = "resources",
    params(
        ("relay_id" = String, Path, description = "The relay's id.", example = "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"),
        Paging, Common,
        ("fields[services]" = Option<String>, Query, description = "Members wanted of services."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of services.", body = Collection<ServiceResource>)),
)]
#[get("/relays/{relay_id}/services")]
pub async fn list_relay_services(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<RelayPath>,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let (mut conditions, order) = ServiceFilters::default().read(&who)?;
    let relay = app
        .db
        .tenant(who.org, async |tx| find(tx, &who, &path.relay_id).await)
        .await?;
    conditions.push(Condition::equal(
        services::columns::RELAY,
        Value::Id(relay.id),
    ));
    let listing = format!("relays/{}/services", relay.id);
    let pager = paging.read(&who, &asked, &listing, (conditions, order))?;
    let page = app
        .db
        .tenant(who.org, async |tx| {
            services::list(tx, &pager.query)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let place = |service: &services::Service| vec![Value::Text(service.name.clone())];
    answer(
        &asked,
        &pager.collection(&asked, &page, place, ServiceResource::of),
    )
}

async fn find(tx: &mut TenantConn, who: &Principal, id: &str) -> Result<Relay, ApiError> {
    let none = || {
        ApiError::not_found(
            "relay_not_found",
            "there is no such relay in this key's reach",
        )
    };
    // What is no id is no relay either.
    let id = Uuid::try_parse(id).map_err(|_| none())?;
    let (mut conditions, order) = RelayFilters::default().read(who)?;
    conditions.push(Condition::equal(columns::ID, Value::Id(id)));
    let query = Query {
        conditions,
        order,
        start: Start::First,
        limit: 1,
        bytes: PAGE_BYTES,
        count_to: None,
    };
    relays::page(tx, &query).await?.rows.pop().ok_or_else(none)
}
