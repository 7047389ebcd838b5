//! Relay and box killed in loops under load: afterwards the roll is what the box tells, nothing is on it twice, and what is
//! missing is named by a gap record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rollcall_coap::Code;
use rollcall_tests::{CoapClient, Edge, SimulatedBox, TestApp};
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;

use crate::{eventually, list, sessions};

/// Host stands, each with pagers of its own.
const STANDS: u16 = 4;
/// Pagers of a stand.
const PAGERS: u16 = 5;
/// How often the box is killed; it remembers nothing afterwards.
const DEATHS: u64 = 4;

/// What a box acknowledged: by session, the types of events that follow from it.
type Witness = Arc<Mutex<BTreeMap<String, BTreeSet<&'static str>>>>;

/// States by session.
type AtBox = BTreeMap<String, String>;
/// States and types of events by session.
type InStore = BTreeMap<String, (String, Vec<String>)>;

/// A stand that serves guests until it is stopped, or none is left, and keeps what the box said.
async fn serve(mut stand: CoapClient, first: u16, guests: u16, witness: Witness) {
    for guest in 0..guests {
        let number = first + guest % PAGERS;
        let body = format!(r#"{{"number":{number}}}"#);
        let created = stand.post("/v1/sessions", &body).await.json();
        let Some(uuid) = created["sessions"][0]["uuid"].as_str().map(str::to_owned) else {
            panic!("{created}");
        };
        let saw = |what| {
            let mut seen = witness.lock().expect("no panic");
            seen.entry(uuid.clone()).or_default().insert(what);
        };
        saw("created");
        let path = format!("/v1/sessions?number={number}");
        let paged = stand.put(&path, r#"{"action":"page"}"#).await;
        assert_eq!(paged.code, Code::CHANGED);
        saw("paged");
        if guest + PAGERS >= guests {
            // They stay.
            continue;
        }
        match guest % 2 {
            0 => {
                let cleared = stand.put(&path, r#"{"action":"clear"}"#).await;
                assert_eq!(cleared.code, Code::CHANGED);
                saw("cleared");
            }
            _ => {
                assert_eq!(stand.delete(&path).await.code, Code::DELETED);
                saw("removed");
            }
        }
    }
}

/// Lets the stands serve, by pagers from `first`.
fn begin(simulated: &SimulatedBox, (first, guests): (u16, u16), witness: &Witness) -> JoinSet<()> {
    let mut stands = JoinSet::new();
    for at in 0..STANDS {
        let (address, witness) = (simulated.address, witness.clone());
        stands.spawn(async move {
            let stand = CoapClient::of(address).await;
            serve(stand, first + at * 10, guests, witness).await;
        });
    }
    stands
}

/// What the box itself knows: state by session, active and ended.
async fn at_box(simulated: &SimulatedBox) -> AtBox {
    let mut stand = CoapClient::of(simulated.address).await;
    let active = stand.get("/v1/sessions").await.json();
    let ended = stand.get("/v1/sessions/history").await.json();
    let lists = [&active["sessions"], &ended["session_history"]];
    let all = lists
        .into_iter()
        .flat_map(|list| list.as_array().expect("a list"));
    let describe = |session: &Value| {
        let state = match session["clearType"].as_str() {
            Some("REMOVED") => "removed",
            Some(_) => "cleared",
            None => session["state"].as_str().expect("a state"),
        };
        let uuid = session["uuid"].as_str().expect("a uuid").to_lowercase();
        (uuid, state.to_owned())
    };
    all.map(describe).collect()
}

/// What the store knows: state and types of events by session.
async fn in_store(app: &TestApp) -> InStore {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in list(&app.reader, "/v1/events?filter[service]=terrace").await {
        let session = &event["attributes"]["session"]["attributes"]["source_id"];
        let what = text(&event["attributes"]["event_type"]);
        types.entry(text(session)).or_default().push(what);
    }
    let describe = |session: Value| {
        let attributes = &session["attributes"];
        let uuid = text(&attributes["source_id"]);
        let of_it = types.get(&uuid).cloned().unwrap_or_default();
        (uuid, (text(&attributes["state"]), of_it))
    };
    let sessions = sessions(app, "terrace").await;
    sessions.into_iter().map(describe).collect()
}

/// Waits until the store knows what the box knows, which rests; answers both.
async fn agrees(app: &TestApp, simulated: &SimulatedBox) -> (AtBox, InStore) {
    let expected = at_box(simulated).await;
    let store = eventually("the store knows what the box knows", async || {
        let store = in_store(app).await;
        let agrees = expected
            .iter()
            .all(|(uuid, state)| store.get(uuid).is_some_and(|(held, _)| held == state));
        agrees.then_some(store)
    })
    .await;
    (expected, store)
}

/// When what a gap record tells of began, and when it ended.
async fn gaps(app: &TestApp) -> Vec<(OffsetDateTime, OffsetDateTime, Value)> {
    let service = app.reader.get("/v1/services/terrace").await.json();
    let gaps = service["data"]["attributes"]["gaps"].as_array().cloned();
    let time = |value: &Value| {
        let text = value.as_str()?;
        OffsetDateTime::parse(text, &Rfc3339).ok()
    };
    let describe = |gap: Value| {
        let since = time(&gap["since"]).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let until = time(&gap["until"]).expect("a gap record says until when");
        (since, until, gap)
    };
    gaps.unwrap_or_default().into_iter().map(describe).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn relay_and_box_are_killed_and_what_is_missing_is_named(pool: PgPool) {
    const QUICK: &[&str] = &["--ping-every", "1"];
    let app = TestApp::start(pool).await;
    let mut simulated = SimulatedBox::start(QUICK).await;
    let mut edge = Edge::of(&app, &[]).await;
    edge.set(&format!(
        "[[box]]\nname = \"terrace\"\naddress = \"coap://{}\"\nsilence_seconds = 3",
        simulated.address
    ));
    edge.start(Some(&app.url)).await;
    let mut lives = Vec::new();
    for life in 0..DEATHS {
        let witness = Witness::default();
        // Of a box that begins anew before any session of it was known, nobody can tell.
        begin(&simulated, (500, PAGERS), &witness).join_all().await;
        agrees(&app, &simulated).await;
        let mut stands = begin(&simulated, (1, 5_000), &witness);
        for round in 0..2_u64 {
            tokio::time::sleep(Duration::from_millis(120 + 70 * round)).await;
            edge.kill();
            tokio::time::sleep(Duration::from_millis(20)).await;
            edge.start(Some(&app.url)).await;
        }
        tokio::time::sleep(Duration::from_millis(90 * life)).await;
        // Once the relay dies with its box; else it has to find out by itself.
        if life == 1 {
            edge.kill();
        }
        simulated.kill();
        let killed = OffsetDateTime::now_utc();
        stands.shutdown().await;
        simulated.restart(QUICK).await;
        if life == 1 {
            edge.start(Some(&app.url)).await;
        }
        lives.push((killed, witness));
    }
    let last = Witness::default();
    let stands = begin(&simulated, (1, 40), &last);
    tokio::time::sleep(Duration::from_millis(100)).await;
    edge.kill();
    edge.start(Some(&app.url)).await;
    stands.join_all().await;

    let (expected, _) = agrees(&app, &simulated).await;
    assert_eq!(expected.len(), usize::from(STANDS) * 40);
    edge.drained().await;
    // What came between two of its readings above has no event there.
    let store = in_store(&app).await;
    for (uuid, (state, types)) in &store {
        let is_over = state == "cleared" || state == "removed";
        assert!(
            expected.contains_key(uuid) || is_over,
            "{uuid} is {state}, and the box knows nothing of it"
        );
        let once = |name: &str| types.iter().filter(|held| *held == name).count();
        assert!(
            once("created") == 1 && once("paged") <= 1 && once("cleared") + once("removed") <= 1,
            "{uuid}: {types:?}"
        );
    }
    let gaps = gaps(&app).await;
    lives.push((OffsetDateTime::now_utc(), last));
    for (at, (killed, witness)) in lives.iter().enumerate() {
        let seen = witness.lock().expect("no panic");
        let missing = seen.iter().filter(|(uuid, facts)| {
            let told = store.get(*uuid).map(|(_, types)| types.as_slice());
            let is_told = |fact: &&&str| told.unwrap_or_default().iter().any(|held| held == **fact);
            !facts.iter().all(|fact| is_told(&fact))
        });
        let missing: Vec<_> = missing.collect();
        let is_named = gaps
            .iter()
            .any(|(since, until, _)| since <= killed && killed <= until);
        assert!(!seen.is_empty(), "life {at} had guests");
        assert!(
            missing.is_empty() || is_named,
            "of life {at}, which ended at {killed}, {} of {} sessions are not told; gaps: {gaps:?}",
            missing.len(),
            seen.len()
        );
        let is_last = at == lives.len() - 1;
        assert!(
            !is_last || missing.is_empty(),
            "the box knows of {missing:?}"
        );
    }
}
