//! The one write door: every change of a session, from whatever surface or relay, passes [`apply`].
//!
//! Invariant: a session's row, its event and its attachments' rows change in one transaction, under the row's lock;
//! revision n of a session has exactly one event.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::TryStreamExt;
use rollcall_model::{
    Attachment, Decision, EventType, Pager, Rejection, Session, SessionChange, SessionId,
};
use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;
use crate::services::{self, Count};
use crate::sessions::SessionRow;

/// Most memory for sessions that one batch may read, and for those that it may write, in bytes. Every change writes its session whole,
/// as an event: a small batch of changes to large sessions is a large one.
const BATCH_BYTES: usize = 64 << 20;

/// What became of one change.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The session is now this.
    Applied {
        session: Session,
        event: EventType,
    },
    /// The change was a repeat: this is what the first one made, and nothing happened.
    Repeat {
        session: Session,
    },
    Rejected(Rejection),
}

/// Applies `changes`, in order per session, and answers each by itself, in the order given.
///
/// Takes the changes of one request or of many; the transaction's tenants must cover them, else row-level security
/// refuses the write. A database error fails the batch whole. Locks are taken in the order of session ids, so that
/// batches at once wait for each other; should Postgres yet see a deadlock, it fails one of them and nothing of it stays.
pub async fn apply(tx: &mut TenantConn, changes: &[SessionChange]) -> sqlx::Result<Vec<Outcome>> {
    let mut outcomes: Vec<Option<Outcome>> = changes.iter().map(|_| None).collect();
    let mut pending: BTreeMap<SessionId, Vec<usize>> = BTreeMap::new();
    for (at, change) in changes.iter().enumerate() {
        pending.entry(change.session_id()).or_default().push(at);
    }
    let mut to_write = 0;
    // A second round is for sessions that another transaction created between our look and our insert: they are
    // committed by then, so that this round locks them.
    while !pending.is_empty() {
        let mut plans = lock(tx, changes, &pending).await?;
        read_history(tx, changes, &mut plans).await?;
        let known = known_events(tx, changes, &pending).await?;
        for plan in &mut plans {
            plan.decide(changes, &known, &mut to_write);
        }
        let lost = write_sessions(tx, &plans).await?;
        plans.retain(|plan| !lost.contains(&plan.id));
        write_events(tx, &plans).await?;
        write_attachments(tx, &plans).await?;
        services::count(tx, plans.iter().flat_map(Plan::counts)).await?;
        for plan in plans {
            pending.remove(&plan.id);
            for (at, outcome) in plan.outcomes {
                outcomes[at] = Some(outcome);
            }
        }
    }
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.expect("every change belonged to one plan"))
        .collect())
}

/// Applies one change; see [`apply`].
pub async fn apply_one(tx: &mut TenantConn, change: SessionChange) -> sqlx::Result<Outcome> {
    let mut outcomes = apply(tx, &[change]).await?;
    Ok(outcomes.pop().expect("every change is answered"))
}

/// What is to happen to one session.
struct Plan {
    id: SessionId,
    /// Which changes, in order.
    changes: Vec<usize>,
    known: bool,
    /// The sessions before it were too much already; it was not read.
    is_unread: bool,
    base: Option<Session>,
    history: Vec<Session>,
    steps: Vec<Step>,
    outcomes: Vec<(usize, Outcome)>,
}

/// One revision to write.
struct Step {
    /// Which change makes it.
    at: usize,
    session: Session,
    event: EventType,
    /// The event's id at its source.
    source_event: Option<Uuid>,
    context: Option<Value>,
    changed: Vec<String>,
}

/// Events that have an id at their source: whose they are, where they are in the store already, and else whose they are to
/// be: the session's that the batch names first.
struct KnownEvents {
    stored: HashMap<Uuid, SessionId>,
    first: HashMap<Uuid, SessionId>,
}

