//! Sessions as they stand: reading. Writing is [`crate::changes`]'s alone.

use rollcall_model::{Kind, OrgId, Points, ProjectId, ServiceKind, Session, SessionId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;
use crate::listing::{self, Query, Source};
use crate::page::Page;

/// One session, deleted or not.
pub async fn find(tx: &mut TenantConn, id: SessionId) -> sqlx::Result<Option<Session>> {
    sqlx::query_as!(
        SessionRow,
        r#"select org_id, id, project_id, service, kind, source_id, unit_id, label, username, remote, created_at,
                  saved_at, received_at, received_from, deleted, points as "points: Json<Points>",
                  facts as "facts: Json<Box<RawValue>>", revision
           from sessions where org_id = $1 and id = $2"#,
        tx.org().0,
        id.0
    )
    .fetch_optional(tx.conn())
    .await?
    .map(SessionRow::into_session)
    .transpose()
}

/// Sessions that `name` may mean: the one whose id it is, and those of that name at their sources; at most `limit`, in
/// `project` alone where one is given.
pub async fn find_named(
    tx: &mut TenantConn,
    project: Option<ProjectId>,
    name: &str,
    limit: i64,
) -> sqlx::Result<Vec<Session>> {
    sqlx::query_as!(
        SessionRow,
        r#"select org_id, id, project_id, service, kind, source_id, unit_id, label, username, remote, created_at,
                  saved_at, received_at, received_from, deleted, points as "points: Json<Points>",
                  facts as "facts: Json<Box<RawValue>>", revision
           from sessions
           where org_id = $1 and (id = $2 or source_id collate "C" = $3) and ($4::bigint is null or project_id = $4)
           order by id limit $5"#,
        tx.org().0,
        Uuid::try_parse(name).unwrap_or_default(),
        name,
        project.map(ProjectId::get),
        limit
    )
    .fetch_all(tx.conn())
    .await?
    .into_iter()
    .map(SessionRow::into_session)
    .collect()
}

/// What sessions may be narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const ID: Column = column("id", ColumnKind::Id);
    pub const KIND: Column = column("kind", ColumnKind::Text);
    pub const STATE: Column = column("state", ColumnKind::Text);
    pub const ACTIVE: Column = column("active", ColumnKind::Flag);
    pub const SERVICE: Column = column("service", ColumnKind::Text);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);
    pub const UNIT: Column = column("unit_id", ColumnKind::Text);
    pub const LABEL: Column = column("label", ColumnKind::Text);
    pub const USER: Column = column("username", ColumnKind::Text);
    pub const REMOTE: Column = column("remote", ColumnKind::Text);
    pub const SOURCE_ID: Column = column(r#"source_id collate "C""#, ColumnKind::Text);
    pub const STARTED: Column = column("created_at", ColumnKind::Time);
    pub const SAVED: Column = column("saved_at", ColumnKind::Time);
    pub const UPDATED: Column = column("received_at", ColumnKind::Time);
    pub const DELETED: Column = column("deleted", ColumnKind::Flag);
    /// A pager's.
    pub const NUMBER: Column = column("number", ColumnKind::Number);
    /// These of connections.
    pub const CLIENT: Column = column("client_id", ColumnKind::Text);
    pub const PROTOCOL: Column = column("protocol", ColumnKind::Text);
    pub const INFLIGHT: Column = column("inflight", ColumnKind::Number);
    pub const QUEUE_DEPTH: Column = column("queue_depth", ColumnKind::Number);
    /// Of clients that are connected.
    pub const IDLE_SINCE: Column = column("idle_since", ColumnKind::Time);
    pub const REVISION: Column = column("revision", ColumnKind::Number);

    const fn column(sql: &'static str, kind: ColumnKind) -> Column {
        Column { sql, kind }
    }
}

pub(crate) const SOURCE: Source = Source {
    table: "sessions",
    columns: "org_id, id, project_id, service, kind, source_id, unit_id, label, username, remote, created_at, saved_at, \
              received_at, received_from, deleted, points, number, inflight, queue_depth, idle_since, facts, revision",
    footprint: "footprint",
};

/// A page of sessions.
pub async fn list(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Session>> {
    let page: Page<SessionRow> = listing::page(tx, &SOURCE, query).await?;
    page.try_map(SessionRow::into_session)
}

/// A session as its columns are.
#[derive(sqlx::FromRow)]
pub(crate) struct SessionRow {
    pub org_id: Uuid,
    pub id: Uuid,
    pub project_id: i64,
    pub service: String,
    pub kind: String,
    pub source_id: String,
    pub unit_id: String,
    pub label: Option<String>,
    pub username: Option<String>,
    pub remote: Option<String>,
    pub created_at: OffsetDateTime,
    pub saved_at: OffsetDateTime,
    pub received_at: OffsetDateTime,
    pub received_from: String,
    pub deleted: bool,
    pub points: Json<Points>,
    /// What only its kind has, as JSON: of a pager, the guest's.
    pub facts: Option<Json<Box<RawValue>>>,
    pub revision: i64,
}

impl SessionRow {
    pub(crate) fn into_session(self) -> sqlx::Result<Session> {
        let project = ProjectId::new(self.project_id)
            .ok_or_else(|| sqlx::Error::Decode("project_id is not positive".into()))?;
        let kind: Kind = self
            .kind
            .parse()
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let facts = self.facts.as_ref().map(|facts| facts.0.get());
        let of_pager = facts.filter(|_| kind == Kind::Pager);
        let is_client = matches!(kind.service(), ServiceKind::Broker | ServiceKind::Proxy);
        let of_connection = facts.filter(|_| is_client);
        Ok(Session {
            org: OrgId(self.org_id),
            id: SessionId(self.id),
            project,
            service: self.service,
            kind,
            source_id: self.source_id,
            unit_id: self.unit_id,
            label: self.label,
            user: self.username,
            remote: self.remote,
            created_at: self.created_at,
            saved_at: self.saved_at,
            received_at: self.received_at,
            received_from: self.received_from,
            deleted: self.deleted,
            points: self.points.0,
            pager: of_pager.map(read).transpose()?,
            connection: of_connection.map(read).transpose()?,
            revision: self.revision,
        })
    }
}

fn read<T: DeserializeOwned>(facts: &str) -> sqlx::Result<T> {
    serde_json::from_str(facts).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
