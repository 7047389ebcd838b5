//! Tokens for keys (proxy contract §1.3, Auth) and the public keys to check them with.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse, get, web};
use rollcall_model::Permission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::App;
use crate::auth;
use crate::error::{ApiError, JsonApiErrors, Problem};
use crate::surfaces::resources::Common;
use crate::surfaces::resources::asked::Asked;

/// Eight hours, as the contract has it.
const DEFAULT_MAX_AGE_SECONDS: u64 = 28_800;

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(create_token).service(list_public_keys);
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TokenQuery {
    /// Life of the token in seconds, from 1; at most what is configured (24 hours, where nothing is).
    #[serde(rename = "max-age")]
    #[param(value_type = Option<u64>, example = 3600, minimum = 1)]
    max_age: Option<String>,
}

/// A token.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "meta": { "token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.e30.c2ln" } }))]
struct TokenDocument {
    meta: TokenMeta,
}

#[derive(Serialize, ToSchema)]
struct TokenMeta {
    /// A JSON Web Token, for `Authorization: Bearer`.
    token: String,
}

/// Public keys (RFC 7517).
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "keys": [{
    "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
    "kid": "NZmLPOEnvHZ9qMSmNF4W8sKT52fVOdes8usk5moprKs",
    "x": "BDALjaEZoZJMacd1S-AkDohjpCy_5O27X-bIdUZavAs",
    "y": "slC97uh1ncHos4QLgFB5sxIxsL1SGlQFzvQbNEga5qc"
}] }))]
struct KeySet {
    #[schema(value_type = Vec<Object>)]
    keys: Vec<Value>,
}

/// Get a token for a key
///
/// Authenticate with HTTP Basic: a token buys no token.
#[utoipa::path(tag = "credentials", params(TokenQuery, Common), security(("basic" = [])), responses(
    (status = 200, description = "The token.", body = TokenDocument),
    (status = 503, description = "No signing key is configured here.", body = JsonApiErrors),
))]
#[get("/v1/auth")]
async fn create_token(
    req: HttpRequest,
    asked: Asked,
    query: web::Query<TokenQuery>,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let who = auth::basic_only(&app, &req).await?;
    let max_age = match query.max_age.as_deref() {
        None => DEFAULT_MAX_AGE_SECONDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| {
                ApiError::invalid(
                    "max_age_invalid",
                    "max-age must be a whole number of seconds, from 1",
                )
            })?,
    };
    let tokens = app.tokens.as_ref().ok_or_else(|| {
        ApiError::Unavailable(Problem::new(
            "tokens_not_configured",
            "this server has no key to sign tokens with; use the API key itself, or have --jwt-key configured",
        ))
    })?;
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or_default();
    let token = tokens.issue(&who.key_id, who.may(Permission::Admin), max_age, now)?;
    let document = TokenDocument {
        meta: TokenMeta { token },
    };
    let style = asked.style()?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type(style.media_type)
        .body(style.json(&document).map_err(anyhow::Error::new)?))
}

/// List the public keys that tokens are signed with
#[utoipa::path(tag = "credentials", responses((status = 200, description = "A JSON Web Key Set.", body = KeySet)))]
#[get("/.well-known/jwks.json")]
async fn list_public_keys(app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let keys = app.tokens.iter().flat_map(|tokens| &tokens.jwks().keys);
    let keys = keys
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()
        .map_err(anyhow::Error::new)?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .json(KeySet { keys }))
}
