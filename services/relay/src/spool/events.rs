//! The queue of events, as the writer changes it: what is added, what is settled, what gives way.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use rollcall_model::ingest::{Gap, Happening, IngestEvent, event_id};
use rusqlite::{Connection, Transaction, params};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::watched;
use super::writer::{Delivery, Fate};

/// Refused events that are kept.
const MAX_SET_ASIDE: i64 = 10_000;

/// How a transaction changes the queue.
#[derive(Default)]
pub(super) struct Moved {
    /// By service: events added, and bytes; less where they were taken.
    pub services: Vec<(String, i64, i64)>,
    pub set_aside: u64,
    pub gaps: u64,
}

/// Adds an event to its service's queue.
pub(super) fn append(
    tx: &Transaction<'_>,
    spool: Uuid,
    service: &str,
    at: OffsetDateTime,
    what: Happening,
    moved: &mut Moved,
) -> Result<()> {
    let sequence: i64 = tx
        .prepare_cached(
            "insert into services values (?1, 1) on conflict (name) do update set sequence = sequence + 1 returning sequence",
        )?
        .query_row([service], |row| row.get(0))?;
    let event = IngestEvent {
        id: event_id(spool, service, sequence.unsigned_abs()),
        service: service.to_owned(),
        spool,
        sequence: sequence.unsigned_abs(),
        at,
        what,
    };
    let body = serde_json::to_string(&event).context("write an event")?;
    let at = at.format(&Rfc3339).context("write a time")?;
    tx.prepare_cached("insert into events (service, sequence, at, body) values (?1, ?2, ?3, ?4)")?
        .execute(params![service, sequence, at, body])?;
    moved
        .services
        .push((service.to_owned(), 1, i64::try_from(body.len())?));
    Ok(())
}

/// Takes out of the queue what was delivered, or keeps it aside.
pub(super) fn settle(
    tx: &Transaction<'_>,
    spool: Uuid,
    delivery: &Delivery,
    moved: &mut Moved,
) -> Result<()> {
    for (position, fate) in &delivery.fates {
        let mut find = tx.prepare_cached(
            "delete from events where position = ?1 returning service, sequence, at, body",
        )?;
        let row = find.query_row([position], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        });
        let (service, sequence, at, body): (String, i64, String, String) = match row {
            Ok(row) => row,
            Err(rusqlite::Error::QueryReturnedNoRows) => continue,
            Err(error) => return Err(error).context("take an event out"),
        };
        moved
            .services
            .push((service.clone(), -1, -i64::try_from(body.len())?));
        if let Fate::Refused {
            code,
            detail,
            leave_gap,
        } = fate
        {
            moved.set_aside += 1;
            tx.prepare_cached("insert or replace into set_aside values (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![position, at, body, code, detail])?;
            tx.prepare_cached(
                "delete from set_aside where position <= (
                     select position from set_aside order by position desc limit 1 offset ?1
                 )",
            )?
            .execute([MAX_SET_ASIDE])?;
            tx.prepare_cached("update spool set set_aside = set_aside + 1")?
                .execute([])?;
            if *leave_gap {
                let gap = Missing {
                    position: *position,
                    sequence,
                    events: Some(1),
                    since: at.clone(),
                    until: at,
                    reason: format!(
                        "the cloud cannot take the event ({code}); the relay keeps it aside"
                    ),
                };
                leave_gap_record(tx, spool, &service, &gap, moved)?;
            }
        }
    }
    let at = delivery.at.format(&Rfc3339).context("write a time")?;
    tx.prepare_cached("insert or replace into contact values (1, ?1)")?
        .execute([at])?;
    Ok(())
}

/// Events that make room, as their gap record tells of them.
struct Missing {
    position: i64,
    sequence: i64,
    /// How many; nothing where that is not known of all.
    events: Option<u64>,
    since: String,
    until: String,
    reason: String,
}

