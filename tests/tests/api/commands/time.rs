//! What time does to commands.

use std::time::Duration;

use rollcall_api::work::{Done, Work};
use rollcall_tests::TestApp;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{age, desk, done, page, paged, show};

async fn work(app: &TestApp) -> Done {
    let inner = app.app();
    let work = Work {
        db: &inner.db,
        objects: &inner.objects,
        metrics: &inner.metrics,
        orphans_before: OffsetDateTime::UNIX_EPOCH,
        keep_replaced: Duration::from_secs(86_400),
    };
    work.once().await.expect("a round")
}

#[sqlx::test(migrations = "../migrations")]
async fn what_nobody_was_told_of_expires_and_who_waits_learns_it(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let answer = page(&app.admin, guest, "?ttl=1&wait=30").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let attributes = &answer.json()["data"]["attributes"];
    assert_eq!(attributes["status"], "expired");
    assert!(attributes["finished"].is_string() && attributes.get("delivered").is_none());
    assert_eq!(relay.commands(0).await.len(), 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_told_is_unknown_once_no_report_can_be_on_its_way(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    relay.commands(0).await;
    age(&app, &id, 25.0).await;
    assert_eq!(
        show(&app.reader, &id).await["status"],
        "delivered",
        "a report may come"
    );
    assert_eq!(relay.commands(0).await.len(), 0, "but it is not told again");
    age(&app, &id, 31.0).await;
    let shown = show(&app.reader, &id).await;
    assert_eq!(shown["status"], "unknown");
    // The report that comes yet is the first.
    assert_eq!(relay.report(&[done(&id)]).await.status, 200);
    assert_eq!(show(&app.reader, &id).await["status"], "done");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_and_the_background_work_end_what_is_over(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let (one, two) = (
        paged(&app.admin, guest, "").await,
        paged(&app.admin, guest, "").await,
    );
    age(&app, &one, 0.0).await;
    let expired = app
        .reader
        .get("/v1/commands?filter[status]=expired")
        .await
        .json();
    assert_eq!(expired["data"][0]["id"], one);
    assert_eq!(work(&app).await, Done::default());
    assert_eq!(relay.commands(0).await.len(), 1);
    age(&app, &two, 60.0).await;
    assert_eq!(
        work(&app).await,
        Done {
            commands: 1,
            ..Done::default()
        }
    );
    assert_eq!(work(&app).await, Done::default());
    let unknown = app
        .reader
        .get("/v1/commands?filter[status]=unknown")
        .await
        .json();
    assert_eq!(unknown["data"][0]["id"], two);
}
