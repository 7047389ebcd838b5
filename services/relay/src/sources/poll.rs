//! Asks a source for a picture again and again, and tells what differs from the last.
//!
//! Invariant: a picture is told whole before the next is asked for, and remembered as told once the spool has it. Where no picture
//! comes, nothing is said of anybody.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures_util::FutureExt as _;
use rand::RngExt;
use rollcall_model::ServiceKind;
use rollcall_telemetry::SourceLabels;
use time::OffsetDateTime;
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;

use super::diff::{Change, Differences, Memory, Moment};
use super::state::Watching;
use super::{Snapshot, Source};
use crate::metrics::Metrics;
use crate::spool::{Job, Lost, Queue, Spool, Telling, Watch, Watched};

/// Changes that are committed together.
const CHUNK: usize = 300;
/// Requests that a picture may take, as far as time goes.
const REQUESTS: u32 = 6;
/// The longest pause after failures; longer where pictures are taken less often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The least pause between pictures, however long they take.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// How long to wait before the spool is asked again to take what it could not.
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// How often it is written down that nothing changed.
const SEEN_EVERY: time::Duration = time::Duration::seconds(60);

/// What the pollers of a relay share.
#[derive(Clone)]
pub struct Shared {
    pub watching: Arc<Watching>,
    pub queue: Arc<Queue>,
    pub jobs: SyncSender<Job>,
    /// Says that there is something to send.
    pub news: Arc<Notify>,
    pub metrics: Arc<Metrics>,
    /// How often what moves all the time is told of one session.
    pub every: time::Duration,
}

/// A source with what was told of it.
pub struct Poller {
    /// Its place among the sources.
    pub place: usize,
    pub name: String,
    pub source: Source,
    pub poll_every: Duration,
    /// For one request.
    pub timeout: Duration,
    pub services: Services,
    pub shared: Shared,
}

/// What was told of each service of a source.
#[derive(Default)]
pub struct Services(BTreeMap<Arc<str>, Service>);

#[derive(Default)]
struct Service {
    memory: Memory,
    kind: Option<ServiceKind>,
    previous: Option<OffsetDateTime>,
    /// What the spool knows of `previous`.
    noted: Option<OffsetDateTime>,
    is_gone: bool,
    /// What is being told again: how often something had been lost, and since when it is told.
    again: Option<(u64, OffsetDateTime)>,
}

impl Services {
    /// What was told before the relay started.
    pub fn restore(spool: &Spool, source: &str, known: &[Watched]) -> Result<Self> {
        let mut services = BTreeMap::new();
        for held in known.iter().filter(|held| held.source == source) {
            let service = Service {
                memory: spool.memory(&held.name)?,
                kind: Some(held.kind),
                previous: held.seen,
                noted: held.seen,
                is_gone: held.is_gone,
                again: None,
            };
            services.insert(held.name.clone(), service);
        }
        Ok(Self(services))
    }

    /// The next changes of a picture.
    fn next(&self, picture: &mut VecDeque<Differences>) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some(differences) = picture.front_mut() {
            let memory = &self.0[differences.service()].memory;
            match differences.next(memory) {
                Some(change) => changes.push(change),
                None => drop(picture.pop_front()),
            }
            if changes.len() == CHUNK {
                break;
            }
        }
        changes
    }
}

