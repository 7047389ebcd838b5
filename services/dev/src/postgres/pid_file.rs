//! Reading `postmaster.pid`, by which a running Postgres says who it is and how far its start has come.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};

/// What a data folder's `postmaster.pid` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub(crate) pid: Pid,
    /// Recovery is done and connections are accepted.
    pub(crate) ready: bool,
}

impl PidFile {
    /// `None` if there is no such file, or one that its writer has not finished.
    pub(crate) fn read(data: &Path) -> io::Result<Option<Self>> {
        match std::fs::read_to_string(path(data)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // A single-user server notes its process id as a negative number.
        let pid: i32 = lines.next()?.trim().parse().ok()?;
        let pid = Pid::from_raw(pid.checked_abs()?)?;
        let ready = lines.nth(6).is_some_and(|status| status.trim() == "ready");
        Some(Self { pid, ready })
    }

    /// Whether the process is a living server on this very data folder, and not a stranger that was given the number
    /// of one that died.
    pub(crate) fn runs_in(self, data: &Path) -> bool {
        self.is_alive() && works_in(self.pid, data)
    }

    /// Whether any process has this number now.
    pub(crate) fn is_alive(self) -> bool {
        test_kill_process(self.pid) != Err(rustix::io::Errno::SRCH)
    }
}

pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// Postgres works in its data folder. A stranger's process, which may not be looked at, is not ours.
#[cfg(target_os = "linux")]
fn works_in(pid: Pid, data: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    // The folder itself is compared, not its path: another container may see it under another one.
    let identity = |path: &Path| {
        std::fs::metadata(path)
            .map(|folder| (folder.dev(), folder.ino()))
            .ok()
    };
    let working = identity(Path::new(&format!("/proc/{}/cwd", pid.as_raw_nonzero())));
    working.is_some() && working == identity(data)
}

#[cfg(not(target_os = "linux"))]
fn works_in(pid: Pid, data: &Path) -> bool {
    let pid = pid.as_raw_nonzero().to_string();
    let output = std::process::Command::new("lsof")
        .args(["-a", "-d", "cwd", "-Fn", "-p", &pid])
        .output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().any(|line| {
            line.strip_prefix('n')
                .is_some_and(|folder| Path::new(folder) == data)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str =
        "11412\n/d/data\n1795223017\n23456\n\n127.0.0.1\n 10117129         9\nready   \n";

    #[test]
    fn a_servers_file_is_read_at_every_stage() {
        let pid = Pid::from_raw(11_412).unwrap();
        assert_eq!(PidFile::parse(RUNNING), Some(PidFile { pid, ready: true }));
        assert_eq!(
            PidFile::parse(&RUNNING.replace("ready", "starting")),
            Some(PidFile { pid, ready: false })
        );
        assert_eq!(
            PidFile::parse("11412\n/d/data\n17952\n"),
            Some(PidFile { pid, ready: false })
        );
        assert_eq!(
            PidFile::parse(&format!("-{RUNNING}")),
            Some(PidFile { pid, ready: true })
        );
    }

    #[test]
    fn rubbish_is_no_server() {
        for rubbish in ["", "\n", "x\n", "0\n", "99999999999\n", "-2147483648\n"] {
            assert_eq!(PidFile::parse(rubbish), None, "{rubbish:?}");
        }
    }

    #[test]
    fn a_stranger_with_a_recycled_number_is_not_taken_for_a_server() {
        let file = PidFile {
            pid: rustix::process::getpid(),
            ready: true,
        };
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(!file.runs_in(elsewhere.path()));
        assert!(file.runs_in(&std::env::current_dir().unwrap()));
    }
}
