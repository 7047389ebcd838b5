//! The data folder: one `rollcall` at a time works in it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A data folder that this process holds alone.
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked while open. The kernel lets go of the lock when the process dies, however it dies.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if need be (for its owner only) and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| {
                format!(
                    "the data folder {} cannot be created. Choose another one with --data-dir",
                    path.display()
                )
            })?;
        // Absolute and without links: compared with what the kernel says of a server's working folder.
        let path = path
            .canonicalize()
            .with_context(|| format!("find the data folder {}", path.display()))?;
        refuse_strangers(&path)?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Root could write everywhere, and the folder's owner could then not use it any more.
fn refuse_strangers(folder: &Path) -> Result<()> {
    let metadata = folder.metadata();
    let metadata = metadata.with_context(|| format!("look at {}", folder.display()))?;
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        bail!(
            "the data folder {} belongs to the user with number {owner}, and this is the one with number {own}. Run as that \
             user, or choose another folder with --data-dir.",
            folder.display()
        );
    }
    Ok(())
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
                "the data folder {} cannot be written to. Choose another one with --data-dir",
                folder.display()
            )
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            bail!(
                "another rollcall runs on the data folder {} (process {}). Use that one, stop it with Ctrl-C, or choose \
                 another folder with --data-dir.",
                folder.display(),
                holder.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| {
                format!(
                    "{} cannot be locked. Choose a folder on a local disk with --data-dir",
                    path.display()
                )
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
    fn a_folder_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let error = DataDir::open(folder.path())
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
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
