//! How a batch may come: plain or packed, whole, and of bounded size.

use std::io::Write;

use reqwest::Method;
use rollcall_tests::{Answer, Relay, TestApp, send, verdicts};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::rows;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("packed")
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(plain, 3).expect("packed")
}

async fn post(relay: &Relay, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let mut request = relay.client.request(Method::POST, "/v1/ingest");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(body.into())).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn batch(relay: &Relay, sequence: u64) -> Vec<u8> {
    let event = relay.event(("desk", sequence), "created", Uuid::new_v4(), &json!({}));
    relay.batch(&[event]).to_string().into_bytes()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_comes_plain_or_packed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let coding = |name| ("content-encoding", name);
    let plain = post(&relay, &[JSON], batch(&relay, 1)).await;
    assert_eq!(verdicts(&plain), ["stored"]);
    let identity = post(&relay, &[JSON, coding("identity")], batch(&relay, 2)).await;
    assert_eq!(verdicts(&identity), ["stored"]);
    let gzipped = post(&relay, &[JSON, coding("gzip")], gzip(&batch(&relay, 3))).await;
    assert_eq!(verdicts(&gzipped), ["stored"]);
    let zstandard = post(&relay, &[JSON, coding("ZSTD")], zstd(&batch(&relay, 4))).await;
    assert_eq!(verdicts(&zstandard), ["stored"]);
    for name in ["br", "deflate", "gzip, zstd", ""] {
        let answer = post(&relay, &[JSON, coding(name)], batch(&relay, 5)).await;
        assert_eq!(
            answer.error(),
            (415, "content_encoding_unsupported".into()),
            "{name}"
        );
    }
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let answer = post(&relay, &[("content-type", media)], batch(&relay, 5)).await;
        assert_eq!(
            answer.error(),
            (415, "content_type_unsupported".into()),
            "{media}"
        );
    }
    assert_eq!(rows(&app, "events").await, 4);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_not_whole_is_refused_whole(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let whole = batch(&relay, 1);
    for (name, packed) in [("gzip", gzip(&whole)), ("zstd", zstd(&whole))] {
        for end in [0, 5, packed.len() / 2, packed.len() - 1] {
            let headers = [JSON, ("content-encoding", name)];
            let answer = post(&relay, &headers, &packed[..end]).await;
            assert_eq!(answer.error().0, 400, "{name} to {end}: {}", answer.text());
        }
    }
    let relay_only = r#"{"relay": {"version": "1", "spool": {"events": 0, "bytes": 0}}"#;
    for body in [
        "",
        "{}",
        "[]",
        "null",
        relay_only,
        &format!(r#"{relay_only}, "events": {{}}}}"#),
        &format!(r#"{relay_only}, "events": [}}"#),
        &format!(r#"{relay_only}, "services": [{{"name": "x"}}]}}"#),
        r#"{"relay": {"version": "a\u0000", "spool": {"events": 0, "bytes": 0}}}"#,
        r#"{"relay": {"version": "1", "spool": {"events": -1, "bytes": 0}}}"#,
        r#"{"relay": {"version": "1", "spool": {"events": 0, "bytes": 0, "oldest": "0001-01-01T00:00:00Z"}}}"#,
    ] {
        let answer = post(&relay, &[JSON], body).await;
        assert_eq!(answer.error(), (400, "batch_invalid".into()), "{body}");
    }
    assert_eq!(
        post(&relay, &[JSON], format!("{relay_only}}}"))
            .await
            .status,
        200
    );
    assert_eq!(rows(&app, "events").await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_is_of_bounded_size(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    // Unpacks to many times the limit.
    let bomb = [b"{".to_vec(), vec![b' '; 64 << 20]].concat();
    for (name, packed) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        assert!(packed.len() < 1 << 20, "it is small on its way");
        let answer = post(&relay, &[JSON, ("content-encoding", name)], packed).await;
        assert_eq!(answer.error(), (413, "body_too_large".into()), "{name}");
    }
    let noise: Vec<u8> = (0..1_u32 << 17)
        .flat_map(|_| Uuid::new_v4().into_bytes())
        .collect();
    let packed = post(&relay, &[JSON, ("content-encoding", "gzip")], gzip(&noise)).await;
    assert_eq!(packed.error(), (413, "body_too_large".into()));
    let many = |count: usize| {
        let events = vec!["1"; count].join(",");
        relay
            .batch(&[])
            .to_string()
            .replace("[]", &format!("[{events}]"))
    };
    let most = post(&relay, &[JSON], many(5_000)).await;
    assert_eq!(
        most.json()["verdicts"].as_array().map(Vec::len),
        Some(5_000),
        "{}",
        most.text()
    );
    for count in [5_001, 2_000_000] {
        let answer = post(
            &relay,
            &[JSON, ("content-encoding", "gzip")],
            gzip(many(count).as_bytes()),
        )
        .await;
        assert_eq!(answer.error(), (413, "batch_too_large".into()), "{count}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_large_batch_is_stored_whole(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let events: Vec<Value> = (1..=3_000)
        .map(|sequence| relay.event(("desk", sequence), "created", Uuid::new_v4(), &json!({})))
        .collect();
    let body = gzip(relay.batch(&events).to_string().as_bytes());
    let answer = post(&relay, &[JSON, ("content-encoding", "gzip")], body).await;
    assert!(verdicts(&answer).iter().all(|word| word == "stored"));
    assert_eq!(
        (rows(&app, "sessions").await, rows(&app, "events").await),
        (3_000, 3_000)
    );
    let service = super::document(&app.reader, "/v1/services/desk").await;
    assert_eq!(service["data"]["attributes"]["connections"], 3_000);
}
