//! What a session was: every event keeps it as it then stood (M4).

use actix_web::{HttpResponse, get, web};
use rollcall_store::PAGE_BYTES;
use rollcall_store::events::{self, Event, columns};
use rollcall_store::listing::{Condition, Order, Query, Start, Value};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::{page_limit, wrong_token};
use super::wire::{Page, SessionObject, date};
use super::{SessionPath, in_reach, no_session, session_id};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;

const NEWEST_FIRST: Order = Order {
    columns: &[columns::REVISION],
    descending: true,
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RevisionsQuery {
    /// Revisions on a page: 1 to 1,000; 100 where left out.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// A session as it was after one of its changes. Files that it no longer holds are described, and kept for a while, but
/// cannot be downloaded.
#[derive(Serialize, ToSchema)]
pub struct RevisionObject {
    /// Counts the session's changes from 1.
    #[schema(example = 2)]
    revision: i64,
    /// What happened: created, replaced, updated, attached, detached, deleted or restored.
    #[schema(example = "updated")]
    event: String,
    /// When it arrived: `YYYY-MM-DD HH:MM:SS`, UTC.
    #[schema(example = "2026-11-21 09:00:00")]
    at: String,
    #[schema(example = 1795251600)]
    at_timestamp: i64,
    session: SessionObject,
    /// What a batch said of itself: its `source` and `recalc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    context: Option<serde_json::Value>,
}

/// List a session's revisions
///
/// Newest first; deleted sessions have theirs too.
#[utoipa::path(
    tag = "forms",
    params(
        ("project_id" = i64, Path, description = "The project's number.", example = 1),
        ("uuid" = String, Path, description = "The session's uuid.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        RevisionsQuery,
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of revisions, newest first.", body = Page<RevisionObject>)),
)]
#[get("/projects/{project_id}/sessions/{uuid}/revisions")]
pub async fn list_revisions(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<SessionPath>,
    query: web::Query<RevisionsQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let project = in_reach(&who, path.project_id)?;
    let limit = page_limit(query.limit.as_deref())?;
    let start = match query.page_token.as_deref() {
        Some(token) => {
            let before: Option<i64> = token.parse().ok();
            // A token names a revision that has another below it.
            let before = before.filter(|at| *at > 1).ok_or_else(wrong_token)?;
            Start::After(vec![Value::Number(before)])
        }
        None => Start::First,
    };
    let id = session_id(&who, project, &path.uuid);
    let query = Query {
        conditions: vec![Condition::equal(columns::SESSION, Value::Id(id.0))],
        order: NEWEST_FIRST,
        start,
        limit,
        bytes: PAGE_BYTES,
        count_to: None,
    };
    let page = app
        .db
        .tenant(who.org, async |tx| {
            events::list(tx, &query).await.map_err(ApiError::from)
        })
        .await?;
    if page.rows.is_empty() {
        return Err(no_session());
    }
    let last = page.rows.last().filter(|_| page.has_more);
    let next = last.map(|last| last.revision.to_string());
    let objects = page.rows.into_iter().map(RevisionObject::of).collect();
    Ok(HttpResponse::Ok().json(Page::of(objects, next)))
}

impl RevisionObject {
    fn of(row: Event) -> Self {
        Self {
            revision: row.revision,
            event: row.event_type,
            at: date(row.at),
            at_timestamp: row.at.unix_timestamp(),
            session: SessionObject::of(&row.session),
            context: row.context,
        }
    }
}
