//! Events: the immutable facts about sessions, written by [`crate::changes`] alone.

use rollcall_model::{Session, SessionId};
use serde_json::Value as Json;
use sqlx::FromRow;
use sqlx::types::Json as Decoded;
use time::OffsetDateTime;

use crate::TenantConn;
use crate::listing::{self, Condition, Order, Query, Source, Start, Value};
use crate::page::{PAGE_BYTES, Page};

/// One change of a session, with the session as it then was.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: i64,
    pub event_type: String,
    pub at: OffsetDateTime,
    pub session: Session,
    /// What differs from the revision before, as JSON pointers into the session's attributes.
    pub changed: Vec<String>,
    pub context: Option<Json>,
    pub position: Position,
    /// About what the event takes in memory, in bytes.
    pub footprint: usize,
}

/// A place in the order of all events: behind the event that has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    pub txid: u64,
    pub id: i64,
}

/// Events in commit order, read to their end or to the page's.
#[derive(Clone, Debug)]
pub struct Feed {
    pub events: Vec<Event>,
    /// Up to where all events were seen, wanted or not: where the next page begins.
    pub read_to: Position,
    pub has_more: bool,
}

/// What events may be narrowed and sorted by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const SESSION: Column = column("session_id", ColumnKind::Id);
    pub const REVISION: Column = column("revision", ColumnKind::Number);
    pub const TYPE: Column = column("type", ColumnKind::Text);
    pub const KIND: Column = column("kind", ColumnKind::Text);
    pub const SERVICE: Column = column("service", ColumnKind::Text);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);
    pub const TXID: Column = column("txid", ColumnKind::Transaction);
    pub const ID: Column = column("id", ColumnKind::Number);

    const fn column(sql: &'static str, kind: ColumnKind) -> Column {
        Column { sql, kind }
    }
}

/// A session's events, first to last.
pub const BY_REVISION: Order = Order {
    columns: &[columns::REVISION],
    descending: false,
};

const BY_COMMIT: Order = Order {
    columns: &[columns::TXID, columns::ID],
    descending: false,
};

pub(crate) const SOURCE: Source = Source {
    table: "events",
    columns: "session_id, revision, type, at, session, changed, context, txid, txid::text as transaction, id",
    footprint: "footprint",
};

#[derive(FromRow)]
struct Row {
    revision: i64,
    #[sqlx(rename = "type")]
    event_type: String,
    at: OffsetDateTime,
    session: Decoded<Session>,
    changed: Vec<String>,
    context: Option<Json>,
    transaction: String,
    id: i64,
    footprint: i64,
}

impl Row {
    fn into_event(self) -> sqlx::Result<Event> {
        Ok(Event {
            revision: self.revision,
            event_type: self.event_type,
            at: self.at,
            session: self.session.0,
            changed: self.changed,
            context: self.context,
            position: Position {
                txid: transaction(&self.transaction)?,
                id: self.id,
            },
            footprint: usize::try_from(self.footprint).unwrap_or_default(),
        })
    }
}

impl Position {
    /// Before every event.
    pub const START: Self = Self { txid: 0, id: 0 };
}

/// A page of events, in the order of the query.
pub async fn list(tx: &mut TenantConn, query: &Query) -> sqlx::Result<Page<Event>> {
    let page: Page<Row> = listing::page(tx, &SOURCE, query).await?;
    page.try_map(Row::into_event)
}

/// The events after `after` that meet the conditions, in commit order, at most `limit` and about `bytes` of memory.
///
/// Events of transactions that a still open one precedes are not shown yet, so that none is ever skipped.
pub async fn follow(
    tx: &mut TenantConn,
    conditions: Vec<Condition>,
    after: Position,
    (limit, bytes): (u32, u32),
) -> sqlx::Result<Feed> {
    // Taken before the events are read: what commits in between is below nobody's horizon yet.
    let horizon = horizon(tx).await?;
    let settled = Condition::Compare(
        columns::TXID,
        listing::Comparison::Less,
        Value::Transaction(horizon),
    );
    let mut all = vec![settled];
    all.extend(conditions);
    let query = Query {
        conditions: all,
        order: BY_COMMIT,
        start: Start::After(vec![
            Value::Transaction(after.txid),
            Value::Number(after.id),
        ]),
        limit,
        bytes,
        count_to: None,
    };
    let page = list(tx, &query).await?;
    let last = page.rows.last().map(|event| event.position);
    let end = Position {
        txid: horizon.saturating_sub(1),
        id: i64::MAX,
    };
    Ok(Feed {
        read_to: match last {
            Some(last) if page.has_more => last,
            _ => end.max(after),
        },
        events: page.rows,
        has_more: page.has_more,
    })
}

/// The end of the feed as it is now.
pub async fn end(tx: &mut TenantConn) -> sqlx::Result<Position> {
    Ok(Position {
        txid: horizon(tx).await?.saturating_sub(1),
        id: i64::MAX,
    })
}

/// The first transaction that may yet be open; whatever is before it has ended.
async fn horizon(tx: &mut TenantConn) -> sqlx::Result<u64> {
    let text =
        sqlx::query_scalar!(r#"select pg_snapshot_xmin(pg_current_snapshot())::text as "xmin!""#)
            .fetch_one(tx.conn())
            .await?;
    transaction(&text)
}

fn transaction(text: &str) -> sqlx::Result<u64> {
    text.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// One event of a session.
pub async fn find(
    tx: &mut TenantConn,
    session: SessionId,
    revision: i64,
) -> sqlx::Result<Option<Event>> {
    let query = Query {
        conditions: vec![
            Condition::equal(columns::SESSION, Value::Id(session.0)),
            Condition::equal(columns::REVISION, Value::Number(revision)),
        ],
        order: BY_REVISION,
        start: Start::First,
        limit: 1,
        bytes: PAGE_BYTES,
        count_to: None,
    };
    Ok(list(tx, &query).await?.rows.pop())
}

/// Whether an event meets a condition of a feed: what [`follow`] asks Postgres, for events that are at hand.
pub fn meets(event: &Event, condition: &Condition) -> bool {
    let session = &event.session;
    match condition {
        Condition::All(parts) => parts.iter().all(|part| meets(event, part)),
        Condition::Any(parts) => parts.iter().any(|part| meets(event, part)),
        Condition::Not(part) => !meets(event, part),
        Condition::Compare(column, listing::Comparison::Equal, value) => match (*column, value) {
            (columns::KIND, Value::Text(kind)) => session.kind.as_str() == kind,
            (columns::TYPE, Value::Text(name)) => event.event_type == *name,
            (columns::SERVICE, Value::Text(name)) => session.service == *name,
            (columns::PROJECT, Value::Number(number)) => session.project.get() == *number,
            (columns::SESSION, Value::Id(id)) => session.id.0 == *id,
            _ => false,
        },
        _ => false,
    }
}
