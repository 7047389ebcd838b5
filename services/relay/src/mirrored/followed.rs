//! How it goes with a box, for people and machines: the mirrors say it, the monitor reads it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Whether a box is followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// It is observed, and was read since anything was missed: what the mirror says is what the box says.
    pub is_followed: bool,
    /// When it last said anything.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_heard: Option<OffsetDateTime>,
    /// Why it is not followed, in words.
    pub trouble: Option<String>,
}
