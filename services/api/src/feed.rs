//! The live end of the feed: one look at Postgres serves all readers of an organization in this process.
//!
//! Invariant: a hub has every event between the place that it began at and the one that it has read to, or says that it
//! no longer has. It is a cache: a reader that it does not serve reads the store, and misses nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use rollcall_model::OrgId;
use rollcall_store::events::{self, Event, Position};
use rollcall_store::{Db, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, timeout_at};

/// Between two looks, where nothing tells that there is something.
const PAUSE: Duration = Duration::from_millis(100);
/// After a commit of our own that was not to be seen yet, as an older transaction was open.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
/// After a failure.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Events of one look.
const LOOK: (u32, u32) = (256, 4 << 20);
/// What a hub keeps: so many events, of about so many bytes.
const KEPT: usize = 1_024;
const KEPT_BYTES: usize = 8 << 20;

/// All hubs of a process.
pub struct Feed {
    db: Db,
    hubs: Mutex<HashMap<OrgId, Weak<Hub>>>,
    closing: watch::Sender<bool>,
    readers: Arc<Semaphore>,
}

/// The live end of one organization's feed.
pub struct Hub {
    org: OrgId,
    tail: Mutex<Tail>,
    /// Changes when there are new events.
    news: watch::Sender<()>,
}

/// The newest events.
#[derive(Default)]
struct Tail {
    /// Nothing yet: the first look is still to come.
    known: Option<Known>,
    events: VecDeque<Arc<Live>>,
    bytes: usize,
}

/// All events after `since` up to `read_to` are in the tail.
#[derive(Clone, Copy)]
struct Known {
    since: Position,
    read_to: Position,
}

/// A new event, and what it looks like, made once for all who see it alike.
pub struct Live {
    pub event: Event,
    shown: OnceLock<(String, Bytes)>,
}

impl Feed {
    /// A feed for at most so many readers at once.
    pub fn new(db: Db, readers: usize) -> Self {
        Self {
            db,
            hubs: Mutex::default(),
            closing: watch::Sender::new(false),
            readers: Arc::new(Semaphore::new(readers)),
        }
    }

    /// A place among the readers, while it is held; none where all are taken.
    pub fn reader(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.readers).try_acquire_owned().ok()
    }

    /// Tells readers to come back later, so that the process can end.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Changes to `true` once readers are to end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// The live end of an organization's feed, which lives as long as somebody holds it.
    pub fn hub(&self, org: OrgId) -> Arc<Hub> {
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(&org).and_then(Weak::upgrade) {
            return hub;
        }
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let hub = Arc::new(Hub {
            org,
            tail: Mutex::default(),
            news: watch::Sender::new(()),
        });
        hubs.insert(org, Arc::downgrade(&hub));
        tokio::spawn(look(
            self.db.clone(),
            self.db.commits(),
            Arc::downgrade(&hub),
        ));
        hub
    }
}

impl Hub {
    /// Tells of new events from now on.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// At most `limit` events after a place, and up to where that is all there is; `None` where the hub does not go back
    /// so far.
    pub fn after(&self, place: Position, limit: usize) -> Option<(Vec<Arc<Live>>, Position)> {
        let tail = self.tail();
        let known = tail.known.filter(|known| known.since <= place)?;
        let first = tail
            .events
            .partition_point(|live| live.event.position <= place);
        let events: Vec<Arc<Live>> = tail
            .events
            .iter()
            .skip(first)
            .take(limit)
            .cloned()
            .collect();
        let read_to = match events.last() {
            Some(last) if first + events.len() < tail.events.len() => last.event.position,
            _ => known.read_to.max(place),
        };
        Some((events, read_to))
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once. Answers whether there was something, and whether there is more.
    async fn look(&self, db: &Db) -> Result<(bool, bool), Error> {
        let known = self.tail().known;
        let Some(known) = known else {
            let end = db
                .tenant(self.org, async |tx| events::end(tx).await)
                .await?;
            self.tail().known = Some(Known {
                since: end,
                read_to: end,
            });
            // Whoever read the store before this look may have missed what came in between.
            self.news.send_replace(());
            return Ok((true, true));
        };
        let read = async |tx: &mut rollcall_store::TenantConn| {
            events::follow(tx, Vec::new(), known.read_to, LOOK).await
        };
        let found = db.tenant(self.org, read).await?;
        let has_news = !found.events.is_empty();
        self.tail().push(found.events, found.read_to);
        if has_news {
            self.news.send_replace(());
        }
        Ok((has_news, found.has_more))
    }
}

impl Tail {
    fn push(&mut self, events: Vec<Event>, read_to: Position) {
        let Some(known) = &mut self.known else {
            return;
        };
        known.read_to = read_to;
        for event in events {
            self.bytes += event.footprint;
            self.events.push_back(Arc::new(Live {
                event,
                shown: OnceLock::new(),
            }));
        }
        while self.events.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            known.since = oldest.event.position;
            self.bytes -= oldest.event.footprint;
        }
    }
}

impl Live {
    /// The event as it is shown under a base address; made by `show` for the first who asks.
    pub fn shown(&self, base: &str, show: impl Fn() -> Bytes) -> Bytes {
        let (own, bytes) = self.shown.get_or_init(|| (base.to_owned(), show()));
        if own == base { bytes.clone() } else { show() }
    }
}

/// Looks again and again, until nobody holds the hub.
async fn look(db: Db, mut commits: broadcast::Receiver<OrgId>, hub: Weak<Hub>) {
    let mut was_told = false;
    while let Some(hub) = hub.upgrade() {
        let pause = match hub.look(&db).await {
            Ok((_, true)) => Duration::ZERO,
            Ok((false, false)) if was_told => SHORT_PAUSE,
            Ok(_) => PAUSE,
            Err(error) => {
                tracing::warn!(%error, org = %hub.org, "the feed was not read; it is tried again");
                LONG_PAUSE
            }
        };
        let org = hub.org;
        drop(hub);
        was_told = told(&mut commits, org, pause).await;
    }
}

/// Waits; answers whether a commit of the organization ended the wait.
pub(crate) async fn told(
    commits: &mut broadcast::Receiver<OrgId>,
    org: OrgId,
    pause: Duration,
) -> bool {
    let end = Instant::now() + pause;
    loop {
        match timeout_at(end, commits.recv()).await {
            Ok(Ok(committed)) if committed != org => {}
            // Having missed some is as good as being told.
            Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => return true,
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                tokio::time::sleep_until(end).await;
                return false;
            }
            Err(_) => return false,
        }
    }
}
