//! A server for interoperability tests: the resources of ETSI's CoAP#4 test descriptions, on our endpoint.
//!
//! The descriptions are at <https://github.com/cabo/td-coap4>; a resource's comment names those that need it.

mod links;
mod site;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rollcall_coap::driver::{Driver, bind};
use rollcall_coap::dtls::Keys;
use rollcall_coap::{Config, dtls};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::site::{Command, Site};

/// The test server of ETSI's CoAP#4 test descriptions.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:5683")]
    listen: SocketAddr,
    /// Where to listen with DTLS, instead
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "psk",
        conflicts_with = "listen"
    )]
    dtls: Option<SocketAddr>,
    /// Who may connect with DTLS: `identity:hexkey`
    #[arg(long)]
    psk: Vec<String>,
    /// How often observable resources change, in milliseconds
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..))]
    period_ms: u64,
    /// How long /separate takes to answer, in milliseconds
    #[arg(long, default_value_t = 3_000)]
    delay_ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listen = arguments.dtls.unwrap_or(arguments.listen);
    let socket = bind(listen, false).with_context(|| format!("listen on {listen}"))?;
    let address = socket.local_addr().context("ask where we listen")?;
    let (commands, received) = mpsc::channel(64);
    let delay = Duration::from_millis(arguments.delay_ms);
    let site = Site::new(delay, commands.clone());
    let mut driver =
        Driver::new(socket, Config::default(), site, received).context("set up the socket")?;
    if arguments.dtls.is_some() {
        let keys = Keys::parse(&arguments.psk.join("\n")).context("read --psk")?;
        let config = dtls::Config {
            keys: Some(Arc::new(keys)),
            ..dtls::Config::default()
        };
        driver = driver.secure(config).context("set up DTLS")?;
    }
    let mut interrupted = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let scheme = if arguments.dtls.is_some() {
        "coaps"
    } else {
        "coap"
    };
    println!("listening on {scheme}://{address}");
    let mut ticks = tokio::time::interval(Duration::from_millis(arguments.period_ms));
    let ticking = async {
        loop {
            ticks.tick().await;
            if commands.send(Command::Tick).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = driver.run() => {}
        () = ticking => {}
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}
