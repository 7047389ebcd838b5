//! How Postgres reads a page, as the service's own role under row-level security: by an index that has the filter's column
//! and the order, for every declared filter and sort. The shape of the plan is asserted, not its time.

use rollcall_model::OrgId;
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Execute, PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Column, Comparison, Condition, Order, Query, Source, Start, Value};
use crate::{PAGE_BYTES, commands, events, services, sessions};

const ORG: Uuid = Uuid::from_u128(1);

/// Rows of two organizations, so that there is something to choose between.
const ROWS: &str = "
    insert into organizations (org_id, name) values (uuid '00000000-0000-0000-0000-000000000001', 'a'),
        (uuid '00000000-0000-0000-0000-000000000002', 'b');
    insert into projects (org_id, name) select org_id, 'p' from organizations, generate_series(1, 5);
    insert into services (org_id, name, project_id, kind)
        select org_id, 'forms-' || project_id, project_id, 'form' from projects;
    insert into sessions (org_id, id, project_id, service, kind, source_id, unit_id, label, username, created_at, saved_at,
                          received_at, received_from, deleted, points, revision, state, active, footprint, number, remote,
                          client_id, protocol, connected, inflight, queue_depth, idle_since)
        select p.org_id, gen_random_uuid(), p.project_id, 'forms-' || p.project_id, k.kind, 'source-' || n, 'unit-' || n % 13,
               case when n % 3 = 0 then 'label-' || n % 12 end, case when n % 3 = 1 then 'user-' || n % 14 end,
               now() - n * interval '1 minute', now(), now() - n * interval '1 second', 'k', n % 10 = 0, '{}', 1,
               case when n % 10 = 0 then 'deleted' else 'saved' end, n % 10 <> 0, 512,
               case when k.kind = 'pager' then n / 20 % 40 + 1 end,
               case when k.kind = 'mqtt' then '10.0.0.' || n % 13 end, case when k.kind = 'mqtt' then 'client-' || n % 14 end,
               case when k.kind = 'mqtt' then 'mqtt' || n % 7 end, case when k.kind = 'mqtt' then n % 10 <> 0 end,
               case when k.kind = 'mqtt' then n % 211 end, case when k.kind = 'mqtt' then n % 223 end,
               case when k.kind = 'mqtt' then now() - n * interval '1 second' end
        from projects p, generate_series(1, 2000) n,
             lateral (select case when n % 20 = 0 then 'pager' when n % 5 < 2 then 'mqtt' else 'form' end as kind) k;
    insert into events (org_id, session_id, revision, type, project_id, service, kind, at, saved_at, session, footprint)
        select org_id, id, 1, case when deleted then 'deleted' else 'created' end, project_id, service, kind, received_at,
               saved_at, '{}', 512 from sessions;
    insert into api_keys (org_id, id, name, permissions, secret_hash) select org_id, 'k', 'k', '{}', '' from organizations;
    insert into relays (org_id, id, project_id, name, key_id)
        select org_id, gen_random_uuid(), min(project_id), 'r', 'k' from projects group by org_id;
    insert into commands (org_id, id, project_id, service, relay_id, session_id, \"order\", created_by, created_at, expires_at,
                          status, finished_at)
        select s.org_id, gen_random_uuid(), s.project_id, s.service, r.id, s.id, '{}', 'k', s.created_at, s.created_at,
               case when s.deleted then 'refused' else 'done' end, now()
        from sessions s join relays r on r.org_id = s.org_id;
    analyze";

async fn plan(conn: &mut PgConnection, source: &Source, query: &Query) -> Vec<Json> {
    let mut sql = query.sql(source, OrgId(ORG));
    let mut statement = sql.build();
    let arguments = statement
        .take_arguments()
        .expect("arguments")
        .expect("some");
    let text = format!("explain (format json) {}", statement.sql().as_str());
    let plan: Json = sqlx::query_scalar_with(AssertSqlSafe(text), arguments)
        .fetch_one(conn)
        .await
        .expect("a plan");
    let mut nodes = Vec::new();
    flatten(&plan[0]["Plan"], &mut nodes);
    nodes
}

fn flatten(node: &Json, nodes: &mut Vec<Json>) {
    nodes.push(node.clone());
    for child in node["Plans"].as_array().into_iter().flatten() {
        flatten(child, nodes);
    }
}

