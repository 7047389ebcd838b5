//! Batches: across projects, delete then update then add, each item answered by itself (M14, M15).

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::steps::{
    batch, count, create, create_with_photo, events, file_of, revisions, second_project, show,
};

/// What a verdict says: the uuid, the status, and whether the message is the word for success.
fn said(verdict: &Value) -> (Option<&str>, &str, bool) {
    (
        verdict["uuid"].as_str(),
        verdict["status"].as_str().expect("a text"),
        verdict["message"] == "success",
    )
}

#[sqlx::test(migrations = "../migrations")]
async fn groups_are_answered_as_they_were_sent(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (one, two) = (app.project.to_string(), second_project(&app).await);
    for uuid in ["del", "upd"] {
        create(
            &app,
            json!({ "uuid": uuid, "unit_id": "u", "data": { "a": "1", "b": "1" } }),
        )
        .await;
    }
    let verdicts = batch(
        &app,
        &json!({
            "project_id": 17,
            "sessionsToAdd": {
                two.as_str(): [{ "uuid": "new", "unit_id": "u", "data": { "x": 1 } }],
                one.as_str(): [{ "unit_id": "made", "data": { "y": true } }]
            },
            "sessionsToDelete": { one.as_str(): [{ "uuid": "del" }] },
            "sessionsToUpdate": { one.as_str(): [{ "uuid": "upd", "data": { "b": "2" } }], two.as_str(): [{ "uuid": "upd" }] }
        }),
    )
    .await;
    let word = json!({ "status": "success", "message": "success" });
    let named =
        |uuid: &str| json!({ "uuid": uuid, "status": word["status"], "message": word["message"] });
    assert_eq!(
        verdicts["sessionsToDelete"],
        json!({ one.as_str(): [named("del")] })
    );
    assert_eq!(verdicts["sessionsToUpdate"][&one], json!([named("upd")]));
    assert_eq!(
        said(&verdicts["sessionsToUpdate"][&two][0]),
        (Some("upd"), "not_found", false)
    );
    assert_eq!(verdicts["sessionsToAdd"][&two], json!([named("new")]));
    let made = verdicts["sessionsToAdd"][&one][0]["uuid"]
        .as_str()
        .expect("one was made");
    assert_eq!(show(&app, made).await["unit_id"], "made");
    assert_eq!(show(&app, made).await["data"], json!({ "y": "true" }));
    assert_eq!(
        show(&app, "upd").await["data"],
        json!({ "a": "1", "b": "2" })
    );
    assert_eq!(events(&app, "del").await, ["created", "deleted"]);
    let new = app
        .reader
        .get(&format!("/api/v1/projects/{two}/sessions/new"))
        .await;
    assert_eq!(new.result()["data"], json!({ "x": "1" }));
}

