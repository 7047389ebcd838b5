//! The life of one cluster: made, started, watched, stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::account::Home;
use super::leftover::{self, Ended};
use super::pid_file::PidFile;
use super::programs::{self, Programs};
use crate::ports;
use crate::progress::{Progress, seconds_since};
use crate::secrets;

/// Begins the names of clusters that are not finished.
const UNFINISHED: &str = "data.new-";

/// What a cluster is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its data is somebody's: what was acknowledged is on disk.
    Kept,
    /// It lives for one command: fast instead of durable, with room for many tests at once.
    Throwaway,
}

/// Which cluster to start.
pub(crate) struct Settings<'a> {
    /// The cluster's folder; its parent exists.
    pub(crate) home: &'a Path,
    /// Where Postgres's programs are; looked for when not given.
    pub(crate) bin: Option<&'a Path>,
    /// A port that was asked for.
    pub(crate) port: Option<u16>,
    /// The port of the last run.
    pub(crate) kept_port: Option<u16>,
    pub(crate) kind: Kind,
    /// Statements, a line each, that a new cluster begins with.
    pub(crate) beginning: &'a [&'a str],
}

/// A running server. Its superuser is `postgres`.
pub(crate) struct Cluster {
    child: Child,
    pub(crate) port: u16,
    password: String,
    data: PathBuf,
    log: Log,
    started: Instant,
    recovers: bool,
    version: String,
}

impl Cluster {
    /// Makes the cluster if there is none, and starts its server. Dropped before the end, it leaves no server behind.
    pub(crate) async fn launch(settings: &Settings<'_>, progress: Progress) -> Result<Self> {
        let started = Instant::now();
        let data = settings.home.join("data");
        let made_by = major_of(&data)?;
        let programs = programs::choose(settings.bin, made_by, &data)?;
        let home = Home::open(settings.home)?;
        let ended = leftover::clear(&data, progress).await?;
        if made_by.is_none() {
            progress.line(
                "postgres",
                format_args!("making a cluster in {}", settings.home.display()),
            );
            initialize(&home, &programs, settings).await?;
        } else if ended == Ended::Abruptly {
            progress.line(
                "postgres",
                "was not shut down last time; it recovers from its log, and nothing is lost",
            );
        }
        let port = ports::choose("--postgres-port", settings.port, settings.kept_port)?;
        if let Some(old) = port.instead_of {
            progress.line(
                "postgres",
                format_args!(
                    "port {old} is taken by another program, so it moves to {}",
                    port.port
                ),
            );
        }
        let log = Log::open(&settings.home.join("log"))?;
        let password_file = settings.home.join("password");
        let password = fs::read_to_string(&password_file).with_context(|| {
            format!(
                "read {}, which has held the cluster's password since it was made",
                password_file.display()
            )
        })?;
        let child = server(&home, &programs, settings.kind, port.port, &log)?;
        Ok(Self {
            child,
            port: port.port,
            password: password.trim().to_owned(),
            data,
            log,
            started,
            recovers: ended == Ended::Abruptly,
            version: programs.version,
        })
    }

    /// Waits until connections are accepted, for as long as recovery takes.
    pub(crate) async fn ready(&mut self, progress: Progress) -> Result<()> {
        let mut notice = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(status) = self.child.try_wait().context("watch Postgres")? {
                return Err(self
                    .log
                    .explain(format_args!("Postgres did not start ({status})"), self.port));
            }
            // Until the server has written its own file, an old one may still lie there.
            if let Ok(Some(file)) = PidFile::read(&self.data)
                && file.ready
                && Some(file.pid) == self.pid()
            {
                break;
            }
            if Instant::now() > notice {
                let doing = if self.recovers {
                    "recovering"
                } else {
                    "starting"
                };
                progress.line(
                    "postgres",
                    format_args!("still {doing} after {}", seconds_since(self.started)),
                );
                notice = Instant::now() + Duration::from_secs(5);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (version, took) = (&self.version, seconds_since(self.started));
        progress.line(
            "postgres",
            format_args!("{version} on 127.0.0.1:{}, ready in {took}", self.port),
        );
        Ok(())
    }

    /// The superuser's address of `database`.
    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    /// Waits for the server to end by itself, and says what is known of the reason.
    pub(crate) async fn failed(&mut self) -> Error {
        match self.child.wait().await {
            Ok(status) => self.log.explain(
                format_args!("Postgres stopped by itself ({status})"),
                self.port,
            ),
            Err(error) => Error::new(error).context("watch Postgres"),
        }
    }

    /// Rolls back what is running, writes out all data, ends.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.end(Signal::INT).await
    }

    /// Ends at once. A kept cluster recovers at its next start; nothing that was committed is lost.
    pub(crate) async fn abort(&mut self) -> Result<()> {
        self.end(Signal::QUIT).await
    }

    async fn end(&mut self, signal: Signal) -> Result<()> {
        if let Some(pid) = self.pid() {
            // It may just have ended by itself.
            let _ = kill_process(pid, signal);
        }
        self.child
            .wait()
            .await
            .context("wait for Postgres to stop")?;
        Ok(())
    }

    fn pid(&self) -> Option<Pid> {
        pid_of(&self.child)
    }
}

/// `None` once it has been waited for.
fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id()?.try_into().ok()?)
}

