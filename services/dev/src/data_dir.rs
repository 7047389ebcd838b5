//! The data folder: one `rollcall` at a time works in it, what it must remember is in `state.json`, and nothing in
//! it is ever deleted.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::secrets;

/// A data folder that this process holds alone.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked while open. The kernel lets go of the lock when the process dies, however it dies.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if need be (for its owner only) and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("the data folder {} cannot be created. Choose another one with --data-dir", path.display())
        })?;
        // Absolute and without links: compared with what the kernel says of a server's working folder.
        let path = path.canonicalize().with_context(|| format!("find the data folder {}", path.display()))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What earlier runs have noted; empty on the first one.
    pub(crate) fn read_state(&self) -> Result<State> {
        read_json(&self.state_path())
    }

    /// Replaces `state.json`, which only the owner may read.
    pub(crate) fn write_state(&self, state: &State) -> Result<()> {
        let path = self.state_path();
        let text = serde_json::to_vec_pretty(state).expect("state has only string keys");
        secrets::write_private(&path, &text).with_context(|| format!("write {}", path.display()))
    }

    fn state_path(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

/// What the next run must find again.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) postgres_port: Option<u16>,
    pub(crate) s3_port: Option<u16>,
    pub(crate) s3_keys: Option<S3Keys>,
    /// The demo key, secret included: the database has only a hash of it.
    pub(crate) api_key: Option<ApiKey>,
}

/// The credentials of the S3 server in this process.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct S3Keys {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

/// A key of the api, as its user needs it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

fn read_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    serde_json::from_slice(&text).map_err(|error| {
        anyhow!(
            "{} is damaged ({error}). It holds the ports and the keys of this data folder, none of its data. Mend it, or \
             move it away: new ports and keys are then made.",
            path.display()
        )
    })
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| {
            format!(
                "the data folder {} cannot be written to. Run as the user it belongs to, or choose another one with --data-dir",
                folder.display()
            )
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(
                "rollcall already runs on the data folder {} (process {}). Use that one, stop it with Ctrl-C, or choose \
                 another folder with --data-dir.",
                folder.display(),
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| {
                format!("{} cannot be locked. Choose a folder on a local disk with --data-dir", path.display())
            });
        }
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_damaged_one_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("a/b")).unwrap();
        assert!(data.read_state().unwrap().postgres_port.is_none());
        data.write_state(&State { postgres_port: Some(21_000), ..State::default() }).unwrap();
        assert_eq!(data.read_state().unwrap().postgres_port, Some(21_000));
        std::fs::write(data.state_path(), "{\"postgres_port\": ").unwrap();
        let error = data.read_state().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("move it away"), "{error}");
    }

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataDir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_in_the_folders_place_is_refused_with_the_flags_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).map(|_| ()).unwrap_err();
        assert!(format!("{error:#}").contains("--data-dir"), "{error:#}");
    }
}
