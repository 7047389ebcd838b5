//! What was told of the sessions at brokers and proxies, on the disk.
//!
//! Invariant: a session's facts and the event that tells of them are committed together. Where an event gave way in a full spool,
//! its service is marked, and told again once there is room.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{ConnectionSession, IngestEvent, Presence};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::events::{self, Moved};
use super::{Queue, Spool};
use crate::sources::diff::{self, Change, Memory};

pub(super) const SCHEMA: &str = "
    -- Services of sources: when the last whole picture was, and how often something was lost of what was told; 0 where the cloud has
    -- the picture. Unsure is who was told of at all.
    create table watched_services (
        name text primary key, source text not null, kind text not null, seen text, is_gone integer not null default 0,
        lost integer not null default 0, is_unsure integer not null default 0
    ) strict, without rowid;
    -- Their sessions, each as it was last told.
    create table watched_sessions (
        service text not null, source_id text not null, body text not null, primary key (service, source_id)
    ) strict, without rowid;
    -- Events that gave way and told that a session is no more: nothing else will tell of it.
    create table watched_ends (position integer primary key, service text not null, body text not null) strict;
    create index watched_ends_by_service on watched_ends (service, position);
";

/// Ends that are kept to be told again; of more the oldest are lost.
const MAX_ENDS: i64 = 50_000;
/// Ends that are told in one transaction.
const ENDS: i64 = 300;

/// Something to store of a source's picture, in one transaction.
#[derive(Debug, Default)]
pub struct Telling {
    /// Services that may be new.
    pub services: Vec<Watched>,
    pub changes: Vec<Change>,
    /// Services whose ends that were lost are told, some at a time.
    pub ends: Vec<Arc<str>>,
    /// Services of which all is told, and how often something had been lost before.
    pub settled: Vec<(Arc<str>, u64)>,
    /// How many ends were told; set when it is stored.
    pub ended: usize,
}

/// A telling, and who waits for it.
pub struct Watch {
    pub telling: Telling,
    /// Gets it back: what is stored is remembered then, what is not is tried again.
    pub done: oneshot::Sender<Result<Telling, Telling>>,
}

/// A service of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub name: Arc<str>,
    pub source: String,
    pub kind: ServiceKind,
    /// When the last picture was taken that is told whole.
    pub seen: Option<OffsetDateTime>,
    /// The source has it no longer.
    pub is_gone: bool,
}

/// What was lost of what was told of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    pub times: u64,
    pub is_unsure: bool,
}

impl Spool {
    /// Every service that is or was watched.
    pub fn watched(&self) -> Result<Vec<Watched>> {
        // Nothing is left to tell of these.
        self.connection.execute(
            "delete from watched_services where is_gone and lost = 0
             and not exists (select 1 from events where service = name)",
            [],
        )?;
        watched(&self.connection)
    }

    /// What was told of a service's sessions.
    pub fn memory(&self, service: &str) -> Result<Memory> {
        let mut memory = Memory::default();
        let mut read = self
            .connection
            .prepare_cached("select body from watched_sessions where service = ?1")?;
        let mut rows = read.query([service])?;
        while let Some(row) = rows.next()? {
            let body = row.get_ref(0)?.as_str()?;
            let mut session: ConnectionSession = serde_json::from_str(body)
                .with_context(|| format!("read a session of `{service}`"))?;
            memory.restore(&mut session);
        }
        Ok(memory)
    }
}

