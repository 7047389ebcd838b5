//! What brokers' tools ask for: the sessions that brokers have now, who subscribes to what, and what brokers say of themselves.
//!
//! Of several sessions with one client's id, on several brokers or virtual hosts, one is shown: the connected one, then the
//! latest. Lists are in the order of bytes and read an index from wherever a page begins; their SQL is put together from
//! constants and [`Condition`]s, every value bound.

#[cfg(test)]
mod plans;

use rollcall_model::ingest::{ConnectionFacts, WatchReport};
use rollcall_model::{OrgId, ProjectId};
use sqlx::types::Json;
use sqlx::{FromRow, Postgres, QueryBuilder};

use crate::TenantConn;
use crate::listing::{Comparison, Condition, Value};

/// A broker that was seen.
#[derive(Clone, Debug)]
pub struct Broker {
    pub name: String,
    pub project_id: i64,
    pub watch: Json<WatchReport>,
}

/// What a list is narrowed to. A broker's name comes with its project.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub project: Option<ProjectId>,
    pub service: Option<String>,
    /// Clients that are connected, or those that are not.
    pub connected: Option<bool>,
    /// What the names in the list begin with, byte by byte.
    pub prefix: String,
}

/// Where a page begins, and how many rows it has at most.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Behind this name.
    pub after: Option<&'a str>,
    pub limit: u32,
}

/// A client's session on a broker.
#[derive(Clone, Debug, FromRow)]
pub struct Client {
    pub client_id: String,
    pub kind: String,
    pub label: Option<String>,
    pub connected: bool,
    /// Of one session whole; in a list without its subscriptions.
    pub facts: Json<ConnectionFacts>,
    pub subscription_count: Option<i64>,
}

/// A filter that clients subscribe to.
#[derive(Clone, Debug, FromRow)]
pub struct Filter {
    pub filter: String,
    pub clients: i64,
    pub qos: i16,
}

/// A client that subscribes to a filter.
#[derive(Clone, Debug, FromRow)]
pub struct Subscriber {
    pub client_id: String,
    pub qos: i16,
}

/// How many clients' sessions there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub sessions: i64,
    pub connected: i64,
    /// Of the connected.
    pub mqtt: i64,
    pub amqp: i64,
}

/// The one place that says which sessions are a broker's now; an index has the first two conditions.
const HELD: &str = "client_id is not null and active and kind in ('mqtt', 'amqp')";
/// Which of the sessions with one client's id is shown.
const BEST_FIRST: &str = r#"client_id collate "C", connected desc, created_at desc, id"#;
/// There may be more subscriptions than are listed.
const SUBSCRIPTION_COUNT: &str = "greatest((facts ->> 'subscription_count')::bigint, \
     case jsonb_typeof(facts -> 'subscriptions') when 'array' then jsonb_array_length(facts -> 'subscriptions') end) \
     as subscription_count";

/// What lists are ordered and narrowed by.
pub mod columns {
    use crate::listing::{Column, ColumnKind};

    pub const CLIENT: Column = column("client_id", ColumnKind::Text);
    pub const CONNECTED: Column = column("connected", ColumnKind::Flag);
    pub const FILTER: Column = column("filter", ColumnKind::Text);
    pub const PROJECT: Column = column("project_id", ColumnKind::Number);
    pub const SERVICE: Column = column("service", ColumnKind::Text);

    const fn column(sql: &'static str, kind: ColumnKind) -> Column {
        Column { sql, kind }
    }
}

/// Brokers that were ever seen, by name; in `project` alone where one is given.
pub async fn seen(tx: &mut TenantConn, project: Option<ProjectId>) -> sqlx::Result<Vec<Broker>> {
    sqlx::query_as!(
        Broker,
        r#"select name, project_id, watch as "watch!: Json<WatchReport>" from services
           where org_id = $1 and kind = 'broker' and watch ->> 'seen' is not null
           and ($2::bigint is null or project_id = $2)
           order by name collate "C""#,
        tx.org().0,
        project.map(ProjectId::get)
    )
    .fetch_all(tx.conn())
    .await
}

/// Sessions by their clients' ids.
pub async fn sessions(
    tx: &mut TenantConn,
    selection: &Selection,
    part: Part<'_>,
) -> sqlx::Result<Vec<Client>> {
    let mut sql = sessions_sql(tx.org(), selection, part);
    sql.build_query_as().fetch_all(tx.conn()).await
}

pub(crate) fn sessions_sql(
    org: OrgId,
    selection: &Selection,
    part: Part<'_>,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(
        r#"select distinct on (client_id collate "C") client_id, kind, label, connected, "#,
    );
    // A list of many is not to hold all that they subscribe to.
    sql.push("facts - '{subscriptions,backends,connects}'::text[] as facts, ");
    sql.push(SUBSCRIPTION_COUNT);
    push_sessions(&mut sql, org, selection);
    push_place(&mut sql, columns::CLIENT, selection, part);
    sql.push(" order by ").push(BEST_FIRST);
    sql.push(" limit ").push_bind(i64::from(part.limit));
    sql
}

/// One client's session.
pub async fn session(
    tx: &mut TenantConn,
    selection: &Selection,
    client_id: &str,
) -> sqlx::Result<Option<Client>> {
    let mut sql = session_sql(tx.org(), selection, client_id);
    sql.build_query_as().fetch_optional(tx.conn()).await
}

