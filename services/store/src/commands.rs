//! Commands: what services behind relays are told to do, and what became of it.
//!
//! Invariant: a command is told until its relay has reported of it or its time is over, and what it names of a session's is
//! told in the feed by an event when it is given and by one when it ends. Locks are taken on commands first, then on sessions,
//! then on services.

use rollcall_model::command::{CommandReport, Order};
use rollcall_model::{EventType, Kind, Op, OrgId, ProjectId, SessionChange, SessionId};
use serde_json::{Value as Context, json};
use sqlx::types::Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::TenantConn;
use crate::changes::{self, Outcome};
use crate::listing::{self, Query, Source};
use crate::page::Page;

/// Something that a service is to do, and how far it came.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Command {
    pub id: Uuid,
    /// Counts in the order in which they were given.
    pub number: i64,
    pub project_id: i64,
    pub service: String,
    /// Who is to carry it out.
    pub relay_id: Uuid,
    /// The session that is meant, or that it made.
    pub session_id: Option<Uuid>,
    pub order: Json<Order>,
    /// The key that gave it.
    pub created_by: String,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    /// When its relay was told first.
    pub delivered_at: Option<OffsetDateTime>,
    /// `queued` or `delivered`; then `done`, `refused`, `expired` or `unknown`.
    pub status: String,
    pub finished_at: Option<OffsetDateTime>,
    /// What its relay said of it; without one, what ended it was time.
    pub report: Option<Json<CommandReport>>,
}

/// A command that is to be given.
#[derive(Clone, Debug)]
pub struct NewCommand {
    pub project: ProjectId,
    pub service: String,
    pub relay: Uuid,
    /// The session that is meant.
    pub session: Option<SessionId>,
    pub order: Order,
    /// The key that gives it.
    pub created_by: String,
    /// For how long it may be carried out.
    pub ttl_seconds: u32,
}

/// What commands may be narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const ID: Column = column("id", ColumnKind::Id);
    pub const CREATED: Column = column("created_at", ColumnKind::Time);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);
    pub const SERVICE: Column = column("service", ColumnKind::Text);
    pub const STATUS: Column = column("status", ColumnKind::Text);
    pub const SESSION: Column = column("session_id", ColumnKind::Id);

    const fn column(sql: &'static str, kind: ColumnKind) -> Column {
        Column { sql, kind }
    }
}

pub(crate) const SOURCE: Source = Source {
    table: "commands",
    columns: r#"id, number, project_id, service, relay_id, session_id, "order", created_by, created_at, expires_at,
                delivered_at, status, finished_at, report"#,
    // With the transmitter's answer.
    footprint: "(2048 + coalesce(octet_length(report::text), 0))::bigint",
};

/// A page of commands.
pub async fn page(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Command>> {
    listing::page(tx, &SOURCE, query).await
}

/// One command, in `project` alone where one is given.
pub async fn find(
    tx: &mut TenantConn,
    project: Option<ProjectId>,
    id: Uuid,
) -> sqlx::Result<Option<Command>> {
    sqlx::query_as!(
        Command,
        r#"select id, number, project_id, service, relay_id, session_id, "order" as "order: Json<Order>", created_by,
                  created_at, expires_at, delivered_at, status, finished_at, report as "report: Json<CommandReport>"
           from commands where org_id = $1 and id = $2 and ($3::bigint is null or project_id = $3)"#,
        tx.org().0,
        id,
        project.map(ProjectId::get)
    )
    .fetch_optional(tx.conn())
    .await
}

/// Queues a command, behind those of its service that were given before; where it names a session, an event tells of it.
///
/// Answers also whether that session still goes on, as it stands under its lock. Of a command that names none there is
/// nothing to say.
pub async fn give(tx: &mut TenantConn, new: &NewCommand) -> sqlx::Result<(Command, bool)> {
    lock_order(tx, new).await?;
    let command = sqlx::query_as!(
        Command,
        r#"insert into commands (org_id, id, project_id, service, relay_id, session_id, "order", created_by, created_at,
                                 expires_at)
           select $1, $2, $3, $4, $5, $6, $7, $8, at, at + make_interval(secs => $9)
           from (select clock_timestamp() as at) clock
           returning id, number, project_id, service, relay_id, session_id, "order" as "order: Json<Order>", created_by,
                     created_at, expires_at, delivered_at, status, finished_at, report as "report: Json<CommandReport>""#,
        tx.org().0,
        Uuid::now_v7(),
        new.project.get(),
        new.service,
        new.relay,
        new.session.map(|session| session.0),
        Json(&new.order) as _,
        new.created_by,
        f64::from(new.ttl_seconds)
    )
    .fetch_one(tx.conn())
    .await?;
    tx.has_commands = true;
    let Some(note) = command.given_note(tx.org()) else {
        return Ok((command, true));
    };
    match changes::apply_one(tx, note).await? {
        Outcome::Applied { session, .. } => Ok((command, session.is_active())),
        outcome => Err(unexpected(&outcome)),
    }
}

