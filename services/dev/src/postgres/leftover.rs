//! What an earlier run left in the data folder: nothing, a server that still runs, or one that died.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process};

use super::pid_file::{self, PidFile};
use crate::progress::Progress;

/// How long a server of an earlier run may take to write out what it holds.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the last run of the cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Cleanly,
    /// Without its last words on disk: Postgres recovers from its log at the next start.
    Abruptly,
}

/// Stops a server that outlived the process that started it. The caller holds the folder's lock, so there is no such
/// process any more.
pub(super) async fn clear(data: &Path, progress: Progress) -> Result<Ended> {
    let path = pid_file::path(data);
    let read = PidFile::read(data).with_context(|| format!("read {}", path.display()))?;
    let Some(server) = read else {
        return Ok(if path.exists() {
            Ended::Abruptly
        } else {
            Ended::Cleanly
        });
    };
    if server.runs_in(data) {
        progress.line(
            "postgres",
            format_args!(
                "stopping a server that an earlier run left behind (process {})",
                server.pid
            ),
        );
        stop(server, data).await?;
        return Ok(Ended::Cleanly);
    }
    if server.is_alive() {
        // Postgres would believe the number and refuse to start. Kept, as everything is.
        let aside = path.with_extension("pid.stale");
        std::fs::rename(&path, &aside).with_context(|| format!("move {} aside", path.display()))?;
    }
    Ok(Ended::Abruptly)
}

async fn stop(server: PidFile, data: &Path) -> Result<()> {
    // SIGINT is Postgres's "fast": no new connections, running transactions rolled back, all data written out.
    let asked = kill_process(server.pid, Signal::INT);
    let deadline = Instant::now() + PATIENCE;
    while server.runs_in(data) {
        asked.with_context(|| format!("stop the Postgres with process id {}", server.pid))?;
        if Instant::now() > deadline {
            bail!(
                "the Postgres with process id {} works in {} and does not stop. Look at its log beside that folder; \
                 nothing was touched.",
                server.pid,
                data.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn clear_with(pid_file: Option<&str>) -> (Ended, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = pid_file {
            std::fs::write(folder.path().join("postmaster.pid"), text).unwrap();
        }
        let ended = clear(folder.path(), Progress::Silent).await.unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap();
        (
            ended,
            names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect(),
        )
    }

    #[tokio::test]
    async fn a_clean_end_leaves_no_file() {
        assert_eq!(clear_with(None).await, (Ended::Cleanly, vec![]));
    }

    #[tokio::test]
    async fn the_file_of_a_dead_server_is_left_to_postgres() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let text = format!("{}\n", child.id());
        assert_eq!(
            clear_with(Some(&text)).await,
            (Ended::Abruptly, vec!["postmaster.pid".to_owned()])
        );
        assert_eq!(
            clear_with(Some("")).await,
            (Ended::Abruptly, vec!["postmaster.pid".to_owned()])
        );
    }

    #[tokio::test]
    async fn a_number_that_a_stranger_has_now_is_moved_aside() {
        let text = format!("{}\n", std::process::id());
        assert_eq!(
            clear_with(Some(&text)).await,
            (Ended::Abruptly, vec!["postmaster.pid.stale".to_owned()])
        );
    }
}
