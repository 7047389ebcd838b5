//! Events: the immutable facts about sessions, written by [`crate::changes`] alone.

use rollcall_model::{Session, SessionId};
use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;

use crate::TenantConn;
use crate::page::{self, Page};

/// One change of a session, with the session as it then was.
#[derive(Clone, Debug)]
pub struct Revision {
    pub revision: i64,
    pub event: String,
    pub at: OffsetDateTime,
    pub session: Json<Session>,
    pub context: Option<Value>,
}

/// A page of the session's revisions below `before` (all where absent), newest first; at most `limit`, fewer where they
/// are large.
pub async fn list_revisions(
    tx: &mut TenantConn,
    session: SessionId,
    before: Option<i64>,
    limit: usize,
) -> sqlx::Result<Page<Revision>> {
    let size = |row: &Revision| row.session.footprint();
    page::fill(limit, size, async |last, count| {
        let before = last.map(|row| row.revision).or(before);
        rows(tx, session, before, count).await
    })
    .await
}

async fn rows(
    tx: &mut TenantConn,
    session: SessionId,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Revision>> {
    sqlx::query_as!(
        Revision,
        r#"select revision, type as event, at, session as "session: Json<Session>", context from events
           where org_id = $1 and session_id = $2 and revision < $3
           order by revision desc limit $4"#,
        tx.org().0,
        session.0,
        before.unwrap_or(i64::MAX),
        limit
    )
    .fetch_all(tx.conn())
    .await
}
