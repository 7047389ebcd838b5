//! What requests do to sessions. Each change goes through `step`: one sequence step, one new
//! ETag, one entry for the observers (pager contract, L4 and L17).

use uuid::Uuid;

use crate::body::{Action, PageOptions, SessionPatch};
use crate::clock::{Now, Stamp};
use crate::request::{Code, Page, Refusal};
use crate::session::{Change, ClearType, Session, State, What, next_sequence};
use crate::transmitter::Transmitter;

impl Transmitter {
    /// Creates a session or updates the pager's active one (pager contract, L1), and tells which.
    pub(crate) fn upsert(
        &mut self,
        number: u16,
        patch: SessionPatch,
        now: Now,
        new_uuid: impl FnOnce() -> Uuid,
    ) -> Result<(Code, Session), Refusal> {
        if self.table.find(number).is_some() {
            return Ok((Code::CHANGED, self.update(number, patch, now)?));
        }
        if self.is_past_capacity() {
            return Err(Refusal::new(
                Code::SERVICE_UNAVAILABLE,
                format!(
                    "All {} sessions are in use; clear one and try again.",
                    self.config.max_active
                ),
            ));
        }
        let at = self.stamp(now);
        let goal = self.meta.settings.default_target_goal;
        let mut session = Session {
            id: self.meta.next_id,
            uuid: new_uuid(),
            number,
            party_size: 1,
            goal_seconds: goal,
            created: at,
            notified: None,
            cleared: None,
            label: None,
            state: State::Started,
            clear_type: None,
            sequence: self.meta.sequence,
            paged_goal_seconds: None,
        };
        self.meta.next_id += 1;
        self.meta.statistics.count_created();
        self.apply(&mut session, patch, at);
        Ok((Code::CREATED, self.step(session, What::Created)))
    }

    /// Changes the pager's active session; without any difference nothing steps
    /// (pager contract, L4 and L27).
    pub(crate) fn update(
        &mut self,
        number: u16,
        patch: SessionPatch,
        now: Now,
    ) -> Result<Session, Refusal> {
        let before = self.table.find(number);
        let before = before.ok_or_else(|| Refusal::absent(number))?.clone();
        let mut session = before.clone();
        let acted = self.apply(&mut session, patch, self.stamp(now));
        match acted {
            None if session == before => Ok(session),
            what => Ok(self.step(session, what.unwrap_or(What::Updated))),
        }
    }

    /// Removes the pager's active session.
    pub(crate) fn remove(&mut self, number: u16, now: Now) -> Result<(), Refusal> {
        let session = self.table.find(number);
        let mut session = session.ok_or_else(|| Refusal::absent(number))?.clone();
        end(&mut session, ClearType::Removed, self.stamp(now));
        self.step(session, What::Removed);
        Ok(())
    }

    /// Clears every active session, one step each, by ascending id (pager contract, L4 and L12).
    pub(crate) fn clear_all(&mut self, now: Now) {
        let at = self.stamp(now);
        let all: Vec<Session> = self.active().cloned().collect();
        for mut session in all {
            end(&mut session, ClearType::Stop, at);
            self.step(session, What::Cleared);
        }
    }

    /// Pages a session. The first page sets its time, its state and the statistics; another one is
    /// only transmitted (pager contract, L14).
    pub(crate) fn page(&mut self, session: &mut Session, options: PageOptions, at: Stamp) {
        if session.notified.is_none() {
            session.notified = Some(at);
            session.paged_goal_seconds = Some(session.goal_seconds);
            session.state = State::Paged;
            let waited = session.waited().unwrap_or_default();
            self.meta
                .statistics
                .count_served(waited, session.goal_seconds);
        }
        self.transmit(session.number, options);
    }

    pub(crate) fn transmit(&mut self, number: u16, options: PageOptions) {
        let system_id = options.system_id.unwrap_or(self.meta.settings.system_id);
        self.effects.pages.push(Page {
            number,
            mode: options.mode,
            message: options.message,
            system_id,
        });
    }

    /// Takes over the fields first, so that a goal and a page in one request go together.
    fn apply(&mut self, session: &mut Session, patch: SessionPatch, at: Stamp) -> Option<What> {
        session.goal_seconds = patch.goal_seconds.unwrap_or(session.goal_seconds);
        session.party_size = patch.party_size.unwrap_or(session.party_size);
        if let Some(label) = patch.label {
            session.label = label;
        }
        match patch.action? {
            Action::Page(options) => {
                self.page(session, options, at);
                Some(What::Paged)
            }
            Action::Clear => {
                end(session, ClearType::Stop, at);
                Some(What::Cleared)
            }
            Action::Remove => {
                end(session, ClearType::Removed, at);
                Some(What::Removed)
            }
        }
    }

    /// Makes a change one step and puts the session where it belongs now.
    pub(crate) fn step(&mut self, mut session: Session, what: What) -> Session {
        self.meta.sequence = next_sequence(self.meta.sequence);
        session.sequence = self.meta.sequence;
        self.touch();
        self.table.put(session.clone());
        while let Some(id) = self.table.drop_oldest(self.config.max_history) {
            self.effects.dropped.push(id);
        }
        self.effects.changes.push(Change {
            session: session.clone(),
            what,
            sequence: self.meta.sequence,
            statistics: self.meta.statistics.summary(),
        });
        session
    }
}

fn end(session: &mut Session, clear_type: ClearType, at: Stamp) {
    session.state = State::Cleared;
    session.cleared = Some(at);
    session.clear_type = Some(clear_type);
}
