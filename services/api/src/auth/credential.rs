//! From an `Authorization` header to a [`Principal`].

use actix_web::HttpRequest;
use data_encoding::BASE64;
use rollcall_model::{OrgId, Permission, ProjectId};
use rollcall_store::api_keys::{self, ApiKey};
use time::OffsetDateTime;

use super::{Principal, keys, signed};
use crate::App;
use crate::error::{ApiError, Problem};

/// What a request presents.
enum Credential {
    /// A key's id and secret, as Basic or inside Bearer.
    Key { id: String, secret: String },
    /// A token of `/v1/auth`.
    Token(String),
}

/// The principal of a request.
pub(super) async fn check(app: &App, req: &HttpRequest) -> Result<Principal, ApiError> {
    match read(req)? {
        Credential::Key { id, secret } => check_key(app, req, &id, &secret).await,
        Credential::Token(token) => check_token(app, &token).await,
    }
}

/// The principal of a request that must use Basic: `/v1/auth` gives no token for a token.
pub async fn basic_only(app: &App, req: &HttpRequest) -> Result<Principal, ApiError> {
    let is_basic =
        authorization(req).is_some_and(|value| scheme(value).0.eq_ignore_ascii_case("basic"));
    if !is_basic {
        return Err(unauthenticated(
            "credential_missing",
            "send a key's id and secret as HTTP Basic authentication",
        ));
    }
    check(app, req).await
}

/// Reads the header, or the vendor's literal name for it (M2).
fn authorization(req: &HttpRequest) -> Option<&str> {
    ["authorization", "http-authorization"]
        .iter()
        .find_map(|name| req.headers().get(*name)?.to_str().ok())
}

fn timestamp(req: &HttpRequest) -> Option<&str> {
    ["x-api-timestamp", "http-x-api-timestamp"]
        .iter()
        .find_map(|name| req.headers().get(*name)?.to_str().ok())
}

fn scheme(value: &str) -> (&str, &str) {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value, ""));
    (scheme, rest.trim())
}