/// Of one service one command at a time is given: their numbers are then in the order of their commits. The session is locked
/// first, as whoever forwards events does.
async fn lock_order(tx: &mut TenantConn, new: &NewCommand) -> sqlx::Result<()> {
    if let Some(session) = new.session {
        sqlx::query!(
            "select id from sessions where org_id = $1 and id = $2 for update",
            tx.org().0,
            session.0
        )
        .fetch_optional(tx.conn())
        .await?;
    }
    sqlx::query!(
        "select name from services where org_id = $1 and name = $2 for no key update",
        tx.org().0,
        new.service
    )
    .fetch_optional(tx.conn())
    .await
    .map(|_| ())
}

/// What a relay is to be told: its open commands in the order in which they were given, at most `limit`.
pub async fn open(tx: &mut TenantConn, relay: Uuid, limit: i64) -> sqlx::Result<Vec<Command>> {
    sqlx::query_as!(
        Command,
        r#"select id, number, project_id, service, relay_id, session_id, "order" as "order: Json<Order>", created_by,
                  created_at, expires_at, delivered_at, status, finished_at, report as "report: Json<CommandReport>"
           from commands where org_id = $1 and relay_id = $2 and finished_at is null and expires_at > now()
           order by number limit $3"#,
        tx.org().0,
        relay,
        limit
    )
    .fetch_all(tx.conn())
    .await
}

/// Notes that a relay is told of commands; answers those of them that are open yet, in their order. What is not among them is
/// not to be told.
pub async fn deliver(tx: &mut TenantConn, ids: &[Uuid]) -> sqlx::Result<Vec<Command>> {
    let mut told = sqlx::query_as!(
        Command,
        r#"update commands c set delivered_at = coalesce(c.delivered_at, now()), status = 'delivered'
           from (select id from commands where org_id = $1 and id = any($2) order by id for update) held
           where c.org_id = $1 and c.id = held.id and c.finished_at is null and c.expires_at > now()
           returning c.id, number, project_id, service, relay_id, session_id, "order" as "order: Json<Order>", created_by,
                     created_at, expires_at, delivered_at, status, finished_at, report as "report: Json<CommandReport>""#,
        tx.org().0,
        ids
    )
    .fetch_all(tx.conn())
    .await?;
    told.sort_unstable_by_key(|command| command.number);
    Ok(told)
}

/// Locks those of a relay's commands that it has not reported of yet; in the order of their ids.
pub async fn lock_unreported(
    tx: &mut TenantConn,
    relay: Uuid,
    ids: &[Uuid],
) -> sqlx::Result<Vec<Command>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        Command,
        r#"select id, number, project_id, service, relay_id, session_id, "order" as "order: Json<Order>", created_by,
                  created_at, expires_at, delivered_at, status, finished_at, report as "report: Json<CommandReport>"
           from commands where org_id = $1 and relay_id = $2 and id = any($3) and report is null order by id for update"#,
        tx.org().0,
        relay,
        ids
    )
    .fetch_all(tx.conn())
    .await
}

/// Ends commands as their relay reports; they are locked. A command that makes a session comes to name it here, where the
/// session is known already.
pub async fn finish(
    tx: &mut TenantConn,
    finished: &[(Command, CommandReport)],
) -> sqlx::Result<()> {
    if finished.is_empty() {
        return Ok(());
    }
    let org = tx.org();
    let made = |(command, report): &(Command, CommandReport)| Some(made(org, command, report)?.0);
    let id: Vec<Uuid> = finished.iter().map(|(command, _)| command.id).collect();
    let status: Vec<String> = finished
        .iter()
        .map(|(_, report)| report.status.as_str().to_owned())
        .collect();
    let reports: Vec<Json<&CommandReport>> =
        finished.iter().map(|(_, report)| Json(report)).collect();
    let sessions: Vec<Option<Uuid>> = finished.iter().map(made).collect();
    sqlx::query!(
        "update commands c
         set status = r.status, report = r.report, finished_at = now(),
             session_id = coalesce(c.session_id,
                                   (select s.id from sessions s where s.org_id = $1 and s.id = r.session_id))
         from unnest($2::uuid[], $3::text[], $4::jsonb[], $5::uuid[]) r(id, status, report, session_id)
         where c.org_id = $1 and c.id = r.id",
        org.0,
        &id,
        &status,
        &reports as _,
        &sessions as _
    )
    .execute(tx.conn())
    .await?;
    tx.has_commands = true;
    Ok(())
}

