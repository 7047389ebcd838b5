//! How Postgres reads the lists of brokers' tools, as the service's own role under row-level security: one scan of an index
//! from where the page begins, in the list's order, whatever it is narrowed to. So also where it plans without the values.

use rollcall_model::{OrgId, ProjectId};
use serde_json::Value as Json;
use sqlx::{AssertSqlSafe, Execute, PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Part, Selection, count_sql, filters_sql, session_sql, sessions_sql, subscribers_sql};

const ORG: OrgId = OrgId(Uuid::from_u128(1));

/// Sessions of two organizations, most of them clients of one broker, each with a filter of its own and one of all.
const ROWS: &str = "
    insert into organizations (org_id, name) values (uuid '00000000-0000-0000-0000-000000000001', 'a'),
        (uuid '00000000-0000-0000-0000-000000000002', 'b');
    insert into projects (org_id, name) select org_id, 'p' from organizations, generate_series(1, 3);
    insert into services (org_id, name, project_id, kind)
        select org_id, 'broker-' || project_id, project_id, 'broker' from projects;
    insert into sessions (org_id, id, project_id, service, kind, source_id, unit_id, created_at, saved_at, received_at,
                          received_from, deleted, points, revision, state, active, footprint, facts, client_id, connected)
        select p.org_id, gen_random_uuid(), p.project_id, 'broker-' || p.project_id, 'mqtt', 'client-' || n, '', now(), now(),
               now(), 'k', false, '{}', 1, 'connected', n % 10 <> 0, 1024, '{\"presence\": \"connected\"}', 'client-' || n,
               n % 4 <> 0
        from projects p, generate_series(1, 5000) n;
    insert into subscriptions (org_id, session_id, filter, project_id, service, client_id, qos, connected)
        select org_id, id, f, project_id, service, client_id, 1, connected from sessions,
             lateral (values ('all'), ('own/' || client_id)) of (f) where active;";

async fn tenant(pool: &PgPool) -> sqlx::pool::PoolConnection<Postgres> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the plan is that of the service's role, set by hand"
    )]
    let mut conn = pool.acquire().await.expect("a connection");
    let tenant = format!("set role rollcall_app; set app.orgs = '{ORG}'");
    // Vacuumed, an index alone can be read.
    for sql in [
        ROWS,
        "vacuum analyze sessions",
        "vacuum analyze subscriptions",
        &tenant,
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *conn)
            .await
            .expect("it runs");
    }
    conn
}

/// The nodes of a statement's plans: with its values and without.
async fn plans(conn: &mut PgConnection, mut sql: QueryBuilder<Postgres>) -> [Vec<Json>; 2] {
    let mut statement = sql.build();
    let arguments = statement
        .take_arguments()
        .expect("arguments")
        .expect("some");
    let text = statement.sql().as_str().to_owned();
    let explain = format!("explain (format json) {text}");
    let with: Json = sqlx::query_scalar_with(AssertSqlSafe(explain), arguments)
        .fetch_one(&mut *conn)
        .await
        .expect("a plan");
    let parameters = (1..).take_while(|at| text.contains(&format!("${at}")));
    let nulls: Vec<&str> = parameters.map(|_| "null").collect();
    let set = "set plan_cache_mode = force_generic_plan";
    let prepare = format!("prepare page as {text}");
    for sql in [set, prepare.as_str()] {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut *conn)
            .await
            .expect("it is prepared");
    }
    let explain = format!("explain (format json) execute page({})", nulls.join(", "));
    let without: Json = sqlx::query_scalar(AssertSqlSafe(explain))
        .persistent(false)
        .fetch_one(&mut *conn)
        .await
        .expect("a plan");
    sqlx::raw_sql("deallocate page; reset plan_cache_mode")
        .execute(conn)
        .await
        .expect("it is forgotten");
    [with, without].map(|plan| {
        let mut nodes = Vec::new();
        flatten(&plan[0]["Plan"], &mut nodes);
        nodes
    })
}

fn flatten(node: &Json, nodes: &mut Vec<Json>) {
    nodes.push(node.clone());
    for child in node["Plans"].as_array().into_iter().flatten() {
        flatten(child, nodes);
    }
}

/// Every scan is of one of these indexes, the first by a condition on `columns`, and nothing is sorted.
fn check(nodes: &[Json], indexes: &[&str], columns: &[&str], at: &str) {
    let scans: Vec<&Json> = nodes
        .iter()
        .filter(|node| node.get("Relation Name").is_some())
        .collect();
    assert!(!scans.is_empty(), "{at}: {nodes:#?}");
    for scan in &scans {
        let name = scan["Index Name"].as_str().unwrap_or_default();
        assert!(indexes.contains(&name), "{at}: {scan:#?}");
    }
    let condition = scans[0]["Index Cond"].as_str().unwrap_or_default();
    for column in columns {
        assert!(
            condition.contains(column),
            "{at}: {column} is not in {condition}"
        );
    }
    let sort = nodes.iter().find(|node| {
        let kind = node["Node Type"].as_str().unwrap_or_default();
        kind.contains("Sort") || node["Strategy"] == "Hashed"
    });
    assert!(sort.is_none(), "{at}: {sort:#?}");
}

