//! What is known of a client's connection to a broker or through a proxy.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::ingest::{
    Backend, ConnectionFacts, ConnectionKind, ConnectionSession, Presence, Subscription,
};
use crate::report::{About, OutOfRange, Place, optional_time, text};
use crate::{EventType, Facts, Kind};

/// In which time reconnects are counted.
pub const RECONNECT_WINDOW: Duration = Duration::hours(1);
/// Times of connecting that are kept, at most.
const MAX_CONNECTS: usize = 32;
/// Bytes of a session's name, of a client's id and of a filter: what an index of the store can hold, with room.
pub const MAX_ID_BYTES: usize = 1_000;
/// Subscriptions that are listed of one session, and bytes of their filters; backend connections.
pub const MAX_SUBSCRIPTIONS: usize = 1_000;
pub const MAX_FILTER_BYTES: usize = 256 << 10;
pub const MAX_BACKENDS: usize = 100;
/// What a source may know of a session, by its names in `/v1`.
pub const MEMBERS: [&str; 26] = [
    "backends",
    "cipher",
    "clean_start",
    "client_id",
    "connected_at",
    "database",
    "disconnected_at",
    "expiry_interval",
    "has_will",
    "idle",
    "inflight",
    "label",
    "max_packet_size",
    "node",
    "port",
    "protocol",
    "queue_depth",
    "receive_maximum",
    "remote",
    "request_problem",
    "request_response",
    "subscription_count",
    "subscriptions",
    "topic_alias_max",
    "user",
    "vhost",
];

/// The facts of a connection beyond those of sessions of every kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    #[serde(flatten)]
    pub facts: ConnectionFacts,
    /// When the client connected, as far as it was within [`RECONNECT_WINDOW`] of the last time, and the time before; the
    /// latest 32.
    #[serde(with = "times", default, skip_serializing_if = "Vec::is_empty")]
    pub connects: Vec<OffsetDateTime>,
    /// The spool whose event made the session so, and the event's place there.
    pub spool: Uuid,
    pub sequence: u64,
}

impl Presence {
    /// The name as stored and as shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Gone => "gone",
        }
    }
}

impl From<ConnectionKind> for Kind {
    fn from(kind: ConnectionKind) -> Self {
        match kind {
            ConnectionKind::Mqtt => Self::Mqtt,
            ConnectionKind::Amqp => Self::Amqp,
            ConnectionKind::Proxy => Self::Proxy,
        }
    }
}

impl Connection {
    /// How often the client came back within [`RECONNECT_WINDOW`] before `now`: 31 stands for that many and more.
    pub fn reconnects(&self, now: OffsetDateTime) -> usize {
        let since = now - RECONNECT_WINDOW;
        let recent = self.connects.iter().filter(|at| **at >= since).count();
        // The first time that is known is none that the client came back.
        recent.saturating_sub(usize::from(recent == self.connects.len()))
    }

    /// Since when the client is idle; nothing where nobody is connected.
    pub fn idle_since(&self) -> Option<OffsetDateTime> {
        let is_there = self.facts.presence == Presence::Connected;
        self.facts.idle_since.filter(|_| is_there)
    }

    /// How many subscriptions there are, listed or not; nothing where that is unknown.
    pub fn subscription_count(&self) -> Option<u32> {
        let listed = self.facts.subscriptions.as_ref();
        let listed = listed.map(|listed| u32::try_from(listed.len()).unwrap_or(u32::MAX));
        self.facts.subscription_count.max(listed)
    }

    /// Takes over from the facts before what an event does not tell.
    pub(crate) fn follow(&mut self, before: Option<&Self>, event: EventType, at: OffsetDateTime) {
        if let Some(before) = before {
            self.connects.clone_from(&before.connects);
        }
        if event == EventType::Connected {
            let since = at - RECONNECT_WINDOW;
            let recent = self.connects.iter().position(|held| *held >= since);
            let old = recent.unwrap_or(self.connects.len());
            // One of before tells that those after it are reconnects.
            self.connects.drain(..old.saturating_sub(1));
            self.connects.push(at);
            let spare = self.connects.len().saturating_sub(MAX_CONNECTS);
            self.connects.drain(..spare);
        }
    }

