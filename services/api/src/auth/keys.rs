//! API keys: how their ids and secrets look, and how a secret is checked.
//!
//! An id carries its organization, so that a key is looked up by the store's own primary key. A secret begins with the
//! id, so that it is a whole credential by itself (as Bearer). Only a secret's SHA-256 is stored: 256 random bits need
//! no salt and no slow hash.

use aws_lc_rs::{constant_time, digest, rand};
use data_encoding::BASE32_NOPAD;
use rollcall_model::OrgId;
use uuid::Uuid;

const PREFIX: &str = "rk_";
/// Base32 of 16 bytes of organization and 8 random ones.
const ID_CHARS: usize = 39;
/// Base32 of 32 random bytes.
const SECRET_CHARS: usize = 52;

/// A key's id and secret, fresh from the random generator.
#[derive(Debug)]
pub struct NewKey {
    pub id: String,
    pub secret: String,
}

/// Makes a key for `org`. Fails only where the operating system gives no randomness.
pub fn generate(org: OrgId) -> anyhow::Result<NewKey> {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(org.0.as_bytes());
    random(&mut bytes[16..])?;
    let id = format!("{PREFIX}{}", encode(&bytes));
    let mut secret = [0; 32];
    random(&mut secret)?;
    Ok(NewKey {
        secret: format!("{id}_{}", encode(&secret)),
        id,
    })
}

/// The organization that a key's id names, or `None` where the text is no id.
pub fn org_of(id: &str) -> Option<OrgId> {
    let chars = id
        .strip_prefix(PREFIX)
        .filter(|chars| chars.len() == ID_CHARS)?;
    if chars.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let bytes = BASE32_NOPAD
        .decode(chars.to_ascii_uppercase().as_bytes())
        .ok()?;
    Some(OrgId(Uuid::from_slice(bytes.get(..16)?).ok()?))
}

/// The id that a secret begins with.
pub fn id_of(secret: &str) -> Option<&str> {
    let id = secret.get(..PREFIX.len() + ID_CHARS)?;
    let rest = &secret[id.len()..];
    (rest.starts_with('_') && rest.len() == SECRET_CHARS + 1 && id.starts_with(PREFIX))
        .then_some(id)
}

/// What is stored of a secret.
pub fn hash(secret: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Whether `secret` is the one that `stored` is of, in a time that does not tell how much of it is right.
pub fn matches(secret: &str, stored: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(&hash(secret), stored).is_ok()
}

/// Fills `bytes` with randomness.
pub fn random(bytes: &mut [u8]) -> anyhow::Result<()> {
    rand::fill(bytes).map_err(|_| anyhow::anyhow!("the operating system gives no randomness"))
}

fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_organization_and_a_secret_its_id() {
        let org = OrgId::generate();
        let key = generate(org).expect("randomness");
        assert_eq!(org_of(&key.id), Some(org));
        assert_eq!(id_of(&key.secret), Some(key.id.as_str()));
        assert!(matches(&key.secret, &hash(&key.secret)));
        assert!(!matches(&key.id, &hash(&key.secret)));
        assert_ne!(generate(org).expect("randomness").secret, key.secret);
    }

    #[test]
    fn other_text_is_no_id() {
        for text in [
            "",
            "rk_",
            "demo",
            "rk_\0",
            &"a".repeat(42),
            &format!("rk_{}", "A".repeat(39)),
            "rk_é",
        ] {
            assert_eq!(org_of(text), None, "{text}");
            assert_eq!(id_of(text), None, "{text}");
        }
    }
}
