//! Decides what a doubtful session is: as it was, until the broker's statistics had the time to say otherwise. Pure.
//!
//! Invariant: nobody is called gone, or disconnected, for a statistic that is only late.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use rollcall_model::ingest::ConnectionSession;

use super::picture::Seen;

/// Sessions that are packed together.
const BLOCK: usize = 256;

#[derive(Debug, Default)]
pub struct Memory {
    /// The picture before.
    last: Last,
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
            let overlooked = self.last.places.keys().filter(|id| !listed.contains(id));
            for id in overlooked {
                doubtful.entry(id.clone()).or_insert(None);
            }
        }
        let (mut since, mut unsettled) = (HashMap::new(), HashSet::new());
        for (id, settled) in doubtful {
            let first = self.since.get(&id).copied().unwrap_or(taken.at);
            // It is asked at least twice.
            if self.since.contains_key(&id) && taken.at.duration_since(first) >= settle {
                sessions.extend(settled);
            } else {
                unsettled.insert(id.clone());
            }
            since.insert(id, first);
        }
        self.since = since;
        self.has_picture = true;
        sessions.extend(self.last.find(&unsettled));
        self.last = Last::default();
        self.last = Last::of(&sessions);
        sessions
    }
}

/// A picture to look something up in now and then. Packed: of 100,000 sessions the structs, and their JSON too, would be as large
/// again as all else.
#[derive(Debug, Default)]
struct Last {
    /// The block of each session, by id.
    places: HashMap<String, usize>,
    /// JSON by zstd.
    blocks: Vec<Box<[u8]>>,
}

impl Last {
    fn of(sessions: &[ConnectionSession]) -> Self {
        let mut last = Self::default();
        last.places.reserve(sessions.len());
        for block in sessions.chunks(BLOCK) {
            let ids = block.iter().map(|held| held.source_id.clone());
            last.places
                .extend(ids.zip(std::iter::repeat(last.blocks.len())));
            let json = serde_json::to_vec(block).expect("a session is plain data");
            let packed = zstd::bulk::compress(&json, 1).expect("memory is all it takes");
            last.blocks.push(packed.into());
        }
        last
    }

    /// Those of these ids that there were.
    fn find(&self, ids: &HashSet<String>) -> Vec<ConnectionSession> {
        let blocks: BTreeSet<usize> = ids
            .iter()
            .filter_map(|id| self.places.get(id).copied())
            .collect();
        let mut found = Vec::new();
        for block in blocks {
            let json = zstd::decode_all(&*self.blocks[block]).expect("it was packed here");
            let held: Vec<ConnectionSession> =
                serde_json::from_slice(&json).expect("it was written here");
            found.extend(
                held.into_iter()
                    .filter(|held| ids.contains(&held.source_id)),
            );
        }
        found
    }
}
