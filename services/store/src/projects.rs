//! Projects, each with the service that its forms are created on.

use rollcall_model::{Kind, ProjectId, forms_service};
use time::OffsetDateTime;

use crate::TenantConn;
use crate::listing::{self, Query, Source};
use crate::page::Page;

/// A scope inside an organization.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Project {
    pub project_id: i64,
    pub name: String,
    pub created_at: OffsetDateTime,
}

/// Every project of the organization, by number.
pub async fn list(tx: &mut TenantConn) -> sqlx::Result<Vec<Project>> {
    sqlx::query_as!(
        Project,
        "select project_id, name, created_at from projects where org_id = $1 order by project_id",
        tx.org().0
    )
    .fetch_all(tx.conn())
    .await
}

/// What projects are narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const ID: Column = Column {
        sql: "project_id",
        kind: ColumnKind::Number,
    };
}

const SOURCE: Source = Source {
    table: "projects",
    columns: "project_id, name, created_at",
    footprint: "512::bigint",
};

/// A page of projects.
pub async fn page(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Project>> {
    listing::page(tx, &SOURCE, query).await
}

/// Whether the organization has the project.
pub async fn exists(tx: &mut TenantConn, project: ProjectId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from projects where org_id = $1 and project_id = $2) as "exists!""#,
        tx.org().0,
        project.get()
    )
    .fetch_one(tx.conn())
    .await
}

/// A new project, with the next number of the system, and its form intake.
pub async fn insert(tx: &mut TenantConn, name: &str) -> sqlx::Result<Project> {
    let project = sqlx::query_as!(
        Project,
        "insert into projects (org_id, name) values ($1, $2) returning project_id, name, created_at",
        tx.org().0,
        name
    )
    .fetch_one(tx.conn())
    .await?;
    let number = ProjectId::new(project.project_id).expect("the sequence starts at 1");
    sqlx::query!(
        "insert into services (org_id, name, project_id, kind) values ($1, $2, $3, $4)",
        tx.org().0,
        forms_service(number),
        project.project_id,
        Kind::Form.as_str()
    )
    .execute(tx.conn())
    .await?;
    Ok(project)
}
