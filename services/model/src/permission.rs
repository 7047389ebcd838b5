//! What an API key may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One thing that a key may do. `Admin` includes every other permission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Permission {
    /// Read sessions, their attachments, revisions and events.
    #[serde(rename = "sessions:read")]
    SessionsRead,
    /// Create, update and delete sessions and attachments.
    #[serde(rename = "sessions:write")]
    SessionsWrite,
    /// Give commands to services: page a guest, clear, remove, create.
    #[serde(rename = "commands:write")]
    CommandsWrite,
    /// Forward events as a relay.
    #[serde(rename = "events:write")]
    Ingest,
    /// Everything in the key's reach.
    #[serde(rename = "admin")]
    Admin,
}

/// Text that names no permission.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a permission; use sessions:read, sessions:write, commands:write, events:write or admin"
)]
pub struct UnknownPermission(String);

impl Permission {
    /// Every permission, weakest first.
    pub const ALL: [Self; 5] = [
        Self::SessionsRead,
        Self::SessionsWrite,
        Self::CommandsWrite,
        Self::Ingest,
        Self::Admin,
    ];

    /// The name as stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SessionsRead => "sessions:read",
            Self::SessionsWrite => "sessions:write",
            Self::CommandsWrite => "commands:write",
            Self::Ingest => "events:write",
            Self::Admin => "admin",
        }
    }

    /// Whether holding `self` is enough where `wanted` is asked for.
    pub fn includes(self, wanted: Self) -> bool {
        self == wanted || self == Self::Admin
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| UnknownPermission(text.to_owned()))
    }
}