impl Plan {
    /// Decides on the changes; `to_write` counts the bytes of all steps of the batch.
    fn decide(&mut self, changes: &[SessionChange], known: &KnownEvents, to_write: &mut usize) {
        for &at in &self.changes {
            let change = &changes[at];
            let current = self
                .steps
                .last()
                .map(|step| &step.session)
                .or(self.base.as_ref());
            let earlier = self
                .history
                .iter()
                .chain(self.steps.iter().map(|step| &step.session));
            let decision = if !self.known {
                Decision::Reject(Rejection::NoProject)
            } else if self.is_unread {
                Decision::Reject(Rejection::BatchTooLarge)
            } else if !known.belongs(change, self.id) {
                Decision::Reject(Rejection::EventTaken)
            } else {
                let id = change.event_id();
                let is_known = id.is_some_and(|id| {
                    known.stored.contains_key(&id)
                        || self.steps.iter().any(|step| step.source_event == Some(id))
                });
                within(change.decide(current, earlier, is_known), to_write)
            };
            let outcome = match decision {
                Decision::Apply(session, event) => {
                    let step = Step {
                        at,
                        session: session.clone(),
                        event,
                        source_event: change.event_id(),
                        context: change.context.clone(),
                        changed: session.changed_since(current),
                    };
                    self.steps.push(step);
                    Outcome::Applied { session, event }
                }
                Decision::Repeat(session) => Outcome::Repeat { session },
                Decision::Reject(rejection) => Outcome::Rejected(rejection),
            };
            self.outcomes.push((at, outcome));
        }
    }

    fn last(&self) -> Option<&Session> {
        self.steps.last().map(|step| &step.session)
    }

    /// What the plan changes in its service's counts.
    fn counts(&self) -> Option<Count<'_>> {
        let last = self.last()?;
        let was_active = self.base.as_ref().is_some_and(Session::is_active);
        let count = Count {
            org: last.org,
            service: &last.service,
            active: i64::from(last.is_active()) - i64::from(was_active),
            total: i64::from(self.base.is_none()),
        };
        (count.active != 0 || count.total != 0).then_some(count)
    }
}

impl KnownEvents {
    /// Whether the event that the change reports, if it does, is the session's.
    fn belongs(&self, change: &SessionChange, session: SessionId) -> bool {
        let owner = change
            .event_id()
            .and_then(|id| self.stored.get(&id).or_else(|| self.first.get(&id)));
        owner.is_none_or(|owner| *owner == session)
    }
}

/// A batch's first step is within bounds however large it is; a session alone has its own limit.
fn within(decision: Decision, to_write: &mut usize) -> Decision {
    if let Decision::Apply(session, _) = &decision {
        let bytes = session.footprint();
        if *to_write > 0 && *to_write + bytes > BATCH_BYTES {
            return Decision::Reject(Rejection::BatchTooLarge);
        }
        *to_write += bytes;
    }
    decision
}

