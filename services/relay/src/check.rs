//! `rollcall-relay check`: asks every source, and the cloud, once, and says in words what came of it.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use rollcall_model::ingest::{Batch, RelayReport, SpoolReport};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::{Cloud, Config};
use crate::forward::{Answer, Forwarder, read_answer};
use crate::sources::{SourceConfig, poll};
use crate::status;

/// What came of it.
pub struct Checked {
    /// For people.
    pub words: String,
    /// Everything could be reached.
    pub is_fine: bool,
}

/// Asks everything that is configured.
pub async fn check(config: &Config) -> Checked {
    let mut checked = Checked {
        words: String::new(),
        is_fine: true,
    };
    for source in config.sources() {
        let about = source.about();
        let title = format!("{}: {} at {}", about.name, about.what, about.address);
        checked.add(&title, look_at(source).await);
    }
    match &config.cloud {
        Some(cloud) => checked.add(&format!("cloud: {}", cloud.url), greet(config, cloud).await),
        None => checked.add(
            "cloud",
            Ok(vec![
                "none is configured: events stay in the spool".to_owned(),
            ]),
        ),
    }
    if config.sources().is_empty() {
        let words = "no broker and no proxy is configured".to_owned();
        checked.add("sources", Ok(vec![words]));
    }
    checked
}

impl Checked {
    fn add(&mut self, title: &str, outcome: Result<Vec<String>>) {
        self.is_fine &= outcome.is_ok();
        let (verdict, words) = match outcome {
            Ok(words) => ("ok", words),
            Err(error) => ("FAILED", vec![format!("{error:#}")]),
        };
        let _ = writeln!(self.words, "{verdict:<8}{title}");
        for line in words {
            // A server's words are in it: a terminal is not to obey them.
            let line = line.replace(char::is_control, "\u{fffd}");
            let _ = writeln!(self.words, "        {line}");
        }
    }
}

async fn look_at(source: SourceConfig<'_>) -> Result<Vec<String>> {
    let mut open = source.open()?;
    poll::in_time(source.times().1, open.check_words()).await
}

/// Says to the cloud that the relay is there, which tells whether its key is good.
async fn greet(config: &Config, cloud: &Cloud) -> Result<Vec<String>> {
    let key = cloud.key()?;
    // As it is: what waits is not to seem gone.
    let spool = status::read(config).await.ok();
    let waiting = spool.as_ref().map_or(0, |status| status.events);
    let report = SpoolReport {
        events: waiting,
        bytes: spool.as_ref().map_or(0, |status| status.bytes),
        oldest: (spool.as_ref())
            .and_then(|status| OffsetDateTime::parse(status.oldest.as_deref()?, &Rfc3339).ok()),
        set_aside: spool.as_ref().map_or(0, |status| status.set_aside),
    };
    let batch = Batch {
        relay: RelayReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spool: report,
        },
        services: Vec::new(),
        events: Vec::new(),
        reports: Vec::new(),
    };
    let body = serde_json::to_vec(&batch).context("write a batch")?;
    let (id, secret) = key
        .expose_secret()
        .split_once(':')
        .context("the key is no key: it reads `id:secret`")?;
    let request = Forwarder::client()?
        .post(format!("{}/v1/ingest", cloud.url.trim_end_matches('/')))
        .basic_auth(id, Some(secret))
        .header("content-type", "application/json")
        .body(body);
    match read_answer(request.send().await).await {
        Answer::Verdicts(_) => Ok(vec![format!(
            "it takes the relay's key; {waiting} events wait here"
        )]),
        Answer::Away { why, .. } | Answer::Failed(why) => bail!(why),
        Answer::Refused { code, detail } => bail!("{detail} ({code})"),
    }
}
