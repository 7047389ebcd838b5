//! Cuts what a source tells to what the cloud takes. What is cut is said: a count beside a list, a number in the trouble.

use rollcall_model::connection::{MAX_BACKENDS, MAX_FILTER_BYTES, MAX_ID_BYTES, MAX_SUBSCRIPTIONS};
use rollcall_model::ingest::{ConnectionSession, Subscription};

/// Bytes of a text that is no id.
const MAX_TEXT_BYTES: usize = 1_000;

/// Whether the cloud can hold it as an id or a filter.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID_BYTES && !text.contains('\0')
}

/// The session within bounds; nothing where its id is not, and so nobody could ask for it.
pub fn fit(mut session: ConnectionSession) -> Option<ConnectionSession> {
    let facts = &mut session.facts;
    let client_id = facts.client_id.as_deref();
    if !is_id(&session.source_id) || client_id.is_some_and(|id| !is_id(id)) {
        return None;
    }
    let texts = [
        &mut session.label,
        &mut session.user,
        &mut session.remote,
        &mut facts.state,
        &mut facts.protocol,
        &mut facts.vhost,
        &mut facts.node,
        &mut facts.database,
        &mut facts.cipher,
    ];
    for text in texts.into_iter().flatten() {
        cut(text);
    }
    let times = [
        &mut facts.connected_at,
        &mut facts.disconnected_at,
        &mut facts.idle_since,
    ];
    for time in times {
        // No other can be written down.
        *time = time.filter(|at| (1..=9_998).contains(&at.year()));
    }
    if let Some(listed) = &mut facts.subscriptions {
        let all = listed.len();
        bound(listed);
        if listed.len() < all {
            let count = u32::try_from(all).unwrap_or(u32::MAX);
            facts.subscription_count = facts.subscription_count.max(Some(count));
        }
    }
    if let Some(backends) = &mut facts.backends {
        backends.truncate(MAX_BACKENDS);
    }
    Some(session)
}

/// Keeps the first subscriptions that fit.
fn bound(listed: &mut Vec<Subscription>) {
    listed.retain(|held| is_id(&held.filter) && held.qos <= 2);
    let mut bytes = 0;
    let mut fits = |held: &Subscription| {
        bytes += held.filter.len() + held.consumer_group.as_ref().map_or(0, String::len);
        bytes <= MAX_FILTER_BYTES
    };
    let most = listed.iter().take(MAX_SUBSCRIPTIONS);
    let kept = most.take_while(|held| fits(held)).count();
    listed.truncate(kept);
    for held in listed {
        held.consumer_group.iter_mut().for_each(cut);
    }
}

/// Shortens a text at a character, and drops what no store can hold.
fn cut(text: &mut String) {
    if text.contains('\0') {
        text.retain(|c| c != '\0');
    }
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
}

#[cfg(test)]
mod tests {
    use rollcall_model::ingest::{ConnectionFacts, ConnectionKind};
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn session(id: &str, filters: usize, filter_bytes: usize) -> ConnectionSession {
        let filter = |n| Subscription {
            filter: format!("{n:0filter_bytes$}"),
            qos: 0,
            no_local: None,
            retain_as_published: None,
            retain_handling: None,
            consumer_group: None,
            subscription_id: None,
        };
        ConnectionSession {
            source_id: id.to_owned(),
            kind: ConnectionKind::Mqtt,
            label: Some("é".repeat(800)),
            user: Some("nul\0".to_owned()),
            remote: None,
            facts: ConnectionFacts {
                subscriptions: Some((0..filters).map(filter).collect()),
                ..ConnectionFacts::default()
            },
        }
    }

    #[test]
    fn lists_are_cut_and_their_true_length_is_told() {
        let held = fit(session("a", 1_200, 20)).unwrap();
        assert_eq!(held.facts.subscription_count, Some(1_200));
        assert_eq!(held.facts.subscriptions.unwrap().len(), MAX_SUBSCRIPTIONS);
        let held = fit(session("a", 900, 900)).unwrap();
        assert_eq!(held.facts.subscription_count, Some(900));
        let bytes = held.facts.subscriptions.unwrap().len() * 900;
        assert!(
            bytes <= MAX_FILTER_BYTES && bytes > MAX_FILTER_BYTES - 900,
            "{bytes}"
        );
        let whole = fit(session("a", 1_000, 20)).unwrap();
        assert_eq!(whole.facts.subscription_count, None);
        let too_long = fit(session("a", 2, 1_001)).unwrap();
        assert_eq!(too_long.facts.subscription_count, Some(2));
        assert_eq!(too_long.facts.subscriptions, Some(Vec::new()));
    }

    #[test]
    fn a_time_that_cannot_be_written_is_unknown() {
        let mut held = session("a", 0, 1);
        held.facts.connected_at = Some(OffsetDateTime::UNIX_EPOCH);
        held.facts.idle_since = Some(OffsetDateTime::UNIX_EPOCH - Duration::days(365 * 3_000));
        assert!(serde_json::to_string(&held).is_err());
        let held = fit(held).unwrap();
        assert!(serde_json::to_string(&held).is_ok());
        assert_eq!(held.facts.connected_at, Some(OffsetDateTime::UNIX_EPOCH));
    }

    #[test]
    fn texts_are_cut_at_a_character_and_an_id_never_is() {
        let held = fit(session("a", 0, 1)).unwrap();
        assert_eq!(held.label, Some("é".repeat(500)));
        assert_eq!(held.user.as_deref(), Some("nul"));
        assert!(fit(session(&"x".repeat(MAX_ID_BYTES), 0, 1)).is_some());
        assert!(fit(session(&"x".repeat(MAX_ID_BYTES + 1), 0, 1)).is_none());
        assert!(fit(session("nul\0", 0, 1)).is_none());
    }
}
