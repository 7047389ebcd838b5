//! Events: the feed of everything in the credential's reach, and a session's history.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, web};
use rollcall_model::{OrgId, ProjectId, SessionId};
use rollcall_store::events::{self, BY_REVISION, Feed, Position, columns};
use rollcall_store::listing::{Condition, Value};
use rollcall_store::{PAGE_BYTES, TenantConn};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::Common;
use super::asked::Asked;
use super::cursor::Seal;
use super::document::{Collection, Document, PageLinks, answer};
use super::filters::{EventFilters, reach};
use super::paging::{self, Paging, cursor_invalid};
use super::sessions::{SessionPath, named};
use super::stream;
use super::wire::EventResource;
use crate::App;
use crate::auth::{Allow, Principal, perm};
use crate::error::{ApiError, Problem};

/// Longest time that a request waits for an event, in seconds.
const MAX_WAIT: u64 = 60;

/// Where a read of the feed begins, and how long it waits.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Following {
    /// Events on a page: 1 to 1,000; 1,000 where left out. A page of large ones has fewer. Of no meaning for a stream.
    #[serde(rename = "page[size]")]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, example = 100)]
    size: Option<String>,
    /// Events after a cursor, as `links.next` has it; from the beginning where left out.
    #[serde(rename = "page[after]")]
    after: Option<String>,
    /// `start` or `now`: where to begin without a cursor.
    #[param(inline, example = "start")]
    from: Option<String>,
    /// Where there is no event yet, wait for one, so many seconds at most: 0 to 60. Of no meaning for a stream.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 60)]
    wait: Option<String>,
}

/// An event in a path.
#[derive(Deserialize)]
pub struct EventPath {
    event_id: String,
}

/// Follow what happens
///
/// Every event in the key's reach, in commit order, none left out and none shown before those that come before it.
/// `links.next` always leads on: ask for it again to go on from there, with `wait` to be answered as soon as something
/// happens. With `Accept: text/event-stream` the events are streamed as server-sent events, each with its cursor for
/// an id; a client that comes back with it as `Last-Event-ID` goes on behind it. A comment comes every 15 seconds.
#[utoipa::path(
    tag = "resources",
    params(
        EventFilters, Following, Common,
        ("fields[events]" = Option<String>, Query, description = "Members wanted of events: paths into attributes and relationships, separated by commas."),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event of a stream that broke off."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The events after the cursor; perhaps none.", content(
            (Collection<EventResource> = "application/json"),
            (String = "text/event-stream"),
        )),
    ),
)]
#[get("/events")]
pub async fn list_events(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    filters: web::Query<EventFilters>,
    following: web::Query<Following>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let conditions = filters.read(&who)?;
    let place = following.place(&app, &who, &req).await?;
    if asked.wants_stream() {
        return stream::answer(app, who, asked, (conditions, place));
    }
    asked.style()?;
    let size = paging::size(following.size.as_deref())?;
    let feed = following
        .read(&app, &who, (conditions, place, size))
        .await?;
    let to = cursor(who.org, feed.read_to);
    let links = PageLinks {
        own: asked.collection_link(&[]),
        first: Some(asked.collection_link(&[("page[after]", None)])),
        next: Some(asked.collection_link(&[("from", None), ("page[after]", Some(&to))])),
        ..PageLinks::default()
    };
    let data = feed
        .events
        .iter()
        .map(|event| EventResource::of(event, &asked.base));
    answer(
        &asked,
        &Collection {
            links,
            data: data.collect(),
            included: None,
            meta: None,
        },
    )
}

impl Following {
    async fn place(
        &self,
        app: &App,
        who: &Principal,
        req: &HttpRequest,
    ) -> Result<Position, ApiError> {
        if let Some(id) = req.headers().get("last-event-id") {
            let place = id.to_str().ok().and_then(|id| position(who.org, id));
            return place.ok_or_else(|| {
                let message = "Last-Event-ID must be the id of an event of this feed; leave it out to begin anew";
                ApiError::Invalid(Problem::new("cursor_invalid", message).of_header("Last-Event-ID"))
            });
        }
        if let Some(cursor) = &self.after {
            return position(who.org, cursor).ok_or_else(|| cursor_invalid("page[after]"));
        }
        match self.from.as_deref() {
            None | Some("start") => Ok(Position::START),
            Some("now") => {
                let end = async |tx: &mut TenantConn| events::end(tx).await.map_err(ApiError::from);
                app.db.tenant(who.org, end).await
            }
            Some(_) => Err(ApiError::Invalid(
                Problem::new("from_invalid", "from must be start or now").of_parameter("from"),
            )),
        }
    }

    fn wait(&self) -> Result<Duration, ApiError> {
        let Some(text) = self.wait.as_deref() else {
            return Ok(Duration::ZERO);
        };
        let seconds = text.parse().ok().filter(|seconds| *seconds <= MAX_WAIT);
        seconds.map(Duration::from_secs).ok_or_else(|| {
            let message = format!("wait must be a whole number of seconds, from 0 to {MAX_WAIT}");
            ApiError::Invalid(Problem::new("wait_invalid", message).of_parameter("wait"))
        })
    }

