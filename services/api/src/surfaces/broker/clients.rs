//! The clients of a filter.

use actix_web::{HttpRequest, HttpResponse, get, web};

use super::asked::{Asked, ListParameters, OneBroker};
use super::list::{self, Kind};
use super::reach::{self, Reach};
use super::wire::BrokerSubscribers;
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;
use crate::surfaces::forms::ProjectPath;

/// List a filter's clients
///
/// By client id in the order of its bytes; none where nobody subscribes to exactly this filter.
#[utoipa::path(
    tag = "broker",
    params(
        ("filter" = String, Path, description = "The filter, percent-encoded.", example = "devices%2F%2B%2Fevents"),
        ("state" = Option<String>, Query, description = "Clients that are `connected` (the default), `disconnected`, or `all`.", example = "all"),
        ListParameters, OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "A page of clients.", body = BrokerSubscribers,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/subscriptions/{filter}/clients")]
pub async fn list_broker_subscribers(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    answer(Reach::of(allow.who), req, app).await
}

/// List a filter's clients on a project's brokers
///
/// By client id in the order of its bytes; none where nobody subscribes to exactly this filter.
#[utoipa::path(
    tag = "broker",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("filter" = String, Path, description = "The filter, percent-encoded.", example = "devices%2F%2B%2Fevents"),
        ("state" = Option<String>, Query, description = "Clients that are `connected` (the default), `disconnected`, or `all`.", example = "all"),
        ListParameters, OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "A page of clients.", body = BrokerSubscribers,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/subscriptions/{filter}/clients")]
pub async fn list_project_broker_subscribers(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    answer(Reach::of_project(allow.who, &path)?, req, app).await
}

async fn answer(
    reach: Reach,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let filter = reach::name(&req, 1)
        .ok_or_else(|| ApiError::not_found("subscription_not_found", "subscription not found"))?;
    list::answer(app, reach, Asked::of(&req), Kind::Subscribers(filter)).await
}
