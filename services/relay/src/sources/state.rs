//! How the sources are: what the cloud is told of their services, and people by `status`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{BrokerReport, ServiceReport, WatchReport};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{SeenService, Snapshot, bounds};
use crate::spool::Watched;

/// Bytes of words that are passed on.
const MAX_WORDS_BYTES: usize = 900;

/// All sources of a relay.
#[derive(Default)]
pub struct Watching {
    sources: Mutex<Vec<SourceState>>,
    /// Services that are something else: transmitters and boxes.
    others: Vec<String>,
}

/// What a source is, before it was ever asked.
#[derive(Clone, Debug)]
pub struct About {
    pub name: String,
    /// `rabbitmq`, `pgbouncer`, `maxscale`, `fluxmq`.
    pub what: &'static str,
    /// Without credentials.
    pub address: String,
    pub knows: &'static [&'static str],
    /// A broker is one service, and has the source's name.
    pub is_broker: bool,
}

struct SourceState {
    about: About,
    version: Option<String>,
    seen: Option<OffsetDateTime>,
    unreachable_since: Option<OffsetDateTime>,
    trouble: Option<String>,
    sessions: u64,
    services: BTreeMap<Arc<str>, ServiceState>,
    /// Counts changes that the cloud should hear of soon.
    revision: u64,
}

struct ServiceState {
    kind: ServiceKind,
    state: Option<String>,
    broker: Option<BrokerReport>,
    is_gone: bool,
    revision: u64,
}

/// Which changes a report has: of the source, and of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision(u64, u64);

/// How a source is, for people and machines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub name: String,
    /// `rabbitmq`, `pgbouncer`, `maxscale`, `fluxmq`.
    pub what: String,
    /// Without credentials.
    pub address: String,
    pub version: Option<String>,
    /// When the last whole picture was taken, RFC 3339.
    pub seen: Option<String>,
    pub services: u64,
    pub sessions: u64,
    /// Since when no picture could be taken, RFC 3339.
    pub unreachable_since: Option<String>,
    /// Why not, or what the picture lacks.
    pub trouble: Option<String>,
}

impl Watching {
    /// The sources of the configuration, with the services that they had.
    pub fn new(sources: Vec<About>, others: Vec<String>, known: &[Watched]) -> Self {
        let sources = sources
            .into_iter()
            .map(|about| SourceState::new(about, known));
        Self {
            sources: Mutex::new(sources.collect()),
            others,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SourceState>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a picture may be told: each service is in it once, and nobody else's.
    pub fn check(&self, place: usize, snapshot: &Snapshot) -> Result<()> {
        let sources = self.lock();
        let mut names: Vec<&str> = snapshot.services.iter().map(|seen| &*seen.name).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            ensure!(
                pair[0] != pair[1],
                "two services are called `{}`: rename one, for a name is unique",
                pair[0]
            );
        }
        for name in names {
            ensure!(
                (1..=200).contains(&name.len()) && !name.chars().any(char::is_control),
                "a service is called {name:?}: a name has 1 to 200 bytes and no control characters; shorten it, or `prefix`"
            );
            ensure!(
                !name.starts_with("forms-"),
                "a service is called `{name}`: names with `forms-` in front are the cloud's own; set a `prefix`"
            );
            ensure!(
                !self.others.iter().any(|other| other == name),
                "the service `{name}` has the name of a transmitter or box of this relay; set a `prefix`"
            );
            let others = sources
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != place);
            for (_, other) in others {
                let holds = other.services.get(name).is_some_and(|held| !held.is_gone);
                ensure!(
                    !holds,
                    "the service `{name}` is one of source `{}` too; set a `prefix`",
                    other.about.name
                );
            }
        }
        Ok(())
    }

    /// A picture was taken. Says whether there is news for the cloud.
    pub fn saw(&self, place: usize, snapshot: &Snapshot, at: OffsetDateTime) -> bool {
        let mut sources = self.lock();
        let held = &mut sources[place];
        let before = (held.revision, held.services.len());
        let trouble = snapshot.trouble.as_deref().map(shortened);
        let version = snapshot.version.as_deref().map(shortened);
        if held.unreachable_since.take().is_some()
            || held.seen.is_none()
            || held.trouble != trouble
            || held.version != version
        {
            held.revision += 1;
        }
        (held.trouble, held.version) = (trouble, version);
        held.seen = Some(at);
        held.sessions = (snapshot.services.iter())
            .map(|seen| seen.connections.len() as u64)
            .sum();
        let mut is_news = before != (held.revision, held.services.len());
        for seen in &snapshot.services {
            is_news |= held.see(seen);
        }
        let there: HashSet<&str> = snapshot.services.iter().map(|seen| &*seen.name).collect();
        for (name, service) in &mut held.services {
            if !service.is_gone && !there.contains(&**name) {
                (service.is_gone, service.state, service.broker) = (true, None, None);
                service.revision += 1;
                is_news = true;
            }
        }
        is_news
    }

