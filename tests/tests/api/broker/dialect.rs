//! Everything that may go wrong, as brokers' tools are told it: `{"error": text}`, and nothing else.

use reqwest::Method;
use rollcall_model::Permission;
use rollcall_tests::{Answer, Credential, TestApp, send};
use serde_json::json;
use sqlx::PgPool;

use super::connect;

/// The status and the text of an answer that is nothing but an error.
fn error(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    assert_eq!(body.as_object().expect("an object").len(), 1, "{body}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let text = body["error"].as_str().expect("text").to_owned();
    (answer.status.as_u16(), text)
}

/// Every path of the surface.
fn paths(app: &TestApp) -> Vec<String> {
    let of_project = format!("/api/v1/projects/{}/broker", app.project);
    let parts = [
        "/sessions",
        "/sessions/a",
        "/subscriptions",
        "/subscriptions/f/clients",
        "/stats",
        "/overview",
        "/cluster",
    ];
    let all = |prefix: &str| parts.map(|part| format!("{prefix}{part}"));
    [all("/api/v1"), all(&of_project)].concat()
}

#[sqlx::test(migrations = "../migrations")]
async fn until_a_broker_was_seen_every_path_answers_503(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let elsewhere = app
        .relay_of(app.strange_org, app.strange_project, "edge")
        .await;
    elsewhere.sees("rabbit", 0, &json!({})).await;
    let unavailable = (503, "broker not available".to_owned());
    for round in 0..2 {
        for path in paths(&app) {
            // Checked before parameters and after the method and the credential.
            let answer = app
                .reader
                .get(&format!("{path}?state=x&limit=x&service=x"))
                .await;
            assert_eq!(error(&answer), unavailable, "{path} {round}");
            assert_eq!(answer.header("retry-after"), Some("2"));
            assert_eq!(app.anonymous().get(&path).await.status, 401, "{path}");
            let posted = send(app.reader.request(Method::POST, &path)).await;
            assert_eq!(error(&posted), (405, "method not allowed".into()), "{path}");
        }
        // A broker that could not be reached yet, with a session that was told of it all the same.
        let unseen = json!({ "seen": null, "unreachable_since": "2026-11-21T09:00:00Z" });
        relay.sees("rabbit", 0, &unseen).await;
        let event = relay.connection(("rabbit", 1 + round), "connected", "a", &json!({}));
        assert_eq!(relay.verdicts(&[event]).await, ["stored"]);
    }
    relay.sees("rabbit", 0, &json!({})).await;
    for path in paths(&app) {
        assert_eq!(app.reader.get(&path).await.status, 200, "{path}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_wrong_with_a_request_is_said_in_the_contracts_words(pool: PgPool) {
    let app = TestApp::start(pool).await;
    connect(&app.relay("edge").await, "rabbit", &["a"], &json!({})).await;
    let project = app.project;
    let state = "state must be one of: connected, disconnected, all";
    let limit = "limit must be a non-negative integer";
    for list in [
        "/api/v1/sessions".to_owned(),
        "/api/v1/subscriptions".to_owned(),
        "/api/v1/subscriptions/f/clients".to_owned(),
        format!("/api/v1/projects/{project}/broker/sessions"),
        format!("/api/v1/projects/{project}/broker/subscriptions"),
        format!("/api/v1/projects/{project}/broker/subscriptions/f/clients"),
    ] {
        for (query, text) in [
            ("state=x", state),
            ("state=connected,all", state),
            ("limit=-1", limit),
            ("limit=x", limit),
            ("limit=1.0", limit),
            ("limit=1e3", limit),
            ("limit=9223372036854775808", limit),
            ("limit=1%002", limit),
            ("page_token=x", "invalid page_token"),
            ("prefix=%00", "prefix must not have U+0000"),
            (
                "prefix=%FF",
                "the query string is not UTF-8 from byte 0 on, once decoded",
            ),
        ] {
            let answer = app.reader.get(&format!("{list}?{query}")).await;
            let (status, said) = error(&answer);
            assert_eq!(status, 400, "{list}?{query}");
            assert!(
                said == text || said.contains("is not UTF-8"),
                "{list}?{query}: {said}"
            );
        }
        let nowhere = app.reader.get(&format!("{list}?service=nowhere")).await;
        let (status, said) = error(&nowhere);
        assert!(
            status == 404 && said.starts_with("service not found"),
            "{said}"
        );
    }
    for (path, status, text) in [
        ("/api/v1/sessions/b", 404, "session not found"),
        (
            "/api/v1/projects/x/broker/sessions",
            400,
            "a part of the path is not right: `x` is not a project's number: that is a positive integer",
        ),
        (
            "/api/v1/projects/0/broker/stats",
            400,
            "a part of the path is not right: `0` is not a project's number: that is a positive integer",
        ),
        (
            "/api/v1/projects/999999/broker/stats",
            404,
            "there is no such project in this key's reach",
        ),
        (
            "/api/v1/stats/x",
            404,
            "there is nothing at this path; the paths are in openapi/rollcall.json",
        ),
        (
            "/api/v1/projects/1/broker",
            404,
            "there is nothing at this path; the paths are in openapi/rollcall.json",
        ),
    ] {
        let answer = app.reader.get(path).await;
        let (found, said) = error(&answer);
        assert_eq!(found, status, "{path}");
        assert!(
            said == text || (status == 400 && said.starts_with("a part of the path is not right")),
            "{path}: {said}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn credentials_are_told_about_in_the_same_dialect(pool: PgPool) {
    let app = TestApp::start(pool).await;
    connect(&app.relay("edge").await, "rabbit", &["a"], &json!({})).await;
    let writer = app.client(None, &[Permission::SessionsWrite]).await;
    let unknown = app.anonymous().with(Credential::Bearer("nonsense".into()));
    for path in paths(&app) {
        let missing = app.anonymous().get(&path).await;
        let (status, text) = error(&missing);
        assert!(
            status == 401 && text.starts_with("send an API key"),
            "{text}"
        );
        assert!(missing.headers.contains_key("www-authenticate"));
        assert_eq!(error(&unknown.get(&path).await).0, 401, "{path}");
        let (status, text) = error(&writer.get(&path).await);
        assert!(status == 403 && text.contains("sessions:read"), "{text}");
        let token = app.reader.get("/v1/auth").await.json()["meta"]["token"].clone();
        let bearer = Credential::Bearer(token.as_str().expect("a token").to_owned());
        assert_eq!(
            app.reader.with(bearer).get(&path).await.status,
            200,
            "{path}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn other_methods_are_refused_and_head_and_options_are_answered(pool: PgPool) {
    let app = TestApp::start(pool).await;
    connect(&app.relay("edge").await, "rabbit", &["a"], &json!({})).await;
    for path in paths(&app) {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = send(app.admin.request(method, &path)).await;
            assert_eq!(error(&answer), (405, "method not allowed".into()), "{path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"), "{path}");
        }
        let options = send(app.reader.request(Method::OPTIONS, &path)).await;
        assert_eq!(options.status, 204, "{path}");
        assert_eq!(
            options.header("allow"),
            Some("GET, HEAD, OPTIONS"),
            "{path}"
        );
        let head = send(app.reader.request(Method::HEAD, &path)).await;
        let get = app.reader.get(&path).await;
        assert_eq!((head.status, head.bytes.len()), (get.status, 0), "{path}");
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
        assert!(head.headers.contains_key("age"), "{path}");
    }
}
