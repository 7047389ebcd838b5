//! The transmitter's two clocks: the wall clock it prints and the monotonic one it measures with.
//! Elapsed times never come from the wall clock, which a client may set (pager contract, L20).

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::format_description::BorrowedFormatItem;
use time::macros::{datetime, format_description};
use time::{OffsetDateTime, PrimitiveDateTime};

const STAMP: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const STAMP_BYTES: usize = "2018-03-15T15:46:51".len();

/// What the caller's clocks say at a call. The crate has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The host's wall clock.
    pub utc: OffsetDateTime,
    /// A reading that never goes back while the process lives; its zero does not matter.
    pub monotonic: Duration,
}

/// Zone-less time on the transmitter's wall clock in whole seconds, written
/// `YYYY-MM-DDTHH:MM:SS` (pager contract, 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceTime(PrimitiveDateTime);

impl DeviceTime {
    /// The device's wall clock: the host's, moved by what a client set through `datetime`.
    pub(crate) fn at(utc: OffsetDateTime, offset_micros: i64) -> Self {
        let moved = utc
            .to_utc()
            .saturating_add(time::Duration::microseconds(offset_micros));
        Self::new(PrimitiveDateTime::new(moved.date(), moved.time()))
    }

    /// Cuts the fraction; a year before 0000 cannot be written and becomes 0000.
    pub(crate) fn new(at: PrimitiveDateTime) -> Self {
        let at = at.max(datetime!(0000-01-01 0:00));
        Self(at.truncate_to_second())
    }

    /// Reads `YYYY-MM-DDTHH:MM:SS` and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == STAMP_BYTES && text.starts_with(|c: char| c.is_ascii_digit());
        let at = PrimitiveDateTime::parse(text, STAMP).ok()?;
        is_plain.then_some(Self(at))
    }

    /// The same moment as `time` has it.
    pub fn get(self) -> PrimitiveDateTime {
        self.0
    }

    /// How far the host's clock has to be moved to show this time, rounded up to a microsecond so
    /// that the device never shows the second before.
    pub(crate) fn offset_micros_from(self, utc: OffsetDateTime) -> i64 {
        let nanos = (self.0.assume_utc() - utc).whole_nanoseconds();
        let micros = nanos.div_euclid(1_000) + i128::from(nanos.rem_euclid(1_000) > 0);
        i64::try_from(micros).unwrap_or(0)
    }
}

impl std::fmt::Display for DeviceTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.format(STAMP).map_err(|_| std::fmt::Error)?)
    }
}

impl Serialize for DeviceTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a stamp is YYYY-MM-DDTHH:MM:SS"))
    }
}

/// One moment on all three clocks: the printed one, the host's and the measuring one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// What the transmitter prints.
    pub device: DeviceTime,
    /// The host's wall clock.
    #[serde(with = "time::serde::rfc3339")]
    pub utc: OffsetDateTime,
    /// Time on the measuring clock, which continues over restarts.
    pub(crate) uptime: Duration,
}

/// The last moment a transmitter saw, from which a restored one continues (pager contract, L20).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockMark {
    /// Time on the measuring clock.
    pub uptime: Duration,
    /// The host's wall clock.
    #[serde(with = "time::serde::rfc3339")]
    pub utc: OffsetDateTime,
}

/// Ties the caller's monotonic readings to the measuring clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchor {
    monotonic: Duration,
    uptime: Duration,
}

impl Anchor {
    /// A measuring clock that starts at zero.
    pub(crate) fn new(now: Now) -> Self {
        Self {
            monotonic: now.monotonic,
            uptime: Duration::ZERO,
        }
    }

    /// Continues a measuring clock; the time switched off counts as far as the host's wall clock
    /// knows it.
    pub(crate) fn restore(last: ClockMark, now: Now) -> Self {
        let off = Duration::try_from(now.utc - last.utc).unwrap_or(Duration::ZERO);
        Self {
            monotonic: now.monotonic,
            uptime: last.uptime.saturating_add(off),
        }
    }

    pub(crate) fn uptime(self, now: Now) -> Duration {
        let since = now.monotonic.saturating_sub(self.monotonic);
        self.uptime.saturating_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip_and_nothing_else_is_read() {
        let stamp = DeviceTime::parse("2018-03-15T15:46:51").unwrap();
        assert_eq!(stamp.to_string(), "2018-03-15T15:46:51");
        for text in [
            "",
            "2018-03-15",
            "2018-03-15 15:46:51",
            "2018-03-15T15:46:51Z",
            "+018-03-15T15:46:51",
            "2018-02-30T15:46:51",
            "2018-03-15T24:00:00",
            "2018-03-15T15:46:5\u{e9}",
        ] {
            assert_eq!(DeviceTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_set_clock_shows_the_second_it_was_set_to() {
        let utc = datetime!(2026-01-02 03:04:05.123_456_789 UTC);
        let set = DeviceTime::parse("2018-03-15T12:35:33").unwrap();
        assert_eq!(DeviceTime::at(utc, set.offset_micros_from(utc)), set);
        let far = DeviceTime::parse("9999-12-31T23:59:59").unwrap();
        let offset = far.offset_micros_from(utc);
        assert_eq!(DeviceTime::at(utc + Duration::from_secs(60), offset), far);
    }
}
