//! `work --once`.

use aws_sdk_s3::primitives::ByteStream;
use rollcall_model::{AttachmentId, ObjectKey, SessionId};
use rollcall_tests::program::{ended, rollcall_api};
use rollcall_tests::{S3, TestApp, file};
use sqlx::PgPool;

/// Stores an object that no row knows, as a request does that is killed half-way.
async fn orphan(app: &TestApp) -> String {
    let key = ObjectKey {
        org: app.org,
        project: app.project,
        session: SessionId::of(app.org, "forms-1", "gone"),
        attachment: AttachmentId::generate(),
    };
    let config = app.s3.client_config();
    let config = config
        .endpoint_url(app.s3.endpoint())
        .force_path_style(true);
    let client = aws_sdk_s3::Client::from_conf(config.build());
    let put = client.put_object().bucket(S3::BUCKET).key(key.to_string());
    put.body(ByteStream::from_static(b"bytes"))
        .send()
        .await
        .expect("stored");
    key.to_string()
}

#[sqlx::test(migrations = "../migrations")]
async fn one_round_sweeps_says_what_it_did_and_ends(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let form = reqwest::multipart::Form::new()
        .text("session[unit_id]", "x")
        .part("session[data][photo]", file("a.jpg", "image/jpeg", "kept"));
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    let kept = app.s3.keys();
    let orphan = orphan(&app).await;
    let work = async |grace: &str| {
        let mut command = rollcall_api(&["work", "--once", "--sweep-grace-seconds", grace]);
        command.envs(app.environment());
        ended(command).await.printed()
    };
    let nothing = "deleted 0 objects without a row and 0 replaced files, forgot 0 kept answers\n";
    assert_eq!(work("86400").await, nothing);
    assert!(app.s3.keys().contains(&orphan));

    // An object's time is in whole seconds, and this one is of now.
    let mut said = work("0").await;
    for _ in 0..20 {
        if said != nothing {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        said = work("0").await;
    }
    assert_eq!(said, nothing.replacen('0', "1", 1));
    assert_eq!(app.s3.keys(), kept);
    assert_eq!(work("0").await, nothing);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_round_that_fails_says_why(pool: PgPool) {
    let mut app = TestApp::start(pool).await;
    app.s3.stop().await;
    let mut command = rollcall_api(&["work", "--once", "--log-filter", "off"]);
    command.envs(app.environment());
    let told = ended(command).await.complaint();
    assert!(told.contains("storage_unavailable"), "{told}");
}
