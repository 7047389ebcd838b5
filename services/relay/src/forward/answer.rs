//! What the cloud answers, and what that means.

use std::time::Duration;

use reqwest::StatusCode;
use rollcall_model::ingest::{Verdict, Verdicts};

use super::LONGEST_PAUSE;

/// What the cloud said to a batch.
pub enum Answer {
    Verdicts(Vec<Verdict>),
    /// It cannot read or take the batch as it is.
    Refused {
        code: String,
        detail: String,
    },
    /// It failed over the batch.
    Failed(String),
    /// It is away, busy, or does not let us in: nothing is said of the batch.
    Away {
        why: String,
        wait: Option<Duration>,
        is_locked_out: bool,
    },
}

/// Reads the answer to a batch.
pub(super) async fn read(response: reqwest::Response) -> Answer {
    let status = response.status();
    let wait = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok());
    let wait = wait
        .and_then(|value| value.parse().ok())
        .map(Duration::from_secs);
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => {
            return Answer::Away {
                why: format!("the cloud's answer broke off: {}", causes(&error)),
                wait,
                is_locked_out: false,
            };
        }
    };
    Answer::of(status, wait, &body)
}

impl Answer {
    /// What the cloud's answer says.
    pub fn of(status: StatusCode, wait: Option<Duration>, body: &[u8]) -> Self {
        if status.is_success() {
            return match serde_json::from_slice::<Verdicts>(body) {
                Ok(verdicts) => Self::Verdicts(verdicts.verdicts),
                Err(error) => Self::Away {
                    why: format!("what answers is not Rollcall ({error}): check cloud.url"),
                    wait: Some(LONGEST_PAUSE),
                    is_locked_out: false,
                },
            };
        }
        let (code, detail) = first_error(body);
        match status.as_u16() {
            401 | 403 => Self::Away {
                why: format!("the key is not accepted ({status}): {detail}"),
                wait,
                is_locked_out: true,
            },
            400 | 413 | 415 | 422 => Self::Refused { code, detail },
            500 => Self::Failed(format!("the cloud failed ({status}): {detail}")),
            _ => Self::Away {
                why: format!("the cloud answered {status}: {detail}"),
                wait,
                is_locked_out: false,
            },
        }
    }
}

/// The first error of a JSON:API error document.
fn first_error(body: &[u8]) -> (String, String) {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| {
        document["errors"][0][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (code, detail) = (text("code"), text("detail"));
    if code.is_empty() {
        return ("unknown".to_owned(), "it does not say why".to_owned());
    }
    (code, detail)
}

/// An error and its causes, without the address, which may hold a password.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if text.is_empty() && error.is_timeout() {
        return "it took too long".to_owned();
    }
    text
}