/// Locks the sessions that exist, in the order of their ids, and sees which services do.
///
/// They are looked up one by one, in the order given: a join could read them all, and in any order.
async fn lock(
    tx: &mut TenantConn,
    changes: &[SessionChange],
    pending: &BTreeMap<SessionId, Vec<usize>>,
) -> sqlx::Result<Vec<Plan>> {
    let firsts: Vec<&SessionChange> = pending.values().map(|at| &changes[at[0]]).collect();
    let orgs: Vec<Uuid> = firsts.iter().map(|change| change.org.0).collect();
    let services: Vec<String> = firsts.iter().map(|change| change.service.clone()).collect();
    let ids: Vec<Uuid> = pending.keys().map(|id| id.0).collect();
    // The statements from here on look up keys, whatever the values: to plan each anew, under row-level security and with
    // as many indexes as there are, would take longer than to run it.
    let known: HashSet<i64> = sqlx::query!(
        r#"select c.at as "at!", set_config('plan_cache_mode', 'force_generic_plan', true) as mode
           from unnest($1::uuid[], $2::text[]) with ordinality c(org_id, service, at)
           join services v on v.org_id = c.org_id and v.name = c.service"#,
        &orgs,
        &services
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(|row| row.at)
    .collect();
    let mut rows = sqlx::query_as!(
        SessionRow,
        r#"select s.org_id, s.id, s.project_id, s.service, s.kind, s.source_id, s.unit_id, s.label, s.username, s.remote,
                  s.created_at, s.saved_at, s.received_at, s.received_from, s.deleted,
                  s.points as "points: Json<rollcall_model::Points>", s.facts as "facts: Json<Pager>", s.revision
           from unnest($1::uuid[], $2::uuid[]) c(org_id, id)
           cross join lateral (
               select * from sessions s where s.org_id = c.org_id and s.id = c.id for update
           ) s"#,
        &orgs,
        &ids
    )
    .fetch(tx.conn());
    let (mut held, mut unread, mut bytes) = (HashMap::new(), HashSet::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let session = row.into_session()?;
        let size = session.footprint();
        if bytes > 0 && bytes + size > BATCH_BYTES {
            unread.insert(session.id);
        } else {
            bytes += size;
            held.insert(session.id, session);
        }
    }
    drop(rows);
    let plan = |(at, (id, changes)): (usize, (&SessionId, &Vec<usize>))| Plan {
        id: *id,
        changes: changes.clone(),
        known: i64::try_from(at + 1).is_ok_and(|ordinality| known.contains(&ordinality)),
        is_unread: unread.contains(id),
        base: held.remove(id),
        history: Vec::new(),
        steps: Vec::new(),
        outcomes: Vec::new(),
    };
    Ok(pending.iter().enumerate().map(plan).collect())
}

/// Reads the earlier revisions that carry a save time which a change names.
async fn read_history(
    tx: &mut TenantConn,
    changes: &[SessionChange],
    plans: &mut [Plan],
) -> sqlx::Result<()> {
    let (mut orgs, mut ids, mut saves) = (Vec::new(), Vec::new(), Vec::new());
    for plan in plans.iter().filter(|plan| plan.base.is_some()) {
        for change in plan.changes.iter().map(|at| &changes[*at]) {
            if let Some(save) = change.named_save() {
                orgs.push(change.org.0);
                ids.push(plan.id.0);
                saves.push(save);
            }
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let mut rows = sqlx::query!(
        r#"select e.session as "session: Json<Session>"
           from (select distinct * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])) c(org_id, id, saved_at)
           join events e on e.org_id = c.org_id and e.session_id = c.id and e.saved_at = c.saved_at
           order by e.session_id, e.revision"#,
        &orgs,
        &ids,
        &saves
    )
    .fetch(tx.conn());
    // A device without a clock names one save time for ever: what no change repeats is not kept.
    while let Some(row) = rows.try_next().await? {
        let Json(session) = row.session;
        if let Ok(at) = plans.binary_search_by_key(&session.id, |plan| plan.id) {
            let plan = &mut plans[at];
            let mut repeats = plan
                .changes
                .iter()
                .map(|at| &changes[*at])
                .filter(|change| {
                    change.is_repeat(&session)
                        && !plan.history.iter().any(|held| change.is_repeat(held))
                });
            if repeats.next().is_some() {
                plan.history.push(session);
            }
        }
    }
    Ok(())
}

/// Looks which reported events are in the store already. The sessions are locked by now, so that an equal batch at the same
/// time has either written them or waits.
async fn known_events(
    tx: &mut TenantConn,
    changes: &[SessionChange],
    pending: &BTreeMap<SessionId, Vec<usize>>,
) -> sqlx::Result<KnownEvents> {
    let mut first: HashMap<Uuid, SessionId> = HashMap::new();
    let mut named: Vec<(usize, SessionId)> = pending
        .iter()
        .flat_map(|(id, changes)| changes.iter().map(|at| (*at, *id)))
        .collect();
    named.sort_unstable_by_key(|(at, _)| *at);
    let (mut orgs, mut ids) = (Vec::new(), Vec::new());
    for (at, session) in named {
        if let Some(id) = changes[at].event_id() {
            orgs.push(changes[at].org.0);
            ids.push(id);
            first.entry(id).or_insert(session);
        }
    }
    let mut stored = HashMap::new();
    if !ids.is_empty() {
        let rows = sqlx::query!(
            r#"select e.source_event as "id!", e.session_id
               from unnest($1::uuid[], $2::uuid[]) c(org_id, id)
               join events e on e.org_id = c.org_id and e.source_event = c.id"#,
            &orgs,
            &ids
        )
        .fetch_all(tx.conn())
        .await?;
        stored.extend(
            rows.into_iter()
                .map(|row| (row.id, SessionId(row.session_id))),
        );
    }
    Ok(KnownEvents { stored, first })
}

/// Writes each session's last state. Answers the ids that another transaction created meanwhile: nothing was written
/// of those.
async fn write_sessions(tx: &mut TenantConn, plans: &[Plan]) -> sqlx::Result<HashSet<SessionId>> {
    let changed = |new: bool| {
        let of_kind = plans.iter().filter(move |plan| plan.base.is_none() == new);
        of_kind.filter_map(Plan::last).collect::<Vec<_>>()
    };
    let existing = changed(false);
    if !existing.is_empty() {
        update_sessions(tx, &existing).await?;
    }
    let new = changed(true);
    if new.is_empty() {
        return Ok(HashSet::new());
    }
    let inserted = insert_sessions(tx, &new).await?;
    Ok(new
        .iter()
        .map(|session| session.id)
        .filter(|id| !inserted.contains(&id.0))
        .collect())
}

async fn insert_sessions(
    tx: &mut TenantConn,
    sessions: &[&Session],
) -> sqlx::Result<HashSet<Uuid>> {
    let c = Columns::of(sessions);
    let rows = sqlx::query_scalar!(
        "insert into sessions (org_id, id, project_id, service, kind, source_id, unit_id, created_at, saved_at,
                               received_at, received_from, deleted, points, revision, state, active, label, username,
                               remote, footprint, number, facts)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::bool[],
                              $13::jsonb[], $14::bigint[], $15::text[], $16::bool[], $17::text[], $18::text[],
                              $19::text[], $20::bigint[], $21::int[], $22::jsonb[])
         on conflict (org_id, id) do nothing
         returning id",
        &c.org,
        &c.id,
        &c.project,
        &c.service,
        &c.kind,
        &c.source_id,
        &c.unit_id,
        &c.created_at,
        &c.saved_at,
        &c.received_at,
        &c.received_from,
        &c.deleted,
        &c.points as _,
        &c.revision,
        &c.state,
        &c.active,
        &c.label as _,
        &c.user as _,
        &c.remote as _,
        &c.footprint,
        &c.number as _,
        &c.facts as _
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().collect())
}