pub(crate) fn session_sql(
    org: OrgId,
    selection: &Selection,
    client_id: &str,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new("select client_id, kind, label, connected, facts, ");
    sql.push(SUBSCRIPTION_COUNT);
    push_sessions(&mut sql, org, selection);
    sql.push(r#" and client_id collate "C" = "#)
        .push_bind(client_id.to_owned());
    sql.push(" order by ").push(BEST_FIRST).push(" limit 1");
    sql
}

/// Filters in the order of their bytes. A client counts once, on however many brokers it subscribes.
pub async fn filters(
    tx: &mut TenantConn,
    selection: &Selection,
    part: Part<'_>,
) -> sqlx::Result<Vec<Filter>> {
    let mut sql = filters_sql(tx.org(), selection, part);
    sql.build_query_as().fetch_all(tx.conn()).await
}

pub(crate) fn filters_sql(
    org: OrgId,
    selection: &Selection,
    part: Part<'_>,
) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(
        r#"select filter, count(*) as clients, max(qos) as qos from (select filter collate "C" as filter, max(qos) as qos"#,
    );
    push_subscriptions(&mut sql, org, selection);
    push_place(&mut sql, columns::FILTER, selection, part);
    sql.push(r#" group by filter collate "C", client_id collate "C""#);
    push_having(&mut sql, selection);
    sql.push(") of_client group by filter order by filter limit ");
    sql.push_bind(i64::from(part.limit));
    sql
}

/// The clients that subscribe to a filter, by their ids.
pub async fn subscribers(
    tx: &mut TenantConn,
    filter: &str,
    selection: &Selection,
    part: Part<'_>,
) -> sqlx::Result<Vec<Subscriber>> {
    let mut sql = subscribers_sql(tx.org(), filter, selection, part);
    sql.build_query_as().fetch_all(tx.conn()).await
}

pub(crate) fn subscribers_sql(
    org: OrgId,
    filter: &str,
    selection: &Selection,
    part: Part<'_>,
) -> QueryBuilder<Postgres> {
    let mut sql =
        QueryBuilder::new(r#"select client_id collate "C" as client_id, max(qos) as qos"#);
    push_subscriptions(&mut sql, org, selection);
    sql.push(r#" and filter collate "C" = "#)
        .push_bind(filter.to_owned());
    push_place(&mut sql, columns::CLIENT, selection, part);
    sql.push(r#" group by client_id collate "C""#);
    push_having(&mut sql, selection);
    sql.push(r#" order by client_id collate "C" limit "#);
    sql.push_bind(i64::from(part.limit));
    sql
}

/// How many sessions the list has.
pub async fn count(tx: &mut TenantConn, selection: &Selection) -> sqlx::Result<Counts> {
    let mut sql = count_sql(tx.org(), selection);
    let (sessions, connected, mqtt, amqp) = sql.build_query_as().fetch_one(tx.conn()).await?;
    Ok(Counts {
        sessions,
        connected,
        mqtt,
        amqp,
    })
}

pub(crate) fn count_sql(org: OrgId, selection: &Selection) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(
        "select count(*), count(*) filter (where connected), count(*) filter (where connected and kind = 'mqtt'), \
         count(*) filter (where connected and kind = 'amqp') \
         from (select distinct on (client_id collate \"C\") kind, connected",
    );
    push_sessions(&mut sql, org, selection);
    sql.push(" order by ").push(BEST_FIRST).push(") shown");
    sql
}

/// Sessions that are shown, or would be were it not for better ones with the same id.
fn push_sessions(sql: &mut QueryBuilder<Postgres>, org: OrgId, selection: &Selection) {
    sql.push(" from sessions where org_id = ").push_bind(org.0);
    sql.push(" and ").push(HELD);
    push_owner(sql, selection);
    let Some(connected) = selection.connected else {
        return;
    };
    push(
        sql,
        &Condition::equal(columns::CONNECTED, Value::Flag(connected)),
    );
    if !connected {
        // Who is connected elsewhere is not shown as disconnected. The offset keeps Postgres from joining all to all: it looks
        // each row of the page up instead.
        sql.push(
            r#" and not exists (select from (select client_id as other from sessions where org_id = "#,
        );
        sql.push_bind(org.0);
        sql.push(" and connected and ").push(HELD);
        push_owner(sql, selection);
        sql.push(r#") better where other collate "C" = client_id collate "C" offset 0)"#);
    }
}

fn push_subscriptions(sql: &mut QueryBuilder<Postgres>, org: OrgId, selection: &Selection) {
    sql.push(" from subscriptions where org_id = ")
        .push_bind(org.0);
    push_owner(sql, selection);
    if selection.connected == Some(true) {
        sql.push(" and connected");
    }
}

/// Who is connected anywhere is not disconnected.
fn push_having(sql: &mut QueryBuilder<Postgres>, selection: &Selection) {
    if selection.connected == Some(false) {
        sql.push(" having not bool_or(connected)");
    }
}

fn push_owner(sql: &mut QueryBuilder<Postgres>, selection: &Selection) {
    if let Some(project) = selection.project {
        push(
            sql,
            &Condition::equal(columns::PROJECT, Value::Number(project.get())),
        );
    }
    if let Some(service) = &selection.service {
        push(
            sql,
            &Condition::equal(columns::SERVICE, Value::Text(service.clone())),
        );
    }
}

fn push_place(
    sql: &mut QueryBuilder<Postgres>,
    column: crate::listing::Column,
    selection: &Selection,
    part: Part<'_>,
) {
    if !selection.prefix.is_empty() {
        push(sql, &Condition::Prefix(column, selection.prefix.clone()));
    }
    if let Some(after) = part.after {
        let after = Value::Text(after.to_owned());
        push(sql, &Condition::Compare(column, Comparison::Greater, after));
    }
}

fn push(sql: &mut QueryBuilder<Postgres>, condition: &Condition) {
    sql.push(" and ");
    condition.push(sql);
}
