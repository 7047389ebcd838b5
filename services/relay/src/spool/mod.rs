//! The relay's disk: one SQLite file with the transmitters' state and the events that wait to be sent.
//!
//! Invariant: a change of state and the event that tells of it are committed together, and nothing is acknowledged before.

mod commands;
mod events;
mod queue;
mod recover;
mod reports;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rollcall_pager::Snapshot;
use rollcall_pager::mirror::Mirror;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use queue::{Batch, Lane, Queue, Queued, Waiting, count, oldest};
pub use recover::recover;
pub use reports::Reports;
pub use writer::{Delivery, Fate, Host, Job, Writer, read as read_published};

/// Tells the file from other SQLite files: `rcsp`.
const APPLICATION_ID: i32 = 0x7263_7370;
const SCHEMA_VERSION: i32 = 1;
const PAGE_BYTES: u64 = 4_096;
/// What the state of a transmitter may take: 10,000 sessions with labels of 1,000 bytes, and room.
const STATE_BYTES: u64 = 64 << 20;

const SCHEMA: &str = "
    -- Which spool it is, and how many of its events the cloud refused.
    create table spool (id text not null, created_at text not null, set_aside integer not null default 0) strict;
    -- A transmitter beside its sessions, as JSON.
    create table transmitters (name text primary key, meta text not null) strict, without rowid;
    create table sessions (
        transmitter text not null, id integer not null, is_active integer not null, body text not null,
        primary key (transmitter, id)
    ) strict, without rowid;
    -- Sessions of a mirrored box, as it told of them.
    create table guests (
        transmitter text not null, uuid text not null, body text not null, primary key (transmitter, uuid)
    ) strict, without rowid;
    -- How many events each service has had.
    create table services (name text primary key, sequence integer not null) strict, without rowid;
    -- What waits to be sent, each as it will be.
    create table events (
        position integer primary key autoincrement, service text not null, sequence integer not null, at text not null,
        body text not null
    ) strict;
    create index events_by_service on events (service, position);
    -- What the cloud will not have, and why: the latest.
    create table set_aside (
        position integer primary key, at text not null, body text not null, code text not null, detail text not null
    ) strict;
    -- Commands of the cloud that were begun, each with its report once there is one. Those that the cloud has are kept a while, so
    -- that a repeat is recognized.
    create table commands (
        id text primary key, begun_at integer not null, body text not null, report text, is_told integer not null default 0
    ) strict, without rowid;
    create table contact (only integer primary key check (only = 1), at text not null) strict;
";

/// The spool's file in a relay's folder.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("spool.sqlite")
}

/// An open spool.
pub struct Spool {
    pub connection: Connection,
    /// Part of the id of every event of it.
    pub id: Uuid,
    /// Held as long as the spool: two relays on one spool would each believe that they are alone.
    _lock: File,
}

