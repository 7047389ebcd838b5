//! As server-sent events.

use std::time::Duration;

use rollcall_model::Permission;
use rollcall_store::api_keys;
use rollcall_tests::{Credential, TestApp};
use serde_json::json;
use sqlx::PgPool;

use super::{Block, Stream, create, page, refusal, settle, told};

#[sqlx::test(migrations = "../migrations")]
async fn a_stream_goes_on_where_it_broke_off_also_after_a_restart(pool: PgPool) {
    let mut app = TestApp::start(pool).await;
    create(&app, "a").await;
    create(&app, "b").await;
    let mut stream = Stream::open(&app.reader, "/v1/events", None).await;
    let (_, a) = stream.event().await;
    let (id, b) = stream.event().await;
    assert_eq!([told(&a).1, told(&b).1], ["a", "b"]);
    create(&app, "c").await;
    let (_, c) = stream.event().await;
    assert_eq!(told(&c).1, "c");
    // The client went away having seen `b`.
    let mut again = Stream::open(&app.reader, "/v1/events", Some(&id)).await;
    assert_eq!(again.event().await.1, c);
    let (events, _) = page(&app.reader, "/v1/events").await;
    assert_eq!(
        events,
        [a, b, c.clone()],
        "a stream and a page show the same"
    );
    app.restart().await;
    assert!(
        stream.next().await.is_none(),
        "a server that stops ends its streams"
    );
    create(&app, "d").await;
    let mut again = Stream::open(&app.reader, "/v1/events", Some(&id)).await;
    // The address changed with the restart, and the links with it.
    assert_eq!(told(&again.event().await.1), told(&c));
    assert_eq!(told(&again.event().await.1).1, "d");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stream_is_narrowed_and_trimmed_as_a_page_is(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let path = "/v1/events?from=now&filter[type]=deleted&fields[events]=event_type,session/attributes/state";
    let mut stream = Stream::open(&app.reader, path, None).await;
    for name in ["a", "b"] {
        create(&app, name).await;
        app.admin
            .delete(&format!("{}/{name}", app.sessions()))
            .await
            .result();
    }
    let expected =
        json!({ "event_type": "deleted", "session": { "attributes": { "state": "deleted" } } });
    for _ in 0..2 {
        let (_, event) = stream.event().await;
        assert_eq!(event["attributes"], expected);
        assert!(event.get("relationships").is_none(), "{event}");
    }
    let mut strange = Stream::open(&app.stranger, "/v1/events", None).await;
    let other = json!({ "session": { "uuid": "theirs", "unit_id": "x" } });
    let path = format!("/api/v1/projects/{}/sessions", app.strange_project);
    app.stranger.post(&path, &other).await.result();
    assert_eq!(
        told(&strange.event().await.1).1,
        "theirs",
        "of another organization nothing came first"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_quiet_stream_says_that_it_is_there_and_ends_with_its_key(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, "a").await;
    settle(&app).await;
    let mortal = app.client(None, &[Permission::SessionsRead]).await;
    let mut lasting = Stream::open(&app.reader, "/v1/events?from=now", None).await;
    let mut ending = Stream::open(&mortal, "/v1/events?from=now", None).await;
    let Credential::Basic { id, .. } = &mortal.credential else {
        panic!("a key");
    };
    let revoked = app
        .db
        .tenant(app.org, async |tx| api_keys::revoke(tx, id).await);
    revoked.await.expect("revoked");
    // The first block sets how soon to come back.
    assert!(matches!(lasting.next().await, Some(Block::Other(text)) if text.starts_with("retry:")));
    let Some(Block::Other(beat)) = lasting.next().await else {
        panic!("a comment");
    };
    assert!(beat.starts_with(':'), "{beat}");
    let place = beat
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .expect("a place");
    assert!(matches!(ending.next().await, Some(Block::Other(text)) if text.starts_with("retry:")));
    assert!(
        ending.next().await.is_none(),
        "the key no longer opens anything"
    );
    // From the place that the comment named nothing is missed.
    create(&app, "b").await;
    let mut again = Stream::open(&app.reader, "/v1/events", Some(place)).await;
    assert_eq!(told(&again.event().await.1).1, "b");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_slow_reader_gets_everything_when_it_reads(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut slow = Stream::open(&app.reader, "/v1/events", None).await;
    let large = "x".repeat(100_000);
    for at in 0..150 {
        // More than the live end of the feed keeps, and far more than the sockets between hold.
        let session = json!({ "session": { "uuid": format!("s{at}"), "unit_id": "x", "data": { "a": large } } });
        app.admin.post(&app.sessions(), &session).await.result();
    }
    for at in 0..150 {
        let (_, event) = slow.event().await;
        assert_eq!(told(&event).1, format!("s{at}"));
        assert_eq!(
            event["attributes"]["session"]["attributes"]["points"]["a"],
            large
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn readers_beyond_the_limit_are_told_to_come_back(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_feed_readers = 1).await;
    let first = Stream::open(&app.reader, "/v1/events", None).await;
    let (status, error) = refusal(
        &app.reader,
        "/v1/events",
        &[("accept", "text/event-stream")],
    )
    .await;
    assert_eq!(
        (status, &error["errors"][0]["code"]),
        (503, &json!("readers_busy"))
    );
    assert!(
        app.app()
            .metrics
            .encode()
            .contains("rollcall_feed_readers 1")
    );
    // Pages are not counted, and a reader that goes leaves its place.
    page(&app.reader, "/v1/events").await;
    drop(first);
    let freed = async {
        while refusal_or_stream(&app).await == 503 {
            create(&app, "wakes-the-one-that-is-gone").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, freed)
        .await
        .expect("the place is free again");
}

async fn refusal_or_stream(app: &TestApp) -> u16 {
    let request = app.reader.request(reqwest::Method::GET, "/v1/events");
    let response = request
        .header("accept", "text/event-stream")
        .send()
        .await
        .expect("an answer");
    response.status().as_u16()
}
