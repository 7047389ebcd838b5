//! Background work: what is swept, and what is not.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use reqwest::Method;
use rollcall_api::work::{Done, Work};
use rollcall_model::{AttachmentId, ObjectKey, OrgId, SessionId};
use rollcall_tests::{S3, TestApp, send};
use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;

async fn work(app: &TestApp, orphans_before: OffsetDateTime, keep_replaced: Duration) -> Done {
    let inner = app.app();
    let work = Work {
        db: &inner.db,
        objects: &inner.objects,
        metrics: &inner.metrics,
        orphans_before,
        keep_replaced,
    };
    work.once().await.expect("a round")
}

async fn plant(app: &TestApp, key: &str) {
    let config = app
        .s3
        .client_config()
        .endpoint_url(app.s3.endpoint())
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    client
        .put_object()
        .bucket(S3::BUCKET)
        .key(key)
        .body(ByteStream::from_static(b"x"))
        .send()
        .await
        .expect("stored");
}

#[sqlx::test(migrations = "../migrations")]
async fn objects_without_a_row_go_and_nothing_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "s", "unit_id": "u" } }),
        )
        .await
        .result();
    let path = format!("{}/s/attachments/photo", app.sessions());
    let put = app
        .admin
        .request(Method::PUT, &path)
        .header("content-type", "application/octet-stream");
    send(put.body("bytes")).await.result();
    let held = app.s3.keys();
    let orphan = |org| ObjectKey {
        org,
        project: app.project,
        session: SessionId::of(org, "forms-1", "x"),
        attachment: AttachmentId::generate(),
    };
    let foreign = [
        orphan(OrgId::generate()).to_string(),
        format!("{}/note.txt", app.org),
        "readme".into(),
    ];
    for key in &foreign {
        plant(&app, key).await;
    }
    for org in [app.org, app.org] {
        plant(&app, &orphan(org).to_string()).await;
    }
    let keep = Duration::from_secs(86_400);
    let now = OffsetDateTime::now_utc();
    assert_eq!(
        work(&app, now - time::Duration::HOUR, keep).await,
        Done::default(),
        "too young"
    );
    let later = now + time::Duration::HOUR;
    assert_eq!(
        work(&app, later, keep).await,
        Done {
            orphans: 2,
            ..Done::default()
        }
    );
    assert_eq!(work(&app, later, keep).await, Done::default());
    let mut left = [held, foreign.to_vec()].concat();
    left.sort();
    assert_eq!(app.s3.keys(), left);
    assert_eq!(app.reader.get(&path).await.bytes, b"bytes");
}

#[sqlx::test(migrations = "../migrations")]
async fn replaced_files_and_kept_answers_go_in_time(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.admin
        .post(
            &app.sessions(),
            &json!({ "session": { "uuid": "s", "unit_id": "u" } }),
        )
        .await
        .result();
    let path = format!("{}/s/attachments/photo", app.sessions());
    for bytes in ["old", "new"] {
        let put = app
            .admin
            .request(Method::PUT, &path)
            .header("content-type", "application/octet-stream");
        send(put.header("idempotency-key", bytes).body(bytes))
            .await
            .result();
    }
    let past = OffsetDateTime::UNIX_EPOCH;
    let keep = Duration::from_secs(30 * 86_400);
    assert_eq!(work(&app, past, keep).await, Done::default());
    for statement in [
        "update attachments set retired_at = now() - interval '31 days' where retired_at is not null",
        "update idempotency_keys set created_at = now() - interval '25 hours' where key = 'old'",
    ] {
        sqlx::query(statement)
            .execute(&app.superuser)
            .await
            .expect("aged");
    }
    assert_eq!(app.s3.keys().len(), 2);
    assert_eq!(
        work(&app, past, keep).await,
        Done {
            retired: 1,
            answers: 1,
            ..Done::default()
        }
    );
    assert_eq!(
        (app.s3.keys().len(), app.stored().await.attachments),
        (1, 1)
    );
    assert_eq!(app.reader.get(&path).await.bytes, b"new");
    let revisions = app
        .reader
        .get(&format!("{}/s/revisions", app.sessions()))
        .await
        .result();
    assert_eq!(
        revisions[1]["session"]["data"]["photo"]["length"], 3,
        "still described"
    );
}
