//! What every request has, and what operators ask.

use std::io::{Read, Write};
use std::time::Duration;

use reqwest::Method;
use rollcall_tests::{Credential, Stored, TestApp, send};
use serde_json::json;
use sqlx::PgPool;

#[sqlx::test(migrations = "../migrations")]
async fn health_readiness_and_metrics(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let anonymous = app.anonymous();
    assert_eq!(anonymous.get("/healthz").await.text(), "ok\n");
    let ready = anonymous.get("/readyz").await;
    assert_eq!(
        ready.json(),
        json!({ "postgres": "ok", "schema": "ok", "s3": "ok" })
    );
    for at in 0..5 {
        anonymous.get(&format!("/nowhere/{at}")).await;
    }
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "s", "unit_id": "x" } }),
        )
        .await
        .result();
    let metrics = anonymous.get("/metrics").await;
    let text = metrics.text();
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|value| value.starts_with("application/openmetrics-text"))
    );
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    has(
        r#"rollcall_http_requests_total{surface="operations",method="GET",route="unmatched",status="404"} 5"#,
    );
    has(r#"rollcall_session_changes_total{kind="form",outcome="created"} 1"#);
    assert!(text.contains(r#"route="/api/v1/projects/{project_id}/sessions""#));
    let Credential::Basic { id, .. } = &app.admin.credential else {
        panic!("a key")
    };
    assert!(
        !text.contains(id) && !text.contains(&app.org.to_string()),
        "no tenant in a label"
    );

    sqlx::query(
        "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)",
    )
    .execute(&app.superuser)
    .await
    .expect("an older schema");
    let ready = anonymous.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.json()["schema"]
            .as_str()
            .is_some_and(|text| text.contains("rollcall-api migrate"))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_request_has_an_id(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let get = async |id: &[u8]| {
        send(
            app.anonymous()
                .request(Method::GET, &app.sessions())
                .header("x-request-id", id),
        )
        .await
    };
    let kept = get(b"trace-7").await;
    assert_eq!(kept.header("x-request-id"), Some("trace-7"));
    assert_eq!(kept.json()["request_id"], "trace-7");
    for replaced in [&b""[..], &[b'x'; 129], b"\xff"] {
        let answer = get(replaced).await;
        let id = answer.header("x-request-id").expect("an id");
        assert_eq!(id.len(), 36, "{id}");
        assert_eq!(answer.json()["request_id"], id);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn unknown_paths_wrong_methods_and_other_spellings(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (path, code) in [
        ("/api/v1/nothing", "path_unknown"),
        ("/v1/nothing", "path_unknown"),
        ("/x", "path_unknown"),
    ] {
        assert_eq!(
            app.admin.get(path).await.error(),
            (404, code.into()),
            "{path}"
        );
    }
    let wrong = send(app.admin.request(Method::PATCH, &app.sessions())).await;
    assert_eq!(wrong.error(), (405, "method_not_allowed".into()));
    assert_eq!(wrong.header("allow"), Some("GET, PUT, POST, HEAD, OPTIONS"));
    let wrong = send(app.admin.request(Method::POST, "/v1/auth")).await;
    assert_eq!(
        (wrong.error().0, wrong.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
    let options = send(app.admin.request(Method::OPTIONS, &app.sessions())).await;
    assert_eq!(
        (options.status.as_u16(), options.header("allow")),
        (204, Some("GET, PUT, POST, HEAD, OPTIONS"))
    );
    let singular = app.sessions().replace("/projects/", "/project/");
    for path in [
        singular.clone(),
        format!("{singular}/"),
        format!("{}/", app.sessions()),
    ] {
        assert_eq!(app.admin.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(
        app.admin.get("/api/v1/projects/x/sessions").await.error(),
        (400, "path_invalid".into())
    );
    assert_eq!(
        app.admin.get("/api/v1/projects/0/sessions").await.error(),
        (400, "path_invalid".into())
    );
    let query = app
        .admin
        .get(&format!("{}?deleted=perhaps", app.sessions()))
        .await;
    assert_eq!(query.error(), (400, "query_invalid".into()));
    assert_eq!(
        app.anonymous().get("/api/v1/time").await.json()["status"],
        "success"
    );
}

/// Sends half a request; gives what sends the rest and reads the answer.
fn half_sent(app: &TestApp) -> impl FnOnce() -> String + Send + 'static {
    let Credential::Basic { secret, .. } = app.admin.credential.clone() else {
        panic!("a key")
    };
    let body = json!({ "session": { "unit_id": "x" } }).to_string();
    let mut stream = std::net::TcpStream::connect(app.addr()).expect("a connection");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\nConnection: \
         close\r\nContent-Length: {}\r\n\r\n",
        app.sessions(),
        body.len()
    );
    let (first, rest) = body.split_at(body.len() / 2);
    stream
        .write_all(format!("{head}{first}").as_bytes())
        .expect("sent");
    let rest = rest.to_owned();
    move || {
        // The connection may be closed by now.
        let _ = stream.write_all(rest.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_finishes_requests_in_flight(pool: PgPool) {
    let mut app = TestApp::start(pool).await;
    let finish = half_sent(&app);
    // In flight once the api has begun to read its body.
    while !app
        .app()
        .metrics
        .encode()
        .contains("rollcall_http_requests_in_flight 1")
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let finished = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        finish()
    });
    app.stop().await;
    let answer = finished.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(app.stored().await.sessions, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_request_may_not_take_for_ever(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_total_seconds = 1).await;
    let finish = half_sent(&app);
    let finished = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(1_500));
        finish()
    });
    let answer = finished.await.expect("no panic");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains("request_too_slow") && answer.contains("limit: total"),
        "{answer}"
    );
    assert!(answer.contains("x-request-id"), "{answer}");
    assert_eq!(app.stored().await, Stored::default());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_document_is_served_and_shown_by_a_page_that_asks_no_other_host(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let document = app.anonymous().get("/openapi.json").await;
    let code = rollcall_api::openapi::json().expect("a document");
    let code: serde_json::Value = serde_json::from_str(&code).expect("JSON");
    assert_eq!(document.json(), code);
    let page = app.anonymous().get("/docs").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for directive in policy.split(';') {
        let sources = directive.split_whitespace().skip(1);
        for source in sources {
            assert!(
                ["'none'", "'self'", "'unsafe-inline'", "data:"].contains(&source),
                "{source}"
            );
        }
    }
    let text = page.text();
    assert!(!text.contains("//"), "an address of another host: {text}");
    let mut files = 0;
    for attribute in text
        .split(['"', '\''])
        .filter(|text| text.starts_with("docs/"))
    {
        let file = app.anonymous().get(&format!("/{attribute}")).await;
        assert_eq!(file.status, 200, "{attribute}");
        assert!(!file.bytes.is_empty(), "{attribute}");
        files += 1;
    }
    assert_eq!(files, 4);
    for path in ["/docs/index.html", "/docs/..%2f..%2fCargo.toml", "/docs/x"] {
        assert_eq!(
            app.anonymous().get(path).await.error(),
            (404, "path_unknown".into()),
            "{path}"
        );
    }
}
