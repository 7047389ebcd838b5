//! Clients of brokers and proxies, as relays tell of them.

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::document;

#[sqlx::test(migrations = "../migrations")]
async fn a_client_connects_is_kept_comes_back_and_goes(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let kept =
        json!({ "presence": "disconnected", "subscriptions": [{ "filter": "a/+", "qos": 1 }] });
    let gone = json!({ "presence": "gone" });
    let events = [
        relay.connection(("broker", 1), "connected", "a/b c", &json!({})),
        relay.connection(("broker", 2), "disconnected", "a/b c", &kept),
        relay.connection(("broker", 3), "connected", "a/b c", &json!({})),
        relay.connection(("broker", 4), "disconnected", "a/b c", &kept),
        relay.connection(("broker", 5), "removed", "a/b c", &gone),
    ];
    for (at, (state, active)) in [
        ("connected", true),
        ("disconnected", true),
        ("connected", true),
        ("disconnected", true),
        ("gone", false),
    ]
    .into_iter()
    .enumerate()
    {
        let event = &events[at..=at];
        assert_eq!(relay.verdicts(event).await, ["stored"]);
        assert_eq!(relay.verdicts(event).await, ["repeated"]);
        let found = document(&app.reader, "/v1/sessions/a%2Fb%20c").await;
        let attributes = &found["data"]["attributes"];
        assert_eq!(attributes["state"], state);
        assert_eq!(attributes["active"], active);
        assert_eq!(attributes["kind"], "mqtt");
        assert_eq!(attributes["user"], "guest");
        assert_eq!(attributes["started"], "2026-11-21T09:00:00Z");
    }
    let service = document(&app.reader, "/v1/services/broker").await;
    assert_eq!(service["data"]["attributes"]["kind"], "broker");
    assert_eq!(service["data"]["attributes"]["connections"], 0);
    assert_eq!(service["data"]["attributes"]["total_connections"], 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_service_is_of_one_kind(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let events = [
        relay.connection(("broker", 1), "connected", "one", &json!({})),
        relay.event(("broker", 2), "created", uuid::Uuid::new_v4(), &json!({})),
        relay.connection(
            ("broker", 3),
            "connected",
            "two",
            &json!({ "kind": "proxy" }),
        ),
        relay.connection(
            ("broker", 4),
            "connected",
            "three",
            &json!({ "kind": "amqp" }),
        ),
    ];
    assert_eq!(
        relay.verdicts(&events).await,
        ["stored", "service_taken", "service_taken", "stored"]
    );
}

/// What the feed tells of a session: each event's type, the state after it, and what changed.
async fn history(app: &TestApp, name: &str) -> Vec<(String, String, Vec<String>)> {
    let events = document(&app.reader, &format!("/v1/sessions/{name}/events")).await;
    let told = |event: &Value| {
        let attributes = &event["attributes"];
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let changed = attributes["changed"].as_array().expect("an array");
        (
            text(&attributes["event_type"]),
            text(&attributes["session"]["attributes"]["state"]),
            changed.iter().map(text).collect(),
        )
    };
    let events = events["data"].as_array().expect("an array");
    events.iter().map(told).collect()
}

/// A proxy counts its sessions from 1 again once it has started anew: the same line, connected again.
#[sqlx::test(migrations = "../migrations")]
async fn a_proxys_number_that_comes_again_has_the_history_of_both(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let proxy = |changed: Value| {
        let mut all = json!({ "kind": "proxy", "client_id": null, "protocol": "mariadb", "state": "Session started" });
        for (name, value) in changed.as_object().expect("an object") {
            all[name] = value.clone();
        }
        all
    };
    let (first, second) = (
        json!({ "user": "one", "database": "shop" }),
        json!({ "user": "two", "connected_at": "2026-11-21T09:30:00Z" }),
    );
    let gone = proxy(json!({ "presence": "gone", "user": "one", "database": "shop" }));
    let events = [
        relay.connection(("router", 1), "connected", "1", &proxy(first)),
        relay.connection(("router", 2), "disconnected", "1", &gone),
        relay.connection(("router", 3), "connected", "1", &proxy(second)),
    ];
    assert_eq!(relay.verdicts(&events).await, ["stored"; 3]);
    let now = document(&app.reader, "/v1/sessions/1").await;
    let attributes = &now["data"]["attributes"];
    assert_eq!(attributes["state"], "Session started");
    assert_eq!(attributes["user"], "two");
    assert_eq!(attributes["started"], "2026-11-21T09:30:00Z");
    assert!(attributes.get("database").is_none(), "of the one before");
    assert_eq!(attributes["revision"], 3);
    let told = history(&app, "1").await;
    let types: Vec<(&str, &str)> = told
        .iter()
        .map(|(a, b, _)| (a.as_str(), b.as_str()))
        .collect();
    assert_eq!(
        types,
        [
            ("connected", "Session started"),
            ("disconnected", "gone"),
            ("connected", "Session started")
        ]
    );
    assert_eq!(told[1].2, ["/state", "/active"]);
    let changed = [
        "/state",
        "/active",
        "/user",
        "/started",
        "/database",
        "/connected_at",
        "/reconnects",
    ];
    assert_eq!(told[2].2, changed);
    let service = document(&app.reader, "/v1/services/router").await;
    let counts = ["connections", "total_connections"]
        .map(|name| service["data"]["attributes"][name].clone());
    assert_eq!(counts, [1, 1]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_happened_stays_when_the_client_is_gone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let subscribed = json!({ "subscriptions": [{ "filter": "a/+", "qos": 1 }], "queue_depth": 7 });
    let gone = json!({ "presence": "gone", "disconnected_at": "2026-11-21T09:10:00Z" });
    let events = [
        relay.connection(("broker", 1), "connected", "c", &json!({})),
        relay.connection(("broker", 2), "updated", "c", &subscribed),
        relay.connection(("broker", 3), "disconnected", "c", &gone),
    ];
    assert_eq!(relay.verdicts(&events).await, ["stored"; 3]);
    let listed = document(&app.reader, "/v1/sessions?filter[state]=gone").await;
    assert_eq!(listed["data"][0]["attributes"]["active"], false);
    let told = history(&app, "c").await;
    let changed: Vec<&[String]> = told
        .iter()
        .map(|(_, _, changed)| changed.as_slice())
        .collect();
    assert_eq!(changed[0], [""]);
    assert_eq!(
        changed[1],
        ["/queue_depth", "/subscription_count", "/subscriptions"]
    );
    assert_eq!(
        changed[2],
        [
            "/state",
            "/active",
            "/disconnected_at",
            "/queue_depth",
            "/subscription_count",
            "/subscriptions"
        ]
    );
    let id = listed["data"][0]["id"].as_str().expect("an id");
    let event = document(&app.reader, &format!("/v1/events/{id}.2")).await;
    let then = &event["data"]["attributes"]["session"]["attributes"];
    assert_eq!(
        (&then["state"], &then["queue_depth"]),
        (&json!("connected"), &json!(7))
    );
    let feed = document(
        &app.reader,
        "/v1/events?filter[type]=disconnected&filter[kind]=mqtt",
    )
    .await;
    assert_eq!(feed["data"].as_array().map(Vec::len), Some(1));
}

#[sqlx::test(migrations = "../migrations")]
async fn who_flaps_is_seen_to(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let now = OffsetDateTime::now_utc();
    let mut events = Vec::new();
    // Ninety minutes ago, and five times within the last hour.
    for (at, minutes) in (0..).zip([90, 50, 40, 30, 20, 10]) {
        let told = (now - Duration::minutes(minutes))
            .format(&Rfc3339)
            .expect("a time");
        for (step, what, presence) in [(1, "connected", "connected"), (2, "disconnected", "gone")] {
            let changed = json!({ "presence": presence, "connected_at": told });
            let mut event = relay.connection(("broker", at * 2 + step), what, "c", &changed);
            event["at"] = json!(told);
            events.push(event);
        }
    }
    let stored = relay.verdicts(&events).await;
    assert!(
        stored.iter().all(|verdict| verdict == "stored"),
        "{stored:?}"
    );
    let found = document(&app.reader, "/v1/sessions/c").await;
    let reconnects = json!({ "count": 5, "window_seconds": 3600 });
    assert_eq!(found["data"]["attributes"]["reconnects"], reconnects);
    // In the event of forty minutes ago it was the second time.
    let id = found["data"]["id"].as_str().expect("an id");
    let event = document(&app.reader, &format!("/v1/events/{id}.5")).await;
    let then = &event["data"]["attributes"]["session"]["attributes"]["reconnects"];
    assert_eq!(then["count"], 2);
}
