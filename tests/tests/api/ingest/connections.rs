//! Clients of brokers and proxies, as relays tell of them.

use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

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
