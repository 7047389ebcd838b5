//! `rollcall-relay`: what runs at the edge.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use rollcall_relay::config::{Config, ConfigArgs};
use rollcall_relay::simulate::{SimulateArgs, Simulated};
use rollcall_relay::{Relay, spool, status};
use rollcall_telemetry::TelemetryArgs;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};

/// The edge of Rollcall: hosts pager transmitters, keeps what happens on disk, and forwards it to the cloud.
#[derive(Parser)]
#[command(name = "rollcall-relay", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = r#"Examples:
  rollcall-relay run --config relay.toml
  rollcall-relay status --config relay.toml --json
  rollcall-relay simulate --listen 127.0.0.1:5693 --parties-per-minute 20

A configuration, with what is usual:
  data_dir = "/var/lib/rollcall-relay"

  [cloud]
  url = "https://rollcall.example.com"
  key_file = "/etc/rollcall-relay/key"      # id:secret, from `rollcall-api admin relay create`

  [[transmitter]]
  name = "front-desk"                       # the service's name in the cloud
  listen = "127.0.0.1:5683"

  [transmitter.dtls]                        # for devices on the network; plain CoAP stays on this machine
  listen = "0.0.0.0:5684"
  psk_file = "/etc/rollcall-relay/devices"  # identity:hexkey a line

  [[box]]
  name = "terrace"                          # a real box, mirrored
  address = "coap://10.0.1.32:5683"

  [[box]]
  name = "garden"                           # one that speaks DTLS, or another relay's transmitter
  address = "coaps://10.0.1.33:5684"

  [box.dtls]
  psk_file = "/etc/rollcall-relay/boxes"    # our identity:hexkey; where there are several, name ours with identity = "..""#;

#[derive(Subcommand)]
enum Command {
    /// Host the transmitters and forward what happens, until stopped
    Run {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        telemetry: TelemetryArgs,
    },
    /// Say what waits in the spool, since when, and when the cloud was last heard of
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Be a box: a stand-in for a real transmitter, with guests who come and go
    Simulate {
        #[command(flatten)]
        args: SimulateArgs,
        #[command(flatten)]
        telemetry: TelemetryArgs,
    },
    /// Make a new spool of what can be read of a damaged one, which is kept
    Recover {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build();
    let outcome = runtime
        .context("start")
        .and_then(|runtime| runtime.block_on(run(Cli::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollcall-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run { config, telemetry } => serve(&Config::read(&config)?, &telemetry).await,
        Command::Status { config, json } => {
            let status = status::read(&Config::read(&config)?).await?;
            let text = if json {
                serde_json::to_string_pretty(&status).context("write the status")? + "\n"
            } else {
                status.in_words(OffsetDateTime::now_utc())
            };
            print(&text)
        }
        Command::Simulate { args, telemetry } => simulate(&args, &telemetry).await,
        Command::Recover { config } => {
            let config = Config::read(&config)?;
            let services: Vec<String> =
                config.transmitters.iter().map(|t| t.name.clone()).collect();
            let saved = spool::recover(&config.data_dir, config.spool.max_mib << 20, &services)?;
            print(&format!(
                "saved         {} transmitters, {} sessions, {} events that wait\nkept          {}\n",
                saved.transmitters,
                saved.sessions,
                saved.events,
                saved.kept.display()
            ))
        }
    }
}

async fn serve(config: &Config, telemetry: &TelemetryArgs) -> Result<()> {
    let telemetry = rollcall_telemetry::init("rollcall-relay", telemetry)?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut relay = Relay::start(config).await?;
    let outcome = tokio::select! {
        error = relay.failed() => Err(error),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    relay.stop().await;
    let _ = tokio::task::spawn_blocking(|| telemetry.shutdown()).await;
    outcome
}

async fn simulate(args: &SimulateArgs, telemetry: &TelemetryArgs) -> Result<()> {
    let telemetry = rollcall_telemetry::init("rollcall-relay", telemetry)?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let simulated = Simulated::all(args)?;
    for one in &simulated {
        print(&format!("a simulated box on {}\n", one.uri()))?;
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let _ = tokio::task::spawn_blocking(|| telemetry.shutdown()).await;
    Ok(())
}

/// To standard output; a reader that has seen enough is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("print"),
        _ => Ok(()),
    }
}
