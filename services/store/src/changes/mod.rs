//! The one write door: every change of a session, from whatever surface or relay, passes [`apply`].
//!
//! Invariant: a session's row, its event and its attachments' rows change in one transaction, under the row's lock;
//! revision n of a session has exactly one event.

mod attachments;
mod columns;
mod write;

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::TryStreamExt;
use rollcall_model::{Decision, EventType, Rejection, Session, SessionChange, SessionId};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::types::Json;
use uuid::Uuid;

use crate::TenantConn;
use crate::services::{self, Count};
use crate::sessions::SessionRow;
use crate::subscriptions;

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
        let lost = write::sessions(tx, &plans).await?;
        plans.retain(|plan| !lost.contains(&plan.id));
        write::events(tx, &plans).await?;
        attachments::write(tx, &plans).await?;
        let changed = plans
            .iter()
            .filter_map(|plan| Some((plan.base.as_ref(), plan.last()?)));
        subscriptions::write(tx, changed).await?;
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
                  s.points as "points: Json<rollcall_model::Points>", s.facts as "facts: Json<Box<RawValue>>", s.revision
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

/// Whether the statements that follow are planned for their values and the tables as they are, or once.
async fn plan_anew(tx: &mut TenantConn, anew: bool) -> sqlx::Result<()> {
    let mode = match anew {
        true => "force_custom_plan",
        false => "force_generic_plan",
    };
    sqlx::query_scalar!("select set_config('plan_cache_mode', $1, true)", mode)
        .fetch_one(tx.conn())
        .await
        .map(|_| ())
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
        // Planned for the table as it is by now: between the indexes that begin with the organization the choice on a small table is
        // any, and a plan that is kept would read all of its events for each, until the table is analyzed.
        plan_anew(tx, true).await?;
        let rows = sqlx::query!(
            r#"select c.id as "id!", e.session_id
               from unnest($1::uuid[], $2::uuid[]) c(org_id, id)
               cross join lateral (
                   select session_id from events where org_id = c.org_id and source_event = c.id limit 1
               ) e"#,
            &orgs,
            &ids
        )
        .fetch_all(tx.conn())
        .await?;
        plan_anew(tx, false).await?;
        stored.extend(
            rows.into_iter()
                .map(|row| (row.id, SessionId(row.session_id))),
        );
    }
    Ok(KnownEvents { stored, first })
}
