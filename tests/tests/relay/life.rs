//! What happens on a transmitter, and where it is seen.

use rollcall_coap::message::Message;
use rollcall_coap::{Code, option};
use rollcall_tests::{Edge, TestApp, request};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{eventually, list, sessions};

#[sqlx::test(migrations = "../migrations")]
async fn guests_are_on_the_roll_with_every_state_and_time(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["front-desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(0).await;
    let body = r#"{"number":66,"goal":60,"label":"Sarah","partySize":4}"#;
    let created = stand.post("/v1/sessions", body).await;
    assert_eq!(created.code, Code::CREATED);
    let guest = created.json()["sessions"][0].clone();
    let paged = stand
        .put(
            "/v1/sessions?number=66",
            r#"{"action":"page","pageMode":"Flash30Sec"}"#,
        )
        .await;
    assert_eq!(
        (paged.code, &paged.json()["sessions"][0]["state"]),
        (Code::CHANGED, &json!("paged"))
    );
    stand
        .put("/v1/sessions?number=66", r#"{"action":"clear"}"#)
        .await;
    stand.post("/v1/sessions", r#"{"number":5}"#).await;
    assert_eq!(
        stand.delete("/v1/sessions?number=5").await.code,
        Code::DELETED
    );
    edge.drained().await;

    assert_eq!(sessions(&app, "front-desk").await.len(), 2);
    let uuid = guest["uuid"].as_str().unwrap();
    let sarah = app.reader.get(&format!("/v1/sessions/{uuid}")).await.json()["data"].clone();
    let attributes = &sarah["attributes"];
    for (name, value) in [
        ("kind", json!("pager")),
        ("state", json!("cleared")),
        ("active", json!(false)),
        ("label", json!("Sarah")),
        ("number", json!(66)),
        ("party_size", json!(4)),
        ("goal", json!(60)),
        ("clear_type", json!("STOP")),
        ("source_id", guest["uuid"].clone()),
    ] {
        assert_eq!(attributes[name], value, "{name} of {attributes}");
    }
    assert!(
        attributes["notified"].is_string() && attributes["cleared"].is_string(),
        "{attributes}"
    );
    let events = list(&app.reader, "/v1/events?filter[service]=front-desk").await;
    let types: Vec<_> = events
        .iter()
        .map(|event| event["attributes"]["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["created", "paged", "cleared", "created", "removed"]);
    let by_number = list(&app.reader, "/v1/sessions?filter[number]=66").await;
    assert_eq!(by_number, [sarah]);
    let service = app.reader.get("/v1/services/front-desk").await.json();
    let statistics = &service["data"]["attributes"]["statistics"];
    assert_eq!(
        (&statistics["guests_served"], &statistics["sessions"]),
        (&json!(1), &json!(2)),
        "{service}"
    );
    assert_eq!(
        list(&app.stranger, "/v1/sessions?filter[kind]=pager").await,
        [] as [Value; 0]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn relays_are_resources(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk", "bar"]).await;
    let path = format!("/v1/relays/{}", edge.relay_id);
    assert!(app.reader.get(&path).await.json()["data"]["attributes"]["last_seen"].is_null());
    edge.start(Some(&app.url)).await;
    for at in [0, 1] {
        edge.client(at)
            .await
            .post("/v1/sessions", r#"{"number":1}"#)
            .await;
    }
    edge.drained().await;
    let relay = app.reader.get(&path).await.json()["data"].clone();
    assert!(relay["attributes"]["last_seen"].is_string(), "{relay}");
    assert_eq!(relay["attributes"]["version"], env!("CARGO_PKG_VERSION"));
    let services = list(&app.reader, &format!("{path}/services")).await;
    let names: Vec<_> = services
        .iter()
        .map(|service| service["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["bar", "desk"]);
    assert_eq!(app.stranger.get(&path).await.status, 404);
}

#[sqlx::test(migrations = "../migrations")]
async fn observers_see_each_change_after_it_is_on_the_disk(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(None).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":1}"#).await;
    let observer = edge.client(0).await;
    let mut observe = request(77, Code::GET, "/v1/notify?action=get_sessions", b"");
    observe.options.push_uint(option::OBSERVE, 0);
    observer.send(&observe.encode()).await;
    let first = observer.receive().await;
    let body = |message: &Message| serde_json::from_slice::<Value>(&message.payload).unwrap();
    assert_eq!(body(&first)["sessions"][0]["number"], 1);
    let before = body(&first)["globalSessionSequence"].as_u64().unwrap();
    for (step, action, state) in [(1, "page", "paged"), (2, "clear", "cleared")] {
        stand
            .put(
                "/v1/sessions?number=1",
                &format!(r#"{{"action":"{action}"}}"#),
            )
            .await;
        let told = observer.receive().await;
        assert_eq!(told.token, observe.token);
        let told = body(&told);
        assert_eq!(told["responseTypes"], json!(["sessions", "statistics"]));
        assert_eq!(told["sessions"][0]["state"], state);
        assert_eq!(told["globalSessionSequence"], before + step);
    }
    stand.post("/v1/settings", r#"{"systemId":5}"#).await;
    assert_eq!(body(&observer.receive().await)["settings"]["systemId"], 5);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_restart_keeps_everything_but_the_sequences(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(0).await;
    for number in 1..=5 {
        stand
            .post("/v1/sessions", &format!(r#"{{"number":{number}}}"#))
            .await;
    }
    stand.delete("/v1/sessions?number=2").await;
    stand
        .post("/v1/settings", r#"{"defaultTargetGoal":77}"#)
        .await;
    let before = stand.get("/v1/sessions").await.json();
    let history = stand.get("/v1/sessions/history").await.json();
    for _ in 0..2 {
        edge.kill();
        edge.start(Some(&app.url)).await;
    }
    let after = stand.get("/v1/sessions").await.json();
    assert_eq!(
        after["globalSessionSequence"],
        before["globalSessionSequence"]
    );
    assert_eq!(after["statistics"], before["statistics"]);
    let strip = |list: &Value| {
        let mut list = list["sessions"].clone();
        for session in list.as_array_mut().unwrap() {
            session.as_object_mut().unwrap().remove("sessionSequence");
        }
        list
    };
    assert_eq!(strip(&after), strip(&before));
    assert_eq!(after["sessions"][0]["sessionSequence"], 65_535);
    let history_after = stand.get("/v1/sessions/history").await.json();
    assert_eq!(history_after["session_history"], history["session_history"]);
    let created = stand.post("/v1/sessions", r#"{"number":9}"#).await.json();
    assert_eq!(
        (
            &created["sessions"][0]["id"],
            &created["sessions"][0]["goalInSeconds"]
        ),
        (&json!(6), &json!(77))
    );
    edge.drained().await;
    let six = async || Some(sessions(&app, "desk").await).filter(|found| found.len() == 6);
    let found = eventually("six sessions", six).await;
    let is_once = |session: &Value| session["attributes"]["revision"].as_i64() <= Some(2);
    assert!(found.iter().all(is_once), "nothing came twice");
}
