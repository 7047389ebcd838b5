//! Attachments' rows: which objects in S3 a session holds, held, or never came to hold.

use std::collections::HashSet;

use rollcall_model::{AttachmentId, ProjectId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;

/// A row whose object may be deleted.
#[derive(Clone, Debug)]
pub struct Retired {
    pub id: Uuid,
    pub project_id: i64,
    pub session_id: Uuid,
}

/// A file that a session holds, or once held.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub id: Uuid,
    pub project_id: i64,
    pub session_id: Uuid,
    pub point: String,
    pub filename: String,
    pub content_type: String,
    /// In bytes.
    pub length: i64,
    /// Lower-case hexadecimal, as the next.
    pub md5: String,
    pub sha256: String,
    pub created_at: OffsetDateTime,
    /// Since when its session no longer holds it.
    pub retired_at: Option<OffsetDateTime>,
}

/// One attachment, in `project` alone where one is given.
pub async fn find(
    tx: &mut TenantConn,
    project: Option<ProjectId>,
    id: AttachmentId,
) -> sqlx::Result<Option<Attachment>> {
    sqlx::query_as!(
        Attachment,
        "select id, project_id, session_id, point, filename, content_type, length, md5, sha256, created_at, retired_at
         from attachments where org_id = $1 and id = $2 and ($3::bigint is null or project_id = $3)",
        tx.org().0,
        id.0,
        project.map(ProjectId::get)
    )
    .fetch_optional(tx.conn())
    .await
}

/// Those of `ids` that there are, in the order of their ids.
pub async fn list(tx: &mut TenantConn, ids: &[AttachmentId]) -> sqlx::Result<Vec<Attachment>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        Attachment,
        "select id, project_id, session_id, point, filename, content_type, length, md5, sha256, created_at, retired_at
         from attachments where org_id = $1 and id = any($2) order by id",
        tx.org().0,
        &ids
    )
    .fetch_all(tx.conn())
    .await
}

/// Which of `ids` have a row; an object without one belongs to nothing.
pub async fn known(tx: &mut TenantConn, ids: &[Uuid]) -> sqlx::Result<HashSet<Uuid>> {
    let rows = sqlx::query_scalar!(
        "select id from attachments where org_id = $1 and id = any($2)",
        tx.org().0,
        ids
    )
    .fetch_all(tx.conn())
    .await?;
    Ok(rows.into_iter().collect())
}

/// Attachments that no session holds any more since more than `keep_seconds`, at most `limit`.
pub async fn list_retired(
    tx: &mut TenantConn,
    keep_seconds: f64,
    limit: i64,
) -> sqlx::Result<Vec<Retired>> {
    sqlx::query_as!(
        Retired,
        "select id, project_id, session_id from attachments
         where org_id = $1 and retired_at < now() - make_interval(secs => $2)
         order by retired_at limit $3",
        tx.org().0,
        keep_seconds,
        limit
    )
    .fetch_all(tx.conn())
    .await
}

/// Forgets retired attachments whose objects are gone. Events keep their names, sizes and hashes.
pub async fn delete_retired(tx: &mut TenantConn, ids: &[Uuid]) -> sqlx::Result<u64> {
    sqlx::query!(
        "delete from attachments where org_id = $1 and id = any($2) and retired_at is not null",
        tx.org().0,
        ids
    )
    .execute(tx.conn())
    .await
    .map(|done| done.rows_affected())
}
