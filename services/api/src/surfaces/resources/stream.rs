//! The feed as server-sent events. A stream is read as fast as its client takes it: it holds a place in the feed and at
//! most one page of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use rollcall_store::events::{self, Event, Position};
use rollcall_store::listing::Condition;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use super::asked::Asked;
use super::document::prune;
use super::events::cursor;
use super::wire::EventResource;
use crate::App;
use crate::auth::{self, Principal};
use crate::error::{ApiError, Problem};
use crate::feed::{Hub, Live};
use crate::memory::Lease;

/// A comment is sent, and the key looked at again, so often.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Before the store is asked again by a reader whom the hub does not serve yet.
const PAUSE: Duration = Duration::from_millis(50);
/// Events taken at a time: so many, of about so many bytes.
const TAKEN: (u32, u32) = (64, 256 << 10);
/// What goes to the socket at a time.
const PIECE_BYTES: usize = 32 << 10;

/// One reader.
struct Reader {
    app: web::Data<App>,
    who: Principal,
    asked: Asked,
    conditions: Vec<Condition>,
    hub: Arc<Hub>,
    news: watch::Receiver<()>,
    closing: watch::Receiver<bool>,
    place: Position,
    pieces: VecDeque<Bytes>,
    /// For what is in `pieces` beyond the usual.
    lease: Lease,
    heartbeat: Instant,
    _seat: OwnedSemaphorePermit,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.app.metrics.feed_readers.dec();
    }
}

/// Streams the events after a place, until the client goes.
pub fn answer(
    app: web::Data<App>,
    who: Principal,
    asked: Asked,
    (conditions, place): (Vec<Condition>, Position),
) -> Result<HttpResponse, ApiError> {
    let seat = app.feed.reader().ok_or_else(|| {
        let message =
            "too many readers stream the feed from this server; repeat the request in a moment";
        ApiError::Unavailable(Problem::new("readers_busy", message))
    })?;
    app.metrics.feed_readers.inc();
    let hub = app.feed.hub(who.org);
    let reader = Reader {
        news: hub.news(),
        closing: app.feed.closing(),
        lease: app.memory.lease(),
        heartbeat: Instant::now() + HEARTBEAT,
        pieces: VecDeque::from([Bytes::from_static(b"retry: 1000\n\n")]),
        app,
        who,
        asked,
        conditions,
        hub,
        place,
        _seat: seat,
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, super::media::EVENT_STREAM))
        .insert_header((CACHE_CONTROL, "no-store"))
        // Asks proxies not to hold it back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(pieces(reader)))
}

fn pieces(reader: Reader) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::unfold(reader, async |mut reader| {
        let piece = reader.next().await?;
        Some((Ok(piece), reader))
    })
}

impl Reader {
    /// What goes out next; `None` where the stream is to end. The client comes back with the id of its last event.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(piece);
            }
            if *self.closing.borrow() {
                return None;
            }
            if Instant::now() >= self.heartbeat {
                return self.beat().await;
            }
            self.lease = self.app.memory.lease();
            self.news.mark_unchanged();
            match self.hub.after(self.place, TAKEN.0 as usize) {
                Some((events, read_to)) => {
                    self.take_live(&events);
                    self.place = read_to;
                    if events.is_empty() {
                        self.wait(self.heartbeat).await;
                    }
                }
                None => self.take_stored().await?,
            }
        }
    }

    /// A comment, with the place reached, so that a client that was shown nothing does not begin from far back.
    async fn beat(&mut self) -> Option<Bytes> {
        self.heartbeat = Instant::now() + HEARTBEAT;
        let id = cursor(self.who.org, self.place);
        auth::still_holds(&self.app, &self.who)
            .await
            .then(|| Bytes::from(format!(": still here\nid: {id}\n\n")))
    }

    async fn wait(&mut self, until: Instant) {
        let (news, closing) = (&mut self.news, &mut self.closing);
        let _ = timeout_at(until, async {
            tokio::select! {
                _ = news.changed() => {}
                _ = closing.changed() => {}
            }
        })
        .await;
    }

    fn take_live(&mut self, events: &[Arc<Live>]) {
        for live in events {
            if !self.wants(&live.event) {
                continue;
            }
            // What is shown to all alike is made once and shared.
            let bytes = if self.asked.fields.is_empty() {
                live.shown(&self.asked.base, || self.show(&live.event))
            } else {
                self.show(&live.event)
            };
            self.put(bytes);
        }
    }

    /// Reads on from the store, as the hub does not go back so far. `None` where there is no memory for it.
    async fn take_stored(&mut self) -> Option<()> {
        let (conditions, place) = (self.conditions.clone(), self.place);
        let read = async |tx: &mut rollcall_store::TenantConn| {
            events::follow(tx, conditions, place, TAKEN).await
        };
        let found = match self.app.db.tenant(self.who.org, read).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "a reader of the feed was ended; it comes back");
                return None;
            }
        };
        let bytes: usize = found.events.iter().map(|event| event.footprint).sum();
        if bytes > TAKEN.1 as usize && self.lease.cover(bytes).await.is_err() {
            return None;
        }
        for event in &found.events {
            let bytes = self.show(event);
            self.put(bytes);
        }
        self.place = found.read_to;
        if found.events.is_empty() && !found.has_more {
            self.wait(Instant::now() + PAUSE).await;
        }
        Some(())
    }

    fn put(&mut self, mut bytes: Bytes) {
        while bytes.len() > PIECE_BYTES {
            self.pieces.push_back(bytes.split_to(PIECE_BYTES));
        }
        self.pieces.push_back(bytes);
    }

    /// Whether an event meets the conditions: the store's rule, for what does not come from it.
    fn wants(&self, event: &Event) -> bool {
        self.conditions
            .iter()
            .all(|condition| events::meets(event, condition))
    }

    fn show(&self, event: &Event) -> Bytes {
        let resource = EventResource::of(event, &self.asked.base);
        let data = if self.asked.fields.is_empty() {
            serde_json::to_string(&resource)
        } else {
            serde_json::to_value(&resource).map(|mut value| {
                prune(&mut value, &self.asked);
                value.to_string()
            })
        };
        let data = data.expect("resources have text for keys");
        let id = cursor(self.who.org, event.position);
        Bytes::from(format!("id: {id}\ndata: {data}\n\n"))
    }
}