    /// Reads one page, and waits for it where there is nothing yet.
    async fn read(
        &self,
        app: &App,
        who: &Principal,
        (conditions, mut place, size): (Vec<Condition>, Position, u32),
    ) -> Result<Feed, ApiError> {
        let wait = self.wait()?;
        let end = Instant::now() + wait;
        // Held before the first look, so that nothing is missed between two.
        let mut watch = (!wait.is_zero()).then(|| {
            let hub = app.feed.hub(who.org);
            (hub.news(), app.feed.closing(), hub)
        });
        loop {
            if let Some((news, ..)) = &mut watch {
                news.mark_unchanged();
            }
            let wanted = conditions.clone();
            let read = async |tx: &mut TenantConn| {
                events::follow(tx, wanted, place, (size, PAGE_BYTES))
                    .await
                    .map_err(ApiError::from)
            };
            let feed = app.db.tenant(who.org, read).await?;
            place = feed.read_to;
            let Some((news, closing, _)) = &mut watch else {
                return Ok(feed);
            };
            if !feed.events.is_empty() || *closing.borrow() {
                return Ok(feed);
            }
            let has_news = timeout_at(end, async {
                tokio::select! {
                    _ = news.changed() => {}
                    _ = closing.changed() => {}
                }
            });
            if has_news.await.is_err() {
                return Ok(feed);
            }
        }
    }
}

/// A place in an organization's feed as a cursor.
pub fn cursor(org: OrgId, place: Position) -> String {
    Seal::new(org, "feed").write(&[Value::Transaction(place.txid), Value::Number(place.id)])
}

fn position(org: OrgId, cursor: &str) -> Option<Position> {
    let columns = &[columns::TXID, columns::ID];
    match *Seal::new(org, "feed").read(cursor, columns)? {
        [Value::Transaction(txid), Value::Number(id)] => Some(Position { txid, id }),
        _ => None,
    }
}

/// Show an event
#[utoipa::path(
    tag = "resources",
    params(
        ("event_id" = String, Path, description = "The event's id: a session's id, a dot, a revision.", example = "0d9c1f60-3f4e-8a51-9b7c-2f6f1d9b11aa.1"),
        Common,
        ("fields[events]" = Option<String>, Query, description = "Members wanted of the event."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The event.", body = Document<EventResource>)),
)]
#[get("/events/{event_id}")]
pub async fn get_event(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<EventPath>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let none = || {
        ApiError::not_found(
            "event_not_found",
            "there is no such event in this key's reach",
        )
    };
    let (session, revision) = path.event_id.split_once('.').ok_or_else(none)?;
    let session = SessionId(uuid::Uuid::try_parse(session).map_err(|_| none())?);
    let revision: i64 = revision.parse().map_err(|_| none())?;
    let found = app
        .db
        .tenant(who.org, async |tx| {
            events::find(tx, session, revision)
                .await
                .map_err(ApiError::from)
        })
        .await?;
    let reaches = |project: ProjectId| who.reaches(project);
    let event = found
        .filter(|event| reaches(event.session.project))
        .ok_or_else(none)?;
    answer(
        &asked,
        &Document::of(&asked, EventResource::of(&event, &asked.base)),
    )
}

/// List a session's events
///
/// Its history, first to last.
#[utoipa::path(
    tag = "resources",
    params(
        ("id" = String, Path, description = "The session's id, or its name at its source.", example = "7f1d8a52-5d0c-4a33-9d0e-2f7f6f1d9b11"),
        Paging, Common,
        ("fields[events]" = Option<String>, Query, description = "Members wanted of events."),
    ),
    security(("basic" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "A page of events.", body = Collection<EventResource>),
        (status = 409, description = "Several sessions have this name; the error lists them.", body = crate::error::JsonApiErrors),
    ),
)]
#[get("/sessions/{id}/events")]
pub async fn list_session_events(
    allow: Allow<perm::SessionsRead>,
    asked: Asked,
    path: web::Path<SessionPath>,
    paging: web::Query<Paging>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = allow.who;
    asked.include(&[])?;
    let (page, pager) = app
        .db
        .tenant(who.org, async |tx| {
            let session = named(tx, &who, &path.id).await?;
            let mut conditions: Vec<Condition> =
                reach(&who, columns::PROJECT).into_iter().collect();
            conditions.push(Condition::equal(columns::SESSION, Value::Id(session.id.0)));
            let listing = format!("events of {}", session.id);
            let pager = paging.read(&who, &asked, &listing, (conditions, BY_REVISION))?;
            let page = events::list(tx, &pager.query).await?;
            Ok::<_, ApiError>((page, pager))
        })
        .await?;
    let place = |event: &events::Event| vec![Value::Number(event.revision)];
    answer(
        &asked,
        &pager.collection(&asked, &page, place, EventResource::of),
    )
}
