//! The pager transmitter as a state machine: sessions, history, statistics, settings and the JSON
//! of its CoAP resources, to the letter of `pager-coap.md` ("pager contract" in this crate).
//!
//! Pure: no socket, no CoAP library, no clock, no storage, no async. The caller hands in requests
//! and both clocks' readings, and stores, transmits and notifies what comes back.

mod body;
mod clock;
pub mod mirror;
mod request;
mod routes;
mod session;
mod sessions;
mod settings;
mod statistics;
mod table;
mod tick;
mod transmitter;
mod wire;

#[cfg(test)]
mod tests;

pub use body::{DEFAULT_PAGE_MODE, MAX_GOAL_SECONDS, MAX_TEXT_BYTES, PAGE_MODES};
pub use clock::{ClockMark, DeviceTime, Now, Stamp};
pub use request::{Code, Effects, Method, Page, Reply, Request};
pub use routes::refuse_query;
pub use session::{Change, ClearType, Session, State, UNKNOWN_SEQUENCE, What, next_sequence};
pub use settings::{NEVER, Settings};
pub use statistics::{Statistics, Summary};
pub use transmitter::{Config, Meta, Snapshot, SnapshotError, Transmitter};
