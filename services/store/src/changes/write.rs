//! Writes what was decided: the sessions' rows and their events.

use std::collections::HashSet;

use rollcall_model::{Session, SessionId};
use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::columns::Columns;
use super::{Plan, Step};
use crate::TenantConn;

/// Writes each session's last state. Answers the ids that another transaction created meanwhile: nothing was written
/// of those.
pub async fn sessions(tx: &mut TenantConn, plans: &[Plan]) -> sqlx::Result<HashSet<SessionId>> {
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
                               remote, footprint, number, facts, client_id, protocol, connected, inflight, queue_depth,
                               idle_since)
         select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                              $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[], $12::bool[],
                              $13::jsonb[], $14::bigint[], $15::text[], $16::bool[], $17::text[], $18::text[],
                              $19::text[], $20::bigint[], $21::int[], $22::jsonb[], $23::text[], $24::text[], $25::bool[],
                              $26::bigint[], $27::bigint[], $28::timestamptz[])
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
        &c.facts as _,
        &c.client_id as _,
        &c.protocol as _,
        &c.connected as _,
        &c.inflight as _,
        &c.queue_depth as _,
        &c.idle_since as _
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
             remote = n.remote, footprint = n.footprint, number = n.number, facts = n.facts, client_id = n.client_id,
             protocol = n.protocol, connected = n.connected, inflight = n.inflight, queue_depth = n.queue_depth,
             idle_since = n.idle_since,
             event_txid = greatest(pg_current_xact_id(), s.event_txid)
         from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                     $7::timestamptz[], $8::text[], $9::bool[], $10::jsonb[], $11::bigint[], $12::text[], $13::bool[],
                     $14::text[], $15::text[], $16::text[], $17::bigint[], $18::int[], $19::jsonb[], $20::text[], $21::text[],
                     $22::bool[], $23::bigint[], $24::bigint[], $25::timestamptz[])
              n(org_id, id, source_id, unit_id, created_at, saved_at, received_at, received_from, deleted, points,
                revision, state, active, label, username, remote, footprint, number, facts, client_id, protocol,
                connected, inflight, queue_depth, idle_since)
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
        &c.facts as _,
        &c.client_id as _,
        &c.protocol as _,
        &c.connected as _,
        &c.inflight as _,
        &c.queue_depth as _,
        &c.idle_since as _
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}

/// Writes an event for every step, in the order of the changes. Their order in the feed is that of the revisions: see the
/// column `txid`, which the session's row has by now.
pub async fn events(tx: &mut TenantConn, plans: &[Plan]) -> sqlx::Result<()> {
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
