//! How it goes with following a box, for those who ask.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::status::ago;

/// A box as its relay finds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Where it is looked for: `coaps://10.0.1.32:5684`.
    pub address: String,
    /// It is observed, and was read since anything was missed: what the mirror says is what the box says.
    pub is_followed: bool,
    /// When it last said anything.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_heard: Option<OffsetDateTime>,
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
            last_heard: None,
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

    /// The box can be followed; says whether it could not be before.
    pub(super) fn turned_good(&self) -> bool {
        self.lock().trouble.take().is_some()
    }

    pub(super) fn is_bad(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// How it stands with following the box.
    pub(super) fn stands(&self, is_followed: bool, last_heard: Option<OffsetDateTime>) {
        let mut held = self.lock();
        held.is_followed = is_followed;
        held.last_heard = last_heard;
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// In words: where it is, how, and when it was heard of.
    pub fn in_words(&self, now: OffsetDateTime) -> String {
        let how = match (&self.trouble, self.is_followed) {
            (Some(why), _) => why,
            (None, true) => "followed",
            (None, false) => "not read yet",
        };
        let heard = self.last_heard.and_then(|at| at.format(&Rfc3339).ok());
        let heard = heard.map_or("never".to_owned(), |at| ago(&at, now));
        format!("at {}: {how}; last heard of {heard}", self.address)
    }
}
