//! Listings that a client narrows, sorts and pages: with [`crate::brokers`], which takes its conditions from here, the one
//! place where SQL is put together at run time.
//!
//! Invariant: only names of [`Column`]s, which are constants of this crate, become SQL text; every value is bound.

#[cfg(test)]
mod plans;

use rollcall_model::OrgId;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Postgres, QueryBuilder};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::TenantConn;
use crate::page::Page;

/// A column that a listing may be narrowed or sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    pub(crate) sql: &'static str,
    pub kind: ColumnKind,
}

/// What values a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    Text,
    Number,
    Flag,
    Time,
    Id,
    /// The number of a transaction.
    Transaction,
}

/// A value of a column.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Text(String),
    Number(i64),
    Flag(bool),
    Time(OffsetDateTime),
    Id(Uuid),
    Transaction(u64),
}

/// How a column is compared with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What rows are wanted.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    Compare(Column, Comparison, Value),
    /// The text begins with this; compared byte by byte.
    Prefix(Column, String),
    Known(Column),
    /// The number is one of these.
    OneOf(Column, Vec<String>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// The order of a listing: its columns are unique together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    pub columns: &'static [Column],
    pub descending: bool,
}

/// Where a page begins. A place has one value for each column of the order.
#[derive(Clone, PartialEq, Debug)]
pub enum Start {
    First,
    After(Vec<Value>),
    /// The page that ends before the place.
    Before(Vec<Value>),
    /// Behind so many rows.
    Skip(u32),
}

/// One page that is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Query {
    pub conditions: Vec<Condition>,
    pub order: Order,
    pub start: Start,
    /// Rows of the page, at most.
    pub limit: u32,
    /// Bytes of memory that a page is full by, whatever its limit; it has one row at least.
    pub bytes: u32,
    /// Count the rows of all pages, to so many and no further.
    pub count_to: Option<u32>,
}

/// What is listed. Every table has `org_id`.
pub(crate) struct Source {
    pub table: &'static str,
    /// What is selected, as the row type names it.
    pub columns: &'static str,
    /// What a row takes in memory.
    pub footprint: &'static str,
}

impl Condition {
    /// The column equals the value.
    pub fn equal(column: Column, value: Value) -> Self {
        Self::Compare(column, Comparison::Equal, value)
    }

