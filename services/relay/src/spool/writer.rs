//! The one thread that writes the spool. What asks for a change meanwhile waits, and is committed together: one sync for
//! all of it.
//!
//! Invariant: answers and notifications leave after the commit; where it fails, everything is as before and each caller
//! is told.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rollcall_coap::RequestId;
use rollcall_model::command::{Command as OrderedCommand, CommandReport};
use rollcall_pager::{Effects, Now, Reply, Transmitter};
use rusqlite::{Transaction, TransactionBehavior, params};
use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::commands;
use super::events::{self, Moved};
use super::{Queue, Reports, Spool, Waiting};
use crate::clock::Clock;
use crate::hosted::{Command, News, Owned};
use crate::mirrored::{self, Learnt};
use crate::{metrics::Metrics, wire};

/// Requests that are committed together, at most.
const GROUP: usize = 256;
/// How often to look whether a transmitter has something to do by itself.
const IDLE: Duration = Duration::from_secs(1);
/// What events may take however full the disk is, in bytes.
const LEAST_BYTES: u64 = 1 << 20;
/// How often the disk's free space is asked for.
const DISK_EVERY: Duration = Duration::from_secs(5);

/// A transmitter in the writer's care.
pub struct Host {
    pub name: String,
    /// As it will be after the next commit; nobody else sees it.
    pub working: Transmitter,
    /// As committed: what is read from.
    pub published: Arc<RwLock<Arc<Transmitter>>>,
    /// The sockets' loops, which answer and notify.
    pub workers: Vec<mpsc::Sender<Command>>,
}

/// What became of an event that was sent.
#[derive(Debug)]
pub enum Fate {
    /// The cloud has it.
    Delivered,
    /// The cloud will not have it: kept aside. With `leave_gap` a gap record takes its place in the queue.
    Refused {
        code: String,
        detail: String,
        leave_gap: bool,
    },
}

/// The fates of a batch.
pub struct Delivery {
    pub fates: Vec<(i64, Fate)>,
    /// When the cloud answered.
    pub at: OffsetDateTime,
    pub done: oneshot::Sender<()>,
}

/// Something for the writer to do.
pub enum Job {
    /// A request that changes something, to a host by its place.
    Request {
        host: usize,
        worker: usize,
        id: RequestId,
        request: Owned,
    },
    Delivered(Delivery),
    /// What was learned of a mirrored box.
    Learnt(Box<Learnt>),
    /// The cloud wants something done.
    Ordered(Box<OrderedCommand>),
    /// A box has answered to a command, or has not.
    Reported(Box<CommandReport>),
    /// The cloud has these reports.
    Told(Vec<Uuid>),
    /// Write what there is, and end.
    Stop,
}

pub struct Writer {
    pub spool: Spool,
    pub path: PathBuf,
    pub hosts: Vec<Host>,
    /// The loops of mirrored boxes, which acknowledge to them.
    pub boxes: mirrored::Loops,
    /// What was reported of commands.
    pub reports: Reports,
    pub queue: Arc<Queue>,
    pub jobs: Receiver<Job>,
    pub clock: Clock,
    pub max_bytes: u64,
    /// The disk is nearly full: events may take no more than they do.
    pub is_disk_low: bool,
    pub min_free_bytes: u64,
    /// Says that there is something to send.
    pub news: Arc<Notify>,
    pub metrics: Arc<Metrics>,
}

/// What to say once the commit stands.
#[derive(Default)]
struct Outcome {
    answers: Vec<(usize, usize, RequestId, Reply)>,
    /// By host, what its observers are told, in order.
    notifications: Vec<(usize, Vec<News>)>,
    pages: usize,
    delivered: Vec<Delivery>,
    /// Commands for boxes, which are on the disk by then.
    orders: Vec<OrderedCommand>,
    has_reports: bool,
    touched: Vec<usize>,
    moved: Moved,
}