impl Spool {
    /// Opens the spool, or makes it, for events of `max_bytes` and the state of so many transmitters. A file that is damaged, or
    /// none of ours, is an error: nothing begins anew by itself.
    pub fn open(path: &Path, max_bytes: u64, transmitters: usize) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
        let lock = lock(folder)?;
        let connection =
            Connection::open(path).with_context(|| format!("open the spool {}", path.display()))?;
        let spool = Self::prepare(connection, max_bytes, transmitters, lock).map_err(|error| {
            match is_damage(&error) {
                true => error.context(damaged(path)),
                false => error.context(format!("open the spool {}", path.display())),
            }
        })?;
        Ok(spool)
    }

    fn prepare(
        connection: Connection,
        max_bytes: u64,
        transmitters: usize,
        lock: File,
    ) -> Result<Self> {
        connection.busy_timeout(Duration::from_secs(5))?;
        let application: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables: i64 =
            connection.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 && application != APPLICATION_ID {
            bail!("the file is a database, but no spool; choose another data_dir");
        }
        // WAL with FULL: every commit is on the disk before it is answered.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", 1_000)?;
        // A last bound: the events have their own, and so has what else is here.
        let bytes = max_bytes * 2 + STATE_BYTES * (transmitters as u64 + 1);
        let pages = bytes / PAGE_BYTES;
        connection.pragma_update(
            None,
            "max_page_count",
            i64::try_from(pages).unwrap_or(i64::MAX),
        )?;
        if tables == 0 {
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.execute_batch(&format!(
                "begin; {SCHEMA} pragma user_version = {SCHEMA_VERSION}; commit;"
            ))?;
            connection.execute(
                "insert into spool (id, created_at) values (?1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
                [Uuid::new_v4().to_string()],
            )?;
        }
        let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > SCHEMA_VERSION {
            bail!(
                "the spool was written by a newer relay (its version is {version}); run that one"
            );
        }
        let problem: String =
            connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if problem != "ok" {
            bail!(Damage(problem));
        }
        let id: String = connection.query_row("select id from spool", [], |row| row.get(0))?;
        let id = Uuid::try_parse(&id).context("read the spool's id")?;
        Ok(Self {
            connection,
            id,
            _lock: lock,
        })
    }

    /// Opens the spool to read, beside the process that writes it.
    pub fn open_to_read(path: &Path) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .with_context(|| format!("open the spool {}", path.display()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(connection)
    }

    /// A transmitter as it was stored; nothing where it is new.
    pub fn transmitter(&self, name: &str) -> Result<Option<Snapshot>> {
        let stored = self.stored(name, "select body from sessions where transmitter = ?1")?;
        Ok(stored.map(|(meta, sessions)| Snapshot { meta, sessions }))
    }

    /// The mirror of a box as it was stored; an empty one where it is new.
    pub fn mirror(&self, name: &str) -> Result<Mirror> {
        let stored = self.stored(name, "select body from guests where transmitter = ?1")?;
        Ok(stored.map_or_else(Mirror::new, |(meta, guests)| Mirror::restore(meta, guests)))
    }

    /// What is stored of a transmitter or a mirror, and of its sessions.
    fn stored<M: DeserializeOwned, S: DeserializeOwned>(
        &self,
        name: &str,
        sessions: &str,
    ) -> Result<Option<(M, Vec<S>)>> {
        let meta: Option<String> = self
            .connection
            .query_row(
                "select meta from transmitters where name = ?1",
                [name],
                |row| row.get(0),
            )
            .optional()?;
        let Some(meta) = meta else {
            return Ok(None);
        };
        let meta = serde_json::from_str(&meta).with_context(|| {
            format!("read the state of `{name}`; where a box has the name of a transmitter of before, give it another")
        })?;
        let mut read = self.connection.prepare(sessions)?;
        let bodies = read.query_map([name], |row| row.get::<_, String>(0))?;
        let mut sessions = Vec::new();
        for body in bodies {
            sessions.push(serde_json::from_str(&body?).context("read a session")?);
        }
        Ok(Some((meta, sessions)))
    }
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("spool.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another relay works in {}; stop it, or choose another data_dir",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// What SQLite found wrong with a file.
#[derive(Debug)]
struct Damage(String);

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.lines().next().unwrap_or_default())
    }
}

impl std::error::Error for Damage {}

fn is_damage(error: &anyhow::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let code = error
        .downcast_ref::<rusqlite::Error>()
        .and_then(rusqlite::Error::sqlite_error_code);
    error.is::<Damage>() || matches!(code, Some(DatabaseCorrupt | NotADatabase))
}

fn damaged(path: &Path) -> String {
    format!(
        "the spool {} is damaged, so nothing was started. `rollcall-relay recover` keeps the file aside, saves what can be \
         read into a new spool, and leaves a gap record for what cannot",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use rusqlite::params;

    use super::*;

    #[test]
    fn a_spool_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        let open = Spool::open(&path, 1 << 20, 1).unwrap();
        let error = Spool::open(&path, 1 << 20, 1).err().unwrap();
        assert!(error.to_string().contains("another relay"), "{error:#}");
        let first = open.id;
        drop(open);
        assert_eq!(Spool::open(&path, 1 << 20, 1).unwrap().id, first);
    }

    #[test]
    fn what_is_damaged_or_not_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        std::fs::write(
            &path,
            "no database at all, but long enough to be taken for one".repeat(90),
        )
        .unwrap();
        let error = Spool::open(&path, 1 << 20, 1).err().unwrap();
        assert!(format!("{error:#}").contains("recover"), "{error:#}");
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path)
            .unwrap()
            .execute_batch("create table t (a)")
            .unwrap();
        let error = Spool::open(&path, 1 << 20, 1).err().unwrap();
        assert!(format!("{error:#}").contains("no spool"), "{error:#}");
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_in(folder.path());
        let spool = Spool::open(&path, 1 << 20, 1).unwrap();
        for n in 0..500 {
            let body = "x".repeat(400);
            spool
                .connection
                .execute(
                    "insert into events (service, sequence, at, body) values ('a', ?1, '', ?2)",
                    params![n, body],
                )
                .unwrap();
        }
        spool
            .connection
            .execute_batch("pragma wal_checkpoint(truncate)")
            .unwrap();
        drop(spool);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        let error = Spool::open(&path, 1 << 20, 1).err().unwrap();
        assert!(format!("{error:#}").contains("recover"), "{error:#}");
    }
}
