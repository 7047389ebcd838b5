//! What is not taken, and what is said of it.

use reqwest::Method;
use rollcall_tests::{Answer, send};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{action, desk};

fn pointer(answer: &Answer) -> String {
    let pointer = answer.json()["errors"][0]["source"]["pointer"].clone();
    pointer.as_str().unwrap_or_default().to_owned()
}

#[sqlx::test(migrations = "../migrations")]
async fn an_action_that_is_not_right_is_refused_at_its_place(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    let path = format!("/v1/sessions/{guest}");
    let with = |attributes: Value| action(guest, &attributes);
    let long = "x".repeat(1_001);
    for (body, status, code, place) in [
        (
            with(json!({ "action": "page", "mode": 1, "x/y": 2 })),
            400,
            "attribute_unknown",
            "/data/attributes/mode",
        ),
        (
            with(json!({ "action": "page", "x/y": 2 })),
            400,
            "attribute_unknown",
            "/data/attributes/x~1y",
        ),
        (
            with(json!({ "action": "clear", "pageMode": "Flash30Sec" })),
            400,
            "attribute_unexpected",
            "/data/attributes/pageMode",
        ),
        (
            with(json!({ "action": "remove", "message": "x" })),
            400,
            "attribute_unexpected",
            "/data/attributes/message",
        ),
        (
            with(json!({ "action": "page", "message": long })),
            400,
            "attribute_out_of_range",
            "/data/attributes/message",
        ),
        (
            with(json!({ "action": "page", "pageMode": "a\0" })),
            400,
            "attribute_out_of_range",
            "/data/attributes/pageMode",
        ),
        (with(json!({ "action": "create" })), 400, "json_invalid", ""),
        (with(json!({})), 400, "json_invalid", ""),
        (json!({}), 400, "json_invalid", ""),
        (json!([]), 400, "json_invalid", ""),
        (
            json!({ "data": { "type": "sessions", "attributes": { "action": "page" } } }),
            400,
            "id_missing",
            "/data",
        ),
        (
            json!({ "data": { "type": "services", "id": guest, "attributes": { "action": "page" } } }),
            409,
            "type_mismatch",
            "/data/type",
        ),
        (
            json!({ "data": { "type": "sessions", "id": "x", "attributes": { "action": "page" } } }),
            409,
            "id_mismatch",
            "/data/id",
        ),
        (
            json!({ "data": { "type": "sessions", "id": guest, "attributes": { "action": "page" }, "relationships": {} } }),
            400,
            "member_unknown",
            "/data/relationships",
        ),
        (
            json!({ "data": { "type": "sessions", "id": guest, "attributes": { "action": "page" } }, "errors": [] }),
            400,
            "member_unknown",
            "/errors",
        ),
    ] {
        let answer = app.admin.patch(&path, &body).await;
        assert_eq!(answer.error(), (status, code.into()), "{body}");
        assert_eq!(pointer(&answer), place, "{body}");
    }
    let named = app
        .admin
        .patch(&path, &with(json!({ "action": "page", "b": 1, "a": 2 })))
        .await;
    assert!(named.text().contains("a, b"), "{}", named.text());
    for (body, code) in [
        ("{", "json_truncated"),
        (
            r#"{"data": {"type": "sessions", "type": "sessions"}}"#,
            "json_invalid",
        ),
    ] {
        let request = app
            .admin
            .request(Method::PATCH, &path)
            .header("content-type", "application/json");
        assert_eq!(
            send(request.body(body)).await.error(),
            (400, code.into()),
            "{body}"
        );
    }
    let request = app
        .admin
        .request(Method::PATCH, &path)
        .header("content-type", "text/plain");
    assert_eq!(
        send(request.body("x")).await.error(),
        (415, "content_type_unsupported".into())
    );
    assert_eq!(relay.commands(0).await, [Value::Null; 0]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_guest_that_is_not_right_is_refused_at_its_place(pool: PgPool) {
    let (app, relay, _) = desk(pool).await;
    let with =
        |attributes: Value| json!({ "data": { "type": "sessions", "attributes": attributes } });
    for (body, status, code, place) in [
        (
            with(json!({ "number": 0 })),
            400,
            "attribute_out_of_range",
            "/data/attributes/number",
        ),
        (
            with(json!({ "number": 65_536 })),
            400,
            "attribute_out_of_range",
            "/data/attributes/number",
        ),
        (with(json!({ "number": -1 })), 400, "json_invalid", ""),
        (with(json!({ "number": "12" })), 400, "json_invalid", ""),
        (with(json!({ "goal": 60 })), 400, "json_invalid", ""),
        (
            with(json!({ "number": 12, "goal": 86_401 })),
            400,
            "attribute_out_of_range",
            "/data/attributes/goal",
        ),
        (
            with(json!({ "number": 12, "goal": 1_u64 << 40 })),
            400,
            "attribute_out_of_range",
            "/data/attributes/goal",
        ),
        (
            with(json!({ "number": 12, "party_size": 0 })),
            400,
            "attribute_out_of_range",
            "/data/attributes/party_size",
        ),
        (
            with(json!({ "number": 12, "label": "a\0" })),
            400,
            "attribute_out_of_range",
            "/data/attributes/label",
        ),
        (
            with(json!({ "number": 12, "partySize": 4 })),
            400,
            "attribute_unknown",
            "/data/attributes/partySize",
        ),
        (
            json!({ "data": { "type": "guests", "attributes": { "number": 12 } } }),
            409,
            "type_mismatch",
            "/data/type",
        ),
        (
            json!({ "data": { "type": "sessions", "id": "x", "attributes": { "number": 12 } } }),
            403,
            "id_unsupported",
            "/data/id",
        ),
    ] {
        let answer = app.admin.post("/v1/services/desk/sessions", &body).await;
        assert_eq!(answer.error(), (status, code.into()), "{body}");
        assert_eq!(pointer(&answer), place, "{body}");
    }
    assert_eq!(relay.commands(0).await, [Value::Null; 0]);
}

#[sqlx::test(migrations = "../migrations")]
async fn times_are_bounded(pool: PgPool) {
    let (app, relay, guest) = desk(pool).await;
    for (query, code) in [
        ("?wait=31", "wait_invalid"),
        ("?wait=-1", "wait_invalid"),
        ("?wait=", "wait_invalid"),
        ("?ttl=0", "ttl_invalid"),
        ("?ttl=3601", "ttl_invalid"),
        ("?ttl=1.5", "ttl_invalid"),
    ] {
        let answer = super::page(&app.admin, guest, query).await;
        assert_eq!(answer.error(), (400, code.into()), "{query}");
    }
    let fetch = relay.client.get("/v1/relays/commands?wait=31").await;
    assert_eq!(fetch.error(), (400, "wait_invalid".into()));
    for query in ["?ttl=1", "?ttl=3600"] {
        super::paged(&app.admin, guest, query).await;
    }
}