impl Writer {
    /// Works until told to stop, or until nobody is left to ask.
    pub fn run(mut self) {
        let mut disk_looked_at = None;
        loop {
            let mut jobs = Vec::new();
            match self.jobs.recv_timeout(self.pause()) {
                Ok(job) => jobs.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while jobs.len() < GROUP
                && let Ok(job) = self.jobs.try_recv()
            {
                jobs.push(job);
            }
            if disk_looked_at.is_none_or(|at: Instant| at.elapsed() > DISK_EVERY) {
                disk_looked_at = Some(Instant::now());
                self.look_at_disk();
            }
            let stops = jobs.iter().any(|job| matches!(job, Job::Stop));
            self.step(self.clock.now(), jobs);
            if stops {
                return;
            }
        }
    }

    fn pause(&self) -> Duration {
        let now = self.clock.now();
        let due = self
            .hosts
            .iter()
            .filter_map(|host| host.working.next_tick(now))
            .min();
        due.map_or(IDLE, |due| due.min(IDLE))
    }

    /// Does a group of jobs in one transaction.
    pub fn step(&mut self, now: Now, jobs: Vec<Job>) {
        let asked: Vec<(usize, usize, RequestId)> = jobs.iter().filter_map(asker).collect();
        let is_last = jobs.iter().any(|job| matches!(job, Job::Stop));
        // Whatever comes of the transaction, what was learned and reported is not lost.
        let (mut learnt, mut others) = (Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Learnt(of_box) => learnt.push(of_box),
                Job::Reported(report) => self.reports.add(*report),
                job => others.push(job),
            }
        }
        let reports = self.reports.take_due(is_last);
        match self.commit(now, others, &learnt, &reports) {
            Ok(outcome) => {
                self.reports.written(&reports);
                self.tell(outcome);
                for learnt in learnt {
                    let (place, tag) = (learnt.place, learnt.tag);
                    self.tell_mirrors(&learnt.name, mirrored::Command::Stored { place, tag });
                }
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the spool could not be written; nothing was changed"
                );
                self.metrics.spool_write_failures_total.inc();
                self.reports.put_back(reports);
                for host in &mut self.hosts {
                    host.working = Transmitter::clone(&read(&host.published));
                }
                for (host, worker, id) in asked {
                    let worker = &self.hosts[host].workers[worker];
                    let _ = worker.blocking_send(Command::Failed(id));
                }
                for learnt in learnt {
                    let (place, name) = (learnt.place, learnt.name.clone());
                    self.tell_mirrors(&name, mirrored::Command::NotStored { place, learnt });
                }
            }
        }
    }

    fn tell_mirrors(&self, name: &str, command: mirrored::Command) {
        if let Some(mirrors) = self.boxes.get(name) {
            let _ = mirrors.blocking_send(command);
        }
    }

    fn commit(
        &mut self,
        now: Now,
        jobs: Vec<Job>,
        learnt: &[Box<Learnt>],
        reports: &[CommandReport],
    ) -> Result<Outcome> {
        let queue = self.queue.clone();
        let tx = self
            .spool
            .connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .context("begin")?;
        let mut step = Step {
            spool: self.spool.id,
            now,
            hosts: &mut self.hosts,
            boxes: &self.boxes,
            outcome: Outcome::default(),
        };
        step.tick(&tx)?;
        for job in jobs {
            step.run(&tx, job)?;
        }
        for report in reports {
            commands::finish(&tx, report)?;
            step.outcome.has_reports = true;
        }
        let (mut outcome, spool) = (step.outcome, step.spool);
        for learnt in learnt {
            learn(&tx, spool, learnt, &mut outcome.moved)?;
        }
        // What is being sent must not be dropped: the lock is held until the commit stands.
        let mut waiting = queue.waiting();
        let limit = Limit {
            max_bytes: self.max_bytes,
            is_disk_low: self.is_disk_low,
        };
        limit.keep(&tx, spool, &waiting, &mut outcome.moved)?;
        tx.commit().context("commit")?;
        for (service, events, bytes) in &outcome.moved.services {
            let (held_events, held_bytes) = waiting.services.entry(service.clone()).or_default();
            *held_events = held_events.saturating_add_signed(*events);
            *held_bytes = held_bytes.saturating_add_signed(*bytes);
        }
        Ok(outcome)
    }

    /// The commit stands: everybody may know.
    fn tell(&mut self, outcome: Outcome) {
        for place in &outcome.touched {
            let host = &self.hosts[*place];
            let published = Arc::new(host.working.clone());
            *host
                .published
                .write()
                .unwrap_or_else(PoisonError::into_inner) = published;
        }
        for (place, news) in outcome.notifications {
            let news: Arc<[News]> = news.into();
            for worker in &self.hosts[place].workers {
                let _ = worker.blocking_send(Command::Notify(news.clone()));
            }
        }
        // After the observers: who has its answer and begins to observe then is not told of it once more.
        for (place, worker, id, reply) in outcome.answers {
            let _ = self.hosts[place].workers[worker]
                .blocking_send(Command::Answer(id, Box::new(reply)));
        }
        self.metrics.pages_total.inc_by(outcome.pages as u64);
        self.metrics
            .events_set_aside_total
            .inc_by(outcome.moved.set_aside);
        self.metrics.gaps_total.inc_by(outcome.moved.gaps);
        let added = outcome
            .moved
            .services
            .iter()
            .filter(|(_, events, _)| *events > 0);
        let added: i64 = added.map(|(_, events, _)| events).sum();
        self.metrics.events_total.inc_by(added.unsigned_abs());
        for delivery in outcome.delivered {
            let _ = delivery.done.send(());
        }
        for command in outcome.orders {
            let name = command.service.clone();
            self.tell_mirrors(&name, mirrored::Command::Order(Box::new(command)));
        }
        if added > 0 || outcome.has_reports {
            self.news.notify_waiters();
        }
    }

    fn look_at_disk(&mut self) {
        let folder = self.path.parent().unwrap_or(&self.path);
        let Ok(disk) = rustix::fs::statvfs(folder) else {
            return;
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let is_low = free < self.min_free_bytes;
        if is_low != self.is_disk_low {
            self.is_disk_low = is_low;
            if is_low {
                tracing::warn!(
                    free_bytes = free,
                    "the disk is nearly full; the spool grows no more"
                );
            } else {
                tracing::info!(free_bytes = free, "the disk has room again");
            }
        }
    }
}