    pub(crate) fn push(&self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Compare(column, comparison, value) => {
                sql.push(column.sql);
                // Texts are ordered byte by byte, whatever the database's own language.
                let is_ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
                if is_ordered && column.kind == ColumnKind::Text {
                    sql.push(r#" collate "C""#);
                }
                sql.push(comparison.sql());
                value.push(sql);
            }
            Self::Prefix(column, prefix) => {
                sql.push(format_args!(r#"({} collate "C" >= "#, column.sql));
                sql.push_bind(prefix.clone());
                if let Some(end) = after_all_with(prefix) {
                    sql.push(format_args!(r#" and {} collate "C" < "#, column.sql));
                    sql.push_bind(end);
                }
                sql.push(")");
            }
            Self::Known(column) => {
                sql.push(column.sql).push(" is not null");
            }
            Self::OneOf(column, names) => {
                sql.push(column.sql).push(" = any(");
                sql.push_bind(names.clone()).push(")");
            }
            Self::All(parts) => push_joined(sql, parts, " and ", "true"),
            Self::Any(parts) => push_joined(sql, parts, " or ", "false"),
            Self::Not(part) => {
                sql.push("not ");
                part.push(sql);
            }
        }
    }
}

impl Comparison {
    fn sql(self) -> &'static str {
        match self {
            Self::Equal => " = ",
            Self::NotEqual => " <> ",
            Self::Less => " < ",
            Self::LessOrEqual => " <= ",
            Self::Greater => " > ",
            Self::GreaterOrEqual => " >= ",
        }
    }
}

impl Value {
    /// Whether a column of this kind holds such values.
    pub fn is_of(&self, kind: ColumnKind) -> bool {
        let own = match self {
            Self::Text(_) => ColumnKind::Text,
            Self::Number(_) => ColumnKind::Number,
            Self::Flag(_) => ColumnKind::Flag,
            Self::Time(_) => ColumnKind::Time,
            Self::Id(_) => ColumnKind::Id,
            Self::Transaction(_) => ColumnKind::Transaction,
        };
        own == kind
    }

    fn push(&self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Text(value) => sql.push_bind(value.clone()),
            Self::Number(value) => sql.push_bind(*value),
            Self::Flag(value) => sql.push_bind(*value),
            Self::Time(value) => sql.push_bind(*value),
            Self::Id(value) => sql.push_bind(*value),
            Self::Transaction(value) => sql.push_bind(value.to_string()).push("::text::xid8"),
        };
    }
}

fn push_joined(
    sql: &mut QueryBuilder<Postgres>,
    parts: &[Condition],
    word: &'static str,
    none: &'static str,
) {
    if parts.is_empty() {
        sql.push(none);
        return;
    }
    for (at, part) in parts.iter().enumerate() {
        sql.push(if at == 0 { "(" } else { word });
        part.push(sql);
    }
    sql.push(")");
}

/// The least text that is greater than every one with the prefix, by their bytes; none where there is no such text.
fn after_all_with(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // `char` counts past the surrogates, which are no characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

impl Query {
    /// Whether the rows are read from the end.
    fn is_backwards(&self) -> bool {
        matches!(self.start, Start::Before(_))
    }

    fn push_where(&self, sql: &mut QueryBuilder<Postgres>, org: OrgId) {
        sql.push(" where org_id = ").push_bind(org.0);
        for condition in &self.conditions {
            sql.push(" and ");
            condition.push(sql);
        }
    }

    fn push_place(&self, sql: &mut QueryBuilder<Postgres>) {
        let (Start::After(place) | Start::Before(place)) = &self.start else {
            return;
        };
        sql.push(" and (");
        push_list(sql, self.order.columns, |sql, column| {
            sql.push(column.sql);
        });
        let is_below = self.order.descending != self.is_backwards();
        sql.push(if is_below { ") < (" } else { ") > (" });
        push_list(sql, place, |sql, value| value.push(sql));
        sql.push(")");
    }

    fn push_order(&self, sql: &mut QueryBuilder<Postgres>) {
        let is_down = self.order.descending != self.is_backwards();
        sql.push(" order by ");
        push_list(sql, self.order.columns, |sql, column| {
            sql.push(column.sql)
                .push(if is_down { " desc" } else { "" });
        });
    }

    /// The page as SQL. A row that the page's bytes do not suffice for ends it, but for the first; `found` tells that
    /// there was one.
    pub(crate) fn sql(&self, source: &Source, org: OrgId) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new("select * from (select page.*, sum(footprint) over (");
        self.push_order(&mut sql);
        sql.push(" rows unbounded preceding) - footprint as before, count(*) over () as found from (select ");
        sql.push(source.columns).push(", ").push(source.footprint);
        sql.push(" as footprint from ").push(source.table);
        self.push_where(&mut sql, org);
        self.push_place(&mut sql);
        self.push_order(&mut sql);
        sql.push(" limit ").push_bind(i64::from(self.limit) + 1);
        if let Start::Skip(rows) = self.start {
            sql.push(" offset ").push_bind(i64::from(rows));
        }
        sql.push(") page) filled where before < ");
        sql.push_bind(i64::from(self.bytes));
        self.push_order(&mut sql);
        sql
    }
}

fn push_list<T>(
    sql: &mut QueryBuilder<Postgres>,
    items: &[T],
    push: impl Fn(&mut QueryBuilder<Postgres>, &T),
) {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            sql.push(", ");
        }
        push(sql, item);
    }
}

#[derive(FromRow)]
struct Listed<T> {
    #[sqlx(flatten)]
    row: T,
    found: i64,
}

/// Reads one page with one query, and one more where the rows are to be counted. Its rows are in the order asked for, also where they were read from the end.
pub(crate) async fn page<T>(
    tx: &mut TenantConn,
    source: &Source,
    query: &Query,
) -> sqlx::Result<Page<T>>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let mut sql = query.sql(source, tx.org());
    let listed: Vec<Listed<T>> = sql.build_query_as().fetch_all(tx.conn()).await?;
    let found = listed.first().map_or(0, |first| first.found);
    let mut rows: Vec<T> = listed.into_iter().map(|listed| listed.row).collect();
    rows.truncate(query.limit as usize);
    let has_more = usize::try_from(found).is_ok_and(|found| found > rows.len());
    if query.is_backwards() {
        rows.reverse();
    }
    let count = match query.count_to {
        Some(most) => Some(count(tx, source, query, most).await?),
        None => None,
    };
    Ok(Page {
        rows,
        has_more,
        count,
    })
}

async fn count(
    tx: &mut TenantConn,
    source: &Source,
    query: &Query,
    most: u32,
) -> sqlx::Result<u32> {
    let mut sql = QueryBuilder::new("select count(*) from (select from ");
    sql.push(source.table);
    query.push_where(&mut sql, tx.org());
    sql.push(" limit ")
        .push_bind(i64::from(most))
        .push(") counted");
    let count: i64 = sql.build_query_scalar().fetch_one(tx.conn()).await?;
    Ok(u32::try_from(count).unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_text() {
        for (prefix, end) in [
            ("ab", Some("ac")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(after_all_with(prefix).as_deref(), end, "{prefix}");
        }
    }
}
