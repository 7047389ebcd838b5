//! The form of answers: media types, indentation, members, what is included, states that the client holds, errors.

use reqwest::Method;
use rollcall_model::Permission;
use rollcall_tests::{TestApp, file, send};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{complaint, create, document, get_with};

const JSON_API: &str = "application/vnd.api+json";

#[sqlx::test(migrations = "../migrations")]
async fn the_media_type_is_the_one_asked_for(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, app.project, json!({ "uuid": "a", "unit_id": "x" })).await;
    for (accept, media) in [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        (
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/json",
        ),
        (JSON_API, JSON_API),
        (
            r#"application/vnd.api+json;profile="https://example.com/p""#,
            JSON_API,
        ),
    ] {
        for path in [
            "/v1/sessions",
            "/v1/sessions/a",
            "/v1/services",
            "/v1/events",
            "/v1/sessions/none",
            "/v1/nowhere",
        ] {
            let answer = get_with(&app.reader, path, &[("accept", accept)]).await;
            assert_eq!(
                answer.header("content-type"),
                Some(media),
                "{path} {accept}"
            );
        }
    }
    for accept in [
        r#"application/vnd.api+json;ext="x""#,
        "application/vnd.api+json;charset=utf-8",
        "text/html",
        "text/event-stream",
    ] {
        let answer = get_with(&app.reader, "/v1/sessions", &[("accept", accept)]).await;
        assert_eq!(
            complaint(&answer),
            (
                406,
                "media_type_not_acceptable".into(),
                Some("Accept".into())
            ),
            "{accept}"
        );
    }
    for (content_type, status) in [
        (JSON_API, 200),
        (r#"application/vnd.api+json; profile="x""#, 200),
        ("application/vnd.api+json; charset=utf-8", 415),
        (r#"application/vnd.api+json;ext="x""#, 415),
    ] {
        let answer = get_with(
            &app.reader,
            "/v1/sessions",
            &[("content-type", content_type)],
        )
        .await;
        assert_eq!(answer.status, status, "{content_type}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn pretty_indents_by_four_everywhere(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, app.project, json!({ "uuid": "a", "unit_id": "x" })).await;
    for path in [
        "/v1/sessions",
        "/v1/sessions/a",
        "/v1/events",
        "/v1/sessions/none",
        "/v1/nowhere",
        "/v1/sessions?sort=x",
    ] {
        let joint = if path.contains('?') { '&' } else { '?' };
        let plain = app.reader.get(path).await;
        assert_eq!(plain.text().lines().count(), 1, "{path}");
        for value in ["pretty", "pretty=true", "pretty=on"] {
            let pretty = app.reader.get(&format!("{path}{joint}{value}")).await;
            assert!(
                pretty.text().starts_with("{\n    \""),
                "{path} {value}: {}",
                pretty.text()
            );
        }
        let off = app.reader.get(&format!("{path}{joint}pretty=false")).await;
        assert_eq!(off.text().lines().count(), 1, "{path}");
    }
    let token = app.admin.get("/v1/auth?pretty").await;
    assert!(
        token.text().starts_with("{\n    \"meta\""),
        "{}",
        token.text()
    );
    let denied = app.anonymous().get("/v1/sessions?pretty").await;
    assert!(
        denied.text().starts_with("{\n    \"errors\""),
        "{}",
        denied.text()
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn only_the_members_asked_for_are_there(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(
        &app,
        app.project,
        json!({ "uuid": "a", "unit_id": "x", "data": { "p": "1", "q": "2" } }),
    )
    .await;
    let get = async |fields: &str| {
        document(&app.reader, &format!("/v1/sessions/a?{fields}")).await["data"].take()
    };
    let whole = get("").await;
    for (fields, attributes, relationships) in [
        (
            "fields[sessions]=state,kind",
            json!({ "state": "saved", "kind": "form" }),
            Value::Null,
        ),
        (
            "fields[sessions]=points/p",
            json!({ "points": { "p": "1" } }),
            Value::Null,
        ),
        (
            "fields[sessions]=points/p,points/q,/state",
            json!({ "points": { "p": "1", "q": "2" }, "state": "saved" }),
            Value::Null,
        ),
        (
            "fields[sessions]=services/data",
            Value::Null,
            json!({ "services": { "data": whole["relationships"]["services"]["data"] } }),
        ),
        ("fields[sessions]=nothing", Value::Null, Value::Null),
        ("fields[sessions]=", Value::Null, Value::Null),
    ] {
        let session = get(fields).await;
        let held = |name: &str| session.get(name).cloned().unwrap_or_default();
        assert_eq!(
            (held("attributes"), held("relationships")),
            (attributes, relationships),
            "{fields}"
        );
        assert_eq!(
            (&session["id"], &session["type"], &session["links"]),
            (&whole["id"], &whole["type"], &whole["links"])
        );
    }
    assert_eq!(
        get("fields[services]=state").await,
        whole,
        "of another type nothing is asked"
    );
    let list = document(
        &app.reader,
        "/v1/sessions?fields[sessions]=state&fields[services]=kind&include=services",
    )
    .await;
    assert_eq!(list["data"][0]["attributes"], json!({ "state": "saved" }));
    assert_eq!(list["included"][0]["attributes"], json!({ "kind": "form" }));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_included_is_there_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for uuid in ["a", "b"] {
        let form = reqwest::multipart::Form::new()
            .text("session[uuid]", uuid)
            .text("session[unit_id]", "x")
            .part("session[data][photo]", file("a.jpg", "image/jpeg", "bytes"));
        app.admin
            .post_multipart(&app.sessions(), form)
            .await
            .result();
    }
    let list = document(&app.reader, "/v1/sessions?include=services,attachments").await;
    let kinds: Vec<_> = list["included"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|one| one["type"].clone())
        .collect();
    assert_eq!(kinds, ["services", "attachments", "attachments"]);
    for included in list["included"].as_array().expect("an array") {
        let own = super::path_of(&included["links"]["self"]);
        assert_eq!(document(&app.reader, &own).await["data"], *included);
    }
    assert!(
        document(&app.reader, "/v1/sessions")
            .await
            .get("included")
            .is_none()
    );
    assert_eq!(
        document(&app.reader, "/v1/sessions?filter[kind]=x&include=services").await["included"],
        json!([])
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_state_that_the_client_holds_is_not_sent_again(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, app.project, json!({ "uuid": "a", "unit_id": "x" })).await;
    for path in [
        "/v1/sessions",
        "/v1/sessions/a",
        "/v1/services",
        "/v1/projects",
        "/v1/sessions/a/events",
    ] {
        let first = app.reader.get(path).await;
        let tag = first.header("etag").expect("a tag").to_owned();
        assert_eq!(
            app.reader.get(path).await.header("etag"),
            Some(tag.as_str()),
            "{path}"
        );
        for held in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let again = get_with(&app.reader, path, &[("if-none-match", &held)]).await;
            assert_eq!(
                (again.status.as_u16(), again.bytes.len()),
                (304, 0),
                "{path} {held}"
            );
            assert_eq!(again.header("etag"), Some(tag.as_str()));
        }
        let other = get_with(&app.reader, path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(other.bytes, first.bytes, "{path}");
        assert_eq!(
            get_with(&app.reader, path, &[("if-match", &tag)])
                .await
                .status,
            200,
            "{path}"
        );
        let failed = get_with(&app.reader, path, &[("if-match", "\"x\"")]).await;
        assert_eq!(
            complaint(&failed),
            (412, "precondition_failed".into(), Some("If-Match".into())),
            "{path}"
        );
        // Over the bytes sent: another form is another tag.
        let joint = if path.contains('?') { '&' } else { '?' };
        assert_ne!(
            app.reader
                .get(&format!("{path}{joint}pretty"))
                .await
                .header("etag"),
            Some(tag.as_str())
        );
    }
    let before = app.reader.get("/v1/sessions/a").await;
    app.admin
        .put(
            &format!("{}/a", app.sessions()),
            &json!({ "session": { "data": { "p": "1" } } }),
        )
        .await
        .result();
    let tag = before.header("etag").expect("a tag");
    let after = get_with(&app.reader, "/v1/sessions/a", &[("if-none-match", tag)]).await;
    assert_eq!(after.status, 200);
    assert_eq!(after.json()["data"]["attributes"]["points"]["p"], "1");
}

#[sqlx::test(migrations = "../migrations")]
async fn every_error_is_an_error_document(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let nobody = app.client(None, &[Permission::SessionsWrite]).await;
    for (client, method, path, status, code) in [
        (
            &app.anonymous(),
            Method::GET,
            "/v1/sessions",
            401,
            "credential_missing",
        ),
        (
            &app.anonymous(),
            Method::GET,
            "/v1/nowhere",
            401,
            "credential_missing",
        ),
        (
            &nobody,
            Method::GET,
            "/v1/sessions",
            403,
            "permission_missing",
        ),
        (&app.reader, Method::GET, "/v1/nowhere", 404, "path_unknown"),
        (
            &app.reader,
            Method::GET,
            "/v1/sessions/none",
            404,
            "session_not_found",
        ),
        (
            &app.reader,
            Method::GET,
            "/v1/sessions/a%00b",
            404,
            "session_not_found",
        ),
        (
            &app.reader,
            Method::GET,
            "/v1/services/none",
            404,
            "service_not_found",
        ),
        (
            &app.reader,
            Method::GET,
            "/v1/projects/x",
            404,
            "project_not_found",
        ),
        (
            &app.reader,
            Method::GET,
            "/v1/attachments/x",
            404,
            "attachment_not_found",
        ),
        (
            &app.reader,
            Method::GET,
            "/v1/events/x",
            404,
            "event_not_found",
        ),
        (
            &app.reader,
            Method::GET,
            "/v1/sessions/%ff",
            400,
            "utf8_broken",
        ),
        (
            &app.reader,
            Method::POST,
            "/v1/sessions",
            405,
            "method_not_allowed",
        ),
        (
            &app.admin,
            Method::DELETE,
            "/v1/sessions/none",
            405,
            "method_not_allowed",
        ),
    ] {
        let answer = send(client.request(method.clone(), path)).await;
        let (got, said, _) = complaint(&answer);
        assert_eq!((got, said.as_str()), (status, code), "{method} {path}");
        assert_eq!(
            answer.header("allow").is_some(),
            status == 405,
            "{method} {path}"
        );
    }
}
