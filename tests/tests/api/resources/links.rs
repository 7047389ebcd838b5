//! Every link leads somewhere.

use std::collections::{BTreeSet, VecDeque};

use rollcall_tests::{TestApp, file};
use serde_json::Value;
use sqlx::PgPool;

use super::path_of;

/// Every text in a member `links`, at any depth.
fn links(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                if name == "links" {
                    found.extend(inner.as_object().expect("links").values().cloned());
                } else {
                    links(inner, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| links(item, found)),
        _ => {}
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_link_of_every_document_resolves(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["a/b c", "two", "three"] {
        let form = reqwest::multipart::Form::new()
            .text("session[uuid]", uuid)
            .text("session[unit_id]", "x")
            .part("session[data][photo]", file("a.jpg", "image/jpeg", "bytes"));
        app.admin
            .post_multipart(&app.sessions(), form)
            .await
            .result();
    }
    let mut waiting: VecDeque<String> = [
        "/v1/sessions?page[size]=2&include=services,attachments&pretty",
        "/v1/sessions?page[size]=2&page[number]=1",
        "/v1/",
        "/v1/events?page[size]=2",
    ]
    .map(str::to_owned)
    .into();
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        assert!(seen.len() < 200, "it goes on and on: {seen:#?}");
        let answer = app.reader.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        if path.ends_with("/content") {
            continue;
        }
        let mut found = Vec::new();
        links(&answer.json(), &mut found);
        for link in found {
            assert!(
                link.as_str().is_some_and(|link| link.starts_with(&app.url)),
                "{path}: {link}"
            );
            // The feed has no end.
            if !(path.starts_with("/v1/events/?") || path.starts_with("/v1/events?"))
                || seen.len() < 30
            {
                waiting.push_back(path_of(&link));
            }
        }
    }
    for part in [
        "/content",
        "/relationships/services",
        "/v1/projects/",
        "/events",
        "/v1/services/forms-",
        "page%5Bafter%5D",
    ] {
        assert!(
            seen.iter().any(|path| path.contains(part)),
            "no link led to {part}: {seen:#?}"
        );
    }
}
