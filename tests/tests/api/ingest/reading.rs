//! Guests with pagers as everybody reads them, and as the form intake does not.

use reqwest::Method;
use rollcall_tests::{Relay, TestApp, send};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{document, guest, paged};

async fn guests(relay: &Relay) -> Vec<Uuid> {
    let guests: Vec<Uuid> = (0..6).map(|_| Uuid::new_v4()).collect();
    let events: Vec<Value> = guests
        .iter()
        .zip([30, 12, 5, 12, 40, 65_535])
        .enumerate()
        .map(|(at, (guest, number))| {
            let came = json!({ "number": number, "created": format!("2026-11-21T09:0{at}:00Z") });
            relay.event(("desk", at as u64 + 1), "created", *guest, &came)
        })
        .collect();
    assert_eq!(relay.verdicts(&events).await, ["stored"; 6]);
    guests
}

/// The numbers of a listing's pagers, in order; 0 of what has none.
async fn numbers(app: &TestApp, path: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut path = path.to_owned();
    loop {
        let list = document(&app.reader, &path).await;
        let sessions = list["data"].as_array().expect("sessions");
        numbers.extend(
            sessions
                .iter()
                .map(|session| session["attributes"]["number"].as_u64().unwrap_or_default()),
        );
        let Some(next) = list["links"]["next"].as_str() else {
            return numbers;
        };
        let next: reqwest::Url = next.parse().expect("a URL");
        path = format!("{}?{}", next.path(), next.query().unwrap_or_default());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_guest_has_what_a_pager_has(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let ada = Uuid::new_v4();
    let removed = json!({
        "id": 99, "party_size": 3, "goal_seconds": 900, "label": "Ada", "session_sequence": 121, "state": "cleared",
        "notified": "2026-11-21T10:05:00+01:00", "cleared": "2026-11-21T09:09:00.1234567Z", "clear_type": "REMOVED",
    });
    relay
        .verdicts(&[
            relay.event(("desk", 1), "created", ada, &json!({})),
            relay.event(("desk", 2), "removed", ada, &removed),
        ])
        .await;
    let mut shown = document(&app.reader, &format!("/v1/sessions/{ada}")).await["data"].clone();
    assert!(shown["attributes"]["updated"].take().is_string());
    assert_eq!(
        shown["attributes"],
        json!({
            "state": "removed", "connected": "Sat Nov 21 09:00:00 2026", "active": false, "kind": "pager",
            "project": app.project.get(), "source_id": ada, "revision": 2, "started": "2026-11-21T09:00:00Z",
            "updated": null, "received_from": relay.key_id, "label": "Ada", "number": 12, "party_size": 3, "goal": 900,
            "notified": "2026-11-21T09:05:00Z", "cleared": "2026-11-21T09:09:00.123456Z", "clear_type": "REMOVED",
            "pager_id": 99, "session_sequence": 121,
        })
    );
    let relationships = shown["relationships"].as_object().expect("relationships");
    assert_eq!(
        relationships.keys().collect::<Vec<_>>(),
        ["events", "services"]
    );
    let events = document(&app.reader, &format!("/v1/sessions/{ada}/events")).await;
    let changed = &events["data"][1]["attributes"]["changed"];
    let expected = [
        "/state",
        "/active",
        "/label",
        "/pager_id",
        "/party_size",
        "/goal",
        "/notified",
        "/cleared",
        "/clear_type",
        "/session_sequence",
    ];
    assert_eq!(*changed, json!(expected));
    let session = &events["data"][1]["attributes"]["session"]["attributes"];
    assert_eq!(
        session["cleared"], "2026-11-21T09:09:00.123456Z",
        "an event shows what the list does"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn guests_are_found_by_number(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    guests(&relay).await;
    app.admin
        .post(&app.sessions(), &json!({ "session": { "unit_id": "x" } }))
        .await
        .result();
    let list = async |query: &str| numbers(&app, &format!("/v1/sessions?{query}")).await;
    assert_eq!(list("filter[number]=12").await, [12, 12]);
    assert_eq!(list("filter[number]=13").await, [0_u64; 0]);
    for sorted in ["sort=number", "sort=number&page[size]=2"] {
        assert_eq!(list(sorted).await, [5, 12, 12, 30, 40, 65_535], "{sorted}");
    }
    assert_eq!(
        list("sort=-number&page[size]=1").await,
        [65_535, 40, 30, 12, 12, 5]
    );
    assert_eq!(
        list("sort=number&filter=/attributes/number=gt(12)").await,
        [30, 40, 65_535]
    );
    assert_eq!(
        list("sort=number&filter=/attributes/number=or(5,40.0)").await,
        [5, 40]
    );
    assert_eq!(
        list("filter[kind]=pager&sort=started").await,
        [30, 12, 5, 12, 40, 65_535]
    );
    assert_eq!(list("filter[kind]=form").await, [0]);
    for wrong in ["0", "65536", "x", ""] {
        let answer = app
            .reader
            .get(&format!("/v1/sessions?filter[number]={wrong}"))
            .await;
        assert_eq!(answer.error(), (400, "filter_invalid".into()), "{wrong}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_form_intake_knows_no_guests(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let ids = guests(&relay).await;
    let form = json!({ "session": { "uuid": ids[0], "unit_id": "x", "data": { "a": "1" } } });
    let own = ids[1];
    for path in [
        format!("{}/{own}", app.sessions()),
        format!("{}/{own}/revisions", app.sessions()),
        format!("{}/{own}/attachments/a", app.sessions()),
    ] {
        assert_eq!(app.admin.get(&path).await.status, 404, "{path}");
    }
    let path = format!("{}/{own}", app.sessions());
    assert_eq!(app.admin.delete(&path).await.status, 404);
    assert_eq!(app.admin.put(&path, &form).await.status, 404);
    let attach = app
        .admin
        .request(Method::PUT, &format!("{path}/attachments/a"))
        .header("content-type", "text/plain")
        .body("x");
    assert_eq!(send(attach).await.status, 404);
    let listed = async || {
        let answer = app.admin.get(&app.sessions()).await;
        answer.result().as_array().expect("forms").len()
    };
    assert_eq!(listed().await, 0);
    // A form of a guest's name is another session.
    app.admin.post(&app.sessions(), &form).await.result();
    assert_eq!(listed().await, 1);
    let both = app.reader.get(&format!("/v1/sessions/{}", ids[0])).await;
    assert_eq!(both.error(), (409, "session_ambiguous".into()));
    assert_eq!(guest(&app, own).await["revision"], 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_feed_tells_of_guests_and_can_be_narrowed_to_them(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let ada = Uuid::new_v4();
    let cleared = json!({ "state": "cleared", "clear_type": "STOP" });
    relay
        .verdicts(&[
            relay.event(("desk", 1), "created", ada, &json!({})),
            relay.event(("desk", 2), "paged", ada, &paged()),
            relay.event(
                ("desk", 3),
                "updated",
                ada,
                &json!({ "state": "paged", "label": "Ada" }),
            ),
            relay.event(("desk", 4), "cleared", ada, &cleared),
            relay.event(("desk", 5), "removed", Uuid::new_v4(), &cleared),
        ])
        .await;
    app.admin
        .post(&app.sessions(), &json!({ "session": { "unit_id": "x" } }))
        .await
        .result();
    crate::feed::settle(&app).await;
    let types = async |query: &str| {
        let page = document(&app.reader, &format!("/v1/events?{query}")).await;
        let events = page["data"].as_array().expect("events").clone();
        let word = |event: &Value| {
            event["attributes"]["event_type"]
                .as_str()
                .map(str::to_owned)
        };
        let words: Vec<String> = events.iter().filter_map(word).collect();
        words.join(" ")
    };
    let all = types("filter[kind]=pager").await;
    assert_eq!(all, "created paged updated cleared removed");
    for one in ["paged", "cleared", "removed"] {
        assert_eq!(types(&format!("filter[type]={one}")).await, one);
    }
    assert_eq!(
        types("filter[service]=desk&filter[type]=created").await,
        "created"
    );
    assert_eq!(types("filter[kind]=form").await, "created");
}
