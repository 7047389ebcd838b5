//! Sends what waits in the spool to the cloud: in order per service, again until there is an answer, and past what the
//! cloud will never take.

mod answer;
mod body;

pub use answer::Answer;
pub use body::Body;

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_model::ingest::{PagerStatistics, Verdict, VerdictStatus};
use rollcall_pager::Transmitter;
use rollcall_pager::mirror::Mirror;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_blocking;

use crate::forward::answer::causes;
use crate::metrics::Metrics;
use crate::spool::{Batch, Delivery, Fate, Job, Lane, Queue};

/// How often a relay that has nothing to send says that it is there.
const GREET_EVERY: Duration = Duration::from_secs(30);
/// Pauses after failures: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long the cloud may take over a batch.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same events fail the cloud itself so often, and they are taken for the reason.
const MAX_INTERNAL_ERRORS: u32 = 3;

/// How it goes with the cloud, for people and machines.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Contact {
    /// When the cloud last took something, RFC 3339.
    pub last_contact: Option<String>,
    /// What went wrong since, in words.
    pub trouble: Option<String>,
    /// The cloud does not know the relay's key, or no longer lets it in.
    pub is_locked_out: bool,
}

/// A service that this relay speaks for.
pub struct Reported {
    pub name: String,
    pub source: Source,
}

/// Where a service's statistics are.
pub enum Source {
    Hosted(Arc<RwLock<Arc<Transmitter>>>),
    Mirrored(Arc<RwLock<Arc<Mirror>>>),
}

pub struct Forwarder {
    pub url: String,
    pub key: SecretString,
    pub client: reqwest::Client,
    pub queue: Arc<Queue>,
    pub jobs: SyncSender<Job>,
    pub news: Arc<Notify>,
    pub services: Vec<Reported>,
    pub contact: Arc<Mutex<Contact>>,
    pub metrics: Arc<Metrics>,
    /// Statistics that the cloud has, by service.
    pub told: Mutex<HashMap<String, PagerStatistics>>,
}

/// One lane's memory.
pub struct Course {
    pub lane: Lane,
    pause: Duration,
    /// Events of the next batch: halved to find what the cloud cannot take.
    pub most: usize,
    internal_errors: u32,
    rng: StdRng,
}

