//! The sessions, active and archived, and how to undo what was last done to them.
//! A session is in one of the two maps, never both; an active one owns its pager alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::session::Session;

/// Sessions by id, with the two orders in which they are looked up besides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    active: BTreeMap<u64, Session>,
    by_number: HashMap<u16, u64>,
    history: BTreeMap<u64, Session>,
    by_clearing: BTreeSet<(Duration, u64)>,
    undo: Vec<(u64, Option<Session>)>,
}

impl Table {
    pub(crate) fn active(&self) -> &BTreeMap<u64, Session> {
        &self.active
    }

    pub(crate) fn history(&self) -> &BTreeMap<u64, Session> {
        &self.history
    }

    pub(crate) fn find(&self, number: u16) -> Option<&Session> {
        self.active.get(self.by_number.get(&number)?)
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.active.contains_key(&id) || self.history.contains_key(&id)
    }

    /// Forgets how to undo: what was done so far stays.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
    }

    /// Undoes everything since the last commit.
    pub(crate) fn rollback(&mut self) {
        for (id, before) in std::mem::take(&mut self.undo).into_iter().rev() {
            self.take(id);
            if let Some(session) = before {
                self.insert(session);
            }
        }
    }

    /// Adds a session or replaces the one with its id, moving it to the history if it is over.
    pub(crate) fn put(&mut self, session: Session) {
        let before = self.take(session.id);
        self.undo.push((session.id, before));
        self.insert(session);
    }

    /// Drops the longest cleared session beyond `max` and returns its id.
    pub(crate) fn drop_oldest(&mut self, max: usize) -> Option<u64> {
        if self.history.len() <= max {
            return None;
        }
        let &(_, id) = self.by_clearing.first()?;
        let before = self.take(id);
        self.undo.push((id, before));
        Some(id)
    }

    /// Drops the history and tells whether there was any.
    pub(crate) fn clear_history(&mut self) -> bool {
        self.by_clearing.clear();
        let dropped = std::mem::take(&mut self.history);
        let is_any = !dropped.is_empty();
        let before = dropped.into_iter().map(|(id, session)| (id, Some(session)));
        self.undo.extend(before);
        is_any
    }

    fn take(&mut self, id: u64) -> Option<Session> {
        if let Some(session) = self.active.remove(&id) {
            self.by_number.remove(&session.number);
            return Some(session);
        }
        let session = self.history.remove(&id)?;
        self.by_clearing.remove(&(cleared_at(&session), id));
        Some(session)
    }

    fn insert(&mut self, session: Session) {
        if session.is_active() {
            self.by_number.insert(session.number, session.id);
            self.active.insert(session.id, session);
        } else {
            self.by_clearing.insert((cleared_at(&session), session.id));
            self.history.insert(session.id, session);
        }
    }
}

fn cleared_at(session: &Session) -> Duration {
    session.cleared.map_or(Duration::ZERO, |stamp| stamp.uptime)
}
