//! A box and its mirror over a network that loses, doubles and reorders, through silences, reboots and clocks that jump:
//! afterwards the mirror knows what the box knows, each change was learned once, and what was missed is told.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use uuid::Uuid;

use super::Bench;
use crate::mirror::{Learned, Mirror, News, Unread};
use crate::{Change, Config, Method, State, Transmitter};

#[derive(Debug, Clone)]
enum Op {
    Create(u16, bool),
    Change(u16, u32),
    Act(u16, &'static str),
    ClearAll,
    ForgetHistory,
    ClearStatistics,
    Wait(u64),
    SetClock(i64),
    Reboot,
    /// The network for the next notifications: how many are lost, then how many come twice, and whether two change places.
    Weather(u8, u8, bool),
    Read,
    Ping,
    RestartMirror,
}

fn op() -> impl Strategy<Value = Op> {
    let number = 1..6_u16;
    prop_oneof![
        6 => (number.clone(), prop::bool::weighted(0.2)).prop_map(|(n, page)| Op::Create(n, page)),
        3 => (number.clone(), 1..9_u32).prop_map(|(n, size)| Op::Change(n, size)),
        8 => (number, prop::sample::select(vec!["page", "clear", "remove"])).prop_map(|(n, act)| Op::Act(n, act)),
        1 => Just(Op::ClearAll),
        1 => Just(Op::ForgetHistory),
        1 => Just(Op::ClearStatistics),
        4 => (1..200_u64).prop_map(Op::Wait),
        1 => (-7_200..7_200_i64).prop_map(Op::SetClock),
        1 => Just(Op::Reboot),
        4 => (0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(lost, twice, swap)| Op::Weather(lost, twice, swap)),
        2 => Just(Op::Read),
        2 => Just(Op::Ping),
        1 => Just(Op::RestartMirror),
    ]
}

struct Pair {
    bench: Bench,
    mirror: Mirror,
    learned: Vec<Learned>,
    /// All that happened at the box since it was first read.
    happened: u64,
    flying: VecDeque<Vec<u8>>,
    weather: (u8, u8, bool),
    must_read: bool,
    stored: BTreeMap<Uuid, String>,
}

impl Pair {
    fn new() -> Self {
        Self {
            bench: Bench::with(Config {
                max_history: 12,
                ..Config::default()
            }),
            mirror: Mirror::new(),
            learned: Vec::new(),
            happened: 0,
            flying: VecDeque::new(),
            weather: (0, 0, false),
            must_read: false,
            stored: BTreeMap::new(),
        }
    }

    fn send(&mut self, method: Method, address: &str, body: &str) {
        self.bench.uuid = Uuid::from_u128(self.bench.uuid.as_u128() + 1);
        let reply = self.bench.send(method, address, body);
        let changes: Vec<Change> = reply.effects.changes;
        self.happened += changes.len() as u64;
        for change in &changes {
            let body = self.bench.pager.notification(change, self.bench.now);
            self.fly(body);
        }
    }

    fn fly(&mut self, body: Vec<u8>) {
        let (lost, twice, swap) = &mut self.weather;
        if *lost > 0 {
            *lost -= 1;
            return;
        }
        if *twice > 0 {
            *twice -= 1;
            self.flying.push_back(body.clone());
        }
        self.flying.push_back(body);
        if *swap && self.flying.len() > 1 {
            let last = self.flying.len() - 1;
            self.flying.swap(last, last - 1);
        }
    }

    fn deliver(&mut self) {
        while let Some(body) = self.flying.pop_front() {
            let heard = self.mirror.notification(&body, self.bench.now.utc);
            assert!(!heard.is_rubbish);
            self.learned.extend(heard.learned);
            self.must_read |= heard.must_read;
        }
    }