/// The session that a transmitter says it made.
fn made(org: OrgId, command: &Command, report: &CommandReport) -> Option<SessionId> {
    let name = report.answer.as_ref()?.pointer("/sessions/0/uuid")?;
    let name = Uuid::try_parse(name.as_str()?).ok()?;
    Some(SessionId::of(org, &command.service, &name.to_string()))
}

/// Ends commands whose time is over, at most `limit`; answers how many. One that no relay was told of is `expired`: none will
/// be told. Of one that was delivered a report may yet be on its way; after half a minute it is `unknown`.
pub async fn expire(tx: &mut TenantConn, limit: i64) -> sqlx::Result<u64> {
    let due = sqlx::query_as!(
        Command,
        r#"select id, number, project_id, service, relay_id, session_id, "order" as "order: Json<Order>", created_by,
                  created_at, expires_at, delivered_at, status, finished_at, report as "report: Json<CommandReport>"
           from commands
           where org_id = $1 and finished_at is null and expires_at <= now()
           and (delivered_at is null or expires_at <= now() - interval '30 seconds')
           order by expires_at, id limit $2 for update skip locked"#,
        tx.org().0,
        limit
    )
    .fetch_all(tx.conn())
    .await?;
    if due.is_empty() {
        return Ok(0);
    }
    let notes: Vec<SessionChange> = due
        .iter()
        .filter_map(|command| command.expired_note(tx.org()))
        .collect();
    for outcome in changes::apply(tx, &notes).await? {
        if !matches!(outcome, Outcome::Applied { .. }) {
            return Err(unexpected(&outcome));
        }
    }
    let ids: Vec<Uuid> = due.iter().map(|command| command.id).collect();
    tx.has_commands = true;
    sqlx::query!(
        "update commands set finished_at = now(), status = case when delivered_at is null then 'expired' else 'unknown' end
         where org_id = $1 and id = any($2)",
        tx.org().0,
        &ids
    )
    .execute(tx.conn())
    .await
    .map(|done| done.rows_affected())
}

/// A command's foreign key says that its session is there.
fn unexpected(outcome: &Outcome) -> sqlx::Error {
    sqlx::Error::Decode(format!("a command was not noted on its session: {outcome:?}").into())
}

impl Command {
    /// Whether it will not be carried out any more, as far as is known.
    pub fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    /// What tells, on the session that it names, that its relay reported of it.
    pub fn reported_note(
        &self,
        org: OrgId,
        report: &CommandReport,
        (from, at): (&str, OffsetDateTime),
    ) -> Option<SessionChange> {
        let mut context = json!({ "status": report.status.as_str(), "at": rfc3339(report.at) });
        let texts = [("code", &report.code), ("detail", &report.detail)];
        for (name, text) in texts {
            if let Some(text) = text {
                context[name] = json!(text);
            }
        }
        self.note(org, EventType::CommandFinished, context, (from, at))
    }

    fn given_note(&self, org: OrgId) -> Option<SessionChange> {
        let context = json!({ "expires": rfc3339(self.expires_at) });
        let mut note = self.note(
            org,
            EventType::Commanded,
            context,
            (&self.created_by, self.created_at),
        )?;
        if let (
            Order::Page {
                page_mode, message, ..
            },
            Some(context),
        ) = (&self.order.0, &mut note.context)
        {
            for (name, text) in [("pageMode", page_mode), ("message", message)] {
                if let Some(text) = text {
                    context[name] = json!(text);
                }
            }
        }
        Some(note)
    }

    /// Time ends a command as the one who gave it said.
    fn expired_note(&self, org: OrgId) -> Option<SessionChange> {
        let status = if self.delivered_at.is_some() {
            "unknown"
        } else {
            "expired"
        };
        let from = (self.created_by.as_str(), OffsetDateTime::now_utc());
        self.note(
            org,
            EventType::CommandFinished,
            json!({ "status": status }),
            from,
        )
    }

    fn note(
        &self,
        org: OrgId,
        event: EventType,
        mut context: Context,
        (from, at): (&str, OffsetDateTime),
    ) -> Option<SessionChange> {
        // The order has the session's name at its source.
        let (Order::Page { session, .. }
        | Order::Clear { session, .. }
        | Order::Remove { session, .. }) = &self.order.0
        else {
            return None;
        };
        context["command"] = json!(self.id);
        context["action"] = json!(self.order.name());
        Some(SessionChange {
            org,
            project: ProjectId::new(self.project_id)?,
            service: self.service.clone(),
            kind: Kind::Pager,
            source_id: session.to_string(),
            from: from.to_owned(),
            // Postgres keeps microseconds.
            at: at
                .replace_nanosecond(at.microsecond() * 1_000)
                .expect("below a second"),
            op: Op::Note(event),
            context: Some(context),
        })
    }
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("the year has four digits")
}
