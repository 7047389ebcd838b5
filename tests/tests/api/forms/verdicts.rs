//! What a batch says of the items and envelopes that it refuses (M14).

use rollcall_model::Permission;
use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::steps::{batch, count, create, create_with_photo, path_of, second_project, show};

#[sqlx::test(migrations = "../migrations")]
async fn every_failure_is_its_own_items(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_points = 3).await;
    let project = app.project.to_string();
    create_with_photo(&app, "s", b"photo").await;
    create(&app, json!({ "uuid": "deleted", "unit_id": "u" })).await;
    app.admin.delete(&path_of(&app, "deleted")).await.result();
    let updates = [
        (
            json!({ "uuid": "none" }),
            Some("none"),
            "not_found",
            "no such session",
        ),
        (
            json!({ "uuid": "deleted" }),
            Some("deleted"),
            "not_found",
            "no such session",
        ),
        (json!({ "unit_id": "v" }), None, "bad_request", "no uuid"),
        (
            json!({ "uuid": "" }),
            None,
            "bad_request",
            "must not be empty",
        ),
        (
            json!({ "uuid": "s", "saved": "soon" }),
            None,
            "bad_request",
            "whole seconds",
        ),
        (
            json!({ "uuid": "s", "data": { "r": { "rawData": "%" } } }),
            None,
            "bad_request",
            "Base64",
        ),
        (
            json!({ "uuid": "s", "data": { "a": [1] } }),
            None,
            "bad_request",
            "array",
        ),
        (
            json!({ "uuid": "s", "data": { "a[b": "1" } }),
            None,
            "bad_request",
            "a[b",
        ),
        (
            json!({ "uuid": "s", "nonsense": 1 }),
            None,
            "bad_request",
            "nonsense",
        ),
        (
            json!({ "uuid": "s", "data": { "a": "1", "b": "1", "c": "1" } }),
            Some("s"),
            "bad_request",
            "limit: points",
        ),
        (
            json!({ "uuid": "s", "data": { "a": "", "b": "", "c": "", "d": "" } }),
            None,
            "bad_request",
            "limit: points",
        ),
        (
            json!({ "uuid": "s", "data": { "photo": { "filename": "x" } } }),
            Some("s"),
            "bad_request",
            "does not hold",
        ),
        (json!("s"), None, "bad_request", "an object"),
        (json!(null), None, "bad_request", "an object"),
        (
            json!({ "uuid": "s", "data": { "good": "1" } }),
            Some("s"),
            "success",
            "success",
        ),
    ];
    let adds = [
        (
            json!({ "uuid": "a1" }),
            Some("a1"),
            "bad_request",
            "unit_id",
        ),
        (
            json!({ "unit_id": "u", "created": -1 }),
            None,
            "bad_request",
            "whole seconds",
        ),
        (
            json!({ "uuid": "a2", "unit_id": "u", "data": { "f": { "filename": "x" } } }),
            Some("a2"),
            "bad_request",
            "send the file itself",
        ),
        (
            json!({ "uuid": "a3", "unit_id": "u" }),
            Some("a3"),
            "success",
            "success",
        ),
    ];
    let deletions = [
        (json!({}), None, "bad_request", "no uuid"),
        (
            json!({ "uuid": "none" }),
            Some("none"),
            "not_found",
            "no such session",
        ),
        (
            json!({ "uuid": "deleted" }),
            Some("deleted"),
            "not_found",
            "no such session",
        ),
    ];
    let items = |cases: &[(Value, Option<&str>, &str, &str)]| -> Vec<Value> {
        cases.iter().map(|(item, ..)| item.clone()).collect()
    };
    let verdicts = batch(
        &app,
        &json!({
            "sessionsToUpdate": { project.as_str(): items(&updates) },
            "sessionsToAdd": { project.as_str(): items(&adds) },
            "sessionsToDelete": { project.as_str(): items(&deletions) }
        }),
    )
    .await;
    for (group, cases) in [
        ("sessionsToUpdate", updates.as_slice()),
        ("sessionsToAdd", &adds),
        ("sessionsToDelete", &deletions),
    ] {
        for (at, (item, uuid, status, message)) in cases.iter().enumerate() {
            let verdict = &verdicts[group][&project][at];
            assert_eq!(
                (verdict["uuid"].as_str(), verdict["status"].as_str()),
                (*uuid, Some(*status)),
                "{item}"
            );
            let text = verdict["message"].as_str().expect("a text");
            assert!(text.contains(message), "{item}: {text}");
        }
    }
    assert_eq!(show(&app, "s").await["data"]["good"], "1");
    show(&app, "a3").await;
    assert_eq!(count(&app, "select count(*) from sessions").await, 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_out_of_reach_gets_the_verdict_of_what_is_not_there(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let second = second_project(&app).await;
    let theirs = format!("/api/v1/projects/{}/sessions", app.strange_project);
    let session = json!({ "session": { "uuid": "s", "unit_id": "u" } });
    app.stranger.post(&theirs, &session).await.result();
    let bound = app
        .client(Some(app.project), &[Permission::SessionsWrite])
        .await;
    let strange = app.strange_project.to_string();
    let item = json!([{ "uuid": "s", "unit_id": "v" }]);
    let groups = json!({ "999999": item, second.as_str(): item, strange.as_str(): item });
    let body =
        json!({ "sessionsToAdd": groups, "sessionsToUpdate": groups, "sessionsToDelete": groups });
    let path = format!("{}/batch", app.sessions());
    let verdicts = bound.post(&path, &body).await.result();
    for group in ["sessionsToAdd", "sessionsToUpdate", "sessionsToDelete"] {
        for project in ["999999", &second, &strange] {
            let verdict = &verdicts[group][project][0];
            assert_eq!(verdict["status"], "not_found", "{group} {project}");
            assert_eq!(verdict["message"], verdicts[group]["999999"][0]["message"]);
        }
    }
    // A key of the whole organization reaches the second, and only that.
    let verdicts = batch(&app, &body).await;
    assert_eq!(verdicts["sessionsToAdd"][&second][0]["status"], "success");
    for project in ["999999", &strange] {
        let same = |group: &str| verdicts[group][project][0].clone();
        assert_eq!(
            same("sessionsToAdd"),
            verdicts["sessionsToAdd"]["999999"][0]
        );
        assert_eq!(
            same("sessionsToDelete"),
            verdicts["sessionsToDelete"]["999999"][0]
        );
        assert_eq!(same("sessionsToUpdate")["status"], "not_found");
    }
    let theirs = app.stranger.get(&format!("{theirs}/s")).await.result();
    assert_eq!(theirs["unit_id"], "u");
    for bad in ["abc", "0", "-1", ""] {
        let verdicts = batch(&app, &json!({ "sessionsToAdd": { bad: item } })).await;
        assert_eq!(
            verdicts["sessionsToAdd"][bad][0]["status"], "bad_request",
            "{bad}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_envelope_that_is_wrong_refuses_the_whole_batch(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let project = app.project.to_string();
    let path = format!("{}/batch", app.sessions());
    let good = json!([{ "unit_id": "u" }]);
    for bad in [
        json!([]),
        json!({ "sessionsToAdd": [] }),
        json!({ "sessionsToAdd": { project.as_str(): {} }, "sessionsToUpdate": {} }),
        json!({ "sessionsToAdd": { project.as_str(): good }, "recalc": "perhaps" }),
        json!({ "sessionsToAdd": { project.as_str(): good }, "source": 5 }),
    ] {
        let refused = app.admin.post(&path, &bad).await;
        assert_eq!(refused.error(), (400, "json_invalid".to_owned()), "{bad}");
    }
    // Nothing is lost silently.
    let twice = format!(
        r#"{{"sessionsToAdd":{{"{project}":[{{"unit_id":"u"}}],"{project}":[{{"unit_id":"v"}}]}}}}"#
    );
    let refused = app.admin.post_raw(&path, "application/json", twice).await;
    assert_eq!(refused.error(), (400, "json_invalid".to_owned()));
    assert!(refused.text().contains("stands twice"));
    let body = json!({ "sessionsToAdd": { project.as_str(): good } });
    for elsewhere in [999_999, app.strange_project.get()] {
        let refused = app
            .admin
            .post(
                &format!("/api/v1/projects/{elsewhere}/sessions/batch"),
                &body,
            )
            .await;
        assert_eq!(refused.error(), (404, "project_not_found".to_owned()));
    }
    assert_eq!(count(&app, "select count(*) from sessions").await, 0);
}