#[sqlx::test(migrations = "../migrations")]
async fn deletions_come_first_then_updates_then_additions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let project = app.project.to_string();
    create(
        &app,
        json!({ "uuid": "s", "unit_id": "u", "data": { "a": "1" } }),
    )
    .await;
    create(&app, json!({ "uuid": "gone", "unit_id": "u" })).await;
    // Written in the opposite order.
    let body = format!(
        r#"{{ "sessionsToAdd": {{ "{project}": [{{ "uuid": "s", "unit_id": "added", "data": {{ "c": "3" }} }}] }},
            "sessionsToUpdate": {{ "{project}": [
                {{ "uuid": "gone", "unit_id": "v" }},
                {{ "uuid": "s", "is_deleted": false, "data": {{ "b": "2" }} }},
                {{ "uuid": "later", "unit_id": "v" }}
            ] }},
            "sessionsToDelete": {{ "{project}": [{{ "uuid": "s" }}, {{ "uuid": "gone" }}] }} }}"#
    );
    let path = format!("{}/batch", app.sessions());
    let verdicts = app
        .admin
        .post_raw(&path, "application/json", body)
        .await
        .result();
    let updates: Vec<_> = (0..3)
        .map(|at| said(&verdicts["sessionsToUpdate"][&project][at]))
        .collect();
    assert_eq!(
        updates,
        [
            (Some("gone"), "not_found", false),
            (Some("s"), "success", true),
            (Some("later"), "not_found", false)
        ]
    );
    assert_eq!(
        events(&app, "s").await,
        ["created", "deleted", "restored", "replaced"]
    );
    let data: Vec<_> = revisions(&app, "s")
        .await
        .iter()
        .map(|r| r["session"]["data"].clone())
        .collect();
    assert_eq!(
        data,
        [
            json!({ "c": "3" }),
            json!({ "a": "1", "b": "2" }),
            json!({ "a": "1" }),
            json!({ "a": "1" })
        ]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn source_and_recalc_are_kept_with_the_revisions(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let project = app.project.to_string();
    let item = |value: &str| json!([{ "uuid": "s", "unit_id": "u", "data": { "a": value } }]);
    let add = |value: &str| json!({ "sessionsToAdd": { project.as_str(): item(value) } });
    batch(&app, &add("1")).await;
    let mut with = add("2");
    with["source"] = "import".into();
    with["recalc"] = false.into();
    batch(&app, &with).await;
    let mut with = json!({ "sessionsToUpdate": { project.as_str(): item("3") } });
    with["recalc"] = true.into();
    batch(&app, &with).await;
    with["sessionsToDelete"] = json!({ project.as_str(): [{ "uuid": "s" }] });
    with["sessionsToUpdate"] = json!({});
    with["source"] = "cleanup".into();
    batch(&app, &with).await;
    let contexts: Vec<_> = revisions(&app, "s")
        .await
        .iter()
        .map(|r| r.get("context").cloned())
        .collect();
    assert_eq!(
        contexts,
        [
            Some(json!({ "source": "cleanup", "recalc": true })),
            Some(json!({ "source": null, "recalc": true })),
            Some(json!({ "source": "import", "recalc": false })),
            None
        ]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn one_name_may_stand_more_than_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let project = app.project.to_string();
    let body = json!({ "sessionsToAdd": { project.as_str(): [
        { "uuid": "s", "unit_id": "u", "data": { "a": "1" } },
        { "uuid": "S", "unit_id": "u", "data": { "a": "1" } },
        { "uuid": "s", "unit_id": "u", "data": { "a": "2" } },
        { "uuid": "s", "unit_id": "u", "data": { "a": "1" } }
    ] } });
    let verdicts = batch(&app, &body).await;
    for at in 0..4 {
        assert_eq!(verdicts["sessionsToAdd"][&project][at]["status"], "success");
    }
    assert_eq!(events(&app, "s").await, ["created", "replaced", "replaced"]);
    let body = json!({
        "sessionsToUpdate": { project.as_str(): [
            { "uuid": "s", "data": { "b": "1" } }, { "uuid": "s", "data": { "b": "2" } },
            { "uuid": "s", "is_deleted": true }, { "uuid": "s", "data": { "b": "3" } },
            { "uuid": "s", "is_deleted": false }, { "uuid": "s", "data": { "c": "1" } }
        ] }
    });
    let verdicts = batch(&app, &body).await;
    let statuses: Vec<_> = (0..6)
        .map(|at| verdicts["sessionsToUpdate"][&project][at]["status"].clone())
        .collect();
    assert_eq!(
        statuses,
        [
            "success",
            "success",
            "success",
            "not_found",
            "success",
            "success"
        ]
    );
    assert_eq!(
        show(&app, "s").await["data"],
        json!({ "a": "1", "b": "2", "c": "1" })
    );
    assert_eq!(
        events(&app, "s").await[3..],
        ["updated", "updated", "deleted", "restored", "updated"]
    );
    let twice =
        json!({ "sessionsToDelete": { project.as_str(): [{ "uuid": "s" }, { "uuid": "s" }] } });
    let verdicts = batch(&app, &twice).await;
    assert_eq!(
        said(&verdicts["sessionsToDelete"][&project][0]).1,
        "success"
    );
    assert_eq!(
        said(&verdicts["sessionsToDelete"][&project][1]).1,
        "not_found"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_that_is_sent_again_changes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let project = app.project.to_string();
    create_with_photo(&app, "old", b"photo").await;
    let body = json!({
        "sessionsToAdd": { project.as_str(): [{ "uuid": "new", "unit_id": "u", "saved": 5 }] },
        "sessionsToUpdate": { project.as_str(): [{ "uuid": "old", "saved": 6, "data": { "a": "1" } }] }
    });
    let first = batch(&app, &body).await;
    assert_eq!(batch(&app, &body).await, first);
    assert_eq!(events(&app, "new").await, ["created"]);
    assert_eq!(events(&app, "old").await, ["created", "updated"]);
    assert_eq!(
        app.reader.get(&file_of(&app, "old", "photo")).await.bytes,
        b"photo"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_may_be_empty_but_not_endless(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.limits.limit_items = 3).await;
    let project = app.project.to_string();
    let nothing = json!({ "sessionsToDelete": {}, "sessionsToUpdate": {}, "sessionsToAdd": {} });
    for empty in [
        json!({}),
        nothing.clone(),
        json!({ "sessionsToAdd": null, "sessionsToUpdate": null, "sessionsToDelete": null, "source": null }),
    ] {
        assert_eq!(batch(&app, &empty).await, nothing, "{empty}");
    }
    let item = |at: usize| json!({ "uuid": format!("s{at}"), "unit_id": "u" });
    let body = |adds: usize, deletions: usize| {
        json!({
            "sessionsToAdd": { project.as_str(): (0..adds).map(item).collect::<Vec<_>>() },
            "sessionsToDelete": { project.as_str(): (0..deletions).map(item).collect::<Vec<_>>() }
        })
    };
    let path = format!("{}/batch", app.sessions());
    let refused = app.admin.post(&path, &body(2, 2)).await;
    assert_eq!(refused.error(), (400, "too_many_items".to_owned()));
    assert!(
        refused
            .text()
            .contains("at most 3 sessions (limit: items), this one has 4")
    );
    assert_eq!(count(&app, "select count(*) from events").await, 0);
    batch(&app, &body(3, 0)).await;
    assert_eq!(count(&app, "select count(*) from events").await, 3);
}
