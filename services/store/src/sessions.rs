//! Sessions as they stand: reading. Writing is [`crate::changes`]'s alone.

use rollcall_model::{OrgId, Points, ProjectId, Session, SessionId};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;
use crate::page::{self, Page};

/// A place in the order of [`list`]: the last row of the page before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub saved_at: OffsetDateTime,
    pub id: SessionId,
}

impl Place {
    /// The place of a session.
    pub fn of(session: &Session) -> Self {
        Self {
            saved_at: session.saved_at,
            id: session.id,
        }
    }
}

/// One session, deleted or not.
pub async fn find(tx: &mut TenantConn, id: SessionId) -> sqlx::Result<Option<Session>> {
    sqlx::query_as!(
        SessionRow,
        r#"select org_id, id, project_id, service, kind, source_id, unit_id, created_at, saved_at, received_at,
                  received_from, deleted, points as "points: Json<Points>", revision
           from sessions where org_id = $1 and id = $2"#,
        tx.org().0,
        id.0
    )
    .fetch_optional(tx.conn())
    .await?
    .map(SessionRow::into_session)
    .transpose()
}

/// A page of a project's sessions, newest save first, from below `after` on; at most `limit`, fewer where they are large.
/// The cost does not grow with depth.
pub async fn list(
    tx: &mut TenantConn,
    project: ProjectId,
    deleted: bool,
    after: Option<Place>,
    limit: usize,
) -> sqlx::Result<Page<Session>> {
    page::fill(limit, Session::footprint, async |last, count| {
        let after = last.map(Place::of).or(after);
        rows(tx, project, deleted, after, count).await
    })
    .await
}

async fn rows(
    tx: &mut TenantConn,
    project: ProjectId,
    deleted: bool,
    after: Option<Place>,
    limit: i64,
) -> sqlx::Result<Vec<Session>> {
    let after = after.unwrap_or(Place {
        saved_at: FAR_FUTURE,
        id: SessionId(Uuid::max()),
    });
    sqlx::query_as!(
        SessionRow,
        r#"select org_id, id, project_id, service, kind, source_id, unit_id, created_at, saved_at, received_at,
                  received_from, deleted, points as "points: Json<Points>", revision
           from sessions
           where org_id = $1 and project_id = $2 and deleted = $3 and (saved_at, id) < ($4, $5)
           order by saved_at desc, id desc limit $6"#,
        tx.org().0,
        project.get(),
        deleted,
        after.saved_at,
        after.id.0,
        limit
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(SessionRow::into_session)
    .collect()
}

/// Later than any time that a surface accepts.
const FAR_FUTURE: OffsetDateTime = time::macros::datetime!(9999-12-31 23:59:59.999999 UTC);

/// A session as its columns are.
pub(crate) struct SessionRow {
    pub org_id: Uuid,
    pub id: Uuid,
    pub project_id: i64,
    pub service: String,
    pub kind: String,
    pub source_id: String,
    pub unit_id: String,
    pub created_at: OffsetDateTime,
    pub saved_at: OffsetDateTime,
    pub received_at: OffsetDateTime,
    pub received_from: String,
    pub deleted: bool,
    pub points: Json<Points>,
    pub revision: i64,
}

impl SessionRow {
    pub(crate) fn into_session(self) -> sqlx::Result<Session> {
        let project = ProjectId::new(self.project_id)
            .ok_or_else(|| sqlx::Error::Decode("project_id is not positive".into()))?;
        Ok(Session {
            org: OrgId(self.org_id),
            id: SessionId(self.id),
            project,
            service: self.service,
            kind: self
                .kind
                .parse()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            source_id: self.source_id,
            unit_id: self.unit_id,
            created_at: self.created_at,
            saved_at: self.saved_at,
            received_at: self.received_at,
            received_from: self.received_from,
            deleted: self.deleted,
            points: self.points.0,
            revision: self.revision,
        })
    }
}