    /// No picture could be taken. Says whether there is news for the cloud.
    pub fn failed(&self, place: usize, why: &str, at: OffsetDateTime) -> bool {
        let mut sources = self.lock();
        let held = &mut sources[place];
        let why = Some(shortened(why));
        let is_news = held.unreachable_since.is_none() || held.trouble != why;
        held.unreachable_since.get_or_insert(at);
        held.trouble = why;
        held.revision += u64::from(is_news);
        is_news
    }

    /// What the cloud should be told of services, where `wants` it: by the name, and which changes the report has.
    pub fn reports(
        &self,
        mut wants: impl FnMut(&str, Revision) -> bool,
    ) -> Vec<(ServiceReport, Revision)> {
        let at = OffsetDateTime::now_utc();
        let mut reports = Vec::new();
        for source in &*self.lock() {
            for (name, service) in &source.services {
                let revision = Revision(source.revision, service.revision);
                if wants(name, revision) {
                    let report = ServiceReport {
                        name: name.to_string(),
                        kind: service.kind.as_str().to_owned(),
                        at,
                        statistics: None,
                        watch: Some(source.report(service)),
                    };
                    reports.push((report, revision));
                }
            }
        }
        reports
    }

    /// Whether something holds of any service.
    pub fn any(&self, mut holds: impl FnMut(&str, Revision) -> bool) -> bool {
        self.lock().iter().any(|source| {
            let mut services = source.services.iter();
            services.any(|(name, held)| holds(name, Revision(source.revision, held.revision)))
        })
    }

    /// How each source is.
    pub fn statuses(&self) -> Vec<SourceStatus> {
        self.lock().iter().map(SourceState::status).collect()
    }
}

impl SourceState {
    fn new(about: About, known: &[Watched]) -> Self {
        let mut services = BTreeMap::new();
        let mut seen = None;
        for held in known.iter().filter(|held| held.source == about.name) {
            seen = seen.max(held.seen);
            let state = ServiceState {
                is_gone: held.is_gone,
                ..ServiceState::new(held.kind)
            };
            services.insert(held.name.clone(), state);
        }
        if about.is_broker {
            // The cloud hears of a broker that never answered, too.
            services
                .entry(about.name.as_str().into())
                .or_insert_with(|| ServiceState::new(ServiceKind::Broker));
        }
        Self {
            about,
            version: None,
            seen,
            unreachable_since: None,
            trouble: None,
            sessions: 0,
            services,
            revision: 0,
        }
    }

    /// Takes over what a picture says of a service. Says whether there is news for the cloud.
    fn see(&mut self, seen: &SeenService) -> bool {
        let name: Arc<str> = seen.name.as_str().into();
        let mut is_news = false;
        let held = self.services.entry(name).or_insert_with(|| {
            is_news = true;
            ServiceState::new(seen.kind)
        });
        let state = seen.state.as_deref().map(shortened);
        is_news |= held.is_gone || held.state != state || held.kind != seen.kind;
        held.revision += u64::from(is_news);
        (held.is_gone, held.state, held.kind) = (false, state, seen.kind);
        held.broker.clone_from(&seen.broker);
        is_news
    }

    fn report(&self, service: &ServiceState) -> WatchReport {
        let gone = service
            .is_gone
            .then(|| format!("the {} has this service no longer", self.about.what));
        let knows = self.about.knows.iter().map(|name| (*name).to_owned());
        bounds::fit_report(WatchReport {
            source: self.about.what.to_owned(),
            version: self.version.clone(),
            state: service.state.clone(),
            seen: self.seen,
            unreachable_since: self.unreachable_since,
            trouble: gone.or_else(|| self.trouble.clone()),
            knows: knows.collect(),
            broker: service.broker.clone(),
        })
    }

    fn status(&self) -> SourceStatus {
        let there = self.services.values().filter(|held| !held.is_gone).count();
        SourceStatus {
            services: there as u64,
            sessions: self.sessions,
            version: self.version.clone(),
            seen: self.seen.and_then(text),
            unreachable_since: self.unreachable_since.and_then(text),
            trouble: self.trouble.clone(),
            ..self.about.status()
        }
    }
}

impl ServiceState {
    fn new(kind: ServiceKind) -> Self {
        Self {
            kind,
            state: None,
            broker: None,
            is_gone: false,
            revision: 0,
        }
    }
}

impl About {
    /// The status of a source of which nothing is known.
    pub fn status(&self) -> SourceStatus {
        SourceStatus {
            name: self.name.clone(),
            what: self.what.to_owned(),
            address: self.address.clone(),
            ..SourceStatus::default()
        }
    }
}

fn text(at: OffsetDateTime) -> Option<String> {
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).ok()
}

/// Words of a length that the cloud takes, and that no terminal obeys.
fn shortened(words: &str) -> String {
    let words = words.replace(char::is_control, "\u{fffd}");
    match words.char_indices().find(|(at, _)| *at >= MAX_WORDS_BYTES) {
        Some((at, _)) => format!("{} ...", &words[..at]),
        None => words,
    }
}
