//! What may happen to a session, and what it means for the session as it stands.
//!
//! [`SessionChange::decide`] is the one rule behind every surface: what a change makes of a session, and which changes
//! are repeats that make nothing of it. It is pure; `store` calls it under the session's row lock.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Attachment, EventType, Facts, Kind, OrgId, Point, PointName, Points, ProjectId, Report,
    ServiceKind, Session, SessionId,
};

/// One thing that a source reports of one session.
#[derive(Clone, Debug)]
pub struct SessionChange {
    pub org: OrgId,
    pub project: ProjectId,
    pub service: String,
    pub kind: Kind,
    /// The session's name at its source.
    pub source_id: String,
    /// Who sent the change: the credential's name.
    pub from: String,
    /// When it arrived, by our clock.
    pub at: OffsetDateTime,
    pub op: Op,
    /// What the source said of the change itself (a batch's `source` and `recalc`, M15); kept with the event.
    pub context: Option<serde_json::Value>,
}

/// What to do to the session.
#[derive(Clone, Debug)]
pub enum Op {
    /// Make it exactly this; an existing one is replaced (seed 003, M4).
    Put(Put),
    /// Change what is named, leave the rest.
    Merge(Merge),
    /// Store a file in a point.
    Attach {
        point: PointName,
        attachment: Attachment,
        max_points: usize,
    },
    /// Take a point's file away.
    Detach { point: PointName },
    /// Mark as deleted, keep the data (M12).
    Delete,
    /// Make it what a relay says that it now is.
    Report(Report),
    /// Leave it as it is, and record that this happened.
    Note(EventType),
}

/// A whole session. Times that the source did not name fall back to the change's arrival.
#[derive(Clone, Debug)]
pub struct Put {
    pub unit_id: String,
    pub created: Option<OffsetDateTime>,
    pub saved: Option<OffsetDateTime>,
    pub points: Points,
}

/// Part of a session.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    pub unit_id: Option<String>,
    pub saved: Option<OffsetDateTime>,
    pub points: BTreeMap<PointName, PointChange>,
    /// Delete or, where `false`, restore (M11).
    pub deleted: Option<bool>,
    /// How many points the session may have afterwards.
    pub max_points: usize,
    /// How many bytes its values may have afterwards, files apart.
    pub max_bytes: usize,
}

/// What a merge does to one point.
#[derive(Clone, Debug)]
pub enum PointChange {
    Set(Point),
    /// The client sent back the description of the file that is there, by this name.
    Keep {
        filename: String,
    },
}

/// What a change comes to.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The session becomes this, and this event tells of it.
    Apply(Session, EventType),
    /// The change is a repeat. Nothing happens; this is what the first one made.
    Repeat(Session),
    Reject(Rejection),
}

/// Why a change cannot be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The project, or its service, does not exist in the organization.
    NoProject,
    /// No such session, or it is deleted.
    NoSession,
    /// The point holds no file.
    NoAttachment,
    /// A point was sent as the description of a file that it does not hold.
    NotTheFile(PointName),
    /// The session would have too many points.
    TooManyPoints { limit: usize },
    /// The session's values would have too many bytes.
    TooLarge { limit: usize },
    /// Too much is asked for at once: the change may succeed in a smaller batch.
    BatchTooLarge,
    /// The reported event's id is that of another session's event.
    EventTaken,
}

impl SessionChange {
    /// The session that the change is about.
    pub fn session_id(&self) -> SessionId {
        let id = match self.kind.service() {
            ServiceKind::Form | ServiceKind::Pager => SessionId::of,
            ServiceKind::Broker | ServiceKind::Proxy => SessionId::exactly,
        };
        id(self.org, &self.service, &self.source_id)
    }

    /// The save time that the source named, by which a late repeat is looked up in the session's history.
    pub fn named_save(&self) -> Option<OffsetDateTime> {
        match &self.op {
            Op::Put(put) => put.saved,
            Op::Merge(merge) => merge.saved,
            Op::Attach { .. } | Op::Detach { .. } | Op::Delete | Op::Report(_) | Op::Note(_) => {
                None
            }
        }
    }

