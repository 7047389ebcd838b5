//! `rollcall-api serve` as a process of its own.

use std::process::Stdio;
use std::time::Duration;

use rollcall_tests::program::{Ended, rollcall_api};
use rollcall_tests::{Client, TestApp};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs; killed when dropped.
pub struct Server {
    pub client: Client,
    child: Child,
    log: JoinHandle<String>,
}

impl Server {
    /// Starts one on the system of `app`, logging JSON; `change` may add flags and environment.
    pub async fn start(app: &TestApp, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = rollcall_api(&["serve", "--log-format", "json"]);
        command.envs(app.environment()).stdout(Stdio::null());
        change(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let (told, addr) = oneshot::channel();
        let log = tokio::spawn(collect(child.stderr.take().expect("piped"), told));
        let Ok(addr) = addr.await else {
            panic!("the server did not start: {}", log.await.expect("a log"));
        };
        Self {
            client: app.anonymous().at(&format!("http://{addr}")),
            child,
            log,
        }
    }

    /// As Kubernetes does; gives its end and everything that it logged.
    pub async fn terminate(mut self) -> Ended {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill runs").success());
        let status = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        Ended {
            code: status.expect("it ends").expect("it is waited for").code(),
            stdout: String::new(),
            stderr: self.log.await.expect("a log"),
        }
    }
}

/// Reads the log to its end, so that the server never waits for us; tells the address when it comes by.
async fn collect(log: ChildStderr, told: oneshot::Sender<String>) -> String {
    let (mut lines, mut told) = (BufReader::new(log).lines(), Some(told));
    let mut logged = String::new();
    while let Some(line) = lines.next_line().await.expect("a line") {
        logged.push_str(&line);
        logged.push('\n');
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(addr) = line["http.listen"].as_str()
            && let Some(told) = told.take()
        {
            let _ = told.send(addr.to_owned());
        }
    }
    logged
}
