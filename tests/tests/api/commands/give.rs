//! Giving commands, and waiting for what becomes of them.

use reqwest::Method;
use rollcall_tests::send;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{action, desk, done, ids, page, paged, show};

#[sqlx::test(migrations = "../migrations")]
async fn a_page_is_queued_and_said_where_to_look(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let asked = json!({ "action": "page", "pageMode": "Flash5Min", "message": "Table 4" });
    let path = format!("/v1/sessions/{guest}?ttl=90");
    let answer = app.admin.patch(&path, &action(guest, &asked)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let data = answer.json()["data"].clone();
    let id = data["id"].as_str().expect("an id");
    let own = format!("{}/v1/commands/{id}", app.url);
    assert_eq!(answer.header("location"), Some(own.as_str()));
    assert_eq!(answer.header("content-location"), Some(own.as_str()));
    assert_eq!(answer.json()["links"]["self"], own);
    assert_eq!(data["links"]["self"], own);
    let session = app
        .reader
        .get(&format!("/v1/sessions/{guest}"))
        .await
        .json();
    let names = |kind: &str| data["relationships"][kind]["data"]["id"].clone();
    assert_eq!(names("sessions"), session["data"]["id"]);
    assert_eq!(names("services"), "desk");
    let shown = show(&app.reader, id).await;
    assert_eq!(data["attributes"], shown);
    for (name, value) in [
        ("action", json!("page")),
        ("number", json!(12)),
        ("pageMode", json!("Flash5Min")),
        ("message", json!("Table 4")),
        ("status", json!("queued")),
        ("project", json!(app.project.get())),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let told = relay.commands(0).await;
    assert_eq!(told.len(), 1);
    let command = &told[0];
    for (name, value) in [
        ("id", json!(id)),
        ("service", json!("desk")),
        ("order", json!("page")),
        ("session", json!(guest)),
        ("number", json!(12)),
        ("page_mode", json!("Flash5Min")),
        ("message", json!("Table 4")),
    ] {
        assert_eq!(command[name], value, "{name}");
    }
    // What is told is what the contract with the relay reads.
    let read: rollcall_model::command::Command =
        serde_json::from_value(command.clone()).expect("a command");
    assert_eq!((read.expires - read.created).whole_seconds(), 90);
    assert_eq!(command["expires"], shown["expires"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn every_action_is_told_as_the_contract_has_it(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let own = app
        .reader
        .get(&format!("/v1/sessions/{guest}"))
        .await
        .json();
    let own = own["data"]["id"].as_str().expect("an id").to_owned();
    for word in ["page", "clear", "remove"] {
        // By Rollcall's own id, in JSON:API's own media type.
        let body = json!({
            "jsonapi": { "version": "1.1" },
            "data": { "type": "sessions", "id": own.to_uppercase(), "attributes": { "action": word, "message": null }, "meta": {} }
        });
        let request = app
            .admin
            .request(Method::PATCH, &format!("/v1/sessions/{own}"))
            .header("content-type", "application/vnd.api+json")
            .header("accept", "application/vnd.api+json")
            .body(body.to_string());
        let answer = send(request).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/vnd.api+json")
        );
    }
    let create = json!({ "data": { "type": "sessions", "attributes": {
        "number": 65_535, "goal": 600, "label": "Ada", "party_size": 4
    } } });
    let created = app.admin.post("/v1/services/desk/sessions", &create).await;
    assert_eq!(created.status, 202, "{}", created.text());
    assert_eq!(
        created.json()["data"]["relationships"].get("sessions"),
        None
    );
    let told = relay.commands(0).await;
    let strip = |mut command: Value| {
        for name in ["id", "created", "expires"] {
            assert!(
                command
                    .as_object_mut()
                    .expect("an object")
                    .remove(name)
                    .is_some()
            );
        }
        command
    };
    let told: Vec<Value> = told.into_iter().map(strip).collect();
    assert_eq!(
        told,
        [
            json!({ "service": "desk", "order": "page", "session": guest, "number": 12 }),
            json!({ "service": "desk", "order": "clear", "session": guest, "number": 12 }),
            json!({ "service": "desk", "order": "remove", "session": guest, "number": 12 }),
            json!({ "service": "desk", "order": "create", "number": 65_535, "goal": 600, "label": "Ada", "party_size": 4 }),
        ]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn who_waits_is_told_what_became_of_it(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let carry = async {
        let told = relay.commands(30).await;
        assert_eq!(relay.report(&[done(&ids(&told)[0])]).await.status, 200);
    };
    let (answer, ()) = tokio::join!(page(&app.admin, guest, "?wait=30"), carry);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let data = &answer.json()["data"];
    let attributes = &data["attributes"];
    for (name, value) in [
        ("status", json!("done")),
        ("code", json!("2.04")),
        ("at", json!("2026-11-21T09:05:00.5Z")),
        ("answer", done("")["answer"].clone()),
    ] {
        assert_eq!(attributes[name], value, "{name}");
    }
    assert!(attributes["delivered"].is_string() && attributes["finished"].is_string());
    let own = data["links"]["self"].as_str();
    assert_eq!(
        (answer.header("location"), answer.header("content-location")),
        (own, own)
    );
    assert_eq!(
        show(&app.reader, data["id"].as_str().expect("an id")).await,
        *attributes
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_wait_that_is_over_is_answered_with_what_is_known(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let answer = page(&app.admin, guest, "?wait=1").await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["data"]["attributes"]["status"], "queued");
    assert_eq!(relay.commands(0).await.len(), 1);
    let (answer, told) = tokio::join!(page(&app.admin, guest, "?wait=2"), relay.commands(1));
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["data"]["attributes"]["status"], "delivered");
    assert!(!told.is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_repeat_under_a_key_gives_no_second_command(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let create = json!({ "data": { "type": "sessions", "attributes": { "number": 13 } } });
    for (method, path, body) in [
        (
            Method::PATCH,
            format!("/v1/sessions/{guest}"),
            action(guest, &json!({ "action": "page" })),
        ),
        (
            Method::POST,
            "/v1/services/desk/sessions".to_owned(),
            create,
        ),
    ] {
        let give = async |path: &str, body: &Value| {
            let request = app.admin.request(method.clone(), path);
            send(request.header("idempotency-key", path).json(body)).await
        };
        let (one, two) = tokio::join!(give(&path, &body), give(&path, &body));
        assert_eq!((one.status.as_u16(), two.status.as_u16()), (202, 202));
        assert_eq!(one.bytes, two.bytes);
        let replayed = [&one, &two].map(|answer| answer.header("idempotent-replayed").is_some());
        assert_ne!(replayed[0], replayed[1], "one of them did it");
        assert_eq!(one.header("location"), two.header("location"));
        let other = give(&path, &action(guest, &json!({ "action": "clear" }))).await;
        assert_eq!(other.status, 400);
        // A repeat may wait for what became of the first.
        let waiting = format!("{path}?wait=30");
        let carry = async {
            loop {
                let told = relay.commands(1).await;
                let reports: Vec<Value> = ids(&told).iter().map(|id| done(id)).collect();
                assert_eq!(relay.report(&reports).await.status, 200);
            }
        };
        let first = tokio::select! {
            first = give(&waiting, &body) => first,
            () = carry => unreachable!("it goes on"),
        };
        assert_eq!(first.status, 200, "{}", first.text());
        let again = give(&waiting, &body).await;
        assert_eq!(again.status, 200);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.json()["data"]["id"], first.json()["data"]["id"]);
        assert_eq!(again.json()["data"]["attributes"]["status"], "done");
    }
    let all = app.reader.get("/v1/commands").await.json();
    assert_eq!(all["data"].as_array().map(Vec::len), Some(4));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_nobody_could_carry_out_is_not_queued(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let form = json!({ "session": { "uuid": "a-form", "unit_id": "x" } });
    app.admin.post(&app.sessions(), &form).await.result();
    let body = json!({ "data": { "type": "sessions", "id": "a-form", "attributes": { "action": "page" } } });
    let of_form = app.admin.patch("/v1/sessions/a-form", &body).await;
    assert_eq!(of_form.error(), (409, "not_a_pager".into()));
    assert!(
        of_form.text().contains("/api/v1/projects"),
        "{}",
        of_form.text()
    );
    let create = json!({ "data": { "type": "sessions", "attributes": { "number": 13 } } });
    let path = format!("/v1/services/forms-{}/sessions", app.project);
    assert_eq!(
        app.admin.post(&path, &create).await.error(),
        (409, "not_a_pager".into())
    );
    let nowhere = app
        .admin
        .post("/v1/services/nowhere/sessions", &create)
        .await;
    assert_eq!(nowhere.error(), (404, "service_not_found".into()));
    let with_nul = app.admin.post("/v1/services/a%00/sessions", &create).await;
    assert_eq!(with_nul.error(), (404, "service_not_found".into()));

    sqlx::query("update services set relay_id = null where name = 'desk'")
        .execute(&app.superuser)
        .await
        .expect("updated");
    let taken = page(&app.admin, guest, "").await;
    assert_eq!(taken.error(), (409, "relay_unknown".into()));
    let taken = app.admin.post("/v1/services/desk/sessions", &create).await;
    assert_eq!(taken.error(), (409, "relay_unknown".into()));
    sqlx::query("update services set relay_id = $1 where name = 'desk'")
        .bind(relay.id)
        .execute(&app.superuser)
        .await
        .expect("updated");

    let gone = json!({ "state": "cleared", "clear_type": "STOP" });
    relay
        .verdicts(&[relay.event(("desk", 2), "cleared", guest, &gone)])
        .await;
    assert_eq!(
        page(&app.admin, guest, "").await.error(),
        (409, "session_ended".into())
    );
    assert_eq!(relay.commands(0).await.len(), 0);
    let all = app.reader.get("/v1/commands").await.json();
    assert_eq!(all["data"], json!([]));
}

#[sqlx::test(migrations = "../migrations")]
async fn members_may_be_chosen(pool: PgPool) {
    let (app, _, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    let answer = page(&app.admin, guest, "?fields[commands]=status&pretty=true").await;
    assert_eq!(
        answer.json()["data"]["attributes"],
        json!({ "status": "queued" })
    );
    assert!(answer.text().starts_with("{\n"), "{}", answer.text());
    let one = app
        .reader
        .get(&format!("/v1/commands/{id}?fields[commands]=action"))
        .await;
    assert_eq!(
        one.json()["data"]["attributes"],
        json!({ "action": "page" })
    );
}