fn asker(job: &Job) -> Option<(usize, usize, RequestId)> {
    match job {
        Job::Request {
            host, worker, id, ..
        } => Some((*host, *worker, *id)),
        _ => None,
    }
}

/// The transmitter as committed.
pub fn read(published: &RwLock<Arc<Transmitter>>) -> Arc<Transmitter> {
    published
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Writes what a request or the time did to a transmitter, and an event for each change.
fn store(
    tx: &Transaction<'_>,
    spool: Uuid,
    place: usize,
    host: &Host,
    effects: &Effects,
    now: Now,
    outcome: &mut Outcome,
) -> Result<()> {
    if *effects == Effects::default() {
        return Ok(());
    }
    let name = &host.name;
    if effects.is_history_cleared {
        tx.prepare_cached("delete from sessions where transmitter = ?1 and not is_active")?
            .execute([name])?;
    }
    for change in &effects.changes {
        let session = &change.session;
        let body = serde_json::to_string(session).context("write a session")?;
        tx.prepare_cached("insert or replace into sessions values (?1, ?2, ?3, ?4)")?
            .execute(params![
                name,
                session.id.cast_signed(),
                session.is_active(),
                body
            ])?;
        events::append(
            tx,
            spool,
            name,
            now.utc,
            wire::happening(change),
            &mut outcome.moved,
        )?;
    }
    for id in &effects.dropped {
        tx.prepare_cached("delete from sessions where transmitter = ?1 and id = ?2")?
            .execute(params![name, id.cast_signed()])?;
    }
    if effects.is_meta_changed || !effects.changes.is_empty() {
        let meta =
            serde_json::to_string(&host.working.meta()).context("write the transmitter's state")?;
        tx.prepare_cached("insert or replace into transmitters values (?1, ?2)")?
            .execute(params![name, meta])?;
    }
    let changes = effects.changes.iter().map(|change| News {
        sequence: Some(change.sequence),
        body: host.working.notification(change, now).into(),
    });
    let settings = effects.is_settings_changed.then(|| News {
        sequence: None,
        body: host.working.settings_notification(now).into(),
    });
    let news: Vec<News> = changes.chain(settings).collect();
    if !news.is_empty() {
        outcome.notifications.push((place, news));
    }
    for page in &effects.pages {
        tracing::info!(transmitter = %name, number = page.number, mode = %page.mode, "page");
    }
    outcome.pages += effects.pages.len();
    outcome.touched.push(place);
    Ok(())
}

/// Writes what was learned of a box, and its events.
fn learn(tx: &Transaction<'_>, spool: Uuid, learnt: &Learnt, moved: &mut Moved) -> Result<()> {
    let (name, delta) = (&learnt.name, &learnt.delta);
    let is_changed = !delta.put.is_empty() || !delta.gone.is_empty();
    let is_news = is_changed || delta.is_ahead || !learnt.events.is_empty();
    if !is_news {
        // A ping: when a box was last heard of is not worth a write.
        return Ok(());
    }
    for uuid in &delta.gone {
        tx.prepare_cached("delete from guests where transmitter = ?1 and uuid = ?2")?
            .execute(params![name, uuid.to_string()])?;
    }
    for guest in &delta.put {
        let body = serde_json::to_string(guest).context("write a session of a box")?;
        tx.prepare_cached("insert or replace into guests values (?1, ?2, ?3)")?
            .execute(params![name, guest.uuid.to_string(), body])?;
    }
    let meta = serde_json::to_string(&delta.meta).context("write the state of a mirror")?;
    tx.prepare_cached("insert or replace into transmitters values (?1, ?2)")?
        .execute(params![name, meta])?;
    for (at, happening) in &learnt.events {
        events::append(tx, spool, name, *at, happening.clone(), moved)?;
    }
    Ok(())
}

/// What events may take.
struct Limit {
    max_bytes: u64,
    is_disk_low: bool,
}

impl Limit {
    /// Makes room for what was added, where there is too much.
    fn keep(
        &self,
        tx: &Transaction<'_>,
        spool: Uuid,
        waiting: &Waiting,
        moved: &mut Moved,
    ) -> Result<()> {
        let added: i64 = moved.services.iter().map(|(_, _, bytes)| bytes).sum();
        let bytes = waiting.bytes().saturating_add_signed(added);
        let held = waiting.bytes().max(LEAST_BYTES);
        let max_bytes = if self.is_disk_low {
            held.min(self.max_bytes)
        } else {
            self.max_bytes
        };
        if added > 0 && bytes > max_bytes {
            events::drop_oldest(tx, spool, bytes - max_bytes, &waiting.in_flight, moved)?;
        }
        Ok(())
    }
}

/// The jobs of one transaction.
struct Step<'a> {
    spool: Uuid,
    now: Now,
    hosts: &'a mut [Host],
    boxes: &'a mirrored::Loops,
    outcome: Outcome,
}

