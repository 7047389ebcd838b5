//! FluxMQ as a source, before a stand-in that answers as the proxy contract says that FluxMQ's source does.

use rollcall_model::ingest::{ConnectionSession, Presence};
use rollcall_relay::sources::Snapshot;
use rollcall_relay::sources::fluxmq::{Config, FluxMq};
use rollcall_tests::{Fault, FluxMq as StandIn, flux_session};
use serde_json::{Value, json};

/// The source, with more lines in its table.
fn source(standin: &StandIn, more: &str) -> FluxMq {
    let text = format!("name = \"broker\"\nurl = \"{}\"\n{more}", standin.url);
    let config: Config = toml::from_str(&text).expect("a table");
    config.check().expect("a good table");
    FluxMq::new(&config).expect("a source")
}

fn sessions(seen: &Snapshot) -> &[ConnectionSession] {
    assert_eq!(seen.services.len(), 1);
    &seen.services[0].connections
}

fn ids(seen: &Snapshot) -> Vec<&str> {
    sessions(seen)
        .iter()
        .map(|held| held.source_id.as_str())
        .collect()
}

fn filters(seen: &Snapshot, id: &str) -> Option<Vec<String>> {
    let held = sessions(seen)
        .iter()
        .find(|held| held.source_id == id)
        .expect("a session");
    let listed = held.facts.subscriptions.as_ref()?;
    Some(listed.iter().map(|held| held.filter.clone()).collect())
}

/// Sessions by the thousand, so that the list has several pages.
fn many(count: usize) -> Vec<Value> {
    (0..count)
        .map(|n| flux_session(&format!("dev/{n:05}"), &[], &json!({})))
        .collect()
}

