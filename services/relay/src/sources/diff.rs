//! What differs between what was told of a source's sessions and a new picture of them, as events to tell. Pure.
//!
//! Invariant: nobody is connected twice at once, and an unchanged picture tells nothing.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::{iter, vec};

use rollcall_model::ingest::{ConnectionKind, ConnectionSession, Happening, Presence, Subject};
use time::{Duration, OffsetDateTime};

use super::SeenService;

/// What was told of the sessions of one service: enough to see what differs, while the facts are in the spool.
#[derive(Debug, Default)]
pub struct Memory {
    sessions: HashMap<Box<str>, Told>,
}

/// What was told of one session, last.
#[derive(Clone, Debug)]
pub struct Told {
    presence: Presence,
    connected_at: Option<OffsetDateTime>,
    idle_since: Option<OffsetDateTime>,
    /// Digests of what waits and who works for it, of its subscriptions where they are known, and of all else.
    moving: u64,
    subscriptions: Option<u64>,
    facts: u64,
    /// Unknown of what was told before the relay started.
    at: Option<OffsetDateTime>,
}

/// When a picture was taken, and how it is to be told.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: OffsetDateTime,
    /// When the picture before it was taken; never, where absent.
    pub previous: Option<OffsetDateTime>,
    /// How often what moves all the time is told of one session.
    pub every: Duration,
    /// Some of what was told was lost: all that was told before is told again.
    pub again: Option<OffsetDateTime>,
    /// Nor is it known who was told of: who connected before is no news.
    pub is_unsure: bool,
}

/// What there is to tell of one session: one to three events in their order, which are stored together.
#[derive(Debug)]
pub struct Change {
    pub service: Arc<str>,
    pub source_id: Box<str>,
    pub steps: Vec<(OffsetDateTime, Step)>,
    /// What is remembered once it is stored; nothing where the session is no more.
    after: Option<Told>,
}

/// One thing that happened to a session.
#[derive(Debug)]
pub enum Step {
    Connected(Box<ConnectionSession>),
    Updated(Box<ConnectionSession>),
    /// Updated, but for its subscriptions, which stay as they were told.
    UpdatedElsewhere(Box<ConnectionSession>),
    /// It is kept for its client.
    Disconnected(Box<ConnectionSession>),
    /// Another connection took its place.
    TakenOver,
    /// Its client is gone, and so is it.
    Left,
    /// It was kept for its client, and is no more.
    Removed,
}

impl Memory {
    /// Remembers a session as it was told before the relay started.
    pub fn restore(&mut self, session: &mut ConnectionSession) {
        let told = Told::of(session, None);
        let source_id = session.source_id.as_str().into();
        self.sessions.insert(source_id, told);
    }

    /// Whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// What the picture of a service has that was not told. Where the source has the service no longer, it has none of its
    /// sessions.
    pub fn compare(&self, seen: Option<SeenService>, name: &Arc<str>, at: Moment) -> Differences {
        let connections = seen.map(|seen| seen.connections).unwrap_or_default();
        let mut present = HashSet::with_capacity(connections.len());
        // A picture has each once; where it does not, the first counts.
        let counts: Vec<bool> = connections
            .iter()
            .map(|held| {
                held.facts.presence != Presence::Gone && present.insert(held.source_id.as_str())
            })
            .collect();
        let left = self.left(&present, name, at.now);
        drop(present);
        Differences {
            name: name.clone(),
            at,
            left: left.into_iter(),
            connections: connections.into_iter().zip(counts),
        }
    }

    /// Those that the source has no longer.
    fn left(&self, present: &HashSet<&str>, name: &Arc<str>, now: OffsetDateTime) -> Vec<Change> {
        let absent = self
            .sessions
            .iter()
            .filter(|(source_id, _)| !present.contains(&***source_id));
        let mut left: Vec<Change> = absent
            .map(|(source_id, told)| {
                let step = match told.presence {
                    Presence::Connected => Step::Left,
                    Presence::Disconnected | Presence::Gone => Step::Removed,
                };
                Change {
                    service: name.clone(),
                    source_id: source_id.clone(),
                    steps: vec![(now, step)],
                    after: None,
                }
            })
            .collect();
        left.sort_unstable_by(|a, b| a.source_id.cmp(&b.source_id));
        left
    }

    /// The change is stored.
    pub fn told(&mut self, change: Change) {
        match change.after {
            Some(told) => self.sessions.insert(change.source_id, told),
            None => self.sessions.remove(&change.source_id),
        };
    }
}

/// What a picture of a service has to tell. Found while it is told: not all of it is in memory twice.
#[derive(Debug)]
pub struct Differences {
    name: Arc<str>,
    at: Moment,
    left: vec::IntoIter<Change>,
    connections: iter::Zip<vec::IntoIter<ConnectionSession>, vec::IntoIter<bool>>,
}

