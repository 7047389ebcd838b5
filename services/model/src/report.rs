//! What a relay says of a session: an event of its, read and checked.

use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::ingest::{Gap, Happening, IngestEvent, Subject};
use crate::{Connection, EventType, Kind, Pager, Session};

/// Bytes of a label, of a gap's reason, and of most texts.
const MAX_TEXT_BYTES: usize = 1_000;
/// Years that times lie in, as UTC counts them.
const YEARS: std::ops::RangeInclusive<i32> = 1900..=9999;

/// One thing that a relay says of a session: what happened, and what the session is after it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Always the same for the same event.
    pub event_id: Uuid,
    pub event: EventType,
    /// When it happened, by the relay's clock.
    pub at: OffsetDateTime,
    pub about: About,
}

/// A session, as its source tells of it.
#[derive(Clone, Debug)]
pub struct About {
    pub kind: Kind,
    /// When it began; unknown of some connections.
    pub created: Option<OffsetDateTime>,
    pub label: Option<String>,
    pub user: Option<String>,
    pub remote: Option<String>,
    pub facts: Facts,
}

/// What only a session's kind has.
#[derive(Clone, Debug)]
pub enum Facts {
    Pager(Pager),
    Connection(Box<Connection>),
}

/// Where an event stands in its relay's spool.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub spool: Uuid,
    pub sequence: u64,
}

/// What an event of a relay comes to.
#[derive(Clone, Debug)]
pub enum Reported {
    /// A report of the session that has this name at its source.
    Session(String, Report),
    /// Events that will never come.
    Gap(Gap),
}

/// A value that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutOfRange(pub String);

impl Report {
    /// Whether the session already is what a later event of the same spool made it.
    pub fn is_late(&self, held: &Session) -> bool {
        let own = self.place();
        let held = match (&held.pager, &held.connection) {
            (Some(pager), _) => (pager.spool, pager.sequence),
            (None, Some(connection)) => (connection.spool, connection.sequence),
            (None, None) => return false,
        };
        held.0 == own.spool && own.sequence < held.1
    }

    /// Where its event stands.
    pub fn place(&self) -> Place {
        let (spool, sequence) = match &self.about.facts {
            Facts::Pager(pager) => (pager.spool, pager.sequence),
            Facts::Connection(connection) => (connection.spool, connection.sequence),
        };
        Place { spool, sequence }
    }
}

impl IngestEvent {
    /// What the event says, where every value is in range. Times are UTC from here on, to the microsecond: that much is
    /// kept.
    pub fn read(self) -> Result<Reported, OutOfRange> {
        let at = time("at", self.at)?;
        let place = Place {
            spool: self.spool,
            sequence: self.sequence,
        };
        let (event, subject) = match self.what {
            Happening::Gap { gap } => return gap.read().map(Reported::Gap),
            Happening::Created { session } => (EventType::Created, Subject::Session(session)),
            Happening::Paged { session } => (EventType::Paged, Subject::Session(session)),
            Happening::Cleared { session } => (EventType::Cleared, Subject::Session(session)),
            Happening::Removed { subject } => (EventType::Removed, subject),
            Happening::Updated { subject } => (EventType::Updated, subject),
            Happening::Connected { connection } => {
                (EventType::Connected, Subject::Connection(connection))
            }
            Happening::Disconnected { connection } => {
                (EventType::Disconnected, Subject::Connection(connection))
            }
        };
        let (source_id, about) = match subject {
            Subject::Session(session) => session.read(place)?,
            Subject::Connection(connection) => connection.read(place)?,
        };
        let report = Report {
            event_id: self.id,
            event,
            at,
            about,
        };
        Ok(Reported::Session(source_id, report))
    }
}

impl Gap {
    fn read(self) -> Result<Self, OutOfRange> {
        text("gap.reason", &self.reason)?;
        if self
            .events
            .is_some_and(|events| i64::try_from(events).is_err())
        {
            return Err(OutOfRange("gap.events is below 2^63".to_owned()));
        }
        Ok(Self {
            since: optional_time("gap.since", self.since)?,
            until: optional_time("gap.until", self.until)?,
            ..self
        })
    }
}

pub(crate) fn text(name: &str, text: &str) -> Result<(), OutOfRange> {
    if text.len() > MAX_TEXT_BYTES || text.contains('\0') {
        let message = format!("{name} is text of at most {MAX_TEXT_BYTES} bytes without U+0000");
        return Err(OutOfRange(message));
    }
    Ok(())
}

/// A relay's time in UTC, to the microsecond.
pub fn time(name: &str, at: OffsetDateTime) -> Result<OffsetDateTime, OutOfRange> {
    at.checked_to_offset(UtcOffset::UTC)
        .filter(|at| YEARS.contains(&at.year()))
        .and_then(|at| at.replace_nanosecond(at.microsecond() * 1_000).ok())
        .ok_or_else(|| {
            OutOfRange(format!(
                "{name} lies in the years {} to {}",
                YEARS.start(),
                YEARS.end()
            ))
        })
}

pub(crate) fn optional_time(
    name: &str,
    at: Option<OffsetDateTime>,
) -> Result<Option<OffsetDateTime>, OutOfRange> {
    at.map(|at| time(name, at)).transpose()
}
