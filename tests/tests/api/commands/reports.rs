//! What relays report of commands.

use rollcall_model::SessionId;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::{desk, done, id_of, ids, paged, show};

#[sqlx::test(migrations = "../migrations")]
async fn the_first_report_counts(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    relay.commands(0).await;
    let refused = json!({
        "command": id, "status": "refused", "at": "2026-11-21T10:05:00.1234567+01:00", "code": "4.04",
        "answer": { "error": "no session" }, "detail": "the transmitter has no such session",
    });
    assert_eq!(
        relay.report(&[refused.clone(), done(&id)]).await.status,
        200
    );
    let shown = show(&app.reader, &id).await;
    for (name, value) in [
        ("status", json!("refused")),
        ("code", json!("4.04")),
        ("answer", json!({ "error": "no session" })),
        ("detail", json!("the transmitter has no such session")),
        ("at", json!("2026-11-21T09:05:00.123456Z")),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let stored = app.stored().await;
    for repeat in [refused, done(&id)] {
        assert_eq!(relay.report(&[repeat]).await.status, 200);
    }
    assert_eq!(show(&app.reader, &id).await, shown);
    assert_eq!(app.stored().await, stored, "a repeat is no event either");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_no_report_of_its_own_command_is_passed_over(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let other = app.relay("back").await;
    let elsewhere = other.event(("bar", 1), "created", Uuid::new_v4(), &json!({}));
    assert_eq!(other.verdicts(&[elsewhere]).await, ["stored"]);
    let strange = app
        .relay_of(app.strange_org, app.strange_project, "front")
        .await;
    let id = paged(&app.admin, guest, "").await;
    for relay in [&other, &strange] {
        assert_eq!(relay.report(&[done(&id)]).await.status, 200);
    }
    let rubbish = [
        done(&Uuid::new_v4().to_string()),
        json!({ "command": id, "status": "better", "at": "2026-11-21T09:05:00Z" }),
        json!({ "command": id }),
        json!(7),
        json!(null),
    ];
    assert_eq!(relay.report(&rubbish).await.status, 200);
    assert_eq!(show(&app.reader, &id).await["status"], "queued");
    let event = relay.event(("desk", 2), "paged", guest, &json!({ "state": "paged" }));
    let mut batch = relay.batch(&[event]);
    batch["reports"] = json!([rubbish[1], done(&id)]);
    let answer = relay.client.post("/v1/ingest", &batch).await;
    assert_eq!(rollcall_tests::verdicts(&answer), ["stored"]);
    assert_eq!(show(&app.reader, &id).await["status"], "done");
    batch["reports"] = json!({});
    let answer = relay.client.post("/v1/ingest", &batch).await;
    assert_eq!(answer.error(), (400, "batch_invalid".into()));
    batch["reports"] = json!(vec![0; 1_001]);
    let answer = relay.client.post("/v1/ingest", &batch).await;
    assert_eq!(answer.error(), (413, "batch_too_large".into()));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_be_kept_does_not_hold_the_relay_up(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    let mut report = done(&id);
    report["answer"] = json!({ "a\0": "b", "c": "x".repeat(100_000) });
    report["detail"] = json!("é\0".repeat(5_000));
    report["at"] = json!("0001-01-01T00:00:00Z");
    assert_eq!(relay.report(&[report]).await.status, 200);
    let shown = show(&app.reader, &id).await;
    assert_eq!(shown["status"], "done");
    assert_eq!(shown.get("answer"), None);
    assert!(
        shown["detail"]
            .as_str()
            .is_some_and(|text| text.len() == 1_000)
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_command_that_made_a_session_names_it(pool: PgPool) {
    let (app, relay, _) = desk(pool).await;
    let create =
        json!({ "data": { "type": "sessions", "attributes": { "number": 13, "label": "Ada" } } });
    let given = app.admin.post("/v1/services/desk/sessions", &create).await;
    let id = id_of(&given.json()["data"]);
    assert_eq!(ids(&relay.commands(0).await), [id.as_str()]);
    let ada = Uuid::new_v4();
    let created = relay.event(
        ("desk", 2),
        "created",
        ada,
        &json!({ "number": 13, "label": "Ada" }),
    );
    let mut batch = relay.batch(&[created]);
    let mut report = done(&id);
    report["code"] = json!("2.01");
    report["answer"] = json!({ "sessions": [{ "uuid": ada, "number": 13 }] });
    batch["reports"] = json!([report]);
    assert_eq!(relay.client.post("/v1/ingest", &batch).await.status, 200);
    let command = app.reader.get(&format!("/v1/commands/{id}")).await.json();
    let session = SessionId::of(app.org, "desk", &ada.to_string()).to_string();
    assert_eq!(
        command["data"]["relationships"]["sessions"]["data"]["id"],
        session
    );
    let found = app
        .reader
        .get(&format!("/v1/commands?filter[session]={session}"))
        .await;
    assert_eq!(found.json()["data"][0]["id"], id);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_report_that_cannot_name_a_session_ends_its_command_all_the_same(pool: PgPool) {
    let (app, relay, _) = desk(pool).await;
    let create = json!({ "data": { "type": "sessions", "attributes": { "number": 13 } } });
    for answer in [
        json!({ "sessions": [{ "uuid": Uuid::new_v4() }] }),
        json!([1]),
        Value::Null,
    ] {
        let given = app.admin.post("/v1/services/desk/sessions", &create).await;
        let id = id_of(&given.json()["data"]);
        let mut report = done(&id);
        report["answer"] = answer;
        assert_eq!(relay.report(&[report]).await.status, 200);
        assert_eq!(show(&app.reader, &id).await["status"], "done");
    }
}
