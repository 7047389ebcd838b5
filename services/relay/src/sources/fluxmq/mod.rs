//! FluxMQ, by its admin API (proxy contract, 2): MQTT sessions and AMQP connections of the node that is asked.
//!
//! The list has no subscriptions. They are asked for session by session: of sessions that changed, and of every other again
//! after `details_every` pictures, because a filter may take another's place. At most `max_details` a picture are asked for;
//! until its turn comes, a session has its subscriptions' number alone.

mod details;
mod rows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{BrokerReport, ConnectionKind, Presence};
use serde::Deserialize;

use self::details::Details;
use self::rows::{Cluster, Overview, Page, SessionRow, Stats, report};
use super::http::{self, Http, Login, Refused, Settings};
use super::{SeenService, Snapshot, bounds, secret};

/// Members of a session in `/v1` that FluxMQ can know.
pub const KNOWS: &[&str] = &[
    "remote",
    "port",
    "label",
    "client_id",
    "protocol",
    "node",
    "connected_at",
    "disconnected_at",
    "clean_start",
    "expiry_interval",
    "receive_maximum",
    "topic_alias_max",
    "has_will",
    "inflight",
    "queue_depth",
    "subscription_count",
    "subscriptions",
];

/// Rows of a page. FluxMQ sorts all its sessions for each, so that many small ones would cost it more.
const PAGE_SIZE: usize = 1_000;
/// Rows of a page that is asked for because shorter ones end badly.
const MAX_PAGE_SIZE: usize = 64_000;
const MAX_SESSIONS: usize = 2_000_000;

/// A `[[fluxmq]]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The service's name in the store; unique in the organization.
    pub name: String,
    /// The admin API: `http://127.0.0.1:8082`.
    pub url: String,
    /// A bearer token, where something in front of the API asks for one: FluxMQ itself asks nobody.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// The environment variable that holds the token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// Authorities beside the machine's own, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default = "default_poll")]
    pub poll_seconds: u64,
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// Subscriptions of a session that seems unchanged are asked for again after so many pictures.
    #[serde(default = "default_details_every")]
    pub details_every: u32,
    /// Sessions whose subscriptions are asked for in one picture.
    #[serde(default = "default_max_details")]
    pub max_details: usize,
    /// What one answer may have.
    #[serde(default = "default_answer")]
    pub max_answer_mib: usize,
}

fn default_poll() -> u64 {
    10
}

fn default_timeout() -> u64 {
    30
}

fn default_details_every() -> u32 {
    30
}

fn default_max_details() -> usize {
    2_000
}

fn default_answer() -> usize {
    64
}

impl Config {
    /// Whether a source can be made of it.
    pub fn check(&self) -> Result<()> {
        http::check_url(&self.url)?;
        ensure!(
            self.token_file.is_none() || self.token_env.is_none(),
            "`token_file` and `token_env` are both set: leave one of them out"
        );
        ensure!(self.details_every > 0, "`details_every` is at least 1");
        ensure!(
            (1..=1_024).contains(&self.max_answer_mib),
            "`max_answer_mib` is from 1 to 1024"
        );
        Ok(())
    }
}

/// A FluxMQ that is watched.
#[derive(Debug)]
pub struct FluxMq {
    name: String,
    http: Http,
    details: Details,
}

impl FluxMq {
    pub fn new(config: &Config) -> Result<Self> {
        let env = config.token_env.as_deref();
        let token = secret::read("token", config.token_file.as_deref(), env)?;
        let http = Http::new(Settings {
            url: &config.url,
            login: token.map_or(Login::Nobody, Login::Bearer),
            ca_file: config.ca_file.as_deref(),
            timeout: Duration::from_secs(config.timeout_seconds),
            max_body_bytes: config.max_answer_mib << 20,
        })?;
        Ok(Self {
            name: config.name.clone(),
            details: Details::new(http.clone(), config.details_every, config.max_details),
            http,
        })
    }

    /// A whole picture.
    pub async fn snapshot(&mut self) -> Result<Snapshot> {
        self.http.begin();
        let (broker, node) = self.about().await?;
        let rows = self.list().await?;
        let all = rows.len();
        let sessions = self.details.complete(rows, node.as_deref()).await?;
        let connections: Vec<_> = sessions.into_iter().filter_map(bounds::fit).collect();
        let unfit = all - connections.len();
        let service = SeenService {
            name: self.name.clone(),
            kind: ServiceKind::Broker,
            state: None,
            broker: Some(broker),
            connections,
        };
        Ok(Snapshot {
            version: None,
            services: vec![service],
            trouble: (unfit > 0).then(|| {
                format!("sessions that are left out: {unfit} with an id that is empty, longer than 1,000 bytes, or holds U+0000")
            }),
        })
    }

