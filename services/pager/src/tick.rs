//! What happens by time alone: the daily clear of the statistics (pager contract, L19) and, where
//! switched on, paging at the goal (pager contract, L16).

use std::time::Duration;

use time::PrimitiveDateTime;

use crate::body::PageOptions;
use crate::clock::{DeviceTime, Now};
use crate::request::Effects;
use crate::session::{Session, State, What};
use crate::settings::NEVER;
use crate::transmitter::Transmitter;

/// A tick at most this late pages as if it had been in time. Otherwise every session paged by
/// itself would count as late by the caller's scheduling.
const TICK_TOLERANCE: Duration = Duration::from_secs(1);
/// Longest sleep before the daily clear: the host's clock may be set while its caller sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(3_600);

impl Transmitter {
    /// Does what is due. Effects are stored and sent as those of a request. A clear that is due
    /// is also done by [`Transmitter::handle`], so that no request sees the day before.
    pub fn tick(&mut self, now: Now) -> Effects {
        self.begin(now);
        if self.config.auto_page {
            self.page_due(now);
        }
        self.finish()
    }

    /// How long to sleep until the next tick: zero if something is due already, at most an hour
    /// while statistics are cleared daily, `None` if nothing ever is due. Ask again after every
    /// request; looks at all active sessions if paging at the goal is on.
    pub fn next_tick(&self, now: Now) -> Option<Duration> {
        let device = now.utc.saturating_add(time::Duration::microseconds(
            self.meta.settings.clock_offset_micros,
        ));
        let clear = self.meta.next_clear.map(|at| {
            let sleep = Duration::try_from(at.get().assume_utc() - device);
            sleep.unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        });
        let uptime = self.stamp(now).uptime;
        let page = match self.config.auto_page {
            true => self.active().filter_map(due).min(),
            false => None,
        };
        let page = page.map(|due| due.saturating_sub(uptime));
        clear.into_iter().chain(page).min()
    }

    fn page_due(&mut self, now: Now) {
        let at = self.stamp(now);
        let is_due = |session: &&Session| due(session).is_some_and(|due| due <= at.uptime);
        let sessions: Vec<Session> = self.active().filter(is_due).cloned().collect();
        for mut session in sessions {
            let mut at = at;
            if let Some(due) = due(&session).filter(|due| at.uptime - *due <= TICK_TOLERANCE) {
                at.uptime = due;
            }
            self.page(&mut session, PageOptions::auto(), at);
            self.step(session, What::Paged);
        }
    }

    /// Clears the statistics if the mark has passed since they were last looked at, however long
    /// ago it was.
    pub(crate) fn clear_if_due(&mut self, now: Now) {
        let device = self.device_time(now);
        if self.meta.next_clear.is_some_and(|next| next <= device) {
            self.meta.cleared_on = last_mark(self.meta.settings.statistics_clear_mark, device);
            self.clear_statistics();
            self.schedule_clear(now);
        } else {
            self.find_clear_again(now);
        }
    }

    /// Brings the next clear near again after a clock was set back by more than a day.
    pub(crate) fn find_clear_again(&mut self, now: Now) {
        let device = self.device_time(now).get();
        let is_far = |next: DeviceTime| next.get() - device > time::Duration::DAY;
        if self.meta.next_clear.is_some_and(is_far) {
            self.schedule_clear(now);
        }
    }

    /// Finds the next time at which the mark's hour begins, on a day that was not cleared yet.
    pub(crate) fn schedule_clear(&mut self, now: Now) {
        let hour = self.meta.settings.statistics_clear_mark;
        let device = self.device_time(now).get();
        let today = at_hour(device.date(), hour)
            .filter(|at| at.get() > device && self.meta.cleared_on != Some(device.date()));
        let tomorrow = device.date().next_day().and_then(|day| at_hour(day, hour));
        self.meta.next_clear = today.or(tomorrow);
    }
}

/// When a session is to be paged by itself, on the measuring clock.
fn due(session: &Session) -> Option<Duration> {
    let goal = Duration::from_secs(session.goal_seconds.into());
    let due = session.created.uptime.saturating_add(goal);
    (session.state == State::Started).then_some(due)
}

/// The beginning of an hour, none for [`NEVER`].
fn at_hour(day: time::Date, hour: u8) -> Option<DeviceTime> {
    if hour >= NEVER {
        return None;
    }
    let time = time::Time::from_hms(hour, 0, 0).ok()?;
    Some(DeviceTime::new(PrimitiveDateTime::new(day, time)))
}

/// The day whose mark was the last to pass.
fn last_mark(hour: u8, device: DeviceTime) -> Option<time::Date> {
    let today = device.get().date();
    if device.get().hour() >= hour {
        Some(today)
    } else {
        today.previous_day()
    }
}
