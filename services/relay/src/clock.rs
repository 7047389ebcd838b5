//! The process's two clocks, as a transmitter is told of them.

use std::time::Instant;

use rollcall_pager::Now;
use time::OffsetDateTime;

#[derive(Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub fn now(&self) -> Now {
        Now {
            utc: OffsetDateTime::now_utc(),
            monotonic: self.started.elapsed(),
        }
    }
}
