//! `/v1/events`: everything that happens, in commit order, by page, by long poll and as a stream.

mod follow;
mod order;
mod roll;
mod stream;

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Method, Response};
use rollcall_tests::{Client, TestApp, send};
use serde_json::{Value, json};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates a form.
async fn create(app: &TestApp, uuid: &str) {
    let session = json!({ "session": { "uuid": uuid, "unit_id": "x", "data": { "a": "1" } } });
    app.admin.post(&app.sessions(), &session).await.result();
}

/// Waits until the feed shows what was committed before: transactions of other tests in the same cluster hold it back.
pub async fn settle(app: &TestApp) {
    let settled = async {
        let number: String = sqlx::query_scalar("select pg_current_xact_id()::text")
            .fetch_one(&app.superuser)
            .await
            .expect("a number");
        loop {
            let is_over: bool = sqlx::query_scalar(
                "select pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8",
            )
            .bind(&number)
            .fetch_one(&app.superuser)
            .await
            .expect("a snapshot");
            if is_over {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled)
        .await
        .expect("every transaction ends");
}

/// The events at a path, and the path of the next page.
async fn page(client: &Client, path: &str) -> (Vec<Value>, String) {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let document = answer.json();
    let events = document["data"].as_array().expect("an array").clone();
    (events, path_of(&document["links"]["next"]))
}

/// The path and query of a link.
fn path_of(link: &Value) -> String {
    let url: reqwest::Url = link.as_str().expect("a link").parse().expect("a URL");
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

/// What an event says happened: type and the session's name at its source.
fn told(event: &Value) -> (String, String) {
    let text = |pointer: &str| {
        event
            .pointer(pointer)
            .and_then(Value::as_str)
            .expect(pointer)
            .to_owned()
    };
    (
        text("/attributes/event_type"),
        text("/attributes/session/attributes/source_id"),
    )
}

/// A stream of the feed.
struct Stream {
    response: Response,
    bytes: Vec<u8>,
    blocks: VecDeque<String>,
}

/// What comes out of a stream.
#[derive(Debug)]
enum Block {
    Event {
        id: String,
        data: Value,
    },
    /// A comment, or a field alone; with the id that it carries.
    Other(String),
}

impl Stream {
    async fn open(client: &Client, path: &str, last: Option<&str>) -> Self {
        let mut request = client
            .request(Method::GET, path)
            .header("accept", "text/event-stream");
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            bytes: Vec::new(),
            blocks: VecDeque::new(),
        }
    }

    /// The next block; `None` at the stream's end.
    async fn next(&mut self) -> Option<Block> {
        tokio::time::timeout(PATIENCE, self.read())
            .await
            .expect("something in time")
    }

    async fn read(&mut self) -> Option<Block> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                return Some(parse(&block));
            }
            // A stream that is cut ends too.
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.bytes.extend_from_slice(&chunk);
            while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
                let rest = self.bytes.split_off(end + 2);
                let block = std::mem::replace(&mut self.bytes, rest);
                self.blocks
                    .push_back(String::from_utf8(block).expect("UTF-8"));
            }
        }
    }

    /// The next event and its id.
    async fn event(&mut self) -> (String, Value) {
        loop {
            if let Block::Event { id, data } = self.next().await.expect("an event") {
                return (id, data);
            }
        }
    }
}

fn parse(block: &str) -> Block {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    match (field("id:"), field("data:")) {
        (Some(id), Some(data)) => Block::Event {
            id: id.to_owned(),
            data: serde_json::from_str(data).expect("JSON"),
        },
        _ => Block::Other(block.to_owned()),
    }
}

/// An answer that refuses, without what differs from request to request.
async fn refusal(client: &Client, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = client.request(Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(request).await;
    let mut json = answer.json();
    if let Some(error) = json.pointer_mut("/errors/0").and_then(Value::as_object_mut) {
        error.remove("id");
    }
    (answer.status.as_u16(), json)
}
