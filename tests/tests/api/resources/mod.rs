//! `/v1`: every kind of session as JSON:API.

mod attachments;
mod connections;
mod documents;
mod filters;
mod links;
mod pages;
mod services;
mod shape;

use rollcall_model::ProjectId;
use rollcall_tests::{Answer, Client, TestApp, send};
use serde_json::{Value, json};

/// Creates a form and answers its id.
async fn create(app: &TestApp, project: ProjectId, session: Value) -> String {
    let path = format!("/api/v1/projects/{project}/sessions");
    let uuid = session["uuid"].as_str().expect("a uuid").to_owned();
    app.admin
        .post(&path, &json!({ "session": session }))
        .await
        .result();
    let number = project.to_string();
    let parameters = [
        ("filter[project]", number.as_str()),
        ("filter[source_id][prefix]", &uuid),
    ];
    let list = document(&app.admin, &with("/v1/sessions", &parameters)).await;
    let sessions = list["data"].as_array().expect("an array");
    let own = sessions
        .iter()
        .find(|session| session["attributes"]["source_id"] == uuid);
    own.expect("it is listed")["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

/// Gets a document.
async fn document(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// A path with parameters, encoded.
fn with(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut url: reqwest::Url = format!("http://host{path}").parse().expect("a URL");
    url.query_pairs_mut().extend_pairs(parameters);
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

/// The names at their sources of a listing's sessions, in order.
fn names(document: &Value) -> Vec<String> {
    let sessions = document["data"].as_array().expect("an array");
    sessions
        .iter()
        .map(|session| {
            session["attributes"]["source_id"]
                .as_str()
                .expect("a name")
                .to_owned()
        })
        .collect()
}

/// The path and query of a link.
fn path_of(link: &Value) -> String {
    let url: reqwest::Url = link.as_str().expect("a link").parse().expect("a URL");
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

/// Gets with headers.
async fn get_with(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = client.request(reqwest::Method::GET, path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request).await
}

/// Status, stable code and the parameter or header that an error names.
fn complaint(answer: &Answer) -> (u16, String, Option<String>) {
    let json = answer.json();
    let error = &json["errors"][0];
    for member in ["id", "status", "code", "title", "detail"] {
        assert!(error[member].is_string(), "{member} is missing in {json}");
    }
    assert_eq!(error["status"], answer.status.as_u16().to_string());
    assert_eq!(error["id"], answer.header("x-request-id").expect("an id"));
    let source = &error["source"];
    let named = source["parameter"]
        .as_str()
        .or_else(|| source["header"].as_str());
    (
        answer.status.as_u16(),
        error["code"].as_str().expect("a code").to_owned(),
        named.map(str::to_owned),
    )
}
