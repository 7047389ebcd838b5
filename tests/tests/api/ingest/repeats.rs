//! However often an event comes, and in whatever order: it is stored once, and nothing later is undone.

use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::{guest, paged, rows};

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_again_is_repeated_and_changes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let ada = Uuid::new_v4();
    let batch = [
        relay.event(("desk", 1), "created", ada, &json!({})),
        relay.event(("desk", 2), "paged", ada, &paged()),
        relay.gap(("desk", 3), "the spool was full"),
        relay.event(("desk", 1), "created", ada, &json!({})),
        relay.gap(("desk", 3), "the spool was full"),
    ];
    let first = relay.verdicts(&batch).await;
    assert_eq!(
        first,
        ["stored", "stored", "stored", "repeated", "repeated"]
    );
    let before = guest(&app, ada).await;
    assert_eq!(relay.verdicts(&batch).await, ["repeated"; 5]);
    assert_eq!(guest(&app, ada).await, before);
    assert_eq!(
        (rows(&app, "events").await, rows(&app, "gaps").await),
        (2, 1)
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn equal_batches_at_once_are_stored_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let guests: Vec<Uuid> = (0..30).map(|_| Uuid::new_v4()).collect();
    let mut batch = Vec::new();
    for (at, guest) in guests.iter().enumerate() {
        let service = format!("desk-{}", at % 3);
        let sequence = at as u64 * 2 + 1;
        batch.push(relay.event((&service, sequence), "created", *guest, &json!({})));
        batch.push(relay.event((&service, sequence + 1), "paged", *guest, &paged()));
    }
    batch.push(relay.gap(("desk-0", 1_000), "lost"));
    let answers = (0..20).map(|_| async {
        // A process that is short of connections says so, and the relay comes again.
        loop {
            let answer = relay.forward(&batch).await;
            if answer.status != 503 {
                return rollcall_tests::verdicts(&answer);
            }
        }
    });
    let answers = futures_util::future::join_all(answers).await;
    for at in 0..batch.len() {
        let stored = answers.iter().filter(|answer| answer[at] == "stored");
        assert_eq!(stored.count(), 1, "event {at}");
    }
    assert!(
        answers
            .iter()
            .flatten()
            .all(|word| word == "stored" || word == "repeated")
    );
    assert_eq!(
        (rows(&app, "events").await, rows(&app, "gaps").await),
        (60, 1)
    );
    for guest_id in guests {
        assert_eq!(guest(&app, guest_id).await["revision"], 2);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_late_event_is_a_fact_that_undoes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let ada = Uuid::new_v4();
    let cleared =
        json!({ "state": "cleared", "cleared": "2026-11-21T09:09:00Z", "clear_type": "STOP" });
    let later = relay.event(("desk", 3), "cleared", ada, &cleared);
    assert_eq!(relay.verdicts(&[later]).await, ["stored"]);
    let late = relay.event(("desk", 2), "paged", ada, &paged());
    assert_eq!(
        relay.verdicts(std::slice::from_ref(&late)).await,
        ["stored"]
    );
    assert_eq!(relay.verdicts(&[late]).await, ["repeated"]);
    let session = guest(&app, ada).await;
    assert_eq!(
        (&session["state"], &session["active"], &session["revision"]),
        (&json!("cleared"), &json!(false), &json!(2))
    );
    let events = super::document(&app.reader, &format!("/v1/sessions/{ada}/events")).await;
    let late = &events["data"][1]["attributes"];
    assert_eq!(
        (&late["event_type"], &late["changed"]),
        (&json!("paged"), &json!([]))
    );
    assert_eq!(
        late["context"],
        json!({ "at": "2026-11-21T09:05:00Z", "sequence": 2 })
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_that_lost_its_spool_is_not_late(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut relay = app.relay("front").await;
    let ada = Uuid::new_v4();
    let old = relay.event(("desk", 50), "created", ada, &json!({}));
    assert_eq!(relay.verdicts(&[old]).await, ["stored"]);
    relay.spool = Uuid::new_v4();
    let new = relay.event(("desk", 1), "paged", ada, &paged());
    assert_eq!(relay.verdicts(&[new]).await, ["stored"]);
    assert_eq!(guest(&app, ada).await["state"], "paged");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_events_id_is_one_sessions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let event = |guest| relay.event(("desk", 1), "created", guest, &json!({}));
    let (ada, ben, cid) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    // Within a batch, and later; the first is kept either way.
    let both = relay.verdicts(&[event(ada), event(ben)]).await;
    assert_eq!(both, ["stored", "event_taken"]);
    assert_eq!(relay.verdicts(&[event(cid)]).await, ["event_taken"]);
    assert_eq!(rows(&app, "sessions").await, 1);
    // At once: one is stored, and whoever lost is told so once it repeats.
    let other = |guest| relay.event(("desk", 2), "created", guest, &json!({}));
    let at_once = (0..8).map(|_| async {
        let event = other(Uuid::new_v4());
        loop {
            let answer = relay.forward(std::slice::from_ref(&event)).await;
            if answer.status != 503 {
                return rollcall_tests::verdicts(&answer).remove(0);
            }
        }
    });
    let mut words = futures_util::future::join_all(at_once).await;
    words.sort();
    assert_eq!(words[..7], ["event_taken"; 7]);
    assert_eq!(words[7], "stored");
    assert_eq!(
        (rows(&app, "sessions").await, rows(&app, "events").await),
        (2, 2)
    );
}