/// The version that made the cluster in `data`, or `None` where there is none.
fn major_of(data: &Path) -> Result<Option<u32>> {
    let path = data.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let major = text.trim().parse().with_context(|| format!("{} does not hold a version", path.display()))?;
            Ok(Some(major))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !data.exists() => Ok(None),
        Err(error) => Err(error).with_context(|| {
            format!(
                "{} cannot be read, so {} does not look like a cluster of this user's. Nothing was touched. Run as the user \
                 it belongs to, or choose another folder with --data-dir",
                path.display(),
                data.display()
            )
        }),
    }
}

/// Makes the cluster under another name first: what has the name `data` is whole.
async fn initialize(home: &Home, programs: &Programs, settings: &Settings<'_>) -> Result<()> {
    remove_unfinished(home.path());
    // Of a killed run, a program may still be writing for a moment: it must not meet ours.
    let name = format!("{UNFINISHED}{}", secrets::random_hex(4));
    let password = home.path().join("password");
    // A cluster that was moved away, and may come back, has the old one.
    if !password.exists() {
        secrets::write_private(&password, secrets::random_hex(16).as_bytes())
            .with_context(|| format!("write {}", password.display()))?;
    }
    home.hand_over(&password)?;

    let mut command = Command::from(home.command(&programs.path("initdb")));
    command
        .arg("-D")
        .arg(home.name(&name))
        .args(["-U", "postgres", "--no-locale", "-E", "UTF8"]);
    command
        .arg("--auth=scram-sha-256")
        .arg("--pwfile")
        .arg(home.name("password"));
    command.arg(match settings.kind {
        Kind::Kept => "--data-checksums",
        Kind::Throwaway => "--no-sync",
    });
    finish(command, "", "initdb could not make a cluster", home).await?;

    // The server as a program that reads statements: no client, no port, no password yet.
    let mut command = Command::from(home.command(&programs.path("postgres")));
    command
        .args(["--single", "-j", "-c", "exit_on_error=on", "-D"])
        .arg(home.name(&name))
        .arg("postgres");
    let statements: String = settings
        .beginning
        .iter()
        .map(|line| format!("{line};\n\n"))
        .collect();
    finish(
        command,
        &statements,
        "Postgres could not prepare the new cluster",
        home,
    )
    .await?;

    let data = home.path().join("data");
    fs::rename(home.path().join(name), &data)
        .with_context(|| format!("name {}", data.display()))?;
    File::open(home.path())
        .and_then(|folder| folder.sync_all())
        .context("write out the cluster's name")
}

/// Removes what no server ever ran on. What cannot be removed now does no harm.
fn remove_unfinished(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(UNFINISHED.as_bytes())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Kills a program and what it has started, when it is not waited for any longer.
struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Each program leads a process group of its own: see `Home::command`.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs a program to its end with `input`; one that fails is quoted.
async fn finish(mut command: Command, input: &str, failure: &str, home: &Home) -> Result<()> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context(failure.to_owned())?;
    let mut group = KillOnDrop(pid_of(&child));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program that ends before it has read everything says why by itself.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.context(failure.to_owned())?;
    group.0 = None;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{failure} in {} ({}):\n{}",
            home.path().display(),
            output.status,
            reason.trim_end()
        );
    }
    Ok(())
}

fn server(home: &Home, programs: &Programs, kind: Kind, port: u16, log: &Log) -> Result<Child> {
    let mut command = Command::from(home.command(&programs.path("postgres")));
    command
        .arg("-D")
        .arg(home.name("data"))
        .arg("-p")
        .arg(port.to_string());
    // TCP only: a socket's path may be 107 bytes long at most, and a data folder's may be longer.
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "logging_collector=off",
    ] {
        command.args(["-c", setting]);
    }
    if kind == Kind::Throwaway {
        for setting in [
            "fsync=off",
            "full_page_writes=off",
            "max_connections=300",
            "shared_buffers=256MB",
        ] {
            command.args(["-c", setting]);
        }
    }
    let output = log.file.try_clone().context("open Postgres's log")?;
    command
        .stdout(output.try_clone().context("open Postgres's log")?)
        .stderr(output);
    // From the thread that waits in `main`: the system takes the end of the spawning thread for the parent's death.
    command
        .spawn()
        .with_context(|| format!("start {}", programs.path("postgres").display()))
}

/// The server's log, and where in it this run begins.
struct Log {
    path: PathBuf,
    file: File,
    begin: u64,
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        let begin = file
            .metadata()
            .with_context(|| format!("look at {}", path.display()))?
            .len();
        Ok(Self {
            path: path.to_owned(),
            file,
            begin,
        })
    }

    /// The reason for `what`, from the log's end.
    fn explain(&self, what: std::fmt::Arguments<'_>, port: u16) -> Error {
        let mut text = Vec::new();
        let mut file = &self.file;
        let _ = file
            .seek(SeekFrom::Start(self.begin))
            .and_then(|_| file.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        if text.contains("could not bind IPv4 address") {
            return anyhow!(
                "{what}: another program took port {port} on 127.0.0.1 just before. Start again, or choose a port with \
                 --postgres-port."
            );
        }
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
        anyhow!(
            "{what}. The end of its log {}:\n  {tail}",
            self.path.display()
        )
    }
}