async fn update_sessions(tx: &mut TenantConn, sessions: &[&Session]) -> sqlx::Result<()> {
    let c = Columns::of(sessions);
    sqlx::query!(
        "update sessions s
         set source_id = n.source_id, unit_id = n.unit_id, created_at = n.created_at, saved_at = n.saved_at,
             received_at = n.received_at, received_from = n.received_from, deleted = n.deleted, points = n.points,
             revision = n.revision, state = n.state, active = n.active, label = n.label, username = n.username,
             remote = n.remote, footprint = n.footprint, number = n.number, facts = n.facts,
             event_txid = greatest(pg_current_xact_id(), s.event_txid)
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                     $7::timestamptz[], $8::text[], $9::bool[], $10::jsonb[], $11::bigint[], $12::text[], $13::bool[],
                     $14::text[], $15::text[], $16::text[], $17::bigint[], $18::int[], $19::jsonb[])
              n(org_id, id, source_id, unit_id, created_at, saved_at, received_at, received_from, deleted, points,
                revision, state, active, label, username, remote, footprint, number, facts)
         where s.org_id = n.org_id and s.id = n.id",
        &c.org,
        &c.id,
        &c.source_id,
        &c.unit_id,
        &c.created_at,
        &c.saved_at,
        &c.received_at,
        &c.received_from,
        &c.deleted,
        &c.points as _,
        &c.revision,
        &c.state,
        &c.active,
        &c.label as _,
        &c.user as _,
        &c.remote as _,
        &c.footprint,
        &c.number as _,
        &c.facts as _
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}

