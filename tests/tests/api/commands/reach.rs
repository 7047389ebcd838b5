//! Who may give commands, and who sees them.

use rollcall_model::Permission;
use rollcall_store::api_keys;
use rollcall_tests::Credential;
use serde_json::json;
use sqlx::PgPool;

use super::{desk, page, paged};

#[sqlx::test(migrations = "../migrations")]
async fn commands_need_their_own_permission(pool: PgPool) {
    let (app, _, guest) = desk(pool).await;
    let create = json!({ "data": { "type": "sessions", "attributes": { "number": 13 } } });
    let others = [
        Permission::SessionsRead,
        Permission::SessionsWrite,
        Permission::Ingest,
    ];
    let without = app.client(None, &others).await;
    for answer in [
        page(&without, guest, "").await,
        without.post("/v1/services/desk/sessions", &create).await,
    ] {
        assert_eq!(answer.error(), (403, "permission_missing".into()));
    }
    let with = app.client(None, &[Permission::CommandsWrite]).await;
    let id = paged(&with, guest, "").await;
    assert_eq!(
        with.post("/v1/services/desk/sessions", &create)
            .await
            .status,
        202
    );
    for path in ["/v1/commands".to_owned(), format!("/v1/commands/{id}")] {
        assert_eq!(
            with.get(&path).await.error(),
            (403, "permission_missing".into())
        );
        assert_eq!(app.reader.get(&path).await.status, 200);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_gives_commands_until_it_is_revoked(pool: PgPool) {
    let (app, _, guest) = desk(pool).await;
    let with = app.client(None, &[Permission::CommandsWrite]).await;
    paged(&with, guest, "").await;
    let Credential::Basic { id, .. } = &with.credential else {
        panic!("a key");
    };
    sqlx::query("update api_keys set permissions = '{}' where id = $1")
        .bind(id)
        .execute(&app.superuser)
        .await
        .expect("taken");
    assert_eq!(
        page(&with, guest, "").await.error(),
        (403, "permission_missing".into())
    );
    let revoked: Result<bool, rollcall_store::Error> = app
        .db
        .tenant(app.org, async |tx| api_keys::revoke(tx, id).await)
        .await;
    assert!(revoked.expect("revoked"));
    assert_eq!(
        page(&with, guest, "").await.error(),
        (401, "key_revoked".into())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_commands_or_sees_what_is_not_theirs(pool: PgPool) {
    let (app, _, guest) = desk(pool).await;
    let id = paged(&app.admin, guest, "").await;
    let create = json!({ "data": { "type": "sessions", "attributes": { "number": 13 } } });
    let second = app.second_project().await;
    let bound = app.client(Some(second), &[Permission::Admin]).await;
    for client in [&app.stranger, &bound] {
        assert_eq!(
            page(client, guest, "").await.error(),
            (404, "session_not_found".into())
        );
        let answer = client.post("/v1/services/desk/sessions", &create).await;
        assert_eq!(answer.error(), (404, "service_not_found".into()));
        let answer = client.get(&format!("/v1/commands/{id}")).await;
        assert_eq!(answer.error(), (404, "command_not_found".into()));
        assert_eq!(client.get("/v1/commands").await.json()["data"], json!([]));
    }
    let own = app.client(Some(app.project), &[Permission::Admin]).await;
    paged(&own, guest, "").await;
    assert_eq!(
        own.get("/v1/commands").await.json()["data"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}
