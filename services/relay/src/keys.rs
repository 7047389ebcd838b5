//! The keys of devices that speak DTLS: from a file, which is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rollcall_coap::dtls::Keys;

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
                        "the keys of devices were read anew"
                    );
                    self.keys.replace(keys);
                    (self.mark, failed) = (mark, None);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(%error, "the keys of devices stay as they were");
                    failed = Some(mark);
                }
            }
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
            "everybody on this machine may read the keys of devices: chmod 600, and change the keys"
        );
    }
}