    /// The id that the event which the change reports has at its source.
    pub fn event_id(&self) -> Option<Uuid> {
        match &self.op {
            Op::Report(report) => Some(report.event_id),
            _ => None,
        }
    }

    /// What this change makes of `current`.
    ///
    /// `history` holds what the session was at earlier revisions that carry [`Self::named_save`]: content that it once
    /// held under the same save time is a late repeat and must not undo a newer edit. `is_known` says whether the session
    /// has an event of [`Self::event_id`] already.
    pub fn decide<'a>(
        &self,
        current: Option<&Session>,
        history: impl IntoIterator<Item = &'a Session>,
        is_known: bool,
    ) -> Decision {
        if let Some(session) = current.filter(|_| is_known) {
            return Decision::Repeat(session.clone());
        }
        if let Some(first) = current.into_iter().find(|session| self.is_repeat(session)) {
            return Decision::Repeat(first.clone());
        }
        if self.named_save().is_some()
            && let Some(first) = history.into_iter().find(|session| self.is_repeat(session))
        {
            return Decision::Repeat(first.clone());
        }
        match &self.op {
            Op::Put(put) => self.put(put, current),
            Op::Merge(merge) => self.merge(merge, current),
            Op::Attach {
                point,
                attachment,
                max_points,
            } => self.attach(point, attachment, *max_points, current),
            Op::Detach { point } => self.detach(point, current),
            Op::Delete => match live(current) {
                Some(session) => self.applied(
                    Session {
                        deleted: true,
                        ..session.clone()
                    },
                    EventType::Deleted,
                ),
                None => Decision::Reject(Rejection::NoSession),
            },
            Op::Report(report) => self.report(report, current),
            // That it happened is a fact, and so a revision in which nothing changed.
            Op::Note(event) => match current {
                Some(held) => self.applied(held.clone(), *event),
                None => Decision::Reject(Rejection::NoSession),
            },
        }
    }

    /// Whether `session` already is what this change asks for.
    pub fn is_repeat(&self, session: &Session) -> bool {
        let named = |asked: Option<OffsetDateTime>, held: OffsetDateTime| {
            asked.is_none_or(|time| time == held)
        };
        match &self.op {
            Op::Put(put) => {
                !session.deleted
                    && put.unit_id == session.unit_id
                    && named(put.created, session.created_at)
                    && named(put.saved, session.saved_at)
                    && same_points(&put.points, &session.points)
            }
            Op::Merge(merge) => {
                session.deleted == merge.deleted.unwrap_or(false)
                    && merge
                        .unit_id
                        .as_ref()
                        .is_none_or(|unit| *unit == session.unit_id)
                    && named(merge.saved, session.saved_at)
                    && merge.points.iter().all(|(name, change)| {
                        session
                            .points
                            .get(name)
                            .is_some_and(|held| change.is_repeat(held))
                    })
            }
            Op::Attach {
                point, attachment, ..
            } => {
                let held = session.points.get(point).and_then(Point::attachment);
                !session.deleted && held.is_some_and(|held| held.same(attachment))
            }
            // A report is known by its event's id: a guest may be paged twice with nothing else changed.
            Op::Detach { .. } | Op::Delete | Op::Report(_) | Op::Note(_) => false,
        }
    }

    fn put(&self, put: &Put, current: Option<&Session>) -> Decision {
        let session = Session {
            org: self.org,
            id: self.session_id(),
            project: self.project,
            service: self.service.clone(),
            kind: self.kind,
            source_id: self.source_id.clone(),
            unit_id: put.unit_id.clone(),
            label: None,
            user: None,
            remote: None,
            created_at: put.created.unwrap_or(whole_second(self.at)),
            saved_at: put.saved.unwrap_or(whole_second(self.at)),
            received_at: self.at,
            received_from: self.from.clone(),
            deleted: false,
            points: put.points.clone(),
            pager: None,
            connection: None,
            revision: current.map_or(0, |session| session.revision),
        };
        match current {
            None => self.applied(session, EventType::Created),
            Some(_) => self.applied(session, EventType::Replaced),
        }
    }

    fn merge(&self, merge: &Merge, current: Option<&Session>) -> Decision {
        let restores = merge.deleted == Some(false);
        let Some(held) = current.filter(|session| restores || !session.deleted) else {
            return Decision::Reject(Rejection::NoSession);
        };
        let mut session = held.clone();
        for (name, change) in &merge.points {
            match change {
                PointChange::Set(point) => {
                    session.points.insert(name.clone(), point.clone());
                }
                PointChange::Keep { .. }
                    if held
                        .points
                        .get(name)
                        .is_some_and(|held| change.is_repeat(held)) => {}
                PointChange::Keep { .. } => {
                    return Decision::Reject(Rejection::NotTheFile(name.clone()));
                }
            }
        }
        if session.points.len() > merge.max_points {
            return Decision::Reject(Rejection::TooManyPoints {
                limit: merge.max_points,
            });
        }
        // What is too large already may still be made smaller.
        let size = session.value_bytes();
        if size > merge.max_bytes && size > held.value_bytes() {
            return Decision::Reject(Rejection::TooLarge {
                limit: merge.max_bytes,
            });
        }
        session.deleted = merge.deleted.unwrap_or(false);
        session.saved_at = merge.saved.unwrap_or(whole_second(self.at));
        if let Some(unit) = &merge.unit_id {
            session.unit_id.clone_from(unit);
        }
        let event = match (held.deleted, session.deleted) {
            (true, false) => EventType::Restored,
            (false, true) => EventType::Deleted,
            _ => EventType::Updated,
        };
        self.applied(session, event)
    }

    fn attach(
        &self,
        point: &PointName,
        attachment: &Attachment,
        max_points: usize,
        current: Option<&Session>,
    ) -> Decision {
        let Some(held) = live(current) else {
            return Decision::Reject(Rejection::NoSession);
        };
        let mut session = held.clone();
        session
            .points
            .insert(point.clone(), Point::Attachment(attachment.clone()));
        if session.points.len() > max_points {
            return Decision::Reject(Rejection::TooManyPoints { limit: max_points });
        }
        session.saved_at = whole_second(self.at);
        self.applied(session, EventType::Attached)
    }

    fn detach(&self, point: &PointName, current: Option<&Session>) -> Decision {
        let Some(held) = live(current) else {
            return Decision::Reject(Rejection::NoSession);
        };
        let mut session = held.clone();
        match session.points.remove(point) {
            Some(Point::Attachment(_)) => {
                session.saved_at = whole_second(self.at);
                self.applied(session, EventType::Detached)
            }
            _ => Decision::Reject(Rejection::NoAttachment),
        }
    }

    /// A late report leaves the session as it is, and yet is a revision: that it happened is a fact.
    fn report(&self, report: &Report, current: Option<&Session>) -> Decision {
        let session = match current {
            Some(held) if report.is_late(held) => held.clone(),
            _ => self.reported(report, current),
        };
        self.applied(session, report.event)
    }

    /// What a report says that the session is.
    fn reported(&self, report: &Report, current: Option<&Session>) -> Session {
        let about = &report.about;
        // A source that does not know since when a client is connected does not forget it either.
        let held = current.filter(|_| report.event != EventType::Connected);
        let (mut pager, mut connection) = (None, None);
        match &about.facts {
            Facts::Pager(facts) => pager = Some(facts.clone()),
            Facts::Connection(facts) => {
                let mut facts = facts.clone();
                let before = current.and_then(|held| held.connection.as_deref());
                facts.follow(before, report.event, report.at);
                connection = Some(facts);
            }
        }
        Session {
            org: self.org,
            id: self.session_id(),
            project: self.project,
            service: self.service.clone(),
            kind: self.kind,
            source_id: self.source_id.clone(),
            unit_id: String::new(),
            label: about.label.clone(),
            user: about.user.clone(),
            remote: about.remote.clone(),
            created_at: about
                .created
                .unwrap_or_else(|| held.map_or(report.at, |held| held.created_at)),
            saved_at: report.at,
            received_at: self.at,
            received_from: self.from.clone(),
            deleted: false,
            points: Points::new(),
            pager,
            connection,
            revision: current.map_or(0, |session| session.revision),
        }
    }

    /// Stamps what every change leaves on a session.
    fn applied(&self, session: Session, event: EventType) -> Decision {
        let stamped = Session {
            received_at: self.at,
            received_from: self.from.clone(),
            revision: session.revision + 1,
            ..session
        };
        Decision::Apply(stamped, event)
    }
}

