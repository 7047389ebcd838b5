//! What is known of a guest with a pager.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ingest::{ClearType, PagerSession, PagerState};
use crate::report::{About, OutOfRange, Place, optional_time, text, time};
use crate::{Facts, Kind};

/// Guests in a party, at most.
pub(crate) const MAX_PARTY: u32 = 1_000_000;
/// Seconds of a goal, at most: a day.
pub(crate) const MAX_GOAL_SECONDS: u32 = 86_400;

/// The facts of a guest's session beyond those of every kind (pager contract, 1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pager {
    /// The transmitter's own number for the session.
    pub id: u64,
    /// The pager's number, from 1.
    pub number: u16,
    pub party_size: u32,
    pub goal_seconds: u32,
    pub state: PagerState,
    /// When the guest was paged first.
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub notified: Option<OffsetDateTime>,
    #[serde(
        with = "time::serde::rfc3339::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub cleared: Option<OffsetDateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_type: Option<ClearType>,
    /// The transmitter's `sessionSequence` of the change.
    pub session_sequence: u16,
    /// The spool whose event made the session so, and the event's place there.
    pub spool: Uuid,
    pub sequence: u64,
}

impl Pager {
    /// How the session stands, in the transmitter's words.
    pub fn state(&self) -> &'static str {
        match self.state {
            PagerState::Started => "started",
            PagerState::Paged => "paged",
            PagerState::Cleared if self.clear_type == Some(ClearType::Removed) => "removed",
            PagerState::Cleared => "cleared",
        }
    }

    /// Whether the guest still waits.
    pub fn is_active(&self) -> bool {
        self.state != PagerState::Cleared
    }

    /// What differs, as pointers into the attributes that `/v1` shows.
    pub(crate) fn changed_since(
        now: Option<&Self>,
        before: Option<&Self>,
    ) -> impl Iterator<Item = (&'static str, bool)> {
        let differs = now.zip(before).map(|(now, before)| {
            [
                ("/pager_id", now.id != before.id),
                ("/number", now.number != before.number),
                ("/party_size", now.party_size != before.party_size),
                ("/goal", now.goal_seconds != before.goal_seconds),
                ("/notified", now.notified != before.notified),
                ("/cleared", now.cleared != before.cleared),
                ("/clear_type", now.clear_type != before.clear_type),
                (
                    "/session_sequence",
                    now.session_sequence != before.session_sequence,
                ),
            ]
        });
        differs.into_iter().flatten()
    }
}

impl PagerSession {
    /// What the event says of a guest, where every value is in range.
    pub(crate) fn read(self, place: Place) -> Result<(String, About), OutOfRange> {
        self.check()?;
        let pager = Pager {
            id: self.id,
            number: self.number,
            party_size: self.party_size,
            goal_seconds: self.goal_seconds,
            state: self.state,
            notified: optional_time("session.notified", self.notified)?,
            cleared: optional_time("session.cleared", self.cleared)?,
            clear_type: self.clear_type,
            session_sequence: self.session_sequence,
            spool: place.spool,
            sequence: place.sequence,
        };
        let about = About {
            kind: Kind::Pager,
            created: Some(time("session.created", self.created)?),
            label: self.label.filter(|label| !label.is_empty()),
            user: None,
            remote: None,
            facts: Facts::Pager(pager),
        };
        Ok((self.uuid.to_string(), about))
    }