impl Poller {
    /// Asks until the process ends.
    pub async fn run(mut self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let outcome = self.poll().await;
            let share = rand::rng().random_range(0.9..1.1);
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    let pause = self.poll_every.mul_f64(share);
                    pause.saturating_sub(began.elapsed()).max(LEAST_PAUSE)
                }
                Err(error) => {
                    self.failed(&error);
                    failures = (failures + 1).min(16);
                    let longest = LONGEST_PAUSE.max(self.poll_every);
                    let pause = self.poll_every.saturating_mul(1 << (failures - 1));
                    pause.min(longest).mul_f64(share)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn labels(&self) -> SourceLabels {
        SourceLabels {
            source: self.name.clone(),
        }
    }

    fn failed(&self, error: &anyhow::Error) {
        let why = format!("{error:#}");
        let metrics = &self.shared.metrics;
        metrics
            .sources
            .poll_failures_total
            .get_or_create(&self.labels())
            .inc();
        let now = OffsetDateTime::now_utc();
        if self.shared.watching.failed(self.place, &why, now) {
            tracing::warn!(
                source = %self.name, reason = why,
                "no picture of a source could be taken; its sessions stay as they were"
            );
            self.shared.news.notify_waiters();
        }
    }

    /// Takes a picture, and tells what is new in it.
    async fn poll(&mut self) -> Result<()> {
        let metrics = self.shared.metrics.clone();
        let labels = self.labels();
        metrics.sources.polls_total.get_or_create(&labels).inc();
        let began = Instant::now();
        let taken = in_time(self.timeout, self.source.snapshot()).await;
        let took = began.elapsed();
        let durations = &metrics.sources.poll_duration_seconds;
        durations.get_or_create(&labels).observe(took.as_secs_f64());
        let snapshot = taken?;
        self.shared.watching.check(self.place, &snapshot)?;
        let at = OffsetDateTime::now_utc();
        let sessions: usize = (snapshot.services.iter())
            .map(|seen| seen.connections.len())
            .sum();
        if self.shared.watching.saw(self.place, &snapshot, at) {
            tracing::info!(source = %self.name, sessions, "a picture of a source was taken");
            self.shared.news.notify_waiters();
        }
        let began = Instant::now();
        self.tell(snapshot, at).await?;
        let durations = &metrics.sources.telling_duration_seconds;
        let took = began.elapsed().as_secs_f64();
        durations.get_or_create(&labels).observe(took);
        let held = i64::try_from(sessions).unwrap_or(i64::MAX);
        metrics.sources.sessions.get_or_create(&labels).set(held);
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
        let seen = at.unix_timestamp() as f64;
        let timestamps = &metrics.sources.seen_timestamp_seconds;
        timestamps.get_or_create(&labels).set(seen);
        Ok(())
    }

    /// Tells what is new in a picture, until the spool has it.
    async fn tell(&mut self, snapshot: Snapshot, at: OffsetDateTime) -> Result<()> {
        let lost = self.lost().await;
        let (new, mut picture) = self.compare(snapshot, at, &lost);
        if !new.is_empty() {
            self.store(Telling {
                services: new,
                ..Telling::default()
            })
            .await?;
        }
        let mut is_held_back = !self.tell_ends(&lost).await?;
        let mut is_news = false;
        loop {
            // Telling again must not be what fills the spool: the rest follows with a later picture.
            if self.shared.queue.waiting().is_tight {
                for differences in &mut picture {
                    is_held_back |= differences.hold_back();
                }
            }
            let services = std::mem::take(&mut self.services);
            let compared = spawn_blocking(move || {
                let changes = services.next(&mut picture);
                (services, picture, changes)
            });
            let changes;
            (self.services, picture, changes) = compared.await.expect("comparing does not panic");
            if changes.is_empty() {
                break;
            }
            is_news = true;
            let telling = Telling {
                changes,
                ..Telling::default()
            };
            for change in self.store(telling).await?.changes {
                if let Some(service) = self.services.0.get_mut(&change.service) {
                    service.memory.told(change);
                }
            }
        }
        let settled = if is_held_back { BTreeMap::new() } else { lost };
        self.settle(&settled, is_news, at).await
    }

    /// Tells of sessions that are no more what was lost: before their services' sessions, for who came again has left first. Says
    /// whether that is all.
    async fn tell_ends(&self, lost: &BTreeMap<String, Lost>) -> Result<bool> {
        for service in lost.keys() {
            loop {
                if self.shared.queue.waiting().is_tight {
                    return Ok(false);
                }
                let telling = Telling {
                    ends: vec![service.as_str().into()],
                    ..Telling::default()
                };
                if self.store(telling).await?.ended == 0 {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// What is to be told again.
    async fn lost(&self) -> BTreeMap<String, Lost> {
        let (queue, name) = (self.shared.queue.clone(), self.name.clone());
        match spawn_blocking(move || queue.lost(&name)).await {
            Ok(Ok(lost)) => lost,
            Ok(Err(error)) => {
                tracing::error!(error = format!("{error:#}"), "the spool could not be read");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        }
    }

    /// The services that are new, and what there is to tell of each.
    fn compare(
        &mut self,
        snapshot: Snapshot,
        now: OffsetDateTime,
        lost: &BTreeMap<String, Lost>,
    ) -> (Vec<Watched>, VecDeque<Differences>) {
        let mut gone: BTreeSet<Arc<str>> = self.services.0.keys().cloned().collect();
        let (mut new, mut picture) = (Vec::new(), VecDeque::new());
        for seen in snapshot.services {
            let name: Arc<str> = seen.name.as_str().into();
            gone.remove(&name);
            let held = self.services.0.entry(name.clone()).or_default();
            held.is_gone = false;
            if held.kind != Some(seen.kind) {
                held.kind = Some(seen.kind);
                held.noted = None;
                new.push(held.watched(&name, &self.name));
            }
            let at = held.moment(now, self.shared.every, lost.get(&*name));
            picture.push_back(held.memory.compare(Some(seen), &name, at));
        }
        for name in gone {
            if let Some(held) = self.services.0.get_mut(&name) {
                if !held.is_gone {
                    (held.is_gone, held.noted) = (true, None);
                }
                let at = held.moment(now, self.shared.every, lost.get(&*name));
                picture.push_back(held.memory.compare(None, &name, at));
            }
        }
        (new, picture)
    }

    /// Notes that a picture is told whole.
    async fn settle(
        &mut self,
        lost: &BTreeMap<String, Lost>,
        is_news: bool,
        at: OffsetDateTime,
    ) -> Result<()> {
        let mut telling = Telling {
            settled: lost
                .iter()
                .map(|(name, lost)| (name.as_str().into(), lost.times))
                .collect(),
            ..Telling::default()
        };
        for (name, held) in &mut self.services.0 {
            let is_old = held.noted.is_none_or(|noted| at - noted >= SEEN_EVERY);
            if !held.is_gone {
                held.previous = Some(at);
            } else if held.noted.is_some() {
                continue;
            }
            if is_news || is_old {
                held.noted = Some(at);
                telling.services.push(held.watched(name, &self.name));
            }
        }
        if !telling.services.is_empty() || !telling.settled.is_empty() {
            self.store(telling).await?;
        }
        // Of services that are no more, the cloud was told.
        self.services
            .0
            .retain(|_, held| !held.is_gone || !held.memory.is_empty());
        Ok(())
    }

    /// Has the spool take it, however often it must be asked.
    async fn store(&self, mut telling: Telling) -> Result<Telling> {
        loop {
            let (done, is_done) = oneshot::channel();
            let watch = Box::new(Watch { telling, done });
            let jobs = self.shared.jobs.clone();
            let sent = spawn_blocking(move || jobs.send(Job::Watched(watch)).is_ok());
            let is_sent = sent.await.context("tell the spool")?;
            anyhow::ensure!(is_sent, "the relay stops");
            match is_done.await.context("the relay stops")? {
                Ok(stored) => return Ok(stored),
                Err(back) => telling = back,
            }
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }
}

/// Ends what takes much longer than it should. What a server says may make a reader panic that is not ours (sqlx does so over a
/// message that is shorter than its length): then too there is no picture, and the relay goes on.
pub async fn in_time<T>(timeout: Duration, taken: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = timeout.saturating_mul(REQUESTS);
    let taken = AssertUnwindSafe(taken).catch_unwind();
    let taken = tokio::time::timeout(patience, taken).await;
    let taken = taken.with_context(|| {
        let seconds = patience.as_secs();
        format!("it did not tell everything within {seconds} s; raise `timeout_seconds`")
    })?;
    taken.unwrap_or_else(|_| {
        bail!(
            "what it answers cannot be read at all (a panic, see the log): is the address its own?"
        )
    })
}

impl Service {
    fn moment(
        &mut self,
        now: OffsetDateTime,
        every: time::Duration,
        lost: Option<&Lost>,
    ) -> Moment {
        let told = self.again;
        self.again = lost.map(|lost| {
            let since = told.filter(|(times, _)| *times == lost.times);
            since.unwrap_or((lost.times, now))
        });
        Moment {
            now,
            previous: self.previous,
            every,
            again: self.again.map(|(_, since)| since),
            is_unsure: lost.is_some_and(|lost| lost.is_unsure),
        }
    }

    fn watched(&self, name: &Arc<str>, source: &str) -> Watched {
        Watched {
            name: name.clone(),
            source: source.to_owned(),
            kind: self.kind.unwrap_or(ServiceKind::Broker),
            seen: self.noted,
            is_gone: self.is_gone,
        }
    }
}

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;
