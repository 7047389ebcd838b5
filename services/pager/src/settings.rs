//! The settings that a client may read and write (pager contract, 1.5 and L19).
//! An update is checked as a whole before any of it holds.

use serde::{Deserialize, Serialize};

use crate::body::{Fields, MAX_GOAL_SECONDS};
use crate::clock::DeviceTime;
use crate::request::Refusal;

/// The clear mark that means "never" (pager contract, L19).
pub const NEVER: u8 = 24;

/// Stored settings. The clock is kept as its distance from the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Pagers have to match it to be paged.
    pub system_id: u16,
    /// The goal in seconds of a session created without one.
    pub default_target_goal: u32,
    /// The hour of the device's day at which statistics are cleared, or [`NEVER`].
    pub statistics_clear_mark: u8,
    /// Microseconds to add to the host's wall clock.
    pub clock_offset_micros: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system_id: 0,
            default_target_goal: 300,
            statistics_clear_mark: NEVER,
            clock_offset_micros: 0,
        }
    }
}

/// The body of POST `/v1/settings`; what is absent stays as it is.
#[derive(Debug)]
pub(crate) struct SettingsPatch {
    datetime: Option<DeviceTime>,
    system_id: Option<u16>,
    default_target_goal: Option<u32>,
    statistics_clear_mark: Option<u8>,
}

impl SettingsPatch {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let fields = Fields::parse(payload)?;
        let datetime = fields.text("datetime")?.map(|text| {
            DeviceTime::parse(text).ok_or_else(|| {
                Refusal::bad(
                    "`datetime` is not a date and time; send YYYY-MM-DDTHH:MM:SS without zone.",
                )
            })
        });
        Ok(Self {
            datetime: datetime.transpose()?,
            system_id: fields.integer("systemId", 0..=u16::MAX.into())?,
            default_target_goal: fields
                .integer("defaultTargetGoal", 0..=MAX_GOAL_SECONDS.into())?,
            statistics_clear_mark: fields.integer("statisticsClearMark", 0..=NEVER.into())?,
        })
    }

    pub(crate) fn apply(self, to: &mut Settings, utc: time::OffsetDateTime) {
        to.system_id = self.system_id.unwrap_or(to.system_id);
        to.default_target_goal = self.default_target_goal.unwrap_or(to.default_target_goal);
        to.statistics_clear_mark = self
            .statistics_clear_mark
            .unwrap_or(to.statistics_clear_mark);
        if let Some(datetime) = self.datetime {
            to.clock_offset_micros = datetime.offset_micros_from(utc);
        }
    }
}