impl Differences {
    pub fn service(&self) -> &str {
        &self.name
    }

    /// Tells nothing again for now. Says whether it would have.
    pub fn hold_back(&mut self) -> bool {
        self.at.again.take().is_some()
    }

    /// The next change; `memory` is of all that were told before.
    pub fn next(&mut self, memory: &Memory) -> Option<Change> {
        if let Some(change) = self.left.next() {
            return Some(change);
        }
        for (mut session, counts) in self.connections.by_ref() {
            let told = memory.sessions.get(session.source_id.as_str());
            let mut after = Told::of(&mut session, Some(self.at.now));
            let keeps = after.keep_subscriptions(told);
            if !counts || told.is_some_and(|told| told.stands(&after, self.at)) {
                continue;
            }
            return Some(Change {
                service: self.name.clone(),
                source_id: session.source_id.as_str().into(),
                steps: steps(told, Box::new(session), keeps, self.at),
                after: Some(after),
            });
        }
        None
    }
}

impl Told {
    fn of(session: &mut ConnectionSession, at: Option<OffsetDateTime>) -> Self {
        let facts = &mut session.facts;
        let counts = (facts.inflight.take(), facts.queue_depth.take());
        // In a pool each transaction has another.
        let backends = facts.backends.take();
        let idle_since = facts.idle_since.take();
        let (subscriptions, count) = (facts.subscriptions.take(), facts.subscription_count.take());
        let listed = subscriptions.as_ref().map(Vec::len);
        let digest_of_facts =
            digest(&(&*session, count.or(listed.and_then(|n| n.try_into().ok()))));
        let digest_of_list = subscriptions.as_ref().map(digest);
        let facts = &mut session.facts;
        (facts.subscriptions, facts.subscription_count) = (subscriptions, count);
        let digest_of_moving = digest(&(counts, &backends));
        (facts.inflight, facts.queue_depth) = counts;
        (facts.idle_since, facts.backends) = (idle_since, backends);
        Self {
            presence: facts.presence,
            connected_at: facts.connected_at,
            idle_since,
            moving: digest_of_moving,
            subscriptions: digest_of_list,
            facts: digest_of_facts,
            at,
        }
    }

    /// Whether there is nothing to tell, or not yet.
    fn stands(&self, now: &Self, at: Moment) -> bool {
        let is_lost = |since| self.at.is_none_or(|told| told < since);
        let is_other = self.facts != now.facts || self.subscriptions != now.subscriptions;
        if is_other || at.again.is_some_and(is_lost) {
            return false;
        }
        let has_moved = self.moving != now.moving || self.is_idle_otherwise(now, at.every);
        let is_early = self.at.is_some_and(|told| at.now - told < at.every);
        !has_moved || is_early
    }

    /// Some sources tell subscriptions later than all else: until then those of the connection stay.
    fn keep_subscriptions(&mut self, before: Option<&Self>) -> bool {
        let is_same = |before: &&Self| {
            (before.presence, before.connected_at) == (self.presence, self.connected_at)
        };
        let before = before
            .filter(is_same)
            .and_then(|before| before.subscriptions);
        let keeps = self.subscriptions.is_none() && before.is_some();
        self.subscriptions = self.subscriptions.or(before);
        keeps
    }

    fn is_idle_otherwise(&self, now: &Self, every: Duration) -> bool {
        match (self.idle_since, now.idle_since) {
            (Some(before), Some(now)) => (now - before).abs() > every,
            (before, now) => before.is_some() != now.is_some(),
        }
    }
}

fn digest(value: &impl serde::Serialize) -> u64 {
    struct Hashed(DefaultHasher);
    impl std::io::Write for Hashed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hashed = Hashed(DefaultHasher::new());
    serde_json::to_writer(&mut hashed, value).expect("plain data, and nothing that could fail");
    hashed.0.finish()
}

