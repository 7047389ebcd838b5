//! Pages of a mirrored box, from the cloud: once each, whoever is killed or away meanwhile, and none too late.

use std::time::Duration;

use rollcall_model::Permission;
use rollcall_tests::{Client, CoapClient, Credential, Edge, LossyWay, SimulatedBox, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::commands::{ended, guest};
use crate::{eventually, list};

/// A box with one guest, who is on the roll.
struct Terrace {
    app: TestApp,
    edge: Edge,
    way: LossyWay,
    stand: CoapClient,
    session: Value,
    _simulated: SimulatedBox,
}

/// Gives orders with a key of their own.
#[derive(Clone)]
struct Caller {
    client: Client,
    path: String,
    body: Value,
}

impl Caller {
    /// The status of the answer, and the command or the error.
    async fn page(&self, query: &str) -> (u16, Value) {
        let path = format!("{}?{query}", self.path);
        let request = self.client.request(reqwest::Method::PATCH, &path);
        let answer = rollcall_tests::send(request.json(&self.body)).await;
        let body = answer.json();
        let body = body.get("data").unwrap_or(&body["errors"][0]).clone();
        (answer.status.into(), body)
    }
}

impl Terrace {
    async fn start(pool: PgPool, lossy: bool) -> Self {
        let app = TestApp::start(pool).await;
        let simulated = SimulatedBox::start(&["--ping-every", "1"]).await;
        let way = match lossy {
            true => LossyWay::to(simulated.address).await,
            false => LossyWay::sound(simulated.address).await,
        };
        let mut edge = Edge::of(&app, &[]).await;
        edge.set(&format!(
            "[[box]]\nname = \"terrace\"\naddress = \"coap://{}\"\nsilence_seconds = 4",
            way.address
        ));
        edge.start(Some(&app.url)).await;
        let mut stand = CoapClient::of(simulated.address).await;
        stand.post("/v1/sessions", r#"{"number":3}"#).await;
        let session = guest(&app, "terrace").await;
        let held = Self {
            app,
            edge,
            way,
            stand,
            session,
            _simulated: simulated,
        };
        held.is_followed().await;
        held
    }

    fn caller(&self, client: &Client) -> Caller {
        let id = self.session["id"].as_str().expect("an id");
        Caller {
            client: client.clone(),
            path: format!("/v1/sessions/{id}"),
            body: json!({"data": {"type": "sessions", "id": id, "attributes": {"action": "page"}}}),
        }
    }

    /// How often anything was done on the box: with one guest who is there already, how often they were paged.
    async fn steps(&mut self) -> u64 {
        let body = self.stand.get("/v1/sessions").await.json();
        body["globalSessionSequence"].as_u64().expect("a number")
    }

    async fn is_followed(&self) {
        eventually("followed", async || {
            let status = self.edge.status().await;
            (status["boxes"]["terrace"]["is_followed"] == true).then_some(())
        })
        .await;
    }

    async fn is_missed(&self) {
        eventually("missed", async || {
            let status = self.edge.status().await;
            (status["boxes"]["terrace"]["is_followed"] == false).then_some(())
        })
        .await;
    }

    /// How many of the session's events tell of a page.
    async fn told_pages(&self) -> usize {
        let path = format!(
            "/v1/sessions/{}/events",
            self.session["id"].as_str().expect("an id")
        );
        let events = list(&self.app.reader, &path).await;
        let is_page = |event: &&Value| event["attributes"]["event_type"] == "paged";
        events.iter().filter(is_page).count()
    }

    async fn is_delivered(&self, command: &Value) {
        let path = format!("/v1/commands/{}", command["id"].as_str().expect("an id"));
        eventually("the relay has it", async || {
            let command = self.app.reader.get(&path).await.json();
            command["data"]["attributes"]["delivered"]
                .is_string()
                .then_some(())
        })
        .await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_killed_before_it_reports_pages_nobody_twice_at_a_box(pool: PgPool) {
    let mut terrace = Terrace::start(pool, false).await;
    let caller = terrace.caller(&terrace.app.admin);
    let before = terrace.steps().await;
    let mut given = Vec::new();
    for round in 0..8_u64 {
        let (status, command) = caller.page("ttl=600").await;
        assert_eq!(status, 202, "{command}");
        given.push(command);
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        terrace.edge.kill();
        terrace.edge.start(Some(&terrace.app.url)).await;
        terrace.is_followed().await;
    }
    let (mut done, mut unknown) = (0, 0);
    for command in &given {
        match ended(&terrace.app, command).await["status"].as_str() {
            Some("done") => done += 1,
            Some("unknown") => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    let paged = terrace.steps().await - before;
    assert!(
        (done..=done + unknown).contains(&paged),
        "{paged} pages: {done} done, {unknown} unknown"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn two_callers_at_once_each_get_the_truth(pool: PgPool) {
    const EACH: u64 = 12;
    let mut terrace = Terrace::start(pool, false).await;
    let before = terrace.steps().await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = terrace.app.client(None, &[Permission::CommandsWrite]).await;
        let caller = terrace.caller(&client);
        callers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..EACH {
                let (status, command) = caller.page("wait=20").await;
                let attributes = &command["attributes"];
                assert_eq!(
                    (status, &attributes["status"], &attributes["code"]),
                    (200, &json!("done"), &json!("2.04")),
                    "{command}"
                );
                assert_eq!(attributes["answer"]["sessions"][0]["state"], "paged");
                ids.push(command["id"].to_string());
            }
            ids
        });
    }
    let mut ids: Vec<String> = callers.join_all().await.concat();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len() as u64, 2 * EACH, "a command for each call");
    assert_eq!(terrace.steps().await - before, 2 * EACH, "a page for each");
    eventually("each is told", async || {
        (terrace.told_pages().await as u64 == 2 * EACH).then_some(())
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn over_a_way_that_loses_datagrams_each_page_arrives_once(pool: PgPool) {
    const PAGES: u64 = 10;
    let mut terrace = Terrace::start(pool, true).await;
    let caller = terrace.caller(&terrace.app.admin);
    let before = terrace.steps().await;
    for _ in 0..PAGES {
        // Where the loss of pings made it read the box, commands are refused until it is read.
        terrace.is_followed().await;
        let (_, command) = caller.page("ttl=600&wait=30").await;
        assert_eq!(command["attributes"]["status"], "done", "{command}");
    }
    assert_eq!(terrace.steps().await - before, PAGES);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_box_that_is_back_in_time_is_paged_once_and_one_that_is_not_never(pool: PgPool) {
    let mut terrace = Terrace::start(pool, false).await;
    let caller = terrace.caller(&terrace.app.admin);
    let before = terrace.steps().await;
    // Away for less than the command's time, and than it takes to be missed.
    terrace.way.mute(true);
    let (status, command) = caller.page("ttl=60").await;
    assert_eq!(status, 202, "{command}");
    terrace.is_delivered(&command).await;
    terrace.way.mute(false);
    assert_eq!(ended(&terrace.app, &command).await["status"], "done");
    assert_eq!(terrace.steps().await - before, 1);
    terrace.is_followed().await;
    // Away for longer than the command's time: it was asked, so nobody knows; but it is not asked any more.
    terrace.way.mute(true);
    let (status, late) = caller.page("ttl=2&wait=10").await;
    assert_eq!(
        (status, &late["attributes"]["status"]),
        (200, &json!("unknown")),
        "{late}"
    );
    // By now it is missed: refused at once, not kept for later.
    terrace.is_missed().await;
    let (status, refused) = caller.page("ttl=600&wait=10").await;
    assert_eq!(
        (status, &refused["attributes"]["status"]),
        (200, &json!("refused")),
        "{refused}"
    );
    terrace.way.mute(false);
    terrace.is_followed().await;
    let (_, last) = caller.page("wait=20").await;
    assert_eq!(last["attributes"]["status"], "done", "{last}");
    assert_eq!(terrace.steps().await - before, 2, "the first and the last");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_expires_while_no_relay_is_there_is_never_carried_out(pool: PgPool) {
    let mut terrace = Terrace::start(pool, false).await;
    let caller = terrace.caller(&terrace.app.admin);
    let before = terrace.steps().await;
    terrace.edge.stop();
    let (status, queued) = caller.page("ttl=2&wait=1").await;
    assert_eq!(
        (status, &queued["attributes"]["finished"]),
        (202, &Value::Null),
        "who waits for less gets what there is: {queued}"
    );
    // The cloud may have told it to the connection of the relay that was: then it is not sure.
    let status = ended(&terrace.app, &queued).await["status"].clone();
    assert!(status == "expired" || status == "unknown", "{status}");
    terrace.edge.start(Some(&terrace.app.url)).await;
    terrace.is_followed().await;
    let (_, next) = caller.page("wait=20").await;
    assert_eq!(next["attributes"]["status"], "done", "{next}");
    assert_eq!(terrace.steps().await - before, 1);
    let status = &ended(&terrace.app, &queued).await["status"];
    assert!(status == "expired" || status == "unknown", "{status}");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_given_stands_when_the_key_that_gave_it_goes(pool: PgPool) {
    let mut terrace = Terrace::start(pool, false).await;
    let before = terrace.steps().await;
    let client = terrace.app.client(None, &[Permission::CommandsWrite]).await;
    let caller = terrace.caller(&client);
    let Credential::Basic { id: key, .. } = &client.credential else {
        panic!("a key");
    };
    let (_, first) = caller.page("wait=20").await;
    assert_eq!(first["attributes"]["status"], "done", "{first}");
    // The relay is away while the order is given; then the permission goes, and then the key.
    terrace.edge.kill();
    let (status, given) = caller.page("ttl=600").await;
    assert_eq!(status, 202, "{given}");
    sqlx::query("update api_keys set permissions = '{}' where id = $1")
        .bind(key)
        .execute(&terrace.app.superuser)
        .await
        .expect("taken");
    let (status, error) = caller.page("").await;
    assert_eq!(
        (status, &error["code"]),
        (403, &json!("permission_missing"))
    );
    let revoked: Result<bool, rollcall_store::Error> = terrace
        .app
        .db
        .tenant(terrace.app.org, async |tx| {
            rollcall_store::api_keys::revoke(tx, key).await
        })
        .await;
    assert!(revoked.expect("revoked"));
    let (status, error) = caller.page("").await;
    assert_eq!((status, &error["code"]), (401, &json!("key_revoked")));
    terrace.edge.start(Some(&terrace.app.url)).await;
    let given = ended(&terrace.app, &given).await;
    assert_eq!(given["status"], "done", "{given}");
    assert_eq!(terrace.steps().await - before, 2);
}
