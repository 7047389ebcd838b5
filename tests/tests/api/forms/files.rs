//! Files that come with a form: where they are stored, what is said of them, how they are named.

use rollcall_tests::{S3, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::multipart::Body;
use super::steps::{count, create_with_photo, file_of, post_body, prefix_of, show};

#[sqlx::test(migrations = "../migrations")]
async fn a_photo_goes_in_with_its_form_and_comes_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let photo = vec![0xff_u8; 300_000];
    let created = create_with_photo(&app, "abc", &photo).await;
    let stored = &created["data"]["photo"];
    insta::assert_json_snapshot!(stored, { ".id" => "[id]" }, @r#"
    {
      "content_type": "image/jpeg",
      "filename": "photo.jpg",
      "id": "[id]",
      "length": 300000,
      "md5": "ad9e32cb768ff806831dbb8aaad4fd5e",
      "sha256": "76b0aeaa517d0aafaa054a563434429a184a7f7e10c6403136c9daf1ed281024"
    }
    "#);
    let back = app.reader.get(&file_of(&app, "abc", "photo")).await;
    assert_eq!(back.bytes, photo);
    assert_eq!(show(&app, "abc").await, created);
    let id = stored["id"].as_str().expect("a text");
    assert_eq!(app.s3.keys(), [format!("{}{id}", prefix_of(&app, "abc"))]);
}

/// The fields of a form with two files, in the order that `order` names them by.
fn form(order: &[usize]) -> Body {
    order.iter().fold(Body::new(), |body, at| match at {
        0 => body.text("session[uuid]", "ordered"),
        1 => body.text("session[unit_id]", "u"),
        2 => body.text("session[data][note]", "n"),
        3 => body.file("session[data][front]", "f.png", "image/png", b"front"),
        4 => body.file("session[data][back]", "b.png", "image/png", b"back"),
        _ => body.text("session[saved]", "7"),
    })
}

#[sqlx::test(migrations = "../migrations")]
async fn fields_may_come_in_any_order(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let orders = [
        [0, 1, 2, 3, 4, 5],
        [3, 4, 0, 1, 2, 5],
        [3, 0, 4, 1, 2, 5],
        [5, 4, 3, 2, 1, 0],
        [1, 2, 3, 5, 0, 4],
    ];
    for order in orders {
        let app = &app;
        let created = post_body(app, form(&order)).await.result();
        assert_eq!(created["uuid"], "ordered");
        assert_eq!(created["data"]["note"], "n");
        for (point, bytes) in [("front", b"front".as_slice()), ("back", b"back")] {
            let back = app.reader.get(&file_of(app, "ordered", point)).await;
            assert_eq!(back.bytes, bytes);
        }
        // A key begins with its session, whenever that was named; nothing lies about under another.
        let keys = app.s3.keys();
        assert_eq!(keys.len(), 2, "{order:?}: {keys:?}");
        let prefix = prefix_of(app, "ordered");
        assert!(
            keys.iter().all(|key| key.starts_with(&prefix)),
            "{order:?}: {keys:?}"
        );
        wipe(app).await;
    }
}

/// Forgets everything, so that the next form is not a repeat.
async fn wipe(app: &TestApp) {
    sqlx::raw_sql("truncate sessions, events, attachments, commands, subscriptions")
        .execute(&app.superuser)
        .await
        .expect("an empty database");
    let bucket = app.folder().join("s3").join(S3::BUCKET);
    for key in app.s3.keys() {
        std::fs::remove_file(bucket.join(key)).expect("removed");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_before_its_session_goes_where_the_uuid_says_whatever_its_case(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = Body::new()
        .file("session[data][p]", "p", "text/plain", b"bytes")
        .text("session[unit_id]", "u")
        .text("session[uuid]", "MiXed/Case");
    post_body(&app, body).await.result();
    let keys = app.s3.keys();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with(&prefix_of(&app, "mixed/case")));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_form_with_a_file_gets_a_uuid_where_it_names_none(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = Body::new()
        .file("session[data][p]", "p.txt", "text/plain", b"bytes")
        .text("session[unit_id]", "u");
    let created = post_body(&app, body).await.result();
    let uuid = created["uuid"].as_str().expect("a text");
    let parsed = Uuid::try_parse(uuid).expect("a UUID");
    assert_eq!(parsed.get_version_num(), 4);
    let back = app.reader.get(&file_of(&app, uuid, "p")).await;
    assert_eq!(back.bytes, b"bytes");
    assert!(app.s3.keys()[0].starts_with(&prefix_of(&app, uuid)));
}

#[sqlx::test(migrations = "../migrations")]
async fn files_texts_and_embedded_data_travel_together(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let texts = Body::new()
        .text("session[uuid]", "many")
        .text("session[unit_id]", "u")
        .text("session[data][Note]", "näive")
        .text("session[data][sketch][rawData]", "AAEC")
        .text("commit", "Send");
    let form = (0..12_u8).fold(texts, |body, at| {
        let (field, bytes) = (
            format!("session[data][File {at}]"),
            vec![at; 1 + usize::from(at)],
        );
        body.file(&field, &format!("{at}.bin"), "application/x-thing", &bytes)
    });
    let created = post_body(&app, form).await.result();
    assert_eq!(created["data"]["note"], "näive");
    assert_eq!(created["data"]["sketch"], json!({ "rawData": "AAEC" }));
    for at in 0..12_u8 {
        let stored = &created["data"][format!("file {at}")];
        assert_eq!(stored["filename"], format!("{at}.bin"));
        assert_eq!(stored["length"], at + 1);
        let back = app
            .reader
            .get(&file_of(&app, "many", &format!("file%20{at}")))
            .await;
        assert_eq!(back.bytes, vec![at; 1 + usize::from(at)]);
    }
    assert_eq!(app.s3.keys().len(), 12);
    assert_eq!(count(&app, "select count(*) from attachments").await, 12);
}

/// Creates a session with one file whose part has these parameters, and gives what is said of the file.
async fn stored_as(app: &TestApp, parameters: &str) -> Value {
    let disposition = format!("name=\"session[data][Point]\"; {parameters}");
    let body = Body::new().text("session[unit_id]", "u").part(
        &disposition,
        Some("text/plain"),
        parameters.as_bytes(),
    );
    post_body(app, body).await.result()["data"]["point"].clone()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_files_name_may_be_any_text(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let names = [
        ("filename=\"plain.txt\"", "plain.txt"),
        ("filename=bare.txt", "bare.txt"),
        ("filename=\"фото é 日本.jpg\"", "фото é 日本.jpg"),
        ("filename*=UTF-8''%D1%84%20%C3%A9.jpg", "ф é.jpg"),
        (
            "filename=\"fallback.jpg\"; filename*=UTF-8''%E6%97%A5.jpg",
            "日.jpg",
        ),
        (
            "filename*=UTF-8''first%2Fname.jpg; filename=\"x.jpg\"",
            "name.jpg",
        ),
        ("filename=\"a\\\"b.txt\"", "a\"b.txt"),
        ("filename=\"semi;colon.txt\"", "semi;colon.txt"),
        ("filename=\" spaced \"", " spaced "),
    ];
    for (parameters, name) in names {
        assert_eq!(
            stored_as(&app, parameters).await["filename"],
            name,
            "{parameters}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn folders_are_cut_off_a_files_name(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let names = [
        ("/etc/passwd", "passwd"),
        ("../../etc/passwd", "passwd"),
        ("C:\\\\fakepath\\\\photo.jpg", "photo.jpg"),
        ("a/b\\\\c", "c"),
        // The point's name, where nothing is left.
        ("folder/", "point"),
        ("..", "point"),
        (".", "point"),
        ("a/..", "point"),
        ("", "point"),
    ];
    for (given, name) in names {
        let stored = stored_as(&app, &format!("filename=\"{given}\"")).await;
        assert_eq!(stored["filename"], name, "{given}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn the_file_input_of_a_browser_that_was_left_empty_means_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = Body::new()
        .text("session[unit_id]", "u")
        .text("session[data][note]", "n")
        .file("session[data][photo]", "", "application/octet-stream", b"");
    let created = post_body(&app, body).await.result();
    assert_eq!(created["data"], json!({ "note": "n" }));
    assert!(app.s3.keys().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_type_of_a_file_is_kept_as_the_client_gave_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let types = [
        (Some("image/jpeg"), "image/jpeg"),
        (
            Some("text/html; charset=\"utf-8\""),
            "text/html; charset=\"utf-8\"",
        ),
        (None, "application/octet-stream"),
    ];
    for (given, kept) in types {
        let body = Body::new().text("session[unit_id]", "u").part(
            "name=\"session[data][p]\"; filename=\"f\"",
            given,
            b"x",
        );
        let created = post_body(&app, body).await.result();
        assert_eq!(created["data"]["p"]["content_type"], kept);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_part_without_a_filename_is_a_text(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = Body::new().text("session[unit_id]", "u").part(
        "name=\"session[data][p]\"",
        Some("text/plain; charset=utf-8"),
        "été".as_bytes(),
    );
    let created = post_body(&app, body).await.result();
    assert_eq!(created["data"], json!({ "p": "été" }));
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_of_a_refused_form_stays(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let with_file =
        |point: &str| Body::new().file(&format!("session[data][{point}]"), "f", "text/plain", b"x");
    let forms = [
        (with_file("p"), "unit_id_missing"),
        (
            with_file("p").text("session[unit_id]", "u").file(
                "session[data][P]",
                "g",
                "text/plain",
                b"y",
            ),
            "field_duplicate",
        ),
        (
            with_file("p")
                .text("session[data][p]", "also a text")
                .text("session[unit_id]", "u"),
            "field_duplicate",
        ),
        (
            with_file("p")
                .text("session[unit_id]", "u")
                .text("session[created]", "yesterday"),
            "time_invalid",
        ),
    ];
    for (body, code) in forms {
        assert_eq!(post_body(&app, body).await.error(), (400, code.to_owned()));
        assert_eq!(app.s3.keys(), Vec::<String>::new(), "{code}");
    }
    assert_eq!(count(&app, "select count(*) from events").await, 0);
}