    /// Reads the box, with changes in between.
    fn read(&mut self, between: &[Op]) {
        self.mirror.begin_reading();
        let active = self
            .bench
            .send(Method::Get, "/v1/sessions", "")
            .body
            .unwrap();
        for op in between {
            self.apply(op);
        }
        self.deliver();
        let history = self
            .bench
            .send(Method::Get, "/v1/sessions/history", "")
            .body
            .unwrap();
        let insist = between.len() > 1;
        let heard = match self
            .mirror
            .read(&active, &history, self.bench.now.utc, insist)
        {
            Ok(heard) => heard,
            Err(error) => {
                assert_eq!(error, Unread::Changed);
                return self.read(&[]);
            }
        };
        self.learned.extend(heard.learned);
        self.must_read = heard.must_read;
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(number, page) => {
                let action = if *page { r#","action":"page""# } else { "" };
                self.send(
                    Method::Post,
                    "/v1/sessions",
                    &format!(r#"{{"number":{number}{action}}}"#),
                );
            }
            Op::Change(number, size) => {
                let address = format!("/v1/sessions?number={number}");
                self.send(Method::Put, &address, &format!(r#"{{"partySize":{size}}}"#));
            }
            Op::Act(number, action) => {
                let address = format!("/v1/sessions?number={number}");
                self.send(
                    Method::Put,
                    &address,
                    &format!(r#"{{"action":"{action}"}}"#),
                );
            }
            Op::ClearAll => self.send(Method::Delete, "/v1/sessions", ""),
            Op::ForgetHistory => self.send(Method::Delete, "/v1/sessions/history", ""),
            Op::ClearStatistics => self.send(Method::Delete, "/v1/sessions/statistics", ""),
            Op::Wait(seconds) => {
                self.bench.wait(*seconds);
            }
            Op::SetClock(seconds) => {
                let at = self.bench.now.utc + time::Duration::seconds(*seconds);
                let body = format!(r#"{{"datetime":"{}"}}"#, crate::DeviceTime::at(at, 0));
                self.send(Method::Post, "/v1/settings", &body);
            }
            Op::Reboot => {
                let snapshot = self.bench.pager.snapshot();
                let config = Config {
                    max_history: 12,
                    ..Config::default()
                };
                self.bench.pager = Transmitter::restore(snapshot, config, self.bench.now).unwrap();
            }
            Op::Weather(lost, twice, swap) => self.weather = (*lost, *twice, *swap),
            Op::Read | Op::RestartMirror => {}
            Op::Ping => {
                let body = self.bench.pager.ping(self.bench.now);
                self.fly(body);
            }
        }
    }

    /// Stores what has changed.
    fn store(&mut self) {
        let delta = self.mirror.take_changes();
        for uuid in delta.gone {
            self.stored.remove(&uuid);
        }
        for guest in delta.put {
            self.stored
                .insert(guest.uuid, serde_json::to_string(&guest).unwrap());
        }
    }

    /// The mirror as it is stored and found again.
    fn restart(&mut self) {
        self.store();
        let guests = self
            .stored
            .values()
            .map(|text| serde_json::from_str(text).unwrap());
        let meta = serde_json::to_string(self.mirror.meta()).unwrap();
        self.mirror = Mirror::restore(serde_json::from_str(&meta).unwrap(), guests.collect());
        self.must_read = true;
    }
}

/// What was learned of one guest, in order.
fn stories(learned: &[Learned]) -> BTreeMap<Uuid, Vec<&News>> {
    let mut stories: BTreeMap<Uuid, Vec<&News>> = BTreeMap::new();
    for learned in learned {
        let (News::Created(guest)
        | News::Updated(guest)
        | News::Paged(guest)
        | News::Cleared(guest)
        | News::Removed(guest)) = &learned.what
        else {
            continue;
        };
        stories.entry(guest.uuid).or_default().push(&learned.what);
    }
    stories
}

fn missed(learned: &[Learned]) -> u64 {
    let changes = |learned: &Learned| match learned.what {
        News::Missed { changes, .. } => changes.unwrap_or(1_000_000),
        _ => 0,
    };
    learned.iter().map(changes).sum()
}

fn check(pair: &Pair) -> Result<(), TestCaseError> {
    let mut active: Vec<_> = pair
        .mirror
        .guests()
        .filter(|guest| guest.is_active())
        .collect();
    active.sort_by_key(|guest| guest.id);
    let at_box: Vec<_> = pair.bench.pager.active().collect();
    let describe = |id: u64, uuid: Uuid, size: u32, state: State| (id, uuid, size, state);
    prop_assert_eq!(
        active
            .iter()
            .map(|g| describe(g.id, g.uuid, g.party_size, g.state))
            .collect::<Vec<_>>(),
        at_box
            .iter()
            .map(|s| describe(s.id, s.uuid, s.party_size, s.state))
            .collect::<Vec<_>>()
    );
    let mut ended: Vec<u64> = pair
        .mirror
        .guests()
        .filter(|guest| !guest.is_active())
        .map(|guest| guest.id)
        .collect();
    ended.sort_unstable();
    let archived: Vec<u64> = pair
        .bench
        .pager
        .history()
        .map(|session| session.id)
        .collect();
    prop_assert_eq!(ended, archived);
    let mut learned = 0;
    for (uuid, story) in stories(&pair.learned) {
        learned += story.len() as u64;
        let is_begin = |news: &&&News| matches!(news, News::Created(_));
        let is_end = |news: &&&News| matches!(news, News::Cleared(_) | News::Removed(_));
        prop_assert!(is_begin(&&story[0]), "{} begins with {:?}", uuid, story[0]);
        prop_assert_eq!(
            story.iter().filter(is_begin).count(),
            1,
            "{} begins once",
            uuid
        );
        let ends = story.iter().filter(is_end).count();
        prop_assert!(
            ends <= 1 && (ends == 0 || is_end(&&story[story.len() - 1])),
            "{} ends once: {:?}",
            uuid,
            story
        );
        let is_there = active.iter().any(|guest| guest.uuid == uuid);
        prop_assert_eq!(ends == 0, is_there, "{} has ended where it is gone", uuid);
    }
    // A create with a page is one step and one event or two; nothing else is told more often than it happened.
    prop_assert!(
        learned + missed(&pair.learned) >= pair.happened,
        "{} of {} are neither told nor missed",
        learned,
        pair.happened
    );
    Ok(())
}

fn run(before: &[Op], ops: &[(Op, Vec<Op>)]) -> Result<Pair, TestCaseError> {
    let mut pair = Pair::new();
    for op in before {
        pair.apply(op);
    }
    pair.flying.clear();
    pair.read(&[]);
    // What was before the first reading was nobody's to miss.
    pair.happened = stories(&pair.learned)
        .values()
        .map(|story| story.len() as u64)
        .sum();
    for (op, between) in ops {
        pair.apply(op);
        match op {
            Op::Read => pair.read(between),
            Op::RestartMirror => pair.restart(),
            _ => pair.deliver(),
        }
        if pair.must_read {
            pair.read(between);
        }
    }
    // In the end everything is quiet, and the next ping tells of what was lost.
    pair.weather = (0, 0, false);
    for _ in 0..4 {
        let ping = pair.bench.pager.ping(pair.bench.now);
        pair.fly(ping);
        pair.deliver();
        if pair.must_read {
            pair.read(&[]);
        }
    }
    // A history that was forgotten is seen at the next reading.
    pair.read(&[]);
    check(&pair)?;
    Ok(pair)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn afterwards_the_mirror_knows_what_the_box_knows(
        before in prop::collection::vec(op(), 0..10),
        ops in prop::collection::vec((op(), prop::collection::vec(op(), 0..3)), 1..60),
    ) {
        run(&before, &ops)?;
    }

    /// Where the network keeps everything and both sides stay up, nothing is told as missed.
    #[test]
    fn nothing_is_missed_where_nothing_was_lost(ops in prop::collection::vec(op(), 1..60)) {
        let is_calm = |op: &Op| !matches!(op, Op::Weather(..) | Op::RestartMirror);
        let ops: Vec<_> = ops.into_iter().filter(is_calm).map(|op| (op, Vec::new())).collect();
        let pair = run(&[], &ops)?;
        prop_assert_eq!(missed(&pair.learned), 0);
    }

    #[test]
    fn rubbish_is_refused_and_changes_nothing(
        ops in prop::collection::vec(op().prop_map(|op| (op, Vec::new())), 1..12),
        rubbish in prop::collection::vec(any::<u8>(), 0..300),
        cut in 0..400_usize,
    ) {
        let mut pair = run(&[], &ops)?;
        let known = pair.mirror.guests().cloned().collect::<Vec<_>>();
        let now = pair.bench.now.utc;
        let body = pair.bench.send(Method::Get, "/v1/sessions", "").body.unwrap();
        let cut = &body[..cut.min(body.len() - 1)];
        for bytes in [&rubbish[..], cut, b"[]", b"{}", b"null", br#"{"sessions":7}"#] {
            prop_assert!(pair.mirror.clone().read(bytes, bytes, now, true).is_err());
            let heard = pair.mirror.notification(bytes, now);
            prop_assert!(heard.learned.is_empty());
        }
        prop_assert_eq!(pair.mirror.guests().cloned().collect::<Vec<_>>(), known);
    }
}

/// Reads the box as it is.
fn read(bench: &mut Bench, mirror: &mut Mirror) -> Vec<News> {
    let active = bench.get("/v1/sessions").body.unwrap();
    let history = bench.get("/v1/sessions/history").body.unwrap();
    let heard = mirror.read(&active, &history, bench.now.utc, false);
    let learned = heard.unwrap().learned;
    learned.into_iter().map(|learned| learned.what).collect()
}

/// Simulated seed 20: two guests who came with a page told as four events, and hid that two others were paged again.
#[test]
fn a_step_of_two_events_hides_no_other_step() {
    let mut pair = Pair::new();
    for number in [1, 2] {
        pair.apply(&Op::Create(number, true));
    }
    let mut mirror = Mirror::new();
    read(&mut pair.bench, &mut mirror);
    for number in [1, 2] {
        pair.apply(&Op::Act(number, "page"));
        pair.apply(&Op::Create(number + 2, true));
    }
    let news = read(&mut pair.bench, &mut mirror);
    let told = News::Missed {
        changes: Some(2),
        since: Some(pair.bench.now.utc),
        until: pair.bench.now.utc,
        reason: "changes were made while nobody watched, of which the last state alone is known",
    };
    assert!(news.contains(&told), "{news:?}");
}

/// Simulated seed 413: a box that knows nothing took the place of one, and counted past it before anybody asked.
#[test]
fn another_box_is_recognized_by_its_sessions() {
    let mut pair = Pair::new();
    pair.apply(&Op::Create(1, false));
    pair.apply(&Op::ClearAll);
    let mut mirror = Mirror::new();
    read(&mut pair.bench, &mut mirror);
    pair.bench.pager = Transmitter::new(Config::default(), pair.bench.now);
    for number in 1..=3 {
        pair.apply(&Op::Create(number, false));
    }
    let is_anew = |news: &Vec<News>| {
        let is_it = |news: &News| matches!(news, News::Missed { changes: None, .. });
        news.iter().any(is_it)
    };
    let news = read(&mut pair.bench, &mut mirror);
    assert!(is_anew(&news), "{news:?}");
    let news = read(&mut pair.bench, &mut mirror);
    assert!(news.is_empty(), "it is told once: {news:?}");
}

/// Simulated seed 52: what was read of an empty box was not stored, so that what it did next was nobody's to miss.
#[test]
fn what_was_read_of_an_empty_box_is_to_be_stored() {
    let (mut pair, mut mirror) = (Pair::new(), Mirror::new());
    assert!(read(&mut pair.bench, &mut mirror).is_empty());
    assert!(mirror.take_changes().is_ahead);
    assert!(!mirror.take_changes().is_ahead, "it was taken");
}