impl Step<'_> {
    /// Does what transmitters have to do by themselves.
    fn tick(&mut self, tx: &Transaction<'_>) -> Result<()> {
        for (place, host) in self.hosts.iter_mut().enumerate() {
            if host
                .working
                .next_tick(self.now)
                .is_some_and(|due| due.is_zero())
            {
                let effects = host.working.tick(self.now);
                store(
                    tx,
                    self.spool,
                    place,
                    host,
                    &effects,
                    self.now,
                    &mut self.outcome,
                )?;
            }
        }
        Ok(())
    }

    fn run(&mut self, tx: &Transaction<'_>, job: Job) -> Result<()> {
        match job {
            Job::Request {
                host: place,
                worker,
                id,
                request,
            } => {
                let host = &mut self.hosts[place];
                let reply = host
                    .working
                    .handle(request.borrow(), self.now, Uuid::new_v4);
                store(
                    tx,
                    self.spool,
                    place,
                    host,
                    &reply.effects,
                    self.now,
                    &mut self.outcome,
                )?;
                self.outcome.answers.push((place, worker, id, reply));
            }
            Job::Delivered(delivery) => {
                events::settle(tx, self.spool, &delivery, &mut self.outcome.moved)?;
                self.outcome.delivered.push(delivery);
            }
            Job::Ordered(command) => {
                if let Some((place, effects)) = commands::order(tx, self.hosts, &command, self.now)?
                {
                    store(
                        tx,
                        self.spool,
                        place,
                        &self.hosts[place],
                        &effects,
                        self.now,
                        &mut self.outcome,
                    )?;
                } else if self.boxes.contains_key(&command.service) {
                    self.outcome
                        .orders
                        .extend(commands::begin_at_box(tx, *command)?);
                }
                self.outcome.has_reports = true;
            }
            Job::Told(ids) => commands::told(tx, &ids)?,
            Job::Learnt(_) | Job::Reported(_) | Job::Stop => {}
        }
        Ok(())
    }
}
