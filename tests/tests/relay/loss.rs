//! Killed, cut off, half lost: what was acknowledged arrives, once, in order.

use std::time::Duration;

use rollcall_coap::Code;
use rollcall_tests::{CoapClient, Edge, LossyWay, Proxy, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{eventually, history, sessions};

/// Guests that are changed at once, each by a stand of its own.
const STANDS: u16 = 6;

/// A stand that changes its guest's party size again and again, as long as it gets answers; answers how often it did.
async fn keep_changing(mut stand: CoapClient, number: u16, changes: u32) -> u32 {
    for size in 1..=changes {
        let body = format!(r#"{{"number":{number},"partySize":{size}}}"#);
        let Some(answer) = stand.ask(Code::POST, "/v1/sessions", &body).await else {
            return size - 1;
        };
        assert!(answer.code.is_success(), "{answer:?}");
    }
    changes
}

/// Every acknowledged change is in the store, once, in order.
async fn all_arrived(app: &TestApp, service: &str, acknowledged: &[u32]) {
    let found = sessions(app, service).await;
    assert_eq!(found.len(), acknowledged.len());
    for session in &found {
        let number = session["attributes"]["number"].as_u64().expect("a number");
        let changes = acknowledged[usize::try_from(number).expect("small") - 1];
        let sizes = history(app, session, "party_size").await;
        let expected: Vec<Value> = (1..=changes).map(|size| json!(size)).collect();
        assert_eq!(sizes, expected, "pager {number}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn killed_in_a_loop_under_load(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stands = tokio::task::JoinSet::new();
    for number in 1..=STANDS {
        let stand = edge.client(0).await;
        stands.spawn(async move { (number, keep_changing(stand, number, 150).await) });
    }
    for round in 0..5 {
        tokio::time::sleep(Duration::from_millis(60 + 23 * round)).await;
        edge.kill();
        edge.start(Some(&app.url)).await;
    }
    let mut acknowledged = vec![0; usize::from(STANDS)];
    for (number, changes) in stands.join_all().await {
        acknowledged[usize::from(number) - 1] = changes;
    }
    assert!(
        acknowledged.iter().all(|changes| *changes == 150),
        "each got its answers: {acknowledged:?}"
    );
    edge.drained().await;
    all_arrived(&app, "desk", &acknowledged).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_cloud_goes_away_and_comes_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let way = Proxy::to(app.addr().port()).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&format!("http://127.0.0.1:{}", way.port)))
        .await;
    let mut acknowledged = Vec::new();
    for number in 1..=3 {
        let stand = edge.client(0).await;
        let changing = tokio::spawn(keep_changing(stand, number, 100));
        tokio::time::sleep(Duration::from_millis(20)).await;
        way.cut();
        acknowledged.push(changing.await.expect("no panic"));
        way.mend();
    }
    edge.drained().await;
    all_arrived(&app, "desk", &acknowledged).await;
    assert!(edge.status().await["trouble"].is_null());
}

#[sqlx::test(migrations = "../migrations")]
async fn trouble_is_told_and_ends_with_the_next_answer(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let way = Proxy::to(app.addr().port()).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&format!("http://127.0.0.1:{}", way.port)))
        .await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    edge.drained().await;
    way.cut();
    stand
        .put("/v1/sessions?number=1", r#"{"partySize":2}"#)
        .await;
    let trouble = async || edge.status().await["trouble"].as_str().map(str::to_owned);
    let trouble = eventually("trouble", trouble).await;
    assert!(trouble.contains("cannot be reached"), "{trouble}");
    assert_eq!(edge.status().await["events"], 1);
    way.mend();
    edge.drained().await;
    let found = sessions(&app, "desk").await;
    assert_eq!(found[0]["attributes"]["party_size"], 2);
    assert!(
        edge.monitor("/metrics")
            .await
            .contains("rollcall_relay_spool_events 0")
    );
    assert_eq!(edge.monitor("/healthz").await, "ok\n");
}

#[sqlx::test(migrations = "../migrations")]
async fn every_fifth_datagram_is_lost_both_ways(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stands = tokio::task::JoinSet::new();
    for number in 1..=STANDS {
        let way = LossyWay::to(edge.coap[0]).await;
        let mut stand = CoapClient::of(way.address).await;
        stand.patience = Duration::from_millis(50);
        stands.spawn(async move {
            let changes = keep_changing(stand, number, 60).await;
            drop(way);
            (number, changes)
        });
    }
    let mut acknowledged = vec![0; usize::from(STANDS)];
    for (number, changes) in stands.join_all().await {
        acknowledged[usize::from(number) - 1] = changes;
    }
    edge.drained().await;
    all_arrived(&app, "desk", &acknowledged).await;
}
