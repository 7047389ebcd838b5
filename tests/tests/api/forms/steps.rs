//! Steps that many of these tests take: a session written, the session read back, a look past row-level security.

use reqwest::Method;
use reqwest::multipart::Form;
use rollcall_api::admin;
use rollcall_model::{SessionId, forms_service};
use rollcall_tests::{Answer, TestApp, file, send};
use serde_json::{Value, json};

use super::multipart::Body;

/// A session's path; `uuid` must need no escaping.
pub fn path_of(app: &TestApp, uuid: &str) -> String {
    format!("{}/{uuid}", app.sessions())
}

/// The path of a session's file.
pub fn file_of(app: &TestApp, uuid: &str, point: &str) -> String {
    format!("{}/{uuid}/attachments/{point}", app.sessions())
}

/// Creates or replaces a session from JSON.
pub async fn create(app: &TestApp, session: Value) -> Value {
    post(app, session).await.result()
}

/// The same, whatever the answer.
pub async fn post(app: &TestApp, session: Value) -> Answer {
    app.admin
        .post(&app.sessions(), &json!({ "session": session }))
        .await
}

/// Creates a session with a file in the point `photo`.
pub async fn create_with_photo(app: &TestApp, uuid: &str, photo: &[u8]) -> Value {
    let form = Form::new()
        .text("session[uuid]", uuid.to_owned())
        .text("session[unit_id]", "tablet")
        .part(
            "session[data][photo]",
            file("photo.jpg", "image/jpeg", photo),
        );
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result()
}

/// Sends a multipart body that was written byte by byte.
pub async fn post_body(app: &TestApp, body: Body) -> Answer {
    let (content_type, bytes) = body.finish();
    app.admin
        .post_raw(&app.sessions(), &content_type, bytes)
        .await
}

/// Merges into a session.
pub async fn update(app: &TestApp, uuid: &str, session: Value) -> Answer {
    app.admin
        .put(&path_of(app, uuid), &json!({ "session": session }))
        .await
}

/// The session as it stands.
pub async fn show(app: &TestApp, uuid: &str) -> Value {
    app.reader.get(&path_of(app, uuid)).await.result()
}

/// Stores bare bytes in a point.
pub async fn put_file(app: &TestApp, uuid: &str, point: &str, bytes: &[u8]) -> Answer {
    put_bytes(app, &file_of(app, uuid, point), bytes).await
}

/// The same, to a path with a query.
pub async fn put_bytes(app: &TestApp, path: &str, bytes: &[u8]) -> Answer {
    let request = app
        .admin
        .request(Method::PUT, path)
        .header("content-type", "application/octet-stream");
    send(request.body(bytes.to_vec())).await
}

/// Applies a batch and gives each item's verdict.
pub async fn batch(app: &TestApp, body: &Value) -> Value {
    app.admin
        .post(&format!("{}/batch", app.sessions()), body)
        .await
        .result()
}

/// Makes a second project in the organization.
pub async fn second_project(app: &TestApp) -> String {
    let made = admin::create_project(&app.db, app.org, "second").await;
    made.expect("a project").project_id.to_string()
}

/// A session's revisions, newest first.
pub async fn revisions(app: &TestApp, uuid: &str) -> Vec<Value> {
    let answer = app
        .reader
        .get(&format!("{}/revisions", path_of(app, uuid)))
        .await;
    answer.result().as_array().expect("a list").clone()
}

/// What happened to a session, oldest first.
pub async fn events(app: &TestApp, uuid: &str) -> Vec<String> {
    sqlx::query_scalar("select type from events where session_id = $1 order by revision")
        .bind(id_of(app, uuid).0)
        .fetch_all(&app.superuser)
        .await
        .expect("events")
}

/// How many rows a count finds.
pub async fn count(app: &TestApp, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(&app.superuser)
        .await
        .expect("a count")
}

/// Rollcall's own id of a session.
pub fn id_of(app: &TestApp, uuid: &str) -> SessionId {
    SessionId::of(app.org, &forms_service(app.project), uuid)
}

/// What every key of a session's objects begins with.
pub fn prefix_of(app: &TestApp, uuid: &str) -> String {
    format!("{}/{}/{}/", app.org, app.project, id_of(app, uuid))
}
