//! `rollcall up`: starts everything in order, says what to try, waits, stops everything.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};

use crate::api;
use crate::config::Up;
use crate::data_dir::DataDir;
use crate::database;
use crate::ports;
use crate::postgres::{Cluster, Kind, Settings};
use crate::progress::{Progress, say};
use crate::ready::{Ready, ReadyFile, S3, url_of};
use crate::relay;
use crate::running::Running;
use crate::s3;
use crate::signals::Signals;
use crate::state::{Login, S3Keys, State};

/// The database in a cluster of our own.
const DATABASE: &str = "rollcall";

pub(crate) async fn run(config: &Up) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let telemetry = rollcall_telemetry::init("rollcall", &config.telemetry)?;
    let folder = DataDir::open(&config.data_dir)?;
    let mut running = Running::default();
    let started = tokio::select! {
        started = start(config, &folder, &mut running) => started.map(Some),
        _ = signals.next() => Ok(None),
    };
    let outcome = match started {
        Ok(Some(ready)) => {
            ready.show(&config.data_dir);
            tokio::select! {
                error = running.failed() => Err(error),
                _ = signals.next() => Ok(ExitCode::SUCCESS),
            }
        }
        Ok(None) => Err(anyhow!("interrupted before everything was ready")),
        Err(error) => Err(error),
    };
    say("");
    let stopped = running.stop(&mut signals).await;
    // Sending the last traces blocks for some seconds where the collector is away.
    let _ = tokio::task::spawn_blocking(|| telemetry.shutdown()).await;
    outcome.and_then(|code| stopped.map(|()| code))
}

/// Starts the parts, noting each in `running` at once, so that it is stopped wherever this ends.
async fn start(config: &Up, folder: &DataDir, running: &mut Running) -> Result<Ready> {
    say(format_args!(
        "rollcall {}, data in {}",
        env!("CARGO_PKG_VERSION"),
        folder.path().display()
    ));
    // Before anything is started for nothing.
    if let Err(error) = TcpListener::bind(config.http) {
        bail!(
            "the api cannot listen on {}: {error}. Choose another address or port with --http.",
            config.http
        );
    }
    if let Some(path) = &config.ready_file {
        running.ready_file = Some(ReadyFile::prepare(path)?);
    }
    let mut state = State::read(folder.path())?;
    let owner_url = start_postgres(config, folder, &mut state, running).await?;
    let s3 = start_s3(config, folder, &mut state, running).await?;
    let login = state.login.get_or_insert_with(Login::generate).clone();
    state.write(folder.path())?;
    let service_url = database::prepare(&owner_url, &login).await?;
    let api_config = api::configure(config, folder.path(), &mut state, service_url, &s3)?;
    let demo = api::fill(&api_config, folder.path(), &mut state).await?;
    let api = running.api.insert(api::start(&api_config, &s3).await?);
    if running.postgres.is_some() && running.s3.is_some() {
        running.work = Some(api::work(api));
    }
    let url = url_of(api.addr);
    let registered =
        relay::register(&api_config, folder.path(), &mut state, demo.project_id).await?;
    let (relay, coap) = relay::start(config.coap, folder.path(), url.clone(), &registered).await?;
    running.relay = Some(relay);
    let ready = Ready {
        http: url,
        coap: format!("coap://{coap}"),
        organization: api::ORGANIZATION.to_owned(),
        project_id: demo.project_id,
        api_key: demo.api_key,
        postgres: owner_url,
        s3,
    };
    if let Some(file) = &running.ready_file {
        file.write(&ready)?;
    }
    Ok(ready)
}

async fn start_postgres(
    config: &Up,
    folder: &DataDir,
    state: &mut State,
    running: &mut Running,
) -> Result<String> {
    if let Some(url) = &config.database_url {
        Progress::Shown.line("postgres", "the running one of --database-url");
        return Ok(url.clone());
    }
    let settings = Settings {
        home: &folder.path().join("postgres"),
        bin: config.postgres.postgres_bin.as_deref(),
        port: config.postgres.postgres_port,
        kept_port: state.postgres_port,
        kind: Kind::Kept,
        beginning: &["create database rollcall"],
    };
    let cluster = Cluster::launch(&settings, Progress::Shown).await?;
    let cluster = running.postgres.insert(cluster);
    cluster.ready(Progress::Shown).await?;
    if state.postgres_port != Some(cluster.port) {
        state.postgres_port = Some(cluster.port);
        state.write(folder.path())?;
    }
    Ok(cluster.url(DATABASE))
}

async fn start_s3(
    config: &Up,
    folder: &DataDir,
    state: &mut State,
    running: &mut Running,
) -> Result<S3> {
    let args = &config.s3;
    if let (Some(endpoint), Some(bucket), Some(access_key), Some(secret_key)) = (
        &args.s3_endpoint,
        &args.s3_bucket,
        &args.s3_access_key,
        &args.s3_secret_key,
    ) {
        Progress::Shown.line(
            "s3",
            format_args!("the running one at {endpoint}, bucket {bucket}"),
        );
        return Ok(S3 {
            endpoint: endpoint.clone(),
            bucket: bucket.clone(),
            access_key: access_key.clone(),
            secret_key: secret_key.clone(),
        });
    }
    let port = ports::choose("--s3-port", config.s3_port, state.s3_port)?;
    if let Some(old) = port.instead_of {
        Progress::Shown.line(
            "s3",
            format_args!(
                "port {old} is taken by another program, so it moves to {}",
                port.port
            ),
        );
    }
    let keys = state.s3_keys.get_or_insert_with(S3Keys::generate).clone();
    state.s3_port = Some(port.port);
    state.write(folder.path())?;
    let server = s3::Server::start(&folder.path().join("s3"), port.port, &keys).await?;
    let server = running.s3.insert(server);
    Progress::Shown.line(
        "s3",
        format_args!("{}, bucket {}", server.endpoint, s3::BUCKET),
    );
    Ok(S3 {
        endpoint: server.endpoint.clone(),
        bucket: s3::BUCKET.to_owned(),
        access_key: keys.access_key,
        secret_key: keys.secret_key,
    })
}
