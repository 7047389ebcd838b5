//! What relays send, and what they are answered: the bodies of `POST /v1/ingest`.
//!
//! A batch is read in two steps: [`Batch`] whole, then each event by itself, so that one that cannot be read is refused
//! alone.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::command::CommandReport;

/// Events of one relay, in the order in which they happened on each service.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch {
    pub relay: RelayReport,
    /// Services that the relay speaks for, as they stand; those without news may be left out.
    #[serde(default)]
    pub services: Vec<ServiceReport>,
    /// Each an [`IngestEvent`]. May be empty: then the relay only says that it is there.
    #[serde(default)]
    pub events: Vec<Box<RawValue>>,
    /// What became of commands; an answer of success means that all are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<CommandReport>,
}

/// A relay about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayReport {
    /// Of its program.
    pub version: String,
    pub spool: SpoolReport,
}

/// What waits at a relay to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolReport {
    /// Events that wait.
    pub events: u64,
    /// Bytes of the spool's file.
    pub bytes: u64,
    /// When the oldest that waits happened.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub oldest: Option<OffsetDateTime>,
    /// Events that the cloud refused and that were set aside, since the spool was made.
    #[serde(default)]
    pub set_aside: u64,
}

/// A service as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    pub name: String,
    /// What its sessions are: `pager`.
    pub kind: String,
    /// When it stood so, by the relay's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What the service counts of itself; of a transmitter its statistics (pager contract, 1.4), in the store's spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<PagerStatistics>,
}

/// A transmitter's statistics (pager contract, 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagerStatistics {
    /// Guests that were paged.
    pub guests_served: u64,
    /// Share of these paged after the goal, in percent.
    pub percent_late: u8,
    /// Share of these paged within the goal, in percent.
    pub percent_on_time: u8,
    /// Mean seconds from the session's begin to its page.
    pub average_time_served: u64,
    /// Sessions created.
    pub sessions: u64,
}

/// One thing that happened at a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngestEvent {
    /// Always the same for the same event: see [`event_id`].
    pub id: Uuid,
    pub service: String,
    /// The spool that the event was first written to: [`Self::sequence`] counts in there. Nil where the relay never had
    /// another.
    #[serde(default)]
    pub spool: Uuid,
    /// Counts the service's events in its relay's spool from 1.
    pub sequence: u64,
    /// When it happened, by the relay's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Happening {
    /// A session began; where it began with a page, it is `paged` already.
    Created { session: PagerSession },
    /// A guest was paged, perhaps not for the first time.
    Paged { session: PagerSession },
    /// A session ended: the guest came.
    Cleared { session: PagerSession },
    /// A session ended: it was taken off the roll.
    Removed { session: PagerSession },
    /// What is known of a session changed.
    Updated { session: PagerSession },
    /// Events are missing before this one.
    Gap { gap: Gap },
}

/// A guest with a pager, as after the event (pager contract, 1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagerSession {
    /// The session's name at its source.
    pub uuid: Uuid,
    /// The transmitter's own number for it.
    pub id: u64,
    /// The pager's number: 1 to 65535.
    pub number: u16,
    pub party_size: u32,
    pub goal_seconds: u32,
    pub state: PagerState,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When the guest was paged first.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub notified: Option<OffsetDateTime>,
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub cleared: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_type: Option<ClearType>,
    /// The transmitter's `sessionSequence` of the change.
    pub session_sequence: u16,
}

/// How a guest's session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PagerState {
    Started,
    Paged,
    Cleared,
}

/// How a guest's session ended; in JSON as the transmitter says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClearType {
    Stop,
    Removed,
}

/// Events that will never come, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// When the first of them happened, as far as is known.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub since: Option<OffsetDateTime>,
    /// When the last did.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub until: Option<OffsetDateTime>,
    /// In words: `the spool was full` ...
    pub reason: String,
}

/// The answer to a batch: a verdict for each of its events, in their order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    pub verdicts: Vec<Verdict>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The event's, or nil where it could not be read.
    pub id: Uuid,
    pub status: VerdictStatus,
    /// Of a refused event, what is wrong with it: a stable code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictStatus {
    /// It is in the store now.
    Stored,
    /// It was already.
    Repeated,
    /// It will not be, however often it is sent.
    Refused,
}

/// The id of an event: it follows from the spool that it was first written to, its service, and its place there. So a repeat
/// has the id of the first.
pub fn event_id(spool: Uuid, service: &str, sequence: u64) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"rollcall event\0");
    context.update(spool.as_bytes());
    context.update(&sequence.to_be_bytes());
    context.update(service.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Uuid::new_v8(bytes)
}
