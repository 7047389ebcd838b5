//! Everything at once: callers, the relay, and time.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::{came, desk, done, ids, page, paged, show};

#[sqlx::test(migrations = "../migrations")]
async fn two_callers_at_once_give_two_commands_in_order(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let (one, two) = tokio::join!(paged(&app.admin, guest, ""), paged(&app.admin, guest, ""));
    let told = ids(&relay.commands(0).await);
    assert_eq!(told.len(), 2);
    assert_eq!(HashSet::from([one, two]), told.iter().cloned().collect());
    let (first, second) = (
        show(&app.reader, &told[0]).await,
        show(&app.reader, &told[1]).await,
    );
    let created = |shown: &Value| shown["created"].as_str().map(str::to_owned);
    assert!(created(&first) < created(&second));
    let events = app
        .reader
        .get(&format!("/v1/sessions/{guest}/events"))
        .await
        .json();
    let commands: Vec<&Value> = (1..3)
        .map(|at| &events["data"][at]["attributes"]["context"]["command"])
        .collect();
    assert_eq!(
        commands,
        told.iter().collect::<Vec<_>>(),
        "in the feed as at the relay"
    );
}

/// Nobody waits for somebody who waits for them: a deadlock would be an answer 503.
#[sqlx::test(migrations = "../migrations")]
async fn writers_of_every_kind_do_not_get_in_each_others_way(pool: PgPool) {
    let (app, relay, first) = desk(pool).await;
    let mut guests = vec![first];
    for sequence in 2..6 {
        let guest = Uuid::new_v4();
        came(&relay, sequence, guest).await;
        guests.push(guest);
    }
    let give = async |at: usize| {
        for round in 0..10 {
            let answer = page(&app.admin, guests[(at + round) % 5], "?ttl=1").await;
            assert_eq!(answer.status, 202, "{}", answer.text());
        }
    };
    let carry = async || {
        for sequence in 0..15_u64 {
            let told = relay.commands(0).await;
            let reports: Vec<Value> = ids(&told).iter().rev().map(|id| done(id)).collect();
            let events: Vec<Value> = guests
                .iter()
                .rev()
                .map(|guest| {
                    relay.event(
                        ("desk", 100 + sequence),
                        "updated",
                        *guest,
                        &serde_json::json!({}),
                    )
                })
                .collect();
            let mut batch = relay.batch(&events[..1]);
            batch["reports"] = serde_json::json!(reports);
            let answer = relay.client.post("/v1/ingest", &batch).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    let read = async || {
        for _ in 0..15 {
            let answer = app.reader.get("/v1/commands").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    tokio::join!(
        join_all((0..4).map(give)),
        carry(),
        carry(),
        join_all([read(), read()]),
    );
    let all = app.reader.get("/v1/commands").await.json();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(40));
}