    /// The broker and the node's name. Versions without the overview have its parts.
    async fn about(&self) -> Result<(BrokerReport, Option<String>)> {
        let url = self.http.url(&["api", "v1", "overview"], &[])?;
        match self.http.get::<Overview>(&url).await {
            Ok(told) => {
                let is_clustered = told.cluster_mode;
                let node = told.node_id.filter(|_| is_clustered);
                Ok((report(told.stats, told.cluster), node))
            }
            Err(error)
                if error
                    .downcast_ref::<Refused>()
                    .is_some_and(|refused| refused.status == 404) =>
            {
                let stats: Stats = self
                    .http
                    .get(&self.http.url(&["api", "v1", "stats"], &[])?)
                    .await?;
                let url = self.http.url(&["api", "v1", "cluster"], &[])?;
                let cluster: Cluster = self.http.get(&url).await?;
                let node = cluster.node_id.clone().filter(|_| cluster.cluster_mode);
                Ok((report(stats, cluster), node))
            }
            Err(error) => Err(error),
        }
    }

    /// Every session, by id. A page begins behind the id that ended the one before, so that who is there all the time is seen.
    async fn list(&self) -> Result<Vec<SessionRow>> {
        let mut rows: Vec<SessionRow> = Vec::new();
        let (mut after, mut limit) = (String::new(), PAGE_SIZE);
        loop {
            let page = self.page(&after, limit).await?;
            let next = page.next_page_token.filter(|next| !next.is_empty());
            // FluxMQ trims the token: one with white space at an end would lead back, or past rows (2.2). A longer page ends
            // elsewhere; without a limit there is no end but the list's.
            if next.as_ref().is_some_and(|next| next.trim() != next) && limit > 0 {
                limit = if limit < MAX_PAGE_SIZE { limit * 4 } else { 0 };
                continue;
            }
            let before = rows.len();
            for row in page.sessions {
                let last = rows.last().map(|last| last.client_id.as_str());
                // By bytes, as FluxMQ sorts.
                ensure!(
                    last.is_none_or(|last| last < row.client_id.as_str()),
                    "{} lists sessions out of order, so that pages of it are no whole list",
                    self.sessions_url()?
                );
                rows.push(row);
            }
            ensure!(
                rows.len() <= MAX_SESSIONS,
                "{} lists more than {MAX_SESSIONS} sessions, which are not read",
                self.sessions_url()?
            );
            let Some(next) = next else {
                return Ok(rows);
            };
            ensure!(
                rows.len() > before && next != after,
                "{} leads from one page to the next without an end",
                self.sessions_url()?
            );
            (after, limit) = (next, PAGE_SIZE);
        }
    }

    fn sessions_url(&self) -> Result<reqwest::Url> {
        self.http.url(&["api", "v1", "sessions"], &[])
    }

    async fn page(&self, after: &str, limit: usize) -> Result<Page> {
        let limit = limit.to_string();
        let mut query = vec![("limit", &*limit)];
        if !after.is_empty() {
            query.push(("page_token", after));
        }
        let url = self.http.url(&["api", "v1", "sessions"], &query)?;
        self.http.get(&url).await
    }

    /// What can be seen and what cannot, a sentence a line.
    pub async fn check_words(&mut self) -> Result<Vec<String>> {
        let begun = Instant::now();
        let snapshot = self.snapshot().await?;
        let sessions = &snapshot.services[0].connections;
        let mqtt = sessions
            .iter()
            .filter(|held| held.kind == ConnectionKind::Mqtt);
        let (here, away): (Vec<_>, Vec<_>) =
            mqtt.partition(|held| held.facts.presence == Presence::Connected);
        let amqp = sessions.len() - here.len() - away.len();
        let untold = sessions
            .iter()
            .filter(|held| held.facts.subscriptions.is_none());
        let mut words = vec![
            format!("FluxMQ, read in {:.1} s", begun.elapsed().as_secs_f64()),
            format!(
                "{} MQTT sessions connected, {} kept for clients that are away",
                here.len(),
                away.len()
            ),
            format!("{amqp} AMQP connections"),
        ];
        let untold = untold.count();
        if untold > 0 {
            words.push(format!(
                "of {untold} sessions the subscriptions are read in later pictures; `max_details` says how many in each"
            ));
        }
        words.extend(snapshot.trouble);
        words.push(
            "FluxMQ tells of the node that is asked alone; it does not know users, nor MQTT clients' addresses, and of AMQP \
             connections not since when they are there"
                .to_owned(),
        );
        Ok(words)
    }
}
