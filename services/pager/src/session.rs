//! A session: one pager handed to one party, from creation to clearing, and the change that
//! observers are told of.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Stamp;
use crate::statistics::Summary;

/// The sequence number that means "unknown": never a global value, and what a session carries
/// after it was restored from storage (pager contract, L5 and L6).
pub const UNKNOWN_SEQUENCE: u16 = u16::MAX;

/// The sequence after `sequence`: 65534 wraps to 0 (pager contract, L5).
pub fn next_sequence(sequence: u16) -> u16 {
    sequence.wrapping_add(1) % UNKNOWN_SEQUENCE
}

/// Where a session is in its life (pager contract, 1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Created and not yet paged.
    Started,
    /// Paged at least once.
    Paged,
    /// Over, and in the history.
    Cleared,
}

/// How a session ended (pager contract, L12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ClearType {
    /// Cleared, by itself or with all others.
    Stop,
    /// Removed.
    Removed,
}

/// One session with everything a store has to keep of it (pager contract, 1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Unique and rising; never used again.
    pub id: u64,
    /// Random, version 4.
    pub uuid: Uuid,
    /// The pager, 1 to 65535.
    pub number: u16,
    /// Guests in the party, at least 1.
    pub party_size: u32,
    /// Seconds within which the party should be paged.
    pub goal_seconds: u32,
    /// When it was created; `started` is printed the same (pager contract, L26).
    pub created: Stamp,
    /// When it was first paged (pager contract, L14).
    pub notified: Option<Stamp>,
    /// When it was cleared or removed.
    pub cleared: Option<Stamp>,
    /// Free text, never empty.
    pub label: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// How it ended; present exactly when it is cleared.
    pub clear_type: Option<ClearType>,
    /// The global sequence at its last change, or [`UNKNOWN_SEQUENCE`].
    pub sequence: u16,
    /// The goal in force at the first page, by which it is late or not whatever the goal becomes
    /// afterwards (pager contract, L15).
    pub paged_goal_seconds: Option<u32>,
}

impl Session {
    /// Whether its life is not over, so that it holds its pager.
    pub fn is_active(&self) -> bool {
        self.state != State::Cleared
    }

    /// Time from creation to first page on the measuring clock.
    pub fn waited(&self) -> Option<Duration> {
        let notified = self.notified?;
        Some(notified.uptime.saturating_sub(self.created.uptime))
    }

    /// Whether it was first paged after the goal in force at that moment.
    pub fn is_late(&self) -> Option<bool> {
        let goal = Duration::from_secs(self.paged_goal_seconds?.into());
        Some(self.waited()? > goal)
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The session is new, whatever the same request did to it besides; its state tells.
    Created,
    /// Fields changed.
    Updated,
    /// Paged, for the first time or again.
    Paged,
    /// Cleared: `STOP`.
    Cleared,
    /// Removed: `REMOVED`.
    Removed,
}

/// One committed change of one session, which is one step of the global sequence and one
/// notification (pager contract, L4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The session after the change; a store writes this row.
    pub session: Session,
    /// What happened.
    pub what: What,
    /// The global sequence after the change.
    pub sequence: u16,
    /// The statistics after the change.
    pub statistics: Summary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_wraps_before_the_reserved_value() {
        assert_eq!(next_sequence(0), 1);
        assert_eq!(next_sequence(65_533), 65_534);
        assert_eq!(next_sequence(65_534), 0);
    }
}
