//! Random histories under random clocks: what has to hold whatever happens, against a model that
//! keeps every event and a store that writes only what each call says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{Bench, utc};
use crate::{
    Change, Config, Effects, Meta, Method, Request, Session, Snapshot, Summary, Transmitter, What,
    next_sequence,
};

const METHODS: [Method; 5] = [
    Method::Get,
    Method::Post,
    Method::Put,
    Method::Delete,
    Method::Other,
];

#[derive(Debug, Clone)]
enum Op {
    Send(Method, String, String),
    Wait(u64, u32),
    WallClock(i64),
    Tick,
    Rollback,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let number = 1..6_u16;
    let goal = prop_oneof![Just(0), 1..90_u32];
    let action = prop_oneof![
        Just(""),
        Just(r#","action":"page""#),
        Just(r#","action":"page""#),
        Just(r#","action":"clear""#),
        Just(r#","action":"remove""#),
    ];
    let body = (number.clone(), goal, action)
        .prop_map(|(n, goal, action)| format!(r#"{{"number":{n},"goal":{goal}{action}}}"#));
    let sessions = || "/v1/sessions".to_owned();
    let one = |n| format!("/v1/sessions?number={n}");
    let put = (number.clone(), body.clone())
        .prop_map(move |(n, body)| Op::Send(Method::Put, one(n), body));
    let delete = number.prop_map(move |n| Op::Send(Method::Delete, one(n), String::new()));
    let whole = prop_oneof![
        Just("/v1/sessions"),
        Just("/v1/sessions/history"),
        Just("/v1/sessions/statistics"),
    ];
    let settings = prop_oneof![
        (0..25).prop_map(|hour| format!(r#"{{"statisticsClearMark":{hour}}}"#)),
        (0..24).prop_map(|hour| format!(r#"{{"datetime":"2018-03-15T{hour:02}:30:00"}}"#)),
        (0..90).prop_map(|goal| format!(r#"{{"defaultTargetGoal":{goal},"systemId":1}}"#)),
    ];
    prop_oneof![
        8 => body.prop_map(move |body| Op::Send(Method::Post, sessions(), body)),
        8 => put,
        2 => delete,
        1 => whole.prop_map(|path| Op::Send(Method::Delete, path.to_owned(), String::new())),
        1 => settings.prop_map(|body| Op::Send(Method::Post, "/v1/settings".to_owned(), body)),
        6 => (0..100_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Op::Wait(s, n)),
        1 => (0..200_000_u64).prop_map(|s| Op::Wait(s, 0)),
        1 => (-200_000..200_000_i64).prop_map(Op::WallClock),
        2 => Just(Op::Tick),
        2 => Just(Op::Rollback),
        1 => Just(Op::Restart),
    ]
}

/// What a caller has on disk, written by [`Effects`] alone.
#[derive(Clone)]
struct Store {
    meta: Meta,
    sessions: BTreeMap<u64, Session>,
}

impl Store {
    fn write(&mut self, pager: &Transmitter, effects: &Effects) {
        if effects.is_history_cleared {
            self.sessions.retain(|_, session| session.is_active());
        }
        for change in &effects.changes {
            self.sessions
                .insert(change.session.id, change.session.clone());
        }
        for id in &effects.dropped {
            self.sessions.remove(id).expect("a dropped row is there");
        }
        if effects.is_meta_changed {
            self.meta = pager.meta();
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            meta: self.meta,
            sessions: self.sessions.values().cloned().collect(),
        }
    }
}

/// Every event since the statistics were last cleared.
#[derive(Clone, Default)]
struct Model {
    created: u64,
    waits: HashMap<u64, (Duration, u32)>,
    paged: HashSet<u64>,
    last_id: u64,
}

impl Model {
    fn take(&mut self, change: &Change) {
        let session = &change.session;
        if change.what == What::Created {
            assert!(session.id > self.last_id, "ids rise");
            self.last_id = session.id;
            self.created += 1;
        }
        if let (Some(waited), true) = (session.waited(), self.paged.insert(session.id)) {
            let goal = session.paged_goal_seconds.unwrap();
            assert_eq!(goal, session.goal_seconds);
            self.waits.insert(session.id, (waited, goal));
        } else if session.notified.is_none() {
            self.paged.remove(&session.id);
        }
        assert_eq!(change.statistics, self.summary());
    }

    fn clear(&mut self) {
        self.created = 0;
        self.waits.clear();
    }

    fn summary(&self) -> Summary {
        let served = self.waits.len() as f64;
        let is_late = |(waited, goal): &&(Duration, u32)| waited.as_secs_f64() > f64::from(*goal);
        let late = self.waits.values().filter(is_late).count() as f64;
        let sum: u128 = self.waits.values().map(|(w, _)| w.as_millis()).sum();
        let of = |value: f64| (value + 0.5).floor() as u64;
        let on_time = if served == 0.0 {
            0
        } else {
            of(100.0 * (served - late) / served)
        };
        Summary {
            guests_served: served as u64,
            percent_late: if served == 0.0 { 0 } else { 100 - on_time },
            percent_on_time: on_time,
            average_time_served: if served == 0.0 {
                0
            } else {
                of(sum as f64 / 1e3 / served)
            },
            num_sessions: self.created,
        }
    }
}

/// Follows one call: the steps, the statistics and the rows have to agree.
fn follow(bench: &Bench, before: &Meta, effects: &Effects, is_clear: bool, model: &mut Model) {
    let after = bench.pager.meta();
    let mut sequence = before.sequence;
    if is_clear {
        model.clear();
    }
    for change in &effects.changes {
        sequence = next_sequence(sequence);
        assert_eq!(
            (change.sequence, change.session.sequence),
            (sequence, sequence)
        );
        let session = &change.session;
        assert_eq!(session.notified.is_some(), session.is_late().is_some());
        assert_eq!(session.is_active(), session.clear_type.is_none());
        model.take(change);
    }
    assert_eq!(after.sequence, sequence);
    assert_eq!(bench.statistics(), model.summary());
    if !effects.changes.is_empty() {
        assert_ne!(after.version, before.version);
    }
}

fn check_tables(bench: &Bench) {
    let pager = &bench.pager;
    let active: Vec<_> = pager.active().map(|s| s.id).collect();
    let history: Vec<_> = pager.history().map(|s| s.id).collect();
    assert!(active.is_sorted() && history.is_sorted());
    assert!(
        active.iter().all(|id| !history.contains(id)),
        "never in both"
    );
    assert!(pager.active().all(Session::is_active));
    assert!(!pager.history().any(Session::is_active));
    assert!(history.len() <= 4);
    let numbers: HashSet<_> = pager.active().map(|s| s.number).collect();
    assert_eq!(numbers.len(), active.len(), "a pager has one session");
}

/// A snapshot without what a restart loses.
fn lasting(mut snapshot: Snapshot, meta: Meta) -> Snapshot {
    (snapshot.meta.clock, snapshot.meta.version) = (meta.clock, meta.version);
    for session in &mut snapshot.sessions {
        session.sequence = 0;
    }
    snapshot.sessions.sort_by_key(|session| session.id);
    snapshot
}

fn run(ops: Vec<Op>, auto_page: bool) {
    let config = Config {
        max_history: 4,
        max_active: 4,
        auto_page,
        ..Config::default()
    };
    let mut bench = Bench::with(config.clone());
    let mut model = Model::default();
    let mut store = Store {
        meta: bench.pager.meta(),
        sessions: BTreeMap::new(),
    };
    // What a rollback returns to.
    let mut past = (bench.pager.snapshot(), model.clone(), store.clone());
    for op in ops {
        let before = (bench.pager.snapshot(), model.clone(), store.clone());
        let device = bench.pager.device_time(bench.now);
        let is_due = bench.pager.meta().next_clear.is_some_and(|at| at <= device);
        let (effects, is_clear) = match op {
            Op::Send(method, address, body) => {
                let reply = bench.send(method, &address, &body);
                let is_clear = is_due || address.ends_with("statistics");
                assert!(reply.code.is_success() || reply.effects.changes.is_empty());
                (reply.effects, is_clear)
            }
            Op::Tick => (bench.tick(), is_due),
            Op::Wait(seconds, nanos) => {
                let time = Duration::new(seconds, nanos);
                bench.now.utc += time;
                bench.now.monotonic += time;
                continue;
            }
            Op::WallClock(seconds) => {
                bench.now.utc += time::Duration::seconds(seconds);
                continue;
            }
            Op::Rollback => {
                bench.pager.rollback();
                assert_eq!(bench.pager.snapshot(), past.0);
                (model, store) = (past.1.clone(), past.2.clone());
                continue;
            }
            Op::Restart => {
                let meta = bench.pager.meta();
                let expected = lasting(bench.pager.snapshot(), meta);
                assert_eq!(lasting(store.snapshot(), meta), expected);
                bench.pager =
                    Transmitter::restore(store.snapshot(), config.clone(), bench.now).unwrap();
                assert_eq!(lasting(bench.pager.snapshot(), meta), expected);
                past = (bench.pager.snapshot(), model.clone(), store.clone());
                continue;
            }
        };
        follow(&bench, &before.0.meta, &effects, is_clear, &mut model);
        store.write(&bench.pager, &effects);
        check_tables(&bench);
        past = before;
    }
}

proptest! {
    #[test]
    fn histories_hold_together(ops in prop::collection::vec(op(), 1..120), auto in any::<bool>()) {
        run(ops, auto);
    }

    #[test]
    fn no_request_panics(
        method in 0..METHODS.len(),
        path in prop::collection::vec(prop_oneof![Just("v1".to_owned()), Just("sessions".to_owned()), any::<String>()], 0..4),
        query in prop::collection::vec(prop_oneof![any::<String>(), "number=.*"], 0..3),
        etags in prop::collection::vec(any::<Vec<u8>>(), 0..3),
        content_format in any::<Option<u16>>(),
        payload in any::<Vec<u8>>(),
    ) {
        let mut bench = Bench::new();
        bench.post("/v1/sessions", r#"{"number":1}"#);
        let request = Request {
            method: METHODS[method],
            path: &path,
            query: &query,
            content_format,
            etags: &etags,
            payload: &payload,
        };
        bench.pager.handle(request, bench.now, uuid::Uuid::nil);
    }

    #[test]
    fn no_body_panics(
        resource in prop_oneof![Just("/v1/sessions"), Just("/v1/settings"), Just("/v1/page"), Just("/v1/sessions?number=1")],
        is_put in any::<bool>(),
        key in prop_oneof![Just("goal"), Just("label"), Just("action"), Just("datetime"), Just("statisticsClearMark"), Just("number")],
        value in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), any::<f64>().prop_map(|n| n.to_string()), any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()), "[0-9TZ:-]{0,20}".prop_map(|s| format!("{s:?}")), ".*"],
        year in 0..9_999,
    ) {
        let mut bench = Bench::new();
        bench.at(&format!("{year:04}-12-31T23:59:59"));
        bench.post("/v1/settings", r#"{"statisticsClearMark":0,"datetime":"9999-12-31T23:59:58"}"#);
        bench.post("/v1/sessions", r#"{"number":1}"#);
        let method = if is_put { Method::Put } else { Method::Post };
        bench.send(method, resource, &format!(r#"{{"number":1,"{key}":{value}}}"#));
        bench.wait(100).tick();
        bench.pager.next_tick(bench.now);
        bench.get("/v1/sessions");
        assert!(bench.now.utc > utc("0000-01-01T00:00:00"));
    }
}
