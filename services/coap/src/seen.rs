//! Messages that came before, so that a repeat is recognized (RFC 7252, section 4.5).
//!
//! Invariant: bounded by entries and by bytes. What may be answered anew at no harm gives way first, then what is oldest.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::code::Kind;
use crate::types::Time;

/// How long a confirmable message may be repeated (`EXCHANGE_LIFETIME`).
pub const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
/// How long a non-confirmable one may (`NON_LIFETIME`).
const NON_LIFETIME: Duration = Duration::from_secs(145);

pub type Key = (SocketAddr, u16);

/// What a repeat gets.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing yet: its first is being worked on.
    Pending,
    /// The same bytes.
    Again(Bytes),
    /// Nothing.
    Silence,
}

struct Entry {
    expires: Time,
    is_safe: bool,
    answer: Answer,
}

pub struct Seen {
    max: usize,
    max_safe: usize,
    max_bytes: usize,
    entries: HashMap<Key, Entry>,
    safe: usize,
    bytes: usize,
    /// In the order of their ends, by whether they are safe and by their lifetime. An entry that was removed or replaced has a
    /// stale place here, told by its time.
    order: [VecDeque<(Time, Key)>; 4],
}

impl Seen {
    pub fn new(max: usize, max_safe: usize, max_bytes: usize) -> Self {
        Self {
            max,
            max_safe,
            max_bytes,
            entries: HashMap::new(),
            safe: 0,
            bytes: 0,
            order: Default::default(),
        }
    }

    pub fn get(&self, now: Time, key: &Key) -> Option<&Answer> {
        let entry = self.entries.get(key).filter(|entry| entry.expires > now);
        entry.map(|entry| &entry.answer)
    }

    /// Notes a message that is new.
    pub fn insert(&mut self, now: Time, key: Key, kind: Kind, is_safe: bool, answer: Answer) {
        self.remove(&key);
        self.expire(now);
        let (lifetime, place) = match kind {
            Kind::NonConfirmable => (NON_LIFETIME, 0),
            _ => (EXCHANGE_LIFETIME, 1),
        };
        let expires = now + lifetime;
        self.order[place + 2 * usize::from(!is_safe)].push_back((expires, key));
        self.bytes += size(&answer);
        self.safe += usize::from(is_safe);
        let entry = Entry {
            expires,
            is_safe,
            answer,
        };
        self.entries.insert(key, entry);
        self.shrink();
    }

    /// Says what repeats get from now on.
    pub fn answer(&mut self, key: &Key, answer: Answer) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.bytes = self.bytes + size(&answer) - size(&entry.answer);
            entry.answer = answer;
            self.shrink();
        }
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= size(&entry.answer);
            self.safe -= usize::from(entry.is_safe);
        }
    }

    /// Forgets what a peer sent.
    pub fn forget(&mut self, peer: SocketAddr) {
        let of_peer = self.entries.keys().filter(|key| key.0 == peer);
        for key in of_peer.copied().collect::<Vec<_>>() {
            self.remove(&key);
        }
    }

    fn expire(&mut self, now: Time) {
        for at in 0..self.order.len() {
            while let Some((expires, key)) = self.order[at].front().copied() {
                let is_stale = self.is_stale(&key, expires);
                if !is_stale && expires > now {
                    break;
                }
                self.order[at].pop_front();
                if !is_stale {
                    self.remove(&key);
                }
            }
        }
    }

    fn is_stale(&self, key: &Key, expires: Time) -> bool {
        self.entries
            .get(key)
            .is_none_or(|entry| entry.expires != expires)
    }

    fn shrink(&mut self) {
        while self.safe > self.max_safe {
            self.evict(true);
        }
        while self.entries.len() > self.max || self.bytes > self.max_bytes {
            self.evict(self.safe > 0);
        }
    }

    /// Gives up the oldest entry, safe or not.
    fn evict(&mut self, safe: bool) {
        let first = 2 * usize::from(!safe);
        let oldest = |at: usize| self.order[at].front().map(|(expires, _)| *expires);
        let at = match (oldest(first), oldest(first + 1)) {
            (Some(non), Some(con))
                if con - EXCHANGE_LIFETIME < non.saturating_sub(NON_LIFETIME) =>
            {
                first + 1
            }
            (None, _) => first + 1,
            _ => first,
        };
        let Some((expires, key)) = self.order[at].pop_front() else {
            return;
        };
        if !self.is_stale(&key, expires) {
            self.remove(&key);
        }
    }
}

fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Again(bytes) => bytes.len(),
        Answer::Pending | Answer::Silence => 0,
    }
}
