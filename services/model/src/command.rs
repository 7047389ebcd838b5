//! Orders from the cloud to a service behind a relay: what a relay fetches, and what it reports of each.
//!
//! A relay asks `GET /v1/relays/commands?wait=<seconds>` on its outgoing connection, carries each command out at most once, and
//! reports in its next batch ([`crate::ingest::Batch`]). Until it has, it is told of the command again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::OutOfRange;
use crate::pager::{MAX_GOAL_SECONDS, MAX_PARTY};
use crate::report::{text, time};

/// Bytes of a transmitter's answer that are kept, as JSON.
const MAX_ANSWER_BYTES: usize = 16 << 10;
/// Bytes of a code, and of a detail, that are kept.
const MAX_CODE_BYTES: usize = 100;
const MAX_DETAIL_BYTES: usize = 1_000;

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

impl Order {
    /// What is to be done, as stored and as shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Page { .. } => "page",
            Self::Clear { .. } => "clear",
            Self::Remove { .. } => "remove",
        }
    }

    /// The pager's number.
    pub fn number(&self) -> u16 {
        match self {
            Self::Create { number, .. }
            | Self::Page { number, .. }
            | Self::Clear { number, .. }
            | Self::Remove { number, .. } => *number,
        }
    }

    /// Whether every value is in range; what is out of range is named as in `data.attributes` of a request.
    pub fn check(&self) -> Result<(), OutOfRange> {
        if self.number() == 0 {
            return Err(OutOfRange("number is from 1 to 65535".to_owned()));
        }
        match self {
            Self::Create {
                goal,
                label,
                party_size,
                ..
            } => {
                if goal.is_some_and(|goal| goal > MAX_GOAL_SECONDS) {
                    let message = format!("goal is from 0 to {MAX_GOAL_SECONDS}");
                    return Err(OutOfRange(message));
                }
                if party_size.is_some_and(|size| !(1..=MAX_PARTY).contains(&size)) {
                    let message = format!("party_size is from 1 to {MAX_PARTY}");
                    return Err(OutOfRange(message));
                }
                label
                    .as_deref()
                    .map_or(Ok(()), |label| text("label", label))
            }
            Self::Page {
                page_mode, message, ..
            } => {
                let mode = page_mode.as_deref().map(|mode| text("pageMode", mode));
                mode.unwrap_or(Ok(()))?;
                let message = message.as_deref().map(|message| text("message", message));
                message.unwrap_or(Ok(()))
            }
            Self::Clear { .. } | Self::Remove { .. } => Ok(()),
        }
    }
}

impl CommandReport {
    /// The report as it is kept: whatever else it says, how a command ended is not refused. A time that is out of range is
    /// `now`, texts are cut, and an answer that is too large, or that Postgres does not know how to keep, is left out.
    pub fn kept(self, now: OffsetDateTime) -> Self {
        let cut = |text: Option<String>, bytes: usize| {
            text.map(|text| {
                let mut text = text.replace('\0', "");
                text.truncate(text.floor_char_boundary(bytes));
                text
            })
        };
        let answer = self.answer.filter(|answer| {
            let json = answer.to_string();
            json.len() <= MAX_ANSWER_BYTES && !json.contains(r"\u0000")
        });
        Self {
            command: self.command,
            status: self.status,
            at: time("at", self.at).unwrap_or(now),
            code: cut(self.code, MAX_CODE_BYTES),
            answer,
            detail: cut(self.detail, MAX_DETAIL_BYTES),
        }
    }
}

impl CommandStatus {
    /// The name as stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 09:00:00 UTC);

    fn report(changed: &Value) -> CommandReport {
        let mut whole = json!({
            "command": Uuid::nil(), "status": "done", "at": "2026-11-21T10:00:00.1234567+01:00", "code": "2.04",
            "answer": { "sessions": [] },
        });
        for (name, value) in changed.as_object().expect("an object") {
            whole[name] = value.clone();
        }
        serde_json::from_value(whole).expect("a report")
    }

    #[test]
    fn what_cannot_be_kept_of_a_report_is_left_out() {
        let kept = report(&json!({})).kept(NOW);
        assert_eq!(kept.at, datetime!(2026-11-21 09:00:00.123456 UTC));
        assert_eq!(kept.answer, Some(json!({ "sessions": [] })));
        let long = "é".repeat(1_000);
        for answer in [
            json!({ "a": "b\0" }),
            json!({ "c\0": 1 }),
            json!(long.repeat(20)),
        ] {
            assert_eq!(report(&json!({ "answer": answer })).kept(NOW).answer, None);
        }
        let kept = report(&json!({ "at": "0001-01-01T00:00:00Z", "detail": long, "code": "2\0" }));
        let kept = kept.kept(NOW);
        assert_eq!((kept.at, kept.code.as_deref()), (NOW, Some("2")));
        assert_eq!(kept.detail.map(|detail| detail.len()), Some(1_000));
    }

    #[test]
    fn an_order_is_in_range_or_says_what_is_not() {
        let create = |changed: Value| {
            let mut order = json!({ "order": "create", "number": 12 });
            for (name, value) in changed.as_object().expect("an object") {
                order[name] = value.clone();
            }
            serde_json::from_value::<Order>(order)
                .expect("an order")
                .check()
        };
        for good in [
            json!({}),
            json!({ "number": 65_535, "goal": 86_400, "label": "Ada", "party_size": 1_000_000 }),
        ] {
            assert_eq!(create(good), Ok(()));
        }
        for (name, value) in [
            ("number", json!(0)),
            ("goal", json!(86_401)),
            ("party_size", json!(0)),
            ("label", json!("a\0")),
        ] {
            let OutOfRange(message) = create(json!({ name: value })).expect_err(name);
            assert!(message.starts_with(name), "{message}");
        }
    }
}
