//! What a session was: every event kept, newest first, page by page.

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::steps::{
    batch, create, create_with_photo, file_of, path_of, put_file, revisions, show, update,
};

/// A session `s` through every kind of event.
async fn lived(app: &TestApp) {
    create_with_photo(app, "s", b"photo").await;
    update(app, "s", json!({ "saved": 10, "data": { "a": "1" } }))
        .await
        .result();
    put_file(app, "s", "f", b"file").await.result();
    app.admin.delete(&file_of(app, "s", "photo")).await.result();
    app.admin.delete(&path_of(app, "s")).await.result();
    let restore = json!([{ "uuid": "s", "is_deleted": false }]);
    batch(
        app,
        &json!({ "sessionsToUpdate": { app.project.to_string(): restore }, "source": "undo" }),
    )
    .await;
    create(
        app,
        json!({ "uuid": "S", "unit_id": "v", "data": { "b": "2" } }),
    )
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn every_event_keeps_the_session_as_it_then_was(pool: PgPool) {
    let app = TestApp::start(pool).await;
    lived(&app).await;
    let mut lines: Vec<String> = Vec::new();
    for revision in revisions(&app, "s").await {
        let session = &revision["session"];
        assert_eq!(revision["at"], session["received"]);
        assert_eq!(revision["at_timestamp"], session["received_timestamp"]);
        let points = session["data"].as_object().expect("points");
        lines.push(format!(
            "{} {} deleted={} unit={} points={:?}",
            revision["revision"],
            revision["event"],
            session["is_deleted"],
            session["unit_id"],
            points.keys().collect::<Vec<_>>()
        ));
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    7 "replaced" deleted=false unit="v" points=["b"]
    6 "restored" deleted=false unit="tablet" points=["a", "f"]
    5 "deleted" deleted=true unit="tablet" points=["a", "f"]
    4 "detached" deleted=false unit="tablet" points=["a", "f"]
    3 "attached" deleted=false unit="tablet" points=["a", "f", "photo"]
    2 "updated" deleted=false unit="tablet" points=["a", "photo"]
    1 "created" deleted=false unit="tablet" points=["photo"]
    "#);
    let all = revisions(&app, "S").await;
    assert_eq!(all[0]["session"], show(&app, "s").await);
    assert_eq!(all[5]["session"]["saved_timestamp"], 10);
    assert_eq!(
        all[1]["context"],
        json!({ "source": "undo", "recalc": null })
    );
    assert_eq!(all[0].get("context"), None);
    // A restore and a deletion are no saves.
    assert_eq!(all[2]["session"]["saved"], all[3]["session"]["saved"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn revisions_are_paged_like_sessions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for at in 0..9 {
        create(&app, json!({ "uuid": "s", "unit_id": format!("u{at}") })).await;
    }
    let path = format!("{}/revisions", path_of(&app, "s"));
    let whole = app.reader.get(&path).await;
    assert_eq!(whole.json().get("next_page_token"), None);
    for limit in [1, 2, 4, 8, 9, 10] {
        let (mut walked, mut after) = (Vec::new(), String::new());
        loop {
            let page = app
                .reader
                .get(&format!("{path}?limit={limit}{after}"))
                .await;
            let revisions = page.result().as_array().expect("a list").clone();
            assert!(!revisions.is_empty() && revisions.len() <= limit);
            walked.extend(revisions);
            let json = page.json();
            let Some(token) = json.get("next_page_token") else {
                break;
            };
            after = format!("&page_token={}", token.as_str().expect("a text"));
            // What is new goes in front, and does not shift the pages.
            create(
                &app,
                json!({ "uuid": "s", "unit_id": format!("{limit}{after}") }),
            )
            .await;
        }
        let last: Vec<Value> = walked.split_off(walked.len() - 9);
        assert_eq!(Value::from(last), whole.result(), "{limit}");
        let numbers: Vec<_> = walked.iter().map(|r| r["revision"].as_i64()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_of_revisions_has_1_to_1000_and_a_token_of_its_own(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    create(&app, json!({ "uuid": "s", "unit_id": "v" })).await;
    let path = format!("{}/revisions", path_of(&app, "s"));
    for bad in ["0", "1001", "x", "-5"] {
        let answer = app.reader.get(&format!("{path}?limit={bad}")).await;
        assert_eq!(answer.error(), (400, "limit_invalid".to_owned()), "{bad}");
    }
    for bad in ["", "0", "-1", "x", "1.5", "99999999999999999999", "1"] {
        let answer = app.reader.get(&format!("{path}?page_token={bad}")).await;
        assert_eq!(
            answer.error(),
            (400, "page_token_invalid".to_owned()),
            "{bad}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_session_has_its_revisions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    app.admin.delete(&path_of(&app, "s")).await.result();
    let all = revisions(&app, "s").await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["event"], "deleted");
    assert_eq!(all[0]["session"]["is_deleted"], true);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_never_was_has_no_revisions_nor_has_anothers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    let not_found = (404, "session_not_found".to_owned());
    for (client, uuid, query) in [
        (&app.reader, "none", ""),
        (&app.reader, "none", "?page_token=7"),
        (&app.stranger, "s", ""),
        (&app.stranger, "s", "?page_token=7"),
    ] {
        let path = format!("{}/revisions{query}", path_of(&app, uuid));
        assert_eq!(client.get(&path).await.error(), not_found, "{uuid}{query}");
    }
    let elsewhere = format!(
        "/api/v1/projects/{}/sessions/s/revisions",
        app.strange_project
    );
    assert_eq!(app.reader.get(&elsewhere).await.error(), not_found);
}
