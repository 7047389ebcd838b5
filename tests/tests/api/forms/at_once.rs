//! Many requests for one session at once.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use rollcall_tests::{Answer, TestApp, send};
use serde_json::json;
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::multipart::Body;
use super::steps::{count, create, events, path_of, prefix_of, revisions, show};

const AT_ONCE: usize = 50;

/// An application whose requests wait for one of the few connections as long as it takes.
async fn patient(pool: PgPool) -> TestApp {
    TestApp::start_with(pool, |config| config.database.database_wait_ms = 60_000).await
}

/// Sends the same form to `path` from many clients at once.
async fn submit(app: &TestApp, key: Option<&str>, body: &Body) -> Vec<Answer> {
    let mut requests = JoinSet::new();
    for at in 0..AT_ONCE {
        // Each with its own boundary, as each submission of a browser has.
        let (content_type, bytes) = body.clone().bounded(&format!("----{at}")).finish();
        let mut request = app
            .admin
            .request(Method::POST, &app.sessions())
            .header("content-type", content_type)
            .body(bytes);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        requests.spawn(send(request));
    }
    requests.join_all().await
}

fn form() -> Body {
    Body::new()
        .file("session[data][photo]", "p.jpg", "image/jpeg", &[7; 40_000])
        .text("session[unit_id]", "u")
        .text("session[data][note]", "n")
}

#[sqlx::test(migrations = "../migrations")]
async fn identical_submissions_make_one_session_one_event_one_object_and_equal_answers(
    pool: PgPool,
) {
    let app = patient(pool).await;
    let answers = submit(&app, None, &form().text("session[uuid]", "once")).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.text(), answers[0].text());
    }
    assert_eq!(show(&app, "once").await, answers[0].result());
    assert_eq!(count(&app, "select count(*) from sessions").await, 1);
    assert_eq!(events(&app, "once").await, ["created"]);
    assert_eq!(count(&app, "select count(*) from attachments").await, 1);
    let keys = app.s3.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with(&prefix_of(&app, "once")));
}

#[sqlx::test(migrations = "../migrations")]
async fn identical_submissions_under_one_key_need_no_uuid(pool: PgPool) {
    let app = patient(pool).await;
    let answers = submit(&app, Some("submission-1"), &form()).await;
    for answer in &answers {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.text(), answers[0].text());
    }
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotent-replayed") == Some("true"));
    assert_eq!(replayed.count(), AT_ONCE - 1);
    let uuid = answers[0].result()["uuid"]
        .as_str()
        .expect("one")
        .to_owned();
    assert_eq!(count(&app, "select count(*) from sessions").await, 1);
    assert_eq!(events(&app, &uuid).await, ["created"]);
    assert_eq!(count(&app, "select count(*) from attachments").await, 1);
    let keys = app.s3.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with(&prefix_of(&app, &uuid)));
}

#[sqlx::test(migrations = "../migrations")]
async fn different_edits_make_as_many_revisions_without_a_gap(pool: PgPool) {
    let app = patient(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    let mut requests = JoinSet::new();
    for at in 0..AT_ONCE {
        // Half of them to one point, half to a point of their own.
        let point = if at % 2 == 0 {
            "shared".to_owned()
        } else {
            format!("own{at}")
        };
        let body = json!({ "session": { "data": { point: at } } });
        let request = app.admin.request(Method::PUT, &path_of(&app, "s"));
        requests.spawn(send(request.json(&body)));
    }
    let answers: Vec<_> = requests
        .join_all()
        .await
        .iter()
        .map(Answer::result)
        .collect();
    let revisions = revisions(&app, "s").await;
    let numbers: Vec<_> = revisions
        .iter()
        .map(|revision| revision["revision"].as_i64())
        .collect();
    let expected: Vec<_> = (1..=51).rev().map(Some).collect();
    assert_eq!(numbers, expected, "one event each, none missing");
    // Each edit stands on the one before: none was lost, and each answer is one of the revisions.
    let own = |data: &serde_json::Value| data.as_object().map_or(0, serde_json::Map::len);
    for pair in revisions.windows(2) {
        assert!(own(&pair[0]["session"]["data"]) >= own(&pair[1]["session"]["data"]));
    }
    assert_eq!(own(&show(&app, "s").await["data"]), 1 + AT_ONCE / 2);
    let states: BTreeSet<_> = revisions
        .iter()
        .map(|revision| revision["session"].to_string())
        .collect();
    assert!(
        answers
            .iter()
            .all(|answer| states.contains(&answer.to_string()))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn creations_and_deletions_at_once_end_in_a_history_that_adds_up(pool: PgPool) {
    let app = patient(pool).await;
    let mut requests = JoinSet::new();
    for at in 0..AT_ONCE {
        let request = if at % 3 == 2 {
            app.admin.request(Method::DELETE, &path_of(&app, "s"))
        } else {
            let body = json!({ "session": { "uuid": "s", "unit_id": "u", "data": { "at": at } } });
            app.admin.request(Method::POST, &app.sessions()).json(&body)
        };
        requests.spawn(send(request));
    }
    let answers = requests.join_all().await;
    let done = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK)
        .count();
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status.as_u16(), 200 | 404))
    );
    let happened = events(&app, "s").await;
    assert_eq!(happened.len(), done);
    assert_eq!(happened[0], "created");
    for pair in happened.windows(2) {
        assert_ne!(pair[1], "created");
        // What is deleted is not deleted again.
        assert!(pair != ["deleted", "deleted"], "{happened:?}");
    }
}
