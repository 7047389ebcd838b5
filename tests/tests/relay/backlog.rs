//! The cloud away for long: what was spooled meanwhile, of hosted transmitters and of mirrored boxes, arrives once and in its
//! order, and pages of another service do not wait for it.

use std::collections::BTreeMap;

use rollcall_tests::{CoapClient, Edge, Proxy, SimulatedBox, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::commands::{guest, order};
use crate::{eventually, list, sessions};

/// Guests of the busy service, each changed by a stand of its own.
const STANDS: u64 = 25;
/// How often each is changed. `make bench` drains 100,000; here it is a build without optimization.
const CHANGES: u64 = 400;

/// Changes a guest's party size again and again.
async fn keep_changing(mut stand: CoapClient, number: u64) {
    for size in 1..=CHANGES {
        let body = format!(r#"{{"number":{number},"partySize":{size}}}"#);
        let answer = stand.post("/v1/sessions", &body).await;
        assert!(answer.code.is_success(), "{answer:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_long_backlog_arrives_once_and_live_pages_go_ahead_of_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let way = Proxy::to(app.addr().port()).await;
    let url = format!("http://127.0.0.1:{}", way.port);
    let simulated = SimulatedBox::start(&["--parties-per-minute", "600"]).await;
    let mut edge = Edge::of(&app, &["busy", "calm"]).await;
    edge.set(&format!(
        "[[box]]\nname = \"terrace\"\naddress = \"coap://{}\"",
        simulated.address
    ));
    edge.start(Some(&url)).await;
    let mut stand = edge.client(1).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    let calm = guest(&app, "calm").await;
    way.cut();
    let mut stands = tokio::task::JoinSet::new();
    for number in 1..=STANDS {
        let stand = edge.client(0).await;
        stands.spawn(keep_changing(stand, number));
    }
    stands.join_all().await;
    // It is killed with the backlog in its spool, and once more while it drains.
    edge.kill();
    way.mend();
    edge.start(Some(&url)).await;
    let waiting = edge.status().await["services"]["busy"].clone();
    assert!(waiting.as_u64() > Some(STANDS * CHANGES / 2), "{waiting}");
    let page = order(&app, &calm, "page", "wait=20").await;
    assert_eq!(page["attributes"]["status"], "done", "{page}");
    eventually("the page is on the roll", async || {
        let calm = sessions(&app, "calm").await.pop()?;
        (calm["attributes"]["state"] == "paged").then_some(())
    })
    .await;
    let behind = edge.status().await["services"]["busy"].as_u64();
    assert!(behind > Some(0), "it went ahead of the backlog");
    edge.kill();
    edge.start(Some(&url)).await;
    edge.drained().await;

    let busy = sessions(&app, "busy").await;
    assert_eq!(busy.len() as u64, STANDS);
    let mut sizes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for event in list(
        &app.reader,
        "/v1/events?filter[service]=busy&page[size]=1000",
    )
    .await
    {
        let session = &event["attributes"]["session"];
        let id = session["id"].as_str().expect("an id").to_owned();
        let size = session["attributes"]["party_size"].clone();
        sizes.entry(id).or_default().push(size);
    }
    let expected: Vec<Value> = (1..=CHANGES).map(|size| json!(size)).collect();
    for (id, of_guest) in &sizes {
        assert!(*of_guest == expected, "{id}: {} events", of_guest.len());
    }
    assert_eq!(sizes.len() as u64, STANDS);
    let mut gaps = Vec::new();
    for name in ["busy", "calm"] {
        let service = app.reader.get(&format!("/v1/services/{name}")).await;
        gaps.push(service.json()["data"]["attributes"]["gaps"].clone());
    }
    assert!(
        gaps.iter()
            .all(|gaps| gaps.as_array().is_none_or(Vec::is_empty)),
        "{gaps:?}"
    );
    // The box's guests came and went all the while: each has a beginning, and at most one end.
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in list(
        &app.reader,
        "/v1/events?filter[service]=terrace&page[size]=1000",
    )
    .await
    {
        let attributes = &event["attributes"];
        let id = attributes["session"]["id"].as_str().expect("an id");
        let what = attributes["event_type"].as_str().expect("a type");
        types
            .entry(id.to_owned())
            .or_default()
            .push(what.to_owned());
    }
    assert!(types.len() > 10, "{} guests", types.len());
    for (id, of_guest) in &types {
        let ends = of_guest
            .iter()
            .filter(|what| ["cleared", "removed"].contains(&what.as_str()));
        let begins = of_guest.iter().filter(|what| *what == "created");
        assert!(
            begins.count() == 1 && ends.count() <= 1,
            "{id}: {of_guest:?}"
        );
    }
}
