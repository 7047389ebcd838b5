//! `serve`: what it refuses to start on, how it stops, what it logs; tokens over two processes.

use reqwest::Method;
use rollcall_api::auth::tokens;
use rollcall_store::schema;
use rollcall_tests::program::{Ended, ended, rollcall_api};
use rollcall_tests::{Client, Credential, TestApp, send};
use serde_json::json;
use sqlx::PgPool;

use crate::server::Server;

async fn refused(app: &TestApp, flags: &[&str]) -> Ended {
    let mut command = rollcall_api(&[&["serve"], flags].concat());
    command.envs(app.environment());
    ended(command).await
}

/// Sets the schema's version to the wanted one and so many more.
async fn shift_schema(pool: &PgPool, by: i64) {
    sqlx::query("update _sqlx_migrations set version = version + $1 where version = $2")
        .bind(by)
        .bind(schema::wanted())
        .execute(pool)
        .await
        .expect("another version");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_older_and_a_newer_schema_are_refused_by_number(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let wanted = schema::wanted();
    shift_schema(&pool, 7).await;
    let newer = refused(&app, &[]).await.complaint();
    assert!(
        newer.contains(&format!("at version {}", wanted + 7))
            && newer.contains(&format!("wants {wanted}"))
            && newer.contains("newer build"),
        "{newer}"
    );
    sqlx::query("delete from _sqlx_migrations where version > $1")
        .bind(wanted)
        .execute(&pool)
        .await
        .expect("an older version");
    let older = refused(&app, &[]).await.complaint();
    assert!(
        older.contains(&format!("at version {}", wanted - 1))
            && older.contains(&format!("wants {wanted}"))
            && older.contains("rollcall-api migrate"),
        "{older}"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn an_empty_database_is_refused(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    sqlx::query("drop table _sqlx_migrations")
        .execute(&pool)
        .await
        .expect("as if nothing was migrated");
    let told = refused(&app, &[]).await.complaint();
    assert!(
        told.contains("version 0") && told.contains("rollcall-api migrate"),
        "{told}"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_be_configured_so_is_told_in_a_sentence(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let taken = app.addr().to_string();
    let missing = app.folder().join("missing.pem");
    let missing = missing.to_str().expect("UTF-8");
    let rubbish = app.folder().join("rubbish.pem");
    std::fs::write(&rubbish, "rubbish").expect("written");
    let rubbish = rubbish.to_str().expect("UTF-8");
    for (flags, parts) in [
        (["--listen", &taken], [taken.as_str(), "--listen"]),
        (["--jwt-key", missing], [missing, "No such file"]),
        (["--jwt-key", rubbish], [rubbish, "admin jwt-key"]),
        (
            ["--signed-keys-secret", "short"],
            ["--signed-keys-secret", "32"],
        ),
        (["--log-filter", "loud"], ["loud", "--log-filter"]),
    ] {
        let told = refused(&app, &flags).await.complaint();
        for part in parts {
            assert!(told.contains(part), "{flags:?}: {told}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_server_that_is_told_to_stop_ends_well(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let server = Server::start(&app, |_| {}).await;
    assert_eq!(server.client.get("/readyz").await.status, 200);
    let ended = server.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("stopping"), "{}", ended.stderr);
}

async fn token(client: &Client) -> String {
    let answer = client.get("/v1/auth").await.json();
    answer["meta"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

#[sqlx::test(migrations = "../migrations")]
async fn keys_of_tokens_rotate_by_configuration(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let key = |name: &str| {
        let path = app.folder().join(name);
        std::fs::write(&path, tokens::generate_pem().expect("a key")).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (old, new) = (key("old.pem"), key("new.pem"));
    let server = async |keys: &str| {
        Server::start(&app, |command| {
            command.args(["--jwt-key", keys]);
        })
        .await
    };
    let opens = async |server: &Server, token: &str| {
        let client = server.client.with(Credential::Bearer(token.to_owned()));
        client.get(&app.sessions()).await.status.as_u16()
    };
    let two = format!("{new},{old}");
    let (first, both, last) = tokio::join!(server(&old), server(&two), server(&new));
    let admin = |server: &Server| server.client.with(app.admin.credential.clone());
    let before = token(&admin(&first)).await;
    let after = token(&admin(&both)).await;
    assert_eq!(
        (opens(&both, &before).await, opens(&both, &after).await),
        (200, 200)
    );
    assert_eq!(
        (opens(&first, &after).await, opens(&last, &before).await),
        (401, 401)
    );
    assert_eq!(opens(&last, &after).await, 200);
    let published = async |server: &Server| {
        let keys = server.client.get("/.well-known/jwks.json").await.json();
        keys["keys"].as_array().expect("keys").clone()
    };
    let of_both = published(&both).await;
    assert_eq!(
        of_both,
        [published(&last).await, published(&first).await].concat()
    );
    assert!(
        of_both.iter().all(|key| key.get("d").is_none()),
        "{of_both:?}"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn without_a_key_to_sign_with_no_token_is_given(pool: PgPool) {
    let app = TestApp::start_with(pool, |config| config.credentials.jwt_keys.clear()).await;
    assert_eq!(
        app.admin.get("/v1/auth").await.error(),
        (503, "tokens_not_configured".into())
    );
    let keys = app.anonymous().get("/.well-known/jwks.json").await;
    assert_eq!(keys.json(), json!({ "keys": [] }));
    let token = app.admin.with(Credential::Bearer("a.b.c".into()));
    assert_eq!(token.get(&app.sessions()).await.status, 401);
}

#[sqlx::test(migrations = "../migrations")]
async fn no_secret_reaches_the_log(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let pem = app.config.credentials.jwt_keys[0].clone();
    let server = Server::start(&app, |command| {
        command.arg("--jwt-key").arg(&pem).args([
            "--log-filter",
            "debug",
            "--signed-keys-secret",
            "a-secret-that-signed-keys-are-derived-from",
        ]);
    })
    .await;
    let admin = server.client.with(app.admin.credential.clone());
    let Credential::Basic { id, secret } = app.admin.credential.clone() else {
        panic!("a key")
    };
    let token = token(&admin).await;
    let form = json!({ "session": { "unit_id": "x", "data": { "note": "what-the-guest-said" } } });
    let request = admin
        .request(
            Method::POST,
            &format!("{}?key=in-the-query", app.sessions()),
        )
        .header("x-request-id", "the-request-to-find");
    send(request.json(&form)).await.result();
    for bearer in [&token, &secret, &format!("{token}x"), "a-wrong-secret"] {
        let client = server.client.with(Credential::Bearer(bearer.to_owned()));
        client.get(&app.sessions()).await;
    }
    let ended = server.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for said in ["the-request-to-find", id.as_str(), &app.org.to_string()] {
        assert!(ended.stderr.contains(said), "{said} is not logged");
    }
    let random = secret
        .strip_prefix(&id)
        .expect("a secret begins with its id");
    for secret in [
        random,
        &token,
        "a-wrong-secret",
        "what-the-guest-said",
        "in-the-query",
        "a-secret-that-signed-keys",
        rollcall_tests::S3::SECRET_KEY,
        "rollcall_test:",
    ] {
        assert!(!ended.stderr.contains(secret), "{secret} is logged");
    }
}
