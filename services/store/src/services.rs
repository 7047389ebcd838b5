//! Services: what sessions are created on, and how many each has.
//!
//! The counts are kept in several rows a service. A writer adds to one that no other transaction holds, or makes
//! another, so that writers never wait for each other here.

use std::collections::{BTreeMap, HashMap};

use rollcall_model::ingest::WatchReport;
use rollcall_model::{OrgId, ProjectId, ServiceKind};
use serde::Deserialize;
use serde_json::Value as Json;
use sqlx::FromRow;
use sqlx::types::Json as Decoded;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;
use crate::listing::{self, Query, Source};
use crate::page::Page;

/// What sessions are created on.
#[derive(Clone, Debug, FromRow)]
pub struct Service {
    pub name: String,
    pub project_id: i64,
    pub kind: String,
    pub state: String,
    pub created_at: OffsetDateTime,
    /// Sessions that are active.
    pub active: i64,
    /// Sessions there ever were.
    pub total: i64,
    /// The relay that speaks for it.
    pub relay_id: Option<Uuid>,
    /// What it counts of itself, in its kind's words, and when it said so.
    pub statistics: Option<Json>,
    pub reported_at: Option<OffsetDateTime>,
    /// How its relay watches it.
    pub watch: Option<Decoded<WatchReport>>,
    /// When its relay was last heard of, by our clock.
    pub heard_at: Option<OffsetDateTime>,
    /// The latest gaps in what is known of it, last to first.
    pub gaps: Decoded<Vec<Gap>>,
}

/// Events that a service will never have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Gap {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub events: Option<i64>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    pub reason: String,
}

/// What services may be narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const NAME: Column = column(r#"name collate "C""#, ColumnKind::Text);
    pub const KIND: Column = column("kind", ColumnKind::Text);
    pub const STATE: Column = column("state", ColumnKind::Text);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);
    pub const RELAY: Column = column("relay_id", ColumnKind::Id);

    const fn column(sql: &'static str, kind: ColumnKind) -> Column {
        Column { sql, kind }
    }
}

pub(crate) const SOURCE: Source = Source {
    table: "services",
    columns: "name, project_id, kind, state, created_at, \
              (select coalesce(sum(c.active), 0)::bigint from service_counts c \
               where c.org_id = services.org_id and c.service = services.name) as active, \
              (select coalesce(sum(c.total), 0)::bigint from service_counts c \
               where c.org_id = services.org_id and c.service = services.name) as total, \
              relay_id, statistics, reported_at, watch, \
              (select r.last_seen_at from relays r where r.org_id = services.org_id and r.id = services.relay_id) as heard_at, \
              (select coalesce(jsonb_agg(to_jsonb(g)), '[]') from ( \
                   select at, events, since, until, reason from gaps g \
                   where g.org_id = services.org_id and g.service = services.name \
                   order by at desc, id desc limit 20) g) as gaps",
    // A relay's may have as many gaps as are shown, each with its reason, and what it says of a broker.
    footprint: "(case when relay_id is null then 512 else 24576 + coalesce(length(watch::text), 0) end)::bigint",
};

