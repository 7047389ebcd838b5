//! The JSON Web Tokens of `GET /v1/auth`: ES256, checked as RFC 8725 asks (algorithm pinned, issuer, audience, expiry).
//!
//! A token is only a shorter way to present a key: the key is looked up on every request, so that revoking it ends its
//! tokens at once.

use std::path::Path;

use anyhow::Context;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
};
use serde::{Deserialize, Serialize};

use crate::config::CredentialArgs;

const ISSUER: &str = "rollcall";
const AUDIENCE: &str = "rollcall";

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    /// The key's id.
    pub sub: String,
    iat: u64,
    exp: u64,
    /// `admin` where the key may administer, else `basic` (proxy contract §1.3).
    account: String,
}

/// The configured keys: the first signs, all verify.
pub struct Tokens {
    signer: EncodingKey,
    verifiers: Vec<(String, DecodingKey)>,
    jwks: JwkSet,
    max_age_seconds: u64,
}

impl Tokens {
    /// Reads the configured private keys; `None` where none is configured.
    pub fn load(args: &CredentialArgs) -> anyhow::Result<Option<Self>> {
        let mut keys = Vec::new();
        for path in &args.jwt_keys {
            keys.push(
                read(path).with_context(|| format!("read the signing key {}", path.display()))?,
            );
        }
        let Some((signer, _)) = keys.first() else {
            return Ok(None);
        };
        let signer = signer.clone();
        let jwks = JwkSet {
            keys: keys.into_iter().map(|(_, jwk)| jwk).collect(),
        };
        let verifier = |jwk: &Jwk| Ok((kid(jwk)?, DecodingKey::from_jwk(jwk)?));
        Ok(Some(Self {
            signer,
            verifiers: jwks
                .keys
                .iter()
                .map(verifier)
                .collect::<anyhow::Result<_>>()?,
            jwks,
            max_age_seconds: args.jwt_max_age_seconds,
        }))
    }

    /// A token for the key, good for `max_age` seconds or the configured most, whichever is less.
    pub fn issue(
        &self,
        key_id: &str,
        is_admin: bool,
        max_age: u64,
        now: u64,
    ) -> anyhow::Result<String> {
        let (kid, _) = self
            .verifiers
            .first()
            .context("a signing key has a verifier")?;
        let header = Header {
            kid: Some(kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: key_id.into(),
            iat: now,
            exp: now.saturating_add(max_age.min(self.max_age_seconds)),
            account: if is_admin { "admin" } else { "basic" }.into(),
        };
        encode(&header, &claims, &self.signer).context("sign a token")
    }

    /// What the token says, where it is ours and has not expired.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        let header = decode_header(token).ok()?;
        let kid = header.kid?;
        let (_, key) = self.verifiers.iter().find(|(known, _)| *known == kid)?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = 5;
        decode::<Claims>(token, key, &rules)
            .ok()
            .map(|data| data.claims)
    }

    /// The public keys (RFC 7517).
    pub fn jwks(&self) -> &JwkSet {
        &self.jwks
    }
}

/// A new private key, as PKCS#8 PEM.
pub fn generate_pem() -> anyhow::Result<String> {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .map_err(|_| anyhow::anyhow!("the operating system gives no randomness"))?;
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in BASE64.encode(document.as_ref()).as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

fn read(path: &Path) -> anyhow::Result<(EncodingKey, Jwk)> {
    let pem = std::fs::read(path)?;
    let key = EncodingKey::from_ec_pem(&pem).context(
        "it is not a P-256 private key in PKCS#8 PEM; `rollcall-api admin jwt-key` makes one",
    )?;
    let mut jwk =
        Jwk::from_encoding_key(&key, Algorithm::ES256).context("it is not a P-256 key")?;
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256)?);
    Ok((key, jwk))
}

fn kid(jwk: &Jwk) -> anyhow::Result<String> {
    jwk.common
        .key_id
        .clone()
        .context("every key was given an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 4_000_000_000;

    fn tokens(dir: &Path, names: &[&str]) -> Tokens {
        let jwt_keys = names.iter().map(|name| dir.join(name)).collect();
        let args = CredentialArgs {
            jwt_keys,
            jwt_max_age_seconds: 60,
            signed_keys_secret: None,
        };
        Tokens::load(&args)
            .expect("the keys load")
            .expect("there are keys")
    }

    fn keys(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for name in names {
            std::fs::write(dir.path().join(name), generate_pem().expect("a key")).expect("written");
        }
        dir
    }

    #[test]
    fn keys_rotate_by_configuration() {
        let dir = keys(&["old", "new"]);
        let token = tokens(dir.path(), &["old"])
            .issue("rk_x", false, 9, NOW)
            .expect("a token");
        let both = tokens(dir.path(), &["new", "old"]);
        assert_eq!(
            both.verify(&token).map(|claims| claims.sub),
            Some("rk_x".into())
        );
        assert_eq!(both.jwks().keys.len(), 2);
        assert!(tokens(dir.path(), &["new"]).verify(&token).is_none());
    }

    #[test]
    fn a_token_lives_no_longer_than_configured_and_ends() {
        let dir = keys(&["k"]);
        let tokens = tokens(dir.path(), &["k"]);
        let long = tokens.issue("rk_x", true, u64::MAX, NOW).expect("a token");
        assert_eq!(
            tokens.verify(&long).map(|claims| claims.exp),
            Some(NOW + 60)
        );
        let old = tokens
            .issue("rk_x", true, 60, 1_000_000_000)
            .expect("a token");
        assert!(tokens.verify(&old).is_none());
    }

    #[test]
    fn another_algorithm_issuer_or_audience_is_refused() {
        let dir = keys(&["k"]);
        let tokens = tokens(dir.path(), &["k"]);
        let (kid, _) = &tokens.verifiers[0];
        let claims = |iss: &str, aud: &str| Claims {
            iss: iss.into(),
            aud: aud.into(),
            sub: "rk_x".into(),
            iat: NOW,
            exp: NOW,
            account: "basic".into(),
        };
        let header = |alg| Header {
            kid: Some(kid.clone()),
            ..Header::new(alg)
        };
        let hs = encode(
            &header(Algorithm::HS256),
            &claims(ISSUER, AUDIENCE),
            &EncodingKey::from_secret(b"x"),
        );
        assert!(tokens.verify(&hs.expect("a token")).is_none());
        for (iss, aud) in [("other", AUDIENCE), (ISSUER, "other")] {
            let token = encode(&header(Algorithm::ES256), &claims(iss, aud), &tokens.signer);
            assert!(
                tokens.verify(&token.expect("a token")).is_none(),
                "{iss} {aud}"
            );
        }
        assert!(tokens.verify("a.b.c").is_none() && tokens.verify("").is_none());
    }
}
