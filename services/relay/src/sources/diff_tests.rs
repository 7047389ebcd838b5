use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{Backend, ConnectionFacts, Subscription};
use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2026-11-21 09:00:00 UTC);
const EVERY: Duration = Duration::seconds(30);

fn client(id: &str, connected: i64) -> ConnectionSession {
    ConnectionSession {
        source_id: id.to_owned(),
        kind: ConnectionKind::Mqtt,
        label: None,
        user: Some("u".to_owned()),
        remote: None,
        facts: ConnectionFacts {
            connected_at: Some(START + Duration::seconds(connected)),
            ..ConnectionFacts::default()
        },
    }
}

fn seen(connections: Vec<ConnectionSession>) -> Option<SeenService> {
    Some(SeenService {
        name: "b".to_owned(),
        kind: ServiceKind::Broker,
        state: None,
        broker: None,
        connections,
    })
}

fn moment(now: i64, previous: Option<i64>) -> Moment {
    Moment {
        now: START + Duration::seconds(now),
        previous: previous.map(|at| START + Duration::seconds(at)),
        every: EVERY,
        again: None,
        is_unsure: false,
    }
}

/// What a reader of the events knows, as the spool keeps it.
#[derive(Default)]
struct Reader {
    memory: Memory,
    rows: BTreeMap<String, ConnectionSession>,
    /// Who is connected, by the events alone.
    connected: BTreeSet<String>,
    told: Vec<(OffsetDateTime, &'static str, Presence)>,
}

impl Reader {
    /// Takes a picture, and everything that it says.
    fn take(&mut self, connections: Vec<ConnectionSession>, at: Moment) {
        self.told.clear();
        let name: Arc<str> = "b".into();
        let mut differences = self.memory.compare(seen(connections), &name, at);
        while let Some(mut change) = differences.next(&self.memory) {
            let id = change.source_id.to_string();
            for (at, step) in std::mem::take(&mut change.steps) {
                let is_end = step.is_end();
                let happening = step.happening(self.rows.get(&id)).expect("it was told of");
                let held = session(&happening).expect("of a session").clone();
                let word = match &happening {
                    Happening::Connected { .. } => {
                        assert!(self.connected.insert(id.clone()), "{id} connected twice");
                        "connected"
                    }
                    Happening::Disconnected { .. } => {
                        self.connected.remove(&id);
                        "disconnected"
                    }
                    Happening::Removed { .. } => "removed",
                    _ => "updated",
                };
                self.told.push((at, word, held.facts.presence));
                if is_end {
                    assert_eq!(held.facts.presence, Presence::Gone);
                    self.rows.remove(&id);
                } else {
                    self.rows.insert(id.clone(), held);
                }
            }
            self.memory.told(change);
        }
    }

    fn words(&self) -> Vec<&'static str> {
        self.told.iter().map(|(_, word, _)| *word).collect()
    }
}

#[test]
fn a_client_comes_at_the_time_that_its_source_says_and_leaves_when_that_is_seen() {
    let mut reader = Reader::default();
    reader.take(vec![client("a", -500)], moment(0, None));
    assert_eq!(
        reader.told,
        [(
            START - Duration::seconds(500),
            "connected",
            Presence::Connected
        )]
    );
    reader.take(
        vec![client("a", -500), client("b", 4), client("c", -9)],
        moment(10, Some(0)),
    );
    let times: Vec<i64> = reader
        .told
        .iter()
        .map(|(at, ..)| (*at - START).whole_seconds())
        .collect();
    // One that the picture before should have had is told at the time of this.
    assert_eq!(times, [4, 10]);
    reader.take(
        vec![client("a", -500), client("b", 4)],
        moment(20, Some(10)),
    );
    assert_eq!(
        reader.told,
        [(
            START + Duration::seconds(20),
            "disconnected",
            Presence::Gone
        )]
    );
}

#[test]
fn a_takeover_between_pictures_is_told_as_leaving_and_coming() {
    let mut reader = Reader::default();
    reader.take(vec![client("a", 0)], moment(0, None));
    reader.take(vec![client("a", 7)], moment(10, Some(0)));
    assert_eq!(reader.words(), ["disconnected", "connected"]);
    assert_eq!(reader.told[0].0, START + Duration::seconds(7));
    assert_eq!(reader.told[0].2, Presence::Gone);
}

