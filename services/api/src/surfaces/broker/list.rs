//! Lists on their way out: a piece of some hundred rows at a time, each read in a transaction of its own when the one before
//! has gone out, so that a list of any length takes the same memory, and a slow client holds nothing in Postgres. A list that
//! is one piece is sent whole. Where a piece cannot be read, the body breaks off: it never looks complete.

use std::time::Duration;

use actix_web::http::header::{AGE, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::{Stream, stream};
use rollcall_store::TenantConn;
use rollcall_store::brokers::{self, Part};
use serde::Serialize;
use tokio::time::Instant;

use super::asked::{Asked, Wanted};
use super::reach::{self, Reach};
use super::wire::{SessionObject, SubscriberObject, SubscriptionObject};
use crate::App;
use crate::auth::{self, Principal};
use crate::error::ApiError;

/// Rows of a piece.
const PIECE: u32 = 250;
/// The key of a list that is long on its way is looked at again so often.
const KEY_CHECK: Duration = Duration::from_secs(15);

/// Before a piece that Postgres was too busy for is asked for again.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// What is listed.
pub enum Kind {
    Sessions,
    Subscriptions,
    /// The clients that subscribe to this filter.
    Subscribers(String),
}

/// A row as JSON, under the name that the list is ordered by.
struct Row {
    name: String,
    json: Vec<u8>,
}

/// A list on its way.
struct List {
    app: web::Data<App>,
    who: Principal,
    kind: Kind,
    wanted: Wanted,
    /// Whether there is nothing to send any more.
    is_over: bool,
    key_checked: Instant,
}

impl Kind {
    /// What the tokens of its pages are of, and the state where none is asked for (§2.4).
    fn asked(&self) -> (String, Option<bool>) {
        match self {
            Self::Sessions => ("sessions".to_owned(), None),
            Self::Subscriptions => ("subscriptions".to_owned(), Some(true)),
            Self::Subscribers(filter) => (format!("clients/{filter}"), Some(true)),
        }
    }

    /// The document up to its first row.
    fn begin(&self) -> Vec<u8> {
        match self {
            Self::Sessions => br#"{"sessions":["#.to_vec(),
            Self::Subscriptions => br#"{"subscriptions":["#.to_vec(),
            Self::Subscribers(filter) => {
                let filter = serde_json::to_string(filter).expect("text is JSON");
                format!(r#"{{"filter":{filter},"clients":["#).into_bytes()
            }
        }
    }

    async fn read(
        &self,
        tx: &mut TenantConn,
        wanted: &Wanted,
        limit: u32,
    ) -> Result<Vec<Row>, ApiError> {
        let (selection, after) = (&wanted.selection, wanted.after.as_deref());
        let part = Part { after, limit };
        Ok(match self {
            Self::Sessions => {
                let rows = brokers::sessions(tx, selection, part).await?;
                let row = |client| {
                    let object = SessionObject::of_list(client);
                    Row::of(&object, |object| &object.client_id)
                };
                rows.into_iter().map(row).collect()
            }
            Self::Subscriptions => {
                let rows = brokers::filters(tx, selection, part).await?;
                let objects = rows.into_iter().map(SubscriptionObject::of);
                objects
                    .map(|object| Row::of(&object, |object| &object.filter))
                    .collect()
            }
            Self::Subscribers(filter) => {
                let rows = brokers::subscribers(tx, filter, selection, part).await?;
                let objects = rows.into_iter().map(SubscriberObject::of);
                objects
                    .map(|object| Row::of(&object, |object| &object.client_id))
                    .collect()
            }
        })
    }
}

impl Row {
    fn of<T: Serialize>(object: &T, name: impl Fn(&T) -> &String) -> Self {
        Self {
            name: name(object).clone(),
            json: serde_json::to_vec(object).expect("objects have text for keys"),
        }
    }
}

/// Answers a list. What is wrong with the request is said before the first byte.
pub async fn answer(
    app: web::Data<App>,
    reach: Reach,
    asked: Asked,
    kind: Kind,
) -> Result<HttpResponse, ApiError> {
    let (of, usual) = kind.asked();
    let read = async |tx: &mut TenantConn| {
        let seen = reach.brokers(tx).await?;
        let (seen, selection) = reach.narrow(seen, asked.service())?;
        let wanted = asked.read(&reach, selection, (&of, usual))?;
        let rows = kind.read(tx, &wanted, rows_of_piece(&wanted) + 1).await?;
        Ok::<_, ApiError>((reach::age(&seen), wanted, rows))
    };
    let (age, wanted, rows) = app.db.tenant(reach.org(), read).await?;
    let mut list = List {
        app,
        who: reach.who,
        kind,
        wanted,
        is_over: false,
        key_checked: Instant::now(),
    };
    let mut first = list.kind.begin();
    list.put(&mut first, rows, true);
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((AGE, age));
    if list.is_over {
        return Ok(response.body(first));
    }
    Ok(response.streaming(pieces(first.into(), list)))
}

fn rows_of_piece(wanted: &Wanted) -> u32 {
    let left = wanted.limit.unwrap_or(u64::MAX);
    u32::try_from(left).map_or(PIECE, |left| left.min(PIECE))
}

fn pieces(first: Bytes, list: List) -> impl Stream<Item = Result<Bytes, ApiError>> {
    stream::unfold((Some(first), list), async |(first, mut list)| {
        if let Some(first) = first {
            return Some((Ok(first), (None, list)));
        }
        if list.is_over {
            return None;
        }
        let piece = list.next().await;
        if let Err(error) = &piece {
            list.is_over = true;
            tracing::warn!(%error, "a list broke off");
        }
        Some((piece, (None, list)))
    })
}

impl List {
    async fn next(&mut self) -> Result<Bytes, ApiError> {
        if self.key_checked.elapsed() > KEY_CHECK {
            if !auth::still_holds(&self.app, &self.who).await {
                return Err(anyhow::anyhow!("the key has ended while the list was read").into());
            }
            self.key_checked = Instant::now();
        }
        let rows = self.read_patiently().await?;
        let mut bytes = Vec::new();
        self.put(&mut bytes, rows, false);
        Ok(bytes.into())
    }

    /// Reads the rows of a piece; where Postgres is busy, more than once: the rest of a long list is not to be lost for it.
    async fn read_patiently(&self) -> Result<Vec<Row>, ApiError> {
        let (kind, wanted) = (&self.kind, &self.wanted);
        let limit = rows_of_piece(wanted) + 1;
        for pause in PAUSES {
            let read = async |tx: &mut TenantConn| kind.read(tx, wanted, limit).await;
            match self.app.db.tenant(self.who.org, read).await {
                Err(ApiError::Unavailable(_)) => tokio::time::sleep(pause).await,
                done => return done,
            }
        }
        let read = async |tx: &mut TenantConn| kind.read(tx, wanted, limit).await;
        self.app.db.tenant(self.who.org, read).await
    }

    /// Writes a piece of the list, and its end behind the last. Of the rows one more was read than there are to be, where
    /// there is another.
    fn put(&mut self, bytes: &mut Vec<u8>, mut rows: Vec<Row>, is_first: bool) {
        let piece = rows_of_piece(&self.wanted);
        let has_more = rows.len() > piece as usize;
        rows.truncate(piece as usize);
        for (at, row) in rows.iter().enumerate() {
            if !is_first || at > 0 {
                bytes.push(b',');
            }
            bytes.extend_from_slice(&row.json);
        }
        if let Some(left) = &mut self.wanted.limit {
            *left -= rows.len() as u64;
        }
        if let Some(last) = rows.pop() {
            self.wanted.after = Some(last.name);
        }
        self.is_over = !has_more || self.wanted.limit == Some(0);
        if !self.is_over {
            return;
        }
        bytes.push(b']');
        if let Some(last) = self.wanted.after.as_deref().filter(|_| has_more) {
            // Nothing in a token needs to be escaped.
            let token = self.wanted.token(last);
            bytes.extend_from_slice(format!(r#","next_page_token":"{token}""#).as_bytes());
        }
        bytes.push(b'}');
    }
}
