//! In commit order, and nothing is skipped: neither a slow transaction nor a revision of one that began early.

use rollcall_model::{Kind, Op, Put, SessionChange, forms_service};
use rollcall_store::{Error, TenantConn, changes, idempotency};
use rollcall_tests::TestApp;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::{Stream, create, page, settle, told};

#[sqlx::test(migrations = "../migrations")]
async fn a_slow_transaction_is_not_skipped(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, "first").await;
    let mut stream = Stream::open(&app.reader, "/v1/events", None).await;
    assert_eq!(told(&stream.event().await.1).1, "first");
    // Begun, numbered, and not committed yet.
    let (held, is_held) = oneshot::channel();
    let (go_on, told_to) = oneshot::channel();
    let slow = hold_open(&app, "slow", held, told_to);
    let meanwhile = async {
        is_held.await.expect("it is held");
        create(&app, "fast").await;
        let (events, cursor) = page(&app.reader, "/v1/events").await;
        let names: Vec<_> = events.iter().map(|event| told(event).1).collect();
        assert_eq!(
            names,
            ["first"],
            "what comes after an open transaction is not shown before it"
        );
        go_on.send(()).expect("it waits");
        cursor
    };
    let (slow, cursor) = tokio::join!(slow, meanwhile);
    slow.expect("committed");
    settle(&app).await;
    let (events, _) = page(&app.reader, &cursor).await;
    let names: Vec<_> = events.iter().map(|event| told(event).1).collect();
    assert_eq!(
        names,
        ["slow", "fast"],
        "from the cursor of before, all that was held back"
    );
    assert_eq!(told(&stream.event().await.1).1, "slow");
    assert_eq!(told(&stream.event().await.1).1, "fast");
}

/// Creates a session in a transaction that is numbered first and committed only when told to.
async fn hold_open(
    app: &TestApp,
    uuid: &str,
    held: oneshot::Sender<()>,
    told_to: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let change = change(app, uuid, "early");
    app.db
        .tenant(app.org, async |tx: &mut TenantConn| {
            changes::apply_one(tx, change).await?;
            held.send(()).expect("somebody listens");
            told_to.await.expect("told");
            Ok(())
        })
        .await
}

fn change(app: &TestApp, uuid: &str, unit: &str) -> SessionChange {
    SessionChange {
        org: app.org,
        project: app.project,
        service: forms_service(app.project),
        kind: Kind::Form,
        source_id: uuid.to_owned(),
        from: "test".to_owned(),
        at: OffsetDateTime::now_utc(),
        op: Op::Put(Put {
            unit_id: unit.to_owned(),
            created: None,
            saved: None,
            points: Default::default(),
        }),
        context: None,
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn revisions_are_in_order_though_the_later_one_was_numbered_first(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (numbered, is_numbered) = oneshot::channel();
    let (go_on, told_to) = oneshot::channel();
    let early = app.db.tenant(app.org, async |tx: &mut TenantConn| {
        // The first write numbers the transaction.
        idempotency::claim(tx, "test", "early", &[0; 32]).await?;
        numbered.send(()).expect("somebody listens");
        told_to.await.expect("told");
        changes::apply(
            tx,
            &[change(&app, "s", "second"), change(&app, "s", "third")],
        )
        .await?;
        Ok::<_, Error>(())
    });
    let late = async {
        is_numbered.await.expect("numbered");
        app.db
            .tenant(app.org, async |tx: &mut TenantConn| {
                changes::apply_one(tx, change(&app, "s", "first")).await
            })
            .await
            .expect("applied");
        go_on.send(()).expect("it waits");
    };
    let (early, ()) = tokio::join!(early, late);
    early.expect("applied");
    settle(&app).await;
    let (events, _) = page(&app.reader, "/v1/events").await;
    let revisions: Vec<_> = events
        .iter()
        .map(|event| event["attributes"]["revision"].as_i64())
        .collect();
    assert_eq!(revisions, [Some(1), Some(2), Some(3)]);
    let units: Vec<_> = events
        .iter()
        .map(|event| {
            event["attributes"]["session"]["attributes"]["unit_id"]
                .as_str()
                .expect("a unit")
                .to_owned()
        })
        .collect();
    assert_eq!(units, ["first", "second", "third"]);
}
