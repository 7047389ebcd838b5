//! The server's clock, for devices that sign their requests: the one call without a credential (contract §2.7).

use actix_web::{HttpResponse, get};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::wire::{Success, date};

/// The server's time.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "time": "2026-11-21 09:00:00", "timestamp": 1795251600 }))]
pub struct TimeObject {
    /// `YYYY-MM-DD HH:MM:SS`, UTC.
    time: String,
    /// Seconds since 1970.
    timestamp: i64,
}

/// Show the server's time
#[utoipa::path(tag = "forms", responses((status = 200, description = "The time.", body = Success<TimeObject>)))]
#[get("/api/v1/time")]
pub async fn show_time() -> HttpResponse {
    let now = OffsetDateTime::now_utc();
    let time = TimeObject {
        time: date(now),
        timestamp: now.unix_timestamp(),
    };
    HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(Success::of(time))
}