impl Forwarder {
    /// The client for all requests.
    pub fn client() -> Result<reqwest::Client> {
        reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(90))
            .user_agent(concat!("rollcall-relay/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("set up HTTPS")
    }

    /// Sends a lane's events until the process ends.
    pub async fn run(self: Arc<Self>, lane: Lane) {
        let mut course = Course::new(lane, rand::random());
        let mut greeted = tokio::time::Instant::now() - GREET_EVERY;
        loop {
            // Before looking, so that what comes meanwhile is not missed.
            let news = self.news.notified();
            let this = self.clone();
            let most = course.most;
            let look = move || {
                let has_reports = !this.queue.reports()?.is_empty();
                this.queue
                    .take(lane, most)
                    .map(|batch| (batch, has_reports))
            };
            let (batch, has_reports) = match spawn_blocking(look).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    tracing::error!(error = format!("{error:#}"), "the spool could not be read");
                    tokio::time::sleep(LONGEST_PAUSE).await;
                    continue;
                }
                Err(_) => return,
            };
            let greets = lane == Lane::Live && (greeted.elapsed() >= GREET_EVERY || has_reports);
            if batch.events.is_empty() && !greets {
                let _ = tokio::time::timeout(Duration::from_secs(1), news).await;
                continue;
            }
            greeted = tokio::time::Instant::now();
            let pause = self.deliver(&mut course, batch).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a batch and does what the answer asks for; says how long to wait then.
    async fn deliver(self: &Arc<Self>, course: &mut Course, batch: Batch) -> Duration {
        let mut answer = self.send(&batch).await;
        if batch.events.len() == 1
            && let Answer::Refused { detail: why, .. } | Answer::Failed(why) = &answer
            && !matches!(self.send(&Batch::default()).await, Answer::Verdicts(_))
        {
            // It takes nothing at all: that is no fault of this event.
            answer = Answer::Away {
                why: why.clone(),
                wait: None,
                is_locked_out: false,
            };
        }
        let (fates, pause) = self.judge(course, &batch, answer);
        self.settle(fates).await;
        self.queue.release(&batch);
        pause
    }

    /// What an answer means for the events of its batch, and for the next one.
    pub fn judge(
        &self,
        course: &mut Course,
        batch: &Batch,
        answer: Answer,
    ) -> (Vec<(i64, Fate)>, Duration) {
        let size = batch.events.len();
        match answer {
            Answer::Verdicts(verdicts) => {
                self.heard_from();
                course.internal_errors = 0;
                course.most = course.most.saturating_mul(2);
                let fates = fates(batch, &verdicts);
                // An answer without a verdict on anything: do not spin.
                let is_vain = fates.is_empty() && size > 0;
                if is_vain {
                    (fates, course.back_off(None))
                } else {
                    course.pause = FIRST_PAUSE;
                    (fates, Duration::ZERO)
                }
            }
            Answer::Refused { code, detail } if size == 1 => {
                self.heard_from();
                tracing::warn!(%code, %detail, "the cloud cannot take an event; it is set aside");
                course.most = 2;
                (vec![refused(batch, code, detail)], Duration::ZERO)
            }
            Answer::Refused { code, detail } if size > 1 => {
                self.heard_from();
                tracing::warn!(%code, %detail, events = size, "the cloud cannot take a batch; looking for the event");
                course.most = size.div_ceil(2);
                (Vec::new(), Duration::ZERO)
            }
            Answer::Failed(why)
                if size > 0 && course.internal_errors + 1 >= MAX_INTERNAL_ERRORS =>
            {
                course.internal_errors = 0;
                if size == 1 {
                    tracing::warn!(%why, "the cloud fails over an event; it is set aside");
                    course.most = 2;
                    (
                        vec![refused(batch, "cloud_failed".to_owned(), why)],
                        Duration::ZERO,
                    )
                } else {
                    course.most = size.div_ceil(2);
                    (Vec::new(), Duration::ZERO)
                }
            }
            Answer::Failed(why) => {
                course.internal_errors += 1;
                self.trouble(&why, false);
                (Vec::new(), course.back_off(None))
            }
            Answer::Refused { code, detail } => {
                self.trouble(&format!("{detail} ({code})"), false);
                (Vec::new(), course.back_off(None))
            }
            Answer::Away {
                why,
                wait,
                is_locked_out,
            } => {
                self.trouble(&why, is_locked_out);
                let wait = if is_locked_out {
                    Some(LONGEST_PAUSE)
                } else {
                    wait
                };
                (Vec::new(), course.back_off(wait))
            }
        }
    }

    /// Waits until the spool knows.
    async fn settle(&self, fates: Vec<(i64, Fate)>) {
        if fates.is_empty() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let delivery = Delivery {
            fates,
            at: OffsetDateTime::now_utc(),
            done,
        };
        let jobs = self.jobs.clone();
        // The writer may have a lot to do. Where it cannot write, what was delivered is sent again, and recognized.
        let _ = spawn_blocking(move || jobs.send(Job::Delivered(delivery))).await;
        let _ = is_done.await;
    }

    async fn send(self: &Arc<Self>, batch: &Batch) -> Answer {
        let (this, events) = (self.clone(), batch.clone());
        // Reads the spool, and compresses: not on a thread that answers devices.
        let body = match spawn_blocking(move || this.body(&events)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Answer::Failed(format!("{error:#}")),
            Err(error) => return Answer::Failed(format!("writing a batch failed: {error}")),
        };
        let (id, secret) = self.key.expose_secret().split_once(':').unwrap_or_default();
        let mut request = self
            .client
            .post(format!("{}/v1/ingest", self.url.trim_end_matches('/')))
            .basic_auth(id, Some(secret))
            .header("content-type", "application/json");
        if body.is_packed {
            request = request.header("content-encoding", "zstd");
        }
        let request = request.body(body.bytes);
        let answer = match request.send().await {
            Ok(response) => answer::read(response).await,
            Err(error) => Answer::Away {
                why: format!("the cloud cannot be reached: {}", causes(&error)),
                wait: None,
                is_locked_out: false,
            },
        };
        if matches!(answer, Answer::Verdicts(_)) {
            self.told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(body.told);
            if !body.reported.is_empty() {
                let jobs = self.jobs.clone();
                let _ = spawn_blocking(move || jobs.send(Job::Told(body.reported))).await;
            }
            self.metrics.batches_total.inc();
            self.metrics
                .events_forwarded_total
                .inc_by(batch.events.len() as u64);
        }
        answer
    }

    fn heard_from(&self) {
        let mut contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        if contact.trouble.is_some() {
            tracing::info!("the cloud answers again");
        }
        *contact = Contact {
            last_contact: OffsetDateTime::now_utc().format(&Rfc3339).ok(),
            ..Contact::default()
        };
        self.metrics
            .last_contact_timestamp_seconds
            .set(seconds(OffsetDateTime::now_utc()));
    }

    /// Says what is wrong once, not at every try.
    fn trouble(&self, why: &str, is_locked_out: bool) {
        let mut contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        if contact.trouble.as_deref() != Some(why) {
            if is_locked_out {
                tracing::error!(
                    reason = why,
                    "forwarding stops: the cloud does not let this relay in; events stay in the spool"
                );
            } else {
                tracing::warn!(reason = why, "events wait in the spool");
            }
        }
        self.metrics.failures_total.inc();
        contact.trouble = Some(why.to_owned());
        contact.is_locked_out = is_locked_out;
    }
}

impl Course {
    /// A lane that was not used yet. `seed` must be unpredictable, but in tests.
    pub fn new(lane: Lane, seed: [u8; 32]) -> Self {
        Self {
            lane,
            pause: FIRST_PAUSE,
            most: usize::MAX,
            internal_errors: 0,
            rng: StdRng::from_seed(seed),
        }
    }

