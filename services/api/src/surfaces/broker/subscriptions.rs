//! Filters, and how many clients subscribe to each.

use actix_web::{HttpRequest, HttpResponse, get, web};

use super::asked::{Asked, ListParameters, OneBroker};
use super::list::{self, Kind};
use super::reach::Reach;
use super::wire::BrokerSubscriptions;
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;
use crate::surfaces::forms::ProjectPath;

/// List subscriptions
///
/// What clients on brokers want to be sent, filter by filter in the order of their bytes; over AMQP the queues that they consume.
#[utoipa::path(
    tag = "broker",
    params(
        ("state" = Option<String>, Query, description = "Of clients that are `connected` (the default), `disconnected`, or `all`.", example = "all"),
        ListParameters, OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "A page of filters.", body = BrokerSubscriptions,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/subscriptions")]
pub async fn list_broker_subscriptions(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let reach = Reach::of(allow.who);
    list::answer(app, reach, Asked::of(&req), Kind::Subscriptions).await
}

/// List subscriptions on a project's brokers
#[utoipa::path(
    tag = "broker",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("state" = Option<String>, Query, description = "Of clients that are `connected` (the default), `disconnected`, or `all`.", example = "all"),
        ListParameters, OneBroker,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "A page of filters.", body = BrokerSubscriptions,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/subscriptions")]
pub async fn list_project_broker_subscriptions(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let reach = Reach::of_project(allow.who, &path)?;
    list::answer(app, reach, Asked::of(&req), Kind::Subscriptions).await
}
