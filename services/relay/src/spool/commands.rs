//! Commands on the disk: begun once, reported until the cloud has the report.

use anyhow::{Context, Result};
use rollcall_model::command::{Command, CommandReport, CommandStatus};
use rollcall_pager::{Effects, Now};
use rusqlite::{Connection, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Host, Spool};
use crate::orders;

/// How long commands that are over are kept: much longer than any lives.
const KEEP_SECONDS: i64 = 24 * 3_600;
/// Reports of one batch.
const MAX_REPORTS: i64 = 200;

/// Notes that a command is begun; says whether it is new.
fn begin(tx: &Transaction<'_>, command: &Command) -> Result<bool> {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    tx.prepare_cached("delete from commands where is_told and begun_at < ?1")?
        .execute([now - KEEP_SECONDS])?;
    let body = serde_json::to_string(command).context("write a command")?;
    let begun = tx
        .prepare_cached("insert or ignore into commands (id, begun_at, body) values (?1, ?2, ?3)")?
        .execute(params![command.id.to_string(), now, body])?;
    Ok(begun == 1)
}

/// Notes how a command ended; the first end counts.
pub(super) fn finish(tx: &Transaction<'_>, report: &CommandReport) -> Result<()> {
    let text = serde_json::to_string(report).context("write a report")?;
    tx.prepare_cached(
        "update commands set report = ?2, is_told = 0 where id = ?1 and report is null",
    )?
    .execute(params![report.command.to_string(), text])?;
    Ok(())
}

/// The cloud asks again for a command that it was told of: it is told once more.
fn tell_again(tx: &Transaction<'_>, id: Uuid) -> Result<()> {
    tx.prepare_cached("update commands set is_told = 0 where id = ?1 and report is not null")?
        .execute([id.to_string()])?;
    Ok(())
}

/// The cloud has these reports.
pub(super) fn told(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<()> {
    for id in ids {
        tx.prepare_cached("update commands set is_told = 1 where id = ?1")?
            .execute([id.to_string()])?;
    }
    Ok(())
}

/// Reports that the cloud does not have.
pub(super) fn reports(connection: &Connection) -> Result<Vec<CommandReport>> {
    let mut read = connection.prepare_cached(
        "select report from commands where report is not null and not is_told order by begun_at limit ?1",
    )?;
    let rows = read.query_map([MAX_REPORTS], |row| row.get::<_, String>(0))?;
    let mut reports = Vec::new();
    for text in rows {
        reports.push(serde_json::from_str(&text?).context("read a report")?);
    }
    Ok(reports)
}

/// Commands that were begun and have no end: those of a relay that was killed meanwhile.
fn unfinished(connection: &Connection) -> Result<Vec<Command>> {
    let mut read = connection.prepare("select body from commands where report is null")?;
    let rows = read.query_map([], |row| row.get::<_, String>(0))?;
    let mut commands = Vec::new();
    for text in rows {
        commands.push(serde_json::from_str(&text?).context("read a command")?);
    }
    Ok(commands)
}

/// Carries a command out on a hosted transmitter: the command, what it does, and its report are one commit. Nothing where the
/// service is no hosted one.
pub(super) fn order(
    tx: &Transaction<'_>,
    hosts: &mut [Host],
    command: &Command,
    now: Now,
) -> Result<Option<(usize, Effects)>> {
    let Some(place) = hosts.iter().position(|host| host.name == command.service) else {
        return Ok(None);
    };
    if !begin(tx, command)? {
        tell_again(tx, command.id)?;
        return Ok(Some((place, Effects::default())));
    }
    let host = &mut hosts[place];
    let is_there = orders::meant(&command.order).is_none_or(|(uuid, number)| {
        host.working
            .active()
            .any(|session| session.uuid == uuid && session.number == number)
    });
    let (report, effects) = if orders::is_expired(command, now.utc) {
        let text = "it came to the relay too late";
        (
            orders::not_done(command, CommandStatus::Expired, text),
            Effects::default(),
        )
    } else if !is_there {
        let text = "the session is over: its pager has another one, or none";
        (
            orders::not_done(command, CommandStatus::Refused, text),
            Effects::default(),
        )
    } else {
        let request = orders::request(&command.order);
        let reply = host.working.handle(request.borrow(), now, Uuid::new_v4);
        let code = (reply.code.class, reply.code.detail);
        let report = orders::answered(command.id, code, reply.body.as_deref().unwrap_or_default());
        (report, reply.effects)
    };
    finish(tx, &report)?;
    Ok(Some((place, effects)))
}

/// Notes a command for a box as begun; answers it where it is new.
pub(super) fn begin_at_box(tx: &Transaction<'_>, command: Command) -> Result<Option<Command>> {
    if !begin(tx, &command)? {
        tell_again(tx, command.id)?;
        return Ok(None);
    }
    if orders::is_expired(&command, OffsetDateTime::now_utc()) {
        let text = "it came to the relay too late";
        finish(
            tx,
            &orders::not_done(&command, CommandStatus::Expired, text),
        )?;
        return Ok(None);
    }
    Ok(Some(command))
}

impl Spool {
    /// Says of commands that were begun and have no report that nobody knows what became of them: the relay was killed between
    /// carrying out and reporting.
    pub fn give_up_unfinished(&mut self) -> Result<()> {
        let tx = self.connection.transaction()?;
        for command in unfinished(&tx)? {
            let text = "the relay was interrupted while the box was asked; asking again might page a person twice";
            finish(
                &tx,
                &orders::not_done(&command, CommandStatus::Unknown, text),
            )?;
        }
        tx.commit().context("commit")
    }
}
