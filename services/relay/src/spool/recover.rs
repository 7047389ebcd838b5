//! The way out of a damaged spool: what can be read goes into a new one, and gap records say that something may be missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rollcall_model::ingest::Gap;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};
use time::OffsetDateTime;

use super::{SOURCE_STATES, Spool, events, path_in, watched};

/// What was saved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Where the damaged file is now.
    pub kept: PathBuf,
    pub transmitters: usize,
    pub sessions: usize,
    pub events: usize,
}

/// Moves a damaged spool aside, and saves what can be read of it. `services` are those of the configuration: each gets a
/// gap record. Of `brokers`, which are services too, everything is told again.
pub fn recover(
    data_dir: &Path,
    max_bytes: u64,
    services: &[String],
    brokers: &[String],
) -> Result<Recovered> {
    let path = path_in(data_dir);
    let states = services.len() + brokers.len() * SOURCE_STATES;
    if !path.exists() {
        bail!(
            "there is no spool in {}: nothing to recover",
            data_dir.display()
        );
    }
    if Spool::open(&path, max_bytes, states).is_ok() {
        bail!(
            "the spool {} is not damaged: `rollcall-relay run` goes on with it",
            path.display()
        );
    }
    let at = OffsetDateTime::now_utc();
    let kept = data_dir.join(format!("spool.damaged-{}.sqlite", at.unix_timestamp()));
    // The log beside the file belongs to it; without it commits that were acknowledged would be lost.
    for suffix in ["", "-wal", "-shm"] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        let to = PathBuf::from(format!("{}{suffix}", kept.display()));
        if from.exists() {
            std::fs::rename(&from, &to)
                .with_context(|| format!("move {} aside", from.display()))?;
        }
    }
    let mut spool = Spool::open(&path, max_bytes, states)?;
    let mut recovered = Recovered {
        kept: kept.clone(),
        ..Recovered::default()
    };
    if let Ok(damaged) = Connection::open_with_flags(&kept, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        copy(&damaged, &mut spool.connection, &mut recovered)?;
    }
    watched::doubt_all(&spool.connection, brokers)?;
    let mut known: BTreeSet<String> = services.iter().chain(brokers).cloned().collect();
    let mut read = spool.connection.prepare("select name from services")?;
    let names = read.query_map([], |row| row.get(0))?;
    known.extend(names.flatten());
    drop(read);
    for service in known {
        let gap = Gap {
            events: None,
            since: None,
            until: Some(at),
            reason: "the relay's spool was damaged; events that it held may be missing".to_owned(),
        };
        events::append_gap(&mut spool.connection, spool.id, &service, gap)?;
    }
    Ok(recovered)
}

/// Copies row by row; a table ends at the first row that cannot be read.
fn copy(from: &Connection, to: &mut Connection, recovered: &mut Recovered) -> Result<()> {
    let tx = to.transaction()?;
    for (table, columns) in [
        ("transmitters", 2),
        ("sessions", 4),
        ("guests", 3),
        ("services", 2),
        ("events", 5),
        ("set_aside", 5),
        // Or somebody might be paged twice.
        ("commands", 5),
        ("watched_services", 7),
        ("watched_sessions", 3),
        ("watched_ends", 3),
    ] {
        let Ok(mut read) = from.prepare(&format!("select * from {table}")) else {
            continue;
        };
        let places = vec!["?"; columns].join(", ");
        let mut write = tx.prepare(&format!("insert or ignore into {table} values ({places})"))?;
        let Ok(mut rows) = read.query([]) else {
            continue;
        };
        while let Ok(Some(row)) = rows.next() {
            let values: Result<Vec<Value>, _> =
                (0..columns).map(|column| row.get(column)).collect();
            let Ok(values) = values else {
                break;
            };
            write.execute(params_from_iter(values))?;
            match table {
                "transmitters" => recovered.transmitters += 1,
                "sessions" => recovered.sessions += 1,
                "events" => recovered.events += 1,
                _ => {}
            }
        }
    }
    tx.commit().context("commit what was saved")
}
