//! Orders from the cloud to a service behind a relay: what a relay fetches, and what it reports of each.
//!
//! A relay asks `GET /v1/relays/commands?wait=<seconds>` on its outgoing connection, carries each command out at most once, and
//! reports in its next batch ([`crate::ingest::Batch`]). Until it has, it is told of the command again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

/// The answer to a relay that asks for commands; empty where none came in the time that it would wait.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Commands {
    /// Oldest first; of one service in the order in which they were given.
    pub commands: Vec<Command>,
}

/// Something for a service to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// By which a repeat is recognized, over restarts of the relay too.
    pub id: Uuid,
    pub service: String,
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// After this it must not be carried out: nobody is paged an hour late.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
    #[serde(flatten)]
    pub order: Order,
}

/// What to do, in the words of the pager contract (1.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub enum Order {
    /// Begin a session; where the pager has one, it is changed (L1).
    Create {
        number: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        goal: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        party_size: Option<u32>,
    },
    /// Page the guest.
    Page {
        /// The session that is meant: where the pager has another one by now, nothing is done.
        session: Uuid,
        number: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page_mode: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Clear {
        session: Uuid,
        number: u16,
    },
    Remove {
        session: Uuid,
        number: u16,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandReport {
    pub command: Uuid,
    pub status: CommandStatus,
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The transmitter's own answer: its code, such as `2.04`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The transmitter's own answer: its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// In words, where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandStatus {
    /// The transmitter did it.
    Done,
    /// The transmitter would not.
    Refused,
    /// It did not reach the transmitter in its time.
    Expired,
    /// The transmitter may have done it or not: there was no answer, and asking again might page a person twice.
    Unknown,
}
