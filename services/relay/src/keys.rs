//! Keys of DTLS, those of devices and our own: from files, which are read again when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rollcall_coap::dtls::{Keys, Own};
use tokio::task::JoinSet;

use crate::config::BoxDtls;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells whether a file has changed.
type Mark = (SystemTime, u64);

/// A file of keys, and what was read from it last.
pub struct KeyFile {
    path: PathBuf,
    pub keys: Arc<Keys>,
    mark: Mark,
}

impl KeyFile {
    /// Reads the file. One without keys is a mistake: nobody could connect.
    pub fn open(path: &Path) -> Result<Self> {
        let (keys, mark) = read(path)?;
        ensure!(
            !keys.is_empty(),
            "psk_file {} has no keys: write lines of identity:hexkey; `openssl rand -hex 16` makes a key",
            path.display()
        );
        Ok(Self {
            path: path.to_owned(),
            keys: Arc::new(keys),
            mark,
        })
    }

    /// Keeps the keys as the file has them. Where it cannot be read, they stay as they are.
    pub async fn watch(mut self) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let mut failed: Option<Mark> = None;
        loop {
            ticks.tick().await;
            // A file that is just being replaced may be missing for a moment; the next look finds it.
            let Ok(mark) = mark(&self.path) else {
                continue;
            };
            if mark == self.mark || failed == Some(mark) {
                continue;
            }
            match read(&self.path) {
                Ok((keys, mark)) => {
                    tracing::info!(
                        file = %self.path.display(), keys = keys.len(),
                        "the keys were read anew"
                    );
                    self.keys.replace(keys);
                    (self.mark, failed) = (mark, None);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(%error, "the keys stay as they were");
                    failed = Some(mark);
                }
            }
        }
    }
}

/// The files that hold our own keys, each read once.
#[derive(Default)]
pub struct OwnKeys(BTreeMap<PathBuf, KeyFile>);

impl OwnKeys {
    /// What we connect to a box as.
    pub fn find(&mut self, of_dtls: &BoxDtls) -> Result<Own> {
        let path = &of_dtls.psk_file;
        if !self.0.contains_key(path) {
            self.0.insert(path.clone(), KeyFile::open(path)?);
        }
        let keys = self.0[path].keys.clone();
        let identity = match &of_dtls.identity {
            Some(identity) => Arc::from(identity.as_str()),
            None => keys.only().with_context(|| {
                format!(
                    "psk_file {} has several keys: say with dtls.identity which of them the box knows",
                    path.display()
                )
            })?,
        };
        ensure!(
            keys.has(&identity),
            "psk_file {} has no key of the identity `{identity}`: write a line {identity}:hexkey, with the key that the box has",
            path.display()
        );
        Ok(Own { keys, identity })
    }

    /// Keeps the keys as the files have them.
    pub fn watch(self, tasks: &mut JoinSet<()>) {
        for file in self.0.into_values() {
            tasks.spawn(file.watch());
        }
    }
}

/// What is looked at before it is read, so that no change is overlooked.
fn mark(path: &Path) -> Result<Mark> {
    let about = std::fs::metadata(path)?;
    Ok((about.modified()?, about.len()))
}

fn read(path: &Path) -> Result<(Keys, Mark)> {
    let name = || format!("read psk_file {}", path.display());
    let mark = mark(path).with_context(name)?;
    let text = std::fs::read_to_string(path).with_context(name)?;
    warn_of_readers(path);
    Ok((Keys::parse(&text).with_context(name)?, mark))
}

/// Says so where everybody on the machine may read the keys.
fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |about| about.permissions().mode());
    if mode & 0o004 != 0 {
        tracing::warn!(
            file = %path.display(),
            "everybody on this machine may read the keys: chmod 600, and change the keys"
        );
    }
}