async fn service(pool: &PgPool) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the plan is that of the service's role, set by hand"
    )]
    let mut conn = pool.acquire().await.expect("a connection");
    sqlx::raw_sql(ROWS).execute(&mut *conn).await.expect("rows");
    let tenant = format!("set role rollcall_app; set app.orgs = '{ORG}'");
    sqlx::raw_sql(AssertSqlSafe(tenant))
        .execute(&mut *conn)
        .await
        .expect("a tenant");
    conn
}

/// The one scan of the table: by an index whose condition names `columns`, with nothing to sort after it.
fn check(nodes: &[Json], source: &Source, columns: &[&str], at: &str) {
    let of_table = nodes
        .iter()
        .filter(|node| node["Relation Name"] == source.table);
    let scans: Vec<&Json> = of_table.collect();
    assert_eq!(scans.len(), 1, "{at}: {nodes:#?}");
    assert!(
        scans[0]["Node Type"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("Index")),
        "{at}: {:#?}",
        scans[0]
    );
    let condition = scans[0]["Index Cond"].as_str().unwrap_or_default();
    for column in columns {
        assert!(
            condition.contains(column),
            "{at}: {column} is not looked up in {:#?}",
            scans[0]
        );
    }
    let sort = nodes.iter().find(|node| node["Node Type"] == "Sort");
    assert!(sort.is_none(), "{at}: {sort:#?}");
}

fn query(
    conditions: Vec<Condition>,
    columns: &'static [Column],
    descending: bool,
    start: Start,
) -> Query {
    Query {
        conditions,
        order: Order {
            columns,
            descending,
        },
        start,
        limit: 100,
        bytes: PAGE_BYTES,
        count_to: None,
    }
}

fn now() -> Value {
    Value::Time(OffsetDateTime::now_utc())
}

const STARTED: &[Column] = &[sessions::columns::STARTED, sessions::columns::ID];
const UPDATED: &[Column] = &[sessions::columns::UPDATED, sessions::columns::ID];
const BY_SOURCE: &[Column] = &[sessions::columns::SOURCE_ID, sessions::columns::ID];

