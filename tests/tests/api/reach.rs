//! How far a key and its tokens reach.

use reqwest::{Method, StatusCode};
use rollcall_api::admin;
use rollcall_api::auth::tokens::{self, Tokens};
use rollcall_model::{Permission, ProjectId};
use rollcall_tests::{Credential, TestApp, send};
use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;

fn now() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).expect("after 1970")
}

fn id(credential: &Credential) -> &str {
    match credential {
        Credential::Basic { id, .. } => id,
        other => panic!("{other:?} is no key"),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_projects_key_reaches_its_project_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let second = admin::create_project(&app.db, app.org, "second")
        .await
        .expect("a project");
    let second = ProjectId::new(second.project_id).expect("positive");
    let client = app.client(Some(second), &[Permission::Admin]).await;
    let form = json!({ "session": { "uuid": "s", "unit_id": "x" } });
    let own = format!("/api/v1/projects/{second}/sessions");
    client.post(&own, &form).await.result();
    app.admin.post(&app.sessions(), &form).await.result();

    for (sibling, nobodys) in [("", ""), ("/s", "/s"), ("/s/revisions", "/s/revisions")] {
        let sibling = client.get(&format!("{}{sibling}", app.sessions())).await;
        let nobodys = client
            .get(&format!("/api/v1/projects/999999/sessions{nobodys}"))
            .await;
        assert_eq!(sibling.status, StatusCode::NOT_FOUND);
        assert_eq!(sibling.json()["message"], nobodys.json()["message"]);
        assert_eq!(sibling.error(), nobodys.error());
    }
    let batch = json!({ "sessionsToDelete": {
        (app.project.to_string()): [{ "uuid": "s" }],
        (app.strange_project.to_string()): [{ "uuid": "s" }],
        "999999": [{ "uuid": "s" }],
        (second.to_string()): [{ "uuid": "s" }],
    } });
    let verdicts = client.post(&format!("{own}/batch"), &batch).await.result();
    let of = |project: &str| verdicts["sessionsToDelete"][project][0].clone();
    assert_eq!(of("999999")["status"], "not_found");
    assert_eq!(of(&app.project.to_string()), of("999999"));
    assert_eq!(of(&app.strange_project.to_string()), of("999999"));
    assert_eq!(of(&second.to_string())["status"], "success");
    let untouched = app.admin.get(&format!("{}/s", app.sessions())).await;
    assert_eq!(untouched.status, StatusCode::OK);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_token_may_what_its_key_may(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let token = app.reader.get("/v1/auth").await.json()["meta"]["token"].clone();
    let client = app.reader.with(Credential::Bearer(
        token.as_str().expect("a token").to_owned(),
    ));
    assert_eq!(client.get(&app.sessions()).await.status, StatusCode::OK);
    let form = json!({ "session": { "unit_id": "x" } });
    let refused = client.post(&app.sessions(), &form).await;
    assert_eq!(refused.error(), (403, "permission_missing".into()));
    let strange = format!("/api/v1/projects/{}/sessions", app.strange_project);
    assert_eq!(client.get(&strange).await.status, StatusCode::NOT_FOUND);
}

#[sqlx::test(migrations = "../migrations")]
async fn tokens_that_ended_that_are_nobodys_or_that_another_key_signed_are_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let own = Tokens::load(&app.config.credentials)
        .expect("it loads")
        .expect("a key");
    let other = app.folder().join("other.pem");
    std::fs::write(&other, tokens::generate_pem().expect("a key")).expect("written");
    let mut other_args = app.config.credentials.clone();
    other_args.jwt_keys = vec![other];
    let other = Tokens::load(&other_args).expect("it loads").expect("a key");
    let reader = id(&app.reader.credential);
    let issue =
        |tokens: &Tokens, id: &str, at: u64| tokens.issue(id, true, 60, at).expect("a token");
    let get = async |token: String| {
        let client = app.reader.with(Credential::Bearer(token));
        client.get(&app.sessions()).await
    };
    assert_eq!(get(issue(&own, reader, now())).await.status, StatusCode::OK);
    for (token, code) in [
        (issue(&own, reader, now() - 120), "token_invalid"),
        (issue(&other, reader, now()), "token_invalid"),
        (issue(&own, "nobody", now()), "credential_unknown"),
        (
            issue(&own, "rk_'; drop table api_keys; --", now()),
            "credential_unknown",
        ),
    ] {
        assert_eq!(get(token).await.error(), (401, code.into()));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn odd_ids_and_headers_are_refused_and_never_a_failure(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let long = "x".repeat(4_000);
    let basic = |pair: &str| format!("Basic {}", data_encoding::BASE64.encode(pair.as_bytes()));
    for header in [
        basic(":"),
        basic("::::"),
        basic("rk_'; drop table api_keys; --:x"),
        basic("rk_\u{0}:\u{0}"),
        basic("ключ:секрет"),
        basic(&format!("{long}:{long}")),
        format!("Bearer {long}"),
        "Bearer rk_:x:y".to_owned(),
        "Bearer ..".to_owned(),
        "Bearer eyJhbGciOiJub25lIn0..".to_owned(),
        "bAsIc  ".to_owned(),
        "Basic Basic Basic".to_owned(),
    ] {
        let request = app.anonymous().request(Method::GET, &app.sessions());
        let answer = send(request.header("authorization", &header)).await;
        assert_eq!(answer.status, 401, "{header}: {}", answer.text());
        assert_eq!(answer.json()["status"], "unauthorized");
        assert!(!answer.text().contains(long.as_str()));
    }
    assert_eq!(app.reader.get(&app.sessions()).await.status, StatusCode::OK);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stranger_learns_nothing_of_paths_below_the_scope(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for path in [
        "/api/v1/nothing",
        "/api/v1/projects/x/sessions",
        "/api/v1/project/1",
    ] {
        let answer = app.anonymous().get(path).await;
        assert_eq!(answer.error(), (401, "credential_missing".into()), "{path}");
    }
    let brew = send(app.reader.request(Method::PATCH, &app.sessions())).await;
    assert_eq!(brew.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(brew.header("allow"), Some("GET, PUT, POST, HEAD, OPTIONS"));
}
