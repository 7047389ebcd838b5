//! The binaries of this build, run as an operator runs them: with flags and an environment of their own.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::SystemTime;

use secrecy::ExposeSecret;
use tokio::process::Command;

use crate::{S3, TestApp};

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// What a command that worked has printed.
    pub fn printed(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// The one line with which a command said why it failed.
    pub fn complaint(self) -> String {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(1), ""),
            "{}",
            self.stderr
        );
        let line = self
            .stderr
            .strip_prefix("rollcall-api: ")
            .and_then(|text| text.strip_suffix('\n'))
            .unwrap_or_else(|| panic!("no sentence: {}", self.stderr));
        assert!(!line.contains('\n'), "{line}");
        line.to_owned()
    }
}

/// `rollcall-api` with these arguments and an environment that holds nothing of ours; killed when dropped.
pub fn rollcall_api(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("rollcall-api"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn ended(mut command: Command) -> Ended {
    let output = command.output().await.expect("the program starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs `rollcall-api` on a database.
pub async fn run_on(url: &str, arguments: &[&str]) -> Ended {
    let mut command = rollcall_api(arguments);
    command.env("ROLLCALL_DATABASE_URL", url);
    ended(command).await
}

impl TestApp {
    /// The database, as the service's own login.
    pub fn database_url(&self) -> &str {
        self.config.database.database_url.expose_secret()
    }

    /// Where `rollcall-api serve` and `work` find this system's Postgres and S3.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let s3 = &self.config.s3;
        vec![
            ("ROLLCALL_DATABASE_URL", self.database_url().to_owned()),
            ("ROLLCALL_S3_BUCKET", s3.s3_bucket.clone()),
            ("ROLLCALL_S3_ENDPOINT", self.s3.endpoint()),
            ("ROLLCALL_S3_PATH_STYLE", "true".to_owned()),
            ("ROLLCALL_LISTEN", "127.0.0.1:0".to_owned()),
            ("AWS_ACCESS_KEY_ID", S3::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", S3::SECRET_KEY.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }
}

/// A binary of this build: beside the folder that this test is in.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let path = own.ancestors().nth(2).expect("a target folder").join(name);
    let Some(built) = modified(&path) else {
        panic!("{} is not built; `make test` builds it", path.display());
    };
    // Cargo notes beside it what it was built from.
    let sources = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.split_ascii_whitespace() {
        assert!(
            modified(&PathBuf::from(source)).is_none_or(|at| at <= built),
            "{} is older than {source}; `make test` builds it anew",
            path.display()
        );
    }
    path
}

fn modified(path: &PathBuf) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