#[test]
fn a_kept_session_is_disconnected_and_removed_when_it_vanishes() {
    let mut kept = client("a", 0);
    kept.facts.clean_start = Some(false);
    let mut reader = Reader::default();
    reader.take(vec![kept.clone()], moment(0, None));
    kept.facts.connected_at = Some(START + Duration::seconds(5));
    reader.take(vec![kept.clone()], moment(10, Some(0)));
    assert_eq!(
        reader.told[0].2,
        Presence::Disconnected,
        "its broker keeps it"
    );
    kept.facts.presence = Presence::Disconnected;
    reader.take(vec![kept.clone()], moment(20, Some(10)));
    assert_eq!(reader.words(), ["disconnected"]);
    // Back and away again between two pictures.
    kept.facts.connected_at = Some(START + Duration::seconds(25));
    kept.facts.disconnected_at = Some(START + Duration::seconds(28));
    reader.take(vec![kept], moment(30, Some(20)));
    assert_eq!(reader.words(), ["connected", "disconnected"]);
    assert_eq!(reader.told[1].0, START + Duration::seconds(28));
    reader.take(Vec::new(), moment(40, Some(30)));
    assert_eq!(reader.words(), ["removed"]);
}

#[test]
fn what_moves_all_the_time_is_told_seldom_unless_something_else_is() {
    let mut reader = Reader::default();
    let mut a = client("a", 0);
    a.facts.queue_depth = Some(1);
    a.facts.idle_since = Some(START);
    reader.take(vec![a.clone()], moment(0, None));
    a.facts.queue_depth = Some(2);
    reader.take(vec![a.clone()], moment(10, Some(0)));
    assert_eq!(reader.words(), [""; 0], "too early");
    reader.take(vec![a.clone()], moment(30, Some(20)));
    assert_eq!(reader.words(), ["updated"]);
    assert_eq!(reader.rows["a"].facts.queue_depth, Some(2));
    a.facts.idle_since = Some(START + Duration::seconds(30));
    reader.take(vec![a.clone()], moment(90, Some(80)));
    assert_eq!(reader.words(), [""; 0], "idle by so little");
    a.user = Some("v".to_owned());
    reader.take(vec![a.clone()], moment(91, Some(90)));
    assert_eq!(reader.words(), ["updated"]);
    assert_eq!(reader.rows["a"], a, "all together");
}

#[test]
fn a_client_of_a_pool_that_works_with_another_server_at_each_picture_is_told_of_seldom() {
    let mut reader = Reader::default();
    let mut a = client("a", 0);
    let works_with = |id: i64| {
        let backend = Backend {
            server: "10.0.0.5:5432".to_owned(),
            id: Some(id.to_string()),
            state: None,
            cipher: None,
        };
        Some(vec![backend])
    };
    let mut told = Vec::new();
    for at in 0..10 {
        a.facts.backends = works_with(at);
        let previous = (at > 0).then_some(at * 10 - 10);
        reader.take(vec![a.clone()], moment(at * 10, previous));
        told.extend(reader.words());
    }
    assert_eq!(told, ["connected", "updated", "updated", "updated"]);
    assert_eq!(reader.rows["a"].facts.backends, works_with(9));
}

#[test]
fn after_a_loss_everything_is_told_again_and_who_was_there_before_does_not_connect() {
    let mut reader = Reader::default();
    reader.take(vec![client("a", 0)], moment(0, None));
    let again = |now, previous| Moment {
        again: Some(START + Duration::seconds(10)),
        ..moment(now, previous)
    };
    let two = vec![client("a", 0), client("b", -1)];
    reader.take(two.clone(), again(10, Some(0)));
    assert_eq!(reader.words(), ["updated", "connected"]);
    reader.take(two, again(15, Some(10)));
    assert_eq!(reader.words(), [""; 0], "they were told again already");
    let unsure = Moment {
        is_unsure: true,
        ..moment(20, Some(15))
    };
    reader.take(
        vec![
            client("a", 0),
            client("b", -1),
            client("c", 2),
            client("d", 17),
        ],
        unsure,
    );
    assert_eq!(reader.words(), ["updated", "connected"]);
}

