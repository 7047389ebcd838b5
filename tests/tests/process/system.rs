//! `rollcall up` as a process of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rollcall_tests::program::binary;
use rollcall_tests::{Client, Credential};
use serde_json::Value;
use tokio::process::{Child, Command};

/// A running `rollcall up`; killed when dropped.
pub struct System {
    pub child: Child,
    pub ready: Value,
    /// Has the key of the demo organization.
    pub client: Client,
}

impl System {
    /// Starts on the data folder, and waits until all is ready.
    pub async fn start(folder: &Path) -> Self {
        let ready_file = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let child = Command::new(binary("rollcall"))
            .args([
                "up",
                "--http",
                "127.0.0.1:0",
                "--coap",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready_file)
            .env("ROLLCALL_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("`rollcall up` starts");
        for _ in 0..600 {
            if let Ok(text) = std::fs::read(&ready_file) {
                let ready = serde_json::from_slice(&text).expect("the ready file is written whole");
                return Self {
                    child,
                    client: client(&ready),
                    ready,
                };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("`rollcall up` was not ready within 30 s");
    }

    /// `/api/v1/projects/<project>/sessions`
    pub fn sessions(&self) -> String {
        format!("/api/v1/projects/{}/sessions", self.ready["project_id"])
    }

    /// As SIGKILL does: nothing is finished, nothing is written.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// As Ctrl-C does.
    pub async fn interrupt(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .await
            .expect("kill runs");
        assert!(sent.success());
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        assert!(ended.expect("it ends").expect("it is waited for").success());
    }
}

fn client(ready: &Value) -> Client {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let key = &ready["api_key"];
    let credential = Credential::Basic {
        id: text(&key["id"]),
        secret: text(&key["secret"]),
    };
    Client::new(&text(&ready["http"])).with(credential)
}