    /// What differs, as pointers into the attributes that `/v1` shows.
    pub(crate) fn changed_since(
        now: Option<&Self>,
        before: Option<&Self>,
    ) -> impl Iterator<Item = (&'static str, bool)> {
        let differs = now.zip(before).map(|(now, before)| {
            let (a, b) = (&now.facts, &before.facts);
            [
                ("/client_id", a.client_id != b.client_id),
                ("/protocol", a.protocol != b.protocol),
                ("/vhost", a.vhost != b.vhost),
                ("/node", a.node != b.node),
                ("/port", a.port != b.port),
                ("/database", a.database != b.database),
                ("/cipher", a.cipher != b.cipher),
                ("/connected_at", a.connected_at != b.connected_at),
                ("/disconnected_at", a.disconnected_at != b.disconnected_at),
                ("/idle", now.idle_since() != before.idle_since()),
                ("/clean_start", a.clean_start != b.clean_start),
                ("/expiry_interval", a.expiry_seconds != b.expiry_seconds),
                ("/receive_maximum", a.receive_maximum != b.receive_maximum),
                ("/max_packet_size", a.max_packet_size != b.max_packet_size),
                ("/topic_alias_max", a.topic_alias_max != b.topic_alias_max),
                (
                    "/request_response",
                    a.request_response != b.request_response,
                ),
                ("/request_problem", a.request_problem != b.request_problem),
                ("/has_will", a.has_will != b.has_will),
                ("/inflight", a.inflight != b.inflight),
                ("/queue_depth", a.queue_depth != b.queue_depth),
                (
                    "/subscription_count",
                    now.subscription_count() != before.subscription_count(),
                ),
                ("/subscriptions", a.subscriptions != b.subscriptions),
                ("/backends", a.backends != b.backends),
                ("/reconnects", now.connects != before.connects),
            ]
        });
        differs.into_iter().flatten()
    }

    /// About what it takes in memory, in bytes.
    pub(crate) fn footprint(&self) -> usize {
        const OWN_BYTES: usize = 1_024;
        const ITEM_BYTES: usize = 96;
        let facts = &self.facts;
        let texts = [&facts.client_id, &facts.state, &facts.vhost, &facts.node];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let subscriptions = facts.subscriptions.iter().flatten();
        let subscriptions: usize = subscriptions.map(Subscription::footprint).sum();
        let backends = facts.backends.iter().flatten();
        let backends: usize = backends
            .map(|backend| backend.server.len() + ITEM_BYTES)
            .sum();
        OWN_BYTES + texts + subscriptions + backends
    }
}

impl ConnectionSession {
    /// What the event says of a connection, where every value is in range.
    pub(crate) fn read(self: Box<Self>, place: Place) -> Result<(String, About), OutOfRange> {
        self.check()?;
        let mut facts = self.facts;
        facts.connected_at = optional_time("connection.connected_at", facts.connected_at)?;
        facts.disconnected_at = optional_time("connection.disconnected_at", facts.disconnected_at)?;
        facts.idle_since = optional_time("connection.idle_since", facts.idle_since)?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let about = About {
            kind: self.kind.into(),
            created: facts.connected_at,
            label: filled(self.label),
            user: filled(self.user),
            remote: filled(self.remote),
            facts: Facts::Connection(Box::new(Connection {
                facts,
                connects: Vec::new(),
                spool: place.spool,
                sequence: place.sequence,
            })),
        };
        Ok((self.source_id, about))
    }

    fn check(&self) -> Result<(), OutOfRange> {
        id("connection.source_id", &self.source_id)?;
        let facts = &self.facts;
        if let Some(client_id) = &facts.client_id {
            id("connection.client_id", client_id)?;
        }
        for (name, value) in [
            ("connection.label", &self.label),
            ("connection.user", &self.user),
            ("connection.remote", &self.remote),
            ("connection.state", &facts.state),
            ("connection.protocol", &facts.protocol),
            ("connection.vhost", &facts.vhost),
            ("connection.node", &facts.node),
            ("connection.database", &facts.database),
            ("connection.cipher", &facts.cipher),
        ] {
            value.as_deref().map_or(Ok(()), |value| text(name, value))?;
        }
        for (name, value) in [
            ("connection.inflight", facts.inflight),
            ("connection.queue_depth", facts.queue_depth),
        ] {
            if value.is_some_and(|value| i64::try_from(value).is_err()) {
                return Err(OutOfRange(format!("{name} is below 2^63")));
            }
        }
        check_subscriptions(facts.subscriptions.as_deref().unwrap_or_default())?;
        check_backends(facts.backends.as_deref().unwrap_or_default())
    }
}

