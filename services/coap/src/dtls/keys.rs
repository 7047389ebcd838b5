//! Pre-shared keys by identity, as a file holds them: lines of `identity:hexkey`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::dtls::Credential;

/// A shorter key could be guessed.
pub const MIN_KEY_BYTES: usize = 16;
const MAX_KEY_BYTES: usize = 64;
/// RFC 4279 tells servers to take identities of up to 128 bytes.
const MAX_IDENTITY_BYTES: usize = 128;

type Map = BTreeMap<Arc<str>, Arc<[u8]>>;

/// Keys of those who may connect. They may be exchanged at any time: who connected with a key that is gone is cut off.
#[derive(Default)]
pub struct Keys {
    held: RwLock<Map>,
    version: AtomicU64,
}

/// Text that is no list of keys. It quotes no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadKeys {
    pub line: usize,
    pub problem: &'static str,
}

impl Keys {
    /// Reads lines of `identity:hexkey`; empty ones and those that begin with `#` are passed over.
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let mut held = Map::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |problem| BadKeys {
                line: at + 1,
                problem,
            };
            let credential: Credential = line.parse().map_err(bad)?;
            let before = held.insert(credential.identity, credential.key);
            if before.is_some() {
                return Err(bad("this identity stands here already"));
            }
        }
        Ok(Self {
            held: RwLock::new(held),
            version: AtomicU64::new(0),
        })
    }

    /// Takes the keys of another list in place of its own.
    pub fn replace(&self, other: Self) {
        let other = other
            .held
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = other;
        self.version.fetch_add(1, Ordering::Release);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a key of this identity.
    pub fn has(&self, identity: &str) -> bool {
        self.find(identity.as_bytes()).is_some()
    }

    /// The one identity, where there is one alone.
    pub fn only(&self) -> Option<Arc<str>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut identities = held.keys();
        let first = identities.next().cloned();
        first.filter(|_| identities.next().is_none())
    }

    /// Changes whenever the keys do.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn find(&self, identity: &[u8]) -> Option<Credential> {
        let identity = std::str::from_utf8(identity).ok()?;
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (identity, key) = held.get_key_value(identity)?;
        Some(Credential {
            identity: identity.clone(),
            key: key.clone(),
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.len())
    }
}

impl std::str::FromStr for Credential {
    type Err = &'static str;

    /// Reads `identity:hexkey`. An identity may have colons; what follows the last one is the key.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (identity, hex) = text
            .rsplit_once(':')
            .ok_or("write identity:key, the key in hexadecimal digits")?;
        if identity.is_empty() || identity.len() > MAX_IDENTITY_BYTES {
            return Err("an identity has 1 to 128 bytes");
        }
        let is_hex = hex.len().is_multiple_of(2) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex {
            return Err("the key is written in pairs of hexadecimal digits");
        }
        if !(MIN_KEY_BYTES * 2..=MAX_KEY_BYTES * 2).contains(&hex.len()) {
            return Err(
                "a key has 16 to 64 bytes (32 to 128 digits); `openssl rand -hex 16` makes one",
            );
        }
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16);
        let key: Result<Arc<[u8]>, _> = (0..hex.len()).step_by(2).map(byte).collect();
        Ok(Self {
            identity: Arc::from(identity),
            key: key.map_err(|_| "the key is written in pairs of hexadecimal digits")?,
        })
    }
}

/// Where dimpl looks keys up; what it found last is who a peer says it is.
pub struct Resolver {
    keys: Arc<Keys>,
    found: Mutex<Option<Credential>>,
}

impl Resolver {
    pub fn new(keys: Arc<Keys>) -> Self {
        Self {
            keys,
            found: Mutex::new(None),
        }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What was found since the last call.
    pub fn take(&self) -> Option<Credential> {
        self.found
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl dimpl::PskResolver for Resolver {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let found = self.keys.find(identity);
        let key = found.as_ref().map(|credential| credential.key.to_vec());
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        key
    }
}

impl dimpl::PskResolver for Credential {
    /// A client's: it has one key.
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_mistakes_are_named_without_keys() {
        let keys = Keys::parse(
            "# devices\n\ndesk:000102030405060708090a0b0c0d0e0f\n  urn:dev:1:ffffffffffffffffffffffffffffffff \n",
        )
        .unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.find(b"desk").unwrap().key[15], 15);
        assert!(keys.find(b"urn:dev:1").is_some());
        assert!(keys.find(b"nobody").is_none());
        assert!(keys.find(b"\xff").is_none());
        for (text, line) in [
            ("desk", 1),
            ("\ndesk:0011", 2),
            (":000102030405060708090a0b0c0d0e0f", 1),
            ("desk:zz0102030405060708090a0b0c0d0e0f", 1),
            (
                "a:000102030405060708090a0b0c0d0e0f\na:000102030405060708090a0b0c0d0e0f",
                2,
            ),
        ] {
            let error = Keys::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("0001"), "{error}");
        }
    }
}
