//! Time: lateness, clocks that are set, restarts, the daily clear and paging at the goal.

use std::time::Duration;

use super::Bench;
use crate::{Config, Effects, SnapshotError, State, Transmitter, UNKNOWN_SEQUENCE, What};

#[test]
fn a_clock_set_back_does_not_change_what_was_waited() {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1,"goal":60}"#);
    bench.wait(61).at("2001-01-01T00:00:00");
    bench.post("/v1/settings", r#"{"datetime":"1999-12-31T23:59:59"}"#);
    let reply = bench.put(1, r#"{"action":"page"}"#);
    let session = &reply.effects.changes[0].session;
    assert_eq!(
        session.notified.unwrap().device.to_string(),
        "1999-12-31T23:59:59"
    );
    assert_eq!(session.waited(), Some(Duration::from_secs(61)));
    assert_eq!(bench.statistics().percent_late, 100);
}

#[test]
fn lateness_stays_with_the_goal_of_the_first_page() {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1,"goal":60}"#);
    bench.wait(60).put(1, r#"{"action":"page"}"#);
    let reply = bench.put(1, r#"{"goal":5}"#);
    assert_eq!(reply.effects.changes[0].session.is_late(), Some(false));
    assert_eq!(bench.statistics().percent_on_time, 100);
    // A goal in the same request is in force for its page.
    bench.post("/v1/sessions", r#"{"number":2,"goal":60}"#);
    bench.wait(30).put(2, r#"{"goal":29,"action":"page"}"#);
    assert_eq!(bench.statistics().percent_late, 50);
}

#[test]
fn time_switched_off_counts_as_waited() {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1,"goal":60}"#);
    let snapshot = bench.wait(10).pager.snapshot();
    let etag = bench.pager.etag();
    bench.now.utc += Duration::from_secs(100);
    bench.now.monotonic = Duration::ZERO;
    bench.pager = Transmitter::restore(snapshot.clone(), Config::default(), bench.now).unwrap();
    assert_eq!(
        bench.pager.active().next().unwrap().sequence,
        UNKNOWN_SEQUENCE
    );
    // The list shows other sequences now, so the tag is another.
    assert_ne!(bench.pager.etag(), etag);
    let reply = bench.wait(5).put(1, r#"{"action":"page"}"#);
    let session = &reply.effects.changes[0].session;
    assert_eq!(session.waited(), Some(Duration::from_secs(115)));
    assert_eq!(session.sequence, 2);
    // A host clock behind the stored one adds nothing, and takes nothing away.
    bench.at("1990-01-01T00:00:00");
    bench.pager = Transmitter::restore(snapshot, Config::default(), bench.now).unwrap();
    let reply = bench.wait(7).put(1, r#"{"action":"page"}"#);
    assert_eq!(
        reply.effects.changes[0].session.waited(),
        Some(Duration::from_secs(7))
    );
}

#[test]
fn the_sequence_wraps_and_skips_the_reserved_value() {
    let mut bench = Bench::new();
    let mut snapshot = bench.pager.snapshot();
    snapshot.meta.sequence = 65_534;
    bench.pager = Transmitter::restore(snapshot, Config::default(), bench.now).unwrap();
    let reply = bench.post("/v1/sessions", r#"{"number":1}"#);
    assert_eq!(reply.effects.changes[0].session.sequence, 0);
}

#[test]
fn snapshots_that_cannot_be_are_refused() {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1}"#);
    bench.post("/v1/sessions", r#"{"number":2}"#);
    let good = bench.pager.snapshot();
    let check = |edit: &dyn Fn(&mut crate::Snapshot)| {
        let mut bad = good.clone();
        edit(&mut bad);
        Transmitter::restore(bad, Config::default(), bench.now).err()
    };
    assert_eq!(check(&|_| ()), None);
    assert_eq!(
        check(&|s| s.sessions[1].id = 1),
        Some(SnapshotError::DuplicateId(1))
    );
    assert_eq!(
        check(&|s| s.sessions[1].number = 1),
        Some(SnapshotError::DuplicateNumber(1))
    );
    assert_eq!(
        check(&|s| s.meta.next_id = 2),
        Some(SnapshotError::IdAhead(2))
    );
    assert_eq!(
        check(&|s| s.meta.sequence = 65_535),
        Some(SnapshotError::ReservedSequence)
    );
    let half = |s: &mut crate::Snapshot| s.sessions[0].state = State::Cleared;
    assert_eq!(check(&half), Some(SnapshotError::HalfCleared(1)));
}

/// A bench at 02:00 with the mark at 3 and one session counted.
fn marked() -> Bench {
    let mut bench = Bench::new();
    bench.at("2018-03-15T02:00:00");
    bench.post("/v1/settings", r#"{"statisticsClearMark":3}"#);
    bench.post("/v1/sessions", r#"{"number":1}"#);
    bench
}

fn cleared(bench: &mut Bench) -> bool {
    let effects = bench.tick();
    let is_cleared = bench.statistics().num_sessions == 0;
    assert!(effects.is_meta_changed || !is_cleared);
    bench.post("/v1/sessions", r#"{"number":2}"#);
    bench.put(2, r#"{"action":"clear"}"#);
    is_cleared
}

#[test]
fn statistics_are_cleared_when_the_hour_begins() {
    let mut bench = marked();
    let etag = bench.pager.etag();
    assert_eq!(
        bench.pager.next_tick(bench.now),
        Some(Duration::from_secs(3_600))
    );
    assert_eq!(bench.wait(3_599).tick(), Effects::default());
    bench.wait(1);
    assert_eq!(bench.pager.next_tick(bench.now), Some(Duration::ZERO));
    assert!(cleared(&mut bench));
    assert_ne!(bench.pager.etag(), etag);
    assert!(!cleared(bench.wait(1_800)));
    assert_eq!(
        bench.pager.next_tick(bench.now),
        Some(Duration::from_secs(3_600))
    );
    assert!(!cleared(bench.wait(84_599)));
    assert!(cleared(bench.wait(1)));
}

#[test]
fn a_late_tick_and_a_request_before_it_clear_too() {
    let mut bench = marked();
    assert!(cleared(bench.wait(3 * 86_400)));
    // It is 02:00 again, three days on.
    assert_eq!(
        bench.pager.next_tick(bench.now),
        Some(Duration::from_secs(3_600))
    );
    let reply = bench.wait(3_601).get("/v1/sessions/statistics");
    assert!(reply.effects.is_meta_changed);
    assert_eq!(bench.statistics().num_sessions, 0);
}

#[test]
fn a_clock_set_back_over_the_mark_does_not_clear_twice_a_day() {
    let mut bench = marked();
    assert!(cleared(bench.wait(3_900)));
    bench.post("/v1/settings", r#"{"datetime":"2018-03-15T02:55:00"}"#);
    assert!(!cleared(bench.wait(600)));
    assert!(cleared(bench.wait(86_400)));
    // Set back by a month: the next mark there is found again.
    bench.post("/v1/settings", r#"{"datetime":"2018-02-15T02:55:00"}"#);
    let next = bench.pager.meta().next_clear.unwrap();
    assert_eq!(next.to_string(), "2018-02-15T03:00:00");
    assert!(!cleared(&mut bench));
    assert!(cleared(bench.wait(300)));
    // Another hour is another mark; 24 is none.
    bench.post("/v1/settings", r#"{"statisticsClearMark":4}"#);
    assert!(cleared(bench.wait(3_600)));
    bench.post("/v1/settings", r#"{"statisticsClearMark":24}"#);
    assert!(!cleared(bench.wait(400_000)));
    assert_eq!(bench.pager.next_tick(bench.now), None);
}

#[test]
fn paging_at_the_goal_is_off() {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1,"goal":5}"#);
    assert_eq!(bench.pager.next_tick(bench.now), None);
    assert_eq!(bench.wait(60).tick(), Effects::default());
}

#[test]
fn paging_at_the_goal_pages_once_and_in_time() {
    let mut bench = Bench::with(Config {
        auto_page: true,
        ..Config::default()
    });
    bench.post("/v1/sessions", r#"{"number":1,"goal":5}"#);
    bench.post("/v1/sessions", r#"{"number":2,"goal":3600}"#);
    assert_eq!(
        bench.pager.next_tick(bench.now),
        Some(Duration::from_secs(5))
    );
    bench.wait(5).now.monotonic += Duration::from_millis(20);
    let Effects { changes, pages, .. } = bench.tick();
    assert_eq!((changes.len(), changes[0].what), (1, What::Paged));
    assert_eq!((pages.len(), pages[0].number), (1, 1));
    assert_eq!(changes[0].statistics.percent_on_time, 100);
    assert_eq!(bench.tick(), Effects::default());
    // One that was really missed is late.
    bench.wait(7_200).tick();
    assert_eq!(bench.statistics().percent_late, 50);
}
