//! `kill -9` in the middle of 200 posts with files: what was acknowledged is there, nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use reqwest::multipart::Form;
use reqwest::{Method, StatusCode};
use rollcall_tests::program::binary;
use rollcall_tests::{Client, file};
use sqlx::PgPool;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::system::System;

const POSTS: usize = 200;
/// Requests at once while checking.
const AT_ONCE: usize = 16;

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_nothing_is_there_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    // Killed early, in the middle, and late.
    for (round, acknowledged_before) in [5, 60, 140].into_iter().enumerate() {
        let system = System::start(folder.path()).await;
        let acknowledged = post_and_kill(system, round, acknowledged_before).await;
        assert!(acknowledged.len() >= acknowledged_before);

        let system = System::start(folder.path()).await;
        check_acknowledged(&system, &acknowledged).await;
        // A device repeats what it got no answer to; and, having lost its memory, all the rest too.
        let repeats = stream::iter(0..POSTS)
            .map(|at| post(system.client.clone(), system.sessions(), round, at));
        let answers: Vec<_> = repeats.buffer_unordered(AT_ONCE).collect().await;
        for (status, text) in answers.into_iter().map(|answer| answer.expect("an answer")) {
            assert_eq!(status, StatusCode::OK, "{text}");
        }
        check_store(&system, (round + 1) * POSTS).await;
        system.interrupt().await;
    }
}

#[tokio::test]
async fn a_second_start_keeps_data_and_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let system = System::start(folder.path()).await;
    let before = post(system.client.clone(), system.sessions(), 0, 1)
        .await
        .expect("an answer")
        .1;
    let key = system.ready["api_key"].clone();
    system.interrupt().await;
    let system = System::start(folder.path()).await;
    assert_eq!(system.ready["api_key"], key);
    let shown = system
        .client
        .clone()
        .get(&format!("{}/{}", system.sessions(), uuid(0, 1)))
        .await;
    assert_eq!(shown.text(), before);
    system.interrupt().await;
}

/// Posts everything at once and kills the system once so many posts were acknowledged. Answers which were.
async fn post_and_kill(
    system: System,
    round: usize,
    acknowledged_before: usize,
) -> BTreeMap<usize, String> {
    let count = Arc::new(AtomicUsize::new(0));
    let mut posts = JoinSet::new();
    for at in 0..POSTS {
        let (client, path, count) = (system.client.clone(), system.sessions(), Arc::clone(&count));
        posts.spawn(async move {
            let (status, text) = post(client, path, round, at).await?;
            count.fetch_add(1, Ordering::SeqCst);
            (status == StatusCode::OK).then_some((at, text))
        });
    }
    let mut acknowledged = BTreeMap::new();
    let mut system = Some(system);
    while let Some(done) = posts.join_next().await {
        acknowledged.extend(done.expect("no panic"));
        if count.load(Ordering::SeqCst) >= acknowledged_before
            && let Some(system) = system.take()
        {
            system.kill().await;
        }
    }
    acknowledged
}

/// One post; `None` where the connection broke before the answer was whole.
async fn post(
    client: Client,
    path: String,
    round: usize,
    at: usize,
) -> Option<(StatusCode, String)> {
    let form = Form::new()
        .text("session[uuid]", uuid(round, at))
        .text("session[unit_id]", "tablet")
        .text("session[created]", "1234567890")
        .text("session[saved]", "1234567890")
        .text("session[data][at]", at.to_string())
        .part(
            "session[data][photo]",
            file("photo.jpg", "image/jpeg", photo(round, at)),
        );
    let response = client
        .request(Method::POST, &path)
        .multipart(form)
        .send()
        .await
        .ok()?;
    let status = response.status();
    Some((status, response.text().await.ok()?))
}

fn uuid(round: usize, at: usize) -> String {
    format!("round-{round}-session-{at}")
}

/// 20 kB that no other session has.
fn photo(round: usize, at: usize) -> Vec<u8> {
    uuid(round, at)
        .into_bytes()
        .into_iter()
        .cycle()
        .take(20_000)
        .collect()
}

async fn check_acknowledged(system: &System, acknowledged: &BTreeMap<usize, String>) {
    let checks = stream::iter(acknowledged.values()).map(|answer| check_one(system, answer));
    checks.buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn check_one(system: &System, answer: &str) {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    let name = answer["result"]["uuid"]
        .as_str()
        .expect("a uuid")
        .to_owned();
    let (client, path) = (
        system.client.clone(),
        format!("{}/{name}", system.sessions()),
    );
    assert_eq!(client.get(&path).await.json(), answer, "{name}");
    let bytes = client.get(&format!("{path}/attachments/photo")).await;
    assert_eq!(bytes.status, StatusCode::OK, "{name}");
    let expected: Vec<u8> = name.into_bytes().into_iter().cycle().take(20_000).collect();
    assert_eq!(bytes.bytes, expected);
}

/// Every session once, with one event and one file; and, after a sweep, no object without a row.
async fn check_store(system: &System, sessions: usize) {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let pool = PgPool::connect(&text(&system.ready["postgres"]))
        .await
        .expect("the superuser connects");
    let counts: (i64, i64, i64) = sqlx::query_as(
        // The forms alone: the simulated box next door has guests of its own.
        "select (select count(*) from sessions where kind = 'form'), \
         (select count(*) from events where kind = 'form'), \
         (select count(*) from attachments)",
    )
    .fetch_one(&pool)
    .await
    .expect("counts");
    let expected = i64::try_from(sessions).expect("small");
    assert_eq!(
        counts,
        (expected, expected, expected),
        "sessions, events, attachments"
    );

    let s3 = &system.ready["s3"];
    let swept = Command::new(binary("rollcall-api"))
        .args([
            "work",
            "--once",
            "--sweep-grace-seconds",
            "0",
            "--s3-path-style",
        ])
        .env("ROLLCALL_DATABASE_URL", text(&system.ready["postgres"]))
        .env("ROLLCALL_S3_ENDPOINT", text(&s3["endpoint"]))
        .env("ROLLCALL_S3_BUCKET", text(&s3["bucket"]))
        .env("AWS_ACCESS_KEY_ID", text(&s3["access_key"]))
        .env("AWS_SECRET_ACCESS_KEY", text(&s3["secret_key"]))
        .env("AWS_REGION", "us-east-1")
        .output()
        .await
        .expect("the sweep runs");
    assert!(
        swept.status.success(),
        "{}",
        String::from_utf8_lossy(&swept.stderr)
    );

    let rows: Vec<String> = sqlx::query_scalar(
        "select format('%s/%s/%s/%s', org_id, project_id, session_id, id) from attachments",
    )
    .fetch_all(&pool)
    .await
    .expect("rows");
    let rows: BTreeSet<String> = rows.into_iter().collect();
    assert_eq!(objects(system).await, rows);
    pool.close().await;
}

/// The keys of all objects, as S3 lists them.
async fn objects(system: &System) -> BTreeSet<String> {
    use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
    let s3 = &system.ready["s3"];
    let text = |name: &str| s3[name].as_str().expect("a text");
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(text("endpoint"))
        .force_path_style(true)
        .credentials_provider(Credentials::new(
            text("access_key"),
            text("secret_key"),
            None,
            None,
            "test",
        ))
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let mut pages = client
        .list_objects_v2()
        .bucket(text("bucket"))
        .into_paginator()
        .send();
    let mut keys = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.expect("a page");
        keys.extend(
            page.contents()
                .iter()
                .filter_map(|object| object.key().map(str::to_owned)),
        );
    }
    keys
}
