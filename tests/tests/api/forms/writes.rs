//! Updates, deletion and batches.

use reqwest::Method;
use reqwest::multipart::Form;
use rollcall_tests::{TestApp, file, send};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn with_session(pool: PgPool) -> TestApp {
    let app = TestApp::start(pool).await;
    let form = Form::new()
        .text("session[uuid]", "s")
        .text("session[unit_id]", "u")
        .text("session[created]", "5")
        .text("session[saved]", "5")
        .text("session[data][a]", "1")
        .text("session[data][b]", "2")
        .part(
            "session[data][photo]",
            file("photo.jpg", "image/jpeg", "bytes"),
        );
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    app
}

async fn show(app: &TestApp, uuid: &str) -> Value {
    app.reader
        .get(&format!("{}/{uuid}", app.sessions()))
        .await
        .result()
}

#[sqlx::test(migrations = "../migrations")]
async fn only_what_is_sent_changes(pool: PgPool) {
    let app = with_session(pool).await;
    let path = format!("{}/s", app.sessions());
    let before = show(&app, "s").await;
    let update = json!({ "session": { "uuid": "other", "created": 9, "saved": 7, "data": { "A": "9", "c": true, "b": null } } });
    let after = app.admin.put(&path, &update).await.result();
    assert_eq!(after, show(&app, "s").await);
    assert_eq!(
        (
            &after["uuid"],
            &after["created_timestamp"],
            &after["saved_timestamp"]
        ),
        (&json!("s"), &json!(5), &json!(7))
    );
    let mut data = before["data"].clone();
    data["a"] = "9".into();
    data["c"] = "true".into();
    assert_eq!(after["data"], data);
    // What was read may be sent back: the file stays.
    let whole = json!({ "session": { "saved": 8, "data": after["data"] } });
    assert_eq!(app.admin.put(&path, &whole).await.result()["data"], data);
    assert_eq!(
        app.reader
            .get(&format!("{path}/attachments/photo"))
            .await
            .bytes,
        b"bytes"
    );
    let wrong = json!({ "session": { "data": { "a": { "filename": "photo.jpg" } } } });
    assert_eq!(
        app.admin.put(&path, &wrong).await.error(),
        (400, "file_not_there".into())
    );
    // By form, with a file that takes the other's place.
    let form = Form::new().part("session[data][photo]", file("new.jpg", "image/jpeg", "new"));
    let after = send(app.admin.request(Method::PUT, &path).multipart(form))
        .await
        .result();
    assert_eq!(after["data"]["photo"]["filename"], "new.jpg");
    assert_eq!(
        app.reader
            .get(&format!("{path}/attachments/photo"))
            .await
            .bytes,
        b"new"
    );
    let form = [("session[unit_id]", "other"), ("session[data][d]", "ü +")];
    let after = send(app.admin.request(Method::PUT, &path).form(&form))
        .await
        .result();
    assert_eq!(
        (&after["unit_id"], &after["data"]["d"]),
        (&json!("other"), &json!("ü +"))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_not_there_is_not_updated(pool: PgPool) {
    let app = with_session(pool).await;
    let update = json!({ "session": { "data": { "a": "9" } } });
    let missing = app
        .admin
        .put(&format!("{}/missing", app.sessions()), &update)
        .await;
    assert_eq!(missing.error(), (404, "session_not_found".into()));
    let path = format!("{}/s", app.sessions());
    assert_eq!(app.admin.delete(&path).await.result()["is_deleted"], true);
    assert_eq!(
        app.admin.delete(&path).await.error(),
        (404, "session_not_found".into())
    );
    assert_eq!(
        app.admin.put(&path, &update).await.error(),
        (404, "session_not_found".into())
    );
    assert_eq!(
        app.reader.get(&path).await.error(),
        (404, "session_not_found".into())
    );
    assert_eq!(
        app.reader
            .get(&format!("{path}?deleted=true"))
            .await
            .result()["data"]["a"],
        "1"
    );
    // A create takes a deleted one's place.
    let again = json!({ "session": { "uuid": "S", "unit_id": "u", "data": { "a": "new" } } });
    assert_eq!(
        app.admin.post(&app.sessions(), &again).await.result()["is_deleted"],
        false
    );
    assert_eq!(show(&app, "s").await["data"], json!({ "a": "new" }));
    assert_eq!(
        app.reader.get(&format!("{path}?deleted=1")).await.error().0,
        404
    );
    assert_eq!(
        app.reader
            .get(&format!("{path}/attachments/photo"))
            .await
            .error()
            .0,
        404
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn several_are_updated_or_none(pool: PgPool) {
    let app = with_session(pool).await;
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "t", "unit_id": "u" } }),
        )
        .await
        .result();
    let update = |uuid: &str, value: &str| json!({ "uuid": uuid, "data": { "a": value } });
    let both = app
        .admin
        .put(
            &app.sessions(),
            &json!({ "sessions": [update("t", "9"), update("S", "8")] }),
        )
        .await
        .result();
    assert_eq!(
        (&both[0]["uuid"], &both[1]["uuid"]),
        (&json!("t"), &json!("s"))
    );
    let none = json!({ "sessions": [update("t", "7"), update("missing", "7")] });
    assert_eq!(
        app.admin.put(&app.sessions(), &none).await.error(),
        (404, "session_not_found".into())
    );
    assert_eq!(show(&app, "t").await["data"]["a"], "9");
    let nameless = json!({ "sessions": [{ "data": {} }] });
    assert_eq!(
        app.admin.put(&app.sessions(), &nameless).await.error(),
        (400, "uuid_missing".into())
    );
    let many: Vec<Value> = (0..1_001).map(|_| update("t", "1")).collect();
    assert_eq!(
        app.admin
            .put(&app.sessions(), &json!({ "sessions": many }))
            .await
            .error(),
        (400, "too_many_items".into())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn points_do_not_pile_up_without_bound(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_points = 3).await;
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "s", "unit_id": "u", "data": { "a": "", "b": "" } } }),
        )
        .await
        .result();
    let more = json!({ "session": { "data": { "c": "", "d": "" } } });
    assert_eq!(
        app.admin
            .put(&format!("{}/s", app.sessions()), &more)
            .await
            .error(),
        (400, "too_many_points".into())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_answers_each_item_by_itself(pool: PgPool) {
    let app = with_session(pool).await;
    let second = rollcall_api::admin::create_project(&app.db, app.org, "second")
        .await
        .expect("a project")
        .project_id;
    let (own, other, never) = (
        app.project.to_string(),
        app.strange_project.to_string(),
        "999999",
    );
    let batch = json!({
        "sessionsToAdd": {
            &own: [{ "uuid": "new", "unit_id": "u", "data": { "a": 1 } }, { "uuid": "bad" }, { "unit_id": "u" }],
            second.to_string(): [{ "uuid": "elsewhere", "unit_id": "u" }]
        },
        "sessionsToUpdate": {
            &own: [{ "uuid": "s", "data": { "a": "9" } }, { "uuid": "new", "data": {} }, { "data": {} }, { "uuid": "s", "data": [] }],
            &other: [{ "uuid": "x", "data": {} }],
            never: [{ "uuid": "x", "data": {} }],
            "x": [{ "uuid": "x" }]
        },
        "sessionsToDelete": { &own: [{ "uuid": "missing" }] },
        "source": "import", "recalc": false
    });
    let result = app
        .admin
        .post(&format!("{}/batch", app.sessions()), &batch)
        .await
        .result();
    let verdicts = |group: &str, project: &str| -> Vec<(String, bool)> {
        let items = result[group][project].as_array().expect("verdicts").iter();
        items
            .map(|item| {
                (
                    item["status"].as_str().expect("a status").into(),
                    item["uuid"].is_string(),
                )
            })
            .collect()
    };
    let is = |status: &str, named: bool| (status.to_owned(), named);
    assert_eq!(verdicts("sessionsToDelete", &own), [is("not_found", true)]);
    // Updates come before additions: `new` is not there yet.
    assert_eq!(
        verdicts("sessionsToUpdate", &own),
        [
            is("success", true),
            is("not_found", true),
            is("bad_request", false),
            is("bad_request", false)
        ]
    );
    assert_eq!(
        verdicts("sessionsToUpdate", &other),
        [is("not_found", true)]
    );
    assert_eq!(
        result["sessionsToUpdate"][&other][0]["message"],
        result["sessionsToUpdate"][never][0]["message"]
    );
    assert_eq!(
        verdicts("sessionsToUpdate", "x"),
        [is("bad_request", false)]
    );
    assert_eq!(
        verdicts("sessionsToAdd", &own),
        [
            is("success", true),
            is("bad_request", true),
            is("success", true)
        ]
    );
    assert_eq!(
        verdicts("sessionsToAdd", &second.to_string()),
        [is("success", true)]
    );
    assert_eq!(show(&app, "s").await["data"]["a"], "9");
    let revisions = app
        .reader
        .get(&format!("{}/s/revisions", app.sessions()))
        .await
        .result();
    assert_eq!(
        revisions[0]["context"],
        json!({ "source": "import", "recalc": false })
    );
    assert_eq!(revisions[1].get("context"), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_deletes_and_restores(pool: PgPool) {
    let app = with_session(pool).await;
    let (path, own) = (format!("{}/batch", app.sessions()), app.project.to_string());
    app.admin
        .post(
            &path,
            &json!({ "sessionsToDelete": { &own: [{ "uuid": "s" }] } }),
        )
        .await
        .result();
    assert_eq!(
        app.reader
            .get(&format!("{}/s", app.sessions()))
            .await
            .error()
            .0,
        404
    );
    let restore = json!({ "sessionsToUpdate": { &own: [{ "uuid": "s", "is_deleted": false, "data": { "a": "3" } }] } });
    app.admin.post(&path, &restore).await.result();
    assert_eq!(show(&app, "s").await["data"]["a"], "3");
    assert_eq!(
        app.reader
            .get(&format!("{}/s/attachments/photo", app.sessions()))
            .await
            .bytes,
        b"bytes"
    );
    let twice = json!({ "sessionsToUpdate": { &own: [{ "uuid": "s", "data": { "a": "4" } }, { "uuid": "S", "data": { "b": "5" } }] } });
    app.admin.post(&path, &twice).await.result();
    let events: Vec<String> = app
        .reader
        .get(&format!("{}/s/revisions", app.sessions()))
        .await
        .result()
        .as_array()
        .expect("a list")
        .iter()
        .map(|revision| revision["event"].as_str().expect("an event").to_owned())
        .collect();
    assert_eq!(
        events,
        ["updated", "updated", "restored", "deleted", "created"]
    );
    assert_eq!(app.admin.post(&path, &json!({})).await.status, 200);
    assert_eq!(
        app.admin
            .post(&path, &json!({ "sessionsToAdd": [] }))
            .await
            .error(),
        (400, "json_invalid".into())
    );
    assert_eq!(
        app.admin.post_form(&path, &[("a", "b")]).await.error(),
        (415, "content_type_unsupported".into())
    );
}
