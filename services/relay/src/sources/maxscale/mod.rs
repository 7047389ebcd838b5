//! MaxScale, by its REST API, from version 2.2 on: sessions and services as it names them (proxy contract, 1 and 4).
//!
//! Every version ignores the parameters that it does not know, so all are asked alike: what is paged comes in pages.

mod read;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Url;
use serde::Deserialize;
use time::{OffsetDateTime, UtcOffset};

use self::read::{About, Listing, One, Services, Session};
use super::http::{self, Http, Login, Refused, Settings};
use super::{Snapshot, secret, zone};

/// What the newest versions tell of a session; older ones tell less.
pub const KNOWS: &[&str] = &[
    "user",
    "remote",
    "port",
    "label",
    "protocol",
    "database",
    "cipher",
    "connected_at",
    "idle",
    "backends",
];

/// What is asked of each session; versions before 2.5 tell everything.
const FIELDS: &str = "state,user,remote,port,connected,idle,seconds_alive,default_database,connections,client/cipher,\
                      client/connection_attributes,services";
/// Bytes of one answer: versions before 6 tell all sessions in one.
const MAX_BODY_BYTES: usize = 256 << 20;
/// Sessions of one MaxScale, at most.
const MAX_SESSIONS: usize = 500_000;
/// Sessions that are asked for one by one, since they were not in the pages any more.
const MAX_MISSED: usize = 200;

/// A MaxScale that the relay watches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is called here.
    pub name: String,
    /// `http://127.0.0.1:8989`.
    pub url: String,
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// An environment variable that holds the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// Instead of user and password: a token of `/v1/auth`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub token_env: Option<String>,
    /// Authorities beside the usual ones: PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// In front of services' names; they are as MaxScale's where absent.
    #[serde(default)]
    pub prefix: String,
    /// The zone of times before 23.02, which come without one: `+01:00`. Unknown where absent.
    #[serde(default)]
    pub utc_offset: Option<String>,
    /// Sessions of one answer, from version 6 on.
    #[serde(default = "page_size")]
    pub page_size: usize,
    #[serde(default = "poll_seconds")]
    pub poll_seconds: u64,
    /// For one request.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u64,
}

fn page_size() -> usize {
    10_000
}

fn poll_seconds() -> u64 {
    10
}

fn timeout_seconds() -> u64 {
    30
}

impl Config {
    /// Says what cannot work before anything is started.
    pub fn check(&self) -> Result<()> {
        http::check_url(&self.url)?;
        ensure!(self.page_size > 0, "`page_size` is at least 1");
        let has_password = self.password_file.is_some() || self.password_env.is_some();
        let has_token = self.token_file.is_some() || self.token_env.is_some();
        ensure!(
            self.user.is_some() == has_password && !(has_password && has_token),
            "give `user` and `password_file`, or `token_file` alone"
        );
        self.utc_offset().map(drop)
    }

    fn utc_offset(&self) -> Result<Option<UtcOffset>> {
        zone::configured(self.utc_offset.as_deref())
    }

    fn login(&self) -> Result<Login> {
        let password = secret::read(
            "password",
            self.password_file.as_deref(),
            self.password_env.as_deref(),
        )?;
        let token = secret::read(
            "token",
            self.token_file.as_deref(),
            self.token_env.as_deref(),
        )?;
        Ok(match (self.user.clone(), password, token) {
            (Some(user), Some(password), _) => Login::Basic { user, password },
            (_, _, Some(token)) => Login::Bearer(token),
            _ => Login::Nobody,
        })
    }
}

/// A MaxScale, asked again and again.
pub struct Maxscale {
    http: Http,
    prefix: String,
    utc_offset: Option<UtcOffset>,
    page_size: usize,
    /// The sessions of the last picture.
    known: HashSet<String>,
}

impl Maxscale {
    pub fn new(config: &Config) -> Result<Self> {
        config.check()?;
        Ok(Self {
            http: Http::new(Settings {
                url: &config.url,
                login: config.login()?,
                ca_file: config.ca_file.as_deref(),
                timeout: Duration::from_secs(config.timeout_seconds),
                max_body_bytes: MAX_BODY_BYTES,
            })?,
            prefix: config.prefix.clone(),
            utc_offset: config.utc_offset()?,
            page_size: config.page_size,
            known: HashSet::new(),
        })
    }

