//! PgBouncer, by its admin console: a client's connection, with the server connection that works for it, is a session; its
//! pool is the service.
//!
//! Columns are found by their names: versions differ. The console knows simple queries alone.

mod console;
mod read;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use time::{OffsetDateTime, UtcOffset};
use tokio::time::timeout;

use self::console::{Console, Target};
use self::read::Picture;
use super::{Snapshot, secret, zone};

/// What the console can tell of a session; `backends` as of the moment of asking.
pub const KNOWS: &[&str] = &[
    "user",
    "remote",
    "port",
    "label",
    "protocol",
    "database",
    "cipher",
    "connected_at",
    "idle",
    "backends",
];

/// A PgBouncer that the relay watches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is called here; its pools are `<prefix><database>/<user>`.
    pub name: String,
    /// A name or an address, or the folder of a Unix socket.
    pub host: String,
    #[serde(default = "port")]
    pub port: u16,
    /// One of PgBouncer's `stats_users` (or `admin_users`).
    pub user: String,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// An environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// TLS, with the certificate and its name checked. Where absent: yes, but for loopback and Unix sockets.
    #[serde(default)]
    pub tls: Option<bool>,
    /// Authorities instead of the usual ones: PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// In front of pools' names; `<name>/` where absent.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The zone of times that PgBouncer prints without one, or with a name such as `CET`: `+01:00`. Where absent it is
    /// measured by PgBouncer's clock.
    #[serde(default)]
    pub utc_offset: Option<String>,
    #[serde(default = "poll_seconds")]
    pub poll_seconds: u64,
    /// For a whole picture.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
}

fn port() -> u16 {
    6432
}

fn poll_seconds() -> u64 {
    5
}

fn timeout_seconds() -> u64 {
    10
}

impl Config {
    /// Says what cannot work before anything is started.
    pub fn check(&self) -> Result<()> {
        ensure!(
            !self.host.is_empty(),
            "`host` is a name, an address, or the folder of a Unix socket"
        );
        ensure!(
            !self.user.is_empty(),
            "`user` is one of PgBouncer's stats_users"
        );
        ensure!(
            !(self.tls == Some(true) && self.is_socket()),
            "there is no `tls` over a Unix socket; leave it out"
        );
        ensure!(
            self.ca_file.is_none() || self.has_tls(),
            "`ca_file` is for TLS, which is off; set `tls = true`"
        );
        self.utc_offset().map(drop)
    }

    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    fn has_tls(&self) -> bool {
        self.tls.unwrap_or_else(|| {
            let is_loopback =
                |host: &str| host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
            !(self.is_socket() || self.host == "localhost" || is_loopback(&self.host))
        })
    }

    fn utc_offset(&self) -> Result<Option<UtcOffset>> {
        zone::configured(self.utc_offset.as_deref())
    }
}

/// A PgBouncer, asked again and again.
pub struct Pgbouncer {
    target: Target,
    prefix: String,
    utc_offset: Option<UtcOffset>,
    timeout: Duration,
    /// Kept between pictures: PgBouncer writes each login into its log.
    console: Option<Console>,
}

impl Pgbouncer {
    pub fn new(config: &Config) -> Result<Self> {
        config.check()?;
        let password = secret::read(
            "password",
            config.password_file.as_deref(),
            config.password_env.as_deref(),
        )?;
        Ok(Self {
            target: Target {
                host: config.host.clone(),
                port: config.port,
                user: config.user.clone(),
                password,
                tls: config.has_tls(),
                ca_file: config.ca_file.clone(),
            },
            prefix: (config.prefix.clone()).unwrap_or_else(|| format!("{}/", config.name)),
            utc_offset: config.utc_offset()?,
            timeout: Duration::from_secs(config.timeout_seconds),
            console: None,
        })
    }

    /// Everything that the console tells, or nothing.
    pub async fn snapshot(&mut self) -> Result<Snapshot> {
        // A console whose answer was not read to its end is not used again.
        let kept = self.console.take();
        let taken = timeout(self.timeout, self.take(kept)).await;
        let (console, picture) = taken.with_context(|| {
            format!(
                "PgBouncer at {} did not tell everything within {} s; raise `timeout_seconds`",
                self.target,
                self.timeout.as_secs()
            )
        })??;
        self.console = Some(console);
        Ok(picture.snapshot(&self.prefix, OffsetDateTime::now_utc()))
    }

    async fn take(&self, kept: Option<Console>) -> Result<(Console, Picture)> {
        if let Some(mut console) = kept {
            // It was restarted since, perhaps: then a new connection tells how it stands.
            if let Ok(picture) = self.ask(&mut console).await {
                return Ok((console, picture));
            }
        }
        let mut console = Console::open(&self.target).await?;
        let picture = self.ask(&mut console).await?;
        Ok((console, picture))
    }

    async fn ask(&self, console: &mut Console) -> Result<Picture> {
        let mut picture = Picture::new(&self.target.user, self.utc_offset);
        console
            .each("SHOW VERSION", |row| picture.version(row))
            .await?;
        console
            .each("SHOW DATABASES", |row| picture.database(row))
            .await?;
        if console.has_state {
            console.each("SHOW STATE", |row| picture.state(row)).await?;
        }
        console.each("SHOW POOLS", |row| picture.pool(row)).await?;
        // Servers first, so that a client finds its own.
        console
            .each("SHOW SERVERS", |row| picture.server(row))
            .await?;
        console
            .each("SHOW CLIENTS", |row| picture.client(row))
            .await?;
        Ok(picture)
    }
}
