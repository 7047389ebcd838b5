//! Row-level security, on every tenant table there is, as the service's own role.

use rollcall_store::Error;
use rollcall_tests::TestApp;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Row};

/// Tables of the whole system.
const WITHOUT_A_TENANT: [&str; 1] = ["_sqlx_migrations"];
/// The directory: read before a tenant is known.
const DIRECTORY: [&str; 2] = ["api_keys", "organizations"];

async fn names(pool: &PgPool, condition: &'static str) -> Vec<String> {
    let query = format!(
        "select relname::text from pg_class c where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace
         and {condition} order by 1"
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_all(pool)
        .await
        .expect("names")
}

const HAS_ORG: &str = "exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'org_id' and not a.attisdropped)";
const LACKS_ORG: &str = "not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'org_id' and not a.attisdropped)";

async fn service(app: &TestApp) -> PgConnection {
    use secrecy::ExposeSecret;
    let url = app.config.database.database_url.expose_secret();
    PgConnection::connect(url)
        .await
        .expect("the service's login")
}

#[sqlx::test(migrations = "../migrations")]
async fn every_tenant_table_is_held_by_row_level_security(pool: PgPool) {
    assert_eq!(names(&pool, LACKS_ORG).await, WITHOUT_A_TENANT);
    let free = names(
        &pool,
        "not (relrowsecurity and relforcerowsecurity) and relname <> '_sqlx_migrations'",
    )
    .await;
    assert_eq!(free, [""; 0], "not enabled and forced");
    let rows = sqlx::query(
        "select c.relname::text, i.relname::text, a.attname::text
         from pg_index x join pg_class c on c.oid = x.indrelid join pg_class i on i.oid = x.indexrelid
         left join pg_attribute a on a.attrelid = c.oid and a.attnum = x.indkey[0]
         where c.relnamespace = 'public'::regnamespace and c.relname <> '_sqlx_migrations'",
    )
    .fetch_all(&pool)
    .await
    .expect("indexes");
    assert!(rows.len() >= 10);
    for row in rows {
        let (table, index, first): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        // The directory's names are looked up before an organization is known.
        if index != "organizations_name_key" {
            assert_eq!(
                first, "org_id",
                "{table}: {index} does not lead with org_id"
            );
        }
    }
    for table in names(&pool, HAS_ORG).await {
        let policies: Vec<String> = sqlx::query_scalar(
            "select array_to_string(roles, ',') from pg_policies where tablename = $1 order by 1",
        )
        .bind(&table)
        .fetch_all(&pool)
        .await
        .expect("policies");
        let expected: &[&str] = if DIRECTORY.contains(&table.as_str()) {
            &["rollcall_app", "rollcall_system"]
        } else {
            &["rollcall_app"]
        };
        assert_eq!(policies, expected, "{table}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_services_role_is_nobody_special(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let mut service = service(&app).await;
    let (is_super, bypasses, owns): (bool, bool, bool) = sqlx::query_as(
        "select rolsuper, rolbypassrls, exists (select from pg_class where relowner = r.oid) from pg_roles r
         where rolname = current_user",
    )
    .fetch_one(&mut service)
    .await
    .expect("the role");
    assert!(!is_super && !bypasses && !owns);
    for statement in [
        "update events set type = 'x'",
        "delete from events",
        "delete from sessions",
    ] {
        let refused = sqlx::query(statement).execute(&mut service).await;
        let code = refused
            .err()
            .and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{statement}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn without_a_tenant_nothing_is_seen(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    fill(&app).await;
    let mut service = service(&app).await;
    for used_before in [false, true] {
        if used_before {
            let mut tx = service.begin().await.expect("a transaction");
            let set = format!(
                "select set_config('role', 'rollcall_app', true), set_config('app.orgs', '{}', true)",
                app.org
            );
            sqlx::query(AssertSqlSafe(set))
                .execute(&mut *tx)
                .await
                .expect("the tenant is set");
            tx.commit().await.expect("committed");
        }
        for table in names(&pool, HAS_ORG).await {
            let select = format!("select count(*) from {table}");
            for role in ["none", "rollcall_app"] {
                let is_directory = DIRECTORY.contains(&table.as_str());
                if role == "none" && is_directory {
                    continue;
                }
                let mut tx = service.begin().await.expect("a transaction");
                let set = format!("select set_config('role', '{role}', true)");
                sqlx::query(AssertSqlSafe(set))
                    .execute(&mut *tx)
                    .await
                    .expect("the role is set");
                let seen: Result<i64, Error> = sqlx::query_scalar(AssertSqlSafe(select.clone()))
                    .fetch_one(&mut *tx)
                    .await;
                match seen {
                    Ok(rows) => assert!(used_before && rows == 0, "{table} as {role}: {rows} rows"),
                    Err(error) => assert!(
                        error.to_string().contains("app.orgs"),
                        "{table} as {role}: {error}"
                    ),
                }
            }
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_tenant_sees_and_touches_its_own_rows_alone(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    fill(&app).await;
    let mut service = service(&app).await;
    let own = app.org.to_string();
    for table in names(&pool, HAS_ORG).await {
        let all: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "select count(distinct org_id) from {table}"
        )))
        .fetch_one(&pool)
        .await
        .expect("a count");
        assert_eq!(
            all, 2,
            "{table} has rows of both organizations, or this test shows nothing"
        );
        let mut tx = service.begin().await.expect("a transaction");
        let set = format!(
            "select set_config('role', 'rollcall_app', true), set_config('app.orgs', '{own}', true)"
        );
        sqlx::query(AssertSqlSafe(set))
            .execute(&mut *tx)
            .await
            .expect("the tenant is set");
        let seen: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select distinct org_id::text from {table}"
        )))
        .fetch_all(&mut *tx)
        .await
        .expect("rows");
        assert_eq!(seen, [own.as_str()], "{table}");
        // Whatever it may change, it cannot give away, and it cannot reach what is not its own.
        let granted: bool =
            sqlx::query_scalar("select has_table_privilege('rollcall_app', $1, 'update')")
                .bind(&table)
                .fetch_one(&mut *tx)
                .await
                .expect("a privilege");
        if granted {
            let reached = sqlx::query(AssertSqlSafe(format!(
                "update {table} set org_id = org_id where org_id <> '{own}'"
            )))
            .execute(&mut *tx)
            .await
            .expect("nothing to update");
            assert_eq!(reached.rows_affected(), 0, "{table}");
        }
        let copy = format!(
            "insert into {table} overriding system value select * from jsonb_populate_record(null::{table}, $1)"
        );
        let other = format!("select to_jsonb(t) from {table} t where org_id <> '{own}' limit 1");
        let row: serde_json::Value = sqlx::query_scalar(AssertSqlSafe(other))
            .fetch_one(&pool)
            .await
            .expect("a row of the other's");
        let refused = sqlx::query(AssertSqlSafe(copy))
            .bind(row)
            .execute(&mut *tx)
            .await
            .expect_err("refused");
        let code = refused
            .as_database_error()
            .and_then(|e| e.code())
            .map(|code| code.into_owned());
        // By policy or by privilege.
        assert_eq!(code.as_deref(), Some("42501"), "{table}: {refused}");
    }
}

/// Rows in every tenant table, for both organizations.
async fn fill(app: &TestApp) {
    use reqwest::Method;
    use rollcall_tests::{file, send};
    use serde_json::json;
    for (client, org, project) in [
        (&app.admin, app.org, app.project),
        (&app.stranger, app.strange_org, app.strange_project),
    ] {
        let relay = app.relay_of(org, project, "front").await;
        let gap = relay.gap(("desk", 1), "lost");
        let subscribed = json!({ "subscriptions": [{ "filter": "a/+", "qos": 1 }] });
        let client_of_broker = relay.connection(("broker", 1), "connected", "device", &subscribed);
        let events = [gap, client_of_broker];
        assert_eq!(relay.verdicts(&events).await, ["stored", "stored"]);
        let guest = json!({ "data": { "type": "sessions", "attributes": { "number": 12 } } });
        let given = client.post("/v1/services/desk/sessions", &guest).await;
        assert_eq!(given.status, 202, "{}", given.text());
        let form = reqwest::multipart::Form::new()
            .text("session[unit_id]", "tablet")
            .part(
                "session[data][photo]",
                file("photo.jpg", "image/jpeg", "bytes"),
            );
        let path = format!("/api/v1/projects/{project}/sessions");
        let request = client
            .request(Method::POST, &path)
            .header("idempotency-key", "fill")
            .multipart(form);
        send(request).await.result();
    }
}
