//! Mirrored boxes: what happens on them is in the store, once, with the box's own times, whatever the relay missed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rollcall_coap::Code;
use rollcall_tests::{CoapClient, Edge, LossyWay, SimulatedBox, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{eventually, history, list, sessions};

/// A relay that mirrors a box as the service `terrace`, and answers for it.
async fn mirroring(app: &TestApp, simulated: &SimulatedBox) -> (Edge, CoapClient) {
    mirroring_at(app, simulated.address, "").await
}

/// The same of a box at an address, with lines in its table.
async fn mirroring_at(app: &TestApp, address: SocketAddr, lines: &str) -> (Edge, CoapClient) {
    let port = std::net::UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port");
    let mut edge = Edge::of(app, &[]).await;
    edge.set(&format!(
        "[[box]]\nname = \"terrace\"\naddress = \"coap://{address}\"\nlisten = \"{port}\"\n{lines}"
    ));
    edge.start(Some(&app.url)).await;
    (edge, CoapClient::of(port).await)
}

/// What the box itself knows: id to state and number, active and ended.
async fn at_box(stand: &mut CoapClient) -> BTreeMap<u64, (String, u64)> {
    let active = stand.get("/v1/sessions").await.json();
    let ended = stand.get("/v1/sessions/history").await.json();
    let lists = [&active["sessions"], &ended["session_history"]];
    let all = lists
        .into_iter()
        .flat_map(|list| list.as_array().cloned().unwrap_or_default());
    let describe = |session: Value| {
        let state = match session["clearType"].as_str() {
            Some("REMOVED") => "removed",
            Some(_) => "cleared",
            None => session["state"].as_str().expect("as the contract has it"),
        };
        (
            session["id"].as_u64().expect("as the contract has it"),
            (
                state.to_owned(),
                session["number"].as_u64().expect("as the contract has it"),
            ),
        )
    };
    all.map(describe).collect()
}

async fn in_store(app: &TestApp) -> BTreeMap<u64, (String, u64)> {
    let describe = |session: Value| {
        let attributes = &session["attributes"];
        let state = attributes["state"]
            .as_str()
            .expect("as the contract has it")
            .to_owned();
        (
            attributes["pager_id"]
                .as_u64()
                .expect("as the contract has it"),
            (
                state,
                attributes["number"]
                    .as_u64()
                    .expect("as the contract has it"),
            ),
        )
    };
    sessions(app, "terrace")
        .await
        .into_iter()
        .map(describe)
        .collect()
}

async fn agrees(app: &TestApp, stand: &mut CoapClient) {
    let expected = at_box(stand).await;
    eventually("the store agrees with the box", async || {
        (in_store(app).await == expected).then_some(())
    })
    .await;
}

async fn gaps(app: &TestApp) -> Vec<Value> {
    let service = app.reader.get("/v1/services/terrace").await.json();
    service["data"]["attributes"]["gaps"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// One guest after the other comes, is paged and goes; answers how many did.
async fn serve_guests(mut stand: CoapClient, first: u16, guests: u16) {
    for number in first..first + guests {
        let path = format!("/v1/sessions?number={number}");
        stand
            .post("/v1/sessions", &format!(r#"{{"number":{number}}}"#))
            .await;
        stand.put(&path, r#"{"action":"page"}"#).await;
        match number % 3 {
            0 => stand.put(&path, r#"{"action":"clear"}"#).await,
            1 => stand.delete(&path).await,
            _ => continue,
        };
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_box_is_followed_and_answered_for(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let simulated = SimulatedBox::start(&[]).await;
    let mut stand = CoapClient::of(simulated.address).await;
    // Before anybody watches.
    serve_guests(CoapClient::of(simulated.address).await, 1, 6).await;
    let (edge, mut mirror) = mirroring(&app, &simulated).await;
    agrees(&app, &mut stand).await;
    serve_guests(CoapClient::of(simulated.address).await, 11, 30).await;
    agrees(&app, &mut stand).await;
    edge.drained().await;
    assert_eq!(gaps(&app).await, [] as [Value; 0], "nothing was missed");
    for session in sessions(&app, "terrace").await {
        let states = history(&app, &session, "state").await;
        let ended = &states[states.len() - 1];
        let expected = if ended == "paged" {
            vec![json!("started"), json!("paged")]
        } else {
            vec![json!("started"), json!("paged"), ended.clone()]
        };
        assert_eq!(states, expected);
    }
    // The mirror answers as the box does, and passes changes on.
    let strip = |mut body: Value| {
        for member in ["timestamp", "mirrorAge", "responseTypes"] {
            body.as_object_mut().unwrap().remove(member);
        }
        body
    };
    let known = mirror.get("/v1/sessions").await.json();
    assert!(known["mirrorAge"].is_u64(), "{known}");
    assert_eq!(strip(known), strip(stand.get("/v1/sessions").await.json()));
    let created = mirror
        .post("/v1/sessions", "{ \"number\" : 500,\n \"label\": \"Ann\" }")
        .await;
    assert_eq!(created.code, Code::CREATED, "{created:?}");
    assert_eq!(
        stand.get("/v1/sessions?number=500").await.json()["sessions"][0]["label"],
        "Ann"
    );
    let refused = mirror.delete("/v1/sessions?nmber=500").await;
    assert_eq!(refused.code, Code::BAD_REQUEST);
    assert_eq!(
        mirror.put("/v1/sessions?number=501", "{}").await.code,
        Code::NOT_FOUND
    );
    agrees(&app, &mut stand).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn killed_in_a_loop_it_misses_nothing_that_the_box_knows(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let simulated = SimulatedBox::start(&[]).await;
    let (mut edge, _) = mirroring(&app, &simulated).await;
    let serving = tokio::spawn(serve_guests(
        CoapClient::of(simulated.address).await,
        1,
        240,
    ));
    for round in 0..5 {
        tokio::time::sleep(Duration::from_millis(40 + 30 * round)).await;
        edge.kill();
        tokio::time::sleep(Duration::from_millis(30)).await;
        edge.start(Some(&app.url)).await;
    }
    serving.await.unwrap();
    let mut stand = CoapClient::of(simulated.address).await;
    agrees(&app, &mut stand).await;
    edge.drained().await;
    assert_eq!(gaps(&app).await, [] as [Value; 0], "{}", edge.log());
    for session in sessions(&app, "terrace").await {
        let types = list(
            &app.reader,
            &format!("/v1/sessions/{}/events", session["id"].as_str().unwrap()),
        )
        .await;
        let types: Vec<&str> = types
            .iter()
            .map(|event| event["attributes"]["event_type"].as_str().unwrap())
            .collect();
        let once = |name: &str| types.iter().filter(|held| **held == name).count();
        assert!(once("created") == 1 && once("paged") == 1, "{types:?}");
        assert!(once("cleared") + once("removed") <= 1, "{types:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_box_that_begins_anew_leaves_a_gap_record(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut simulated = SimulatedBox::start(&[]).await;
    let (mut edge, _) = mirroring(&app, &simulated).await;
    let mut stand = CoapClient::of(simulated.address).await;
    for number in 1..=4 {
        stand
            .post("/v1/sessions", &format!(r#"{{"number":{number}}}"#))
            .await;
    }
    agrees(&app, &mut stand).await;
    // It is another box by now, with an empty memory; the relay asks it when it starts.
    edge.kill();
    simulated.restart(&[]).await;
    stand.post("/v1/sessions", r#"{"number":9}"#).await;
    edge.start(Some(&app.url)).await;
    let gaps = eventually("a gap record", async || {
        Some(gaps(&app).await).filter(|gaps| !gaps.is_empty())
    })
    .await;
    edge.drained().await;
    assert!(
        gaps.iter()
            .any(|gap| gap["reason"].as_str().unwrap().contains("no longer knows")),
        "{gaps:?}"
    );
    let active = list(
        &app.reader,
        "/v1/sessions?filter[service]=terrace&filter[active]=true",
    )
    .await;
    assert_eq!(
        active.len(),
        1,
        "those that the box forgot are no longer on the roll"
    );
    assert_eq!(active[0]["attributes"]["number"], 9);
    let lost = list(&app.reader, "/v1/sessions?filter[number]=1").await;
    assert!(
        lost[0]["attributes"]["cleared"].is_null(),
        "nobody knows when: {lost:?}"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn boxes_of_both_families_are_mirrored_by_one_relay(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &[]).await;
    let mut boxes = Vec::new();
    let mut tables = String::new();
    for (name, ip) in [
        ("terrace", IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ("garden", IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ] {
        let simulated = SimulatedBox::start_on(ip, &[]).await;
        tables += &format!(
            "[[box]]\nname = {name:?}\naddress = \"coap://{}\"\n",
            simulated.address
        );
        boxes.push((name, simulated));
    }
    edge.set(&tables);
    edge.start(Some(&app.url)).await;
    for (name, simulated) in &boxes {
        let mut stand = CoapClient::of(simulated.address).await;
        stand.post("/v1/sessions", r#"{"number":8}"#).await;
        eventually(name, async || sessions(&app, name).await.pop()).await;
        stand
            .put("/v1/sessions?number=8", r#"{"action":"page"}"#)
            .await;
        eventually("paged", async || {
            let session = sessions(&app, name).await.pop()?;
            Some(()).filter(|()| session["attributes"]["state"] == "paged")
        })
        .await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_box_that_goes_mute_is_missed_and_found_again(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let simulated = SimulatedBox::start(&["--ping-every", "1"]).await;
    let way = LossyWay::sound(simulated.address).await;
    let (edge, mut mirror) = mirroring_at(&app, way.address, "silence_seconds = 3").await;
    let followed = async |is_followed: bool| {
        let status = edge.status().await["boxes"]["terrace"].clone();
        Some(status).filter(|status| status["is_followed"] == is_followed)
    };
    let mut stand = CoapClient::of(simulated.address).await;
    serve_guests(CoapClient::of(simulated.address).await, 1, 6).await;
    agrees(&app, &mut stand).await;
    // Nothing happens for longer than that: its pings are enough.
    let quiet_since =
        eventually("followed", async || followed(true).await).await["last_heard"].clone();
    eventually("pings", async || {
        let heard = followed(true).await?["last_heard"].clone();
        (seconds(&heard) - seconds(&quiet_since) > 4.0).then_some(())
    })
    .await;
    assert!(!edge.log().contains("nothing was heard"), "{}", edge.log());
    // No more datagrams, in either direction; it goes on meanwhile.
    way.mute(true);
    let missed = eventually("missed", async || followed(false).await).await;
    assert_eq!(
        missed["trouble"], "nothing was heard of it for 3 s",
        "{missed}"
    );
    let words = edge.command("status", None).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(
        words.contains("nothing was heard of it for 3 s; last heard of 2"),
        "{words}"
    );
    assert!(mirror.get("/v1/sessions").await.json()["mirrorAge"].as_u64() >= Some(3));
    serve_guests(CoapClient::of(simulated.address).await, 11, 12).await;
    way.mute(false);
    let found = eventually("found again", async || followed(true).await).await;
    assert_eq!(found["trouble"], Value::Null, "{found}");
    agrees(&app, &mut stand).await;
    serve_guests(CoapClient::of(simulated.address).await, 31, 3).await;
    agrees(&app, &mut stand).await;
    edge.drained().await;
    // Its history told all; but whether a guest was created and paged in one step is not told by stamps of one second, and so what
    // may be a step more counts as one that was missed.
    for gap in gaps(&app).await {
        assert!(gap["events"].as_u64() <= Some(12), "{gap}");
        let reason = gap["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("the last state alone is known"), "{gap}");
    }
}

/// A time of a status, in seconds of the epoch.
fn seconds(at: &Value) -> f64 {
    use time::format_description::well_known::Rfc3339;
    let text = at.as_str().expect("a time");
    let at = time::OffsetDateTime::parse(text, &Rfc3339).expect("a time");
    at.unix_timestamp_nanos() as f64 / 1e9
}
