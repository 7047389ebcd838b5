//! What relays are told: their own, in order, until they report.

use std::time::{Duration, Instant};

use rollcall_model::Permission;
use rollcall_store::api_keys;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::{age, came, desk, done, ids, paged, show};

#[sqlx::test(migrations = "../migrations")]
async fn a_command_is_told_again_until_it_is_reported(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    assert_eq!(relay.commands(0).await, [Value::Null; 0]);
    let id = paged(&app.admin, guest, "").await;
    let first = relay.commands(0).await;
    assert_eq!(ids(&first), [id.as_str()]);
    let delivered = show(&app.reader, &id).await["delivered"].clone();
    assert!(delivered.is_string());
    assert_eq!(relay.commands(0).await, first);
    assert_eq!(
        relay.commands(30).await,
        first,
        "after a pause, but not at the end of the wait"
    );
    let shown = show(&app.reader, &id).await;
    assert_eq!(
        (&shown["status"], &shown["delivered"]),
        (&"delivered".into(), &delivered)
    );
    relay.report(&[done(&id)]).await;
    assert_eq!(relay.commands(0).await, [Value::Null; 0]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_that_waits_is_told_at_once(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let began = Instant::now();
    let give = async {
        // A relay that waits holds no connection to the database.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let given = Instant::now();
        (paged(&app.admin, guest, "").await, given)
    };
    let wait = async {
        let told = relay.commands(30).await;
        (told, Instant::now())
    };
    let ((id, given), (told, at)) = tokio::join!(give, wait);
    assert_eq!(ids(&told), [id]);
    assert!(
        at.duration_since(given) < Duration::from_millis(700),
        "by the commit, not by looking again"
    );
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// As one that another process queued.
#[sqlx::test(migrations = "../migrations")]
async fn what_another_process_queues_is_seen_soon(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    let hide = |hidden: bool| {
        let statement = if hidden {
            "update commands set finished_at = now()"
        } else {
            "update commands set finished_at = null"
        };
        sqlx::query(statement).execute(&app.superuser)
    };
    hide(true).await.expect("hidden");
    let began = Instant::now();
    let show = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        hide(false).await.expect("there");
    };
    let (told, ()) = tokio::join!(relay.commands(30), show);
    assert_eq!(ids(&told), [id]);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "long before the wait's end"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn they_are_told_in_order_and_so_many_at_once(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let mut given = Vec::new();
    for _ in 0..105 {
        given.push(paged(&app.admin, guest, "").await);
    }
    assert_eq!(ids(&relay.commands(0).await), given[..100]);
    let reports: Vec<Value> = given[..50].iter().map(|id| done(id)).collect();
    assert_eq!(relay.report(&reports).await.status, 200);
    assert_eq!(ids(&relay.commands(0).await), given[50..]);
}

#[sqlx::test(migrations = "../migrations")]
async fn each_relay_is_told_its_own_and_in_time(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let other = app.relay("back").await;
    let strange = app
        .relay_of(app.strange_org, app.strange_project, "front")
        .await;
    came(&strange, 1, Uuid::new_v4()).await;
    let id = paged(&app.admin, guest, "").await;
    for relay in [&other, &strange] {
        assert_eq!(relay.commands(0).await, [Value::Null; 0]);
    }
    for client in [&app.admin, &app.client(None, &[Permission::Ingest]).await] {
        let answer = client.get("/v1/relays/commands").await;
        assert_eq!(answer.error(), (403, "not_a_relay".into()));
    }
    age(&app, &id, 0.0).await;
    assert_eq!(relay.commands(1).await, [Value::Null; 0], "too late");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_whose_key_is_revoked_meanwhile_is_told_nothing(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let revoked: Result<bool, rollcall_store::Error> = app
            .db
            .tenant(app.org, async |tx| {
                api_keys::revoke(tx, &relay.key_id).await
            })
            .await;
        assert!(revoked.expect("revoked"));
        paged(&app.admin, guest, "").await
    };
    let (told, id) = tokio::join!(relay.commands(30), revoke);
    assert_eq!(told, [Value::Null; 0]);
    let next = relay.client.get("/v1/relays/commands").await;
    assert_eq!(next.error(), (401, "key_revoked".into()));
    assert_eq!(show(&app.reader, &id).await["status"], "queued");
}

#[sqlx::test(migrations = "../migrations")]
async fn who_waits_is_let_go_when_the_process_ends(pool: PgPool) {
    let (mut app, _, guest) = desk(pool).await;
    let other = app.relay("back").await;
    let began = Instant::now();
    let admin = app.admin.clone();
    let paging = tokio::spawn(async move { super::page(&admin, guest, "?wait=30").await });
    let told = tokio::spawn(async move { other.commands(30).await });
    let in_flight = |text: String| text.contains("rollcall_http_requests_in_flight 2");
    while !in_flight(app.app().metrics.encode()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.stop().await;
    assert_eq!(paging.await.expect("answered").status, 202);
    assert_eq!(told.await.expect("answered"), [Value::Null; 0]);
    assert!(began.elapsed() < Duration::from_secs(15));
}
