//! Rollcall's HTTP api: surfaces that translate wire contracts to the store and back, authentication, attachments in S3,
//! and the background work. Stateless: any number of replicas serve the same Postgres and bucket.

pub mod admin;
pub mod auth;
pub mod config;
mod download;
pub mod error;
mod feed;
mod idempotency;
mod memory;
mod middleware;
pub mod objects;
pub mod openapi;
pub mod serve;
pub mod surfaces;
mod watch;
pub mod work;

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::error::{PathError, QueryPayloadError};
use actix_web::middleware::from_fn;
use actix_web::web;
use bytes::Bytes;
use rollcall_model::Limits;
use rollcall_store::{Db, Patience};
use rollcall_telemetry::Metrics;
use secrecy::{ExposeSecret, SecretString};
use tracing_actix_web::TracingLogger;
use utoipa_actix_web::AppExt;

use crate::auth::tokens::Tokens;
use crate::config::{DatabaseArgs, ServeConfig};
use crate::error::ApiError;
use crate::feed::Feed;
use crate::memory::Budget;
use crate::objects::Objects;

/// Everything that handlers share; the only registered data.
pub struct App {
    pub db: Db,
    pub(crate) feed: Feed,
    pub objects: Objects,
    pub limits: Limits,
    /// For bodies on their way in.
    pub memory: Budget,
    pub tokens: Option<Tokens>,
    pub signed_keys_secret: Option<SecretString>,
    pub metrics: Arc<Metrics>,
    paths: openapi::Paths,
    /// The OpenAPI document, as JSON.
    document: Bytes,
}

impl App {
    /// Builds what the configuration describes; connects to nothing yet.
    pub fn new(
        config: &ServeConfig,
        objects: Objects,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let secret = config.credentials.signed_keys_secret.clone();
        if secret
            .as_ref()
            .is_some_and(|secret| secret.expose_secret().len() < 32)
        {
            anyhow::bail!("--signed-keys-secret is too short; use at least 32 characters");
        }
        let db = database(&config.database)?;
        let document = openapi::document();
        Ok(Self {
            feed: Feed::new(db.clone(), config.limits.limit_feed_readers),
            db,
            objects,
            limits: config.limits.limits(),
            memory: Budget::of_mib(config.limits.limit_memory_mib),
            tokens: Tokens::load(&config.credentials)?,
            signed_keys_secret: secret,
            metrics,
            paths: openapi::Paths::of(&openapi::operations_of_all()),
            document: document.to_string().into(),
        })
    }
}

/// A pool for the configured database; connects when first asked.
pub fn database(args: &DatabaseArgs) -> anyhow::Result<Db> {
    let url = args.database_url.expose_secret();
    // The parser takes any scheme.
    anyhow::ensure!(
        url.starts_with("postgres://") || url.starts_with("postgresql://"),
        "--database-url is not a postgres:// URL"
    );
    let patience = Patience {
        connection: Duration::from_millis(args.database_wait_ms),
        transaction: Duration::from_millis(args.database_transaction_ms),
    };
    Db::from_url(url, args.database_connections, patience)
        // The error's own text may quote the password.
        .map_err(|_| anyhow::anyhow!("--database-url is not a postgres:// URL"))
}

/// The whole application: every surface behind the same middleware. Used by `serve`, by `rollcall up` and by the tests.
pub fn app(
    state: web::Data<App>,
) -> actix_web::App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let (app, _) = actix_web::App::new()
        .into_utoipa_app()
        .openapi(openapi::base())
        .configure(surfaces::routes)
        .split_for_parts();
    app.app_data(state)
        .app_data(web::PathConfig::default().error_handler(|error, _| {
            let error = match error {
                PathError::Deserialize(error) => error.to_string(),
                error => error.to_string(),
            };
            let message = format!("a part of the path is not right: {error}");
            ApiError::invalid("path_invalid", message).into()
        }))
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            let error = match error {
                QueryPayloadError::Deserialize(error) => error.to_string(),
                error => error.to_string(),
            };
            let message = format!("the query string is not right: {error}");
            ApiError::invalid("query_invalid", message).into()
        }))
        .default_service(web::to(surfaces::nothing_here))
        // The last is the outermost.
        .wrap(from_fn(middleware::limit_idle))
        .wrap(from_fn(middleware::limit_time))
        .wrap(from_fn(middleware::head))
        .wrap(from_fn(middleware::decode))
        .wrap(from_fn(middleware::render))
        .wrap(from_fn(middleware::measure))
        .wrap(TracingLogger::<middleware::RootSpan>::new())
        .wrap(from_fn(middleware::identify))
        .wrap(from_fn(middleware::spell))
}