#[tokio::test]
async fn ids_of_every_sort_come_through_with_their_subscriptions() {
    let odd = [
        "tenant/a/client-1",
        "a b",
        "50%",
        "a%2Fb",
        "grün/é",
        "q?x=1&y#z",
        "...",
        "+",
        "<&>",
        "amqp091:10.0.0.7:5123@4",
    ];
    let all = odd.iter().map(|id| flux_session(id, &["t/#"], &json!({})));
    let standin = StandIn::start(all.collect()).await;
    let seen = source(&standin, "").snapshot().await.unwrap();
    let mut expected = odd;
    expected.sort_unstable();
    assert_eq!(ids(&seen), expected);
    for id in odd {
        assert_eq!(filters(&seen, id).unwrap(), ["t/#"], "{id}");
    }
    assert_eq!(seen.trouble, None);
    // No address can have these as a part of its own: their subscriptions cannot be asked for.
    standin.inside().sessions = vec![flux_session("..", &["t"], &json!({}))];
    let seen = source(&standin, "").snapshot().await.unwrap();
    assert_eq!(filters(&seen, ".."), None);
    assert_eq!(sessions(&seen)[0].facts.subscription_count, Some(1));
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_to_its_end() {
    let standin = StandIn::start(many(3_001)).await;
    let seen = source(&standin, "").snapshot().await.unwrap();
    assert_eq!(sessions(&seen).len(), 3_001);
    let asked = standin.inside().requests.clone();
    let pages: Vec<_> = asked
        .iter()
        .filter(|target| target.contains("/sessions?"))
        .collect();
    assert_eq!(pages.len(), 4, "{pages:?}");
    assert_eq!(
        pages[1],
        "/api/v1/sessions?limit=1000&page_token=dev%2F00999"
    );
}

/// 2.2: the token is trimmed, so that a page which ends in white space leads back, and one that begins with it leads past rows.
#[tokio::test]
async fn pages_that_end_in_white_space_neither_loop_nor_lose_anybody() {
    for odd in ["dev/00999 ", "\u{a0}first"] {
        let mut all = many(2_500);
        // It takes the place of the row that ends the first page.
        let place = if odd.starts_with("dev") { 999 } else { 0 };
        all[place] = flux_session(odd, &[], &json!({}));
        let standin = StandIn::start(all).await;
        if place == 0 {
            // The odd one sorts last: 1,000 behind it make it end a page.
            let more = (0..1_000).map(|n| flux_session(&format!("\u{a1}{n:04}"), &[], &json!({})));
            let mut inside = standin.inside();
            inside.sessions.truncate(1_000);
            inside.sessions.extend(more);
        }
        let count = standin.inside().sessions.len();
        let seen = source(&standin, "").snapshot().await.unwrap();
        assert_eq!(sessions(&seen).len(), count, "{odd:?}");
        assert!(ids(&seen).contains(&odd));
        let asked = standin.inside().requests.clone();
        assert!(
            asked.iter().any(|target| target.contains("limit=4000")),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_refused() {
    let standin = StandIn::start(many(1_500)).await;
    standin.inside().stuck_token = true;
    // Behind the token come the same rows again.
    standin.inside().sessions.iter_mut().for_each(|row| {
        let id = row["client_id"].as_str().unwrap().replace("dev", "t");
        row["client_id"] = json!(id);
    });
    let error = source(&standin, "").snapshot().await.unwrap_err();
    assert!(format!("{error:#}").contains("out of order"), "{error:#}");
}

#[tokio::test]
async fn subscriptions_are_asked_for_where_something_changed_and_else_now_and_then() {
    let standin = StandIn::start(vec![
        flux_session("a", &["one"], &json!({})),
        flux_session("b", &["two"], &json!({})),
        flux_session("none", &[], &json!({})),
    ])
    .await;
    let mut source = source(&standin, "details_every = 3");
    let seen = source.snapshot().await.unwrap();
    assert_eq!(standin.details_asked(), ["a", "b"]);
    assert_eq!(filters(&seen, "none").unwrap(), Vec::<String>::new());
    source.snapshot().await.unwrap();
    assert_eq!(standin.details_asked(), Vec::<String>::new());
    // One filter more: it is in the list's count.
    standin.inside().sessions[0] = flux_session("a", &["one", "three"], &json!({}));
    // One in another's place: nothing in the list tells.
    standin.inside().sessions[1] = flux_session("b", &["four"], &json!({}));
    let seen = source.snapshot().await.unwrap();
    assert_eq!(standin.details_asked(), ["a"]);
    assert_eq!(filters(&seen, "a").unwrap(), ["one", "three"]);
    assert_eq!(filters(&seen, "b").unwrap(), ["two"]);
    let seen = source.snapshot().await.unwrap();
    assert_eq!(standin.details_asked(), ["b"]);
    assert_eq!(filters(&seen, "b").unwrap(), ["four"]);
    // What moves all the time is no reason.
    standin.inside().sessions[1]["inflight_count"] = json!(5);
    let seen = source.snapshot().await.unwrap();
    assert_eq!(sessions(&seen)[1].facts.inflight, Some(5));
    assert!(!standin.details_asked().contains(&"b".to_owned()));
}

#[tokio::test]
async fn what_was_not_asked_for_yet_is_unknown_and_its_turn_comes() {
    let all = (0..5).map(|n| flux_session(&n.to_string(), &["t"], &json!({})));
    let standin = StandIn::start(all.collect()).await;
    let mut source = source(&standin, "max_details = 2\ndetails_every = 1000");
    for expected in [2, 4, 5, 5] {
        let seen = source.snapshot().await.unwrap();
        let known = sessions(&seen)
            .iter()
            .filter(|held| held.facts.subscriptions.is_some());
        assert_eq!(known.count(), expected);
        assert!(
            sessions(&seen)
                .iter()
                .all(|held| held.facts.subscription_count == Some(1))
        );
    }
    let words = source.check_words().await.unwrap();
    assert!(
        words
            .iter()
            .any(|line| line == "5 MQTT sessions connected, 0 kept for clients that are away"),
        "{words:?}"
    );
}

#[tokio::test]
async fn where_subscriptions_cannot_be_read_there_is_no_picture() {
    let standin = StandIn::start(vec![flux_session("a", &["t"], &json!({}))]).await;
    standin.inside().only_details = true;
    for (fault, is_whole) in [
        (Fault::ShuttingDown, false),
        (Fault::Silence, false),
        (Fault::None, true),
    ] {
        standin.inside().fault = fault;
        let seen = source(&standin, "timeout_seconds = 1").snapshot().await;
        assert_eq!(seen.is_ok(), is_whole, "{fault:?}");
    }
}

#[tokio::test]
async fn the_broker_says_what_it_is_in_versions_without_an_overview_too() {
    let standin = StandIn::start(vec![flux_session(
        "a",
        &[],
        &json!({ "connected": false, "state": "disconnected" }),
    )])
    .await;
    for has_overview in [true, false] {
        standin.inside().has_overview = has_overview;
        let seen = source(&standin, "").snapshot().await.unwrap();
        assert_eq!(
            serde_json::to_value(&seen.services[0].broker).unwrap(),
            json!({
                "uptime_seconds": 77.5, "connections": 9, "disconnections": 8, "messages_received": 100,
                "messages_sent": 200, "bytes_received": 3000, "bytes_sent": 4000, "protocol_errors": 2, "nodes": [
                    { "id": "node-1", "address": "10.0.0.1:7948", "healthy": true, "leader": true, "uptime_seconds": 77.5 },
                    { "id": "node-2", "address": "10.0.0.2:7948", "healthy": false, "leader": false, "uptime_seconds": 0.0 },
                ],
            })
        );
        let held = &sessions(&seen)[0];
        assert_eq!(held.facts.presence, Presence::Disconnected);
        assert_eq!(held.facts.node.as_deref(), Some("node-1"));
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error_in_words() {
    let standin = StandIn::start(many(3)).await;
    for (fault, expected) in [
        (Fault::BrokenOff, "broke off its answer"),
        (Fault::HalfJson, "JSON that cannot be read"),
        (Fault::Html, "a page for people, not with JSON"),
        (Fault::Huge, "more than 1 MiB"),
        (
            Fault::ShuttingDown,
            "answers 503 Service Unavailable (broker not available)",
        ),
        (Fault::Silence, "did not answer in time"),
    ] {
        standin.inside().fault = fault;
        let mut source = source(&standin, "timeout_seconds = 1\nmax_answer_mib = 1");
        let error = source.snapshot().await.unwrap_err();
        let said = format!("{error:#}");
        assert!(
            said.contains(expected) && said.contains(&standin.url),
            "{fault:?}: {said}"
        );
    }
    standin.inside().fault = Fault::WrongTypes;
    standin.inside().has_overview = false;
    let error = source(&standin, "").snapshot().await.unwrap_err();
    assert!(format!("{error:#}").contains("line 1 column"), "{error:#}");
    standin.inside().fault = Fault::None;
    let url = standin.url.clone();
    drop(standin);
    let config = format!("name = \"b\"\nurl = \"{url}\"");
    let mut gone = FluxMq::new(&toml::from_str(&config).unwrap()).unwrap();
    let error = gone.snapshot().await.unwrap_err();
    assert!(
        format!("{error:#}").contains("cannot be reached"),
        "{error:#}"
    );
}

#[tokio::test]
async fn a_token_is_shown_where_one_is_asked_for_and_never_said() {
    let standin = StandIn::start(many(1)).await;
    standin.inside().authorization = Some("Bearer s3cret".to_owned());
    let error = source(&standin, "").snapshot().await.unwrap_err();
    assert!(
        format!("{error:#}").contains("401 Unauthorized (unauthorized)"),
        "{error:#}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let mut source = source(&standin, &format!("token_file = {file:?}"));
    assert_eq!(sessions(&source.snapshot().await.unwrap()).len(), 1);
    assert!(!format!("{source:?}").contains("s3cret"));
}
