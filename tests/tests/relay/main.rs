//! The relay as a process beside the real api: what happens on a hosted transmitter is in the store moments later, once,
//! in order, whatever is killed, cut, lost, full or damaged on the way.

mod backlog;
mod bounds;
mod cloud;
mod commands;
mod fluxmq;
mod kills;
mod life;
mod loss;
mod maxscale;
mod mirror;
mod pages;
mod picture;
mod rubbish;
mod secure;
mod sources;

use std::time::{Duration, Instant};

use rollcall_tests::{Client, TestApp};
use serde_json::Value;

/// Waits for what must come true.
async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(Duration::from_secs(60), what, look).await
}

/// The same for what takes its time.
async fn within<T>(most: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < most, "{what}: still not");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// All pager sessions of a service.
async fn sessions(app: &TestApp, service: &str) -> Vec<Value> {
    list(
        &app.reader,
        &format!("/v1/sessions?filter[kind]=pager&filter[service]={service}"),
    )
    .await
}

/// All resources of a listing, page by page.
async fn list(client: &Client, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        let rows = page["data"].as_array().expect("a list").clone();
        let is_end = rows.is_empty();
        found.extend(rows);
        let url = page["links"]["next"].as_str();
        let path = url.and_then(|url| url.find("/v1/").map(|at| url[at..].to_owned()));
        next = path.filter(|_| !is_end);
    }
    found
}

/// What a session was after each of its events: an attribute of it, in order.
async fn history(app: &TestApp, session: &Value, attribute: &str) -> Vec<Value> {
    let id = session["id"].as_str().expect("an id");
    let events = list(&app.reader, &format!("/v1/sessions/{id}/events")).await;
    let value = |event: &Value| event["attributes"]["session"]["attributes"][attribute].clone();
    events.iter().map(value).collect()
}
