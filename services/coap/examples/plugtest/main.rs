//! A server for interoperability tests: the resources of ETSI's CoAP#4 test descriptions, on our endpoint.
//!
//! The descriptions are at <https://github.com/cabo/td-coap4>; a resource's comment names those that need it.

mod links;
mod site;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rollcall_coap::Config;
use rollcall_coap::driver::{Driver, bind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::site::{Command, Site};

/// The test server of ETSI's CoAP#4 test descriptions.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:5683")]
    listen: SocketAddr,
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
    let socket =
        bind(arguments.listen, false).with_context(|| format!("listen on {}", arguments.listen))?;
    let address = socket.local_addr().context("ask where we listen")?;
    let (commands, received) = mpsc::channel(64);
    let delay = Duration::from_millis(arguments.delay_ms);
    let site = Site::new(delay, commands.clone());
    let driver =
        Driver::new(socket, Config::default(), site, received).context("set up the socket")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut terminated = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    println!("listening on coap://{address}");
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
