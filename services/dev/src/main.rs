//! `rollcall`: the whole of Rollcall on one machine with nothing set up. Owns processes, ports and folders, and holds
//! no product logic.
#![cfg_attr(
    not(feature = "up"),
    allow(
        dead_code,
        reason = "`with-postgres` needs only a part of what `up` needs"
    )
)]

#[cfg(feature = "up")]
mod api;
mod config;
mod data_dir;
#[cfg(feature = "up")]
mod database;
mod ports;
mod postgres;
mod progress;
#[cfg(feature = "up")]
mod ready;
#[cfg(feature = "up")]
mod relay;
#[cfg(feature = "up")]
mod running;
#[cfg(feature = "up")]
mod s3;
mod secrets;
mod signals;
#[cfg(feature = "up")]
mod state;
#[cfg(feature = "up")]
mod up;
mod with_postgres;

use std::process::ExitCode;

use clap::Parser;

// Servers are started on the thread that runs this: see `postgres::cluster`.
#[tokio::main]
async fn main() -> ExitCode {
    let done = match config::Cli::parse().command {
        #[cfg(feature = "up")]
        config::Command::Up(config) => up::run(&config).await,
        config::Command::WithPostgres(config) => with_postgres::run(config).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("rollcall: {}", sentence(&error));
        ExitCode::FAILURE
    })
}

/// The error and its causes. Some libraries' errors quote their cause, which then is not said again.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.ends_with(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.extend([colon, &cause]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("refused")
            .context("connect: refused")
            .context("start");
        assert_eq!(super::sentence(&error), "start: connect: refused");
    }
}
