//! How it goes with following a box, for those who ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// A box as its relay finds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Where it is looked for: `coaps://10.0.1.32:5684`.
    pub address: String,
    /// It was read, and what it tells comes in.
    pub is_followed: bool,
    /// Why not, in a sentence; nothing before it was asked for the first time.
    pub trouble: Option<String>,
}

/// The same for the loop that follows the box and those who ask.
#[derive(Clone)]
pub struct SharedHealth(Arc<Mutex<Health>>);

impl SharedHealth {
    pub fn of(address: String) -> Self {
        let health = Health {
            address,
            is_followed: false,
            trouble: None,
        };
        Self(Arc::new(Mutex::new(health)))
    }

    pub fn read(&self) -> Health {
        self.lock().clone()
    }

    /// The box cannot be followed; says whether that is news.
    pub(super) fn turned_bad(&self, why: String) -> bool {
        let mut held = self.lock();
        held.is_followed = false;
        let is_news = held.trouble.as_ref() != Some(&why);
        held.trouble = Some(why);
        is_news
    }

    /// The box is followed; says whether it could not be before.
    pub(super) fn turned_good(&self) -> bool {
        let mut held = self.lock();
        held.is_followed = true;
        held.trouble.take().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// In words: where it is, and how.
    pub fn in_words(&self) -> String {
        let how = match (self.is_followed, &self.trouble) {
            (true, _) => "followed",
            (false, Some(why)) => why,
            (false, None) => "not reached yet",
        };
        format!("at {}: {how}", self.address)
    }
}
