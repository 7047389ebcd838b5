//! RabbitMQ, by its management API: MQTT sessions connected and disconnected, and AMQP 0.9.1 connections (proxy contract, 3).
//!
//! Invariant: a reader who may not see everything is an error, never a picture in which somebody is missing.

mod fetch;
mod kept;
mod memory;
mod picture;
#[cfg(test)]
mod picture_tests;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{ConnectionKind, ConnectionSession, Presence};
use serde::Deserialize;

use super::http::{self, Http, Login, Settings};
use super::{SeenService, Snapshot, secret};
use fetch::Reader;
use memory::Memory;
use picture::{Notes, Scope, picture};

/// Members of a session in `/v1` that RabbitMQ can know.
pub const KNOWS: &[&str] = &[
    "user",
    "remote",
    "port",
    "label",
    "client_id",
    "protocol",
    "vhost",
    "node",
    "cipher",
    "connected_at",
    "clean_start",
    "expiry_interval",
    "inflight",
    "queue_depth",
    "subscription_count",
    "subscriptions",
];

/// A `[[rabbitmq]]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's name in the store; unique in the organization.
    pub name: String,
    /// The management API: `http://127.0.0.1:15672`.
    pub url: String,
    /// With the tag `monitoring`, and a permission in every vhost that is watched; `^$` for all three is enough.
    pub user: String,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// Authorities beside the machine's own, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// One vhost, or `all`.
    #[serde(default = "default_vhost")]
    pub vhost: String,
    /// The exchange that the MQTT plugin binds to: its `mqtt.exchange`.
    #[serde(default = "default_exchange")]
    pub exchange: String,
    /// List connections of other protocols too, as protocol `unknown`.
    #[serde(default)]
    pub other_protocols: bool,
    /// How late the broker's statistics may be: its `collect_statistics_interval` and a little.
    #[serde(default = "default_settle")]
    pub settle_seconds: u64,
    #[serde(default = "default_poll")]
    pub poll_seconds: u64,
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// What one answer may have. Bindings and consumers come in one.
    #[serde(default = "default_answer")]
    pub max_answer_mib: usize,
}

fn default_vhost() -> String {
    "/".to_owned()
}

fn default_exchange() -> String {
    "amq.topic".to_owned()
}

fn default_settle() -> u64 {
    7
}

fn default_poll() -> u64 {
    10
}

fn default_timeout() -> u64 {
    30
}

fn default_answer() -> usize {
    128
}

impl Config {
    /// Whether a source can be made of it.
    pub fn check(&self) -> Result<()> {
        http::check_url(&self.url)?;
        ensure!(!self.user.is_empty(), "`user` is who asks the broker");
        ensure!(
            self.password_file.is_some() != self.password_env.is_some(),
            "one of `password_file` and `password_env` says where the password is"
        );
        ensure!(
            !self.vhost.is_empty(),
            "`vhost` is a vhost such as `/`, or `all`"
        );
        ensure!(
            !self.exchange.is_empty(),
            "`exchange` is the broker's mqtt.exchange"
        );
        ensure!(
            self.settle_seconds <= 120,
            "`settle_seconds` is at most 120"
        );
        ensure!(
            (1..=1_024).contains(&self.max_answer_mib),
            "`max_answer_mib` is from 1 to 1024"
        );
        Ok(())
    }
}

/// A RabbitMQ that is watched.
#[derive(Debug)]
pub struct RabbitMq {
    name: String,
    reader: Reader,
    scope: Scope,
    settle: Duration,
    memory: Memory,
}

impl RabbitMq {
    pub fn new(config: &Config) -> Result<Self> {
        let env = config.password_env.as_deref();
        let password = secret::read("password", config.password_file.as_deref(), env)?
            .context("there is no password")?;
        let http = Http::new(Settings {
            url: &config.url,
            login: Login::Basic {
                user: config.user.clone(),
                password,
            },
            ca_file: config.ca_file.as_deref(),
            timeout: Duration::from_secs(config.timeout_seconds),
            max_body_bytes: config.max_answer_mib << 20,
        });
        let vhost = (config.vhost != "all").then(|| config.vhost.clone());
        Ok(Self {
            name: config.name.clone(),
            reader: Reader {
                http: http?,
                vhost: vhost.clone(),
                exchange: config.exchange.clone(),
            },
            scope: Scope {
                vhost,
                other_protocols: config.other_protocols,
            },
            settle: Duration::from_secs(config.settle_seconds),
            memory: Memory::default(),
        })
    }

    /// A whole picture. The first may take the time that late statistics need.
    pub async fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(self.look().await?.0)
    }

    async fn look(&mut self) -> Result<(Snapshot, Notes)> {
        let about = self.reader.about().await?;
        let mut read = self.reader.lists().await?;
        let mut seen = picture(&self.scope, read.connections.into_values(), read.kept);
        if self.memory.must_wait(&seen, read.taken) {
            drop(seen);
            let settled = read.taken.at + self.settle;
            tokio::time::sleep_until(settled.into()).await;
            read = self.reader.lists().await?;
            seen = picture(&self.scope, read.connections.into_values(), read.kept);
        }
        let notes = std::mem::take(&mut seen.notes);
        let connections = self.memory.settle(seen, read.taken, self.settle);
        let troubles = [about.trouble, notes.trouble()];
        let troubles: Vec<_> = troubles.into_iter().flatten().collect();
        let service = SeenService {
            name: self.name.clone(),
            kind: ServiceKind::Broker,
            state: None,
            broker: Some(about.broker),
            connections,
        };
        let snapshot = Snapshot {
            version: about.version,
            services: vec![service],
            trouble: (!troubles.is_empty()).then(|| troubles.join(". ")),
        };
        Ok((snapshot, notes))
    }

    /// What can be seen and what cannot, a sentence a line.
    pub async fn check_words(&mut self) -> Result<Vec<String>> {
        let begun = Instant::now();
        let (snapshot, notes) = self.look().await?;
        let sessions = &snapshot.services[0].connections;
        let count = |kind, presence| {
            let is_it =
                |held: &&ConnectionSession| held.kind == kind && held.facts.presence == presence;
            sessions.iter().filter(is_it).count()
        };
        let version = snapshot
            .version
            .as_deref()
            .unwrap_or("of an unknown version");
        let vhosts = match &self.scope.vhost {
            Some(vhost) => format!("vhost `{vhost}`"),
            None => "all vhosts".to_owned(),
        };
        let mut words = vec![
            format!(
                "RabbitMQ {version}, {vhosts}, read in {:.1} s",
                begun.elapsed().as_secs_f64()
            ),
            format!(
                "{} MQTT sessions connected, {} kept for clients that are away",
                count(ConnectionKind::Mqtt, Presence::Connected),
                count(ConnectionKind::Mqtt, Presence::Disconnected)
            ),
            format!(
                "{} AMQP connections",
                count(ConnectionKind::Amqp, Presence::Connected)
            ),
        ];
        if notes.others > 0 {
            words.push(format!(
                "{} connections of other protocols are passed over; `other_protocols = true` lists them",
                notes.others
            ));
        }
        words.extend(snapshot.trouble);
        words.push(
            "RabbitMQ does not know when a client disconnected, whether it has a will, nor anything of MQTT 5; of a session \
             without its client neither user nor address, and no subscriptions at QoS 0"
                .to_owned(),
        );
        Ok(words)
    }
}
