//! Who observes resources of ours (RFC 7641, section 4).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::message::Token;
use crate::types::{ObserverId, Response, Time, Urgency};

/// Non-confirmable notifications whose ids are kept, so that a Reset finds its observer.
const REMEMBERED_IDS: usize = 8;
/// An observer is asked to acknowledge at least that often.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);
const CONFIRM_EVERY: u32 = 5;
/// Heartbeats that were not acknowledged, one after the other, until an observer is dropped (pager contract, L9).
const MAX_MISSES: u8 = 3;
/// Sequence numbers have 24 bits.
const SEQUENCE_MASK: u32 = 0x00FF_FFFF;

pub struct Observer {
    pub peer: SocketAddr,
    pub token: Token,
    /// Everything of the request that counts for a cache.
    pub key: Bytes,
    pub path: Vec<String>,
    pub query: Vec<String>,
    /// The first answer's: it stays (section 4.2).
    pub content_format: Option<u16>,
    pub size_exponent: u8,
    /// What is newer than the notification in flight.
    pub waiting: VecDeque<(Response, Urgency)>,
    pub heartbeat_due: Option<Time>,
    pub misses: u8,
    /// Nothing was acknowledged since the last heartbeat.
    pub is_unanswered: bool,
    /// The number of the last message that had more blocks to come.
    pub blocks_sequence: Option<u32>,
    /// It fetches the blocks of its first answer; until then, notifications wait.
    pub fetching_until: Option<Time>,
    sequence: u32,
    casual: u32,
    confirmed_at: Time,
    ids: VecDeque<u16>,
}

impl Observer {
    /// The next sequence number: it follows the clock, so that it rises over a restart too, and is never used twice.
    pub fn next_sequence(&mut self, clock: u32) -> u32 {
        let clock = clock & SEQUENCE_MASK;
        let ahead = clock.wrapping_sub(self.sequence) & SEQUENCE_MASK;
        self.sequence = if ahead == 0 || ahead > SEQUENCE_MASK / 2 {
            (self.sequence + 1) & SEQUENCE_MASK
        } else {
            clock
        };
        self.sequence
    }

    /// Whether the next notification is to be acknowledged.
    pub fn must_confirm(&mut self, now: Time, urgency: Urgency) -> bool {
        let is_due = self.casual + 1 >= CONFIRM_EVERY || now >= self.confirmed_at + CONFIRM_AFTER;
        if urgency != Urgency::Casual || is_due {
            self.casual = 0;
            self.confirmed_at = now;
            return true;
        }
        self.casual += 1;
        false
    }

    pub fn remember_id(&mut self, id: u16) {
        if self.ids.len() == REMEMBERED_IDS {
            self.ids.pop_front();
        }
        self.ids.push_back(id);
    }

    /// Counts a heartbeat that is due; answers whether the observer has missed too many.
    pub fn miss(&mut self) -> bool {
        self.misses = if self.is_unanswered {
            self.misses + 1
        } else {
            0
        };
        self.is_unanswered = true;
        self.misses >= MAX_MISSES
    }

    pub fn heard(&mut self) {
        self.misses = 0;
        self.is_unanswered = false;
    }
}

/// What registers an observer.
pub struct Registration {
    pub peer: SocketAddr,
    pub token: Token,
    pub key: Bytes,
    pub path: Vec<String>,
    pub query: Vec<String>,
    pub content_format: Option<u16>,
    pub size_exponent: u8,
}

pub struct Observers {
    max: usize,
    max_per_peer: usize,
    next: u64,
    held: BTreeMap<ObserverId, Observer>,
    by_token: HashMap<SocketAddr, HashMap<Token, ObserverId>>,
}

impl Observers {
    pub fn new(max: usize, max_per_peer: usize) -> Self {
        Self {
            max,
            max_per_peer,
            next: 0,
            held: BTreeMap::new(),
            by_token: HashMap::new(),
        }
    }

    /// Adds an observer, or refreshes the one of the same token; none where there are too many.
    pub fn register(
        &mut self,
        now: Time,
        clock: u32,
        heartbeat_due: Option<Time>,
        new: Registration,
    ) -> Option<ObserverId> {
        let known = self.find(new.peer, &new.token);
        if let Some(id) = known {
            let held = self
                .held
                .get_mut(&id)
                .expect("tokens name observers that are there");
            held.key = new.key;
            held.path = new.path;
            held.query = new.query;
            held.content_format = new.content_format;
            held.heard();
            return Some(id);
        }
        let of_peer = self.by_token.get(&new.peer).map_or(0, HashMap::len);
        if self.held.len() >= self.max || of_peer >= self.max_per_peer {
            return None;
        }
        self.next += 1;
        let id = ObserverId(self.next);
        self.by_token
            .entry(new.peer)
            .or_default()
            .insert(new.token, id);
        let observer = Observer {
            peer: new.peer,
            token: new.token,
            key: new.key,
            path: new.path,
            query: new.query,
            content_format: new.content_format,
            size_exponent: new.size_exponent,
            waiting: VecDeque::new(),
            heartbeat_due,
            misses: 0,
            is_unanswered: false,
            blocks_sequence: None,
            fetching_until: None,
            sequence: clock.wrapping_sub(1) & SEQUENCE_MASK,
            casual: 0,
            confirmed_at: now,
            ids: VecDeque::new(),
        };
        self.held.insert(id, observer);
        Some(id)
    }

    /// A peer's observers, in their order.
    pub fn of(&self, peer: SocketAddr) -> Vec<ObserverId> {
        let of_peer = self.by_token.get(&peer);
        let mut ids: Vec<_> = of_peer
            .into_iter()
            .flat_map(HashMap::values)
            .copied()
            .collect();
        ids.sort_unstable();
        ids
    }

    pub fn find(&self, peer: SocketAddr, token: &Token) -> Option<ObserverId> {
        self.by_token.get(&peer)?.get(token).copied()
    }

    /// The observers of a peer that still fetch the blocks of a first answer.
    pub fn fetching(&self, peer: SocketAddr, key: &Bytes) -> Vec<ObserverId> {
        let of_peer = self
            .by_token
            .get(&peer)
            .into_iter()
            .flat_map(HashMap::values);
        let fetches = |id: &&ObserverId| {
            let observer = &self.held[*id];
            observer.fetching_until.is_some() && observer.key == *key
        };
        let mut ids: Vec<ObserverId> = of_peer.filter(fetches).copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Whose non-confirmable notification had this id.
    pub fn find_by_id(&self, peer: SocketAddr, id: u16) -> Option<ObserverId> {
        let of_peer = self.by_token.get(&peer)?;
        let has = |observer: &&ObserverId| self.held[*observer].ids.contains(&id);
        of_peer.values().find(has).copied()
    }

    pub fn get(&self, id: ObserverId) -> Option<&Observer> {
        self.held.get(&id)
    }

    pub fn get_mut(&mut self, id: ObserverId) -> Option<&mut Observer> {
        self.held.get_mut(&id)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ObserverId, &Observer)> {
        self.held.iter().map(|(id, observer)| (*id, observer))
    }

    pub fn remove(&mut self, id: ObserverId) -> Option<Observer> {
        let observer = self.held.remove(&id)?;
        if let Some(of_peer) = self.by_token.get_mut(&observer.peer) {
            of_peer.remove(&observer.token);
            if of_peer.is_empty() {
                self.by_token.remove(&observer.peer);
            }
        }
        Some(observer)
    }
}
