//! A box as seen from outside: what it said, what follows from that, and what was missed.
//!
//! Pure, as the transmitter is. Invariant: each change of a session is learned once, however often and in whatever order it is
//! told; what the box did and nobody can know any more is told as missed.

mod body;
mod guest;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use self::body::{Body, Told};
pub use self::guest::{Guest, Learned, Moment, News, Said};
use crate::clock::DeviceTime;
use crate::session::{UNKNOWN_SEQUENCE, next_sequence};

/// Notifications that are held while the box is read anew.
const MAX_HELD: usize = 256;

/// What is stored of a mirror beside its guests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MirrorMeta {
    /// `globalSessionSequence` up to which everything is known; none before the first reading.
    pub sequence: Option<u16>,
    /// The largest id that was heard of.
    pub last_id: u64,
    pub device_name: Option<String>,
    pub firmware_version: Option<String>,
    pub statistics: Option<Value>,
    pub settings: Option<Value>,
    /// How far the box's clock is behind the relay's, in seconds.
    pub behind_seconds: i64,
    /// When the box last said anything.
    #[serde(with = "time::serde::rfc3339::option")]
    pub heard: Option<OffsetDateTime>,
    /// When what it said was last known to be all: what is missed happened after that.
    #[serde(default)]
    pub whole: Option<OffsetDateTime>,
}

/// A mirrored box.
#[derive(Debug, Clone)]
pub struct Mirror {
    meta: MirrorMeta,
    active: BTreeMap<Uuid, Arc<Guest>>,
    /// Those that the box's own history has.
    ended: BTreeMap<Uuid, Arc<Guest>>,
    /// Notifications that came while the box is read anew; none while it is not.
    held: Option<VecDeque<Vec<u8>>>,
    /// Guests that were not stored since they changed, and those to be forgotten.
    changed: BTreeSet<Uuid>,
    forgotten: BTreeSet<Uuid>,
    /// The sequence that is stored.
    stored: Option<u16>,
}

/// What has changed in a mirror since it was last asked.
#[derive(Debug, Clone, PartialEq)]
pub struct MirrorDelta {
    pub meta: MirrorMeta,
    /// More is known than was, be it that nothing happened: what comes next is counted from here.
    pub is_ahead: bool,
    pub put: Vec<Guest>,
    pub gone: Vec<Uuid>,
}

/// What a notification comes to.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    pub learned: Vec<Learned>,
    /// Something was missed: read `/v1/sessions` and then `/v1/sessions/history`.
    pub must_read: bool,
    /// It could not be read.
    pub is_rubbish: bool,
}

/// Why nothing follows from what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error("the box's answer is not as the transmitter API has it: {0}")]
    Rubbish(&'static str),
    /// Notifications are still held.
    #[error("the box has changed between its two answers; read it once more")]
    Changed,
}

impl Default for Mirror {
    fn default() -> Self {
        Self::new()
    }
}

impl Mirror {
    /// The mirror of a box that was never heard of.
    pub fn new() -> Self {
        let meta = MirrorMeta {
            sequence: None,
            last_id: 0,
            device_name: None,
            firmware_version: None,
            statistics: None,
            settings: None,
            behind_seconds: 0,
            heard: None,
            whole: None,
        };
        Self::restore(meta, Vec::new())
    }

    /// The mirror as it was stored.
    pub fn restore(meta: MirrorMeta, guests: Vec<Guest>) -> Self {
        let (active, ended) = guests.into_iter().partition::<Vec<_>, _>(Guest::is_active);
        let by_uuid = |guests: Vec<Guest>| {
            guests
                .into_iter()
                .map(|guest: Guest| (guest.uuid, Arc::new(guest)))
                .collect()
        };
        Self {
            active: by_uuid(active),
            ended: by_uuid(ended),
            held: None,
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            stored: meta.sequence,
            meta,
        }
    }

