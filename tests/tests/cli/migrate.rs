//! `migrate`: from nothing, again, and without the roles.

use std::process::Stdio;

use rollcall_store::schema;
use rollcall_tests::owner_url;
use rollcall_tests::program::{binary, ended, rollcall_api, run_on};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Roles are the cluster's.
async fn make_roles(owner: &str, login: &str) {
    let mut roles = rollcall_api(&["admin", "roles", "--login", login]);
    roles
        .env("ROLLCALL_DATABASE_URL", owner)
        .env("ROLLCALL_LOGIN_PASSWORD", "x");
    ended(roles).await.printed();
}

#[sqlx::test(migrations = false)]
async fn an_empty_database_gets_the_schema_once(pool: PgPool) {
    make_roles(&owner_url(&pool), "rollcall_cli_migrate").await;
    let wanted = schema::wanted();
    let first = run_on(&owner_url(&pool), &["migrate"]).await.printed();
    assert_eq!(
        first,
        format!("applied {wanted} migrations; the schema is at version {wanted}\n")
    );
    let again = run_on(&owner_url(&pool), &["migrate"]).await.printed();
    assert_eq!(
        again,
        format!("the schema is at version {wanted} already\n")
    );
    let tables: Vec<String> = sqlx::query_scalar(
        "select tablename::text from pg_tables where schemaname = 'public' and tablename = 'sessions'",
    )
    .fetch_all(&pool)
    .await
    .expect("tables");
    assert_eq!(tables, ["sessions"]);
    sqlx::query("drop role rollcall_cli_migrate")
        .execute(&pool)
        .await
        .expect("the role goes");
}

#[sqlx::test(migrations = false)]
async fn two_migrations_at_once_wait_for_each_other(pool: PgPool) {
    let owner = owner_url(&pool);
    make_roles(&owner, "rollcall_cli_at_once").await;
    let (one, other) = tokio::join!(run_on(&owner, &["migrate"]), run_on(&owner, &["migrate"]));
    one.printed();
    other.printed();
    let versions: i64 = sqlx::query_scalar("select count(*) from _sqlx_migrations where success")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(versions, schema::wanted());
    sqlx::query("drop role rollcall_cli_at_once")
        .execute(&pool)
        .await
        .expect("the role goes");
}

/// A cluster of its own, that goes when its input is closed.
async fn cluster() -> (Child, String) {
    let mut child = Command::new(binary("rollcall"))
        .args([
            "with-postgres",
            "--",
            "sh",
            "-c",
            "echo $DATABASE_URL; read end",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`rollcall with-postgres` starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let url = lines.next_line().await.expect("a line").expect("a URL");
    (child, url)
}

#[tokio::test]
async fn without_the_roles_migrate_says_how_to_make_them() {
    let (mut cluster, url) = cluster().await;
    let mut conn = PgConnection::connect(&url).await.expect("the cluster");
    sqlx::raw_sql("drop role rollcall_app, rollcall_system")
        .execute(&mut conn)
        .await
        .expect("the roles go");
    let told = run_on(&url, &["migrate"]).await.complaint();
    assert!(
        told.contains("`rollcall-api admin roles`")
            && told.contains("\"rollcall_app\" does not exist"),
        "{told}"
    );

    make_roles(&url, "rollcall").await;
    let said = run_on(&url, &["migrate"]).await.printed();
    assert!(said.starts_with("applied"), "{said}");

    drop(conn);
    drop(cluster.stdin.take());
    cluster.wait().await.expect("the cluster goes");
}
