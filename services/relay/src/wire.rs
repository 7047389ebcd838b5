//! What happens on a transmitter, in the words of the store (`rollcall_model::ingest`).

use rollcall_model::ingest::{ClearType, Happening, PagerSession, PagerState, PagerStatistics};
use rollcall_pager::{Change, Session, State, Statistics, What};

/// The event that tells of a change.
pub fn happening(change: &Change) -> Happening {
    let session = session(&change.session);
    match change.what {
        What::Created => Happening::Created { session },
        What::Updated => Happening::Updated { session },
        What::Paged => Happening::Paged { session },
        What::Cleared => Happening::Cleared { session },
        What::Removed => Happening::Removed { session },
    }
}

fn session(session: &Session) -> PagerSession {
    PagerSession {
        uuid: session.uuid,
        id: session.id,
        number: session.number,
        party_size: session.party_size,
        goal_seconds: session.goal_seconds,
        state: match session.state {
            State::Started => PagerState::Started,
            State::Paged => PagerState::Paged,
            State::Cleared => PagerState::Cleared,
        },
        created: session.created.utc,
        notified: session.notified.map(|stamp| stamp.utc),
        cleared: session.cleared.map(|stamp| stamp.utc),
        label: session.label.clone(),
        clear_type: session.clear_type.map(|clear_type| match clear_type {
            rollcall_pager::ClearType::Stop => ClearType::Stop,
            rollcall_pager::ClearType::Removed => ClearType::Removed,
        }),
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
