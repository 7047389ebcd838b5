//! How relays watch brokers and proxies, and what is shown of it.

use rollcall_tests::{Answer, Relay, TestApp, verdicts};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::document;

async fn say(relay: &Relay, at: &str, watch: &Value) -> Answer {
    let mut batch = relay.batch(&[]);
    batch["services"] = json!([{ "name": "plant", "kind": "broker", "at": at, "watch": watch }]);
    relay.client.post("/v1/ingest", &batch).await
}

async fn shown(app: &TestApp) -> Value {
    let found = document(&app.reader, "/v1/services/plant").await;
    found["data"]["attributes"].clone()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_service_tells_how_it_is_watched(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let watch = json!({
        "source": "rabbitmq", "version": "3.10.8", "state": "running", "seen": "2026-11-21T10:00:00+01:00",
        "trouble": "the reader may see the vhost / alone", "knows": ["user", "remote", "inflight", "soul"],
        "broker": {
            "uptime_seconds": 86400.5, "connections": 12, "disconnections": 4, "messages_received": 1, "messages_sent": 2,
            "bytes_received": 3, "bytes_sent": 4, "protocol_errors": 0,
            "nodes": [{ "id": "rabbit@plant", "address": "10.0.0.1:25672", "healthy": true, "leader": true, "uptime_seconds": 5.0 }],
        },
    });
    verdicts(&say(&relay, "2026-11-21T09:00:01Z", &watch).await);
    let mut attributes = shown(&app).await;
    let told = attributes.as_object_mut().expect("an object");
    for name in ["started", "project", "relay"] {
        assert!(told.remove(name).is_some(), "{name}");
    }
    let heard = told.remove("relay_last_seen").expect("it was heard of");
    let relays = document(&app.reader, &format!("/v1/relays/{}", relay.id)).await;
    assert_eq!(heard, relays["data"]["attributes"]["last_seen"]);
    assert_eq!(
        attributes,
        json!({
            "kind": "broker", "state": "running", "connections": 0, "total_connections": 0,
            "reported": "2026-11-21T09:00:01Z",
            "source": {
                "kind": "rabbitmq", "version": "3.10.8", "seen": "2026-11-21T09:00:00Z",
                "trouble": "the reader may see the vhost / alone", "knows": ["inflight", "remote", "user"],
            },
            "broker": watch["broker"],
        })
    );
    let brokers = document(&app.reader, "/v1/services?filter[kind]=broker").await;
    assert_eq!(brokers["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(brokers["data"][0]["id"], "plant");
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_is_gone_because_the_relay_was_cut_off(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let event = relay.connection(("plant", 1), "connected", "c", &json!({}));
    assert_eq!(relay.verdicts(&[event]).await, ["stored"]);
    let seen = json!({ "source": "rabbitmq", "seen": "2026-11-21T09:00:00Z" });
    verdicts(&say(&relay, "2026-11-21T09:00:01Z", &seen).await);
    let attributes = shown(&app).await;
    assert!(attributes.get("unreachable_since").is_none());
    assert!(attributes.get("broker").is_none(), "unknown");
    let away = json!({
        "source": "rabbitmq", "seen": "2026-11-21T09:00:00Z", "unreachable_since": "2026-11-21T09:00:05Z",
        "trouble": "connection refused",
    });
    verdicts(&say(&relay, "2026-11-21T09:00:06Z", &away).await);
    let attributes = shown(&app).await;
    assert_eq!(attributes["unreachable_since"], "2026-11-21T09:00:05Z");
    assert_eq!(attributes["source"]["trouble"], "connection refused");
    assert_eq!(attributes["connections"], 1);
    let session = document(&app.reader, "/v1/sessions/c").await;
    assert_eq!(session["data"]["attributes"]["state"], "connected");
    // The relay itself falls silent: what it said last is not new because of that.
    sqlx::query("update relays set last_seen_at = '2026-11-21T09:00:07Z'")
        .execute(&app.superuser)
        .await
        .expect("updated");
    let attributes = shown(&app).await;
    assert_eq!(attributes["relay_last_seen"], "2026-11-21T09:00:07Z");
    assert_eq!(attributes["source"]["seen"], "2026-11-21T09:00:00Z");
    // It is there again.
    verdicts(&say(&relay, "2026-11-21T09:10:00Z", &seen).await);
    assert!(shown(&app).await.get("unreachable_since").is_none());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_fills_no_row(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let node = |id: &str| json!({ "id": id, "healthy": true });
    let long = "x".repeat(201);
    for (member, value) in [
        ("source", json!(long)),
        ("source", json!("")),
        ("version", json!(long)),
        ("state", json!("a\u{0}b")),
        ("trouble", json!("x".repeat(1_001))),
        ("knows", json!(vec!["user"; 101])),
        ("seen", json!("1800-01-01T00:00:00Z")),
        ("unreachable_since", json!("1800-01-01T00:00:00Z")),
        ("broker.nodes", json!(vec![node("n"); 65])),
        ("broker.nodes[].id", json!([node(&long)])),
        ("broker.connections", json!(u64::MAX)),
        ("broker.uptime_seconds", json!(-1)),
    ] {
        let mut watch = json!({ "source": "rabbitmq" });
        match member.split_once('.') {
            Some((_, inner)) => {
                let inner = inner.split('[').next().expect("a name");
                watch["broker"] = json!({ inner: value });
            }
            None => watch[member] = value,
        }
        let answer = say(&relay, "2026-11-21T09:00:00Z", &watch).await;
        assert_eq!(answer.status, 400, "{member}: {}", answer.text());
        let error = answer.json()["errors"][0].clone();
        assert_eq!(error["code"], "batch_invalid", "{member}");
        let detail = error["detail"].as_str().expect("a sentence");
        let named = format!("services[] plant: watch.{member} ");
        assert!(detail.starts_with(&named), "{member}: {detail}");
    }
    assert_eq!(app.reader.get("/v1/services/plant").await.status, 404);
    // At the limits it is taken, and told whole.
    let name = "é".repeat(100);
    let nodes: Vec<Value> = (0..64)
        .map(|_| json!({ "id": name, "address": name, "healthy": false }))
        .collect();
    let watch = json!({
        "source": name, "version": name, "state": name, "trouble": "x".repeat(1_000), "knows": vec!["user"; 100],
        "broker": { "nodes": nodes },
    });
    verdicts(&say(&relay, "2026-11-21T09:00:00Z", &watch).await);
    let attributes = shown(&app).await;
    assert_eq!(attributes["source"]["knows"], json!(["user"]));
    assert_eq!(attributes["broker"]["nodes"], watch["broker"]["nodes"]);
}
