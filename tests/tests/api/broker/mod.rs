//! `/api/v1/sessions` and what is beside it: brokers' sessions as brokers' tools read them.

mod dialect;
mod duplicates;
mod figures;
mod lists;
mod names;
mod reach;
mod shapes;
mod streams;

use rollcall_tests::{Client, Relay};
use serde_json::{Value, json};

/// Gets a document.
async fn document(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The names of a list's rows.
fn names(document: &Value, list: &str, name: &str) -> Vec<String> {
    let rows = document[list].as_array().expect("rows");
    let text = |row: &Value| row[name].as_str().expect("a name").to_owned();
    rows.iter().map(text).collect()
}

/// The client ids of a list of sessions.
async fn clients(client: &Client, path: &str) -> Vec<String> {
    names(&document(client, path).await, "sessions", "client_id")
}

/// A broker that was seen, with clients that are connected: `changed` is what differs from the usual.
async fn connect(relay: &Relay, service: &str, ids: &[&str], changed: &Value) {
    relay.sees(service, 0, &json!({})).await;
    let event = |(at, id): (usize, &&str)| {
        let place = (service, at as u64 + 1);
        relay.connection(place, "connected", id, changed)
    };
    let events: Vec<Value> = ids.iter().enumerate().map(event).collect();
    for events in events.chunks(1_000) {
        let verdicts = relay.verdicts(events).await;
        assert!(
            verdicts.iter().all(|verdict| verdict == "stored"),
            "{verdicts:?}"
        );
    }
}

/// A list's pages, walked to the end.
async fn walk(client: &Client, path: &str, list: &str, name: &str) -> Vec<String> {
    let (mut all, mut next) = (Vec::new(), path.to_owned());
    loop {
        let page = document(client, &next).await;
        all.extend(names(&page, list, name));
        match page.get("next_page_token") {
            None => return all,
            Some(token) => {
                let token = token.as_str().expect("text");
                let is_url_safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                assert!(token.chars().all(is_url_safe), "{token}");
                next = format!("{path}&page_token={token}");
            }
        }
    }
}