/// What lists may be narrowed to, with the columns that an index is then to be looked up by.
async fn selections(conn: &mut PgConnection) -> Vec<(Selection, Vec<&'static str>)> {
    let project: i64 = sqlx::query_scalar("select min(project_id) from sessions")
        .fetch_one(conn)
        .await
        .expect("a project");
    let of_project = Selection {
        project: ProjectId::new(project),
        ..Selection::default()
    };
    let of_broker = Selection {
        service: Some(format!("broker-{project}")),
        ..of_project.clone()
    };
    vec![
        (Selection::default(), vec!["org_id"]),
        (of_project, vec!["org_id", "project_id"]),
        (of_broker, vec!["org_id", "project_id", "service"]),
    ]
}

const PARTS: [Part<'_>; 2] = [
    Part {
        after: None,
        limit: 101,
    },
    Part {
        after: Some("client-31"),
        limit: 101,
    },
];

#[sqlx::test(migrations = "../../migrations")]
async fn sessions_are_read_in_order_from_any_place(pool: PgPool) {
    let mut conn = tenant(&pool).await;
    for (selection, columns) in selections(&mut conn).await {
        for (connected, part) in [None, Some(true), Some(false)]
            .into_iter()
            .flat_map(|connected| PARTS.map(|part| (connected, part)))
        {
            for prefix in ["", "client-"] {
                let selection = Selection {
                    connected,
                    prefix: prefix.to_owned(),
                    ..selection.clone()
                };
                let at = format!("{selection:?} {part:?}");
                let mut columns = columns.clone();
                columns.extend(connected.map(|_| "connected"));
                columns.extend(part.after.map(|_| "client_id"));
                let sql = sessions_sql(ORG, &selection, part);
                let index = match selection.project {
                    None => "sessions_by_client",
                    Some(_) => "sessions_by_client_in_project",
                };
                for nodes in plans(&mut conn, sql).await {
                    check(&nodes, &[index], &columns, &at);
                }
            }
        }
        let indexes = ["sessions_by_client", "sessions_by_client_in_project"];
        for nodes in plans(&mut conn, session_sql(ORG, &selection, "client-7")).await {
            let at = format!("one of {selection:?}");
            let scan = nodes.iter().find(|node| node.get("Index Name").is_some());
            let scan = scan.expect("an index is read");
            let name = scan["Index Name"].as_str().unwrap_or_default();
            let condition = scan["Index Cond"].as_str().unwrap_or_default();
            assert!(
                indexes.contains(&name) && condition.contains("client_id"),
                "{at}: {scan:#?}"
            );
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn filters_and_their_clients_are_read_in_order_from_an_index_alone(pool: PgPool) {
    let mut conn = tenant(&pool).await;
    for (selection, columns) in selections(&mut conn).await {
        let index = match selection.project {
            None => "subscriptions_by_filter",
            Some(_) => "subscriptions_by_filter_in_project",
        };
        for connected in [None, Some(true), Some(false)] {
            let selection = Selection {
                connected,
                ..selection.clone()
            };
            for part in PARTS {
                let at = format!("{selection:?} {part:?}");
                let statements = [
                    filters_sql(ORG, &selection, part),
                    subscribers_sql(ORG, "all", &selection, part),
                ];
                for sql in statements {
                    for nodes in plans(&mut conn, sql).await {
                        check(&nodes, &[index], &columns, &at);
                        let alone = nodes
                            .iter()
                            .any(|node| node["Node Type"] == "Index Only Scan");
                        assert!(alone, "{at}: {nodes:#?}");
                    }
                }
            }
        }
    }
}

#[sqlx::test(migrations = "../../migrations")]
async fn sessions_are_counted_from_an_index_alone(pool: PgPool) {
    let mut conn = tenant(&pool).await;
    for (selection, _) in selections(&mut conn).await {
        for nodes in plans(&mut conn, count_sql(ORG, &selection)).await {
            let scans = nodes
                .iter()
                .filter(|node| node.get("Relation Name").is_some());
            let kinds: Vec<&Json> = scans.map(|node| &node["Node Type"]).collect();
            assert_eq!(kinds, ["Index Only Scan"], "{selection:?}: {nodes:#?}");
        }
    }
}
