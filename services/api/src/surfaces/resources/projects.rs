//! Projects: list and show.

use actix_web::{HttpResponse, get, web};
use rollcall_model::ProjectId;
use rollcall_store::PAGE_BYTES;
use rollcall_store::listing::{Condition, Order, Query, Start, Value};
use rollcall_store::projects::{self, columns};
use serde::Deserialize;

use super::Common;
use super::asked::Asked;
use super::document::{Collection, Document, answer};
use super::filters::reach;
use super::paging::Paging;
use super::wire::ProjectResource;
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;

const BY_NUMBER: Order = Order {
    columns: &[columns::ID],
    descending: false,
};

/// A project in a path.
#[derive(Deserialize)]
pub struct ProjectPath {
    project_id: String,
}

/// List projects
///
/// By number.
#[utoipa::path(
    tag = "resources",
    params(
        Paging, Common,
        ("fields[projects]" = Option<String>, Query, description = "Members wanted of projects."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of projects.", body = Collection<ProjectResource>)),
)]
#[get("/projects")]
pub async fn list_projects(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let conditions = reach(&who, columns::ID).into_iter().collect();
    let pager = paging.read(&who, &asked, "projects", (conditions, BY_NUMBER))?;
    let page = app
        .db
        .tenant(who.org, async |tx| {
            projects::page(tx, &pager.query)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let place = |project: &projects::Project| vec![Value::Number(project.project_id)];
    answer(
        &asked,
        &pager.collection(&asked, &page, place, ProjectResource::of),
    )
}

/// Show a project
#[utoipa::path(
    tag = "resources",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        Common,
        ("fields[projects]" = Option<String>, Query, description = "Members wanted of the project."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The project.", body = Document<ProjectResource>)),
)]
#[get("/projects/{project_id}")]
pub async fn get_project(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<ProjectPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let none = || {
        ApiError::not_found(
            "project_not_found",
            "there is no such project in this key's reach",
        )
    };
    // What is no number is no project either.
    let number: ProjectId = path.project_id.parse().map_err(|_| none())?;
    let mut conditions: Vec<Condition> = reach(&who, columns::ID).into_iter().collect();
    conditions.push(Condition::equal(columns::ID, Value::Number(number.get())));
    let query = Query {
        conditions,
        order: BY_NUMBER,
        start: Start::First,
        limit: 1,
        bytes: PAGE_BYTES,
        count_to: None,
    };
    let found = app
        .db
        .tenant(who.org, async |tx| {
            projects::page(tx, &query).await.map_err(ApiError::from)
        })
        .await?;
    let project = found.rows.first().ok_or_else(none)?;
    answer(
        &asked,
        &Document::of(&asked, ProjectResource::of(project, &asked.base)),
    )
}