/// How a session came to be as the picture has it.
fn steps(
    told: Option<&Told>,
    session: Box<ConnectionSession>,
    keeps_subscriptions: bool,
    at: Moment,
) -> Vec<(OffsetDateTime, Step)> {
    let facts = &session.facts;
    let (connected_at, presence) = (facts.connected_at, facts.presence);
    let came = at.within(connected_at);
    let went = at.within(facts.disconnected_at).max(came);
    let is_other = |told: &&Told| {
        let times = told.connected_at.zip(connected_at);
        times.is_some_and(|(before, now)| before != now)
    };
    let is_new_connection = told.as_ref().is_some_and(is_other);
    let was = told.map(|told| told.presence);
    match (was, presence) {
        (None, Presence::Connected) if at.is_unsure && !at.is_recent(connected_at) => {
            vec![(at.now, Step::Updated(session))]
        }
        (None | Some(Presence::Disconnected), Presence::Connected) => {
            vec![(came, Step::Connected(session))]
        }
        (Some(Presence::Connected), Presence::Connected) if is_new_connection => {
            vec![(came, Step::TakenOver), (came, Step::Connected(session))]
        }
        (Some(Presence::Connected), Presence::Disconnected) if is_new_connection => vec![
            (came, Step::TakenOver),
            (came, Step::Connected(before_it_left(&session))),
            (went, Step::Disconnected(session)),
        ],
        (Some(Presence::Disconnected), Presence::Disconnected) if is_new_connection => vec![
            (came, Step::Connected(before_it_left(&session))),
            (went, Step::Disconnected(session)),
        ],
        (None, Presence::Disconnected) if at.is_recent(connected_at) => vec![
            (came, Step::Connected(before_it_left(&session))),
            (went, Step::Disconnected(session)),
        ],
        (None | Some(Presence::Connected), _) if presence != Presence::Connected => {
            let went = at.within(session.facts.disconnected_at);
            vec![(went, Step::Disconnected(session))]
        }
        _ if keeps_subscriptions => vec![(at.now, Step::UpdatedElsewhere(session))],
        _ => vec![(at.now, Step::Updated(session))],
    }
}

/// A session that its client has left already, as it was while the client was there.
fn before_it_left(session: &ConnectionSession) -> Box<ConnectionSession> {
    let mut session = Box::new(session.clone());
    session.facts.presence = Presence::Connected;
    session.facts.disconnected_at = None;
    session
}

impl Moment {
    /// A time of the source's where it lies between the pictures, else this picture's.
    fn within(&self, at: Option<OffsetDateTime>) -> OffsetDateTime {
        let is_within = |at: &OffsetDateTime| {
            *at <= self.now && self.previous.is_none_or(|previous| *at > previous)
        };
        at.filter(is_within).unwrap_or(self.now)
    }

    fn is_recent(&self, at: Option<OffsetDateTime>) -> bool {
        self.previous
            .zip(at)
            .is_some_and(|(previous, at)| at > previous)
    }
}

impl Step {
    /// The event; `before` is what was last told of the session. Nothing where nothing was told of one that is no more.
    pub fn happening(&self, before: Option<&ConnectionSession>) -> Option<Happening> {
        let ended = |presence| before.map(|before| Box::new(end(before, presence)));
        let happening = match self {
            Self::Connected(connection) => Happening::Connected {
                connection: connection.clone(),
            },
            Self::Disconnected(connection) => Happening::Disconnected {
                connection: connection.clone(),
            },
            Self::Updated(connection) => Happening::Updated {
                subject: Subject::Connection(connection.clone()),
            },
            Self::UpdatedElsewhere(connection) => {
                let mut connection = connection.clone();
                let before = before.and_then(|before| before.facts.subscriptions.clone());
                connection.facts.subscriptions = before;
                Happening::Updated {
                    subject: Subject::Connection(connection),
                }
            }
            Self::TakenOver => {
                let is_kept = before.is_some_and(is_kept);
                let presence = if is_kept {
                    Presence::Disconnected
                } else {
                    Presence::Gone
                };
                Happening::Disconnected {
                    connection: ended(presence)?,
                }
            }
            Self::Left => Happening::Disconnected {
                connection: ended(Presence::Gone)?,
            },
            Self::Removed => Happening::Removed {
                subject: Subject::Connection(ended(Presence::Gone)?),
            },
        };
        Some(happening)
    }

    /// Whether its event tells what was last told of the session.
    pub fn is_of_before(&self) -> bool {
        matches!(
            self,
            Self::UpdatedElsewhere(_) | Self::TakenOver | Self::Left | Self::Removed
        )
    }

    /// Whether the session is no more after it.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Left | Self::Removed)
    }
}

/// The session that an event of a source tells of.
pub fn session(happening: &Happening) -> Option<&ConnectionSession> {
    match happening {
        Happening::Connected { connection } | Happening::Disconnected { connection } => {
            Some(connection)
        }
        Happening::Updated { subject } | Happening::Removed { subject } => match subject {
            Subject::Connection(connection) => Some(connection),
            Subject::Session(_) => None,
        },
        _ => None,
    }
}

/// A session after its client has left. When it left its source does not say: the event's time is when that was seen.
fn end(before: &ConnectionSession, presence: Presence) -> ConnectionSession {
    let mut session = before.clone();
    let facts = &mut session.facts;
    if facts.presence == Presence::Connected {
        facts.disconnected_at = None;
    }
    facts.presence = presence;
    (facts.state, facts.idle_since) = (None, None);
    (facts.inflight, facts.queue_depth) = (None, None);
    session
}

/// Whether the source keeps the session while its client is away.
fn is_kept(session: &ConnectionSession) -> bool {
    let facts = &session.facts;
    let is_kept = match facts.expiry_seconds {
        Some(seconds) => seconds > 0,
        None => facts.clean_start == Some(false),
    };
    session.kind == ConnectionKind::Mqtt && is_kept
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
