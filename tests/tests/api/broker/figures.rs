//! `/stats`, `/overview`, `/cluster`, and how old what they say is.

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{connect, document};

fn report(number: u64, nodes: &[Value]) -> Value {
    json!({ "broker": {
        "uptime_seconds": number as f64 + 0.5, "connections": number, "disconnections": number + 1,
        "messages_received": number + 2, "messages_sent": number + 3, "bytes_received": number + 4,
        "bytes_sent": number + 5, "protocol_errors": number + 6, "nodes": nodes,
    } })
}

#[sqlx::test(migrations = "../migrations")]
async fn what_no_broker_tells_is_left_out(pool: PgPool) {
    let app = TestApp::start(pool).await;
    connect(&app.relay("edge").await, "rabbit", &[], &json!({})).await;
    let stats = app.reader.get("/api/v1/stats").await.text();
    let unknown =
        r#"{"connections":{"current":0},"messages":{},"bytes":{},"errors":{},"by_protocol":{}}"#;
    assert_eq!(stats, unknown);
    let cluster = app.reader.get("/api/v1/cluster").await.text();
    let alone = r#"{"node_id":"single-node","cluster_mode":false,"is_leader":true,"nodes":[]}"#;
    assert_eq!(cluster, alone);
    let overview = app.reader.get("/api/v1/overview").await.text();
    let expected = format!(
        r#"{{"node_id":"single-node","cluster_mode":false,"is_leader":true,"sessions":{{"connected":0,"total":0}},"stats":{unknown},"cluster":{{"nodes":[]}}}}"#
    );
    assert_eq!(overview, expected);
}

#[sqlx::test(migrations = "../migrations")]
async fn counters_are_summed_over_the_brokers_that_all_tell_them(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    connect(&relay, "one", &["a", "b"], &json!({})).await;
    let amqp = json!({ "kind": "amqp", "protocol": "amqp0.9.1" });
    connect(&relay, "two", &["amqp091:10.0.0.7:1"], &amqp).await;
    let kept = json!({ "presence": "disconnected" });
    let left = relay.connection(("one", 9), "disconnected", "b", &kept);
    assert_eq!(relay.verdicts(&[left]).await, ["stored"]);
    let nodes = [
        json!({ "id": "rabbit@a", "address": "10.0.0.1", "healthy": true, "leader": false, "uptime_seconds": 7.5 }),
        json!({ "id": "rabbit@b", "healthy": false, "leader": true }),
    ];
    relay.sees("one", 0, &report(100, &nodes)).await;
    relay.sees("two", 0, &report(1, &nodes[..1])).await;
    let stats = json!({
        "uptime_seconds": 1.5, "connections": { "current": 2, "total": 101, "disconnections": 103 },
        "messages": { "received": 105, "sent": 107 }, "bytes": { "received": 109, "sent": 111 },
        "errors": { "protocol": 113 },
        "by_protocol": { "mqtt": { "connections": { "current": 1 } }, "amqp": { "connections": { "current": 1 } } },
    });
    assert_eq!(document(&app.reader, "/api/v1/stats").await, stats);
    let node = |at: usize, id: &str| {
        let mut node = nodes[at].clone();
        node["id"] = json!(id);
        node
    };
    let all = [
        node(0, "one/rabbit@a"),
        node(1, "one/rabbit@b"),
        node(0, "two/rabbit@a"),
    ];
    let cluster = document(&app.reader, "/api/v1/cluster").await;
    let expected =
        json!({ "node_id": "one/rabbit@b", "cluster_mode": true, "is_leader": true, "nodes": all });
    assert_eq!(cluster, expected);
    let overview = document(&app.reader, "/api/v1/overview").await;
    let expected = json!({
        "node_id": "one/rabbit@b", "cluster_mode": true, "is_leader": true, "uptime_seconds": 1.5,
        "sessions": { "connected": 2, "total": 3 }, "stats": stats, "cluster": { "nodes": all },
    });
    assert_eq!(overview, expected);
    let one = document(&app.reader, "/api/v1/overview?service=one").await;
    assert_eq!(one["node_id"], "rabbit@b");
    assert_eq!(
        one["stats"]["connections"],
        json!({ "current": 1, "total": 100, "disconnections": 101 })
    );
    let two = document(&app.reader, "/api/v1/cluster?service=two").await;
    assert_eq!(
        two,
        json!({ "node_id": "single-node", "cluster_mode": false, "is_leader": true, "nodes": [] })
    );
    // One that does not tell any more makes the sum unknown.
    relay
        .sees("two", 0, &json!({ "broker": { "connections": 2 } }))
        .await;
    let stats = document(&app.reader, "/api/v1/stats").await;
    assert_eq!(stats["connections"], json!({ "current": 2, "total": 102 }));
    assert_eq!(stats["messages"], json!({}));
    assert_eq!(stats.get("uptime_seconds"), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn age_is_that_of_the_oldest_picture_that_the_answer_draws_on(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    connect(&relay, "fresh", &["a"], &json!({})).await;
    relay
        .sees(
            "old",
            7_200,
            &json!({ "unreachable_since": "2026-11-21T09:00:00Z" }),
        )
        .await;
    // A clock that is ahead.
    relay.sees("ahead", -600, &json!({})).await;
    let project = app.project;
    for path in [
        "/api/v1/sessions".to_owned(),
        "/api/v1/sessions/a".to_owned(),
        "/api/v1/subscriptions".to_owned(),
        "/api/v1/subscriptions/f/clients".to_owned(),
        "/api/v1/stats".to_owned(),
        "/api/v1/overview".to_owned(),
        "/api/v1/cluster".to_owned(),
        format!("/api/v1/projects/{project}/broker/sessions"),
    ] {
        for (service, ages) in [("", 7_200..7_400), ("fresh", 0..200), ("ahead", 0..1)] {
            if path.ends_with("/a") && service == "ahead" {
                continue;
            }
            let answer = app.reader.get(&format!("{path}?service={service}")).await;
            let age = answer.header("age").expect("Age").parse::<i64>();
            assert!(ages.contains(&age.expect("seconds")), "{path} {service}");
        }
    }
}
