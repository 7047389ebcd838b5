//! `make bench`: what Rollcall does in a second; all but ingest against a baseline in the same run. Prints figures, asserts none.
//!
//! `make bench ARGS='-- forms --seconds 5'` runs a part: forms, ingest, sources, reading, brokers, feed, coap or mirror.

mod brokers;
mod coap;
mod coaps;
mod feed;
mod forms;
mod ingest;
mod mirror;
mod reading;
mod relay;
mod sources;
mod system;

use anyhow::Context;

use crate::system::System;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match args.iter().skip_while(|arg| *arg != "--seconds").nth(1) {
        Some(text) => text.parse().context("--seconds takes a whole number")?,
        None => 10,
    };
    let parts = [
        "forms", "ingest", "sources", "coap", "mirror", "feed", "brokers", "reading",
    ];
    let is_named = |part: &str| args.iter().any(|arg| arg == part);
    let has_names = parts.into_iter().any(is_named);
    let folder = tempfile::tempdir()?;
    let system = System::start(folder.path()).await?;
    for part in parts
        .into_iter()
        .filter(|part| !has_names || is_named(part))
    {
        match part {
            "forms" => forms::run(&system, seconds).await?,
            "ingest" => ingest::run(&system, seconds).await?,
            "sources" => sources::run(&system).await?,
            "coap" => coap::run(&system, seconds).await?,
            "mirror" => mirror::run(&system, seconds).await?,
            "feed" => feed::run(&system).await?,
            "brokers" => brokers::run(&system, seconds).await?,
            _ => reading::run(&system, seconds).await?,
        }
        println!();
    }
    Ok(())
}