impl Subscription {
    fn footprint(&self) -> usize {
        const OWN_BYTES: usize = 96;
        OWN_BYTES + self.filter.len() + self.consumer_group.as_ref().map_or(0, String::len)
    }
}

fn check_subscriptions(listed: &[Subscription]) -> Result<(), OutOfRange> {
    let bytes: usize = listed.iter().map(Subscription::footprint).sum();
    if listed.len() > MAX_SUBSCRIPTIONS || bytes > MAX_FILTER_BYTES * 2 {
        return Err(OutOfRange(format!(
            "connection.subscriptions lists at most {MAX_SUBSCRIPTIONS}, and {MAX_FILTER_BYTES} bytes of filters; say how many \
             there are in connection.subscription_count"
        )));
    }
    for held in listed {
        id("connection.subscriptions[].filter", &held.filter)?;
        let group = held.consumer_group.as_deref().unwrap_or_default();
        text("connection.subscriptions[].consumer_group", group)?;
        if held.qos > 2 {
            let message = "connection.subscriptions[].qos is from 0 to 2";
            return Err(OutOfRange(message.to_owned()));
        }
    }
    Ok(())
}

fn check_backends(listed: &[Backend]) -> Result<(), OutOfRange> {
    if listed.len() > MAX_BACKENDS {
        let message = format!("connection.backends lists at most {MAX_BACKENDS}");
        return Err(OutOfRange(message));
    }
    for held in listed {
        text("connection.backends[].server", &held.server)?;
        for (name, value) in [
            ("connection.backends[].id", &held.id),
            ("connection.backends[].state", &held.state),
            ("connection.backends[].cipher", &held.cipher),
        ] {
            text(name, value.as_deref().unwrap_or_default())?;
        }
    }
    Ok(())
}

/// A name that a source gives: any text but U+0000, which no text in the store can hold.
fn id(name: &str, text: &str) -> Result<(), OutOfRange> {
    if text.is_empty() || text.len() > MAX_ID_BYTES || text.contains('\0') {
        return Err(OutOfRange(format!(
            "{name} is text of 1 to {MAX_ID_BYTES} bytes without U+0000"
        )));
    }
    Ok(())
}

/// Times as RFC 3339.
mod times {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use time::OffsetDateTime;

    #[derive(Serialize, Deserialize)]
    struct Time(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

    pub fn serialize<S: Serializer>(
        times: &[OffsetDateTime],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(times.iter().map(|at| Time(*at)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<OffsetDateTime>, D::Error> {
        let times = Vec::<Time>::deserialize(deserializer)?;
        Ok(times.into_iter().map(|time| time.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use ::time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-21 09:00 UTC);

    /// Connected so many minutes after the start, one after the other.
    fn connected(minutes: impl IntoIterator<Item = i64>) -> Connection {
        let mut held = Connection {
            facts: ConnectionFacts::default(),
            connects: Vec::new(),
            spool: Uuid::nil(),
            sequence: 1,
        };
        for minute in minutes {
            let before = held.clone();
            held.connects.clear();
            let at = START + Duration::minutes(minute);
            held.follow(Some(&before), EventType::Connected, at);
        }
        held
    }

    #[test]
    fn who_comes_back_within_the_window_is_counted() {
        for (connects, now, expected) in [
            (vec![], 0, 0),
            (vec![0], 0, 0),
            (vec![0], 90, 0),
            (vec![0, 1], 1, 1),
            (vec![0, 1, 2], 60, 2),
            (vec![0, 1, 2], 61, 2),
            (vec![0, 1, 2], 62, 1),
            (vec![0, 1, 2], 63, 0),
            // The first was longer ago, and yet the others come back.
            (vec![0, 70, 71], 71, 2),
            (vec![0, 70, 71, 200], 200, 1),
        ] {
            let held = connected(connects.clone());
            let now = START + Duration::minutes(now);
            assert_eq!(held.reconnects(now), expected, "{connects:?} at {now}");
        }
    }

    #[test]
    fn who_comes_back_for_ever_is_kept_in_bounds() {
        let held = connected((0..1_000).map(|_| 5));
        assert_eq!(held.connects.len(), MAX_CONNECTS);
        assert_eq!(held.reconnects(START + Duration::minutes(5)), 31);
    }
}
