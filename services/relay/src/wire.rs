//! What happens on a transmitter, in the words of the store (`rollcall_model::ingest`).

use rollcall_model::ingest::{
    ClearType, Gap, Happening, PagerSession, PagerState, PagerStatistics, Subject,
};
use rollcall_pager::mirror::{Guest, Learned, News};
use rollcall_pager::{Change, Session, State, Statistics, What};

/// The event that tells of a change.
pub fn happening(change: &Change) -> Happening {
    let session = session(&change.session);
    match change.what {
        What::Created => Happening::Created { session },
        What::Updated => Happening::Updated {
            subject: Subject::Session(session),
        },
        What::Paged => Happening::Paged { session },
        What::Cleared => Happening::Cleared { session },
        What::Removed => Happening::Removed {
            subject: Subject::Session(session),
        },
    }
}

/// The event that tells of what was learned of a box.
pub fn learned(learned: &Learned) -> Happening {
    match &learned.what {
        News::Created(known) => Happening::Created {
            session: guest(known),
        },
        News::Updated(known) => Happening::Updated {
            subject: Subject::Session(guest(known)),
        },
        News::Paged(known) => Happening::Paged {
            session: guest(known),
        },
        News::Cleared(known) => Happening::Cleared {
            session: guest(known),
        },
        News::Removed(known) => Happening::Removed {
            subject: Subject::Session(guest(known)),
        },
        News::Missed {
            changes,
            since,
            until,
            reason,
        } => Happening::Gap {
            gap: Gap {
                events: *changes,
                since: *since,
                until: Some(*until),
                reason: (*reason).to_owned(),
            },
        },
    }
}

fn guest(guest: &Guest) -> PagerSession {
    PagerSession {
        uuid: guest.uuid,
        id: guest.id,
        number: guest.number,
        party_size: guest.party_size,
        goal_seconds: guest.goal_seconds,
        state: state(guest.state),
        created: guest.created.utc,
        notified: guest.notified.as_ref().map(|moment| moment.utc),
        cleared: guest.cleared.as_ref().map(|moment| moment.utc),
        label: guest.label.clone(),
        clear_type: guest.clear_type.map(clear_type),
        session_sequence: guest.sequence,
    }
}

fn state(state: State) -> PagerState {
    match state {
        State::Started => PagerState::Started,
        State::Paged => PagerState::Paged,
        State::Cleared => PagerState::Cleared,
    }
}

fn clear_type(clear_type: rollcall_pager::ClearType) -> ClearType {
    match clear_type {
        rollcall_pager::ClearType::Stop => ClearType::Stop,
        rollcall_pager::ClearType::Removed => ClearType::Removed,
    }
}

fn session(session: &Session) -> PagerSession {
    PagerSession {
        uuid: session.uuid,
        id: session.id,
        number: session.number,
        party_size: session.party_size,
        goal_seconds: session.goal_seconds,
        state: state(session.state),
        created: session.created.utc,
        notified: session.notified.map(|stamp| stamp.utc),
        cleared: session.cleared.map(|stamp| stamp.utc),
        label: session.label.clone(),
        clear_type: session.clear_type.map(clear_type),
        session_sequence: session.sequence,
    }
}

/// A transmitter's statistics.
pub fn statistics(statistics: &Statistics) -> PagerStatistics {
    let summary = statistics.summary();
    PagerStatistics {
        guests_served: summary.guests_served,
        percent_late: u8::try_from(summary.percent_late).unwrap_or(100),
        percent_on_time: u8::try_from(summary.percent_on_time).unwrap_or(100),
        average_time_served: summary.average_time_served,
        sessions: summary.num_sessions,
    }
}

/// Statistics as a box told them; nothing where they are not as the contract has them.
pub fn told_statistics(told: &serde_json::Value) -> Option<PagerStatistics> {
    let number = |name: &str| told.get(name).and_then(serde_json::Value::as_u64);
    let percent = |name: &str| number(name).and_then(|value| u8::try_from(value).ok());
    Some(PagerStatistics {
        guests_served: number("guestsServed")?,
        percent_late: percent("percentLate")?,
        percent_on_time: percent("percentOnTime")?,
        average_time_served: number("averageTimeServed")?,
        sessions: number("numSessions")?,
    })
}
