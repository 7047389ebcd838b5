//! What bodies on their way in may hold in memory, over all requests of the process.
//!
//! A request takes its share as it grows. Where the budget is used up it waits a little, then gets 503: many slow or
//! large requests at once cannot bring the process down, only make some devices repeat theirs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Problem};

/// How long a request waits for memory while others hold it.
const PATIENCE: Duration = Duration::from_secs(5);

/// The budget of a process.
#[derive(Clone, Debug)]
pub struct Budget {
    /// One permit is 1 KiB.
    kib: Arc<Semaphore>,
}

/// One request's share; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of so many MiB.
    pub fn of_mib(mib: u32) -> Self {
        Self {
            kib: Arc::new(Semaphore::new(mib as usize * 1_024)),
        }
    }

    /// A share of nothing yet.
    pub fn lease(&self) -> Lease {
        Lease {
            budget: self.clone(),
            held: None,
        }
    }
}

impl Lease {
    /// Makes the share as large as `bytes`, if it is not.
    pub async fn cover(&mut self, bytes: usize) -> Result<(), ApiError> {
        let wanted = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
        let held = self.held.as_ref().map_or(0, |held| {
            u32::try_from(held.num_permits()).unwrap_or(u32::MAX)
        });
        if wanted <= held {
            return Ok(());
        }
        let more = Arc::clone(&self.budget.kib).acquire_many_owned(wanted - held);
        let more = match tokio::time::timeout(PATIENCE, more).await {
            Ok(more) => more.expect("the budget is never closed"),
            Err(_) => {
                return Err(ApiError::Unavailable(Problem::new(
                    "memory_busy",
                    "too many large bodies are on their way in at once; repeat the request in a moment",
                )));
            }
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_share_grows_within_the_budget_and_comes_back() {
        let budget = Budget::of_mib(1);
        let mut first = budget.lease();
        first.cover(700 << 10).await.expect("there is room");
        first.cover(600 << 10).await.expect("it is held already");
        let mut second = budget.lease();
        assert!(matches!(
            second.cover(400 << 10).await,
            Err(ApiError::Unavailable(_))
        ));
        drop(first);
        second.cover(1 << 20).await.expect("all of it");
    }
}
