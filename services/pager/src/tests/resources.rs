//! Every resource, method and refusal.

use super::{Bench, code, json, text};
use crate::{ClearType, Code, Config, Effects, Method, State, What};

/// Two sessions, pagers 1 and 2, the second paged.
fn busy() -> Bench {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1}"#);
    bench.post("/v1/sessions", r#"{"number":2}"#);
    bench.wait(10).put(2, r#"{"action":"page"}"#);
    bench
}

#[test]
fn a_second_post_updates_the_session() {
    let mut bench = busy();
    let reply = bench.post("/v1/sessions", r#"{"number":1,"label":"A","goal":5}"#);
    assert_eq!(code(&reply), "2.04");
    let change = &reply.effects.changes[0];
    assert_eq!(
        (change.what, change.sequence, change.session.id),
        (What::Updated, 4, 1)
    );
    assert_eq!(change.statistics.num_sessions, 2);
    assert_eq!(bench.uuids, 2);
    let reply = bench.post("/v1/sessions", r#"{"number":1,"label":null}"#);
    assert_eq!(reply.effects.changes[0].session.label, None);
}

#[test]
fn an_update_without_difference_steps_nothing() {
    let mut bench = busy();
    let etag = bench.pager.etag();
    for body in [
        "",
        "{}",
        r#"{"goal":300,"partySize":1,"label":""}"#,
        r#"{"number":9}"#,
    ] {
        let reply = bench.put(1, body);
        assert_eq!(
            (code(&reply).as_str(), reply.effects),
            ("2.04", Effects::default())
        );
    }
    assert_eq!(bench.pager.etag(), etag);
    assert_eq!(bench.pager.meta().sequence, 3);
}

#[test]
fn create_and_page_in_one_request_is_one_step() {
    let mut bench = Bench::new();
    let body =
        r#"{"number":7,"goal":0,"action":"page","message":"Hi","systemId":9,"pageMode":"Vibe1"}"#;
    let Effects { changes, pages, .. } = bench.post("/v1/sessions", body).effects;
    assert_eq!((changes.len(), changes[0].what), (1, What::Created));
    assert_eq!(
        (changes[0].sequence, changes[0].session.state),
        (1, State::Paged)
    );
    assert_eq!(pages[0].message.as_deref(), Some("Hi"));
    assert_eq!((pages[0].system_id, pages[0].mode.as_str()), (9, "Vibe1"));
    assert_eq!(changes[0].statistics.percent_on_time, 100);
}

#[test]
fn paging_twice_transmits_again_and_keeps_the_first_time() {
    let mut bench = busy();
    let first = bench.pager.active().last().unwrap().clone();
    let reply = bench.wait(60).put(2, r#"{"action":"page"}"#);
    let change = &reply.effects.changes[0];
    assert_eq!((change.what, change.sequence), (What::Paged, 4));
    assert_eq!(change.session.notified, first.notified);
    assert_eq!(reply.effects.pages.len(), 1);
    assert_eq!(change.statistics.guests_served, 1);
}

#[test]
fn clear_all_steps_once_per_session() {
    let mut bench = busy();
    let reply = bench.delete("/v1/sessions");
    assert_eq!((code(&reply).as_str(), &reply.body), ("2.02", &None));
    let steps = reply.effects.changes.iter();
    let steps: Vec<_> = steps.map(|c| (c.session.id, c.sequence, c.what)).collect();
    assert_eq!(steps, [(1, 4, What::Cleared), (2, 5, What::Cleared)]);
    assert!(
        bench
            .pager
            .history()
            .all(|s| s.clear_type == Some(ClearType::Stop))
    );
    let reply = bench.delete("/v1/sessions");
    assert_eq!(
        (code(&reply).as_str(), reply.effects),
        ("2.02", Effects::default())
    );
    // The pager is free, the id is not.
    assert_eq!(code(&bench.post("/v1/sessions", r#"{"number":1}"#)), "2.01");
    assert_eq!(bench.pager.active().next().unwrap().id, 3);
}

#[test]
fn a_known_etag_is_answered_without_body() {
    let mut bench = busy();
    let reply = bench.get("/v1/sessions");
    let known = reply.etag.unwrap().to_vec();
    let old = vec![0; 3];
    let get = |bench: &mut Bench| {
        let etags = [old.clone(), known.clone()];
        bench.send_as(Method::Get, "/v1/sessions", "", None, &etags)
    };
    let valid = get(bench.wait(100));
    assert_eq!((valid.code, &valid.body), (Code::VALID, &None));
    assert_eq!(valid.etag, reply.etag);
    bench.post("/v1/settings", r#"{"systemId":8}"#);
    bench.delete("/v1/sessions/history");
    bench.post("/v1/page", r#"{"number":1}"#);
    assert_eq!(get(&mut bench).code, Code::VALID);
    bench.delete("/v1/sessions/statistics");
    let changed = get(&mut bench);
    assert_eq!(changed.code, Code::CONTENT);
    assert_ne!(changed.etag, reply.etag);
}

#[test]
fn etags_are_text_that_differs_by_start_and_by_change() {
    let mut tags = std::collections::BTreeSet::new();
    for etag_epoch in [0, 1, 0x000F_FFFF] {
        let mut bench = Bench::with(Config {
            etag_epoch,
            ..Config::default()
        });
        for number in 1..=100 {
            let tag = bench.pager.etag();
            assert!(tag.iter().all(u8::is_ascii_graphic), "{tag:?}");
            assert!(tags.insert(tag), "{tag:?} comes again");
            bench.post("/v1/sessions", &format!(r#"{{"number":{number}}}"#));
        }
    }
}

#[test]
fn history_is_bounded_and_dropped() {
    let mut bench = Bench::with(Config {
        max_history: 2,
        ..Config::default()
    });
    for number in 1..=4 {
        bench.post("/v1/sessions", &format!(r#"{{"number":{number}}}"#));
    }
    for number in [4, 3] {
        bench.wait(1).put(number, r#"{"action":"clear"}"#);
    }
    let reply = bench.wait(1).put(1, r#"{"action":"remove"}"#);
    assert_eq!(reply.effects.dropped, [4]);
    let ids: Vec<u64> = bench.pager.history().map(|s| s.id).collect();
    assert_eq!(ids, [1, 3]);
    let reply = bench.delete("/v1/sessions/history");
    assert_eq!((code(&reply).as_str(), &reply.body), ("2.02", &None));
    assert!(reply.effects.is_history_cleared && !reply.effects.is_meta_changed);
    let history = json(&bench.get("/v1/sessions/history"));
    assert_eq!(history["session_history"], serde_json::json!([]));
    assert!(
        !bench
            .delete("/v1/sessions/history")
            .effects
            .is_history_cleared
    );
}

#[test]
fn statistics_are_read_and_cleared_without_a_step() {
    let mut bench = busy();
    let body = json(&bench.get("/v1/sessions/statistics"));
    assert_eq!(body["responseTypes"], serde_json::json!(["statistics"]));
    assert_eq!(body["statistics"]["averageTimeServed"], 10);
    let reply = bench.delete("/v1/sessions/statistics");
    assert_eq!((code(&reply).as_str(), &reply.body), ("2.02", &None));
    assert!(reply.effects.is_meta_changed && reply.effects.changes.is_empty());
    assert_eq!(bench.statistics(), crate::Summary::default());
    assert_eq!(bench.pager.meta().sequence, 3);
}

#[test]
fn a_standalone_page_is_sent_and_changes_nothing() {
    let mut bench = busy();
    bench.post("/v1/settings", r#"{"systemId":5}"#);
    let reply = bench.post("/v1/page", r#"{"number":40,"message":"Food"}"#);
    assert_eq!((code(&reply).as_str(), &reply.body), ("2.04", &None));
    let page = &reply.effects.pages[0];
    assert_eq!(
        (page.number, page.system_id, page.mode.as_str()),
        (40, 5, "Flash30Sec")
    );
    assert!(reply.effects.changes.is_empty() && !reply.effects.is_meta_changed);
    assert_eq!(
        code(&bench.post("/v1/page", r#"{"number":40,"pageMode":"X"}"#)),
        "4.00"
    );
}

#[test]
fn settings_hold_all_or_nothing() {
    let mut bench = Bench::new();
    for bad in [
        "",
        r#"{"systemId":65536}"#,
        r#"{"systemId":6,"defaultTargetGoal":86401}"#,
        r#"{"systemId":6,"statisticsClearMark":25}"#,
        r#"{"systemId":6,"datetime":"2018-03-15"}"#,
        r#"{"systemId":6,"datetime":5}"#,
    ] {
        let reply = bench.post("/v1/settings", bad);
        assert_eq!(
            (code(&reply).as_str(), reply.effects),
            ("4.00", Effects::default()),
            "{bad}"
        );
    }
    assert_eq!(*bench.pager.settings(), crate::Settings::default());
    let reply = bench.post("/v1/settings", "{}");
    assert_eq!(
        (code(&reply).as_str(), reply.effects),
        ("2.04", Effects::default())
    );
    bench.post("/v1/settings", r#"{"defaultTargetGoal":86400}"#);
    let reply = bench.post("/v1/sessions", r#"{"number":1}"#);
    assert_eq!(reply.effects.changes[0].session.goal_seconds, 86_400);
}

#[test]
fn a_full_transmitter_takes_no_more() {
    let mut bench = Bench::with(Config {
        max_active: 1,
        ..Config::default()
    });
    bench.post("/v1/sessions", r#"{"number":1}"#);
    let reply = bench.post("/v1/sessions", r#"{"number":2}"#);
    assert_eq!(
        (code(&reply).as_str(), &reply.effects),
        ("5.03", &Effects::default())
    );
    assert!(text(&reply).starts_with(r#"{"error":"All 1 sessions"#));
    assert_eq!(code(&bench.post("/v1/sessions", r#"{"number":1}"#)), "2.04");
}

#[test]
fn refusals_have_a_code_a_sentence_and_no_effect() {
    use Method::{Delete, Get, Other, Post, Put};
    let mut bench = busy();
    let before = bench.pager.snapshot();
    for (method, address, body, expected) in [
        (Get, "/", "", "4.04"),
        (Get, "/v1", "", "4.04"),
        (Get, "/v1/sessions/", "", "4.04"),
        (Get, "/v1/sessions/9", "", "4.04"),
        (Get, "/V1/sessions", "", "4.04"),
        (Other, "/v1/sessions", "", "4.05"),
        (Post, "/v1/sessions/history", "{}", "4.05"),
        (Put, "/v1/sessions/statistics", "{}", "4.05"),
        (Put, "/v1/settings", "{}", "4.05"),
        (Get, "/v1/page", "", "4.05"),
        (Post, "/v1/notify", "", "4.05"),
        (Get, "/v1/sessions?number=9", "", "4.04"),
        (Put, "/v1/sessions?number=9", "{}", "4.04"),
        (Delete, "/v1/sessions?number=9", "", "4.04"),
        (Put, "/v1/sessions", "{}", "4.00"),
        (Put, "/v1/sessions?number=1", "[]", "4.00"),
        (
            Put,
            "/v1/sessions?number=1",
            r#"{"label":"x","action":"fly"}"#,
            "4.00",
        ),
        (Delete, "/v1/sessions?nmber=3", "", "4.00"),
        (Delete, "/v1/sessions?number=", "", "4.00"),
        (Delete, "/v1/sessions?number=abc", "", "4.00"),
        (Delete, "/v1/sessions?number=1&number=2", "", "4.00"),
        (Delete, "/v1/sessions?", "", "4.00"),
        (Delete, "/v1/sessions/history?number=1", "", "4.00"),
        (Delete, "/v1/sessions/statistics?x", "", "4.00"),
        (Get, "/v1/settings?x", "", "4.00"),
        (Post, "/v1/sessions", "{}", "4.00"),
        (Post, "/v1/sessions?number=1", r#"{"number":2}"#, "4.00"),
        (Post, "/v1/page", "{}", "4.00"),
        (Get, "/v1/notify?action=get", "", "4.00"),
        (
            Get,
            "/v1/notify?action=get_sessions&action=get_sessions",
            "",
            "4.00",
        ),
    ] {
        let reply = bench.send(method, address, body);
        assert_eq!(code(&reply), expected, "{method:?} {address} {body}");
        assert!(json(&reply)["error"].is_string());
        assert_eq!(reply.effects, Effects::default());
    }
    let reply = bench.send_as(Post, "/v1/sessions", r#"{"number":9}"#, Some(0), &[]);
    assert_eq!(code(&reply), "4.15");
    assert_eq!(bench.pager.snapshot(), before);
    let reply = bench.send_as(Post, "/v1/sessions", r#"{"number":9}"#, Some(50), &[]);
    assert_eq!(code(&reply), "2.01");
    assert_eq!(code(&bench.post("/v1/sessions?number=10", "{}")), "2.01");
}
