//! What a relay watches beside transmitters: brokers and proxies of databases, asked again and again for a picture of their
//! clients.
//!
//! Invariant: only a whole picture counts. What could not be read whole says nothing of anybody.

mod bounds;
pub mod diff;
pub mod fluxmq;
mod http;
pub mod maxscale;
pub mod pgbouncer;
pub mod poll;
pub mod rabbitmq;
mod secret;
pub mod state;
mod zone;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{BrokerReport, ConnectionSession};

use self::state::About;

/// Everything that a source tells at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The version that the source names.
    pub version: Option<String>,
    /// Each service once.
    pub services: Vec<SeenService>,
    /// What the picture lacks though it is whole: rights that are missing, ids that are too long ... In words.
    pub trouble: Option<String>,
}

/// A service of a source, and all of its sessions.
#[derive(Debug)]
pub struct SeenService {
    /// Unique in the organization: of a broker the source's name in the configuration.
    pub name: String,
    pub kind: ServiceKind,
    /// How it stands, in the source's words.
    pub state: Option<String>,
    /// What a broker says of itself.
    pub broker: Option<BrokerReport>,
    /// Every session that the source has, by its name there; each once.
    pub connections: Vec<ConnectionSession>,
}

/// A source's table in the configuration.
#[derive(Clone, Copy, Debug)]
pub enum SourceConfig<'a> {
    RabbitMq(&'a rabbitmq::Config),
    FluxMq(&'a fluxmq::Config),
    Maxscale(&'a maxscale::Config),
    Pgbouncer(&'a pgbouncer::Config),
}

/// Something that is asked for pictures.
pub enum Source {
    RabbitMq(rabbitmq::RabbitMq),
    FluxMq(fluxmq::FluxMq),
    Maxscale(maxscale::Maxscale),
    Pgbouncer(pgbouncer::Pgbouncer),
    /// What a test hands in.
    #[cfg(test)]
    Feed(tokio::sync::mpsc::Receiver<Result<Snapshot>>),
}

impl SourceConfig<'_> {
    /// Says what cannot work before anything is started.
    pub fn check(&self) -> Result<()> {
        self.check_values().with_context(|| self.table())
    }

    fn check_values(&self) -> Result<()> {
        let (every, timeout) = self.times();
        ensure!(
            (1..=3_600).contains(&every.as_secs()) && (1..=600).contains(&timeout.as_secs()),
            "`poll_seconds` is from 1 to 3600, `timeout_seconds` from 1 to 600"
        );
        match self {
            Self::RabbitMq(config) => config.check(),
            Self::FluxMq(config) => config.check(),
            Self::Maxscale(config) => config.check(),
            Self::Pgbouncer(config) => config.check(),
        }
    }

    /// Where it stands in the configuration.
    fn table(&self) -> String {
        let About { what, name, .. } = self.about();
        format!("[[{what}]] `{name}`")
    }

    pub fn name(&self) -> &str {
        match self {
            Self::RabbitMq(config) => &config.name,
            Self::FluxMq(config) => &config.name,
            Self::Maxscale(config) => &config.name,
            Self::Pgbouncer(config) => &config.name,
        }
    }

    /// What it is, without credentials: `check` sees to it that no address holds any.
    pub fn about(&self) -> About {
        let (what, address, knows) = match self {
            Self::RabbitMq(config) => ("rabbitmq", config.url.clone(), rabbitmq::KNOWS),
            Self::FluxMq(config) => ("fluxmq", config.url.clone(), fluxmq::KNOWS),
            Self::Maxscale(config) => ("maxscale", config.url.clone(), maxscale::KNOWS),
            Self::Pgbouncer(config) => {
                let address = format!("{}:{}", config.host, config.port);
                ("pgbouncer", address, pgbouncer::KNOWS)
            }
        };
        About {
            name: self.name().to_owned(),
            what,
            address,
            knows,
            is_broker: matches!(self, Self::RabbitMq(_) | Self::FluxMq(_)),
        }
    }

    /// How often it is asked, and its `timeout_seconds`.
    pub fn times(&self) -> (Duration, Duration) {
        let (every, timeout) = match self {
            Self::RabbitMq(config) => (config.poll_seconds, config.timeout_seconds),
            Self::FluxMq(config) => (config.poll_seconds, config.timeout_seconds),
            Self::Maxscale(config) => (config.poll_seconds, config.timeout_seconds),
            Self::Pgbouncer(config) => (config.poll_seconds, config.timeout_seconds),
        };
        (Duration::from_secs(every), Duration::from_secs(timeout))
    }

    /// The source itself, ready to be asked.
    pub fn open(&self) -> Result<Source> {
        let opened = match self {
            Self::RabbitMq(config) => rabbitmq::RabbitMq::new(config).map(Source::RabbitMq),
            Self::FluxMq(config) => fluxmq::FluxMq::new(config).map(Source::FluxMq),
            Self::Maxscale(config) => maxscale::Maxscale::new(config).map(Source::Maxscale),
            Self::Pgbouncer(config) => pgbouncer::Pgbouncer::new(config).map(Source::Pgbouncer),
        };
        opened.with_context(|| self.table())
    }
}

impl Source {
    /// Everything that the source tells now, or why not.
    pub async fn snapshot(&mut self) -> Result<Snapshot> {
        match self {
            Self::RabbitMq(source) => source.snapshot().await,
            Self::FluxMq(source) => source.snapshot().await,
            Self::Maxscale(source) => source.snapshot().await,
            Self::Pgbouncer(source) => source.snapshot().await,
            #[cfg(test)]
            Self::Feed(feed) => match feed.recv().await {
                Some(picture) => picture,
                None => std::future::pending().await,
            },
        }
    }

    /// What can be seen and what cannot, a sentence a line.
    pub async fn check_words(&mut self) -> Result<Vec<String>> {
        match self {
            Self::RabbitMq(source) => source.check_words().await,
            Self::FluxMq(source) => source.check_words().await,
            _ => Ok(self.snapshot().await?.words()),
        }
    }
}

impl Snapshot {
    /// What is in it, a sentence a line.
    fn words(self) -> Vec<String> {
        let sessions = self.services.iter().map(|seen| seen.connections.len());
        let sessions: usize = sessions.sum();
        let (count, version) = (self.services.len(), self.version);
        let mut words: Vec<String> = version.into_iter().collect();
        words.push(format!("{sessions} sessions on {count} services"));
        const NAMED: usize = 20;
        for seen in self.services.iter().take(NAMED) {
            let state = seen.state.as_ref().map(|state| format!(" ({state})"));
            words.push(format!(
                "{} on {}{}",
                seen.connections.len(),
                seen.name,
                state.unwrap_or_default()
            ));
        }
        if count > NAMED {
            words.push(format!("and {} services more", count - NAMED));
        }
        words.extend(self.trouble);
        words
    }
}
