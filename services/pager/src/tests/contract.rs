//! The examples of the contract and its seeds, byte for byte.

use time::macros::datetime;
use uuid::uuid;

use super::{Bench, code, text};
use crate::{Config, Method, Statistics, Transmitter};

const ENVELOPE: &str = r#""deviceName":"T7470","firmwareVersion":"8.4.100.43""#;

/// Stores what the bench has, lets a test edit it, and switches on again.
fn restart(bench: &mut Bench, edit: impl FnOnce(&mut crate::Snapshot)) {
    let mut snapshot = bench.pager.snapshot();
    edit(&mut snapshot);
    bench.pager = Transmitter::restore(snapshot, Config::default(), bench.now).unwrap();
}

#[test]
fn one_active_session_as_in_seed_000() {
    let mut bench = Bench::new();
    bench.uuid = uuid!("b4366f13-193f-4c93-bd6b-8f4d05a6ce37");
    bench.at("2018-03-15T08:44:39");
    bench.post("/v1/sessions", r#"{"number":11}"#);
    bench.wait(300).put(11, r#"{"action":"page"}"#);
    bench.at("2018-03-15T11:50:27");
    restart(&mut bench, |snapshot| {
        snapshot.sessions[0].id = 18;
        (snapshot.meta.next_id, snapshot.meta.sequence) = (19, 116);
    });

    let reply = bench.get("/v1/sessions?number=11");
    assert_eq!((code(&reply).as_str(), reply.etag), ("2.05", None));
    let expected = format!(
        r#"{{"responseTypes":["sessions"],"globalSessionSequence":116,"timestamp":"2018-03-15T11:50:27",{ENVELOPE},"sessions":[{{"id":18,"sessionSequence":65535,"uuid":"b4366f13-193f-4c93-bd6b-8f4d05a6ce37","number":11,"partySize":1,"goalInSeconds":300,"created":"2018-03-15T08:44:39","started":"2018-03-15T08:44:39","notified":"2018-03-15T08:49:39","label":null,"state":"paged"}}]}}"#
    );
    assert_eq!(text(&reply), expected);
}

#[test]
fn history_as_in_seed_001() {
    let mut bench = Bench::new();
    for (number, uuid, created) in [
        (4, uuid!("15e958b7-bc83-4dd1-b4ae-d2bc27f39b3e"), "08:44:13"),
        (
            10,
            uuid!("da4b66f6-af73-45ae-8ad0-c155a306832b"),
            "08:44:35",
        ),
    ] {
        bench.uuid = uuid;
        bench.at(&format!("2018-03-15T{created}"));
        bench.post("/v1/sessions", &format!(r#"{{"number":{number}}}"#));
        bench.wait(300).put(number, r#"{"action":"page"}"#);
    }
    bench.at("2018-03-15T11:45:18");
    bench.put(4, r#"{"action":"clear"}"#);
    bench.at("2018-03-15T11:45:22");
    assert_eq!(code(&bench.delete("/v1/sessions?number=10")), "2.02");
    bench.at("2018-03-15T11:45:29");
    restart(&mut bench, |snapshot| {
        (snapshot.sessions[0].id, snapshot.sessions[1].id) = (11, 17);
        (snapshot.meta.next_id, snapshot.meta.sequence) = (18, 116);
    });

    // Besides the seed's keys, `partySize` and `state` as its table has them (L25).
    let expected = format!(
        r#"{{"responseTypes":["session_history"],"globalSessionSequence":116,"timestamp":"2018-03-15T11:45:29",{ENVELOPE},"session_history":[{{"id":11,"uuid":"15e958b7-bc83-4dd1-b4ae-d2bc27f39b3e","number":4,"partySize":1,"goalInSeconds":300,"created":"2018-03-15T08:44:13","started":"2018-03-15T08:44:13","notified":"2018-03-15T08:49:13","cleared":"2018-03-15T11:45:18","label":null,"state":"cleared","clearType":"STOP"}},{{"id":17,"uuid":"da4b66f6-af73-45ae-8ad0-c155a306832b","number":10,"partySize":1,"goalInSeconds":300,"created":"2018-03-15T08:44:35","started":"2018-03-15T08:44:35","notified":"2018-03-15T08:49:35","cleared":"2018-03-15T11:45:22","label":null,"state":"cleared","clearType":"REMOVED"}}]}}"#
    );
    assert_eq!(text(&bench.get("/v1/sessions/history")), expected);
}

#[test]
fn a_notification_as_on_the_notify_page() {
    let mut bench = Bench::new();
    bench.at("2018-03-15T15:42:37");
    restart(&mut bench, |snapshot| {
        (snapshot.meta.next_id, snapshot.meta.sequence) = (49, 120);
        snapshot.meta.statistics = Statistics {
            created: 41,
            served: 41,
            late: 0,
            waited_millis: 41 * 280_000,
        };
    });
    let reply = bench.post("/v1/sessions", r#"{"number":83}"#);
    let notification = bench
        .pager
        .notification(&reply.effects.changes[0], bench.now);

    // The example lacks the envelope's last three fields; they are always sent (L10).
    let expected = format!(
        r#"{{"responseTypes":["sessions","statistics"],"globalSessionSequence":121,"timestamp":"2018-03-15T15:42:37",{ENVELOPE},"statistics":{{"guestsServed":41,"percentLate":0,"percentOnTime":100,"averageTimeServed":280,"numSessions":42}},"sessions":[{{"id":49,"sessionSequence":121,"uuid":"00000000-0000-0000-0000-000000000000","number":83,"partySize":1,"goalInSeconds":300,"created":"2018-03-15T15:42:37","started":"2018-03-15T15:42:37","label":null,"state":"started"}}]}}"#
    );
    assert_eq!(String::from_utf8(notification).unwrap(), expected);
    assert_eq!(text(&reply), expected);
    assert_eq!(text(&bench.get("/v1/sessions")), expected);
    let first = bench.get("/v1/notify?action=get_sessions");
    assert_eq!(text(&first), expected);
}

#[test]
fn settings_as_on_their_page() {
    let mut bench = Bench::new();
    bench.now.utc = datetime!(2026-02-03 04:05:06.7 UTC);
    let body = r#"{ "datetime": "2018-03-15T12:35:33", "systemId": 5 }"#;
    let reply = bench.post("/v1/settings", body);
    assert_eq!(code(&reply), "2.04");
    assert!(reply.effects.is_settings_changed && reply.effects.is_meta_changed);
    let expected = format!(
        r#"{{"responseTypes":["settings"],"globalSessionSequence":0,"timestamp":"2018-03-15T12:35:33",{ENVELOPE},"settings":{{"datetime":"2018-03-15T12:35:33","systemId":5,"defaultTargetGoal":300,"statisticsClearMark":24}}}}"#
    );
    assert_eq!(text(&reply), expected);
    assert_eq!(text(&bench.get("/v1/settings")), expected);
    assert_eq!(
        bench.pager.settings_notification(bench.now),
        expected.into_bytes()
    );
}

#[test]
fn a_ping_is_the_envelope_alone() {
    let mut bench = Bench::new();
    let expected = format!(
        r#"{{"responseTypes":["ping"],"globalSessionSequence":0,"timestamp":"2018-03-15T08:00:00",{ENVELOPE}}}"#
    );
    assert_eq!(text(&bench.get("/v1/notify")), expected);
    assert_eq!(bench.pager.ping(bench.now), expected.into_bytes());
}

#[test]
fn the_example_bodies_create_and_page() {
    let mut bench = Bench::new();
    let body = r#"{ "number": 66, "goal": 60, "label": "Sarah", "partySize": 4 }"#;
    let reply = bench.post("/v1/sessions", body);
    assert_eq!(code(&reply), "2.01");
    let session = &reply.effects.changes[0].session;
    assert_eq!((session.party_size, session.goal_seconds), (4, 60));
    assert_eq!(session.label.as_deref(), Some("Sarah"));

    let reply = bench.put(66, r#"{ "action": "page", "pageMode": "Flash30Sec" }"#);
    assert_eq!(code(&reply), "2.04");
    assert_eq!(reply.effects.pages[0].number, 66);
    assert_eq!(reply.effects.pages[0].mode, "Flash30Sec");
}

#[test]
fn a_clear_reaches_observers_with_its_type() {
    let mut bench = Bench::new();
    bench.post("/v1/sessions", r#"{"number":1}"#);
    bench.post("/v1/sessions", r#"{"number":2}"#);
    let reply = bench.send(Method::Delete, "/v1/sessions?number=2", "");
    let notification = bench
        .pager
        .notification(&reply.effects.changes[0], bench.now);
    let expected = r#""cleared":"2018-03-15T08:00:00","label":null,"state":"cleared","clearType":"REMOVED"}]}"#;
    assert!(String::from_utf8(notification).unwrap().ends_with(expected));
}