    /// What is to be stored.
    pub fn take_changes(&mut self) -> MirrorDelta {
        let find = |uuid: &Uuid| {
            self.active
                .get(uuid)
                .or_else(|| self.ended.get(uuid))
                .map(|guest| Guest::clone(guest))
        };
        let put = self.changed.iter().filter_map(find).collect();
        self.changed.clear();
        let is_ahead = self.stored != self.meta.sequence;
        self.stored = self.meta.sequence;
        MirrorDelta {
            is_ahead,
            meta: self.meta.clone(),
            put,
            gone: std::mem::take(&mut self.forgotten).into_iter().collect(),
        }
    }

    pub fn meta(&self) -> &MirrorMeta {
        &self.meta
    }

    /// Active guests, then those of the history.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        let all = self.active.values().chain(self.ended.values());
        all.map(|guest| &**guest)
    }

    /// From here on notifications are held, until [`Self::read`] or [`Self::give_up`].
    pub fn begin_reading(&mut self) {
        self.held.get_or_insert_default();
    }

    /// The box could not be read.
    pub fn give_up(&mut self) {
        self.held = None;
    }

    /// Takes a notification, or a ping.
    pub fn notification(&mut self, bytes: &[u8], now: OffsetDateTime) -> Heard {
        if let Some(held) = &mut self.held {
            if held.len() == MAX_HELD {
                held.pop_front();
            }
            held.push_back(bytes.to_vec());
            return Heard::default();
        }
        let Some(body) = Body::read(bytes) else {
            return Heard {
                is_rubbish: true,
                ..Heard::default()
            };
        };
        self.hear(&body, now);
        if body.sessions.is_none() && body.sequence.is_none() {
            return Heard::default();
        }
        let must_read = Heard {
            must_read: true,
            ..Heard::default()
        };
        let (Some(sequence), Some(last)) = (body.sequence, self.meta.sequence) else {
            return must_read;
        };
        if sequence == last {
            self.meta.whole = Some(now);
            return Heard::default();
        }
        let told = body.sessions.unwrap_or_default();
        match &told[..] {
            [told] if sequence == next_sequence(last) && body.unreadable == 0 => {
                self.meta.sequence = Some(sequence);
                self.meta.whole = Some(now);
                Heard {
                    learned: self.change(told, now),
                    ..Heard::default()
                }
            }
            // An old one that comes late: nothing is missing.
            [_] if is_before(sequence, last) && told[0].sequence == Some(sequence) => {
                Heard::default()
            }
            _ => must_read,
        }
    }

    /// One change of one session.
    fn change(&mut self, told: &Told, now: OffsetDateTime) -> Vec<Learned> {
        if self.ended.contains_key(&told.uuid) {
            return Vec::new();
        }
        self.meta.last_id = self.meta.last_id.max(told.id);
        let known = self.active.get(&told.uuid).map(|guest| &**guest);
        let guest = Guest::of(told, known, self.offset(), now);
        let learned = match known {
            None => guest.arrival(),
            Some(known) => {
                let since = guest.since(known, now);
                // A step without a difference: the guest was paged again (L14).
                if since.is_empty() && guest.is_active() {
                    vec![Learned {
                        at: now,
                        what: News::Paged(guest.clone()),
                    }]
                } else {
                    since
                }
            }
        };
        self.put(guest);
        learned
    }

    fn put(&mut self, guest: Guest) {
        self.changed.insert(guest.uuid);
        self.forgotten.remove(&guest.uuid);
        if guest.is_active() {
            self.active.insert(guest.uuid, Arc::new(guest));
        } else {
            self.active.remove(&guest.uuid);
            self.ended.insert(guest.uuid, Arc::new(guest));
        }
    }

    /// Takes what `/v1/sessions` and, asked after it, `/v1/sessions/history` answered; then what was held meanwhile.
    ///
    /// Both must be of one moment, or changes cannot be told from those that were missed. Of a box that never rests, `insist`
    /// takes them all the same: then more may be told as missed than was.
    pub fn read(
        &mut self,
        active: &[u8],
        history: &[u8],
        now: OffsetDateTime,
        insist: bool,
    ) -> Result<Heard, Unread> {
        let active = Body::read(active).ok_or(Unread::Rubbish("/v1/sessions is no JSON object"))?;
        let history =
            Body::read(history).ok_or(Unread::Rubbish("/v1/sessions/history is no JSON object"))?;
        let sequence = active
            .sequence
            .filter(|sequence| *sequence != UNKNOWN_SEQUENCE);
        let sequence = sequence.ok_or(Unread::Rubbish("globalSessionSequence is missing"))?;
        let sessions = active
            .sessions
            .as_ref()
            .ok_or(Unread::Rubbish("`sessions` is missing"))?;
        let archived = history
            .history
            .as_ref()
            .ok_or(Unread::Rubbish("`session_history` is missing"))?;
        if history.sequence != Some(sequence) && !insist {
            return Err(Unread::Changed);
        }
        let until = history.sequence.unwrap_or(sequence);
        let before = self.meta.clone();
        let is_anew = self.is_anew(sessions, archived, until);
        self.hear(&active, now);
        self.hear(&history, now);
        let mut learned = Vec::new();
        let lost = self.end_known(sessions, archived, now, &mut learned);
        let mut steps = lost;
        for told in archived
            .iter()
            .filter(|told| told.clear_type.is_some() || told.cleared.is_some())
        {
            steps += self.catch_up(told, now, &mut learned);
        }
        for told in sessions {
            // One that ended while we read is in both.
            if !self.ended.contains_key(&told.uuid) {
                steps += self.catch_up(told, now, &mut learned);
            }
        }
        let unreadable = active.unreadable + history.unreadable;
        let missed = Missed {
            until,
            unreadable,
            steps,
            is_anew,
            is_lost: lost > 0,
            now,
        };
        missed.record(&before, (sessions, archived), &mut learned);
        if is_anew {
            let ids = sessions.iter().chain(archived).map(|told| told.id);
            self.meta.last_id = ids.max().unwrap_or(0);
        }
        self.meta.sequence = Some(sequence);
        self.meta.whole = Some(now);
        learned.sort_by_key(|learned| learned.at);
        Ok(self.catch_up_held(sequence, learned, now))
    }

    /// Takes what was held while the box was read.
    fn catch_up_held(
        &mut self,
        sequence: u16,
        learned: Vec<Learned>,
        now: OffsetDateTime,
    ) -> Heard {
        let mut heard = Heard {
            learned,
            ..Heard::default()
        };
        for bytes in self.held.take().unwrap_or_default() {
            let body = Body::read(&bytes).and_then(|body| body.sequence);
            // What was told before the reading is in it.
            if body.is_some_and(|held| held == sequence || is_before(held, sequence)) {
                continue;
            }
            let more = self.notification(&bytes, now);
            heard.learned.extend(more.learned);
            heard.must_read |= more.must_read;
        }
        heard
    }

    /// Forgets what the box's history has forgotten, and ends those that neither list knows; says how many steps that accounts for.
    fn end_known(
        &mut self,
        sessions: &[Told],
        archived: &[Told],
        now: OffsetDateTime,
        learned: &mut Vec<Learned>,
    ) -> u64 {
        let is_archived = |uuid: &Uuid| archived.iter().any(|told| told.uuid == *uuid);
        let is_active = |uuid: &Uuid| sessions.iter().any(|told| told.uuid == *uuid);
        let is_kept = |uuid: &Uuid| is_archived(uuid) || is_active(uuid);
        let old: Vec<Uuid> = self
            .ended
            .keys()
            .filter(|uuid| !is_kept(uuid))
            .copied()
            .collect();
        for uuid in old {
            self.ended.remove(&uuid);
            self.changed.remove(&uuid);
            self.forgotten.insert(uuid);
        }
        let lost: Vec<Uuid> = self
            .active
            .keys()
            .filter(|uuid| !is_archived(uuid) && !is_active(uuid))
            .copied()
            .collect();
        let steps = lost.len() as u64;
        for uuid in lost {
            if let Some(guest) = self.active.remove(&uuid) {
                self.changed.remove(&uuid);
                self.forgotten.insert(uuid);
                learned.push(Learned {
                    at: now,
                    what: News::Cleared(guest.lost()),
                });
            }
        }
        steps
    }

    /// Learns what is new of a session; says how many steps that accounts for.
    fn catch_up(&mut self, told: &Told, now: OffsetDateTime, learned: &mut Vec<Learned>) -> u64 {
        if self.ended.contains_key(&told.uuid) {
            return 0;
        }
        self.meta.last_id = self.meta.last_id.max(told.id);
        let known = self.active.get(&told.uuid).map(|guest| &**guest);
        let guest = Guest::of(told, known, self.offset(), now);
        let story = match known {
            None => guest.story(),
            Some(known) => guest.since(known, now),
        };
        let steps = guest.least_steps(&story);
        learned.extend(story);
        self.put(guest);
        steps
    }

    /// Whether it is another box by now, or one that lost its memory: it is behind of what it was, or gives out anew what it
    /// gave out before.
    fn is_anew(&self, sessions: &[Told], archived: &[Told], sequence: u16) -> bool {
        let Some(last) = self.meta.sequence else {
            return false;
        };
        let mut all = sessions.iter().chain(archived);
        let newest = all.clone().map(|told| told.id).max().unwrap_or(0);
        let is_known = |uuid| self.active.contains_key(uuid) || self.ended.contains_key(uuid);
        newest < self.meta.last_id && is_before(sequence, last)
            || all.any(|told| told.id <= self.meta.last_id && !is_known(&told.uuid))
    }

    /// Takes over what every body carries.
    fn hear(&mut self, body: &Body, now: OffsetDateTime) {
        self.meta.heard = Some(now);
        if let Some(timestamp) = body.timestamp {
            let behind = (now - timestamp.assume_utc()).whole_seconds();
            // Stamps are whole seconds, and bodies take their time: a second more or less is no change.
            if (behind - self.meta.behind_seconds).abs() > 1 {
                self.meta.behind_seconds = behind;
            }
        }
        let keep = |held: &mut Option<Value>, new: &Option<Value>| {
            if new.is_some() {
                held.clone_from(new);
            }
        };
        keep(&mut self.meta.statistics, &body.statistics);
        keep(&mut self.meta.settings, &body.settings);
        if body.device_name.is_some() {
            self.meta.device_name.clone_from(&body.device_name);
        }
        if body.firmware_version.is_some() {
            self.meta
                .firmware_version
                .clone_from(&body.firmware_version);
        }
    }

    fn offset(&self) -> Duration {
        Duration::seconds(self.meta.behind_seconds)
    }

    /// The body of a GET, as the box would answer it by what is known of it, with the member `mirrorAge`: seconds since the box
    /// last said anything. Nothing where the path is not one of those, or not enough is known.
    pub fn body(
        &self,
        path: &[String],
        number: Option<u16>,
        now: OffsetDateTime,
    ) -> Option<Vec<u8>> {
        let sequence = self.meta.sequence?;
        let heard = self.meta.heard?;
        let raw = |guest: &Guest| guest.raw.value();
        let statistics = self.meta.statistics.clone().unwrap_or(json!({}));
        let matches = |segments: &[&str]| path == segments;
        let mut by_id: Vec<&Guest> = self.active.values().map(|guest| &**guest).collect();
        by_id.sort_by_key(|guest| guest.id);
        let content = if matches(&["v1", "sessions"]) && number.is_some() {
            let guest = by_id
                .into_iter()
                .find(|guest| Some(guest.number) == number)?;
            json!({"responseTypes": ["sessions"], "sessions": [raw(guest)]})
        } else if matches(&["v1", "sessions"]) {
            let sessions: Vec<Value> = by_id.into_iter().map(raw).collect();
            json!({"responseTypes": ["sessions", "statistics"], "statistics": statistics, "sessions": sessions})
        } else if matches(&["v1", "sessions", "history"]) {
            let mut ended: Vec<&Guest> = self.ended.values().map(|guest| &**guest).collect();
            ended.sort_by_key(|guest| guest.id);
            let history: Vec<Value> = ended.into_iter().map(raw).collect();
            json!({"responseTypes": ["session_history"], "session_history": history})
        } else if matches(&["v1", "sessions", "statistics"]) {
            json!({"responseTypes": ["statistics"], "statistics": statistics})
        } else if matches(&["v1", "settings"]) {
            json!({"responseTypes": ["settings"], "settings": self.meta.settings.clone()?})
        } else {
            return None;
        };
        Some(self.envelope(content, sequence, heard, now))
    }

    /// The body that keeps observers of the mirror alive.
    pub fn ping(&self, now: OffsetDateTime) -> Option<Vec<u8>> {
        let content = json!({"responseTypes": ["ping"]});
        Some(self.envelope(content, self.meta.sequence?, self.meta.heard?, now))
    }

    fn envelope(
        &self,
        mut content: Value,
        sequence: u16,
        heard: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Vec<u8> {
        let clock = DeviceTime::at(now, -self.meta.behind_seconds * 1_000_000);
        content["globalSessionSequence"] = json!(sequence);
        content["timestamp"] = json!(clock.to_string());
        content["deviceName"] = json!(self.meta.device_name);
        content["firmwareVersion"] = json!(self.meta.firmware_version);
        content["mirrorAge"] = json!((now - heard).whole_seconds().max(0));
        serde_json::to_vec(&content).expect("a JSON value can always be written")
    }
}