/// A page of services.
pub async fn list(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Service>> {
    listing::page(tx, &SOURCE, query).await
}

/// Makes the services of a relay that are not there yet, and answers which of `named` are the relay's, with their kinds: a name that another
/// relay, a project's form intake, another project or another kind has is not. One without a kind may be of any.
pub async fn ensure(
    tx: &mut TenantConn,
    (relay, project): (Uuid, ProjectId),
    named: &BTreeMap<&str, Option<ServiceKind>>,
) -> sqlx::Result<HashMap<String, String>> {
    let own = owned(tx, (relay, project), named).await?;
    if own.len() == named.len() {
        return Ok(own);
    }
    let names: Vec<&str> = named.keys().copied().collect();
    // What is only known to lack events is taken for what relays had first.
    let kinds: Vec<&str> = named
        .values()
        .map(|kind| kind.unwrap_or(ServiceKind::Pager).as_str())
        .collect();
    // In one order, so that two batches at once wait for each other.
    sqlx::query!(
        "insert into services (org_id, name, project_id, kind, relay_id)
         select $1, name, $2, kind, $3 from unnest($4::text[], $5::text[]) n(name, kind) order by name collate \"C\"
         on conflict (org_id, name) do nothing",
        tx.org().0,
        project.get(),
        relay,
        &names as _,
        &kinds as _
    )
    .execute(tx.conn())
    .await?;
    owned(tx, (relay, project), named).await
}

async fn owned(
    tx: &mut TenantConn,
    (relay, project): (Uuid, ProjectId),
    named: &BTreeMap<&str, Option<ServiceKind>>,
) -> sqlx::Result<HashMap<String, String>> {
    let names: Vec<&str> = named.keys().copied().collect();
    let rows = sqlx::query!(
        "select name, kind from services where org_id = $1 and name = any($2) and relay_id = $3 and project_id = $4",
        tx.org().0,
        &names as _,
        relay,
        project.get()
    )
    .fetch_all(tx.conn())
    .await?;
    let is_own = |name: &str, kind: &str| {
        let wanted = named.get(name).copied().flatten();
        wanted.is_none_or(|wanted| wanted.as_str() == kind)
    };
    let own = rows.into_iter().filter(|row| is_own(&row.name, &row.kind));
    Ok(own.map(|row| (row.name, row.kind)).collect())
}

/// Whose a service is.
#[derive(Clone, Debug)]
pub struct Owner {
    pub project_id: i64,
    pub kind: String,
    /// The relay that speaks for it.
    pub relay_id: Option<Uuid>,
}

/// Whose a service is, in `project` alone where one is given.
pub async fn owner(
    tx: &mut TenantConn,
    project: Option<ProjectId>,
    name: &str,
) -> sqlx::Result<Option<Owner>> {
    sqlx::query_as!(
        Owner,
        "select project_id, kind, relay_id from services
         where org_id = $1 and name = $2 and ($3::bigint is null or project_id = $3)",
        tx.org().0,
        name,
        project.map(ProjectId::get)
    )
    .fetch_optional(tx.conn())
    .await
}

/// How a service of a relay stands.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    pub name: &'a str,
    pub at: OffsetDateTime,
    pub statistics: Option<Json>,
    /// How it is watched.
    pub watch: Option<&'a WatchReport>,
}

/// Notes how services stand, where that is newer than what is known. What is not said stays. What is known from a
/// time to come, of a clock that was wrong once, does not keep out what comes after it.
pub async fn note_standing(tx: &mut TenantConn, standings: &[Standing<'_>]) -> sqlx::Result<()> {
    let mut standings: Vec<&Standing<'_>> = standings.iter().collect();
    // Locked in one order; of several of one service the newest.
    standings.sort_by(|a, b| (a.name, b.at).cmp(&(b.name, a.at)));
    standings.dedup_by_key(|standing| standing.name);
    for standing in standings {
        sqlx::query!(
            "update services set statistics = coalesce($3, statistics), reported_at = $4, watch = coalesce($5, watch),
                    state = coalesce($6, state)
             where org_id = $1 and name = $2
             and (reported_at is null or reported_at < $4 or reported_at > now() + interval '1 hour')",
            tx.org().0,
            standing.name,
            standing.statistics,
            standing.at,
            standing.watch.map(Decoded) as _,
            standing.watch.and_then(|watch| watch.state.as_deref())
        )
        .execute(tx.conn())
        .await?;
    }
    Ok(())
}

/// What a transaction adds to a service's counts.
pub(crate) struct Count<'a> {
    pub org: OrgId,
    pub service: &'a str,
    pub active: i64,
    pub total: i64,
}

/// Adds to the counts of services; each is in the transaction's organizations.
pub(crate) async fn count<'a>(
    tx: &mut TenantConn,
    counts: impl Iterator<Item = Count<'a>>,
) -> sqlx::Result<()> {
    let mut sums: BTreeMap<(OrgId, &str), (i64, i64)> = BTreeMap::new();
    for count in counts {
        let sum = sums.entry((count.org, count.service)).or_default();
        *sum = (sum.0 + count.active, sum.1 + count.total);
    }
    for ((org, service), (active, total)) in sums {
        add(tx, org, service, (active, total)).await?;
    }
    Ok(())
}

/// Adds to one service's counts: single values, so that Postgres plans the statement once.
async fn add(
    tx: &mut TenantConn,
    org: OrgId,
    service: &str,
    (active, total): (i64, i64),
) -> sqlx::Result<()> {
    let added = sqlx::query!(
        "update service_counts set active = active + $3, total = total + $4
         where org_id = $1 and service = $2 and slot = (
             select slot from service_counts where org_id = $1 and service = $2 limit 1 for update skip locked
         )",
        org.0,
        service,
        active,
        total
    )
    .execute(tx.conn())
    .await?;
    if added.rows_affected() == 0 {
        sqlx::query!(
            "insert into service_counts (org_id, service, active, total) values ($1, $2, $3, $4)",
            org.0,
            service,
            active,
            total
        )
        .execute(tx.conn())
        .await?;
    }
    Ok(())
}
