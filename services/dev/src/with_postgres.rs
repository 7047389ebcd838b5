//! `rollcall with-postgres`: a Postgres for the length of one command, and nothing left of it afterwards.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::config::WithPostgres;
use crate::data_dir::DataDir;
use crate::postgres::{self, Cluster, Kind, Settings};
use crate::progress::Progress;
use crate::secrets;
use crate::signals::{Signals, Stop};

/// Begins the name of every folder made here.
const PREFIX: &str = "rollcall-postgres-";

/// The roles that the migrations grant to. The store makes them elsewhere; this command must run before the store
/// compiles, since `make prepare` uses it to write what the store's queries are checked against.
const BEGINNING: [&str; 3] = [
    "create role rollcall_app nologin",
    "create role rollcall_system nologin",
    "create database rollcall",
];

pub(crate) async fn run(config: WithPostgres) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let temporary = std::env::temp_dir();
    remove_abandoned(&temporary).await;
    let folder = Folder::create(&temporary)?;
    let home = folder.data.path().join("postgres");
    let settings = Settings {
        home: &home,
        bin: config.postgres.postgres_bin.as_deref(),
        port: config.postgres.postgres_port,
        kept_port: None,
        kind: Kind::Throwaway,
        beginning: &BEGINNING,
    };
    let launched = tokio::select! {
        launched = Cluster::launch(&settings, Progress::Silent) => launched,
        stop = signals.next() => return Ok(interrupted(stop)),
    };
    let mut cluster = launched.context("start a Postgres for the command")?;
    let outcome = tokio::select! {
        ready = cluster.ready(Progress::Silent) => ready.map(|()| None),
        stop = signals.next() => Ok(Some(interrupted(stop))),
    };
    let outcome = match outcome {
        Ok(None) => run_command(&config, &mut cluster, &mut signals).await,
        Ok(Some(code)) => Ok(code),
        Err(error) => Err(error.context("start a Postgres for the command")),
    };
    cluster.abort().await?;
    outcome
}

async fn run_command(
    config: &WithPostgres,
    cluster: &mut Cluster,
    signals: &mut Signals,
) -> Result<ExitCode> {
    let (program, arguments) = config
        .command
        .split_first()
        .expect("clap requires a command");
    let mut child = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", cluster.url("rollcall"))
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let mut interrupts = 0;
    loop {
        let stop = tokio::select! {
            status = child.wait() => return Ok(exit_code(status.context("wait for the command")?)),
            reason = cluster.failed() => {
                signal(&child, Signal::TERM);
                child.wait().await.context("wait for the command")?;
                bail!(reason.context("the command was stopped, since it lost its Postgres"));
            }
            stop = signals.next() => stop,
        };
        match stop {
            // The terminal has sent it to the command as well, which ends as it sees fit.
            Stop::Interrupt if interrupts == 0 => interrupts += 1,
            _ => signal(&child, Signal::TERM),
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(pid) = pid {
        // It may have ended by now.
        let _ = kill_process(pid, signal);
    }
}

/// As a shell tells it: 128 and the signal's number.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

fn interrupted(stop: Stop) -> ExitCode {
    ExitCode::from(match stop {
        Stop::Interrupt => 130,
        Stop::Terminate => 143,
    })
}

/// A folder that goes when it is dropped.
struct Folder {
    data: DataDir,
}

impl Folder {
    fn create(parent: &Path) -> Result<Self> {
        let path = parent.join(format!("{PREFIX}{}", secrets::random_hex(6)));
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.with_context(|| format!("create {}", path.display()))?;
        Ok(Self {
            data: DataDir::open(&path)?,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path = self.data.path();
        if let Err(error) = fs::remove_dir_all(path) {
            eprintln!("rollcall: {} could not be removed: {error}", path.display());
        }
    }
}

/// Removes what runs that were killed have left. A cluster that somebody uses is locked, and stays.
async fn remove_abandoned(parent: &Path) {
    for path in abandoned(parent) {
        let Ok(data) = DataDir::open(&path) else {
            continue;
        };
        let folder = Folder { data };
        let _ = postgres::stop_leftover(&path.join("postgres")).await;
        drop(folder);
    }
}

fn abandoned(parent: &Path) -> Vec<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| {
        let Ok(metadata) = entry.metadata() else {
            return false;
        };
        // A younger folder may belong to a run that has not come to lock it yet.
        let old = metadata
            .modified()
            .ok()
            .and_then(|time| time.elapsed().ok());
        entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX))
            && metadata.is_dir()
            && metadata.uid() == own
            && old.is_some_and(|age| age > Duration::from_secs(60))
    });
    ours.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_as_a_shell_tells_it() {
        let code = |raw| format!("{:?}", exit_code(ExitStatus::from_raw(raw)));
        assert_eq!(code(3 << 8), format!("{:?}", ExitCode::from(3)));
        assert_eq!(code(9), format!("{:?}", ExitCode::from(137)));
    }

    #[tokio::test]
    async fn only_what_nobody_holds_any_more_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let held = Folder::create(parent.path()).unwrap();
        let dead = parent.path().join("rollcall-postgres-dead");
        drop(DataDir::open(&dead).unwrap());
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(120);
        for path in [held.data.path(), &dead] {
            fs::File::open(path)
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        let young = parent.path().join("rollcall-postgres-young");
        let other = parent.path().join("other");
        fs::create_dir(&young).unwrap();
        fs::create_dir(&other).unwrap();
        remove_abandoned(parent.path()).await;
        assert!(!dead.exists(), "its lock is free");
        assert!(held.data.path().exists() && young.exists() && other.exists());
    }
}
