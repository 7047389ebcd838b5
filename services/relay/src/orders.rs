//! Commands from the cloud: fetched by long poll on our own connection, carried out at most once, reported until the cloud has it.
//!
//! Invariant: a command is on the disk before anybody is paged for it. What was begun and has no report when the relay starts is
//! `unknown`: asking a box again might page a person twice.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use rand::RngExt;
use reqwest::StatusCode;
use rollcall_coap::{Code, Failure, Response};
use rollcall_model::command::{Command, CommandReport, CommandStatus, Commands, Order};
use rollcall_pager::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use crate::hosted::Owned;
use crate::spool::Job;

/// How long the cloud may wait for a command before it answers that there is none.
const WAIT_SECONDS: u64 = 25;
/// Pauses after failures: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Asks the cloud for commands until the process ends.
pub async fn fetch(client: reqwest::Client, url: String, key: SecretString, jobs: SyncSender<Job>) {
    let url = format!(
        "{}/v1/relays/commands?wait={WAIT_SECONDS}",
        url.trim_end_matches('/')
    );
    let mut pause = FIRST_PAUSE;
    loop {
        let (id, secret) = key.expose_secret().split_once(':').unwrap_or_default();
        let answer = client
            .get(&url)
            .basic_auth(id, Some(secret))
            .timeout(Duration::from_secs(WAIT_SECONDS + 15))
            .send()
            .await;
        let commands = match answer {
            Ok(response) if response.status() == StatusCode::OK => read(response).await,
            // The forwarder says what is wrong; here it is only waited for.
            Ok(_) | Err(_) => None,
        };
        let Some(commands) = commands else {
            let share = rand::rng().random_range(0.75..1.25);
            tokio::time::sleep(pause.mul_f64(share)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            continue;
        };
        pause = FIRST_PAUSE;
        for command in commands.commands {
            let jobs = jobs.clone();
            let _ = spawn_blocking(move || jobs.send(Job::Ordered(Box::new(command)))).await;
        }
    }
}

/// The commands of an answer; none where it is no such answer.
async fn read(response: reqwest::Response) -> Option<Commands> {
    serde_json::from_slice(&response.bytes().await.ok()?).ok()
}

/// A command as a transmitter takes it.
pub fn request(order: &Order) -> Owned {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    let number = match order {
        Order::Create {
            number,
            goal,
            label,
            party_size,
        } => {
            set("number", Some(json!(number)));
            set("goal", goal.map(Value::from));
            set("label", label.clone().map(Value::from));
            set("partySize", party_size.map(Value::from));
            None
        }
        Order::Page {
            number,
            page_mode,
            message,
            ..
        } => {
            set("action", Some(json!("page")));
            set("pageMode", page_mode.clone().map(Value::from));
            set("message", message.clone().map(Value::from));
            Some(number)
        }
        Order::Clear { number, .. } => {
            set("action", Some(json!("clear")));
            Some(number)
        }
        Order::Remove { number, .. } => {
            set("action", Some(json!("remove")));
            Some(number)
        }
    };
    let (method, code) = match number {
        Some(_) => (Method::Put, Code::PUT),
        None => (Method::Post, Code::POST),
    };
    Owned {
        method,
        code,
        path: vec!["v1".to_owned(), "sessions".to_owned()],
        query: number
            .map(|number| format!("number={number}"))
            .into_iter()
            .collect(),
        content_format: Some(rollcall_coap::JSON),
        payload: Value::Object(body).to_string().into(),
    }
}

/// The session that a command means, and its pager; none of one that begins a session.
pub fn meant(order: &Order) -> Option<(uuid::Uuid, u16)> {
    match order {
        Order::Create { .. } => None,
        Order::Page {
            session, number, ..
        }
        | Order::Clear { session, number }
        | Order::Remove { session, number } => Some((*session, *number)),
    }
}

/// The report of a command that was not given to the transmitter.
pub fn not_done(command: &Command, status: CommandStatus, detail: &str) -> CommandReport {
    unanswered(command.id, status, detail)
}

/// The report of a command to which a transmitter said nothing.
pub fn unanswered(id: uuid::Uuid, status: CommandStatus, detail: &str) -> CommandReport {
    CommandReport {
        command: id,
        status,
        at: OffsetDateTime::now_utc(),
        code: None,
        answer: None,
        detail: Some(detail.to_owned()),
    }
}

/// The report of what a transmitter answered.
pub fn answered(id: uuid::Uuid, (class, detail): (u8, u8), body: &[u8]) -> CommandReport {
    let is_done = class == 2;
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    let said = answer
        .as_ref()
        .and_then(|answer| answer["error"].as_str())
        .map(str::to_owned);
    CommandReport {
        command: id,
        status: if is_done {
            CommandStatus::Done
        } else {
            CommandStatus::Refused
        },
        at: OffsetDateTime::now_utc(),
        code: Some(format!("{class}.{detail:02}")),
        detail: (!is_done).then(|| said.unwrap_or_else(|| "the transmitter would not".to_owned())),
        answer,
    }
}

/// The report of what a box answered, or did not.
pub fn outcome(id: uuid::Uuid, outcome: &Result<Response, Failure>) -> CommandReport {
    match outcome {
        Ok(response) => answered(
            id,
            (response.code.class(), response.code.detail()),
            &response.payload,
        ),
        Err(failure) => {
            let status = if failure.is_undone() {
                CommandStatus::Refused
            } else {
                CommandStatus::Unknown
            };
            unanswered(id, status, &failure.to_string())
        }
    }
}

/// Whether a command came too late.
pub fn is_expired(command: &Command, now: OffsetDateTime) -> bool {
    now >= command.expires
}
