//! The directory of organizations: the only tenant rows that are seen before a tenant is known.

use rollcall_model::OrgId;
use time::OffsetDateTime;

use crate::Db;

/// A tenant.
#[derive(Clone, Debug)]
pub struct Organization {
    pub org_id: OrgId,
    pub name: String,
    pub created_at: OffsetDateTime,
}

/// Every organization, oldest first.
pub async fn list(db: &Db) -> sqlx::Result<Vec<Organization>> {
    db.directory(async |conn| {
        sqlx::query_as!(
            Organization,
            "select org_id, name, created_at from organizations order by org_id"
        )
        .fetch_all(conn)
        .await
    })
    .await
}

/// The organization of that name.
pub async fn find(db: &Db, name: &str) -> sqlx::Result<Option<Organization>> {
    db.directory(async |conn| {
        sqlx::query_as!(
            Organization,
            "select org_id, name, created_at from organizations where name = $1",
            name
        )
        .fetch_optional(conn)
        .await
    })
    .await
}

/// A new organization; a taken name violates `organizations_name_key`.
pub async fn insert(db: &Db, name: &str) -> sqlx::Result<Organization> {
    db.directory(async |conn| {
        sqlx::query_as!(
            Organization,
            "insert into organizations (org_id, name) values ($1, $2)
           returning org_id, name, created_at",
            OrgId::generate().0,
            name
        )
        .fetch_one(conn)
        .await
    })
    .await
}