#[test]
fn subscriptions_that_are_told_late_stay_meanwhile() {
    let listed = |filters: &[&str]| {
        let filters = filters.iter().map(|filter| Subscription {
            filter: (*filter).to_owned(),
            qos: 1,
            no_local: None,
            retain_as_published: None,
            retain_handling: None,
            consumer_group: None,
            subscription_id: None,
        });
        Some(filters.collect::<Vec<_>>())
    };
    let mut reader = Reader::default();
    let mut a = client("a", 0);
    (a.facts.subscriptions, a.facts.subscription_count) = (listed(&["x"]), Some(1));
    reader.take(vec![a.clone()], moment(0, None));
    a.facts.subscriptions = None;
    reader.take(vec![a.clone()], moment(10, Some(0)));
    assert_eq!(reader.words(), [""; 0]);
    a.user = Some("v".to_owned());
    reader.take(vec![a.clone()], moment(20, Some(10)));
    assert_eq!(reader.words(), ["updated"]);
    assert_eq!(reader.rows["a"].facts.subscriptions, listed(&["x"]));
    a.facts.subscriptions = listed(&["x"]);
    reader.take(vec![a.clone()], moment(30, Some(20)));
    assert_eq!(reader.words(), [""; 0]);
    a.facts.subscriptions = listed(&["y"]);
    reader.take(vec![a.clone()], moment(40, Some(30)));
    assert_eq!(reader.words(), ["updated"]);
    assert_eq!(reader.rows["a"], a);
}

/// What may happen between two pictures.
#[derive(Clone, Debug)]
enum Act {
    Connect(usize),
    Leave(usize),
    Update(usize, u8),
    Move(usize, u64),
    Poll,
    PollTwice,
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0..6_usize;
    prop_oneof![
        4 => who.clone().prop_map(Act::Connect),
        3 => who.clone().prop_map(Act::Leave),
        2 => (who.clone(), any::<u8>()).prop_map(|(who, user)| Act::Update(who, user)),
        2 => (who, 0..9_u64).prop_map(|(who, depth)| Act::Move(who, depth)),
        4 => Just(Act::Poll),
        1 => Just(Act::PollTwice),
    ]
}

proptest! {
    /// Half of the clients are kept by their broker when they leave. A poll that is lost is one that does not happen.
    #[test]
    fn the_events_add_up_to_each_picture(acts in prop::collection::vec(act(), 1..120), tells_times in any::<bool>()) {
        let mut source: BTreeMap<String, ConnectionSession> = BTreeMap::new();
        let mut reader = Reader::default();
        let (mut now, mut previous) = (0, None);
        for act in acts {
            now += 3;
            let time = tells_times.then(|| START + Duration::seconds(now));
            match act {
                Act::Connect(who) => {
                    // A takeover where it is there already: only a source that tells times can show it.
                    let id = who.to_string();
                    let mut new = client(&id, now);
                    new.facts.connected_at = time;
                    new.facts.clean_start = Some(who % 2 == 0);
                    source.insert(id, new);
                }
                Act::Leave(who) => {
                    let id = who.to_string();
                    match source.get_mut(&id) {
                        Some(held) if who % 2 == 1 => {
                            held.facts.presence = Presence::Disconnected;
                            held.facts.disconnected_at = time;
                        }
                        _ => drop(source.remove(&id)),
                    }
                }
                Act::Update(who, user) => {
                    if let Some(held) = source.get_mut(&who.to_string()) {
                        held.user = Some(user.to_string());
                    }
                }
                Act::Move(who, depth) => {
                    if let Some(held) = source.get_mut(&who.to_string()) {
                        held.facts.queue_depth = Some(depth);
                    }
                }
                Act::Poll | Act::PollTwice => {
                    let picture: Vec<_> = source.values().cloned().collect();
                    reader.take(picture.clone(), moment(now, previous));
                    previous = Some(now);
                    let connected = |held: &&ConnectionSession| held.facts.presence == Presence::Connected;
                    let there: BTreeSet<String> =
                        source.values().filter(connected).map(|held| held.source_id.clone()).collect();
                    prop_assert_eq!(&reader.connected, &there);
                    let but_what_moves = |held: &ConnectionSession| {
                        let mut held = held.clone();
                        held.facts.queue_depth = None;
                        held
                    };
                    let told: Vec<_> = reader.rows.values().map(but_what_moves).collect();
                    let real: Vec<_> = source.values().map(but_what_moves).collect();
                    prop_assert_eq!(told, real);
                    if matches!(act, Act::PollTwice) {
                        reader.take(picture.clone(), moment(now, previous));
                        prop_assert_eq!(reader.words(), [""; 0]);
                        // Nor after a restart; and what moves is true in the end.
                        let mut restored = Memory::default();
                        for held in reader.rows.values() {
                            restored.restore(&mut held.clone());
                        }
                        reader.memory = restored;
                        now += 60;
                        reader.take(picture.clone(), moment(now, previous));
                        previous = Some(now);
                        let told: Vec<_> = reader.rows.values().cloned().collect();
                        prop_assert_eq!(told, picture.clone());
                        reader.take(picture, moment(now, previous));
                        prop_assert_eq!(reader.words(), [""; 0]);
                    }
                }
            }
        }
    }
}
