//! `rollcall-relay status`: what waits, since when, and when the cloud was last heard of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::Config;
use crate::forward::Contact;
use crate::mirrored::Health;
use crate::spool::{Spool, count, oldest, path_in};

/// How a relay is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    pub is_running: bool,
    /// Of the running relay.
    pub version: Option<String>,
    /// Events that wait.
    pub events: u64,
    pub bytes: u64,
    /// When the oldest of them happened, RFC 3339.
    pub oldest: Option<String>,
    /// Events that the cloud refused.
    pub set_aside: u64,
    /// Events that wait, by service.
    pub services: BTreeMap<String, u64>,
    /// Mirrored boxes, of the running relay.
    #[serde(default)]
    pub boxes: BTreeMap<String, Health>,
    #[serde(flatten)]
    pub contact: Contact,
}

/// Asks the running relay or, where none runs, the spool.
pub async fn read(config: &Config) -> Result<Status> {
    match ask(config).await {
        Ok(status) => Ok(status),
        Err(_) => from_spool(config),
    }
}

async fn ask(config: &Config) -> Result<Status> {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(3))
        .no_proxy()
        .build()?;
    let response = client
        .get(format!("http://{}/status", config.monitor.listen))
        .send()
        .await?
        .error_for_status()?;
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

fn from_spool(config: &Config) -> Result<Status> {
    let path = path_in(&config.data_dir);
    if !path.exists() {
        anyhow::bail!(
            "no relay runs on {}, and there is no spool in {}",
            config.monitor.listen,
            config.data_dir.display()
        );
    }
    let connection = Spool::open_to_read(&path)?;
    let waiting = count(&connection).context("read the spool")?;
    let last_contact = connection
        .query_row("select at from contact", [], |row| row.get(0))
        .optional()?;
    Ok(Status {
        is_running: false,
        version: None,
        events: waiting.values().map(|(events, _)| events).sum(),
        bytes: waiting.values().map(|(_, bytes)| bytes).sum(),
        oldest: oldest(&connection)?,
        set_aside: connection.query_row("select set_aside from spool", [], |row| row.get(0))?,
        services: waiting
            .into_iter()
            .map(|(name, (events, _))| (name, events))
            .collect(),
        boxes: BTreeMap::new(),
        contact: Contact {
            last_contact,
            ..Contact::default()
        },
    })
}

impl Status {
    /// In words, for `now`.
    pub fn in_words(&self, now: OffsetDateTime) -> String {
        let mut text = String::new();
        let running = match &self.version {
            Some(version) => format!("running, version {version}"),
            None => "not running".to_owned(),
        };
        let _ = writeln!(text, "relay         {running}");
        let waiting = match (self.events, &self.oldest) {
            (0, _) => "nothing waits".to_owned(),
            (events, oldest) => {
                let oldest = oldest
                    .as_deref()
                    .map(|at| format!(", the oldest since {}", ago(at, now)));
                format!(
                    "{events} events wait ({} KiB){}",
                    self.bytes.div_ceil(1_024),
                    oldest.unwrap_or_default()
                )
            }
        };
        let _ = writeln!(text, "spool         {waiting}");
        for (name, events) in self.services.iter().filter(|(_, events)| **events > 0) {
            let _ = writeln!(text, "              {events} of {name}");
        }
        if self.set_aside > 0 {
            let _ = writeln!(
                text,
                "set aside     {} events that the cloud refused",
                self.set_aside
            );
        }
        for (name, health) in &self.boxes {
            let _ = writeln!(text, "box           {name} {}", health.in_words(now));
        }
        let contact = match &self.contact.last_contact {
            Some(at) => ago(at, now),
            None => "never".to_owned(),
        };
        let _ = writeln!(text, "last contact  {contact}");
        if let Some(trouble) = &self.contact.trouble {
            let _ = writeln!(text, "trouble       {trouble}");
        }
        text
    }
}

/// `2026-11-21T09:00:00Z (5 min ago)`
pub(crate) fn ago(at: &str, now: OffsetDateTime) -> String {
    let Ok(then) = OffsetDateTime::parse(at, &Rfc3339) else {
        return at.to_owned();
    };
    let seconds = (now - then).whole_seconds().max(0);
    let distance = match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    };
    format!("{at} ({distance} ago)")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn it_reads_as_a_person_would_say_it() {
        let away = Health {
            address: "coap://10.0.1.32:5683".to_owned(),
            is_followed: false,
            last_heard: Some(datetime!(2026-11-21 08:01:00 UTC)),
            trouble: Some("no answer".to_owned()),
        };
        let status = Status {
            is_running: false,
            version: None,
            events: 3,
            bytes: 1_500,
            oldest: Some("2026-11-21T08:00:00Z".to_owned()),
            set_aside: 1,
            services: BTreeMap::from([("desk".to_owned(), 3)]),
            boxes: BTreeMap::from([("terrace".to_owned(), away)]),
            contact: Contact::default(),
        };
        let text = status.in_words(datetime!(2026-11-21 08:05:00 UTC));
        assert!(
            text.contains(
                "3 events wait (2 KiB), the oldest since 2026-11-21T08:00:00Z (5 min ago)"
            ),
            "{text}"
        );
        assert!(text.contains("last contact  never"), "{text}");
        let of_box = "box           terrace at coap://10.0.1.32:5683: no answer; last heard of 2026-11-21T08:01:00Z (4 min ago)\n";
        assert!(text.contains(of_box), "{text}");
    }
}
