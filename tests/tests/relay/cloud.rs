//! What the cloud will not have, and who goes first.

use rollcall_coap::Code;
use rollcall_tests::{Edge, TestApp};
use serde_json::Value;
use sqlx::PgPool;

use crate::{eventually, sessions};

#[sqlx::test(migrations = "../migrations")]
async fn a_revoked_key_stops_forwarding_and_keeps_the_spool(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    edge.drained().await;
    let key = edge.key_id.clone();
    let revoked: Result<bool, sqlx::Error> = app
        .db
        .tenant(app.org, async |tx| {
            rollcall_store::api_keys::revoke(tx, &key).await
        })
        .await;
    assert!(revoked.unwrap());
    let paged = stand
        .put("/v1/sessions?number=1", r#"{"action":"page"}"#)
        .await;
    assert_eq!(paged.code, Code::CHANGED);
    let locked_out = async || {
        edge.status().await["is_locked_out"]
            .as_bool()
            .filter(|is| *is)
    };
    eventually("locked out", locked_out).await;
    assert_eq!(edge.status().await["events"], 1, "the spool keeps it");
    assert_eq!(
        edge.log().matches("forwarding stops").count(),
        1,
        "said once: {}",
        edge.log()
    );
    let words = edge.command("status", None).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("the key is not accepted"), "{words}");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_be_read_is_set_aside_and_the_rest_goes_on(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(None).await;
    let mut stand = edge.client(0).await;
    for number in 1..=9 {
        stand
            .post("/v1/sessions", &format!(r#"{{"number":{number}}}"#))
            .await;
    }
    edge.stop();
    // One that is no event, and one that is not even JSON.
    let spool = rusqlite::Connection::open(edge.spool()).unwrap();
    for (position, body) in [(3, r#"{"id":7}"#), (6, "{broken")] {
        let changed = spool
            .execute(
                "update events set body = ?2 where position = ?1",
                (position, body),
            )
            .unwrap();
        assert_eq!(changed, 1);
    }
    drop(spool);
    edge.start(Some(&app.url)).await;
    edge.drained().await;
    assert_eq!(sessions(&app, "desk").await.len(), 7);
    let status = edge.status().await;
    assert_eq!(status["set_aside"], 2, "{status}");
    let service = app.reader.get("/v1/services/desk").await.json();
    let gaps = service["data"]["attributes"]["gaps"]
        .as_array()
        .expect("a gap is told")
        .clone();
    assert_eq!(
        (gaps.len(), &gaps[0]["events"]),
        (1, &Value::from(1)),
        "{service}"
    );
    // The relay tells of them with its next batch.
    stand.post("/v1/sessions", r#"{"number":10}"#).await;
    edge.drained().await;
    let relay = app
        .reader
        .get(&format!("/v1/relays/{}", edge.relay_id))
        .await
        .json();
    assert_eq!(relay["data"]["attributes"]["set_aside"], 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_backlog_does_not_hold_up_other_services(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["busy", "calm"]).await;
    edge.start(None).await;
    let mut stands = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let mut stand = edge.client(0).await;
        stands.spawn(async move {
            for size in 1..=300 {
                stand
                    .post(
                        "/v1/sessions",
                        &format!(r#"{{"number":{number},"partySize":{size}}}"#),
                    )
                    .await;
            }
        });
    }
    stands.join_all().await;
    edge.stop();
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(1).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    eventually("the calm one is there", async || {
        sessions(&app, "calm").await.pop()
    })
    .await;
    let behind = edge.status().await["services"]["busy"]
        .as_u64()
        .unwrap_or(0);
    assert!(behind > 0, "it overtook the backlog");
    edge.drained().await;
    let busy = sessions(&app, "busy").await;
    assert_eq!(busy.len(), 20);
    for session in busy {
        let attributes = &session["attributes"];
        assert_eq!(
            (&attributes["party_size"], &attributes["revision"]),
            (&300.into(), &300.into())
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_name_of_another_relay_is_refused_and_said(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut first = Edge::of(&app, &["desk"]).await;
    first.start(Some(&app.url)).await;
    first
        .client(0)
        .await
        .post("/v1/sessions", r#"{"number":1}"#)
        .await;
    first.drained().await;
    let mut second = Edge::of(&app, &["desk", "bar"]).await;
    second.start(Some(&app.url)).await;
    second
        .client(0)
        .await
        .post("/v1/sessions", r#"{"number":2}"#)
        .await;
    second
        .client(1)
        .await
        .post("/v1/sessions", r#"{"number":3}"#)
        .await;
    second.drained().await;
    assert_eq!(second.status().await["set_aside"], 1);
    assert!(second.log().contains("service_taken"), "{}", second.log());
    assert_eq!(sessions(&app, "desk").await.len(), 1);
    assert_eq!(sessions(&app, "bar").await.len(), 1);
}
