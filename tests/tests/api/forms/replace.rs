//! Creating on a name that is taken: the session is replaced whole, what it was stays readable as a revision (M4).

use rollcall_tests::TestApp;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::multipart::Body;
use super::steps::{
    count, create, create_with_photo, events, file_of, id_of, path_of, post_body, prefix_of,
    revisions, show, update,
};

#[sqlx::test(migrations = "../migrations")]
async fn a_session_is_replaced_not_merged(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = json!({
        "uuid": "r", "unit_id": "one", "created": 1, "saved": 2, "data": { "a": "1", "b": { "rawData": "AA" } }
    });
    let first = create(&app, first).await;
    let second = create(
        &app,
        json!({ "uuid": "r", "unit_id": "two", "data": { "c": "3" } }),
    )
    .await;
    assert_eq!(second["data"], json!({ "c": "3" }));
    assert_eq!(second["unit_id"], "two");
    assert_eq!(second["created_timestamp"], second["received_timestamp"]);
    assert_eq!(show(&app, "r").await, second);
    assert_eq!(events(&app, "r").await, ["created", "replaced"]);
    let revisions = revisions(&app, "r").await;
    assert_eq!(revisions[0]["session"], second);
    assert_eq!(revisions[1]["session"], first);
    assert_eq!(count(&app, "select count(*) from sessions").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn files_of_the_old_version_are_described_but_out_of_reach(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let old = create_with_photo(&app, "r", b"the old photo").await;
    let body = Body::new()
        .text("session[uuid]", "r")
        .text("session[unit_id]", "u")
        .file(
            "session[data][other]",
            "new.png",
            "image/png",
            b"the new one",
        );
    let new = post_body(&app, body).await.result();
    assert_eq!(new["data"].as_object().map(serde_json::Map::len), Some(1));
    let old_file = app.reader.get(&file_of(&app, "r", "photo")).await;
    assert_eq!(old_file.error(), (404, "attachment_not_found".to_owned()));
    let new_file = app.reader.get(&file_of(&app, "r", "other")).await;
    assert_eq!(new_file.bytes, b"the new one");
    // Its name, size and hashes stay with the revision.
    let revision = &revisions(&app, "r").await[1];
    assert_eq!(revision["event"], "created");
    assert_eq!(revision["session"], old);
    insta::assert_json_snapshot!(revision["session"]["data"]["photo"], { ".id" => "[id]" }, @r#"
    {
      "content_type": "image/jpeg",
      "filename": "photo.jpg",
      "id": "[id]",
      "length": 13,
      "md5": "aa54b14c38a01da4c4f37d29411ea055",
      "sha256": "a0740358904120530a08c1b635dd3cd97b052cc1b97a226cfa07d4404162bc6c"
    }
    "#);
    assert_eq!(
        attachments(&app).await,
        [("other".to_owned(), false), ("photo".to_owned(), true)],
        "the replaced row is retired"
    );
    // The bytes wait for the sweep.
    assert_eq!(app.s3.keys().len(), 2);
    let prefix = prefix_of(&app, "r");
    assert!(app.s3.keys().iter().all(|key| key.starts_with(&prefix)));
}

/// Every attachment's point and whether it is retired.
async fn attachments(app: &TestApp) -> Vec<(String, bool)> {
    sqlx::query_as(
        "select point, retired_at is not null from attachments order by point, created_at",
    )
    .fetch_all(&app.superuser)
    .await
    .expect("attachments")
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_in_the_same_point_takes_the_olds_place(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "r", b"old").await;
    create_with_photo(&app, "r", b"newer").await;
    let file = app.reader.get(&file_of(&app, "r", "photo")).await;
    assert_eq!(file.bytes, b"newer");
    assert_eq!(
        attachments(&app).await,
        [("photo".to_owned(), true), ("photo".to_owned(), false)]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn one_transaction_replaces_row_event_and_attachments(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "r", b"old").await;
    create_with_photo(&app, "r", b"new").await;
    // A row's xmin is the transaction that wrote it: the retired row was written again, too.
    let writers: Vec<String> = sqlx::query_scalar(
        "select xmin::text from sessions union select xmin::text from attachments
         union select xmin::text from events where revision = 2",
    )
    .fetch_all(&app.superuser)
    .await
    .expect("writers");
    assert_eq!(writers.len(), 1, "{writers:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refused_replacement_leaves_the_old_version_whole(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let old = create_with_photo(&app, "r", b"old").await;
    let body = Body::new().text("session[uuid]", "r").file(
        "session[data][photo]",
        "new.png",
        "image/png",
        b"new",
    );
    let refused = post_body(&app, body).await;
    assert_eq!(refused.error(), (400, "unit_id_missing".to_owned()));
    assert_eq!(show(&app, "r").await, old);
    let file = app.reader.get(&file_of(&app, "r", "photo")).await;
    assert_eq!(file.bytes, b"old");
    assert_eq!(app.s3.keys().len(), 1);
    assert_eq!(events(&app, "r").await, ["created"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_twin_is_replaced_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create_with_photo(&app, "r", b"old").await;
    app.admin.delete(&path_of(&app, "r")).await.result();
    let again = create(
        &app,
        json!({ "uuid": "R", "unit_id": "u", "data": { "a": "1" } }),
    )
    .await;
    assert_eq!(again["is_deleted"], false);
    assert_eq!(again["data"], json!({ "a": "1" }));
    assert_eq!(show(&app, "r").await, again);
    let among_deleted = app
        .reader
        .get(&format!("{}?deleted=true", path_of(&app, "r")))
        .await;
    assert_eq!(among_deleted.error(), (404, "session_not_found".to_owned()));
    assert_eq!(events(&app, "r").await, ["created", "deleted", "replaced"]);
    assert_eq!(attachments(&app).await, [("photo".to_owned(), true)]);
    assert_eq!(count(&app, "select count(*) from sessions").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_updated_stays_readable_through_a_replacement(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(
        &app,
        json!({ "uuid": "r", "unit_id": "u", "data": { "a": "1", "b": "1" } }),
    )
    .await;
    update(&app, "r", json!({ "data": { "b": "2" } }))
        .await
        .result();
    create(
        &app,
        json!({ "uuid": "r", "unit_id": "u", "data": { "c": "3" } }),
    )
    .await;
    let data: Vec<Value> = revisions(&app, "r")
        .await
        .into_iter()
        .map(|revision| revision["session"]["data"].clone())
        .collect();
    assert_eq!(
        data,
        [
            json!({ "c": "3" }),
            json!({ "a": "1", "b": "2" }),
            json!({ "a": "1", "b": "1" })
        ]
    );
    let revision: i64 = sqlx::query_scalar("select revision from sessions where id = $1")
        .bind(id_of(&app, "r").0)
        .fetch_one(&app.superuser)
        .await
        .expect("the session");
    assert_eq!(revision, 3);
}