/// What a reading showed, beside its lists, of what was missed before it.
struct Missed {
    /// The box's sequence as it was read.
    until: u16,
    /// Sessions that could not be read.
    unreadable: u64,
    /// Steps of the sequence that what was learned accounts for.
    steps: u64,
    /// The box began anew.
    is_anew: bool,
    /// Sessions ended, and it does not say how.
    is_lost: bool,
    now: OffsetDateTime,
}

impl Missed {
    /// Adds a record of what happened and cannot be known any more: steps that nothing accounts for, sessions that came and
    /// went.
    fn record(
        &self,
        before: &MirrorMeta,
        (sessions, archived): (&[Told], &[Told]),
        learned: &mut Vec<Learned>,
    ) {
        let Some(last) = before.sequence else {
            return;
        };
        let ids = sessions.iter().chain(archived).map(|told| told.id);
        let new = ids
            .clone()
            .filter(|id| *id > before.last_id)
            .collect::<BTreeSet<u64>>();
        let newest = ids.max().unwrap_or(0);
        let unseen = newest
            .saturating_sub(before.last_id)
            .saturating_sub(new.len() as u64);
        let steps = u64::from(steps_between(last, self.until));
        let missed = steps.saturating_sub(self.steps).max(unseen);
        let (changes, reason) = if self.is_anew {
            (
                None,
                "the box began anew, and no longer knows what was before",
            )
        } else if self.is_lost {
            (
                Some(missed).filter(|missed| *missed > 0),
                "sessions ended and the box no longer knows how and when",
            )
        } else if unseen > 0 {
            (Some(missed), "sessions came and went while nobody watched")
        } else if missed > 0 {
            (
                Some(missed),
                "changes were made while nobody watched, of which the last state alone is known",
            )
        } else if self.unreadable > 0 {
            (
                Some(self.unreadable),
                "the box tells of sessions that cannot be read",
            )
        } else {
            return;
        };
        learned.insert(
            0,
            Learned {
                at: before.whole.unwrap_or(OffsetDateTime::UNIX_EPOCH),
                what: News::Missed {
                    changes,
                    since: before.whole,
                    until: self.now,
                    reason,
                },
            },
        );
    }
}

/// Steps from one sequence number to another (L5).
fn steps_between(from: u16, to: u16) -> u16 {
    let modulus = u32::from(UNKNOWN_SEQUENCE);
    let steps = (u32::from(to) + modulus - u32::from(from) % modulus) % modulus;
    u16::try_from(steps).unwrap_or(0)
}

/// Whether a sequence number is rather behind another than ahead of it.
fn is_before(sequence: u16, other: u16) -> bool {
    let behind = steps_between(sequence, other);
    behind > 0 && behind < UNKNOWN_SEQUENCE / 2
}