    fn check(&self) -> Result<(), OutOfRange> {
        if self.number == 0 {
            return Err(OutOfRange("session.number is from 1 to 65535".to_owned()));
        }
        if !(1..=MAX_PARTY).contains(&self.party_size) {
            let message = format!("session.party_size is from 1 to {MAX_PARTY}");
            return Err(OutOfRange(message));
        }
        if self.goal_seconds > MAX_GOAL_SECONDS {
            let message = format!("session.goal_seconds is from 0 to {MAX_GOAL_SECONDS}");
            return Err(OutOfRange(message));
        }
        self.label
            .as_deref()
            .map_or(Ok(()), |label| text("session.label", label))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ingest::IngestEvent;
    use crate::{Decision, EventType, Op, OrgId, ProjectId, Reported, Session, SessionChange};

    const SPOOL: Uuid = Uuid::from_u128(1);
    const OTHER_SPOOL: Uuid = Uuid::from_u128(2);

    fn event(spool: Uuid, sequence: u64, what: &str, session: &Value) -> IngestEvent {
        let mut whole = json!({
            "uuid": "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11", "id": 7, "number": 12, "party_size": 4, "goal_seconds": 600,
            "state": "started", "created": "2026-11-21T09:00:00Z", "session_sequence": 3,
        });
        for (name, value) in session.as_object().expect("an object") {
            whole[name] = value.clone();
        }
        let event = json!({
            "id": crate::ingest::event_id(spool, "t", sequence), "service": "t", "spool": spool, "sequence": sequence,
            "at": "2026-11-21T09:00:00.1234567+01:00", "type": what, "session": whole,
        });
        serde_json::from_value(event).expect("an event")
    }

    fn change(event: IngestEvent) -> SessionChange {
        let Ok(Reported::Session(source_id, report)) = event.read() else {
            panic!("a report");
        };
        SessionChange {
            org: OrgId(Uuid::nil()),
            project: ProjectId::new(1).expect("positive"),
            service: "t".into(),
            kind: Kind::Pager,
            source_id,
            from: "key".into(),
            at: report.at,
            op: Op::Report(report),
            context: None,
        }
    }

    /// Applies reports in order, as the store does, and returns every revision with its event.
    fn run(events: Vec<IngestEvent>) -> Vec<(Session, EventType)> {
        let mut known = Vec::new();
        let mut history: Vec<(Session, EventType)> = Vec::new();
        for change in events.into_iter().map(change) {
            let id = change.event_id().expect("a report");
            let current = history.last().map(|(session, _)| session.clone());
            match change.decide(current.as_ref(), [], known.contains(&id)) {
                Decision::Apply(session, event) => history.push((session, event)),
                Decision::Repeat(session) => assert_eq!(Some(session), current),
                Decision::Reject(rejection) => panic!("{rejection:?}"),
            }
            known.push(id);
        }
        history
    }

    fn created() -> IngestEvent {
        event(SPOOL, 1, "created", &json!({}))
    }

    fn paged(sequence: u64) -> IngestEvent {
        let paged =
            json!({ "state": "paged", "notified": "2026-11-21T09:05:00Z", "session_sequence": 4 });
        event(SPOOL, sequence, "paged", &paged)
    }

    fn removed() -> IngestEvent {
        let removed = json!({
            "state": "cleared", "notified": "2026-11-21T09:05:00Z", "cleared": "2026-11-21T09:09:00Z",
            "clear_type": "REMOVED", "session_sequence": 5, "label": "Ada",
        });
        event(SPOOL, 9, "removed", &removed)
    }

    #[test]
    fn a_guest_comes_is_paged_and_goes() {
        let history = run(vec![created(), paged(2), removed()]);
        let states: Vec<_> = history
            .iter()
            .map(|(session, event)| (session.state(), session.is_active(), *event))
            .collect();
        assert_eq!(
            states,
            [
                ("started", true, EventType::Created),
                ("paged", true, EventType::Paged),
                ("removed", false, EventType::Removed),
            ]
        );
        let changed: Vec<_> = (0..3_usize)
            .map(|at| {
                let before = at.checked_sub(1).map(|before| &history[before].0);
                history[at].0.changed_since(before)
            })
            .collect();
        assert_eq!(
            changed,
            [
                vec![""],
                vec!["/state", "/notified", "/session_sequence"],
                vec![
                    "/state",
                    "/active",
                    "/label",
                    "/cleared",
                    "/clear_type",
                    "/session_sequence"
                ],
            ]
        );
    }

    #[test]
    fn a_cleared_session_is_no_longer_active() {
        let stop = json!({ "state": "cleared", "clear_type": "STOP" });
        let history = run(vec![created(), event(SPOOL, 2, "cleared", &stop)]);
        let last = &history[1].0;
        assert_eq!((last.state(), last.is_active()), ("cleared", false));
    }

    #[test]
    fn a_known_event_is_a_repeat() {
        assert_eq!(
            run(vec![created(), created(), paged(2), created()]).len(),
            2
        );
    }

    #[test]
    fn paging_twice_is_no_repeat() {
        let history = run(vec![created(), paged(2), paged(3)]);
        assert_eq!(history.len(), 3);
        assert!(history[2].0.changed_since(Some(&history[1].0)).is_empty());
    }

    #[test]
    fn a_late_event_is_recorded_and_changes_nothing() {
        let history = run(vec![removed(), paged(5)]);
        let (last, event) = &history[1];
        assert_eq!(
            (last.state(), *event, last.revision),
            ("removed", EventType::Paged, 2)
        );
        assert_eq!(last.pager, history[0].0.pager);
        assert!(last.changed_since(Some(&history[0].0)).is_empty());
    }

    #[test]
    fn another_spool_counts_anew() {
        let history = run(vec![paged(5), event(OTHER_SPOOL, 1, "updated", &json!({}))]);
        assert_eq!(history[1].0.state(), "started");
    }

    #[test]
    fn times_are_utc_and_no_finer_than_what_is_kept() {
        let Ok(Reported::Session(_, report)) = created().read() else {
            panic!("a report");
        };
        assert_eq!(
            report.at,
            time::macros::datetime!(2026-11-21 08:00:00.123456 UTC)
        );
        assert!(report.at.offset().is_utc());
    }

    #[test]
    fn what_is_out_of_range_is_not_taken() {
        for (name, value) in [
            ("number", json!(0)),
            ("party_size", json!(0)),
            ("party_size", json!(1_000_001)),
            ("goal_seconds", json!(86_401)),
            ("label", json!("a\0b")),
            ("label", json!("x".repeat(1_001))),
            ("created", json!("1899-12-31T23:59:59Z")),
            ("notified", json!("9999-12-31T23:59:59-01:00")),
            ("cleared", json!("0001-01-01T00:00:00Z")),
        ] {
            let outcome = event(SPOOL, 1, "updated", &json!({ name: value })).read();
            let Err(OutOfRange(message)) = outcome else {
                panic!("{name}");
            };
            assert!(message.starts_with(&format!("session.{name}")), "{message}");
        }
        for (name, value) in [
            ("number", json!(65_535)),
            ("party_size", json!(1_000_000)),
            ("goal_seconds", json!(86_400)),
            ("label", json!("x".repeat(1_000))),
            ("label", json!("")),
            ("created", json!("1900-01-01T00:00:00Z")),
        ] {
            let outcome = event(SPOOL, 1, "updated", &json!({ name: value })).read();
            assert!(outcome.is_ok(), "{name}");
        }
    }
}