    /// The next pause: longer each time, and never that of all relays at once.
    fn back_off(&mut self, wait: Option<Duration>) -> Duration {
        let pause = wait.unwrap_or(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tracing::debug!(lane = ?self.lane, pause_ms = pause.as_millis(), "waiting before the next try");
        pause.mul_f64(self.rng.random_range(0.75..1.25))
    }
}

fn fates(batch: &Batch, verdicts: &[Verdict]) -> Vec<(i64, Fate)> {
    let fate = |verdict: &Verdict| match verdict.status {
        VerdictStatus::Stored | VerdictStatus::Repeated => Fate::Delivered,
        VerdictStatus::Refused => {
            let code = verdict.code.clone().unwrap_or_default();
            let detail = verdict.detail.clone().unwrap_or_default();
            tracing::warn!(event = %verdict.id, %code, %detail, "the cloud refuses an event; it is set aside");
            Fate::Refused {
                code,
                detail,
                leave_gap: false,
            }
        }
    };
    let pairs = batch.events.iter().zip(verdicts);
    pairs
        .map(|(event, verdict)| (event.position, fate(verdict)))
        .collect()
}

fn refused(batch: &Batch, code: String, detail: String) -> (i64, Fate) {
    // A gap record that is refused itself leaves none.
    let is_gap = batch.events[0].body.contains("\"type\":\"gap\"");
    let fate = Fate::Refused {
        code,
        detail,
        leave_gap: !is_gap,
    };
    (batch.events[0].position, fate)
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
fn seconds(at: OffsetDateTime) -> f64 {
    at.unix_timestamp() as f64
}
