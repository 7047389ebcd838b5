//! What Kubernetes and operators ask: is the process alive, can it serve, how is it doing.

use actix_web::{HttpResponse, get, web};
use rollcall_store::schema::{self, SchemaState};
use rollcall_telemetry::{Metrics, PoolState, PoolStateLabels};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::App;
use crate::error::ApiError;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(healthz).service(readyz).service(metrics);
}

/// What `/readyz` found.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "postgres": "ok", "schema": "ok", "s3": "ok" }))]
struct Readiness {
    postgres: String,
    schema: String,
    s3: String,
}

/// Check that the process answers
#[utoipa::path(tag = "operations", responses((status = 200, description = "The process is alive.", body = String, example = "ok\n")))]
#[get("/healthz")]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Check that requests can be served
///
/// Looks at Postgres, its schema and S3.
#[utoipa::path(tag = "operations", responses(
    (status = 200, description = "Everything is there.", body = Readiness),
    (status = 503, description = "Something is missing; the body says what.", body = Readiness),
))]
#[get("/readyz")]
async fn readyz(app: web::Data<App>) -> HttpResponse {
    let (state, s3) = tokio::join!(schema::state(&app.db), app.objects.ping());
    let (postgres, schema) = match state {
        // A newer schema is one that this build is meant to run with until it is replaced (expand, then contract).
        Ok(SchemaState::Current { .. } | SchemaState::Newer { .. }) => ("ok".into(), "ok".into()),
        Ok(SchemaState::Older { found, wanted }) => (
            "ok".into(),
            format!("version {found}, wanted is {wanted}: run `rollcall-api migrate`"),
        ),
        Err(error) => (
            ApiError::from(error).problem().message,
            "unknown".to_owned(),
        ),
    };
    let s3 = s3.map_or_else(|error| error.problem().message, |()| "ok".into());
    let is_ready = [&postgres, &schema, &s3]
        .into_iter()
        .all(|state| state == "ok");
    let mut response = if is_ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response.json(Readiness {
        postgres,
        schema,
        s3,
    })
}

/// Show metrics, as OpenMetrics text
#[utoipa::path(tag = "operations", responses((status = 200, description = "The metrics of this process.", body = String, content_type = "application/openmetrics-text")))]
#[get("/metrics")]
async fn metrics(app: web::Data<App>) -> HttpResponse {
    let pool = app.db.pool_state();
    for (state, count) in [(PoolState::Idle, pool.idle), (PoolState::Used, pool.used)] {
        app.metrics
            .db_pool_connections
            .get_or_create(&PoolStateLabels { state })
            .set(count.into());
    }
    app.metrics.db_pool_connections_max.set(pool.max.into());
    HttpResponse::Ok()
        .insert_header(("Content-Type", Metrics::CONTENT_TYPE))
        .body(app.metrics.encode())
}
