//! `serve`: the api on a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{HttpServer, web};
use anyhow::Context;
use rollcall_store::schema::{self, SchemaState};
use rollcall_telemetry::Metrics;
use tokio::task::JoinHandle;

use crate::App;
use crate::config::ServeConfig;
use crate::objects::Objects;

/// How long what a client still sends is read and thrown away after an early answer. A connection closed with bytes
/// unread is reset, and the answer with it; many clients send all before they read any.
const LINGER: Duration = Duration::from_secs(15);

/// A server that runs.
pub struct Running {
    /// Where it listens: the port is the real one where 0 was asked for.
    pub addr: SocketAddr,
    pub app: web::Data<App>,
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Stops taking requests, ends streams, finishes what is in flight within the configured time, closes the pool.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stopper().stop(true).await;
        self.wait().await
    }

    /// Waits until the server has stopped.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.task
            .await
            .context("the server's task")?
            .context("serve HTTP")?;
        self.app.db.close().await;
        Ok(())
    }

    /// For stopping the server from elsewhere.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            app: self.app.clone(),
            handle: self.handle.clone(),
        }
    }
}

/// Stops a server.
pub struct Stopper {
    app: web::Data<App>,
    handle: ServerHandle,
}

impl Stopper {
    /// Stops taking requests and ends streams; waits for what is in flight, where that is wanted.
    pub async fn stop(&self, graceful: bool) {
        self.app.feed.close();
        self.handle.stop(graceful).await;
    }
}

/// Serves with S3 credentials from AWS's usual chain.
pub async fn start(config: &ServeConfig) -> anyhow::Result<Running> {
    let metrics = Arc::new(Metrics::new());
    let objects = Objects::from_environment(&config.s3, Arc::clone(&metrics)).await;
    start_with(config, objects, metrics).await
}

/// Serves with a client for S3 that is given. Refuses a schema that this build does not know.
pub async fn start_with(
    config: &ServeConfig,
    objects: Objects,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Running> {
    let app = web::Data::new(App::new(config, objects, metrics)?);
    check_schema(&app).await?;
    let state = app.clone();
    let mut server = HttpServer::new(move || crate::app(state.clone()))
        .shutdown_timeout(config.http.shutdown_seconds)
        .client_disconnect_timeout(LINGER)
        .disable_signals();
    if let Some(workers) = config.http.http_workers {
        server = server.workers(workers);
    }
    let listen = config.http.listen;
    let server = server.bind(listen).with_context(|| {
        format!("listen on {listen}: is another program there? --listen takes another address")
    })?;
    let addr = *server
        .addrs()
        .first()
        .context("a bound server has an address")?;
    let server = server.run();
    let handle = server.handle();
    Ok(Running {
        addr,
        app,
        handle,
        task: tokio::spawn(server),
    })
}

async fn check_schema(app: &App) -> anyhow::Result<()> {
    match schema::state(&app.db)
        .await
        .context("ask Postgres for the schema's version")?
    {
        SchemaState::Current { .. } => Ok(()),
        SchemaState::Older { found, wanted } => anyhow::bail!(
            "the database's schema is at version {found}, this build wants {wanted}: run `rollcall-api migrate` first"
        ),
        SchemaState::Newer { found, wanted } => anyhow::bail!(
            "the database's schema is at version {found}, which this build does not know; it wants {wanted}: run a \
             newer build"
        ),
    }
}
