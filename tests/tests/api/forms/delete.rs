//! Deleting softly, and bringing back (M11, M12).

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::steps::{
    batch, create, create_with_photo, events, file_of, path_of, put_file, revisions, show, update,
};

fn restore(app: &TestApp, item: Value) -> Value {
    json!({ "sessionsToUpdate": { app.project.to_string(): [item] } })
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_session_keeps_its_data_and_is_found_among_the_deleted(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let created = create_with_photo(&app, "s", b"photo").await;
    let deleted = app.admin.delete(&path_of(&app, "S")).await.result();
    assert_eq!(deleted["is_deleted"], true);
    assert_eq!(deleted["data"], created["data"]);
    assert_eq!(deleted["saved"], created["saved"]);
    let shown = app
        .reader
        .get(&format!("{}?deleted=true", path_of(&app, "s")))
        .await;
    assert_eq!(shown.result(), deleted);
    assert_eq!(events(&app, "s").await, ["created", "deleted"]);
    assert_eq!(app.s3.keys().len(), 1, "the file stays");
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_but_a_create_or_a_restore_finds_a_deleted_session(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "s", b"photo").await;
    app.admin.delete(&path_of(&app, "s")).await.result();
    let path = path_of(&app, "s");
    let not_found = (404, "session_not_found".to_owned());
    assert_eq!(app.admin.delete(&path).await.error(), not_found, "twice");
    assert_eq!(app.reader.get(&path).await.error(), not_found);
    let photo = file_of(&app, "s", "photo");
    assert_eq!(app.reader.get(&photo).await.error(), not_found);
    assert_eq!(app.admin.delete(&photo).await.error(), not_found);
    assert_eq!(
        put_file(&app, "s", "photo", b"new").await.error(),
        not_found
    );
    assert_eq!(
        update(&app, "s", json!({ "unit_id": "v" })).await.error(),
        not_found
    );
    // Nor does a restore hide in an update.
    let hidden = update(&app, "s", json!({ "unit_id": "v", "is_deleted": false })).await;
    assert_eq!(hidden.error(), not_found);
    let bulk = json!({ "sessions": [{ "uuid": "s", "is_deleted": false }] });
    assert_eq!(
        app.admin.put(&app.sessions(), &bulk).await.error(),
        not_found
    );
    assert_eq!(events(&app, "s").await, ["created", "deleted"]);
    assert_eq!(app.s3.keys().len(), 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_restores_with_file_and_all(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let created = create_with_photo(&app, "s", b"photo").await;
    app.admin.delete(&path_of(&app, "s")).await.result();
    let verdicts = batch(
        &app,
        &restore(&app, json!({ "uuid": "S", "is_deleted": false })),
    )
    .await;
    let project = app.project.to_string();
    assert_eq!(
        verdicts["sessionsToUpdate"][&project][0]["status"],
        "success"
    );
    let restored = show(&app, "s").await;
    assert_eq!(restored["data"], created["data"]);
    assert_eq!(restored["is_deleted"], false);
    let photo = app.reader.get(&file_of(&app, "s", "photo")).await;
    assert_eq!(photo.bytes, b"photo");
    assert_eq!(events(&app, "s").await, ["created", "deleted", "restored"]);
    // Restoring what is there already is a repeat.
    batch(
        &app,
        &restore(&app, json!({ "uuid": "s", "is_deleted": false })),
    )
    .await;
    assert_eq!(events(&app, "s").await.len(), 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_restore_may_edit_and_an_edit_may_delete(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(
        &app,
        json!({ "uuid": "s", "unit_id": "u", "data": { "a": "1" } }),
    )
    .await;
    let item = json!({ "uuid": "s", "is_deleted": true, "data": { "b": "2" } });
    batch(&app, &restore(&app, item)).await;
    let item = json!({ "uuid": "s", "is_deleted": false, "data": { "c": "3" }, "unit_id": "v", "saved": 77 });
    batch(&app, &restore(&app, item)).await;
    let shown = show(&app, "s").await;
    assert_eq!(shown["data"], json!({ "a": "1", "b": "2", "c": "3" }));
    assert_eq!(shown["unit_id"], "v");
    assert_eq!(shown["saved_timestamp"], 77);
    assert_eq!(events(&app, "s").await, ["created", "deleted", "restored"]);
    assert_eq!(revisions(&app, "s").await[1]["session"]["is_deleted"], true);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_update_by_itself_never_deletes(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    let updated = update(&app, "s", json!({ "is_deleted": true, "unit_id": "v" }))
        .await
        .result();
    assert_eq!(updated["is_deleted"], false);
    let bulk = json!({ "sessions": [{ "uuid": "s", "is_deleted": true, "unit_id": "w" }] });
    app.admin.put(&app.sessions(), &bulk).await.result();
    assert_eq!(show(&app, "s").await["unit_id"], "w");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_never_was_cannot_be_deleted(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "s", "unit_id": "u" })).await;
    let not_found = (404, "session_not_found".to_owned());
    assert_eq!(
        app.admin.delete(&path_of(&app, "t")).await.error(),
        not_found
    );
    let unknown = app.admin.delete("/api/v1/projects/999999/sessions/s").await;
    let strange = app
        .admin
        .delete(&format!(
            "/api/v1/projects/{}/sessions/s",
            app.strange_project
        ))
        .await;
    assert_eq!(unknown.error(), strange.error());
    assert_eq!(unknown.error().0, 404);
    assert_eq!(
        app.stranger.delete(&path_of(&app, "s")).await.error().0,
        404
    );
    show(&app, "s").await;
}
