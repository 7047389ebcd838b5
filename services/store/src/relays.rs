//! Relays: who forwards events of services that the cloud does not reach, and how they are doing.

use rollcall_model::ProjectId;
use rollcall_model::ingest::RelayReport;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;
use crate::listing::{self, Query, Source};
use crate::page::Page;

/// A relay, and what it last said of itself.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Relay {
    pub id: Uuid,
    pub project_id: i64,
    pub name: String,
    /// The key that it forwards with.
    pub key_id: String,
    pub created_at: OffsetDateTime,
    /// When it was last heard of; never, where absent.
    pub last_seen_at: Option<OffsetDateTime>,
    pub version: Option<String>,
    /// Events that wait in its spool, the bytes of it, and when the oldest of them happened.
    pub spool_events: i64,
    pub spool_bytes: i64,
    pub spool_oldest_at: Option<OffsetDateTime>,
    /// Events of its that were refused.
    pub set_aside: i64,
}

/// What relays are narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const ID: Column = column("id", ColumnKind::Id);
    pub const NAME: Column = column(r#"name collate "C""#, ColumnKind::Text);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);

    const fn column(sql: &'static str, kind: ColumnKind) -> Column {
        Column { sql, kind }
    }
}

const SOURCE: Source = Source {
    table: "relays",
    columns: "id, project_id, name, key_id, created_at, last_seen_at, version, spool_events, spool_bytes, \
              spool_oldest_at, set_aside",
    footprint: "1024::bigint",
};

/// A page of relays.
pub async fn page(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Relay>> {
    listing::page(tx, &SOURCE, query).await
}

/// Every relay of the organization, by name.
pub async fn list(tx: &mut TenantConn) -> sqlx::Result<Vec<Relay>> {
    sqlx::query_as!(
        Relay,
        r#"select id, project_id, name, key_id, created_at, last_seen_at, version, spool_events, spool_bytes,
                  spool_oldest_at, set_aside
           from relays where org_id = $1 order by name collate "C""#,
        tx.org().0
    )
    .fetch_all(tx.conn())
    .await
}

/// The relay that forwards with the key.
pub async fn find_by_key(tx: &mut TenantConn, key_id: &str) -> sqlx::Result<Option<Relay>> {
    sqlx::query_as!(
        Relay,
        "select id, project_id, name, key_id, created_at, last_seen_at, version, spool_events, spool_bytes,
                spool_oldest_at, set_aside
         from relays where org_id = $1 and key_id = $2",
        tx.org().0,
        key_id
    )
    .fetch_optional(tx.conn())
    .await
}

/// Stores a new relay. A name that is taken violates `relays_by_name`.
pub async fn insert(
    tx: &mut TenantConn,
    project: ProjectId,
    name: &str,
    key_id: &str,
) -> sqlx::Result<Relay> {
    sqlx::query_as!(
        Relay,
        "insert into relays (org_id, id, project_id, name, key_id) values ($1, $2, $3, $4, $5)
         returning id, project_id, name, key_id, created_at, last_seen_at, version, spool_events, spool_bytes,
                   spool_oldest_at, set_aside",
        tx.org().0,
        Uuid::now_v7(),
        project.get(),
        name,
        key_id
    )
    .fetch_one(tx.conn())
    .await
}

/// Notes what a relay says of itself, as of now.
pub async fn note_report(
    tx: &mut TenantConn,
    relay: Uuid,
    report: &RelayReport,
) -> sqlx::Result<()> {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    sqlx::query!(
        "update relays set last_seen_at = now(), version = $3, spool_events = $4, spool_bytes = $5,
                spool_oldest_at = $6, set_aside = $7
         where org_id = $1 and id = $2",
        tx.org().0,
        relay,
        report.version,
        count(report.spool.events),
        count(report.spool.bytes),
        report.spool.oldest,
        count(report.spool.set_aside)
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}
