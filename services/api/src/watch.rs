//! Waiting for commands: to be given, or to come to their end.
//!
//! A commit of this process ends a wait at once. What other processes commit is seen by looking again, each second.

use std::time::Duration;

use rollcall_model::OrgId;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::App;
use crate::error::{ApiError, Problem};
use crate::feed::told;

/// Longest time that a request waits, in seconds.
const MAX_WAIT: u64 = 30;
/// Between two looks, where nothing tells that there is something.
pub const PAUSE: Duration = Duration::from_secs(1);

/// A wait, which begins before the first look, so that nothing is missed between two.
pub struct Watch {
    org: OrgId,
    commands: broadcast::Receiver<OrgId>,
    closing: watch::Receiver<bool>,
    began: Instant,
    wait: Duration,
}

impl Watch {
    /// Begins to wait for so long.
    pub fn new(app: &App, org: OrgId, wait: Duration) -> Self {
        Self {
            org,
            commands: app.db.commands(),
            closing: app.feed.closing(),
            began: Instant::now(),
            wait,
        }
    }

    /// Whether an answer is due, whatever it is.
    pub fn is_over(&self) -> bool {
        self.waited() >= self.wait || *self.closing.borrow()
    }

    /// How long it has been.
    pub fn waited(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until there may be something new.
    pub async fn pause(&mut self) {
        let pause = self.wait.saturating_sub(self.waited()).min(PAUSE);
        tokio::select! {
            _ = told(&mut self.commands, self.org, pause) => {}
            _ = self.closing.changed() => {}
        }
    }
}

/// A `wait` parameter.
pub fn wait(text: Option<&str>) -> Result<Duration, ApiError> {
    let Some(text) = text else {
        return Ok(Duration::ZERO);
    };
    let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_WAIT);
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let message = format!("wait must be a whole number of seconds, from 0 to {MAX_WAIT}");
        ApiError::Invalid(Problem::new("wait_invalid", message).of_parameter("wait"))
    })
}
