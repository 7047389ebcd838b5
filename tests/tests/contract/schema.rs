//! Keys, policies and privileges of every table, from Postgres's own catalogue.

use rollcall_tests::{TestApp, file};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

/// The one condition of every tenant policy.
const OWN: &str = "(org_id = ANY (( SELECT (string_to_array(current_setting('app.orgs'::text), ','::text))::uuid[] AS string_to_array)::uuid[]))";

async fn strings(pool: &PgPool, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query)
        .fetch_all(pool)
        .await
        .expect("the catalogue answers")
}

#[sqlx::test(migrations = "../migrations")]
async fn every_tenant_table_has_a_primary_key(pool: PgPool) {
    let without = strings(
        &pool,
        "select c.relname::text from pg_class c
         where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace
         and not exists (select from pg_index x where x.indrelid = c.oid and x.indisprimary)",
    )
    .await;
    assert_eq!(without, [""; 0]);
}

#[sqlx::test(migrations = "../migrations")]
async fn foreign_keys_begin_with_the_organization_on_both_sides(pool: PgPool) {
    let all = "select conname::text from pg_constraint where contype = 'f'";
    assert!(strings(&pool, all).await.len() >= 6);
    let other = strings(
        &pool,
        "select conname::text from pg_constraint k
         join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
         join pg_attribute b on b.attrelid = k.confrelid and b.attnum = k.confkey[1]
         where contype = 'f' and (a.attname <> 'org_id' or b.attname <> 'org_id')",
    )
    .await;
    assert_eq!(other, [""; 0]);
}

