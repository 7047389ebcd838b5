//! API keys: who may do what, and where.

use rollcall_model::{OrgId, Permission, ProjectId};
use time::OffsetDateTime;

use crate::{Db, TenantConn};

/// A key as stored. Its secret is not: there is a hash or, for the signed scheme, a salt.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: String,
    /// The one project that the key reaches; all of the organization's where absent.
    pub project_id: Option<i64>,
    pub name: String,
    pub permissions: Vec<String>,
    pub secret_hash: Option<Vec<u8>>,
    pub signed_salt: Option<Vec<u8>>,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub last_used_at: Option<OffsetDateTime>,
}

/// A key to be.
#[derive(Clone, Debug)]
pub struct NewApiKey<'a> {
    pub id: &'a str,
    pub project: Option<ProjectId>,
    pub name: &'a str,
    pub permissions: &'a [Permission],
    pub proof: Proof<'a>,
    pub expires_at: Option<OffsetDateTime>,
}

/// What is kept to check a secret by.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    SecretHash(&'a [u8]),
    SignedSalt(&'a [u8]),
}

/// The key that a request names, before anything else is known of the request: one statement, no transaction.
pub async fn find_for_authentication(
    db: &Db,
    org: OrgId,
    id: &str,
) -> sqlx::Result<Option<ApiKey>> {
    db.directory(async |conn| {
        sqlx::query_as!(
        ApiKey,
        "select id, project_id, name, permissions, secret_hash, signed_salt, created_at, expires_at, revoked_at,
                last_used_at
         from api_keys where org_id = $1 and id = $2",
        org.0,
        id
    )
        .fetch_optional(conn)
        .await
    })
    .await
}

/// Every key of the organization, oldest first.
pub async fn list(tx: &mut TenantConn) -> sqlx::Result<Vec<ApiKey>> {
    sqlx::query_as!(
        ApiKey,
        "select id, project_id, name, permissions, secret_hash, signed_salt, created_at, expires_at, revoked_at,
                last_used_at
         from api_keys where org_id = $1 order by created_at, id",
        tx.org().0
    )
    .fetch_all(tx.conn())
    .await
}

/// Stores a new key. A project of another organization violates `api_keys_org_id_project_id_fkey`.
pub async fn insert(tx: &mut TenantConn, key: &NewApiKey<'_>) -> sqlx::Result<()> {
    let permissions: Vec<String> = key.permissions.iter().map(ToString::to_string).collect();
    let (secret_hash, signed_salt) = match key.proof {
        Proof::SecretHash(hash) => (Some(hash), None),
        Proof::SignedSalt(salt) => (None, Some(salt)),
    };
    sqlx::query!(
        "insert into api_keys (org_id, id, project_id, name, permissions, secret_hash, signed_salt, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        tx.org().0,
        key.id,
        key.project.map(ProjectId::get),
        key.name,
        &permissions,
        secret_hash,
        signed_salt,
        key.expires_at
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}

/// Ends a key; answers whether there was one. Revoking twice keeps the first time.
pub async fn revoke(tx: &mut TenantConn, id: &str) -> sqlx::Result<bool> {
    sqlx::query!(
        "update api_keys set revoked_at = coalesce(revoked_at, now()) where org_id = $1 and id = $2",
        tx.org().0,
        id
    )
    .execute(tx.conn())
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Notes that the key was used. Callers do this at most about once a minute and key; the condition keeps replicas from
/// writing it twice.
pub async fn note_use(tx: &mut TenantConn, id: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update api_keys set last_used_at = now()
         where org_id = $1 and id = $2 and (last_used_at is null or last_used_at < now() - interval '1 minute')",
        tx.org().0,
        id
    )
    .execute(tx.conn())
    .await
    .map(|_| ())
}
