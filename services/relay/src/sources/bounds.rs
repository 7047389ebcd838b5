//! Cuts what a source tells to what the cloud takes. What is cut is said: a count beside a list, a number in the trouble.

use rollcall_model::connection::{MAX_BACKENDS, MAX_FILTER_BYTES, MAX_ID_BYTES, MAX_SUBSCRIPTIONS};
use rollcall_model::ingest::{
    BrokerNode, BrokerReport, ConnectionSession, Subscription, WatchReport,
};
use rollcall_model::report::time;
use rollcall_model::watch::{MAX_NAME_BYTES, MAX_NODES, MAX_UPTIME};

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
        cut(text, MAX_TEXT_BYTES);
    }
    let times = [
        &mut facts.connected_at,
        &mut facts.disconnected_at,
        &mut facts.idle_since,
    ];
    for at in times {
        // What no calendar of the store holds is no time: unknown.
        *at = at.filter(|at| time("at", *at).is_ok());
    }
    for count in [&mut facts.inflight, &mut facts.queue_depth] {
        *count = count.filter(|count| i64::try_from(*count).is_ok());
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
        for held in backends {
            cut(&mut held.server, MAX_TEXT_BYTES);
            for text in [&mut held.id, &mut held.state, &mut held.cipher] {
                text.iter_mut().for_each(|text| cut(text, MAX_TEXT_BYTES));
            }
        }
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
        let group = held.consumer_group.iter_mut();
        group.for_each(|group| cut(group, MAX_TEXT_BYTES));
    }
}

/// Shortens a text at a character, and drops what no store can hold.
fn cut(text: &mut String, most: usize) {
    if text.contains('\0') {
        text.retain(|c| c != '\0');
    }
    text.truncate(text.floor_char_boundary(most));
}

/// How a service is watched, within bounds: the cloud takes a batch whole, so one report that it cannot take would hold up all
/// that the relay has to tell.
pub fn fit_report(mut report: WatchReport) -> WatchReport {
    let names = [&mut report.version, &mut report.state];
    names.into_iter().for_each(cut_name);
    if let Some(trouble) = &mut report.trouble {
        cut(trouble, MAX_TEXT_BYTES);
    }
    report.broker.iter_mut().for_each(fit_broker);
    report
}

fn fit_broker(broker: &mut BrokerReport) {
    fit_uptime(&mut broker.uptime_seconds);
    for count in [
        &mut broker.connections,
        &mut broker.disconnections,
        &mut broker.messages_received,
        &mut broker.messages_sent,
        &mut broker.bytes_received,
        &mut broker.bytes_sent,
        &mut broker.protocol_errors,
    ] {
        *count = count.filter(|count| i64::try_from(*count).is_ok());
    }
    broker.nodes.truncate(MAX_NODES);
    broker.nodes.iter_mut().for_each(|node| {
        let BrokerNode { id, address, .. } = node;
        cut(id, MAX_NAME_BYTES);
        cut_name(address);
        fit_uptime(&mut node.uptime_seconds);
    });
    broker.nodes.retain(|node| !node.id.is_empty());
}

fn fit_uptime(seconds: &mut Option<f64>) {
    *seconds = seconds.filter(|seconds| (0.0..=MAX_UPTIME).contains(seconds));
}

fn cut_name(name: &mut Option<String>) {
    name.iter_mut().for_each(|name| cut(name, MAX_NAME_BYTES));
}

#[cfg(test)]
mod tests {
    use ::time::macros::datetime;
    use ::time::{Duration, OffsetDateTime};
    use rollcall_model::ingest::{
        Backend, ConnectionFacts, ConnectionKind, Happening, IngestEvent,
    };

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

    #[test]
    fn the_cloud_takes_whatever_a_source_may_say_of_a_session() {
        let mut hostile = session("a", 1, 10);
        let huge = "é\0".repeat(2_000);
        hostile.remote = Some(huge.clone());
        hostile.facts.connected_at = Some(datetime!(0001-01-01 00:00 UTC));
        hostile.facts.disconnected_at = Some(datetime!(9999-12-31 23:00 -12));
        hostile.facts.idle_since = Some(datetime!(-9999-01-01 00:00 UTC));
        hostile.facts.inflight = Some(u64::MAX);
        hostile.facts.queue_depth = Some(1 << 63);
        let backend = Backend {
            server: huge.clone(),
            id: Some(huge.clone()),
            state: Some(huge.clone()),
            cipher: Some(huge),
        };
        hostile.facts.backends = Some(vec![backend; MAX_BACKENDS + 1]);
        let event = IngestEvent {
            id: uuid::Uuid::nil(),
            service: "bus".to_owned(),
            spool: uuid::Uuid::nil(),
            sequence: 1,
            at: datetime!(2026-11-21 09:00 UTC),
            what: Happening::Connected {
                connection: Box::new(fit(hostile).unwrap()),
            },
        };
        event.read().unwrap();
    }

    #[test]
    fn the_cloud_takes_whatever_a_source_may_say_of_itself() {
        let huge = || Some("é\0".repeat(2_000));
        let node = BrokerNode {
            id: "n".repeat(300),
            address: huge(),
            healthy: true,
            leader: None,
            uptime_seconds: Some(-1.0),
        };
        let mut nodes = vec![node; MAX_NODES + 1];
        nodes[0].id.clear();
        let report = WatchReport {
            source: "rabbitmq".to_owned(),
            version: huge(),
            state: huge(),
            trouble: huge(),
            broker: Some(BrokerReport {
                uptime_seconds: Some(1e300),
                connections: Some(u64::MAX),
                bytes_sent: Some(1 << 63),
                messages_sent: Some(7),
                nodes,
                ..BrokerReport::default()
            }),
            ..WatchReport::default()
        };
        let broker = fit_report(report).read().unwrap().broker.unwrap();
        assert_eq!(broker.nodes.len(), MAX_NODES - 1);
        assert_eq!(broker.messages_sent, Some(7));
    }
}
