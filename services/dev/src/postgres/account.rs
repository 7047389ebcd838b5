//! Postgres refuses to run as root, so root's servers run as an unprivileged user; everyone else's run as themselves.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Environment that would change what Postgres's programs do.
const UNWANTED: [&str; 7] = [
    "PGDATA",
    "PGPORT",
    "PGHOST",
    "PGOPTIONS",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
];

/// A folder of ours with one cluster in it, and the user whose processes work there.
pub(crate) struct Home {
    path: PathBuf,
    user: User,
    /// Whether util-linux's `setpriv` is there to tie a server's life to ours.
    setpriv: bool,
}

enum User {
    Ourselves,
    Other { uid: u32, gid: u32 },
}

impl Home {
    /// Finds the user of an existing folder, or creates the folder for the user of a new one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let user = if path.join("data").exists() {
            let metadata =
                fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
            user_of(metadata.uid(), metadata.gid(), path)?
        } else {
            let user = user_for_new()?;
            let created = DirBuilder::new().recursive(true).mode(0o700).create(path);
            created.with_context(|| format!("create {}", path.display()))?;
            user
        };
        let setpriv = cfg!(target_os = "linux")
            && Command::new("setpriv")
                .args(["--pdeathsig", "INT", "true"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if cfg!(target_os = "linux") && !setpriv && matches!(user, User::Other { .. }) {
            bail!(
                "Postgres does not run as root, and `setpriv` (package util-linux), which would start it as another user, is \
                 missing. Install util-linux, or run as a plain user."
            );
        }
        let home = Self {
            path: path.to_owned(),
            user,
            setpriv,
        };
        home.hand_over(path)?;
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file that we made in the folder (or the folder) the servers' user's own.
    pub(crate) fn hand_over(&self, path: &Path) -> Result<()> {
        if let User::Other { uid, gid } = self.user {
            chown(path, Some(uid), Some(gid))
                .with_context(|| format!("give away {}", path.display()))?;
        }
        Ok(())
    }

    /// How the servers' user names a file of the folder. See [`Home::command`].
    pub(crate) fn name(&self, file: &str) -> OsString {
        match self.user {
            User::Other { .. } if self.setpriv => format!("/proc/self/fd/9/{file}").into(),
            _ => self.path.join(file).into(),
        }
    }

    /// A command that runs `program` as the servers' user, in a process group of its own (Ctrl-C in a terminal must
    /// not reach a server before we have finished with it), stopped when we die, where the system can do that.
    ///
    /// A user other than root usually cannot get through the folders above ours (`/root` is closed to all others).
    /// So root opens the folder, and the program inherits it as file descriptor 9 and names all files through that.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = match self.user {
            User::Other { uid, gid } if self.setpriv => {
                let mut command = Command::new("sh");
                command
                    .args(["-c", r#"exec 9<"$1"; shift; exec setpriv "$@""#, "sh"])
                    .arg(&self.path);
                command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
                command
                    .args(["--clear-groups", "--pdeathsig", "INT", "--"])
                    .arg(program);
                command
            }
            User::Other { uid, gid } => {
                let mut command = Command::new(program);
                std::os::unix::process::CommandExt::uid(&mut command, uid);
                std::os::unix::process::CommandExt::gid(&mut command, gid);
                command
            }
            User::Ourselves if self.setpriv => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "INT", "--"]).arg(program);
                command
            }
            User::Ourselves => Command::new(program),
        };
        for name in UNWANTED {
            command.env_remove(name);
        }
        // HOME: libpq inside a server looks for certificates there and fails where it may not look.
        command
            .env("HOME", "/")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    }
}

fn user_of(uid: u32, gid: u32, path: &Path) -> Result<User> {
    let own = rustix::process::geteuid().as_raw();
    match (own, uid) {
        (0, 0) => bail!(
            "{} belongs to root, and Postgres does not run as root. Give it to another user, for example with \
             `chown -R postgres {0}`, or choose another folder with --data-dir.",
            path.display()
        ),
        (0, _) => Ok(User::Other { uid, gid }),
        (own, uid) if own == uid => Ok(User::Ourselves),
        _ => bail!(
            "{} belongs to the user with number {uid}: it was made by another user (by root, with sudo?). Run as that one, \
             or choose another folder with --data-dir.",
            path.display()
        ),
    }
}

fn user_for_new() -> Result<User> {
    if !rustix::process::geteuid().is_root() {
        return Ok(User::Ourselves);
    }
    for name in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (id("-u", name), id("-g", name)) {
            return Ok(User::Other { uid, gid });
        }
    }
    bail!(
        "Postgres does not run as root, and there is neither a user `postgres` nor a user `nobody` to run it as"
    )
}

fn id(what: &str, user: &str) -> Option<u32> {
    let output = Command::new("id")
        .args([what, user])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    std::str::from_utf8(&output.stdout)
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_refused_with_a_way_out() {
        let own = rustix::process::geteuid().as_raw();
        let other = if own == 0 { 0 } else { own + 1 };
        let error = user_of(other, other, Path::new("/d/postgres"))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/d/postgres") && error.contains("--data-dir"),
            "{error}"
        );
    }

    #[test]
    fn programs_run_as_somebody_unprivileged_and_can_name_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(&folder.path().join("postgres")).unwrap();
        let user = home.command(Path::new("id")).arg("-u").output().unwrap();
        assert_ne!(String::from_utf8(user.stdout).unwrap().trim(), "0");
        // The temporary folder is closed to all but its owner, as root's home is.
        let wrote = home
            .command(Path::new("touch"))
            .arg(home.name("file"))
            .status()
            .unwrap();
        assert!(wrote.success() && home.path().join("file").is_file());
    }
}
