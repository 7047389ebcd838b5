//! The served, late and average numbers, kept as sums so that each change costs the same.
//! A session counts once, when it is first paged (pager contract, L13).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Sums since the last clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Sessions created.
    pub created: u64,
    /// Sessions paged at least once.
    pub served: u64,
    /// Of these, paged after their goal.
    pub late: u64,
    /// Milliseconds from creation to first page, over all served.
    pub waited_millis: u64,
}

impl Statistics {
    pub(crate) fn count_created(&mut self) {
        self.created = self.created.saturating_add(1);
    }

    /// Counts a first page. On time means `elapsed <= goal`, to the millisecond and below
    /// (pager contract, L13).
    pub(crate) fn count_served(&mut self, elapsed: Duration, goal_seconds: u32) {
        let is_late = elapsed > Duration::from_secs(goal_seconds.into());
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.served = self.served.saturating_add(1);
        self.late = self.late.saturating_add(u64::from(is_late));
        self.waited_millis = self.waited_millis.saturating_add(millis);
    }

    /// What is printed: half a percent or second rounds up, and all is zero when nobody was
    /// served (pager contract, L13).
    pub fn summary(&self) -> Summary {
        let on_time = self.served.saturating_sub(self.late);
        let percent_on_time = rounded(u128::from(on_time) * 100, self.served);
        Summary {
            guests_served: self.served,
            percent_late: if self.served == 0 {
                0
            } else {
                100 - percent_on_time
            },
            percent_on_time,
            average_time_served: rounded(
                u128::from(self.waited_millis),
                self.served.saturating_mul(1_000),
            ),
            num_sessions: self.created,
        }
    }
}

/// `part / whole`, half rounded up; zero when there is no whole.
fn rounded(part: u128, whole: u64) -> u64 {
    let whole = u128::from(whole);
    let quotient = (part * 2 + whole).checked_div(whole * 2).unwrap_or(0);
    u64::try_from(quotient).unwrap_or(u64::MAX)
}

/// The statistics object of the contract (pager contract, 1.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Sessions paged at least once.
    pub guests_served: u64,
    /// Percentage of the served paged after their goal.
    pub percent_late: u64,
    /// Percentage of the served paged within their goal.
    pub percent_on_time: u64,
    /// Mean seconds from creation to first page.
    pub average_time_served: u64,
    /// Sessions created.
    pub num_sessions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(waits: &[(u64, u32)]) -> Summary {
        let mut statistics = Statistics::default();
        for &(millis, goal) in waits {
            statistics.count_created();
            statistics.count_served(Duration::from_millis(millis), goal);
        }
        statistics.summary()
    }

    #[test]
    fn nobody_served_is_all_zero() {
        assert_eq!(Statistics::default().summary(), Summary::default());
    }

    #[test]
    fn halves_round_up_and_late_is_the_rest() {
        // 1 of 8 on time is 12.5 %; the mean of 0 s and 1 s is half a second.
        let mut waits = vec![(2_000, 1); 7];
        waits.push((1_000, 1));
        let summary = of(&waits);
        assert_eq!((summary.percent_on_time, summary.percent_late), (13, 87));
        assert_eq!(of(&[(0, 1), (1_000, 1)]).average_time_served, 1);
        assert_eq!(of(&[(0, 1), (999, 1)]).average_time_served, 0);
    }

    #[test]
    fn the_goal_itself_is_on_time() {
        assert_eq!(of(&[(300_000, 300)]).percent_on_time, 100);
        assert_eq!(of(&[(300_001, 300)]).percent_late, 100);
        assert_eq!(of(&[(0, 0)]).percent_on_time, 100);
    }

    #[test]
    fn full_sums_do_not_overflow() {
        let mut statistics = Statistics {
            created: u64::MAX,
            served: u64::MAX,
            late: u64::MAX,
            waited_millis: u64::MAX,
        };
        statistics.count_created();
        statistics.count_served(Duration::MAX, 0);
        assert_eq!(statistics.summary().percent_late, 100);
    }
}