fn read(req: &HttpRequest) -> Result<Credential, ApiError> {
    let Some(value) = authorization(req) else {
        return Err(unauthenticated(
            "credential_missing",
            "send an API key: as HTTP Basic (id and secret), or its secret as a Bearer token",
        ));
    };
    let malformed = || {
        unauthenticated(
            "credential_malformed",
            "the Authorization header is neither `Basic <base64 of id:secret>` nor `Bearer <secret or token>`",
        )
    };
    let (scheme, rest) = scheme(value);
    let pair = |text: &str| {
        let (id, secret) = text.split_once(':')?;
        Some(Credential::Key {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    };
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = BASE64
            .decode(rest.as_bytes())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        return decoded.and_then(|text| pair(&text)).ok_or_else(malformed);
    }
    if !scheme.eq_ignore_ascii_case("bearer") || rest.is_empty() {
        return Err(malformed());
    }
    if let Some(key) = pair(rest) {
        return Ok(key);
    }
    Ok(match keys::id_of(rest) {
        Some(id) => Credential::Key {
            id: id.to_owned(),
            secret: rest.to_owned(),
        },
        None => Credential::Token(rest.to_owned()),
    })
}

async fn check_token(app: &App, token: &str) -> Result<Principal, ApiError> {
    let claims = app
        .tokens
        .as_ref()
        .and_then(|tokens| tokens.verify(token))
        .ok_or_else(|| {
            unauthenticated(
                "token_invalid",
                "the token is not one of ours, or it has expired; get another at /v1/auth",
            )
        })?;
    let (org, key) = find(app, &claims.sub).await?.ok_or_else(unknown)?;
    admit(app, org, key)
}

async fn check_key(
    app: &App,
    req: &HttpRequest,
    id: &str,
    secret: &str,
) -> Result<Principal, ApiError> {
    let found = find(app, id).await?;
    let signed_at = timestamp(req);
    let salted = found
        .as_ref()
        .and_then(|(_, key)| key.signed_salt.as_deref());
    if let Some(salt) = salted {
        check_signature(app, id, secret, signed_at, salt)?;
    } else {
        // An unknown key is compared too, with what no secret hashes to, so that its answer takes as long.
        let stored = found
            .as_ref()
            .and_then(|(_, key)| key.secret_hash.as_deref())
            .unwrap_or(&[0; 32]);
        if !keys::matches(secret, stored) {
            return Err(if signed_at.is_some() {
                bad_signature()
            } else {
                unknown()
            });
        }
    }
    let (org, key) = found.ok_or_else(unknown)?;
    admit(app, org, key)
}

/// Whether the principal's key still opens anything; for requests that last. A store that is away says nothing against it.
pub async fn still_holds(app: &App, who: &Principal) -> bool {
    match api_keys::find_for_authentication(&app.db, who.org, &who.key_id).await {
        Ok(Some(key)) => {
            let now = OffsetDateTime::now_utc();
            key.revoked_at.is_none() && key.expires_at.is_none_or(|end| end > now)
        }
        Ok(None) => false,
        Err(_) => true,
    }
}

async fn find(app: &App, id: &str) -> Result<Option<(OrgId, ApiKey)>, ApiError> {
    let Some(org) = keys::org_of(id) else {
        return Ok(None);
    };
    let key = api_keys::find_for_authentication(&app.db, org, id).await?;
    Ok(key.map(|key| (org, key)))
}

fn check_signature(
    app: &App,
    id: &str,
    given: &str,
    timestamp: Option<&str>,
    salt: &[u8],
) -> Result<(), ApiError> {
    let configured = app.signed_keys_secret.as_ref().ok_or_else(bad_signature)?;
    let timestamp = timestamp.ok_or_else(bad_signature)?;
    let secret = signed::secret_of(configured, id, salt);
    if !signed::matches(given, id, timestamp, &secret) {
        return Err(bad_signature());
    }
    if !signed::is_fresh(timestamp, OffsetDateTime::now_utc().unix_timestamp()) {
        return Err(ApiError::Forbidden(Problem::new(
            "timestamp_too_far",
            format!(
                "X-API-TIMESTAMP is more than {} seconds away from our clock; see /api/v1/time",
                signed::WINDOW_SECONDS
            ),
        )));
    }
    Ok(())
}

/// The secret was right; whether the key still opens anything.
fn admit(app: &App, org: OrgId, key: ApiKey) -> Result<Principal, ApiError> {
    let now = OffsetDateTime::now_utc();
    if key.revoked_at.is_some() {
        return Err(unauthenticated(
            "key_revoked",
            "this key was revoked; use another",
        ));
    }
    if key.expires_at.is_some_and(|end| end <= now) {
        return Err(unauthenticated(
            "key_expired",
            "this key has expired; use another",
        ));
    }
    if key
        .last_used_at
        .is_none_or(|last| now - last > time::Duration::MINUTE)
    {
        let (db, id) = (app.db.clone(), key.id.clone());
        // Nobody waits for it, and losing one matters to nobody.
        actix_web::rt::spawn(async move {
            let noted: Result<(), rollcall_store::Error> = db
                .tenant(org, async |tx| api_keys::note_use(tx, &id).await)
                .await;
            if let Err(error) = noted {
                tracing::debug!(%error, "a key's use was not noted");
            }
        });
    }
    Ok(Principal {
        org,
        project: key.project_id.and_then(ProjectId::new),
        permissions: key
            .permissions
            .iter()
            .filter_map(|name| name.parse::<Permission>().ok())
            .collect(),
        key_id: key.id,
    })
}

fn unauthenticated(code: &'static str, message: &str) -> ApiError {
    ApiError::Unauthenticated(Problem::new(code, message))
}

fn unknown() -> ApiError {
    unauthenticated(
        "credential_unknown",
        "no key has this id and secret; check both, or make a new key",
    )
}

fn bad_signature() -> ApiError {
    ApiError::Forbidden(Problem::new(
        "signature_wrong",
        "the signed request is not right: the password must be Base64(HMAC-SHA256(\"name:<id>;timestamp:<ts>;\", secret)) \
         with the same timestamp in X-API-TIMESTAMP",
    ))
}
