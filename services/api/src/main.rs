//! `rollcall-api`: what production runs.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rollcall_api::admin::{self, AdminArgs};
use rollcall_api::config::{ServeConfig, WorkConfig};
use rollcall_api::objects::Objects;
use rollcall_api::work::Work;
use rollcall_api::{openapi, serve};
use rollcall_store::schema;
use rollcall_telemetry::Metrics;
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};

/// The roll of every session in a fleet.
///
/// Every flag has an environment variable of its own. S3's credentials and region come from AWS's usual chain.
#[derive(Parser, Debug)]
#[command(name = "rollcall-api", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve the api
    Serve(Box<ServeConfig>),
    /// Do the background work: sweep what failed requests left, what was replaced long ago, and old answers
    Work(Box<WorkConfig>),
    /// Bring the database's schema to this build's version
    Migrate {
        /// Postgres, as the schema's owner
        #[arg(
            long,
            env = "ROLLCALL_DATABASE_URL",
            value_name = "URL",
            hide_env_values = true
        )]
        database_url: SecretString,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Organizations, projects, keys, and the database's roles
    Admin(AdminArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollcall-api: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(config) => serve(&config).await,
        Command::Work(config) => work(&config).await,
        Command::Migrate { database_url } => migrate(&database_url).await,
        Command::Openapi => print(&openapi::json()?),
        Command::Admin(args) => print(&(admin::run(args).await? + "\n")),
    }
}

/// An error and its causes; a cause that the text before it tells already is left out.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    if let Some(rollcall_store::Error::PoolTimedOut) = error.root_cause().downcast_ref() {
        sentence.push_str("; is Postgres there, at --database-url, and does it take the login?");
    }
    sentence
}

async fn serve(config: &ServeConfig) -> anyhow::Result<()> {
    let telemetry = rollcall_telemetry::init("rollcall-api", &config.telemetry)?;
    let running = serve::start(config).await?;
    tracing::info!(http.listen = %running.addr, "serving");
    let stopper = running.stopper();
    tokio::spawn(async move {
        terminated().await;
        tracing::info!("stopping: finishing requests in flight");
        stopper.stop(true).await;
    });
    let outcome = running.wait().await;
    tokio::task::spawn_blocking(|| telemetry.shutdown())
        .await
        .context("flush traces")?;
    outcome
}

async fn work(config: &WorkConfig) -> anyhow::Result<()> {
    let telemetry = rollcall_telemetry::init("rollcall-work", &config.telemetry)?;
    let metrics = Arc::new(Metrics::new());
    let objects = Objects::from_environment(&config.s3, Arc::clone(&metrics)).await;
    let db = rollcall_api::database(&config.database)?;
    let keep_replaced = Duration::from_secs(config.work.keep_replaced_seconds);
    let grace = Duration::from_secs(config.work.sweep_grace_seconds);
    let round = async || {
        let orphans_before = OffsetDateTime::now_utc() - grace;
        Work {
            db: &db,
            objects: &objects,
            metrics: &metrics,
            orphans_before,
            keep_replaced,
        }
        .once()
        .await
    };
    if config.once {
        let done = round().await?;
        print(&format!(
            "deleted {} objects without a row and {} replaced files, forgot {} kept answers\n",
            done.orphans, done.retired, done.answers
        ))?;
    } else {
        let mut pause = tokio::time::interval(Duration::from_secs(
            config.work.sweep_interval_seconds.max(1),
        ));
        let rounds = async {
            loop {
                pause.tick().await;
                if let Err(error) = round().await {
                    tracing::error!(%error, "a sweep failed; the next one tries again");
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = terminated() => {}
        }
    }
    tokio::task::spawn_blocking(|| telemetry.shutdown())
        .await
        .context("flush traces")?;
    Ok(())
}

async fn migrate(url: &SecretString) -> anyhow::Result<()> {
    let applied = schema::migrate(url.expose_secret()).await.context(
        "migrate (the roles must be there first: `rollcall-api admin roles`; the url must be the schema's owner's)",
    )?;
    let wanted = schema::wanted();
    match applied.as_slice() {
        [] => print(&format!("the schema is at version {wanted} already\n")),
        versions => print(&format!(
            "applied {} migrations; the schema is at version {wanted}\n",
            versions.len()
        )),
    }
}

async fn terminated() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be listened to");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("print")
}
