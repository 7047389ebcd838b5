//! Keys, tokens and signed requests.

use reqwest::Method;
use rollcall_api::admin::{self, KeySpec};
use rollcall_api::auth::signed;
use rollcall_model::Permission;
use rollcall_tests::{Answer, Client, Credential, SIGNED_KEYS_SECRET, TestApp, send};
use secrecy::SecretString;
use sqlx::PgPool;

fn pair(client: &Client) -> (String, String) {
    match &client.credential {
        Credential::Basic { id, secret } => (id.clone(), secret.clone()),
        other => panic!("{other:?} is no key"),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_opens_as_basic_and_as_bearer(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (id, secret) = pair(&app.reader);
    for bearer in [secret.clone(), format!("{id}:{secret}")] {
        let client = app.reader.with(Credential::Bearer(bearer));
        assert_eq!(client.get(&app.sessions()).await.status, 200);
    }
    let used = "select last_used_at is not null from api_keys where id = $1";
    for _ in 0..200 {
        if sqlx::query_scalar::<_, bool>(used)
            .bind(&id)
            .fetch_one(&app.superuser)
            .await
            .expect("the key")
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the key's use was not noted");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_no_credential_gets_401(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (id, secret) = pair(&app.reader);
    let (_, other) = pair(&app.stranger);
    let wrong = |id: &str, secret: &str| Credential::Basic {
        id: id.into(),
        secret: secret.into(),
    };
    for credential in [
        wrong(&id, ""),
        wrong(&id, "wrong"),
        wrong(&id, &other),
        wrong(&id, &secret.to_uppercase()),
        wrong("", ""),
        wrong("nobody", &secret),
        wrong(&id.replace("rk_a", "rk_b"), &secret),
        wrong("rk_\u{e9}\u{0}", "x"),
        Credential::Bearer(id.clone()),
        Credential::Bearer(secret[1..].to_owned()),
        Credential::Bearer("a.b.c".into()),
    ] {
        let answer = app
            .reader
            .with(credential.clone())
            .get(&app.sessions())
            .await;
        assert_eq!(answer.status, 401, "{credential:?}: {}", answer.text());
        assert!(!answer.text().contains(&secret));
    }
    for header in [
        &b"Basic"[..],
        b"Basic %%%",
        b"Basic YQ==",
        b"Bearer",
        b"Digest x",
        b"",
        b"Basic \xff",
        b"\xff",
    ] {
        let request = app
            .anonymous()
            .request(Method::GET, &app.sessions())
            .header("authorization", header);
        assert_eq!(send(request).await.status, 401, "{header:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_ends(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (id, _) = pair(&app.reader);
    let token = token(&app.reader, "").await;
    let by_token = app.reader.with(Credential::Bearer(token));
    assert_eq!(by_token.get(&app.sessions()).await.status, 200);
    sqlx::query("update api_keys set expires_at = now() - interval '1 second' where id = $1")
        .bind(&id)
        .execute(&app.superuser)
        .await
        .expect("expired");
    assert_eq!(
        app.reader.get(&app.sessions()).await.error(),
        (401, "key_expired".into())
    );
    sqlx::query("update api_keys set expires_at = null, revoked_at = now() where id = $1")
        .bind(&id)
        .execute(&app.superuser)
        .await
        .expect("revoked");
    assert_eq!(
        app.reader.get(&app.sessions()).await.error(),
        (401, "key_revoked".into())
    );
    assert_eq!(
        by_token.get(&app.sessions()).await.error(),
        (401, "key_revoked".into())
    );
}

async fn token(client: &Client, query: &str) -> String {
    let answer = client.get(&format!("/v1/auth{query}")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("cache-control")),
        (200, Some("no-store")),
        "{}",
        answer.text()
    );
    answer.json()["meta"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

fn claims(token: &str) -> serde_json::Value {
    let part = token.split('.').nth(1).expect("claims");
    let bytes = data_encoding::BASE64URL_NOPAD
        .decode(part.as_bytes())
        .expect("Base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[sqlx::test(migrations = "../migrations")]
async fn tokens_are_bounded_and_bought_with_keys_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let life = async |query| {
        let claims = claims(&token(&app.reader, query).await);
        claims["exp"].as_u64().expect("exp") - claims["iat"].as_u64().expect("iat")
    };
    assert_eq!(life("").await, 28_800);
    assert_eq!(life("?max-age=60").await, 60);
    assert_eq!(life("?max-age=2147483646").await, 86_400);
    for wrong in ["0", "-1", "x", ""] {
        let answer = app.reader.get(&format!("/v1/auth?max-age={wrong}")).await;
        assert_eq!(answer.error(), (400, "max_age_invalid".into()));
        assert!(answer.json()["errors"][0]["detail"].is_string());
    }
    let bearer = app
        .reader
        .with(Credential::Bearer(token(&app.reader, "").await));
    assert_eq!(
        bearer.get("/v1/auth").await.error(),
        (401, "credential_missing".into())
    );
    assert_eq!(
        app.anonymous().get("/v1/auth").await.error(),
        (401, "credential_missing".into())
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_published_key_verifies_a_token_and_no_other_token_opens(pool: PgPool) {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{
        Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    };
    let app = TestApp::start(pool).await;
    let good = token(&app.reader, "").await;
    let keys: JwkSet =
        serde_json::from_slice(&app.anonymous().get("/.well-known/jwks.json").await.bytes)
            .expect("a key set");
    let kid = decode_header(&good).expect("a header").kid.expect("a kid");
    let jwk = keys.find(&kid).expect("it is published");
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&["rollcall"]);
    rules.set_issuer(&["rollcall"]);
    let key = DecodingKey::from_jwk(jwk).expect("a key");
    decode::<serde_json::Value>(&good, &key, &rules).expect("it verifies");

    let published = serde_json::to_vec(jwk).expect("JSON");
    let header = Header {
        kid: Some(kid),
        ..Header::new(Algorithm::HS256)
    };
    let confused = encode(
        &header,
        &claims(&good),
        &EncodingKey::from_secret(&published),
    )
    .expect("a token");
    let (head, rest) = good.split_once('.').expect("three parts");
    let none = data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
    let (body, signature) = rest.split_once('.').expect("three parts");
    let mut other = claims(&good);
    other["sub"] = pair(&app.admin).0.into();
    let other = data_encoding::BASE64URL_NOPAD.encode(other.to_string().as_bytes());
    for wrong in [
        confused,
        format!("{none}.{body}."),
        format!("{none}.{body}.{signature}"),
        format!("{head}.{other}.{signature}"),
        format!("{head}.{body}."),
    ] {
        let answer = app
            .reader
            .with(Credential::Bearer(wrong))
            .get(&app.sessions())
            .await;
        assert_eq!(answer.error(), (401, "token_invalid".into()));
    }
}

/// A signed request; `skew` is how far its clock is off.
async fn signed_get(
    app: &TestApp,
    key: &(String, String),
    names: (&str, &str),
    skew: i64,
    forged: bool,
) -> Answer {
    let (id, secret) = key;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let at = (i64::try_from(now.as_secs()).expect("soon") + skew).to_string();
    let password = signed::password(id, &at, if forged { "wrong" } else { secret });
    let basic = format!(
        "Basic {}",
        data_encoding::BASE64.encode(format!("{id}:{password}").as_bytes())
    );
    let request = app.anonymous().request(Method::GET, &app.sessions());
    send(request.header(names.0, basic).header(names.1, at)).await
}

#[sqlx::test(migrations = "../migrations")]
async fn the_vendors_signed_scheme(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let configured = SecretString::from(SIGNED_KEYS_SECRET);
    let spec = KeySpec {
        name: "tablets",
        project: None,
        permissions: &[Permission::SessionsRead],
        expires_at: None,
        signed_with: Some(&configured),
    };
    let made = admin::create_key(&app.db, app.org, &spec)
        .await
        .expect("a key");
    let key = (made.id.clone(), made.secret.clone());
    let names = ("authorization", "x-api-timestamp");
    assert_eq!(signed_get(&app, &key, names, 0, false).await.status, 200);
    assert_eq!(
        signed_get(
            &app,
            &key,
            ("http-authorization", "http-x-api-timestamp"),
            0,
            false
        )
        .await
        .status,
        200
    );
    assert_eq!(signed_get(&app, &key, names, -290, false).await.status, 200);
    for (skew, forged, code) in [
        (-400, false, "timestamp_too_far"),
        (400, false, "timestamp_too_far"),
        (0, true, "signature_wrong"),
    ] {
        let answer = signed_get(&app, &key, names, skew, forged).await;
        assert_eq!(answer.error(), (403, code.into()));
        assert_eq!(answer.json()["status"], "forbidden");
    }
    let bare = app.reader.with(Credential::Basic {
        id: made.id,
        secret: made.secret,
    });
    assert_eq!(
        bare.get(&app.sessions()).await.error(),
        (403, "signature_wrong".into())
    );
}
