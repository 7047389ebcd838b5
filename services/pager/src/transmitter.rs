//! The transmitter's state, how it is stored and restored, and the bodies it sends unasked.
//! One call is one step: it is kept by the next call or undone by [`Transmitter::rollback`].

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use time::Date;

use crate::clock::{Anchor, ClockMark, DeviceTime, Now, Stamp};
use crate::request::Effects;
use crate::session::{Change, Session, UNKNOWN_SEQUENCE};
use crate::settings::{Settings, SettingsPatch};
use crate::statistics::Statistics;
use crate::table::Table;
use crate::wire::{self, Content, Envelope, SessionBody, SettingsBody};

/// What an operator decides about a transmitter; clients cannot change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `deviceName` of the envelope.
    pub device_name: String,
    /// `firmwareVersion` of the envelope.
    pub firmware_version: String,
    /// Page a session by itself when its goal is reached (pager contract, L16).
    pub auto_page: bool,
    /// Most active sessions; one more is answered 5.03.
    pub max_active: usize,
    /// Most archived sessions; the longest cleared are dropped (pager contract, L25).
    pub max_history: usize,
    /// Page modes known besides [`crate::PAGE_MODES`] (pager contract, L23).
    pub extra_page_modes: Vec<String>,
    /// The beginning of every ETag, of which the lowest 20 bits count. Take another at each start, such as a random one: then no
    /// tag comes again, not even after the storage was lost (pager contract, L17).
    pub etag_epoch: u32,
}

/// What ETags are written in.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Of an ETag's 48 bits, those that count changes.
const VERSION_BITS: u32 = 28;

impl Default for Config {
    fn default() -> Self {
        Self {
            device_name: "T7470".to_owned(),
            firmware_version: "8.4.100.43".to_owned(),
            auto_page: false,
            max_active: 10_000,
            max_history: 1_000,
            extra_page_modes: Vec::new(),
            etag_epoch: 0,
        }
    }
}

/// Everything to store besides the sessions (pager contract, L30).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The id of the next session.
    pub next_id: u64,
    /// `globalSessionSequence`.
    pub sequence: u16,
    /// Counts what changes the list of active sessions or the statistics; half of an ETag.
    pub version: u32,
    /// What clients set.
    pub settings: Settings,
    /// Sums since the last clear.
    pub statistics: Statistics,
    /// When the statistics are cleared next, on the device's clock.
    pub next_clear: Option<DeviceTime>,
    /// The device's day whose clear was done, so that a clock set back does not repeat it.
    pub cleared_on: Option<Date>,
    /// The moment of the last call.
    pub clock: ClockMark,
}

/// A whole transmitter in storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counters, settings, statistics and clocks.
    pub meta: Meta,
    /// Active and archived sessions in any order.
    pub sessions: Vec<Session>,
}

/// A snapshot that no transmitter can have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Two sessions have one id.
    #[error("session id {0} is stored twice; delete one of the rows")]
    DuplicateId(u64),
    /// Two active sessions have one pager.
    #[error("pager {0} has two active sessions; clear one of the rows")]
    DuplicateNumber(u16),
    /// A session's id was not given out yet.
    #[error("session id {0} is not below the stored next id; the rows are newer than the counters")]
    IdAhead(u64),
    /// A session's clear type, clear time and state contradict each other.
    #[error("session id {0} is half cleared: state, clear type and clear time disagree")]
    HalfCleared(u64),
    /// The global sequence is the reserved value.
    #[error("the stored global sequence is 65535, which is reserved")]
    ReservedSequence,
}

/// One pager transmitter.
///
/// Calls come one after the other (pager contract, L29). A clone costs as much as the sessions
/// it holds; to undo a call, use [`Transmitter::rollback`] instead.
#[derive(Debug, Clone)]
pub struct Transmitter {
    pub(crate) config: Config,
    pub(crate) meta: Meta,
    pub(crate) table: Table,
    pub(crate) effects: Effects,
    before: Meta,
    anchor: Anchor,
}

impl Transmitter {
    /// A transmitter out of the box: no session, sequence 0, ids from 1.
    pub fn new(config: Config, now: Now) -> Self {
        let anchor = Anchor::new(now);
        let clock = ClockMark {
            uptime: anchor.uptime(now),
            utc: now.utc,
        };
        let meta = Meta {
            next_id: 1,
            sequence: 0,
            version: 0,
            settings: Settings::default(),
            statistics: Statistics::default(),
            next_clear: None,
            cleared_on: None,
            clock,
        };
        Self::with(config, meta, Table::default(), anchor)
    }

    /// Continues a stored transmitter. Active sessions lose their sequence (pager contract, L6),
    /// and the time switched off counts as waited (pager contract, L20).
    pub fn restore(snapshot: Snapshot, config: Config, now: Now) -> Result<Self, SnapshotError> {
        let Snapshot { mut meta, sessions } = snapshot;
        if meta.sequence == UNKNOWN_SEQUENCE {
            return Err(SnapshotError::ReservedSequence);
        }
        let mut table = Table::default();
        let mut numbers = HashSet::new();
        for mut session in sessions {
            let is_over = !session.is_active();
            if table.contains(session.id) {
                return Err(SnapshotError::DuplicateId(session.id));
            }
            if session.id >= meta.next_id {
                return Err(SnapshotError::IdAhead(session.id));
            }
            if is_over != session.cleared.is_some() || is_over != session.clear_type.is_some() {
                return Err(SnapshotError::HalfCleared(session.id));
            }
            if !is_over && !numbers.insert(session.number) {
                return Err(SnapshotError::DuplicateNumber(session.number));
            }
            session.sequence = UNKNOWN_SEQUENCE;
            table.put(session);
        }
        table.commit();
        // The lost sequences are a change of the list that ETags have to show.
        meta.version = meta.version.wrapping_add(1);
        let anchor = Anchor::restore(meta.clock, now);
        Ok(Self::with(config, meta, table, anchor))
    }

