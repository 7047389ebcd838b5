//! Listings and revisions, page by page.

use std::collections::BTreeMap;

use reqwest::multipart::Form;
use rollcall_tests::{TestApp, file};
use serde_json::{Value, json};
use sqlx::PgPool;

#[sqlx::test(migrations = "../migrations")]
async fn pages_are_whole_while_rows_change(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (batch, own) = (format!("{}/batch", app.sessions()), app.project.to_string());
    let add = |from: i64, count: i64| -> Value {
        let item =
            |at| json!({ "uuid": format!("s{at}"), "unit_id": "u", "saved": 1_000 + at / 3 });
        json!({ "sessionsToAdd": { &own: (from..from + count).map(item).collect::<Vec<_>>() } })
    };
    app.admin.post(&batch, &add(0, 250)).await.result();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut saves = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let page = app
            .reader
            .get(&format!("{}?limit=7{token}", app.sessions()))
            .await
            .json();
        for session in page["result"].as_array().expect("a page") {
            *seen
                .entry(session["uuid"].as_str().expect("a uuid").to_owned())
                .or_default() += 1;
            saves.push(session["saved_timestamp"].as_i64().expect("a time"));
        }
        pages += 1;
        let Some(next) = page["next_page_token"].as_str() else {
            break;
        };
        token = format!("&page_token={next}");
        // New ones come in front, and one that was not seen yet moves there.
        app.admin
            .post(&batch, &add(1_000 + pages, 1))
            .await
            .result();
        if pages == 3 {
            let touched = json!({ "session": { "saved": 9_000, "data": { "a": "1" } } });
            app.admin
                .put(&format!("{}/s0", app.sessions()), &touched)
                .await
                .result();
        }
    }
    assert_eq!(pages, 36, "249 sessions in sevens");
    for at in 1..250 {
        assert_eq!(seen.get(&format!("s{at}")), Some(&1), "s{at}");
    }
    assert!(saves.is_sorted_by(|a, b| a >= b), "newest save first");
}

#[sqlx::test(migrations = "../migrations")]
async fn limits_and_tokens_are_checked(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for at in 0..3 {
        app.admin
            .post(
                &app.sessions(),
                &json!({ "session": { "uuid": format!("s{at}"), "unit_id": "u" } }),
            )
            .await
            .result();
    }
    for limit in ["0", "-1", "1001", "x", ""] {
        let answer = app
            .reader
            .get(&format!("{}?limit={limit}", app.sessions()))
            .await;
        assert_eq!(answer.error(), (400, "limit_invalid".into()), "{limit}");
    }
    let page = app
        .reader
        .get(&format!("{}?limit=2", app.sessions()))
        .await
        .json();
    let token = page["next_page_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let other = format!(
        "/api/v1/projects/{}/sessions?page_token={token}",
        app.strange_project
    );
    assert_eq!(
        app.stranger.get(&other).await.error(),
        (400, "page_token_invalid".into())
    );
    for query in [
        format!("deleted=true&page_token={token}"),
        "page_token=x".into(),
        "page_token=".into(),
        format!("page_token={token}A"),
    ] {
        let answer = app.reader.get(&format!("{}?{query}", app.sessions())).await;
        assert_eq!(
            answer.error(),
            (400, "page_token_invalid".into()),
            "{query}"
        );
    }
    let rest = app
        .reader
        .get(&format!("{}?limit=2&page_token={token}", app.sessions()))
        .await
        .json();
    assert_eq!(
        (
            rest["result"].as_array().map(Vec::len),
            rest.get("next_page_token")
        ),
        (Some(1), None)
    );
    app.admin
        .delete(&format!("{}/s1", app.sessions()))
        .await
        .result();
    let count = async |query: &str| {
        app.reader
            .get(&format!("{}{query}", app.sessions()))
            .await
            .result()
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(
        (count("").await, count("?deleted=true").await),
        (Some(2), Some(1))
    );
    let with_sub = app
        .reader
        .get(&format!("{}/s0?include_sub_sessions=1", app.sessions()))
        .await
        .result();
    assert_eq!(with_sub["sub_project_sessions"], json!({}));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_replaced_stays_readable(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let form = |value: &str, photo: &str| {
        Form::new()
            .text("session[uuid]", "s")
            .text("session[unit_id]", "u")
            .text("session[data][a]", value.to_owned())
            .part(
                "session[data][photo]",
                file("photo.jpg", "image/jpeg", photo.to_owned()),
            )
    };
    let first = app
        .admin
        .post_multipart(&app.sessions(), form("1", "old bytes"))
        .await
        .result();
    let second = app
        .admin
        .post_multipart(&app.sessions(), form("2", "new"))
        .await
        .result();
    app.admin
        .delete(&format!("{}/s/attachments/photo", app.sessions()))
        .await
        .result();
    app.admin
        .delete(&format!("{}/s", app.sessions()))
        .await
        .result();
    let path = format!("{}/s/revisions", app.sessions());
    let revisions = app.reader.get(&path).await.result();
    let told: Vec<_> = revisions
        .as_array()
        .expect("a list")
        .iter()
        .map(|r| (r["revision"].clone(), r["event"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            (json!(4), json!("deleted")),
            (json!(3), json!("detached")),
            (json!(2), json!("replaced")),
            (json!(1), json!("created"))
        ]
    );
    assert_eq!(
        (&revisions[3]["session"], &revisions[2]["session"]),
        (&first, &second)
    );
    assert_eq!(revisions[3]["session"]["data"]["photo"]["length"], 9);
    let page = app.reader.get(&format!("{path}?limit=3")).await.json();
    let token = page["next_page_token"].as_str().expect("a token");
    let rest = app
        .reader
        .get(&format!("{path}?limit=3&page_token={token}"))
        .await
        .result();
    assert_eq!(rest[0]["event"], "created");
    assert_eq!(
        app.reader
            .get(&format!("{path}?page_token=x"))
            .await
            .error(),
        (400, "page_token_invalid".into())
    );
    assert_eq!(
        app.reader
            .get(&format!("{}/missing/revisions", app.sessions()))
            .await
            .error(),
        (404, "session_not_found".into())
    );
}
