//! Services: list and show.

use actix_web::{HttpResponse, get, web};
use rollcall_store::PAGE_BYTES;
use rollcall_store::listing::{Condition, Value};
use rollcall_store::services::{self, columns};
use serde::Deserialize;

use super::Common;
use super::asked::Asked;
use super::document::{Collection, Document, answer};
use super::filters::ServiceFilters;
use super::paging::Paging;
use super::wire::ServiceResource;
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;

/// A service in a path.
#[derive(Deserialize)]
pub struct ServicePath {
    pub service: String,
}

/// List services
///
/// By name.
#[utoipa::path(
    tag = "resources",
    params(
        ServiceFilters, Paging, Common,
        ("fields[services]" = Option<String>, Query, description = "Members wanted of services."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of services.", body = Collection<ServiceResource>)),
)]
#[get("/services")]
pub async fn list_services(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    filters: web::Query<ServiceFilters>,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let pager = paging.read(&who, &asked, "services", filters.read(&who)?)?;
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

/// Show a service
#[utoipa::path(
    tag = "resources",
    params(
        ("service" = String, Path, description = "The service's name.", example = "forms-1"),
        Common,
        ("fields[services]" = Option<String>, Query, description = "Members wanted of the service."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The service.", body = Document<ServiceResource>)),
)]
#[get("/services/{service}")]
pub async fn get_service(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<ServicePath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let (mut conditions, order) = ServiceFilters::default().read(&who)?;
    conditions.push(Condition::equal(
        columns::NAME,
        Value::Text(path.service.replace('\0', "")),
    ));
    let query = rollcall_store::listing::Query {
        conditions,
        order,
        start: rollcall_store::listing::Start::First,
        limit: 1,
        bytes: PAGE_BYTES,
        count_to: None,
    };
    let found = app
        .db
        .tenant(who.org, async |tx| {
            services::list(tx, &query).await.map_err(ApiError::from)
        })
        .await?;
    let service = found
        .rows
        .first()
        .filter(|service| service.name == path.service);
    let service = service.ok_or_else(no_service)?;
    answer(
        &asked,
        &Document::of(&asked, ServiceResource::of(service, &asked.base)),
    )
}

/// The error for a service that is not there.
pub fn no_service() -> ApiError {
    ApiError::not_found(
        "service_not_found",
        "there is no such service in this key's reach",
    )
}