    /// Everything that MaxScale tells, or nothing.
    pub async fn snapshot(&mut self) -> Result<Snapshot> {
        let (version, services, sessions) = self.take().await?;
        self.known = sessions.keys().cloned().collect();
        let now = OffsetDateTime::now_utc();
        let mut picture = read::Picture::new(services, self.utc_offset, now);
        for session in sessions.into_values() {
            picture.add(session);
        }
        Ok(picture.snapshot(&self.prefix, version))
    }

    async fn take(&self) -> Result<(Option<String>, Services, BTreeMap<String, Session>)> {
        self.http.begin();
        let version = self.version().await?;
        let services = self.http.url(&["v1", "services"], &[("pretty", "false")])?;
        let services = self.http.get(&services).await?;
        let mut found = BTreeMap::new();
        let is_paged = self.read_pages(&mut found).await?;
        if is_paged {
            self.find_missed(&mut found).await?;
        }
        Ok((version, services, found))
    }

    async fn version(&self) -> Result<Option<String>> {
        let url = self.http.url(&["v1", "maxscale"], &[("pretty", "false")])?;
        match self.http.get::<One<About>>(&url).await {
            Ok(about) => Ok(about.data.attributes.version),
            // Everything else is told without it.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all sessions, each once; answers whether they came in several pages.
    async fn read_pages(&self, found: &mut BTreeMap<String, Session>) -> Result<bool> {
        let size = self.page_size;
        for number in 0.. {
            let url = self.page(number)?;
            let page: Listing = self.http.get(&url).await?;
            let rows = page.data.len();
            for session in page.data {
                found.insert(session.id.clone(), session);
            }
            let Some(total) = page.meta.and_then(|meta| meta.total) else {
                ensure!(
                    number == 0,
                    "{url} does not tell how many sessions there are, as the page before it did"
                );
                return Ok(false);
            };
            ensure!(
                total <= MAX_SESSIONS,
                "{url} tells of {total} sessions; no more than {MAX_SESSIONS} are read"
            );
            let before = number * size;
            let expected = total.saturating_sub(before).min(size);
            ensure!(
                rows == expected,
                "{url} has {rows} sessions where there should be {expected}: of {total}, from the {before}th on"
            );
            if before + size >= total {
                return Ok(number > 0);
            }
        }
        Ok(true)
    }

    fn page(&self, number: usize) -> Result<Url> {
        let (size, number) = (self.page_size.to_string(), number.to_string());
        let query = [
            ("page[size]", size.as_str()),
            ("page[number]", &number),
            ("fields[sessions]", FIELDS),
            ("pretty", "false"),
        ];
        self.http.url(&["v1", "sessions"], &query)
    }

    /// While pages are read sessions end, and those behind move forward, perhaps past the place that is read next. So who
    /// was there and seems gone is asked for, one by one, or where they are many, after all are read once more.
    async fn find_missed(&self, found: &mut BTreeMap<String, Session>) -> Result<()> {
        let missed = |found: &BTreeMap<String, Session>| -> Vec<String> {
            let missed = self.known.iter().filter(|id| !found.contains_key(*id));
            missed.cloned().collect()
        };
        if missed(found).len() > MAX_MISSED {
            self.read_pages(found).await?;
        }
        // Of more, those that both readings lack are gone.
        let asked = missed(found);
        if asked.len() > MAX_MISSED {
            return Ok(());
        }
        for id in asked {
            let url = self
                .http
                .url(&["v1", "sessions", &id], &[("pretty", "false")])?;
            match self.http.get::<One<Session>>(&url).await {
                Ok(session) => {
                    found.insert(id, session.data);
                }
                Err(error) if status(&error) == Some(404) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The status with which the server refused.
fn status(error: &anyhow::Error) -> Option<u16> {
    error
        .downcast_ref::<Refused>()
        .map(|refused| refused.status)
}
