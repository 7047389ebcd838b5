//! Decides what a doubtful session is: as it was, until the broker's statistics had the time to say otherwise. Pure.
//!
//! Invariant: nobody is called gone, or disconnected, for a statistic that is only late.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rollcall_model::ingest::ConnectionSession;

use super::picture::Seen;

#[derive(Debug, Default)]
pub struct Memory {
    /// The picture before, each session as JSON: of 100,000 the structs would be as large again as all else.
    last: HashMap<String, Box<[u8]>>,
    /// Since when a session is doubtful.
    since: HashMap<String, Instant>,
    has_picture: bool,
}

/// How a picture was taken.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub at: Instant,
    /// The lists moved while they were read page by page: what is not in them may have been overlooked.
    pub is_shaky: bool,
}

impl Memory {
    /// Whether a first picture has to be taken again once the statistics have settled: there is nothing yet to hold on to.
    pub fn must_wait(&mut self, seen: &Seen, taken: Taken) -> bool {
        if self.has_picture || seen.doubtful.is_empty() {
            return false;
        }
        let ids = seen.doubtful.keys().cloned();
        self.since = ids.map(|id| (id, taken.at)).collect();
        true
    }

    /// The sessions that there are, by all that is known.
    pub fn settle(&mut self, seen: Seen, taken: Taken, settle: Duration) -> Vec<ConnectionSession> {
        let Seen {
            mut sessions,
            mut doubtful,
            ..
        } = seen;
        if taken.is_shaky {
            let listed: HashSet<_> = sessions.iter().map(|held| &held.source_id).collect();
            let overlooked = self.last.keys().filter(|id| !listed.contains(id));
            for id in overlooked {
                doubtful.entry(id.clone()).or_insert(None);
            }
        }
        let mut since = HashMap::new();
        for (id, settled) in doubtful {
            let first = self.since.get(&id).copied().unwrap_or(taken.at);
            // It is asked at least twice.
            if self.since.contains_key(&id) && taken.at.duration_since(first) >= settle {
                sessions.extend(settled);
            } else if let Some(held) = self.last.get(&id) {
                sessions.extend(serde_json::from_slice(held));
            }
            since.insert(id, first);
        }
        self.since = since;
        self.has_picture = true;
        self.last.clear();
        for session in &sessions {
            let bytes = serde_json::to_vec(session).expect("a session is plain data");
            self.last.insert(session.source_id.clone(), bytes.into());
        }
        sessions
    }
}
