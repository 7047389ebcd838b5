//! Services: what sessions are created on, and how many each has.
//!
//! The counts are kept in several rows a service. A writer adds to one that no other transaction holds, or makes
//! another, so that writers never wait for each other here.

use std::collections::BTreeMap;

use rollcall_model::OrgId;
use sqlx::FromRow;
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
}

/// What services may be narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const NAME: Column = column(r#"name collate "C""#, ColumnKind::Text);
    pub const KIND: Column = column("kind", ColumnKind::Text);
    pub const STATE: Column = column("state", ColumnKind::Text);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);

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
               where c.org_id = services.org_id and c.service = services.name) as total",
    footprint: "512::bigint",
};

/// A page of services.
pub async fn list(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Service>> {
    listing::page(tx, &SOURCE, query).await
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
    if sums.is_empty() {
        return Ok(());
    }
    let orgs: Vec<Uuid> = sums.keys().map(|(org, _)| org.0).collect();
    let services: Vec<String> = sums.keys().map(|(_, name)| (*name).to_owned()).collect();
    let active: Vec<i64> = sums.values().map(|sum| sum.0).collect();
    let total: Vec<i64> = sums.values().map(|sum| sum.1).collect();
    sqlx::query!(
        "with added as (
             select n.*, free.slot
             from unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[]) n(org_id, service, active, total)
             left join lateral (
                 select c.slot from service_counts c where c.org_id = n.org_id and c.service = n.service
                 limit 1 for update skip locked
             ) free on true
         ), done as (
             update service_counts c set active = c.active + a.active, total = c.total + a.total
             from added a where c.org_id = a.org_id and c.service = a.service and c.slot = a.slot
         )
         insert into service_counts (org_id, service, active, total)
         select org_id, service, active, total from added where slot is null",
        &orgs,
        &services,
        &active,
        &total
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}