/// Drops the oldest events, but for those that are being sent, until `surplus` bytes are free; what was dropped of a
/// service is told by one record in its place.
pub(super) fn drop_oldest(
    tx: &Transaction<'_>,
    spool: Uuid,
    surplus: u64,
    in_flight: &BTreeSet<i64>,
    moved: &mut Moved,
) -> Result<()> {
    // Some more than is needed now, so that this is not done for every event.
    let wanted = surplus + surplus / 2 + (64 << 10);
    let mut missing: BTreeMap<String, Missing> = BTreeMap::new();
    let mut freed = 0;
    let mut taken = Vec::new();
    {
        let mut read = tx.prepare_cached(
            "select position, service, sequence, at, body from events order by position",
        )?;
        let mut rows = read.query([])?;
        while let Some(row) = rows.next()?.filter(|_| freed < wanted) {
            let (position, body): (i64, String) = (row.get(0)?, row.get(4)?);
            if in_flight.contains(&position) {
                continue;
            }
            let (service, sequence, at): (String, i64, String) =
                (row.get(1)?, row.get(2)?, row.get(3)?);
            freed += body.len() as u64;
            taken.push((position, service.clone(), body.len()));
            let event = serde_json::from_str::<IngestEvent>(&body).ok();
            let gap = event.as_ref().and_then(earlier_gap);
            let (events, since) = gap.unwrap_or((Some(1), at.clone()));
            if let Some(event) = &event {
                watched::lose(tx, position, event, &body)?;
            }
            let entry = missing.entry(service).or_insert_with(|| Missing {
                position,
                sequence,
                events: Some(0),
                since,
                until: at.clone(),
                reason: "the relay's spool was full; the oldest events made room".to_owned(),
            });
            entry.events = entry.events.zip(events).map(|(held, more)| held + more);
            (entry.position, entry.sequence, entry.until) = (position, sequence, at);
        }
    }
    for (position, service, bytes) in taken {
        tx.prepare_cached("delete from events where position = ?1")?
            .execute([position])?;
        moved.services.push((service, -1, -i64::try_from(bytes)?));
    }
    watched::forget_oldest_ends(tx)?;
    for (service, gap) in missing {
        leave_gap_record(tx, spool, &service, &gap, moved)?;
    }
    Ok(())
}

/// Where what is dropped is a gap record itself: how many events it stands for, and since when.
fn earlier_gap(event: &IngestEvent) -> Option<(Option<u64>, String)> {
    let Happening::Gap { gap } = &event.what else {
        return None;
    };
    let since = gap.since.unwrap_or(event.at).format(&Rfc3339).ok()?;
    Some((gap.events, since))
}

fn leave_gap_record(
    tx: &Transaction<'_>,
    spool: Uuid,
    service: &str,
    missing: &Missing,
    moved: &mut Moved,
) -> Result<()> {
    let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let gap = Gap {
        events: missing.events,
        since: time(&missing.since),
        until: time(&missing.until),
        reason: missing.reason.clone(),
    };
    let sequence = missing.sequence.unsigned_abs();
    let event = IngestEvent {
        // Another id than that of the event whose place it takes.
        id: event_id(spool, &format!("{service}\0gap"), sequence),
        service: service.to_owned(),
        spool,
        sequence,
        at: time(&missing.until).unwrap_or_else(OffsetDateTime::now_utc),
        what: Happening::Gap { gap },
    };
    let body = serde_json::to_string(&event).context("write a gap record")?;
    tx.prepare_cached(
        "insert into events (position, service, sequence, at, body) values (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        missing.position,
        service,
        missing.sequence,
        missing.until,
        body
    ])?;
    moved
        .services
        .push((service.to_owned(), 1, i64::try_from(body.len())?));
    moved.gaps += 1;
    Ok(())
}

/// Appends a gap record to a service outside of a running relay.
pub(super) fn append_gap(
    connection: &mut Connection,
    spool: Uuid,
    service: &str,
    gap: Gap,
) -> Result<()> {
    let tx = connection.transaction()?;
    let at = OffsetDateTime::now_utc();
    append(
        &tx,
        spool,
        service,
        at,
        Happening::Gap { gap },
        &mut Moved::default(),
    )?;
    tx.commit().context("commit")
}
