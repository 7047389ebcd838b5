//! Every operation of the document, with every kind of credential.

use reqwest::{Method, StatusCode};
use rollcall_model::{Permission, ProjectId};
use rollcall_tests::{Answer, Client, TestApp, send};
use sqlx::PgPool;

use crate::openapi::{is_open, operations};

/// What needs no credential.
const OPEN: [&str; 5] = [
    "GET /.well-known/jwks.json",
    "GET /api/v1/time",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
];
/// What any key may do.
const ANY_KEY: [&str; 1] = ["GET /v1/auth"];

/// Calls an operation with a body that it would take, on a project.
async fn call(client: &Client, project: ProjectId, path: &str, method: &str) -> Answer {
    let path = path
        .replace("{project_id}", &project.to_string())
        .replace("{uuid}", "a-session")
        .replace("{point}", "photo");
    let method: Method = method.parse().expect("a method");
    let request = client.request(method.clone(), &path);
    let request = match (method, path.as_str()) {
        (Method::PUT, path) if path.contains("/attachments/") => request
            .header("content-type", "application/octet-stream")
            .body("bytes"),
        (Method::PUT, path) if path.ends_with("/sessions") => {
            request.json(&serde_json::json!({ "sessions": [{ "uuid": "a-session" }] }))
        }
        (Method::POST, path) if path.ends_with("/batch") => request.json(&serde_json::json!({})),
        (Method::POST | Method::PUT, _) => {
            request.json(&serde_json::json!({ "session": { "unit_id": "x" } }))
        }
        _ => request,
    };
    send(request).await
}

fn check_dialect(path: &str, answer: &Answer) {
    let json = answer.json();
    if path.starts_with("/api/v1") {
        assert!(
            json["status"].is_string() && json["message"].is_string(),
            "{path}: {json}"
        );
    } else {
        assert!(json["errors"][0]["detail"].is_string(), "{path}: {json}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn without_a_credential_every_operation_but_the_open_ones_answers_401(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut open = Vec::new();
    for (path, method, operation) in operations() {
        let answer = call(&app.anonymous(), app.project, &path, &method).await;
        let name = format!("{method} {path}");
        if is_open(&operation) {
            assert_eq!(answer.status, StatusCode::OK, "{name}");
            open.push(name);
            continue;
        }
        assert_eq!(answer.error(), (401, "credential_missing".into()), "{name}");
        assert!(
            answer
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Basic")),
            "{name}"
        );
        check_dialect(&path, &answer);
    }
    open.sort();
    assert_eq!(open, OPEN);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_with_too_little_gets_403(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let writer = app.client(None, &[Permission::SessionsWrite]).await;
    let nobody = app.client(None, &[]).await;
    let mut any_key = Vec::new();
    for (path, method, operation) in operations() {
        if is_open(&operation) {
            continue;
        }
        let name = format!("{method} {path}");
        let answer = call(&nobody, app.project, &path, &method).await;
        if answer.status.is_success() {
            any_key.push(name);
            continue;
        }
        assert_eq!(answer.error(), (403, "permission_missing".into()), "{name}");
        check_dialect(&path, &answer);
        let other = if method == "GET" {
            &writer
        } else {
            &app.reader
        };
        assert_eq!(
            call(other, app.project, &path, &method).await.error().0,
            403,
            "{name}"
        );
    }
    assert_eq!(any_key, ANY_KEY);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_belongs_to_someone_else_is_what_never_was(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let session = serde_json::json!({ "session": { "uuid": "a-session", "unit_id": "x" } });
    app.admin.post(&app.sessions(), &session).await.result();
    let never = ProjectId::new(999_999).expect("positive");
    let bound = app.client(Some(app.project), &[Permission::Admin]).await;
    for (path, method, _) in operations()
        .into_iter()
        .filter(|(path, ..)| path.contains("{project_id}"))
    {
        let name = format!("{method} {path}");
        let stranger = call(&app.stranger, app.project, &path, &method).await;
        let nobody = call(&app.stranger, never, &path, &method).await;
        assert_eq!(stranger.status, StatusCode::NOT_FOUND, "{name}");
        assert_eq!(faceless(&stranger), faceless(&nobody), "{name}");
        let beyond = call(&bound, app.strange_project, &path, &method).await;
        let nobody = call(&bound, never, &path, &method).await;
        assert_eq!(beyond.status, StatusCode::NOT_FOUND, "{name}");
        assert_eq!(faceless(&beyond), faceless(&nobody), "{name}");
    }
}

/// An answer without what differs from request to request.
fn faceless(answer: &Answer) -> (StatusCode, Vec<(String, String)>, serde_json::Value) {
    // Whether the connection closes depends on how much of an unread body had arrived.
    let told = |name: &str| !["connection", "date", "x-request-id"].contains(&name);
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| told(name.as_str()));
    let mut headers: Vec<(String, String)> = headers
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    headers.sort();
    let mut body = answer.json();
    body.as_object_mut()
        .expect("an object")
        .remove("request_id");
    (answer.status, headers, body)
}