#[sqlx::test(migrations = "../migrations")]
async fn policies_are_the_tenants_condition_and_the_directorys_alone(pool: PgPool) {
    let policies: Vec<(String, String, String, String, Option<String>)> = sqlx::query_as(
        "select tablename::text, policyname::text, cmd, qual, with_check from pg_policies where permissive = 'PERMISSIVE'
         order by 1, 2",
    )
    .fetch_all(&pool)
    .await
    .expect("policies");
    assert!(policies.len() >= 9);
    for (table, policy, command, condition, check) in policies {
        let found = (command.as_str(), condition.as_str(), check.as_deref());
        let expected = match (table.as_str(), policy.as_str()) {
            ("organizations", "directory") => ("ALL", "true", Some("true")),
            ("api_keys", "directory") => ("SELECT", "true", None),
            // Without a check of its own, what is written must meet the condition too.
            _ => ("ALL", OWN, None),
        };
        assert_eq!(found, expected, "{table}: {policy}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_services_roles_hold_these_privileges_and_no_others(pool: PgPool) {
    let held = strings(
        &pool,
        "select table_name || ' ' || replace(grantee, 'rollcall_', '') || ' '
                || string_agg(lower(privilege_type), ',' order by privilege_type)
         from information_schema.role_table_grants
         where table_schema = 'public' and grantee in ('rollcall_app', 'rollcall_system', 'PUBLIC')
         group by table_name, grantee order by 1",
    )
    .await;
    assert_eq!(
        held,
        [
            "_sqlx_migrations system select",
            "api_keys app insert,select,update",
            "api_keys system select",
            "attachments app delete,insert,select,update",
            "commands app insert,select",
            // What happened has happened.
            "events app insert,select",
            "gaps app insert,select",
            "idempotency_keys app delete,insert,select,update",
            "organizations app select",
            "organizations system insert,select",
            "projects app insert,select",
            "relays app insert,select,update",
            "service_counts app insert,select,update",
            "services app insert,select",
            "sessions app insert,select,update",
            "subscriptions app delete,insert,select",
        ]
    );
    let columns = strings(
        &pool,
        "select c.relname || ' ' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relkind in ('r', 'p') and c.relnamespace = 'public'::regnamespace and a.attnum > 0
         and not a.attisdropped and has_column_privilege('rollcall_app', c.oid, a.attnum, 'update')
         and not has_table_privilege('rollcall_app', c.oid, 'update') order by 1",
    );
    assert_eq!(
        columns.await,
        [
            // What was ordered stays as it was.
            "commands delivered_at",
            "commands finished_at",
            "commands report",
            "commands session_id",
            "commands status",
            "services reported_at",
            "services state",
            "services statistics",
            "services watch",
        ]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_services_roles_can_become_nobody_else(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let mut service = PgConnection::connect(app.database_url())
        .await
        .expect("the login");
    let login: String = sqlx::query_scalar("select current_user::text")
        .fetch_one(&mut service)
        .await
        .expect("the login");
    for role in [login.as_str(), "rollcall_app", "rollcall_system"] {
        let special: bool = sqlx::query_scalar(
            "select rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication from pg_roles
             where rolname = $1",
        )
        .bind(role)
        .fetch_one(&pool)
        .await
        .expect("the role");
        assert!(!special, "{role}");
    }
    let reach: Vec<String> = sqlx::query_scalar(
        "select rolname::text from pg_roles where pg_has_role($1, oid, 'member') and rolname <> $1 order by 1",
    )
    .bind(&login)
    .fetch_all(&pool)
    .await
    .expect("roles");
    assert_eq!(reach, ["rollcall_app", "rollcall_system"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_own_row_cannot_be_given_away(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let form = reqwest::multipart::Form::new()
        .text("session[unit_id]", "x")
        .part("session[data][photo]", file("a.jpg", "image/jpeg", "bytes"));
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    app.relay("front").await;
    let other = app.strange_org;
    let mut service = PgConnection::connect(app.database_url())
        .await
        .expect("the login");
    for table in [
        "api_keys",
        "attachments",
        "events",
        "projects",
        "relays",
        "services",
        "sessions",
    ] {
        let mut tx = service.begin().await.expect("a transaction");
        let set = format!(
            "select set_config('role', 'rollcall_app', true), set_config('app.orgs', '{}', true)",
            app.org
        );
        sqlx::query(AssertSqlSafe(set))
            .execute(&mut *tx)
            .await
            .expect("the tenant is set");
        let give = format!("update {table} set org_id = '{other}'");
        let refused = sqlx::query(AssertSqlSafe(give)).execute(&mut *tx).await;
        let refused = refused.expect_err("refused");
        let code = refused.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some("42501"), "{table}: {refused}");
    }
}

/// What 0.1's first schema held is in the columns and counts of the next.
#[sqlx::test]
async fn the_reading_side_takes_over_what_is_there(pool: PgPool) {
    for migration in [
        "create table _sqlx_migrations (version bigint, success boolean)",
        include_str!("../../../migrations/0001_tenants.sql"),
        include_str!("../../../migrations/0002_sessions.sql"),
        "insert into organizations (org_id, name) values (uuid '00000000-0000-0000-0000-000000000001', 'a');
         insert into projects (org_id, name) select org_id, 'p' from organizations;
         insert into services (org_id, name, project_id, kind) select org_id, 'forms-1', project_id, 'form' from projects;
         insert into sessions
             select org_id, gen_random_uuid(), project_id, 'forms-1', 'form', 's' || n, 'u', now(), now(), now(), 'k', n % 4 = 0,
                    '{\"a\": \"b\"}', 2
             from projects, generate_series(1, 10) n;
         insert into events (org_id, session_id, revision, type, project_id, service, kind, at, saved_at, session)
             select org_id, id, n, 'created', project_id, service, kind, now(), now(), to_jsonb(s)
             from sessions s, generate_series(1, 2) n",
        include_str!("../../../migrations/0003_reading.sql"),
    ] {
        sqlx::raw_sql(migration).execute(&pool).await.expect("it runs");
    }
    let states = strings(
        &pool,
        "select state || ' ' || active || ' ' || count(*) from sessions where footprint between 512 and 1024
         group by state, active order by 1",
    );
    assert_eq!(states.await, ["deleted false 2", "saved true 8"]);
    let counts = strings(
        &pool,
        "select active || ' of ' || total from service_counts",
    );
    assert_eq!(counts.await, ["8 of 10"]);
    let changed = strings(
        &pool,
        "select distinct revision || changed::text from events order by 1",
    );
    assert_eq!(changed.await, ["1{\"\"}", "2{}"]);
    let late = strings(
        &pool,
        "select s.id::text from sessions s join events e on e.session_id = s.id where e.txid > s.event_txid",
    );
    assert_eq!(
        late.await,
        [""; 0],
        "an event that comes is never before those that are there"
    );
}