#[sqlx::test(migrations = "../../migrations")]
async fn every_sort_of_sessions_reads_an_index_from_any_place(pool: PgPool) {
    let mut conn = service(&pool).await;
    let id = Value::Id(Uuid::max());
    for (columns, value) in [
        (STARTED, Some(now())),
        (UPDATED, Some(now())),
        (BY_SOURCE, Some(Value::Text("source-5".into()))),
        (&[sessions::columns::ID], None),
    ] {
        let place: Vec<Value> = value.into_iter().chain([id.clone()]).collect();
        for descending in [false, true] {
            for start in [
                Start::First,
                Start::After(place.clone()),
                Start::Before(place.clone()),
                Start::Skip(50),
            ] {
                let at = format!("{columns:?} descending: {descending}, {start:?}");
                let is_placed = matches!(start, Start::After(_) | Start::Before(_));
                let nodes = plan(
                    &mut conn,
                    &sessions::SOURCE,
                    &query(vec![], columns, descending, start),
                )
                .await;
                let looked_up: &[&str] = if is_placed {
                    &["org_id", "ROW("]
                } else {
                    &["org_id"]
                };
                // One column is no row.
                let looked_up = if columns.len() == 1 {
                    &["org_id"]
                } else {
                    looked_up
                };
                check(&nodes, &sessions::SOURCE, looked_up, &at);
            }
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_filter_of_sessions_reads_an_index_that_has_it(pool: PgPool) {
    use sessions::columns::{
        ACTIVE, CLIENT, KIND, LABEL, NUMBER, PROJECT, PROTOCOL, REMOTE, SERVICE, SOURCE_ID,
        STARTED as START, STATE, UNIT, UPDATED as UPDATE, USER,
    };
    let mut conn = service(&pool).await;
    let project: i64 = sqlx::query_scalar("select min(project_id) from projects")
        .fetch_one(&mut *conn)
        .await
        .expect("a project");
    let text = |column, value: &str| Condition::equal(column, Value::Text(value.into()));
    for (condition, column) in [
        (text(KIND, "pager"), "kind"),
        (text(STATE, "deleted"), "state"),
        (text(SERVICE, &format!("forms-{project}")), "service"),
        (text(UNIT, "unit-7"), "unit_id"),
        (text(LABEL, "label-3"), "label"),
        (text(USER, "user-7"), "username"),
        (text(REMOTE, "10.0.0.7"), "remote"),
        (text(PROTOCOL, "mqtt5"), "protocol"),
        (text(CLIENT, "client-7"), "client_id"),
        (Condition::equal(ACTIVE, Value::Flag(false)), "active"),
        (Condition::equal(NUMBER, Value::Number(7)), "number"),
        (
            Condition::equal(PROJECT, Value::Number(project)),
            "project_id",
        ),
    ] {
        for start in [
            Start::First,
            Start::After(vec![now(), Value::Id(Uuid::max())]),
        ] {
            let query = query(vec![condition.clone()], STARTED, true, start);
            let nodes = plan(&mut conn, &sessions::SOURCE, &query).await;
            check(
                &nodes,
                &sessions::SOURCE,
                &["org_id", column],
                &format!("{condition:?}"),
            );
        }
    }
    for (column, order, comparison) in [
        (START, STARTED, Comparison::GreaterOrEqual),
        (START, STARTED, Comparison::Less),
        (UPDATE, UPDATED, Comparison::GreaterOrEqual),
        (UPDATE, UPDATED, Comparison::Less),
    ] {
        let condition = Condition::Compare(column, comparison, now());
        let query = query(vec![condition], order, true, Start::First);
        let nodes = plan(&mut conn, &sessions::SOURCE, &query).await;
        check(
            &nodes,
            &sessions::SOURCE,
            &["org_id", column.sql],
            &format!("{column:?}"),
        );
    }
    let prefix = Condition::Prefix(SOURCE_ID, "source-19".into());
    let nodes = plan(
        &mut conn,
        &sessions::SOURCE,
        &query(vec![prefix], BY_SOURCE, false, Start::First),
    )
    .await;
    check(
        &nodes,
        &sessions::SOURCE,
        &["org_id", "source_id"],
        "prefix",
    );
}

#[sqlx::test(migrations = "../../migrations")]
async fn the_sort_by_number_reads_an_index_from_any_place(pool: PgPool) {
    use sessions::columns::{ID, NUMBER};
    const BY_NUMBER: &[Column] = &[NUMBER, sessions::columns::STARTED, ID];
    let mut conn = service(&pool).await;
    let place = || vec![Value::Number(7), now(), Value::Id(Uuid::max())];
    for descending in [false, true] {
        for start in [Start::First, Start::After(place()), Start::Before(place())] {
            let at = format!("descending: {descending}, {start:?}");
            let known = Condition::Known(NUMBER);
            let query = query(vec![known], BY_NUMBER, descending, start);
            let nodes = plan(&mut conn, &sessions::SOURCE, &query).await;
            // Where few are left they may be sorted, but not looked for among all.
            let indexes = nodes.iter().filter_map(|node| node["Index Name"].as_str());
            assert_eq!(indexes.collect::<Vec<_>>(), ["sessions_by_number"], "{at}");
        }
    }
}

const BY_INFLIGHT: &[Column] = &[sessions::columns::INFLIGHT, sessions::columns::ID];
const BY_QUEUE: &[Column] = &[sessions::columns::QUEUE_DEPTH, sessions::columns::ID];
const BY_IDLE: &[Column] = &[sessions::columns::IDLE_SINCE, sessions::columns::ID];

#[sqlx::test(migrations = "../../migrations")]
async fn every_sort_of_connections_reads_an_index_from_any_place(pool: PgPool) {
    let mut conn = service(&pool).await;
    for (columns, value, index) in [
        (BY_INFLIGHT, Value::Number(7), "sessions_by_inflight"),
        (BY_QUEUE, Value::Number(7), "sessions_by_queue_depth"),
        (BY_IDLE, now(), "sessions_by_idle"),
    ] {
        let place = vec![value, Value::Id(Uuid::max())];
        for descending in [false, true] {
            for start in [
                Start::First,
                Start::After(place.clone()),
                Start::Before(place.clone()),
            ] {
                let at = format!("{index} descending: {descending}, {start:?}");
                let known = Condition::Known(columns[0]);
                let query = query(vec![known], columns, descending, start);
                let nodes = plan(&mut conn, &sessions::SOURCE, &query).await;
                // Where few are left they may be sorted, but not looked for among all.
                let indexes = nodes.iter().filter_map(|node| node["Index Name"].as_str());
                assert_eq!(indexes.collect::<Vec<_>>(), [index], "{at}");
            }
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_range_of_connections_reads_an_index_that_has_it(pool: PgPool) {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    let mut conn = service(&pool).await;
    let late = || Value::Time(OffsetDateTime::now_utc() - time::Duration::seconds(20));
    let early = || Value::Time(OffsetDateTime::now_utc() - time::Duration::seconds(1_980));
    for (columns, low, high, index) in [
        (
            BY_INFLIGHT,
            Value::Number(3),
            Value::Number(205),
            "sessions_by_inflight",
        ),
        (
            BY_QUEUE,
            Value::Number(3),
            Value::Number(215),
            "sessions_by_queue_depth",
        ),
        (BY_IDLE, early(), late(), "sessions_by_idle"),
    ] {
        for (comparison, value) in [
            (Less, &low),
            (LessOrEqual, &low),
            (Greater, &high),
            (GreaterOrEqual, &high),
        ] {
            let range = Condition::Compare(columns[0], comparison, value.clone());
            // In the order of the range, and in the usual one.
            for order in [columns, STARTED] {
                let query = query(vec![range.clone()], order, true, Start::First);
                let nodes = plan(&mut conn, &sessions::SOURCE, &query).await;
                let indexes = nodes.iter().filter_map(|node| node["Index Name"].as_str());
                let indexes: Vec<&str> = indexes.collect();
                assert_eq!(indexes, [index], "{range:?} {order:?}: {nodes:#?}");
            }
        }
    }
}

/// What else a project has is not read on the way.
#[sqlx::test(migrations = "../../migrations")]
async fn the_form_intake_reads_the_index_of_forms(pool: PgPool) {
    use sessions::columns::{DELETED, ID, KIND, PROJECT, SAVED};
    let mut conn = service(&pool).await;
    let project: i64 = sqlx::query_scalar("select min(project_id) from projects")
        .fetch_one(&mut *conn)
        .await
        .expect("a project");
    let conditions = vec![
        Condition::equal(KIND, Value::Text("form".into())),
        Condition::equal(PROJECT, Value::Number(project)),
        Condition::equal(DELETED, Value::Flag(false)),
    ];
    let nodes = plan(
        &mut conn,
        &sessions::SOURCE,
        &query(conditions, &[SAVED, ID], true, Start::First),
    )
    .await;
    check(
        &nodes,
        &sessions::SOURCE,
        &["org_id", "project_id", "deleted"],
        "forms",
    );
    let index = nodes.iter().find_map(|node| node["Index Name"].as_str());
    assert_eq!(index, Some("sessions_by_save"));
}

#[sqlx::test(migrations = "../../migrations")]
async fn a_filter_reads_an_index_whatever_the_sort(pool: PgPool) {
    use sessions::columns::{LABEL, UPDATED as UPDATE};
    let mut conn = service(&pool).await;
    let label = Condition::equal(LABEL, Value::Text("label-3".into()));
    let early = Condition::Compare(UPDATE, Comparison::Less, now());
    for (condition, order) in [(label, UPDATED), (early, STARTED)] {
        let nodes = plan(
            &mut conn,
            &sessions::SOURCE,
            &query(vec![condition], order, true, Start::First),
        )
        .await;
        let scanned = nodes.iter().find(|node| node["Node Type"] == "Seq Scan");
        assert!(scanned.is_none(), "{scanned:#?}");
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_filter_of_the_feed_reads_an_index_that_has_it(pool: PgPool) {
    use events::columns::{ID, KIND, PROJECT, SERVICE, SESSION, TXID, TYPE};
    const BY_COMMIT: &[Column] = &[TXID, ID];
    let mut conn = service(&pool).await;
    let project: i64 = sqlx::query_scalar("select min(project_id) from projects")
        .fetch_one(&mut *conn)
        .await
        .expect("a project");
    let text = |column, value: &str| Condition::equal(column, Value::Text(value.into()));
    let place = || Start::After(vec![Value::Transaction(1), Value::Number(0)]);
    let below = || Condition::Compare(TXID, Comparison::Less, Value::Transaction(u64::MAX));
    for (condition, column) in [
        (text(KIND, "pager"), "kind"),
        (text(TYPE, "deleted"), "type"),
        (text(SERVICE, &format!("forms-{project}")), "service"),
        (
            Condition::equal(PROJECT, Value::Number(project)),
            "project_id",
        ),
        (Condition::All(vec![]), "txid"),
    ] {
        let query = query(vec![below(), condition.clone()], BY_COMMIT, false, place());
        let nodes = plan(&mut conn, &events::SOURCE, &query).await;
        check(
            &nodes,
            &events::SOURCE,
            &["org_id", column, "txid"],
            &format!("{condition:?}"),
        );
    }
    // A session's are few: they may be sorted, but not looked for among all.
    let session = Condition::equal(SESSION, Value::Id(Uuid::from_u128(7)));
    let nodes = plan(
        &mut conn,
        &events::SOURCE,
        &query(vec![below(), session.clone()], BY_COMMIT, false, place()),
    )
    .await;
    let scan = nodes
        .iter()
        .find(|node| node["Relation Name"] == "events")
        .expect("a scan");
    assert!(
        scan["Index Cond"]
            .as_str()
            .is_some_and(|cond| cond.contains("session_id")),
        "{scan:#?}"
    );
    let nodes = plan(
        &mut conn,
        &events::SOURCE,
        &query(
            vec![session],
            events::BY_REVISION.columns,
            false,
            Start::First,
        ),
    )
    .await;
    check(
        &nodes,
        &events::SOURCE,
        &["org_id", "session_id"],
        "history",
    );
}

#[sqlx::test(migrations = "../../migrations")]
async fn every_filter_of_commands_reads_an_index_that_has_it(pool: PgPool) {
    use commands::columns::{CREATED, ID, PROJECT, SERVICE, SESSION, STATUS};
    const BY_TIME: &[Column] = &[CREATED, ID];
    let mut conn = service(&pool).await;
    let project: i64 = sqlx::query_scalar("select min(project_id) from projects")
        .fetch_one(&mut *conn)
        .await
        .expect("a project");
    let text = |column, value: &str| Condition::equal(column, Value::Text(value.into()));
    for (condition, column) in [
        (text(SERVICE, &format!("forms-{project}")), "service"),
        (text(STATUS, "refused"), "status"),
        (
            Condition::equal(PROJECT, Value::Number(project)),
            "project_id",
        ),
        (Condition::All(vec![]), "org_id"),
    ] {
        for start in [
            Start::First,
            Start::After(vec![now(), Value::Id(Uuid::max())]),
        ] {
            let query = query(vec![condition.clone()], BY_TIME, true, start);
            let nodes = plan(&mut conn, &commands::SOURCE, &query).await;
            let at = format!("{condition:?}");
            check(&nodes, &commands::SOURCE, &["org_id", column], &at);
        }
    }
    // A session's are few: they may be sorted, but not looked for among all.
    let session = Condition::equal(SESSION, Value::Id(Uuid::from_u128(7)));
    let query = query(vec![session], BY_TIME, true, Start::First);
    let nodes = plan(&mut conn, &commands::SOURCE, &query).await;
    let indexes = nodes.iter().filter_map(|node| node["Index Name"].as_str());
    assert_eq!(indexes.collect::<Vec<_>>(), ["commands_by_session"]);
}

#[sqlx::test(migrations = "../../migrations")]
async fn services_are_read_by_name(pool: PgPool) {
    use services::columns::NAME;
    let mut conn = service(&pool).await;
    sqlx::raw_sql("set enable_seqscan = off; set enable_bitmapscan = off")
        .execute(&mut *conn)
        .await
        .expect("set");
    let after = Start::After(vec![Value::Text("forms-1".into())]);
    let nodes = plan(
        &mut conn,
        &services::SOURCE,
        &query(vec![], &[NAME], false, after),
    )
    .await;
    check(&nodes, &services::SOURCE, &["org_id", "name"], "services");
}