impl PointChange {
    fn is_repeat(&self, held: &Point) -> bool {
        match self {
            Self::Set(point) => point.same(held),
            Self::Keep { filename } => held
                .attachment()
                .is_some_and(|file| file.filename == *filename),
        }
    }
}

fn live(current: Option<&Session>) -> Option<&Session> {
    current.filter(|session| !session.deleted)
}

fn same_points(a: &Points, b: &Points) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|((a, left), (b, right))| a == b && left.same(right))
}

/// The forms contract counts in whole seconds; a time that it would print differently from what is kept helps nobody.
fn whole_second(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).expect("zero is a nanosecond")
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const T: i64 = 1_700_000_000;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(T + seconds).expect("in range")
    }

    fn change(arrival: i64, op: Op) -> SessionChange {
        let project = ProjectId::new(1).expect("positive");
        SessionChange {
            org: OrgId(Uuid::from_u128(1)),
            project,
            service: crate::forms_service(project),
            kind: Kind::Form,
            source_id: "S".into(),
            from: "key".into(),
            at: at(arrival),
            op,
            context: None,
        }
    }

    fn points(values: &[(&str, &str)]) -> Points {
        let point = |(name, value): &(&str, &str)| {
            let name = PointName::parse(name).expect("a good name");
            (name, Point::Text((*value).to_owned()))
        };
        values.iter().map(point).collect()
    }

    fn put(arrival: i64, saved: Option<i64>, values: &[(&str, &str)]) -> SessionChange {
        change(
            arrival,
            Op::Put(Put {
                unit_id: "u".into(),
                created: None,
                saved: saved.map(at),
                points: points(values),
            }),
        )
    }

    fn merge(arrival: i64, saved: Option<i64>, values: &[(&str, &str)]) -> SessionChange {
        let set = |(name, point)| (name, PointChange::Set(point));
        change(
            arrival,
            Op::Merge(Merge {
                saved: saved.map(at),
                points: points(values).into_iter().map(set).collect(),
                max_points: 3,
                max_bytes: 10,
                ..Merge::default()
            }),
        )
    }

    /// Applies changes in order and returns every revision.
    fn run(changes: &[SessionChange]) -> Vec<Session> {
        let mut history: Vec<Session> = Vec::new();
        for change in changes {
            let now = history.last().cloned();
            if let Decision::Apply(session, _) = change.decide(now.as_ref(), &history, false) {
                history.push(session);
            }
        }
        history
    }

    #[test]
    fn what_a_change_changed_is_told_by_pointers() {
        let revisions = run(&[
            put(0, Some(0), &[("a/b", "1"), ("c", "2")]),
            merge(1, Some(1), &[("c", "3")]),
            put(2, Some(2), &[("c", "3")]),
            change(3, Op::Delete),
        ]);
        let changed: Vec<Vec<String>> = (0..revisions.len())
            .map(|at| {
                revisions[at].changed_since(at.checked_sub(1).map(|before| &revisions[before]))
            })
            .collect();
        assert_eq!(
            changed,
            [
                vec![""],
                vec!["/saved", "/points/c"],
                vec!["/started", "/saved", "/points/a~1b"],
                vec!["/state", "/active"],
            ]
        );
    }

    #[test]
    fn the_same_content_again_is_a_repeat() {
        let history = run(&[put(0, None, &[("a", "1")]), put(9, None, &[("a", "1")])]);
        assert_eq!(history.len(), 1);
        assert_eq!(history[0].saved_at, at(0));
    }

    #[test]
    fn a_late_repeat_that_names_its_save_does_not_wipe_a_newer_edit() {
        let (old, new) = (
            put(0, Some(0), &[("a", "1")]),
            put(1, Some(1), &[("a", "2")]),
        );
        let history = run(&[old.clone(), new.clone(), old.clone()]);
        assert_eq!(history.len(), 2);
        let Decision::Repeat(first) = old.decide(history.last(), &history, false) else {
            panic!("a repeat");
        };
        assert_eq!(first, history[0]);
    }

    #[test]
    fn a_deliberate_change_back_is_applied() {
        let unnamed = run(&[
            put(0, None, &[("a", "1")]),
            put(1, None, &[("a", "2")]),
            put(2, None, &[("a", "1")]),
        ]);
        assert_eq!(unnamed.len(), 3);
        let named = run(&[
            put(0, Some(0), &[("a", "1")]),
            put(1, Some(1), &[("a", "2")]),
            put(2, Some(2), &[("a", "1")]),
        ]);
        assert_eq!(named.len(), 3);
    }

    #[test]
    fn a_late_merge_is_a_repeat_too() {
        let history = run(&[
            put(0, Some(0), &[("a", "1")]),
            merge(1, Some(1), &[("b", "1")]),
            merge(2, Some(2), &[("b", "2")]),
            merge(3, Some(1), &[("b", "1")]),
        ]);
        assert_eq!(history.len(), 3);
        assert_eq!(history[2].points, points(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn a_deleted_session_is_replaced_by_a_create_but_not_by_a_late_repeat() {
        let create = put(0, None, &[("a", "1")]);
        let history = run(&[create.clone(), change(1, Op::Delete), create]);
        assert_eq!(history.len(), 3);
        let create = put(0, Some(0), &[("a", "1")]);
        let history = run(&[create.clone(), change(1, Op::Delete), create]);
        assert_eq!(history.len(), 2);
        assert!(history[1].deleted);
    }

    #[test]
    fn only_a_restore_reaches_a_deleted_session() {
        let history = run(&[put(0, None, &[("a", "1")]), change(1, Op::Delete)]);
        let deleted = history.last();
        for op in [
            Op::Delete,
            Op::Merge(Merge::default()),
            merge(2, None, &[("a", "2")]).op,
        ] {
            assert!(matches!(
                change(2, op).decide(deleted, [], false),
                Decision::Reject(Rejection::NoSession)
            ));
        }
        let restore = Merge {
            deleted: Some(false),
            max_points: 3,
            ..Merge::default()
        };
        let Decision::Apply(session, event) =
            change(2, Op::Merge(restore)).decide(deleted, [], false)
        else {
            panic!("restored");
        };
        assert!(!session.deleted);
        assert_eq!((event, session.revision), (EventType::Restored, 3));
    }

    #[test]
    fn a_note_is_a_revision_in_which_nothing_changed() {
        let note = change(1, Op::Note(EventType::Commanded));
        let history = run(&[put(0, None, &[("a", "1")]), note.clone(), note.clone()]);
        assert_eq!(history.len(), 3, "each note is one of its own");
        assert!(history[2].changed_since(Some(&history[0])).is_empty());
        assert!(matches!(
            note.decide(None, [], false),
            Decision::Reject(Rejection::NoSession)
        ));
    }

    #[test]
    fn merges_cannot_pile_up_bytes_without_bound() {
        let history = run(&[
            put(0, None, &[("a", "123456")]),
            merge(1, None, &[("b", "1234")]),
            merge(2, None, &[("b", "12345")]),
        ]);
        assert_eq!(history.len(), 2);
        let larger = run(&[
            put(0, None, &[("a", "123456789012")]),
            merge(1, None, &[("a", "1234567890123")]),
            merge(2, None, &[("a", "12345678901")]),
        ]);
        assert_eq!(larger.len(), 2, "it shrinks, though it is too large yet");
    }

    #[test]
    fn merges_cannot_pile_up_points_without_bound() {
        let history = run(&[put(0, None, &[("a", "1")])]);
        let many = merge(1, None, &[("b", "1"), ("c", "1"), ("d", "1")]);
        assert!(matches!(
            many.decide(history.last(), [], false),
            Decision::Reject(Rejection::TooManyPoints { limit: 3 })
        ));
    }
}
