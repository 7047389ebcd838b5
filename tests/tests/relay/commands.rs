//! Pages from the cloud: carried out once, answered with what the transmitter says.

use std::process::Command;

use rollcall_coap::Code;
use rollcall_tests::{CoapClient, Edge, SimulatedBox, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{eventually, history, sessions};

/// The one session of a service.
pub async fn guest(app: &TestApp, service: &str) -> Value {
    eventually("a guest", async || sessions(app, service).await.pop()).await
}

/// Orders an action, and waits for its result.
pub async fn order(app: &TestApp, session: &Value, action: &str, query: &str) -> Value {
    let id = session["id"].as_str().expect("an id");
    let body = json!({"data": {"type": "sessions", "id": id, "attributes": {"action": action}}});
    let path = format!("/v1/sessions/{id}?{query}");
    let answer =
        rollcall_tests::send(app.admin.request(reqwest::Method::PATCH, &path).json(&body)).await;
    assert!(
        answer.status == 200 || answer.status == 202,
        "{} {}",
        answer.status,
        answer.text()
    );
    answer.json()["data"].clone()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_guest_is_paged_from_the_cloud(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":7}"#).await;
    let session = guest(&app, "desk").await;
    let done = order(&app, &session, "page", "wait=20").await;
    assert_eq!(
        (&done["attributes"]["status"], &done["attributes"]["code"]),
        (&json!("done"), &json!("2.04")),
        "{done}"
    );
    assert_eq!(
        done["attributes"]["answer"]["sessions"][0]["state"],
        "paged"
    );
    assert_eq!(
        stand.get("/v1/sessions?number=7").await.json()["sessions"][0]["state"],
        "paged"
    );
    let done = order(&app, &session, "clear", "wait=20").await;
    assert_eq!(done["attributes"]["status"], "done");
    assert_eq!(
        stand.get("/v1/sessions?number=7").await.code,
        Code::NOT_FOUND
    );
    let body = json!({"data": {"type": "sessions", "attributes": {"number": 12, "label": "Ann"}}});
    let created = app
        .admin
        .post("/v1/services/desk/sessions?wait=20", &body)
        .await
        .json();
    assert_eq!(created["data"]["attributes"]["code"], "2.01", "{created}");
    assert_eq!(
        stand.get("/v1/sessions?number=12").await.json()["sessions"][0]["label"],
        "Ann"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_killed_relay_pages_nobody_twice(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":7}"#).await;
    let session = guest(&app, "desk").await;
    let mut orders = Vec::new();
    for round in 0..6_u64 {
        orders.push(order(&app, &session, "page", "ttl=600").await);
        tokio::time::sleep(std::time::Duration::from_millis(7 * round)).await;
        edge.kill();
        edge.start(Some(&app.url)).await;
    }
    for id in &orders {
        assert_eq!(ended(&app, id).await["status"], "done");
    }
    edge.drained().await;
    let types = history(&app, &session, "state").await;
    let events = crate::list(
        &app.reader,
        &format!("/v1/sessions/{}/events", session["id"].as_str().unwrap()),
    )
    .await;
    let paged = events
        .iter()
        .filter(|event| event["attributes"]["event_type"] == "paged")
        .count();
    assert_eq!(paged, orders.len(), "each once: {types:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_is_paged_too_late_or_for_another(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(Some(&app.url)).await;
    let mut stand = edge.client(0).await;
    stand.post("/v1/sessions", r#"{"number":7}"#).await;
    let session = guest(&app, "desk").await;
    // The relay is away while the order is given, and its time runs out.
    edge.kill();
    let late = order(&app, &session, "page", "ttl=1").await;
    let path = format!("/v1/commands/{}", late["id"].as_str().unwrap());
    // Of a relay that was killed while it asked, the cloud may believe that it was told.
    eventually("its time runs out", async || {
        let command = app.reader.get(&path).await.json()["data"]["attributes"].clone();
        let status = command["status"].as_str().unwrap_or_default().to_owned();
        Some(()).filter(|()| status == "expired" || status == "unknown")
    })
    .await;
    let stale = order(&app, &session, "page", "ttl=600").await;
    // Meanwhile the pager goes to somebody else: the relay learns that before it hears of the order.
    edge.start(None).await;
    assert_eq!(
        stand.get("/v1/sessions?number=7").await.json()["sessions"][0]["state"],
        "started"
    );
    stand.delete("/v1/sessions?number=7").await;
    stand
        .post("/v1/sessions", r#"{"number":7,"label":"another"}"#)
        .await;
    edge.kill();
    edge.start(Some(&app.url)).await;
    assert_eq!(ended(&app, &stale).await["status"], "refused");
    assert_eq!(
        stand.get("/v1/sessions?number=7").await.json()["sessions"][0]["state"],
        "started"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_box_is_asked_once_and_its_answer_comes_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut simulated = SimulatedBox::start(&[]).await;
    let mut edge = Edge::of(&app, &[]).await;
    edge.set(&format!(
        "[[box]]\nname = \"terrace\"\naddress = \"coap://{}\"",
        simulated.address
    ));
    edge.start(Some(&app.url)).await;
    let mut stand = CoapClient::of(simulated.address).await;
    stand.post("/v1/sessions", r#"{"number":3}"#).await;
    let session = guest(&app, "terrace").await;
    let before = stand.get("/v1/sessions").await.json()["globalSessionSequence"]
        .as_u64()
        .unwrap();
    let done = order(&app, &session, "page", "wait=20").await;
    assert_eq!(
        (&done["attributes"]["status"], &done["attributes"]["code"]),
        (&json!("done"), &json!("2.04")),
        "{done}"
    );
    let after = stand.get("/v1/sessions").await.json();
    assert_eq!(
        (
            after["globalSessionSequence"].as_u64(),
            &after["sessions"][0]["state"]
        ),
        (Some(before + 1), &json!("paged"))
    );
    // The box goes away: the relay asks it until the command's time is over, and not longer.
    simulated.kill();
    let late = order(&app, &session, "clear", "ttl=2").await;
    let late = ended(&app, &late).await;
    assert_eq!(late["status"], "unknown", "{late}");
    assert!(
        late["detail"].as_str().unwrap().contains("in its time"),
        "the relay said so: {late}"
    );
    // Where the relay is killed meanwhile, nobody can say what became of it.
    let asked = order(&app, &session, "clear", "ttl=600").await;
    let path = format!("/v1/commands/{}", asked["id"].as_str().unwrap());
    eventually("the relay has it", async || {
        let command = app.reader.get(&path).await.json()["data"]["attributes"].clone();
        Some(()).filter(|()| command["delivered"].is_string())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    edge.kill();
    edge.start(Some(&app.url)).await;
    assert_eq!(ended(&app, &asked).await["status"], "unknown");
}

/// No file of the relay's may grow beyond so many bytes from now on: as on a disk that is full.
fn limit_files(edge: &Edge, bytes: &str) {
    let limited = Command::new("prlimit")
        .args(["--pid", &edge.pid().to_string()])
        .arg(format!("--fsize={bytes}:unlimited"))
        .status();
    assert!(limited.expect("prlimit runs").success());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_boxs_answer_survives_a_disk_that_is_full_just_then(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let simulated = SimulatedBox::start(&[]).await;
    let mut edge = Edge::of(&app, &[]).await;
    edge.set(&format!(
        "[[box]]\nname = \"terrace\"\naddress = \"coap://{}\"",
        simulated.address
    ));
    let run = edge.command("run", Some(&app.url));
    let mut ignoring = Command::new("sh");
    ignoring.arg("-c").arg(r#"trap '' XFSZ; exec "$0" "$@""#);
    ignoring.arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        ignoring.env(name, value.expect("it is set"));
    }
    edge.start_as(ignoring).await;
    let mut stand = CoapClient::of(simulated.address).await;
    stand.post("/v1/sessions", r#"{"number":3}"#).await;
    let session = guest(&app, "terrace").await;
    // The spool's log grows to more than the files may have later.
    let log = edge.spool().with_extension("sqlite-wal");
    let mut size = 0;
    while std::fs::metadata(&log).map_or(0, |about| about.len()) < 300_000 {
        size += 1;
        let body = format!(r#"{{"number":3,"partySize":{size}}}"#);
        stand.post("/v1/sessions", &body).await;
        // One by one: a box whose observer is slow leaves steps out, and is then read anew.
        eventually("the change is in the store", async || {
            let session = sessions(&app, "terrace").await.pop()?;
            Some(()).filter(|()| session["attributes"]["party_size"] == size)
        })
        .await;
    }
    edge.drained().await;
    // The relay has asked the box, which takes its time to answer; meanwhile the disk is full.
    simulated.pause();
    let asked = order(&app, &session, "page", "ttl=600").await;
    let path = format!("/v1/commands/{}", asked["id"].as_str().unwrap());
    let connection = rusqlite::Connection::open(edge.spool()).unwrap();
    eventually("the command is begun", async || {
        let count = "select count(*) from commands where report is null";
        let begun: u32 = connection.query_row(count, [], |row| row.get(0)).unwrap();
        Some(()).filter(|()| begun == 1)
    })
    .await;
    drop(connection);
    limit_files(&edge, "100000");
    simulated.go_on();
    eventually("the report is kept", async || {
        edge.log().contains("kept in memory").then_some(())
    })
    .await;
    let waits = app.reader.get(&path).await.json();
    assert!(waits["data"]["attributes"]["finished"].is_null(), "{waits}");
    limit_files(&edge, "unlimited");
    let done = ended(&app, &asked).await;
    assert_eq!(
        (&done["status"], &done["code"]),
        (&json!("done"), &json!("2.04")),
        "the box's own answer: {done}"
    );
    assert_eq!(done["answer"]["sessions"][0]["state"], "paged");
    let log = edge.log();
    assert!(log.contains("is on the disk now"), "{log}");
}

/// A command once it has come to its end.
pub async fn ended(app: &TestApp, command: &Value) -> Value {
    let path = format!("/v1/commands/{}", command["id"].as_str().expect("an id"));
    eventually("an end", async || {
        let command = app.reader.get(&path).await.json()["data"]["attributes"].clone();
        Some(command).filter(|command| command["finished"].is_string())
    })
    .await
}