/// Writes an event for every step, in the order of the changes. Their order in the feed is that of the revisions: see the
/// column `txid`, which the session's row has by now.
async fn write_events(tx: &mut TenantConn, plans: &[Plan]) -> sqlx::Result<()> {
    let mut steps: Vec<&Step> = plans.iter().flat_map(|plan| &plan.steps).collect();
    steps.sort_unstable_by_key(|step| step.at);
    if steps.is_empty() {
        return Ok(());
    }
    let sessions: Vec<&Session> = steps.iter().map(|step| &step.session).collect();
    let events: Vec<String> = steps.iter().map(|step| step.event.to_string()).collect();
    let snapshots: Vec<Json<&Session>> = sessions.iter().map(|session| Json(*session)).collect();
    let contexts: Vec<Option<&Value>> = steps.iter().map(|step| step.context.as_ref()).collect();
    let changed: Vec<Json<&Vec<String>>> = steps.iter().map(|step| Json(&step.changed)).collect();
    let source_events: Vec<Option<Uuid>> = steps.iter().map(|step| step.source_event).collect();
    let c = Columns::of(&sessions);
    sqlx::query!(
        "insert into events (org_id, session_id, revision, type, project_id, service, kind, at, saved_at, session,
                             context, changed, footprint, source_event, txid)
         select n.org_id, n.session_id, n.revision, n.type, n.project_id, n.service, n.kind, n.at, n.saved_at, n.session,
                n.context, array(select jsonb_array_elements_text(n.changed)), n.footprint, n.source_event,
                (select s.event_txid from sessions s where s.org_id = n.org_id and s.id = n.session_id)
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[],
                     $8::timestamptz[], $9::timestamptz[], $10::jsonb[], $11::jsonb[], $12::jsonb[], $13::bigint[],
                     $14::uuid[])
              with ordinality n(org_id, session_id, revision, type, project_id, service, kind, at, saved_at, session,
                                context, changed, footprint, source_event, step)
         order by n.step",
        &c.org,
        &c.id,
        &c.revision,
        &events,
        &c.project,
        &c.service,
        &c.kind,
        &c.received_at,
        &c.saved_at,
        &snapshots as _,
        &contexts as _,
        &changed as _,
        &c.footprint,
        &source_events as _
    )
    .execute(tx.conn())
    .await?;
    tx.has_events = true;
    Ok(())
}

/// Gives every attachment that a session came to hold its row, and retires the rows of those that it let go.
async fn write_attachments(tx: &mut TenantConn, plans: &[Plan]) -> sqlx::Result<()> {
    let mut taken: Vec<(&Session, &str, &Attachment)> = Vec::new();
    let (mut retired_orgs, mut retired): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for plan in plans {
        let mut before = files(plan.base.as_ref());
        for step in &plan.steps {
            let after = files(Some(&step.session));
            let new = after.iter().filter(|(id, _)| !before.contains_key(id));
            taken.extend(new.map(|(_, (point, file))| (&step.session, *point, *file)));
            for id in before.keys().filter(|id| !after.contains_key(id)) {
                retired_orgs.push(step.session.org.0);
                retired.push(*id);
            }
            before = after;
        }
    }
    if !retired.is_empty() {
        sqlx::query!(
            "update attachments a set retired_at = now()
             from unnest($1::uuid[], $2::uuid[]) r(org_id, id)
             where a.org_id = r.org_id and a.id = r.id",
            &retired_orgs,
            &retired
        )
        .execute(tx.conn())
        .await?;
    }
    if taken.is_empty() {
        return Ok(());
    }
    insert_attachments(tx, &taken, &retired).await
}

async fn insert_attachments(
    tx: &mut TenantConn,
    taken: &[(&Session, &str, &Attachment)],
    retired: &[Uuid],
) -> sqlx::Result<()> {
    let org: Vec<Uuid> = taken.iter().map(|(session, ..)| session.org.0).collect();
    let id: Vec<Uuid> = taken.iter().map(|(.., file)| file.id.0).collect();
    let project: Vec<i64> = taken
        .iter()
        .map(|(session, ..)| session.project.get())
        .collect();
    let session: Vec<Uuid> = taken.iter().map(|(session, ..)| session.id.0).collect();
    let point: Vec<String> = taken
        .iter()
        .map(|(_, point, _)| (*point).to_owned())
        .collect();
    let filename: Vec<String> = taken
        .iter()
        .map(|(.., file)| file.filename.clone())
        .collect();
    let content_type: Vec<String> = taken
        .iter()
        .map(|(.., file)| file.content_type.clone())
        .collect();
    let length: Vec<i64> = taken
        .iter()
        .map(|(.., file)| i64::try_from(file.length).unwrap_or(i64::MAX))
        .collect();
    let md5: Vec<String> = taken.iter().map(|(.., file)| file.md5.clone()).collect();
    let sha256: Vec<String> = taken.iter().map(|(.., file)| file.sha256.clone()).collect();
    sqlx::query!(
        "insert into attachments (org_id, id, project_id, session_id, point, filename, content_type, length, md5,
                                  sha256, retired_at)
         select n.*, case when n.id = any($11) then now() end
         from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                     $8::bigint[], $9::text[], $10::text[])
              n(org_id, id, project_id, session_id, point, filename, content_type, length, md5, sha256)",
        &org,
        &id,
        &project,
        &session,
        &point,
        &filename,
        &content_type,
        &length,
        &md5,
        &sha256,
        retired
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}

