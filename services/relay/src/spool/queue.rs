//! What waits to be sent, and who is sending it: two lanes, so that a backlog of one service does not hold up the others.
//!
//! Invariant: the events of a service are in one lane at a time, so that they are sent in their order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rollcall_model::command::CommandReport;
use rusqlite::{Connection, params};

use super::Spool;

/// A service with more events than this waiting goes to the lane of those that are behind.
const BEHIND: u64 = 500;
/// Bytes of a batch, before it is compressed.
const BATCH_BYTES: usize = 256 << 10;
/// Events of a batch.
const BATCH_EVENTS: usize = 2_000;

/// Which way events go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Services whose events go out as they come.
    Live,
    /// Services that have fallen behind.
    Backlog,
}

/// An event on its way.
#[derive(Clone, Debug)]
pub struct Queued {
    pub position: i64,
    pub service: String,
    /// As it is sent.
    pub body: String,
}

/// Events to send together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub events: Vec<Queued>,
}

/// How much waits; shared by the writer, which counts, and the lanes.
#[derive(Default)]
pub struct Waiting {
    /// By service: how many, and the bytes of their bodies.
    pub services: BTreeMap<String, (u64, u64)>,
    /// Which lane is sending a service's events.
    busy: HashMap<String, Lane>,
    /// What is being sent; it must stay until there is an answer.
    pub in_flight: BTreeSet<i64>,
    /// The spool is nearly full: nothing is told again now.
    pub is_tight: bool,
}

impl Waiting {
    pub fn events(&self) -> u64 {
        self.services.values().map(|(events, _)| events).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.services.values().map(|(_, bytes)| bytes).sum()
    }
}

/// The reading side of the spool.
pub struct Queue {
    connection: Mutex<Connection>,
    waiting: Mutex<Waiting>,
}

impl Queue {
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Spool::open_to_read(path)?;
        let waiting = Waiting {
            services: count(&connection).context("count what waits")?,
            ..Waiting::default()
        };
        Ok(Self {
            connection: Mutex::new(connection),
            waiting: Mutex::new(waiting),
        })
    }

    /// Reads the spool as it is committed.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = self.connection.lock();
        read(&connection.unwrap_or_else(PoisonError::into_inner))
    }

    /// How much waits.
    pub fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch of a lane; empty where nothing is for it. Its services are the lane's until [`Self::release`].
    pub fn take(&self, lane: Lane, max_events: usize) -> Result<Batch> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self.waiting();
        let is_mine = |name: &&String, events: u64| {
            let is_behind = events > BEHIND;
            events > 0 && is_behind == (lane == Lane::Backlog) && !waiting.busy.contains_key(*name)
        };
        let mine = waiting
            .services
            .iter()
            .filter(|(name, (events, _))| is_mine(name, *events));
        let mut mine: Vec<String> = mine.map(|(name, _)| name.clone()).collect();
        if lane == Lane::Backlog {
            // One service at a time, by turns: whose events have waited longest.
            let oldest = |name: &String| first_position(&connection, name).unwrap_or(i64::MAX);
            mine = mine.into_iter().min_by_key(oldest).into_iter().collect();
        }
        let mut batch = Batch::default();
        let mut bytes = 0;
        for service in mine {
            let most = max_events
                .min(BATCH_EVENTS)
                .saturating_sub(batch.events.len());
            let mut read = connection.prepare_cached(
                "select position, body from events where service = ?1 order by position limit ?2",
            )?;
            let mut rows = read.query(params![service, i64::try_from(most).unwrap_or(i64::MAX)])?;
            while let Some(row) = rows.next()? {
                let (position, body): (i64, String) = (row.get(0)?, row.get(1)?);
                if bytes > 0 && bytes + body.len() > BATCH_BYTES {
                    break;
                }
                bytes += body.len();
                waiting.in_flight.insert(position);
                waiting.busy.insert(service.clone(), lane);
                batch.events.push(Queued {
                    position,
                    service: service.clone(),
                    body,
                });
            }
        }
        Ok(batch)
    }

    /// Gives a batch's services back. What was delivered must be gone by then.
    pub fn release(&self, batch: &Batch) {
        let mut waiting = self.waiting();
        for event in &batch.events {
            waiting.in_flight.remove(&event.position);
            waiting.busy.remove(&event.service);
        }
    }

    /// When the oldest event that waits happened.
    pub fn oldest(&self) -> Result<Option<String>> {
        self.read(oldest)
    }

    /// Reports of commands that the cloud does not have yet.
    pub fn reports(&self) -> Result<Vec<CommandReport>> {
        self.read(super::commands::reports)
    }

    /// Events that the cloud refused.
    pub fn set_aside(&self) -> Result<u64> {
        self.read(|connection| {
            Ok(connection.query_row("select set_aside from spool", [], |row| row.get(0))?)
        })
    }
}

/// When the oldest event that waits happened.
pub fn oldest(connection: &Connection) -> Result<Option<String>> {
    let mut read = connection.prepare_cached("select at from events order by position limit 1")?;
    let mut rows = read.query([])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

/// How many events wait by service, and how many bytes.
pub fn count(connection: &Connection) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut read = connection
        .prepare("select service, count(*), sum(length(body)) from events group by service")?;
    let rows = read.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn first_position(connection: &Connection, service: &str) -> Option<i64> {
    let mut read = connection
        .prepare_cached("select position from events where service = ?1 order by position limit 1")
        .ok()?;
    read.query_row([service], |row| row.get(0)).ok()
}
