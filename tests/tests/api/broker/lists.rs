//! Lists: their order, their parameters, their pages.

use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::{clients, connect, document, walk};

/// In the order of their bytes.
const IDS: [&str; 9] = [" a", "%41", "A", "Z", "a", "a b", "a/b", "é", "\u{1F4DF}"];

#[sqlx::test(migrations = "../migrations")]
async fn sessions_are_in_the_order_of_bytes_and_narrowed_by_prefix(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let mut mixed = IDS;
    mixed.reverse();
    connect(&relay, "rabbit", &mixed, &json!({})).await;
    let all = clients(&app.reader, "/api/v1/sessions").await;
    assert_eq!(all, IDS);
    assert_eq!(clients(&app.reader, "/api/v1/sessions/").await, IDS);
    for limit in [
        "0",
        "",
        "%20%20",
        "9",
        "+10",
        "%2B007",
        "9223372036854775807",
        "-0",
    ] {
        let path = format!("/api/v1/sessions?limit={limit}");
        let expected = if limit == "%2B007" { &IDS[..7] } else { &IDS };
        assert_eq!(clients(&app.reader, &path).await, expected, "{limit}");
    }
    for (prefix, expected) in [
        ("a", &["a", "a b", "a/b"][..]),
        ("A", &["A"]),
        ("a%20", &["a b"]),
        ("%20", &[" a"]),
        ("%C3%A9", &["é"]),
        ("%2541", &["%41"]),
        ("b", &[]),
        ("", &IDS),
    ] {
        let path = format!("/api/v1/sessions?prefix={prefix}");
        assert_eq!(clients(&app.reader, &path).await, expected, "{prefix}");
        let path = format!("/api/v1/sessions?prefix={prefix}&limit=2");
        let walked = walk(&app.reader, &path, "sessions", "client_id").await;
        assert_eq!(walked, expected, "{prefix}");
    }
    // What is not known here is ignored, and of what stands twice the first counts.
    let path = "/api/v1/sessions?pretty&rdns=true&limit=1&limit=5&state=All%20&state=x";
    assert_eq!(clients(&app.reader, path).await, [" a"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn sessions_are_narrowed_by_state_and_those_that_are_gone_are_not_there(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    connect(&relay, "rabbit", &["on", "kept", "gone"], &json!({})).await;
    relay
        .verdicts(&[
            relay.connection(
                ("rabbit", 4),
                "disconnected",
                "kept",
                &json!({ "presence": "disconnected" }),
            ),
            relay.connection(
                ("rabbit", 5),
                "disconnected",
                "gone",
                &json!({ "presence": "gone" }),
            ),
        ])
        .await;
    for (state, expected) in [
        ("", &["kept", "on"][..]),
        ("all", &["kept", "on"]),
        ("connected", &["on"]),
        ("%20CONNECTED%20", &["on"]),
        ("Disconnected", &["kept"]),
    ] {
        let path = format!("/api/v1/sessions?state={state}");
        assert_eq!(clients(&app.reader, &path).await, expected, "{state}");
    }
    let gone = app.reader.get("/api/v1/sessions/gone").await;
    assert_eq!(gone.error(), (404, "session not found".into()));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_walk_sees_each_session_that_stays_once_while_others_come_and_go(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let ids: Vec<String> = (0..40).map(|at| format!("client-{at:02}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    connect(&relay, "rabbit", &ids, &json!({})).await;
    let (mut seen, mut token) = (Vec::new(), String::new());
    for round in 0.. {
        let path = format!("/api/v1/sessions?limit=7&page_token={token}");
        let page = document(&app.reader, &path).await;
        seen.extend(super::names(&page, "sessions", "client_id"));
        // The page's last goes, one comes before it and one behind, and one changes.
        let last = seen.last().expect("a row").clone();
        let place = |at: u64| ("rabbit", 100 + 10 * round + at);
        let gone = json!({ "presence": "gone" });
        let fresh = (format!("client-{:02}-", round), format!("{last}-"));
        relay
            .verdicts(&[
                relay.connection(place(1), "disconnected", &last, &gone),
                relay.connection(place(2), "connected", &fresh.0, &json!({})),
                relay.connection(place(3), "connected", &fresh.1, &json!({})),
                relay.connection(
                    place(4),
                    "updated",
                    "client-39",
                    &json!({ "inflight": round }),
                ),
            ])
            .await;
        match page.get("next_page_token") {
            Some(next) => token = next.as_str().expect("text").to_owned(),
            None => break,
        }
    }
    let mut once = seen.clone();
    once.dedup();
    assert_eq!(once, seen);
    for id in ids {
        assert_eq!(seen.iter().filter(|other| *other == id).count(), 1, "{id}");
    }
    assert!(
        seen.iter().any(|id| id.ends_with('-')),
        "what came behind is seen"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_that_is_the_last_has_no_token_and_one_of_another_list_is_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let subscribed =
        json!({ "subscriptions": [{ "filter": "f", "qos": 1 }, { "filter": "g", "qos": 0 }] });
    connect(&relay, "rabbit", &["a", "b", "c"], &subscribed).await;
    let whole = document(&app.reader, "/api/v1/sessions?limit=3").await;
    assert_eq!(whole.as_object().expect("an object").len(), 1, "{whole}");
    let page = document(&app.reader, "/api/v1/sessions?limit=2").await;
    let token = page["next_page_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let path = |rest: &str| format!("/api/v1/sessions?page_token={token}{rest}");
    assert_eq!(clients(&app.reader, &path("")).await, ["c"]);
    // The size of a page is not bound.
    assert_eq!(
        clients(&app.reader, &path("&limit=1&state=all")).await,
        ["c"]
    );
    let project = app.project;
    let mut wrong = vec![
        path("&state=connected"),
        path("&prefix=a"),
        path("&service=rabbit"),
        path("x"),
        format!("/api/v1/subscriptions?page_token={token}"),
        format!("/api/v1/subscriptions/f/clients?page_token={token}"),
        format!("/api/v1/projects/{project}/broker/sessions?page_token={token}"),
        "/api/v1/sessions?page_token=b".to_owned(),
        "/api/v1/sessions?page_token=%20".to_owned(),
        "/api/v1/sessions?page_token=1".to_owned(),
        format!("/api/v1/sessions?page_token=2{}", &token[1..]),
    ];
    let filters = document(&app.reader, "/api/v1/subscriptions?limit=1").await;
    let other = filters["next_page_token"].as_str().expect("a token");
    wrong.push(format!("/api/v1/sessions?page_token={other}"));
    let of_f = document(&app.reader, "/api/v1/subscriptions/f/clients?limit=1").await;
    let of_f = of_f["next_page_token"].as_str().expect("a token");
    wrong.push(format!("/api/v1/subscriptions/g/clients?page_token={of_f}"));
    for path in wrong {
        let answer = app.reader.get(&path).await;
        assert_eq!(answer.text(), r#"{"error":"invalid page_token"}"#, "{path}");
        assert_eq!(answer.status, 400, "{path}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn filters_are_counted_by_client_and_their_clients_listed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let twice = json!({ "subscriptions": [{ "filter": "a/+/é", "qos": 0 }, { "filter": "a/+/é", "qos": 2 }] });
    let one =
        json!({ "subscriptions": [{ "filter": "a/+/é", "qos": 1 }, { "filter": "B", "qos": 0 }] });
    connect(&relay, "rabbit", &["x", "y"], &one).await;
    connect(&relay, "other", &["y", "z"], &twice).await;
    let mut kept = one.clone();
    kept["presence"] = json!("disconnected");
    // Of two brokers' x and y, x is nowhere connected and y is.
    let left = [
        relay.connection(("rabbit", 3), "disconnected", "x", &kept),
        relay.connection(("rabbit", 4), "disconnected", "y", &kept),
    ];
    assert_eq!(relay.verdicts(&left).await, ["stored", "stored"]);
    let row = |filter: &str, count: u32, qos: u32| json!({ "filter": filter, "subscriber_count": count, "max_qos": qos });
    for (query, rows) in [
        ("", vec![row("a/+/é", 2, 2)]),
        ("?state=connected&limit=0", vec![row("a/+/é", 2, 2)]),
        ("?state=all", vec![row("B", 2, 0), row("a/+/é", 3, 2)]),
        (
            "?state=disconnected",
            vec![row("B", 2, 0), row("a/+/é", 1, 1)],
        ),
        ("?state=all&prefix=a%2F%2B", vec![row("a/+/é", 3, 2)]),
        (
            "?state=all&service=rabbit",
            vec![row("B", 2, 0), row("a/+/é", 2, 1)],
        ),
    ] {
        let found = document(&app.reader, &format!("/api/v1/subscriptions{query}")).await;
        assert_eq!(found, json!({ "subscriptions": rows }), "{query}");
    }
    let path = "/api/v1/subscriptions?state=all&limit=1";
    let walked = walk(&app.reader, path, "subscriptions", "filter").await;
    assert_eq!(walked, ["B", "a/+/é"]);
    let row = |id: &str, qos: u32| json!({ "client_id": id, "qos": qos });
    for (query, rows) in [
        ("", vec![row("y", 2), row("z", 2)]),
        ("?state=all", vec![row("x", 1), row("y", 2), row("z", 2)]),
        ("?state=disconnected", vec![row("x", 1)]),
        ("?state=all&prefix=y", vec![row("y", 2)]),
        ("?state=all&service=rabbit", vec![row("x", 1), row("y", 1)]),
    ] {
        let path = format!("/api/v1/subscriptions/a%2F+%2F%C3%A9/clients{query}");
        let found = document(&app.reader, &path).await;
        let expected = json!({ "filter": "a/+/é", "clients": rows });
        assert_eq!(found, expected, "{query}");
    }
    let path = "/api/v1/subscriptions/a%2F%2B%2F%C3%A9/clients?state=all&limit=2";
    assert_eq!(
        walk(&app.reader, path, "clients", "client_id").await,
        ["x", "y", "z"]
    );
    let nobody = document(&app.reader, "/api/v1/subscriptions/nobody/clients").await;
    assert_eq!(nobody, json!({ "filter": "nobody", "clients": [] }));
}
