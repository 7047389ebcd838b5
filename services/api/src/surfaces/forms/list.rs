//! List a project's sessions, newest save first (M16).

use actix_web::{HttpResponse, get, web};
use data_encoding::BASE64URL_NOPAD;
use rollcall_model::{Kind, ProjectId, SessionId};
use rollcall_store::PAGE_BYTES;
use rollcall_store::listing::{Condition, Order, Query, Start, Value};
use rollcall_store::sessions::{self, columns};
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::IntoParams;
use uuid::Uuid;

use super::show::flag;
use super::wire::{Page, SessionObject};
use super::{ProjectPath, existing};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;
/// Version, deleted, project, microseconds since 1970, session.
const TOKEN_BYTES: usize = 1 + 1 + 8 + 8 + 16;
const TOKEN_VERSION: u8 = 1;

const BY_SAVE: Order = Order {
    columns: &[columns::SAVED, columns::ID],
    descending: true,
};

/// A place in the listing: behind this session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    saved_at: OffsetDateTime,
    id: SessionId,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// List deleted sessions, and only those.
    #[serde(default, deserialize_with = "flag")]
    #[param(value_type = bool)]
    deleted: bool,
    /// Sessions on a page: 1 to 1,000; 100 where left out. A page of large sessions has fewer.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// List sessions
#[utoipa::path(
    tag = "forms",
    params(("project_id" = i64, Path, description = "The project's number.", example = 1), ListQuery),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of sessions, newest save first.", body = Page<SessionObject>)),
)]
#[get("/projects/{project_id}/sessions")]
pub async fn list_sessions(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    query: web::Query<ListQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    let project = existing(&app, &who, path.project_id).await?;
    let limit = page_limit(query.limit.as_deref())?;
    let deleted = query.deleted;
    let start = match &query.page_token {
        Some(token) => {
            let place = read_token(token, project, deleted).ok_or_else(wrong_token)?;
            Start::After(vec![Value::Time(place.saved_at), Value::Id(place.id.0)])
        }
        None => Start::First,
    };
    let query = Query {
        conditions: vec![
            Condition::equal(columns::KIND, Value::Text(Kind::Form.as_str().to_owned())),
            Condition::equal(columns::PROJECT, Value::Number(project.get())),
            Condition::equal(columns::DELETED, Value::Flag(deleted)),
        ],
        order: BY_SAVE,
        start,
        limit,
        bytes: PAGE_BYTES,
        count_to: None,
    };
    let page = app
        .db
        .tenant(who.org, async |tx| {
            sessions::list(tx, &query).await.map_err(ApiError::from)
        })
        .await?;
    let last = page.rows.last().filter(|_| page.has_more);
    let next = last.map(|last| {
        let place = Place {
            saved_at: last.saved_at,
            id: last.id,
        };
        token(project, deleted, place)
    });
    let objects = page.rows.iter().map(SessionObject::of).collect();
    Ok(HttpResponse::Ok().json(Page::of(objects, next)))
}

/// A `limit` parameter.
pub fn page_limit(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIMIT);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| {
            ApiError::invalid(
                "limit_invalid",
                format!("limit must be a whole number from 1 to {MAX_LIMIT}"),
            )
        })
}

/// The error for a token that this listing did not give.
pub fn wrong_token() -> ApiError {
    ApiError::invalid(
        "page_token_invalid",
        "page_token must be the next_page_token of a page of this same listing, with the same parameters",
    )
}

fn token(project: ProjectId, deleted: bool, place: Place) -> String {
    let micros = i64::try_from(place.saved_at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.extend([TOKEN_VERSION, deleted.into()]);
    bytes.extend(project.get().to_be_bytes());
    bytes.extend(micros.to_be_bytes());
    bytes.extend(place.id.0.as_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

fn read_token(token: &str, project: ProjectId, deleted: bool) -> Option<Place> {
    let bytes: [u8; TOKEN_BYTES] = BASE64URL_NOPAD
        .decode(token.as_bytes())
        .ok()?
        .try_into()
        .ok()?;
    let (listing, place) = bytes.split_at(10);
    let own = [
        &[TOKEN_VERSION, deleted.into()][..],
        &project.get().to_be_bytes(),
    ]
    .concat();
    let micros = i64::from_be_bytes(place[..8].try_into().ok()?);
    let saved_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).ok()?;
    let id = SessionId(Uuid::from_slice(&place[8..]).ok()?);
    (listing == own).then_some(Place { saved_at, id })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_token_reads_back_in_its_own_listing_alone() {
        let (one, two) = (
            ProjectId::new(1).expect("positive"),
            ProjectId::new(2).expect("positive"),
        );
        let place = Place {
            saved_at: datetime!(2026-11-21 09:00:00.000001 UTC),
            id: SessionId(Uuid::from_u128(7)),
        };
        let text = token(one, false, place);
        assert_eq!(read_token(&text, one, false), Some(place));
        assert_eq!(read_token(&text, two, false), None);
        assert_eq!(read_token(&text, one, true), None);
        for wrong in ["", "x", "é", &text[1..], &format!("{text}A")] {
            assert_eq!(read_token(wrong, one, false), None, "{wrong}");
        }
    }
}
