//! Sessions byte for byte: which members there are, in which order, and what is left out (contract §2.3; seed 004).

use rollcall_tests::{Relay, TestApp};
use serde_json::json;
use sqlx::PgPool;

use super::connect;

/// A client of MQTT of which everything is known, one of which little is, and a connection over AMQP.
async fn fill(relay: &Relay) {
    connect(relay, "rabbit", &[], &json!({})).await;
    let whole = json!({
        "label": "orders-consumer", "protocol": "mqtt5", "clean_start": true, "expiry_seconds": 300,
        "connected_at": "2026-11-21T10:00:00.5+01:00", "disconnected_at": "2026-11-21T08:59:00Z", "receive_maximum": 256,
        "max_packet_size": 1024, "topic_alias_max": 10, "request_response": true, "request_problem": true,
        "has_will": true, "inflight": 3, "queue_depth": 4,
        "subscriptions": [
            { "filter": "b", "qos": 0 },
            {
                "filter": "a/+", "qos": 1, "no_local": true, "retain_as_published": true, "retain_handling": 2,
                "consumer_group": "workers", "subscription_id": 7
            },
            { "filter": "b", "qos": 2, "consumer_group": "", "subscription_id": 0 },
        ],
    });
    let little = json!({ "presence": "disconnected", "protocol": null, "connected_at": null, "subscriptions": [], "subscription_count": 2 });
    let amqp = json!({
        "kind": "amqp", "protocol": null, "label": "orders-consumer", "vhost": "/",
        "subscriptions": [{ "filter": "orders.work", "qos": 1 }],
    });
    let events = [
        relay.connection(("rabbit", 1), "connected", "whole", &whole),
        relay.connection(("rabbit", 2), "disconnected", "little", &little),
        relay.connection(("rabbit", 3), "connected", "amqp091:10.0.0.7:48702", &amqp),
    ];
    assert_eq!(relay.verdicts(&events).await, ["stored"; 3]);
}

const AMQP: &str = concat!(
    r#"{"client_id":"amqp091:10.0.0.7:48702","connection_name":"orders-consumer","state":"connected","connected":true,"#,
    r#""protocol":"amqp0.9.1","version":0,"clean_start":false,"expiry_interval":0,"connected_at":"2026-11-21T09:00:00Z","#,
    r#""receive_maximum":0,"max_packet_size":0,"topic_alias_max":0,"request_response":false,"request_problem":false,"#,
    r#""has_will":false,"subscription_count":1,"inflight_count":0,"offline_queue_depth":0"#
);
const LITTLE: &str = concat!(
    r#"{"client_id":"little","state":"disconnected","connected":false,"protocol":"unknown","version":0,"clean_start":false,"#,
    r#""expiry_interval":0,"receive_maximum":0,"max_packet_size":0,"topic_alias_max":0,"request_response":false,"#,
    r#""request_problem":false,"has_will":false,"subscription_count":2,"inflight_count":0,"offline_queue_depth":0"#
);
const WHOLE: &str = concat!(
    r#"{"client_id":"whole","connection_name":"orders-consumer","state":"connected","connected":true,"protocol":"mqtt5","#,
    r#""version":5,"clean_start":true,"expiry_interval":300,"connected_at":"2026-11-21T09:00:00.5Z","#,
    r#""disconnected_at":"2026-11-21T08:59:00Z","receive_maximum":256,"max_packet_size":1024,"topic_alias_max":10,"#,
    r#""request_response":true,"request_problem":true,"has_will":true,"subscription_count":3,"inflight_count":3,"#,
    r#""offline_queue_depth":4"#
);

#[sqlx::test(migrations = "../migrations")]
async fn a_list_has_these_bytes(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app.relay("edge").await).await;
    let list = app.reader.get("/api/v1/sessions").await;
    let expected = format!(r#"{{"sessions":[{AMQP}}},{LITTLE}}},{WHOLE}}}]}}"#);
    assert_eq!(list.text(), expected);
    assert_eq!(list.header("content-type"), Some("application/json"));
    let none = app.reader.get("/api/v1/sessions?prefix=none").await;
    assert_eq!(none.text(), r#"{"sessions":[]}"#);
    let filters = app.reader.get("/api/v1/subscriptions?limit=1").await.text();
    let row = r#"{"subscriptions":[{"filter":"a/+","subscriber_count":1,"max_qos":1}],"next_page_token":""#;
    assert!(filters.starts_with(row), "{filters}");
    let clients = app.reader.get("/api/v1/subscriptions/b/clients").await;
    let row = r#"{"filter":"b","clients":[{"client_id":"whole","qos":2}]}"#;
    assert_eq!(clients.text(), row);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_has_these_bytes(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app.relay("edge").await).await;
    let subscriptions = concat!(
        r#","subscriptions":[{"filter":"a/+","qos":1,"no_local":true,"retain_as_published":true,"retain_handling":2,"#,
        r#""consumer_group":"workers","subscription_id":7},"#,
        r#"{"filter":"b","qos":2,"no_local":false,"retain_as_published":false,"retain_handling":0}]}"#
    );
    let queue = concat!(
        r#","subscriptions":[{"filter":"orders.work","qos":1,"no_local":false,"retain_as_published":false,"#,
        r#""retain_handling":0}]}"#
    );
    for (id, expected) in [
        ("whole", format!("{WHOLE}{subscriptions}")),
        ("little", format!("{LITTLE}}}")),
        ("amqp091:10.0.0.7:48702", format!("{AMQP}{queue}")),
    ] {
        let session = app.reader.get(&format!("/api/v1/sessions/{id}")).await;
        assert_eq!(session.text(), expected);
        assert_eq!(session.header("content-type"), Some("application/json"));
    }
}