/// The files that a session holds, by id.
fn files(session: Option<&Session>) -> BTreeMap<Uuid, (&str, &Attachment)> {
    let points = session.into_iter().flat_map(|session| &session.points);
    points
        .filter_map(|(name, point)| Some((name.as_str(), point.attachment()?)))
        .map(|(name, file)| (file.id.0, (name, file)))
        .collect()
}

/// Sessions as the arrays that `unnest` takes.
struct Columns<'a> {
    org: Vec<Uuid>,
    id: Vec<Uuid>,
    project: Vec<i64>,
    service: Vec<String>,
    kind: Vec<String>,
    source_id: Vec<String>,
    unit_id: Vec<String>,
    created_at: Vec<OffsetDateTime>,
    saved_at: Vec<OffsetDateTime>,
    received_at: Vec<OffsetDateTime>,
    received_from: Vec<String>,
    deleted: Vec<bool>,
    points: Vec<Json<&'a rollcall_model::Points>>,
    revision: Vec<i64>,
    state: Vec<String>,
    active: Vec<bool>,
    label: Vec<Option<&'a str>>,
    user: Vec<Option<&'a str>>,
    remote: Vec<Option<&'a str>>,
    footprint: Vec<i64>,
    number: Vec<Option<i32>>,
    facts: Vec<Option<Json<&'a Pager>>>,
}

impl<'a> Columns<'a> {
    fn of(sessions: &[&'a Session]) -> Self {
        Self {
            org: sessions.iter().map(|s| s.org.0).collect(),
            id: sessions.iter().map(|s| s.id.0).collect(),
            project: sessions.iter().map(|s| s.project.get()).collect(),
            service: sessions.iter().map(|s| s.service.clone()).collect(),
            kind: sessions
                .iter()
                .map(|s| s.kind.as_str().to_owned())
                .collect(),
            source_id: sessions.iter().map(|s| s.source_id.clone()).collect(),
            unit_id: sessions.iter().map(|s| s.unit_id.clone()).collect(),
            created_at: sessions.iter().map(|s| s.created_at).collect(),
            saved_at: sessions.iter().map(|s| s.saved_at).collect(),
            received_at: sessions.iter().map(|s| s.received_at).collect(),
            received_from: sessions.iter().map(|s| s.received_from.clone()).collect(),
            deleted: sessions.iter().map(|s| s.deleted).collect(),
            points: sessions.iter().map(|s| Json(&s.points)).collect(),
            revision: sessions.iter().map(|s| s.revision).collect(),
            state: sessions.iter().map(|s| s.state().to_owned()).collect(),
            active: sessions.iter().map(|s| s.is_active()).collect(),
            label: sessions.iter().map(|s| s.label.as_deref()).collect(),
            user: sessions.iter().map(|s| s.user.as_deref()).collect(),
            remote: sessions.iter().map(|s| s.remote.as_deref()).collect(),
            footprint: sessions
                .iter()
                .map(|s| i64::try_from(s.footprint()).unwrap_or(i64::MAX))
                .collect(),
            number: sessions
                .iter()
                .map(|s| s.pager.as_ref().map(|pager| pager.number.into()))
                .collect(),
            facts: sessions
                .iter()
                .map(|s| s.pager.as_ref().map(Json))
                .collect(),
        }
    }
}
