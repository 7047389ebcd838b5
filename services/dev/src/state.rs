//! `state.json` in the data folder: what the next run must find again. It holds secrets, and no data.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::secrets;

/// The file's content. All of it can be made anew, so an older file may lack what a newer build wants.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) postgres_port: Option<u16>,
    pub(crate) s3_port: Option<u16>,
    pub(crate) s3_keys: Option<S3Keys>,
    /// As whom the api logs in to Postgres.
    pub(crate) login: Option<Login>,
    /// Secret that the secrets of keys for signed requests are derived from.
    pub(crate) signed_keys_secret: Option<String>,
    /// The demo key, secret included: the database has only a hash of it.
    pub(crate) api_key: Option<ApiKey>,
    pub(crate) relay: Option<RelayState>,
}

/// The relay of a data folder.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RelayState {
    /// Of the relay, and of its transmitter.
    pub(crate) name: String,
    pub(crate) key: ApiKey,
}

/// The credentials of the S3 server in this process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct S3Keys {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

impl S3Keys {
    pub(crate) fn generate() -> Self {
        Self {
            access_key: secrets::random_hex(10),
            secret_key: secrets::random_hex(32),
        }
    }
}

/// A role of Postgres's.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl Login {
    /// Two data folders on one server must not change each other's password, so each has a role of its own.
    pub(crate) fn generate() -> Self {
        Self {
            name: format!("rollcall_up_{}", secrets::random_hex(4)),
            password: secrets::random_hex(16),
        }
    }
}

/// A key of the api, as its user needs it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl State {
    /// What earlier runs have noted; empty on the first one.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("state.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        serde_json::from_slice(&text).map_err(|error| {
            anyhow!(
                "{} is damaged ({error}). It holds the ports and the keys of this data folder, none of its data. Mend it, \
                 or move it away: new ports and keys are then made.",
                path.display()
            )
        })
    }

    /// Replaces the file, which only its owner may read.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join("state.json");
        let text = serde_json::to_vec_pretty(self).expect("all keys are strings");
        secrets::write_private(&path, &text).with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_damaged_one_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        assert!(State::read(folder.path()).unwrap().postgres_port.is_none());
        let state = State {
            postgres_port: Some(21_000),
            ..State::default()
        };
        state.write(folder.path()).unwrap();
        assert_eq!(
            State::read(folder.path()).unwrap().postgres_port,
            Some(21_000)
        );
        std::fs::write(folder.path().join("state.json"), "{\"postgres_port\": ").unwrap();
        let error = State::read(folder.path())
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("state.json") && error.contains("move it away"),
            "{error}"
        );
    }
}