    fn with(config: Config, meta: Meta, table: Table, anchor: Anchor) -> Self {
        Self {
            config,
            meta,
            table,
            effects: Effects::default(),
            before: meta,
            anchor,
        }
    }

    /// Counters, settings, statistics and clocks as of the last call.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// What clients set.
    pub fn settings(&self) -> &Settings {
        &self.meta.settings
    }

    /// Active sessions by ascending id.
    pub fn active(&self) -> impl ExactSizeIterator<Item = &Session> {
        self.table.active().values()
    }

    /// Archived sessions by ascending id.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Session> {
        self.table.history().values()
    }

    /// Everything to store, for a first write or a copy; afterwards [`Effects`] tells what to add.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            meta: self.meta,
            sessions: self.active().chain(self.history()).cloned().collect(),
        }
    }

    /// Undoes the last [`Transmitter::handle`] or [`Transmitter::tick`], whose effects could not
    /// be stored. Costs as much as that call changed. A second one in a row does nothing.
    pub fn rollback(&mut self) {
        self.table.rollback();
        self.meta = self.before;
    }

    /// The tag of the list of active sessions as it is now (pager contract, L17): eight letters of six bits each, because
    /// node-coap gives its users tags as text, and gives back as UTF-8 what they hand in.
    pub fn etag(&self) -> [u8; 8] {
        let tag = u64::from(self.config.etag_epoch) << VERSION_BITS
            | u64::from(self.meta.version) & ((1 << VERSION_BITS) - 1);
        std::array::from_fn(|place| LETTERS[(tag >> (42 - 6 * place) & 0x3F) as usize])
    }

    /// The body that tells observers of a change: the one session and the statistics after it
    /// (pager contract, L10 and L11).
    pub fn notification(&self, change: &Change, now: Now) -> Vec<u8> {
        let content = Content {
            statistics: Some(change.statistics),
            sessions: Some(vec![SessionBody::new(&change.session)]),
            ..Content::default()
        };
        self.envelope(change.sequence, content, now)
    }

    /// The body of GET `/v1/settings`, which is also what observers get when settings change.
    pub fn settings_notification(&self, now: Now) -> Vec<u8> {
        let settings = SettingsBody::new(&self.meta.settings, self.device_time(now));
        let content = Content {
            settings: Some(settings),
            ..Content::default()
        };
        self.body(content, now)
    }

    /// The body that keeps observers alive every 30 seconds (pager contract, L9), and the first
    /// one of an observer that did not ask for sessions (pager contract, L8).
    pub fn ping(&self, now: Now) -> Vec<u8> {
        self.body(Content::default(), now)
    }

    /// The body of GET `/v1/sessions`, tagged [`Transmitter::etag`]; also the first one of an
    /// observer with `action=get_sessions` (pager contract, L8).
    pub fn active_body(&self, now: Now) -> Vec<u8> {
        let content = Content {
            statistics: Some(self.meta.statistics.summary()),
            sessions: Some(self.active().map(SessionBody::new).collect()),
            ..Content::default()
        };
        self.body(content, now)
    }

    pub(crate) fn body(&self, content: Content<'_>, now: Now) -> Vec<u8> {
        self.envelope(self.meta.sequence, content, now)
    }

    fn envelope(&self, sequence: u16, content: Content<'_>, now: Now) -> Vec<u8> {
        wire::json(&Envelope {
            response_types: content.types(),
            global_session_sequence: sequence,
            timestamp: self.device_time(now),
            device_name: &self.config.device_name,
            firmware_version: &self.config.firmware_version,
            content,
        })
    }

    /// What the device's wall clock shows.
    pub fn device_time(&self, now: Now) -> DeviceTime {
        DeviceTime::at(now.utc, self.meta.settings.clock_offset_micros)
    }

    pub(crate) fn stamp(&self, now: Now) -> Stamp {
        Stamp {
            device: self.device_time(now),
            utc: now.utc,
            uptime: self.anchor.uptime(now),
        }
    }

    pub(crate) fn is_past_capacity(&self) -> bool {
        self.table.active().len() >= self.config.max_active
    }

    pub(crate) fn set(&mut self, patch: SettingsPatch, now: Now) {
        let before = self.meta.settings;
        patch.apply(&mut self.meta.settings, now.utc);
        if self.meta.settings == before {
            return;
        }
        self.effects.is_settings_changed = true;
        if self.meta.settings.statistics_clear_mark != before.statistics_clear_mark {
            self.meta.cleared_on = None;
            self.schedule_clear(now);
        } else {
            self.find_clear_again(now);
        }
    }

    pub(crate) fn clear_statistics(&mut self) {
        self.meta.statistics = Statistics::default();
        self.touch();
    }

    /// The list of active sessions or the statistics changed.
    pub(crate) fn touch(&mut self) {
        self.meta.version = self.meta.version.wrapping_add(1);
    }

    /// Keeps what the last call did and begins the next.
    pub(crate) fn begin(&mut self, now: Now) {
        self.table.commit();
        self.before = self.meta;
        self.effects = Effects::default();
        self.meta.clock = ClockMark {
            uptime: self.anchor.uptime(now),
            utc: now.utc,
        };
        self.clear_if_due(now);
    }

    pub(crate) fn finish(&mut self) -> Effects {
        let before = Meta {
            clock: self.meta.clock,
            ..self.before
        };
        self.effects.is_meta_changed = self.meta != before;
        std::mem::take(&mut self.effects)
    }
}
