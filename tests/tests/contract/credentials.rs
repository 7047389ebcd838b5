//! Every operation of the document, with every kind of credential.

use reqwest::{Method, StatusCode};
use rollcall_model::{Permission, ProjectId};
use rollcall_tests::{Answer, Client, Relay, TestApp, file, send};
use sqlx::PgPool;

use crate::openapi::{is_open, operations};

/// What needs no credential.
const OPEN: [&str; 7] = [
    "GET /.well-known/jwks.json",
    "GET /api/v1/time",
    "GET /docs",
    "GET /healthz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /readyz",
];
/// What any key may do.
const ANY_KEY: [&str; 1] = ["GET /v1/auth"];

/// What paths are filled with.
#[derive(Clone)]
struct Names {
    project: ProjectId,
    session: String,
    service: String,
    attachment: String,
    relay: String,
    command: String,
    /// A client of a broker, and what it subscribes to.
    client: String,
}

impl Names {
    /// Names that nothing has.
    fn of_nothing(project: ProjectId) -> Self {
        Self {
            project,
            session: "00000000-0000-8000-8000-000000000000".into(),
            service: "nowhere".into(),
            attachment: "00000000-0000-7000-8000-000000000000".into(),
            relay: "00000000-0000-7000-8000-000000000000".into(),
            command: "00000000-0000-7000-8000-000000000000".into(),
            client: "device-00000000-0000-7000-8000-000000000000".into(),
        }
    }
}

/// Calls an operation with a body that it would take.
async fn call(client: &Client, names: &Names, path: &str, method: &str) -> Answer {
    let path = path
        .replace("{project_id}", &names.project.to_string())
        .replace("{uuid}", "a-session")
        .replace("{point}", "photo")
        .replace("{id}", &names.session)
        .replace("{service}", &names.service)
        .replace("{attachment_id}", &names.attachment)
        .replace("{relay_id}", &names.relay)
        .replace("{command_id}", &names.command)
        .replace("{client_id}", &names.client)
        .replace("{filter}", &names.client)
        .replace("{event_id}", &format!("{}.1", names.session));
    assert!(
        !path.contains('{'),
        "{path} has a part that this test does not know"
    );
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
        (Method::POST, "/v1/ingest") => request.json(&serde_json::json!({
            "relay": { "version": "1", "spool": { "events": 0, "bytes": 0 } }
        })),
        (Method::POST, path) if path.starts_with("/v1/services/") => request.json(&new_session()),
        (Method::PATCH, path) if path.starts_with("/v1/sessions/") => {
            request.json(&serde_json::json!({
                "data": { "type": "sessions", "id": names.session, "attributes": { "action": "page" } }
            }))
        }
        (Method::POST | Method::PUT, _) => {
            request.json(&serde_json::json!({ "session": { "unit_id": "x" } }))
        }
        _ => request,
    };
    send(request).await
}

fn new_session() -> serde_json::Value {
    serde_json::json!({ "data": { "type": "sessions", "attributes": { "number": 12 } } })
}

/// What says that a request has no credential, and that its key has too little: by its code, or where there are no codes by
/// its beginning.
fn check_refused(answer: &Answer, (status, code, text): (u16, &str, &str), at: &str) {
    let (found, said) = answer.error();
    assert_eq!(found, status, "{at}");
    assert!(said == code || said.starts_with(text), "{at}: {said}");
}

fn check_dialect(path: &str, answer: &Answer) {
    let json = answer.json();
    if is_brokers(path) {
        assert_eq!(
            json.as_object().expect("an object").len(),
            1,
            "{path}: {json}"
        );
        assert!(json["error"].is_string(), "{path}: {json}");
    } else if path.starts_with("/api/v1") {
        assert!(
            json["status"].is_string() && json["message"].is_string(),
            "{path}: {json}"
        );
    } else {
        assert!(json["errors"][0]["detail"].is_string(), "{path}: {json}");
    }
}

/// Whether a path is for brokers' tools.
fn is_brokers(path: &str) -> bool {
    let parts = ["sessions", "subscriptions", "stats", "overview", "cluster"];
    let is_part = |rest: &str| parts.iter().any(|part| rest.starts_with(part));
    path.strip_prefix("/api/v1/")
        .is_some_and(|rest| is_part(rest) || rest.contains("/broker/"))
}

