//! What is taken and what is not: events one by one, and who may forward.

use rollcall_model::Permission;
use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::rows;

#[sqlx::test(migrations = "../migrations")]
async fn a_bad_event_is_refused_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let event = |sequence, changed: Value| {
        relay.event(("desk", sequence), "created", Uuid::new_v4(), &changed)
    };
    let without = |sequence, member: &str| {
        let mut event = event(sequence, json!({}));
        event.as_object_mut().expect("an object").remove(member);
        event
    };
    let with = |sequence, member: &str, value: Value| {
        let mut event = event(sequence, json!({}));
        event[member] = value;
        event
    };
    let batch = [
        (event(1, json!({})), "stored"),
        (event(2, json!({ "number": 0 })), "event_out_of_range"),
        (event(3, json!({ "number": 65_536 })), "event_unreadable"),
        (event(4, json!({ "party_size": 0 })), "event_out_of_range"),
        (
            event(5, json!({ "party_size": 1_000_001 })),
            "event_out_of_range",
        ),
        (
            event(6, json!({ "goal_seconds": 86_401 })),
            "event_out_of_range",
        ),
        (
            event(7, json!({ "label": "a\u{0}b" })),
            "event_out_of_range",
        ),
        (
            event(8, json!({ "label": "x".repeat(1_001) })),
            "event_out_of_range",
        ),
        (
            event(9, json!({ "created": "1899-01-01T00:00:00Z" })),
            "event_out_of_range",
        ),
        (event(10, json!({ "state": "lost" })), "event_unreadable"),
        (with(11, "type", json!("exploded")), "event_unreadable"),
        (
            with(12, "at", json!("9999-12-31T23:59:59-01:00")),
            "event_out_of_range",
        ),
        (with(13, "service", json!("")), "service_invalid"),
        (with(14, "service", json!("a\nb")), "service_invalid"),
        (
            with(15, "service", json!("x".repeat(201))),
            "service_invalid",
        ),
        (with(16, "service", json!("forms-999")), "service_taken"),
        (without(17, "id"), "event_unreadable"),
        (without(18, "session"), "event_unreadable"),
        (json!(null), "event_unreadable"),
        (json!(["x"]), "event_unreadable"),
        (
            event(
                19,
                json!({ "label": "", "session_sequence": 65_535, "id": u64::MAX }),
            ),
            "stored",
        ),
    ];
    let events: Vec<Value> = batch.iter().map(|(event, _)| event.clone()).collect();
    let answer = relay.forward(&events).await;
    let expected: Vec<&str> = batch.iter().map(|(_, word)| *word).collect();
    assert_eq!(rollcall_tests::verdicts(&answer), expected);
    let verdicts = answer.json()["verdicts"].clone();
    for (verdict, event) in verdicts.as_array().expect("verdicts").iter().zip(&events) {
        let id = event.get("id").cloned().unwrap_or(json!(Uuid::nil()));
        assert_eq!(verdict["id"], id);
        if verdict["status"] == "refused" {
            assert!(
                verdict["detail"]
                    .as_str()
                    .is_some_and(|text| text.len() > 10),
                "{verdict}"
            );
        } else {
            assert_eq!(
                verdict.as_object().map(serde_json::Map::len),
                Some(2),
                "{verdict}"
            );
        }
    }
    assert_eq!(
        (rows(&app, "sessions").await, rows(&app, "events").await),
        (2, 2)
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn only_a_relays_key_forwards(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let batch = relay.batch(&[]);
    let other = app.client(None, &[Permission::Ingest]).await;
    for (client, expected) in [
        (&relay.client, None),
        (&app.admin, Some((403, "not_a_relay"))),
        (&other, Some((403, "not_a_relay"))),
        (&app.reader, Some((403, "permission_missing"))),
        (&app.anonymous(), Some((401, "credential_missing"))),
    ] {
        let answer = client.post("/v1/ingest", &batch).await;
        match expected {
            None => assert_eq!(answer.status, 200, "{}", answer.text()),
            Some((status, code)) => assert_eq!(answer.error(), (status, code.to_owned())),
        }
    }
    // And a relay's key does nothing else.
    for path in ["/v1/sessions", "/v1/relays", "/v1/events"] {
        assert_eq!(relay.client.get(path).await.error().0, 403, "{path}");
    }
    let form = json!({ "session": { "unit_id": "x" } });
    assert_eq!(
        relay.client.post(&app.sessions(), &form).await.error().0,
        403
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_revoked_key_forwards_no_more(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    assert_eq!(relay.forward(&[]).await.status, 200);
    let revoked: Result<bool, rollcall_store::Error> = app
        .db
        .tenant(app.org, async |tx| {
            rollcall_store::api_keys::revoke(tx, &relay.key_id).await
        })
        .await;
    assert!(revoked.expect("revoked"));
    let event = relay.event(("desk", 1), "created", Uuid::new_v4(), &json!({}));
    assert_eq!(relay.forward(&[event]).await.error().0, 401);
    assert_eq!(rows(&app, "sessions").await, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn organizations_do_not_meet(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let own = app.relay("front").await;
    let mut strange = app
        .relay_of(app.strange_org, app.strange_project, "front")
        .await;
    // Even with the same names, ids and spool: nobody is in anybody's way.
    strange.spool = own.spool;
    let ada = Uuid::new_v4();
    let event = own.event(("desk", 1), "created", ada, &json!({}));
    let gap = own.gap(("desk", 2), "lost");
    for relay in [&own, &strange] {
        let verdicts = relay.verdicts(&[event.clone(), gap.clone()]).await;
        assert_eq!(verdicts, ["stored", "stored"]);
    }
    for client in [&app.reader, &app.stranger] {
        let list = super::document(client, "/v1/sessions").await;
        assert_eq!(list["data"].as_array().map(Vec::len), Some(1));
    }
    let path = format!("/v1/relays/{}", own.id);
    assert_eq!(
        app.stranger.get(&path).await.error(),
        (404, "relay_not_found".into())
    );
    let cleared = own.event(
        ("desk", 3),
        "removed",
        ada,
        &json!({ "state": "cleared", "clear_type": "REMOVED" }),
    );
    assert_eq!(strange.verdicts(&[cleared]).await, ["stored"]);
    assert_eq!(super::guest(&app, ada).await["state"], "started");
}
