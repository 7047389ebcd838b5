//! The facts that the roll keeps about a session.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happened to a session. Stored and shown in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventType {
    /// The session is new.
    Created,
    /// A create on an existing session took its place (forms-http contract, M4).
    Replaced,
    /// Values were merged into the session.
    Updated,
    /// A file was stored in a point.
    Attached,
    /// A point's file was taken away.
    Detached,
    /// The session was deleted; its data stays (M12).
    Deleted,
    /// A deleted session came back (M11).
    Restored,
    /// A guest was paged, perhaps not for the first time.
    Paged,
    /// A guest's session ended: the guest came.
    Cleared,
    /// A session ended: a guest's was taken off the roll, or a broker let go of one that it had kept.
    Removed,
    /// A client connected, perhaps not for the first time.
    Connected,
    /// A client is no longer connected.
    Disconnected,
    /// A command that names the session was given; nothing of the session changed.
    Commanded,
    /// A command that names the session came to an end; nothing of the session changed.
    #[serde(rename = "command_finished")]
    CommandFinished,
}

impl EventType {
    /// The name as stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Updated => "updated",
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
            Self::Paged => "paged",
            Self::Cleared => "cleared",
            Self::Removed => "removed",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Commanded => "commanded",
            Self::CommandFinished => "command_finished",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