impl Queue {
    /// Services of a source of which something was lost.
    pub fn lost(&self, source: &str) -> Result<BTreeMap<String, Lost>> {
        self.read(|connection| {
            let mut read = connection.prepare_cached(
                "select name, lost, is_unsure from watched_services where source = ?1 and lost > 0",
            )?;
            let rows = read.query_map([source], |row| {
                let (times, is_unsure): (i64, bool) = (row.get(1)?, row.get(2)?);
                let times = times.unsigned_abs();
                Ok((row.get(0)?, Lost { times, is_unsure }))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// Every service that is or was watched.
pub fn watched(connection: &Connection) -> Result<Vec<Watched>> {
    let mut read =
        connection.prepare("select name, source, kind, seen, is_gone from watched_services")?;
    let rows = read.query_map([], |row| {
        let (name, kind): (String, String) = (row.get(0)?, row.get(2)?);
        let seen: Option<String> = row.get(3)?;
        Ok(Watched {
            name: name.into(),
            source: row.get(1)?,
            kind: match kind.as_str() {
                "proxy" => ServiceKind::Proxy,
                _ => ServiceKind::Broker,
            },
            seen: seen.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()),
            is_gone: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many sessions are held of each service.
pub fn count_watched(connection: &Connection) -> Result<BTreeMap<String, u64>> {
    let mut read =
        connection.prepare("select service, count(*) from watched_sessions group by service")?;
    let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes a part of what a picture tells, and its events. Says how many ends it told.
pub(super) fn tell(
    tx: &Transaction<'_>,
    spool: Uuid,
    telling: &Telling,
    moved: &mut Moved,
) -> Result<usize> {
    for service in &telling.services {
        put(tx, service)?;
    }
    for change in &telling.changes {
        tell_or_pass_over(tx, spool, change, moved)?;
    }
    let mut ended = 0;
    for service in &telling.ends {
        ended += tell_ends(tx, spool, service, moved)?;
    }
    for (service, lost) in &telling.settled {
        tx.prepare_cached(
            "update watched_services set lost = 0, is_unsure = 0 where name = ?1 and lost = ?2",
        )?
        .execute(params![&**service, i64::try_from(*lost)?])?;
    }
    Ok(ended)
}

fn put(tx: &Transaction<'_>, service: &Watched) -> Result<()> {
    let seen = service.seen.map(|at| at.format(&Rfc3339)).transpose();
    let seen = seen.context("write a time")?;
    tx.prepare_cached(
        "insert into watched_services (name, source, kind, seen, is_gone) values (?1, ?2, ?3, ?4, ?5) \
         on conflict (name) do update set source = excluded.source, kind = excluded.kind, \
         seen = coalesce(excluded.seen, seen), is_gone = excluded.is_gone",
    )?
    .execute(params![
        &*service.name,
        service.source,
        service.kind.as_str(),
        seen,
        service.is_gone
    ])?;
    Ok(())
}

/// Tells a change. One that can never be stored is passed over: it would hold up all that is written with it, for ever.
fn tell_or_pass_over(
    tx: &Transaction<'_>,
    spool: Uuid,
    change: &Change,
    moved: &mut Moved,
) -> Result<()> {
    let run = |statement| tx.prepare_cached(statement)?.execute([]);
    run("savepoint change")?;
    let before = moved.services.len();
    match tell_change(tx, spool, change, moved) {
        Err(error) if is_for_ever(&error) => {
            run("rollback to change")?;
            moved.services.truncate(before);
            tracing::error!(
                service = &*change.service,
                session = &*change.source_id,
                error = format!("{error:#}"),
                "what became of a session cannot be stored; it is not told"
            );
        }
        told => told?,
    }
    run("release change")?;
    Ok(())
}

/// Whether it is the content that fails, and not the disk.
fn is_for_ever(error: &anyhow::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    match error.downcast_ref::<rusqlite::Error>() {
        Some(error) => error
            .sqlite_error_code()
            .is_some_and(|code| matches!(code, ConstraintViolation | TooBig | TypeMismatch)),
        None => true,
    }
}

fn tell_change(
    tx: &Transaction<'_>,
    spool: Uuid,
    change: &Change,
    moved: &mut Moved,
) -> Result<()> {
    let (service, source_id) = (&*change.service, &*change.source_id);
    let mut is_ended = false;
    let mut body = None;
    for (at, step) in &change.steps {
        let before = step.is_of_before().then(|| held(tx, service, source_id));
        let before = before.transpose()?.flatten();
        let Some(happening) = step.happening(before.as_ref()) else {
            tracing::warn!(
                service,
                "a session ended that the spool does not have; nothing is told of it"
            );
            continue;
        };
        is_ended = step.is_end();
        body = diff::session(&happening).map(serde_json::to_string);
        events::append(tx, spool, service, *at, happening, moved)?;
    }
    if is_ended || body.is_none() {
        tx.prepare_cached("delete from watched_sessions where service = ?1 and source_id = ?2")?
            .execute([service, source_id])?;
    } else if let Some(body) = body.transpose().context("write a session")? {
        tx.prepare_cached("insert or replace into watched_sessions values (?1, ?2, ?3)")?
            .execute([service, source_id, &body])?;
    }
    Ok(())
}

/// A session as it was last told.
fn held(tx: &Transaction<'_>, service: &str, source_id: &str) -> Result<Option<ConnectionSession>> {
    let body: Option<String> = tx
        .prepare_cached("select body from watched_sessions where service = ?1 and source_id = ?2")?
        .query_row([service, source_id], |row| row.get(0))
        .optional()?;
    Ok(body.and_then(|body| serde_json::from_str(&body).ok()))
}

/// Tells some of the ends that were lost; not of those who have come again, whose sessions are told whole.
fn tell_ends(tx: &Transaction<'_>, spool: Uuid, service: &str, moved: &mut Moved) -> Result<usize> {
    let ends: Vec<(i64, String)> = {
        let mut read = tx.prepare_cached(
            "select position, body from watched_ends where service = ?1 order by position limit ?2",
        )?;
        let rows = read.query_map(params![service, ENDS], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    for (position, body) in &ends {
        tx.prepare_cached("delete from watched_ends where position = ?1")?
            .execute([position])?;
        let event: IngestEvent = match serde_json::from_str(body) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(service, %error, "an event that was lost cannot be read; it is not told");
                continue;
            }
        };
        let id = diff::session(&event.what).map(|session| session.source_id.clone());
        let is_back = match id {
            Some(id) => held(tx, service, &id)?.is_some(),
            None => true,
        };
        if !is_back {
            events::append(tx, spool, service, event.at, event.what, moved)?;
        }
    }
    Ok(ends.len())
}

/// Notes that an event of a watched service gives way; where it told that a session is no more, it is kept aside.
pub(super) fn lose(
    tx: &Transaction<'_>,
    position: i64,
    event: &IngestEvent,
    body: &str,
) -> Result<()> {
    let Some(session) = diff::session(&event.what) else {
        return Ok(());
    };
    tx.prepare_cached("update watched_services set lost = lost + 1 where name = ?1")?
        .execute([&event.service])?;
    if session.facts.presence == Presence::Gone {
        tx.prepare_cached("insert or replace into watched_ends values (?1, ?2, ?3)")?
            .execute(params![position, event.service, body])?;
    }
    Ok(())
}

/// Keeps no more ends than [`MAX_ENDS`].
pub(super) fn forget_oldest_ends(tx: &Transaction<'_>) -> Result<()> {
    tx.prepare_cached(
        "delete from watched_ends where position <= (
             select position from watched_ends order by position desc limit 1 offset ?1
         )",
    )?
    .execute([MAX_ENDS])?;
    Ok(())
}

/// After a spool was damaged: everything is told again, and who is not known may have been told of. `brokers` are those of the
/// configuration.
pub(super) fn doubt_all(connection: &Connection, brokers: &[String]) -> Result<()> {
    for name in brokers {
        connection.execute(
            "insert or ignore into watched_services (name, source, kind) values (?1, ?1, 'broker')",
            [name],
        )?;
    }
    connection.execute(
        "update watched_services set lost = lost + 1, is_unsure = 1",
        [],
    )?;
    Ok(())
}
