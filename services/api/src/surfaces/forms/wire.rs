//! The forms contract's answers: `{status, result, message}` and the session object (§2.2, §2.3, M17).

use rollcall_model::{Points, Rejection, Session};
use rollcall_store::changes::Outcome;
use rollcall_telemetry::SessionChangeLabels;
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use utoipa::ToSchema;

use super::{no_project, no_session};
use crate::App;
use crate::error::{ApiError, Problem};
use crate::idempotency::Reply;

/// Dates as the vendor prints them, in UTC.
const DATE: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// A successful answer.
#[derive(Serialize, ToSchema)]
pub struct Success<T> {
    /// Always `success`.
    #[schema(example = "success")]
    status: &'static str,
    /// Always `success`.
    #[schema(example = "success")]
    message: &'static str,
    result: T,
}

/// A page of a listing.
#[derive(Serialize, ToSchema)]
pub struct Page<T> {
    /// Always `success`.
    #[schema(example = "success")]
    status: &'static str,
    /// Always `success`.
    #[schema(example = "success")]
    message: &'static str,
    result: Vec<T>,
    /// Give it back as `page_token` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// A form session (contract §2.3).
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "uuid": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11",
    "unit_id": "mydevice",
    "created": "2009-02-13 23:31:30",
    "created_timestamp": 1234567890,
    "saved": "2009-02-13 23:31:30",
    "saved_timestamp": 1234567890,
    "received": "2026-11-21 09:00:00",
    "received_timestamp": 1795251600,
    "received_from": "rk_ahk3hcgv6f7r3nqkz5c4o6x2pe2k7i5xw3dd5ya",
    "is_deleted": false,
    "data": {
        "point1": "value1",
        "sketch1": { "rawData": "AAECAw==" },
        "photo": {
            "filename": "photo.jpg",
            "content_type": "image/jpeg",
            "length": 48213,
            "md5": "9e107d9d372bb6826bd81d3542a419d6",
            "sha256": "d7a8fbb307d7809469ca9abcb0082e4f8d5651e46d3cdb762d02d0bf37c9e592",
            "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"
        }
    }
}))]
pub struct SessionObject {
    /// The client's name for the session, or a UUIDv4 made for it.
    uuid: String,
    /// The device that created or last edited the session.
    unit_id: String,
    /// `YYYY-MM-DD HH:MM:SS`, UTC.
    created: String,
    created_timestamp: i64,
    saved: String,
    saved_timestamp: i64,
    received: String,
    received_timestamp: i64,
    /// The id of the key that made or last changed the session.
    received_from: String,
    is_deleted: bool,
    /// The points, by lower-case name: a text, `{"rawData": ".."}`, or the description of a file.
    #[schema(value_type = Object)]
    data: Points,
    /// Present where asked for with `include_sub_sessions`; Rollcall has no sub projects, so it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    sub_project_sessions: Option<Map<String, Value>>,
}

impl<T> Success<T> {
    pub fn of(result: T) -> Self {
        Self {
            status: "success",
            message: "success",
            result,
        }
    }
}

impl<T> Page<T> {
    pub fn of(result: Vec<T>, next_page_token: Option<String>) -> Self {
        Self {
            status: "success",
            message: "success",
            result,
            next_page_token,
        }
    }
}

impl SessionObject {
    pub fn of(session: &Session) -> Self {
        Self {
            uuid: session.source_id.clone(),
            unit_id: session.unit_id.clone(),
            created: date(session.created_at),
            created_timestamp: session.created_at.unix_timestamp(),
            saved: date(session.saved_at),
            saved_timestamp: session.saved_at.unix_timestamp(),
            received: date(session.received_at),
            received_timestamp: session.received_at.unix_timestamp(),
            received_from: session.received_from.clone(),
            is_deleted: session.deleted,
            data: session.points.clone(),
            sub_project_sessions: None,
        }
    }

    pub fn with_sub_sessions(mut self) -> Self {
        self.sub_project_sessions = Some(Map::new());
        self
    }
}

/// `YYYY-MM-DD HH:MM:SS`
pub fn date(at: OffsetDateTime) -> String {
    at.format(DATE)
        .expect("the format has only what a time has")
}

/// The session that a change left, counted; or why there is none.
pub fn settled(app: &App, outcome: Outcome) -> Result<Session, ApiError> {
    let (label, settled) = match outcome {
        Outcome::Applied { session, event } => (event.as_str(), Ok(session)),
        Outcome::Repeat { session } => ("repeat", Ok(session)),
        Outcome::Rejected(rejection) => ("rejected", Err(refusal(&rejection))),
    };
    let labels = SessionChangeLabels {
        kind: "form",
        outcome: label,
    };
    app.metrics
        .session_changes_total
        .get_or_create(&labels)
        .inc();
    settled
}

/// Why a change was not made, as an error.
pub fn refusal(rejection: &Rejection) -> ApiError {
    match rejection {
        Rejection::NoProject => no_project(),
        Rejection::NoSession => no_session(),
        Rejection::NoAttachment => no_attachment(),
        Rejection::NotTheFile(point) => ApiError::invalid(
            "file_not_there",
            format!(
                "session[data][{point}] describes a file that the session does not hold; send the file itself"
            ),
        ),
        Rejection::TooManyPoints { limit } => ApiError::invalid(
            "too_many_points",
            format!("the session would have more than {limit} points (limit: points)"),
        ),
        Rejection::TooLarge { limit } => ApiError::too_large(
            "session_too_large",
            format!("the session's values would have more than {limit} bytes (limit: body)"),
        ),
        Rejection::EventTaken => ApiError::Conflict(Problem::new(
            "event_taken",
            "an event of another session has this id",
        )),
        Rejection::BatchTooLarge => ApiError::too_large(
            "batch_too_large",
            "the batch asks for too many changes of large sessions at once; send it in smaller batches",
        ),
    }
}

/// The error for a point without a file.
pub fn no_attachment() -> ApiError {
    ApiError::not_found(
        "attachment_not_found",
        "this point of the session holds no file",
    )
}

/// The answer that shows a session.
pub fn session_reply(session: &Session) -> Result<Reply, ApiError> {
    Ok(Reply::ok(&Success::of(SessionObject::of(session)))?.holding(session))
}
