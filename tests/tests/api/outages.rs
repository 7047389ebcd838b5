//! Postgres or S3 away: 503 with `Retry-After`, nothing half stored, and whole once they are back.

use reqwest::multipart::Form;
use rollcall_tests::{Answer, Proxy, Stored, TestApp, file};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::PgPool;

fn form() -> Form {
    Form::new()
        .text("session[uuid]", "s")
        .text("session[unit_id]", "tablet")
        .text("session[saved]", "5")
        .part(
            "session[data][photo]",
            file("photo.jpg", "image/jpeg", "bytes"),
        )
}

fn check_away(answer: &Answer, code: &str) {
    assert_eq!(answer.error(), (503, code.to_owned()));
    assert!(answer.header("retry-after").is_some());
}

#[sqlx::test(migrations = "../migrations")]
async fn s3_away(pool: PgPool) {
    let mut app = TestApp::start(pool).await;
    app.s3.stop().await;
    check_away(
        &app.admin.post_multipart(&app.sessions(), form()).await,
        "storage_unavailable",
    );
    assert_eq!(app.stored().await, Stored::default());
    let ready = app.anonymous().get("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()["postgres"].as_str()),
        (503, Some("ok"))
    );
    // What needs no files goes on.
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "t", "unit_id": "x" } }),
        )
        .await
        .result();

    app.s3.restart().await;
    app.admin
        .post_multipart(&app.sessions(), form())
        .await
        .result();
    let path = format!("{}/s/attachments/photo", app.sessions());
    assert_eq!(app.reader.get(&path).await.bytes, b"bytes");
    assert_eq!(app.anonymous().get("/readyz").await.status, 200);

    app.s3.stop().await;
    check_away(&app.reader.get(&path).await, "storage_unavailable");
}

/// An application that reaches Postgres by a way that can be cut.
async fn start_behind(pool: PgPool, proxy: &Proxy, transaction_ms: u64) -> TestApp {
    TestApp::start_with(pool, |config| {
        let mut url =
            reqwest::Url::parse(config.database.database_url.expose_secret()).expect("a URL");
        url.set_port(Some(proxy.port)).expect("a port");
        config.database.database_url = url.as_str().into();
        config.database.database_wait_ms = 500;
        config.database.database_transaction_ms = transaction_ms;
    })
    .await
}

#[sqlx::test(migrations = "../migrations")]
async fn postgres_silent(pool: PgPool) {
    let proxy = Proxy::to(pool.connect_options().get_port()).await;
    let app = start_behind(pool, &proxy, 1_000).await;
    app.admin
        .post_multipart(&app.sessions(), form())
        .await
        .result();
    // Gone without a word: the connections stay, and nothing comes any more.
    proxy.silence();
    let asked = app.reader.get("/v1/sessions");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(20), asked).await;
    check_away(
        &answer.expect("not waited for without end"),
        "database_unavailable",
    );
    // The silent connections are given up, one by one, and new ones do.
    let recovered = async { while app.reader.get("/v1/sessions").await.status != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(60), recovered)
        .await
        .expect("it recovers");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_that_is_locked_for_long(pool: PgPool) {
    let app =
        TestApp::start_with(pool, |config| config.database.database_transaction_ms = 500).await;
    app.admin
        .post_multipart(&app.sessions(), form())
        .await
        .result();
    let stored = app.stored().await;
    #[expect(
        clippy::disallowed_methods,
        reason = "the superuser's, past the tenants"
    )]
    let mut holder = app.superuser.begin().await.expect("a transaction");
    sqlx::query("select from sessions for update")
        .execute(&mut *holder)
        .await
        .expect("locked");
    let change = json!({ "session": { "data": { "a": "1" } } });
    let path = format!("{}/s", app.sessions());
    check_away(&app.admin.put(&path, &change).await, "database_unavailable");
    assert_eq!(
        app.reader.get("/v1/sessions").await.status,
        200,
        "reading goes on"
    );
    holder.rollback().await.expect("rolled back");
    assert_eq!(app.stored().await, stored);
    app.admin.put(&path, &change).await.result();
}

#[sqlx::test(migrations = "../migrations")]
async fn postgres_away(pool: PgPool) {
    let proxy = Proxy::to(pool.connect_options().get_port()).await;
    let app = start_behind(pool, &proxy, 30_000).await;
    let first = app.admin.post_multipart(&app.sessions(), form()).await;
    first.result();
    let stored = app.stored().await;

    proxy.cut();
    check_away(
        &app.admin.post_multipart(&app.sessions(), form()).await,
        "database_unavailable",
    );
    check_away(
        &app.reader.get(&format!("{}/s", app.sessions())).await,
        "database_unavailable",
    );
    assert_eq!(app.anonymous().get("/readyz").await.status, 503);
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
    assert_eq!(app.stored().await, stored);

    proxy.mend();
    assert_eq!(
        app.admin
            .post_multipart(&app.sessions(), form())
            .await
            .text(),
        first.text()
    );
    assert_eq!(app.anonymous().get("/readyz").await.status, 200);
    assert_eq!(app.stored().await, stored);
}
