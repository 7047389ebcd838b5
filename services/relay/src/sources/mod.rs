//! What a relay watches beside transmitters: brokers and proxies of databases, asked again and again for a picture of their
//! clients.
//!
//! Invariant: only a whole picture counts. What could not be read whole says nothing of anybody.

pub mod diff;
mod http;
pub mod pgbouncer;
pub mod poll;
mod secret;
pub mod state;

use std::time::Duration;

use anyhow::Result;
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{BrokerReport, ConnectionSession};

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

/// Everything that the configuration says of sources.
#[derive(Clone, Debug)]
pub enum SourceConfig<'a> {
    Pgbouncer(&'a pgbouncer::Config),
}

/// Something that is asked for pictures.
pub enum Source {
    Pgbouncer(pgbouncer::Pgbouncer),
    /// What a test hands in.
    #[cfg(test)]
    Feed(tokio::sync::mpsc::Receiver<Result<Snapshot>>),
}

impl SourceConfig<'_> {
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Pgbouncer(config) => config.check(),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Pgbouncer(config) => &config.name,
        }
    }

    /// What it is, without credentials.
    pub fn about(&self) -> state::About {
        let (what, address, knows, is_broker) = match self {
            Self::Pgbouncer(config) => {
                let (host, port) = (&config.host, config.port);
                let address = format!("{host}:{port}");
                ("pgbouncer", address, pgbouncer::KNOWS, false)
            }
        };
        state::About {
            name: self.name().to_owned(),
            what,
            address,
            knows,
            is_broker,
        }
    }

    /// How often it is asked, and how long it may take over one request.
    pub fn times(&self) -> (Duration, Duration) {
        let (every, timeout) = match self {
            Self::Pgbouncer(config) => (config.poll_seconds, config.timeout_seconds),
        };
        (Duration::from_secs(every), Duration::from_secs(timeout))
    }

    pub fn open(&self) -> Result<Source> {
        Ok(match self {
            Self::Pgbouncer(config) => Source::Pgbouncer(pgbouncer::Pgbouncer::new(config)?),
        })
    }
}

impl Source {
    /// Everything that the source tells now, or why not.
    pub async fn snapshot(&mut self) -> Result<Snapshot> {
        match self {
            Self::Pgbouncer(source) => source.snapshot().await,
            #[cfg(test)]
            Self::Feed(feed) => match feed.recv().await {
                Some(picture) => picture,
                None => std::future::pending().await,
            },
        }
    }
}
