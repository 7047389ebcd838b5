//! Attachments: what is known of them, and their bytes.

use rollcall_model::Permission;
use rollcall_tests::{TestApp, file};
use serde_json::json;
use sqlx::PgPool;

use super::{complaint, document, get_with};

const BYTES: &[u8] = b"the bytes of a photo";

/// A form with a photo; answers the photo's path.
async fn fill(app: &TestApp) -> String {
    let form = reqwest::multipart::Form::new()
        .text("session[uuid]", "a")
        .text("session[unit_id]", "x")
        .part(
            "session[data][photo]",
            file("phöto.jpg", "image/jpeg", BYTES),
        );
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    let list = document(&app.reader, "/v1/sessions/a/attachments").await;
    format!(
        "/v1/attachments/{}",
        list["data"][0]["id"].as_str().expect("an id")
    )
}

#[sqlx::test(migrations = "../migrations")]
async fn an_attachment_is_described_and_read_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let path = fill(&app).await;
    let attributes = document(&app.reader, &path).await["data"]["attributes"].take();
    let known =
        ["point", "filename", "content_type", "length"].map(|name| attributes[name].clone());
    assert_eq!(
        known,
        [
            json!("photo"),
            json!("phöto.jpg"),
            json!("image/jpeg"),
            json!(BYTES.len())
        ]
    );
    let content = format!("{path}/content");
    let whole = app.reader.get(&content).await;
    assert_eq!(whole.bytes, BYTES);
    assert_eq!(
        whole.header("content-type"),
        Some("application/octet-stream")
    );
    let tag = whole.header("etag").expect("a tag").to_owned();
    assert_eq!(tag.trim_matches('"'), attributes["sha256"]);
    let held = get_with(&app.reader, &content, &[("if-none-match", &tag)]).await;
    assert_eq!((held.status.as_u16(), held.bytes.len()), (304, 0));
    let part = get_with(&app.reader, &content, &[("range", "bytes=4-8")]).await;
    assert_eq!(
        (part.status.as_u16(), part.bytes.as_slice()),
        (206, &BYTES[4..9])
    );
    let tail = get_with(&app.reader, &content, &[("range", "bytes=-5")]).await;
    assert_eq!(tail.bytes, b"photo");
    let beyond = get_with(&app.reader, &content, &[("range", "bytes=999-")]).await;
    assert_eq!(beyond.status, 416);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_download_may_be_sent_to_the_storage(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let path = fill(&app).await;
    let asking = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    let rollcall_tests::Credential::Basic { id, secret } = &app.reader.credential else {
        panic!("a key");
    };
    let url = format!("{}{path}/content?redirect=true", app.url);
    let answer = asking
        .get(url)
        .basic_auth(id, Some(secret))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let link: reqwest::Url = answer.headers()["location"]
        .to_str()
        .expect("text")
        .parse()
        .expect("a URL");
    let life = link
        .query_pairs()
        .find(|(name, _)| name == "X-Amz-Expires")
        .expect("a life")
        .1
        .into_owned();
    assert_eq!(life, "300");
    // Without a credential of ours.
    let file = asking.get(link.clone()).send().await.expect("an answer");
    assert_eq!(file.status(), 200);
    let disposition = file.headers()["content-disposition"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(
        disposition.starts_with("attachment; ") && disposition.contains("ph%C3%B6to.jpg"),
        "{disposition}"
    );
    assert_eq!(file.bytes().await.expect("bytes"), BYTES);
    let mut other = link;
    other.set_path(&format!("{}x", other.path()));
    assert_eq!(
        asking.get(other).send().await.expect("an answer").status(),
        403,
        "for this object alone"
    );
    let wrong = app
        .reader
        .get(&format!("{path}/content?redirect=maybe"))
        .await;
    assert_eq!(
        complaint(&wrong),
        (400, "redirect_invalid".into(), Some("redirect".into()))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn where_clients_cannot_reach_the_storage_they_get_the_bytes(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.s3.s3_public_endpoint = None).await;
    let path = fill(&app).await;
    let answer = app
        .reader
        .get(&format!("{path}/content?redirect=true"))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.bytes.as_slice()),
        (200, BYTES)
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_replaced_file_is_kept_for_the_history(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let old = fill(&app).await;
    let point = format!("{}/a/attachments/photo", app.sessions());
    let request = app
        .admin
        .request(reqwest::Method::PUT, &point)
        .header("content-type", "application/octet-stream");
    rollcall_tests::send(request.body("other bytes"))
        .await
        .result();
    let retired = document(&app.reader, &old).await;
    assert!(
        retired["data"]["attributes"]["retired"].is_string(),
        "{retired}"
    );
    assert_eq!(app.reader.get(&format!("{old}/content")).await.bytes, BYTES);
    let list = document(&app.reader, "/v1/sessions/a/attachments").await;
    assert_eq!(list["data"].as_array().expect("an array").len(), 1);
    assert_ne!(list["data"][0]["id"], retired["data"]["id"]);
    assert!(list["data"][0]["attributes"].get("retired").is_none());
    // Swept, but its row still there: gone, not an error of ours.
    for key in app.s3.keys() {
        app.app().objects.delete(&[key]).await.expect("deleted");
    }
    let gone = app.reader.get(&format!("{old}/content")).await;
    assert_eq!(complaint(&gone).1, "attachment_not_found");
    let other = app.second_project().await;
    let bound = app.client(Some(other), &[Permission::SessionsRead]).await;
    for path in [
        old.clone(),
        format!("{old}/content"),
        format!("{old}/content?redirect=true"),
    ] {
        assert_eq!(bound.get(&path).await.status, 404, "{path}");
    }
}
