//! A guest as a mirror knows of them, and what follows from hearing more.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::body::Told;
use crate::clock::DeviceTime;
use crate::session::{ClearType, State, UNKNOWN_SEQUENCE};

/// A session of a box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// The box's number for it.
    pub id: u64,
    pub uuid: Uuid,
    pub number: u16,
    pub party_size: u32,
    pub goal_seconds: u32,
    pub created: Moment,
    pub notified: Option<Moment>,
    pub cleared: Option<Moment>,
    pub label: Option<String>,
    pub state: State,
    /// How it ended; absent where that is not known.
    pub clear_type: Option<ClearType>,
    /// `sessionSequence`, or 65535.
    pub sequence: u16,
    /// As the box last said it.
    pub raw: Said,
}

/// A JSON value as its text: there are many, and a tree takes ten times the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(Box<str>);

impl Said {
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).expect("it was written from a value")
    }
}

impl From<&Value> for Said {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(&Value::deserialize(deserializer)?))
    }
}

/// A time that a box gave, and what it was by the relay's clock when it was first heard of. It stays so, whatever the box's
/// clock does later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub said: String,
    #[serde(with = "time::serde::rfc3339")]
    pub utc: OffsetDateTime,
}

/// Something that was learned of a box.
#[derive(Debug, Clone, PartialEq)]
pub struct Learned {
    /// When it happened, by the relay's clock; as well as that can be known.
    pub at: OffsetDateTime,
    pub what: News,
}

/// What was learned.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    Created(Guest),
    Updated(Guest),
    Paged(Guest),
    Cleared(Guest),
    Removed(Guest),
    /// Something happened that can no longer be known.
    Missed {
        /// How many changes, where that is known.
        changes: Option<u64>,
        since: Option<OffsetDateTime>,
        /// When it was found out.
        until: OffsetDateTime,
        reason: &'static str,
    },
}

impl Moment {
    /// A stamp of the box's, whose clock is `offset` behind the relay's.
    fn of(said: &str, offset: Duration, fallback: OffsetDateTime) -> Self {
        let stamp = DeviceTime::parse(said).map(DeviceTime::get);
        let utc = stamp.and_then(|stamp| stamp.assume_utc().checked_add(offset));
        Self {
            said: said.to_owned(),
            utc: utc.unwrap_or(fallback),
        }
    }

    /// The moment of a stamp: the one that is known already, where it is the same.
    fn keep(known: Option<&Self>, said: &str, offset: Duration, now: OffsetDateTime) -> Self {
        match known {
            Some(known) if known.said == said => known.clone(),
            _ => Self::of(said, offset, now),
        }
    }
}

impl Guest {
    /// The guest of what a box said, with what is known already.
    pub(super) fn of(
        told: &Told,
        known: Option<&Self>,
        offset: Duration,
        now: OffsetDateTime,
    ) -> Self {
        let moment = |known: Option<&Moment>, said: &Option<String>| {
            let said = said.as_ref()?;
            Some(Moment::keep(known, said, offset, now))
        };
        Self {
            id: told.id,
            uuid: told.uuid,
            number: told.number,
            party_size: told.party_size,
            goal_seconds: told.goal_seconds,
            created: Moment::keep(
                known.map(|known| &known.created),
                &told.created,
                offset,
                now,
            ),
            notified: moment(
                known.and_then(|known| known.notified.as_ref()),
                &told.notified,
            ),
            cleared: moment(
                known.and_then(|known| known.cleared.as_ref()),
                &told.cleared,
            ),
            label: told.label.clone(),
            state: told.state,
            clear_type: told.clear_type,
            sequence: told.sequence.unwrap_or(UNKNOWN_SEQUENCE),
            raw: Said::from(&told.raw),
        }
    }

    pub fn is_active(&self) -> bool {
        self.state != State::Cleared
    }

    /// Whether the members that no state tells differ.
    fn differs(&self, other: &Self) -> bool {
        (self.party_size, self.goal_seconds, &self.label, self.number)
            != (
                other.party_size,
                other.goal_seconds,
                &other.label,
                other.number,
            )
    }

    /// What one notification tells of a guest who was not known: they came, and were perhaps paged at once.
    pub(super) fn arrival(&self) -> Vec<Learned> {
        if self.is_active() {
            return vec![Learned {
                at: self.created.utc,
                what: News::Created(self.clone()),
            }];
        }
        self.story()
    }

    /// What happened to a guest of whom a list tells for the first time.
    pub(super) fn story(&self) -> Vec<Learned> {
        let begin = Self {
            notified: None,
            cleared: None,
            state: State::Started,
            clear_type: None,
            ..self.clone()
        };
        let mut story = Vec::new();
        story.push(Learned {
            at: self.created.utc,
            what: News::Created(begin.clone()),
        });
        story.extend(self.since(&begin, self.created.utc));
        in_order(story)
    }

    /// What happened between what was known and what is. `now` is when it was learned.
    pub(super) fn since(&self, known: &Self, now: OffsetDateTime) -> Vec<Learned> {
        let mut story = Vec::new();
        let mut learn = |at: Option<&Moment>, what: News| {
            let at = at.map_or(now, |moment| moment.utc);
            story.push(Learned { at, what });
        };
        if self.differs(known) {
            let updated = Self {
                notified: known.notified.clone(),
                cleared: None,
                state: known.state,
                clear_type: None,
                ..self.clone()
            };
            // Where it is all that happened, it is the whole.
            if self.state == known.state && self.notified == known.notified {
                learn(None, News::Updated(self.clone()));
                return story;
            }
            learn(None, News::Updated(updated));
        }
        if self.notified.is_some() && known.notified.is_none() {
            let paged = Self {
                cleared: None,
                state: State::Paged,
                clear_type: None,
                ..self.clone()
            };
            learn(self.notified.as_ref(), News::Paged(paged));
        }
        if !self.is_active() && known.is_active() {
            let ended = self.clone();
            let what = match self.clear_type {
                Some(ClearType::Removed) => News::Removed(ended),
                Some(ClearType::Stop) | None => News::Cleared(ended),
            };
            learn(self.cleared.as_ref(), what);
        }
        in_order(story)
    }

    /// How many steps of the box a story of the guest takes at least. One step may create and page, or change and page: where
    /// stamps do not tell that it were two, it was one, for what is counted here is not counted as missed.
    pub(super) fn least_steps(&self, story: &[Learned]) -> u64 {
        let is_one = match story {
            [first, second, ..] => match (&first.what, &second.what) {
                (News::Updated(_), _) => true,
                (News::Created(_), News::Paged(_)) => self.is_of_creation(self.notified.as_ref()),
                (News::Created(_), _) => self.is_of_creation(self.cleared.as_ref()),
                _ => false,
            },
            _ => false,
        };
        story.len() as u64 - u64::from(is_one)
    }

    fn is_of_creation(&self, moment: Option<&Moment>) -> bool {
        moment.is_none_or(|moment| moment.said == self.created.said)
    }

    /// The guest, gone in a way that nobody saw.
    pub(super) fn lost(&self) -> Self {
        Self {
            state: State::Cleared,
            cleared: None,
            clear_type: None,
            ..self.clone()
        }
    }
}

/// What happened to one guest, with times that say the same as the order: a box's clock may jump, and not all times are known.
fn in_order(mut story: Vec<Learned>) -> Vec<Learned> {
    let mut latest = None;
    for learned in story.iter_mut().rev() {
        learned.at = latest.map_or(learned.at, |latest| learned.at.min(latest));
        latest = Some(learned.at);
    }
    story
}
