//! Services: what sessions are created on, and how many each has.
//!
//! The counts are kept in several rows a service. A writer adds to one that no other transaction holds, or makes
//! another, so that writers never wait for each other here.

use std::collections::BTreeMap;

use rollcall_model::OrgId;
use sqlx::FromRow;
use time::OffsetDateTime;

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