#[sqlx::test(migrations = "../migrations")]
async fn without_a_credential_every_operation_but_the_open_ones_answers_401(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let names = Names::of_nothing(app.project);
    let mut open = Vec::new();
    for (path, method, operation) in operations() {
        let answer = call(&app.anonymous(), &names, &path, &method).await;
        let name = format!("{method} {path}");
        if is_open(&operation) {
            assert_eq!(answer.status, StatusCode::OK, "{name}");
            open.push(name);
            continue;
        }
        check_refused(
            &answer,
            (401, "credential_missing", "send an API key"),
            &name,
        );
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
    let names = Names::of_nothing(app.project);
    let mut any_key = Vec::new();
    for (path, method, operation) in operations() {
        if is_open(&operation) {
            continue;
        }
        let name = format!("{method} {path}");
        let answer = call(&nobody, &names, &path, &method).await;
        if answer.status.is_success() {
            any_key.push(name);
            continue;
        }
        check_refused(
            &answer,
            (403, "permission_missing", "this key lacks the permission"),
            &name,
        );
        check_dialect(&path, &answer);
        let other = if method == "GET" {
            &writer
        } else {
            &app.reader
        };
        assert_eq!(
            call(other, &names, &path, &method).await.error().0,
            403,
            "{name}"
        );
    }
    assert_eq!(any_key, ANY_KEY);
}

/// A session with a file, a relay and a command, by every name that a path may have for them.
async fn existing(client: &Client, project: ProjectId, relay: &Relay) -> Names {
    let form = reqwest::multipart::Form::new()
        .text("session[uuid]", "a-session")
        .text("session[unit_id]", "x")
        .part("session[data][photo]", file("a.jpg", "image/jpeg", "bytes"));
    let path = format!("/api/v1/projects/{project}/sessions");
    client.post_multipart(&path, form).await.result();
    relay.verdicts(&[relay.gap(("desk", 1), "lost")]).await;
    let device = format!("device-{}", relay.id);
    let subscribed = serde_json::json!({ "subscriptions": [{ "filter": device, "qos": 1 }] });
    let connected = relay.connection(("rabbit", 1), "connected", &device, &subscribed);
    assert_eq!(relay.verdicts(&[connected]).await, ["stored"]);
    relay.sees("rabbit", 0, &serde_json::json!({})).await;
    let given = client
        .post("/v1/services/desk/sessions", &new_session())
        .await;
    let command = given.json()["data"]["id"].as_str().map(str::to_owned);
    let session = &client.get("/v1/sessions?filter[kind]=form").await.json()["data"][0];
    let text = |pointer: &str| {
        session
            .pointer(pointer)
            .expect(pointer)
            .as_str()
            .expect("text")
            .to_owned()
    };
    Names {
        project,
        session: text("/id"),
        service: text("/relationships/services/data/0/id"),
        attachment: text("/relationships/attachments/data/0/id"),
        relay: relay.id.to_string(),
        command: command.expect("a command"),
        client: device,
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_belongs_to_someone_else_is_what_never_was(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("front").await;
    let own = existing(&app.admin, app.project, &relay).await;
    let relay = app
        .relay_of(app.strange_org, app.strange_project, "front")
        .await;
    let strange = existing(&app.stranger, app.strange_project, &relay).await;
    let never = Names::of_nothing(ProjectId::new(999_999).expect("positive"));
    let other_project = app.second_project().await;
    // Who has no broker is told so, whatever is asked.
    let third = app.relay_of(app.org, other_project, "third").await;
    third.sees("third", 0, &serde_json::json!({})).await;
    let bound = app.client(Some(other_project), &[Permission::Admin]).await;
    let mut seen = 0;
    for (path, method, operation) in operations() {
        let name = format!("{method} {path}");
        if is_open(&operation) || !path.contains('{') {
            continue;
        }
        seen += 1;
        // Another organization's, and another project's of the same organization.
        for (client, names) in [
            (&app.stranger, &own),
            (&app.admin, &strange),
            (&bound, &own),
        ] {
            let theirs = call(client, names, &path, &method).await;
            let nobodys = call(client, &never, &path, &method).await;
            // A filter that nobody subscribes to is one that has no clients.
            if path != "/api/v1/subscriptions/{filter}/clients" {
                assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{name}");
            }
            assert_eq!(faceless(&theirs), faceless(&nobodys), "{name}");
        }
        if method == "GET" && !path.contains("{event_id}") {
            let mine = call(&app.admin, &own, &path, &method).await;
            assert_eq!(
                mine.status,
                StatusCode::OK,
                "{name} shows nothing to its owner either"
            );
            let is_empty = mine.text().ends_with(r#""clients":[]}"#);
            assert!(!is_empty, "{name} shows nothing to its owner either");
        }
    }
    assert!(seen > 20);
}

/// An answer without what differs from request to request.
fn faceless(answer: &Answer) -> (StatusCode, Vec<(String, String)>, serde_json::Value) {
    // Whether the connection closes depends on how much of an unread body had arrived.
    let told = |name: &str| !["age", "connection", "date", "x-request-id"].contains(&name);
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
    let members = body.as_object_mut().expect("an object");
    members.remove("request_id");
    // What was asked for.
    members.remove("filter");
    if let Some(error) = body.pointer_mut("/errors/0") {
        error.as_object_mut().expect("an object").remove("id");
    }
    (answer.status, headers, body)
}
