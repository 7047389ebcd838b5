//! Services that relays speak for: whose they are, what they count, and what is missing.

use rollcall_tests::{Relay, TestApp, verdicts};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{document, rows};

async fn stand(relay: &Relay, name: &str, at: &str, served: Option<u64>) {
    let mut batch = relay.batch(&[]);
    let mut service = json!({ "name": name, "kind": "pager", "at": at });
    if let Some(served) = served {
        service["statistics"] = json!({
            "guests_served": served, "percent_late": 25, "percent_on_time": 75, "average_time_served": 300,
            "sessions": served + 1,
        });
    }
    batch["services"] = json!([service]);
    verdicts(&relay.client.post("/v1/ingest", &batch).await);
}

async fn service(app: &TestApp, name: &str) -> Value {
    let found = document(&app.reader, &format!("/v1/services/{name}")).await;
    found["data"].clone()
}

#[sqlx::test(migrations = "../migrations")]
async fn newer_statistics_take_the_place_of_older(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    stand(&relay, "desk", "2026-11-21T09:00:00Z", Some(5)).await;
    stand(&relay, "desk", "2026-11-21T08:00:00Z", Some(4)).await;
    let shown = service(&app, "desk").await;
    let attributes = &shown["attributes"];
    assert_eq!(
        attributes["statistics"],
        json!({
            "guests_served": 5, "percent_late": 25, "percent_on_time": 75, "average_time_served": 300, "sessions": 6
        })
    );
    assert_eq!(attributes["reported"], "2026-11-21T09:00:00Z");
    assert_eq!(attributes["kind"], "pager");
    assert_eq!(attributes["relay"], json!(relay.id));
    assert_eq!(
        shown["relationships"]["relays"]["data"],
        json!({ "id": relay.id, "type": "relays" })
    );
    stand(&relay, "desk", "2026-11-21T09:00:01+00:00", Some(9)).await;
    // Nothing said of them: they stay.
    stand(&relay, "desk", "2026-11-21T09:00:02Z", None).await;
    let attributes = service(&app, "desk").await["attributes"].clone();
    assert_eq!(attributes["statistics"]["guests_served"], 9);
    assert_eq!(attributes["reported"], "2026-11-21T09:00:02Z");
    let forms = service(&app, &format!("forms-{}", app.project)).await;
    for absent in ["statistics", "reported", "relay", "gaps"] {
        assert!(forms["attributes"].get(absent).is_none(), "{absent}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_clock_that_was_wrong_once_keeps_nothing_out(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    stand(&relay, "desk", "9999-01-01T00:00:00Z", Some(5)).await;
    stand(&relay, "desk", "2026-11-21T09:00:00Z", Some(6)).await;
    let attributes = service(&app, "desk").await["attributes"].clone();
    assert_eq!(attributes["statistics"]["guests_served"], 6);
    assert_eq!(attributes["reported"], "2026-11-21T09:00:00Z");
}

#[sqlx::test(migrations = "../migrations")]
async fn the_latest_gaps_are_shown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let gaps: Vec<Value> = (1..=25_u64)
        .map(|at| {
            let mut gap = relay.gap(("desk", at), &format!("reason {at}"));
            gap["at"] = json!(format!("2026-11-21T09:{at:02}:00Z"));
            gap
        })
        .collect();
    relay.verdicts(&gaps).await;
    assert_eq!(rows(&app, "gaps").await, 25);
    let shown = service(&app, "desk").await["attributes"]["gaps"].clone();
    assert_eq!(shown.as_array().map(Vec::len), Some(20));
    assert_eq!(
        shown[0],
        json!({
            "at": "2026-11-21T09:25:00Z", "events": 3, "since": "2026-11-21T08:00:00Z", "reason": "reason 25"
        })
    );
    assert_eq!(shown[19]["reason"], "reason 6");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_name_that_someone_else_has_is_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = app.relay("first").await;
    let second = app.relay("second").await;
    let third = app
        .relay_of(app.org, app.second_project().await, "third")
        .await;
    let event = |relay: &Relay, service: &str, sequence| {
        relay.event((service, sequence), "created", Uuid::new_v4(), &json!({}))
    };
    let own_forms = format!("forms-{}", app.project);
    assert_eq!(
        first.verdicts(&[event(&first, "desk", 1)]).await,
        ["stored"]
    );
    for relay in [&second, &third] {
        let events = [
            event(relay, "desk", 1),
            event(relay, &own_forms, 2),
            relay.gap(("desk", 3), "lost"),
            event(relay, &format!("mine-{}", relay.id), 4),
        ];
        let words = relay.verdicts(&events).await;
        assert_eq!(
            words,
            ["service_taken", "service_taken", "service_taken", "stored"]
        );
        stand(relay, "desk", "2026-11-21T09:00:00Z", Some(5)).await;
    }
    let desk = service(&app, "desk").await["attributes"].clone();
    assert!(
        desk.get("statistics").is_none() && desk.get("gaps").is_none(),
        "{desk}"
    );
    assert_eq!(desk["relay"], json!(first.id));
    assert_eq!(
        (rows(&app, "sessions").await, rows(&app, "gaps").await),
        (3, 0)
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_service_counts_its_guests(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let (ada, ben) = (Uuid::new_v4(), Uuid::new_v4());
    let cleared = json!({ "state": "cleared", "clear_type": "STOP" });
    relay
        .verdicts(&[
            relay.event(("desk", 1), "created", ada, &json!({})),
            relay.event(("desk", 2), "created", ben, &json!({})),
            relay.event(("desk", 3), "cleared", ada, &cleared),
        ])
        .await;
    let desk = service(&app, "desk").await["attributes"].clone();
    assert_eq!(
        (&desk["connections"], &desk["total_connections"]),
        (&json!(1), &json!(2))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn kinds_that_are_not_known_here_are_passed_over(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let mut batch = relay.batch(&[relay.event(("desk", 1), "created", Uuid::new_v4(), &json!({}))]);
    batch["services"] =
        json!([{ "name": "queues", "kind": "rabbitmq", "at": "2026-11-21T09:00:00Z" }]);
    assert_eq!(
        verdicts(&relay.client.post("/v1/ingest", &batch).await),
        ["stored"]
    );
    assert_eq!(app.reader.get("/v1/services/queues").await.error().0, 404);
}
