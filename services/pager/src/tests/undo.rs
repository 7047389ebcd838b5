//! What could not be stored is as if it had not been asked.

use super::{Bench, code};
use crate::{Config, Method, Transmitter};

fn full() -> Bench {
    let mut bench = Bench::with(Config {
        max_history: 2,
        ..Config::default()
    });
    for number in 1..=5 {
        bench.post("/v1/sessions", &format!(r#"{{"number":{number}}}"#));
    }
    bench.put(1, r#"{"action":"clear"}"#);
    bench.put(2, r#"{"action":"clear"}"#);
    bench
}

#[test]
fn every_kind_of_change_is_undone() {
    for (method, address, body) in [
        (Method::Post, "/v1/sessions", r#"{"number":9}"#),
        (
            Method::Post,
            "/v1/sessions",
            r#"{"number":9,"action":"remove"}"#,
        ),
        (
            Method::Post,
            "/v1/sessions",
            r#"{"number":3,"label":"x","action":"page"}"#,
        ),
        (
            Method::Put,
            "/v1/sessions?number=3",
            r#"{"action":"clear"}"#,
        ),
        (Method::Delete, "/v1/sessions?number=3", ""),
        (Method::Delete, "/v1/sessions", ""),
        (Method::Delete, "/v1/sessions/history", ""),
        (Method::Delete, "/v1/sessions/statistics", ""),
        (
            Method::Post,
            "/v1/settings",
            r#"{"statisticsClearMark":3,"systemId":8}"#,
        ),
    ] {
        let mut bench = full();
        let (before, etag) = (bench.pager.snapshot(), bench.pager.etag());
        let first = bench.wait(1).send(method, address, body);
        let after = bench.pager.snapshot();
        assert_ne!(after, before);
        bench.pager.rollback();
        assert_eq!(bench.pager.snapshot(), before, "{address} {body}");
        assert_eq!(bench.pager.etag(), etag);
        bench.pager.rollback();
        assert_eq!(bench.pager.snapshot(), before);
        // Asked again it does the same.
        assert_eq!(bench.send(method, address, body), first);
        assert_eq!(bench.pager.snapshot(), after);
    }
}

#[test]
fn only_the_last_call_is_undone() {
    let mut bench = full();
    bench.put(3, r#"{"action":"clear"}"#);
    bench.put(4, r#"{"action":"clear"}"#);
    bench.pager.rollback();
    assert_eq!(code(&bench.get("/v1/sessions?number=3")), "4.04");
    assert_eq!(code(&bench.get("/v1/sessions?number=4")), "2.05");
}

#[test]
fn a_snapshot_survives_json() {
    let mut bench = full();
    bench.put(3, r#"{"action":"page"}"#);
    bench.post(
        "/v1/settings",
        r#"{"statisticsClearMark":3,"datetime":"2020-02-29T23:00:00"}"#,
    );
    let snapshot = bench.pager.snapshot();
    let stored = serde_json::to_vec(&snapshot).unwrap();
    let read: crate::Snapshot = serde_json::from_slice(&stored).unwrap();
    assert_eq!(read, snapshot);
    assert!(Transmitter::restore(read, Config::default(), bench.now).is_ok());
}
