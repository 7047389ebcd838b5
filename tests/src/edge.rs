//! A relay as a process of its own, with a folder of its own, that a test may kill and start again.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rollcall_api::admin;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::binary;
use crate::{CoapClient, TestApp};

/// A relay that hosts transmitters.
pub struct Edge {
    /// Where each transmitter listens.
    pub coap: Vec<SocketAddr>,
    pub names: Vec<String>,
    /// `id:secret`
    pub key: String,
    pub key_id: String,
    pub relay_id: String,
    monitor: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
    /// Lines before the transmitters' tables.
    settings: String,
    /// Lines in each transmitter's table.
    of_transmitter: String,
}

impl Edge {
    /// A relay of the test's organization that hosts a transmitter for each name. It does not run yet.
    pub async fn of(app: &TestApp, names: &[&str]) -> Self {
        let name = format!("relay of {}", names.join(", "));
        let (relay, key) = admin::create_relay(&app.db, app.org, app.project, &name)
            .await
            .expect("a relay is made");
        let ports: Vec<UdpSocket> = names
            .iter()
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
            .collect();
        let monitor = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        Self {
            coap: ports
                .iter()
                .map(|port| port.local_addr().expect("an address"))
                .collect(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            key: format!("{}:{}", key.id, key.secret),
            key_id: key.id,
            relay_id: relay.id.to_string(),
            monitor: monitor.local_addr().expect("an address"),
            folder: tempfile::tempdir().expect("a folder"),
            child: None,
            settings: String::new(),
            of_transmitter: String::new(),
        }
    }

    /// Adds lines to the configuration, in tables of their own.
    pub fn set(&mut self, settings: &str) {
        self.settings = settings.to_owned();
    }

    /// Adds lines to the transmitters' tables.
    pub fn set_transmitter(&mut self, lines: &str) {
        self.of_transmitter = lines.to_owned();
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("data/spool.sqlite")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command line `rollcall-relay <command>` with the configuration; `cloud` is the api's address.
    pub fn command(&self, command: &str, cloud: Option<&str>) -> Command {
        let mut text = format!("data_dir = {:?}\n", self.folder.path().join("data"));
        text += &format!(
            "{}\n[monitor]\nlisten = \"{}\"\n",
            self.settings, self.monitor
        );
        for (name, coap) in self.names.iter().zip(&self.coap) {
            text += &format!(
                "[[transmitter]]\nname = {name:?}\nlisten = \"{coap}\"\nworkers = 1\n{}\n",
                self.of_transmitter
            );
        }
        let path = self.folder.path().join("relay.toml");
        std::fs::write(&path, text).expect("written");
        let mut run = Command::new(binary("rollcall-relay"));
        run.arg(command).arg("--config").arg(&path);
        if let Some(url) = cloud {
            run.env("ROLLCALL_RELAY_CLOUD_URL", url)
                .env("ROLLCALL_RELAY_KEY", &self.key);
        }
        run
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self, cloud: Option<&str>) {
        let command = self.command("run", cloud);
        self.start_as(command).await;
    }

    /// Starts it by a command of the test's.
    pub async fn start_as(&mut self, mut command: Command) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        self.child = Some(
            command
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("the relay starts"),
        );
        let started = Instant::now();
        while tokio::net::TcpStream::connect(self.monitor).await.is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the relay does not start: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// As a power cut would, but for the disk's own cache.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().to_string();
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .expect("kill runs");
            assert!(child.wait().expect("it ends").success(), "{}", self.log());
        }
    }

    /// A client of one of the transmitters.
    pub async fn client(&self, at: usize) -> CoapClient {
        CoapClient::of(self.coap[at]).await
    }

    pub async fn status(&self) -> Value {
        let url = format!("http://{}/status", self.monitor);
        reqwest::get(url)
            .await
            .expect("an answer")
            .json()
            .await
            .expect("JSON")
    }

    /// The text of a path of the monitor.
    pub async fn monitor(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.monitor);
        reqwest::get(url)
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text")
    }

    /// Waits until nothing waits to be sent.
    pub async fn drained(&self) {
        let started = Instant::now();
        loop {
            let status = self.status().await;
            if status["events"] == 0 {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{status} {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// A figure of the process, in KiB: `VmRSS:`, `VmHWM:`.
    pub fn memory(&self, field: &str) -> u64 {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux tells");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("the field is there");
        line.split_ascii_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse().ok())
            .expect("a figure")
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A simulated box as a process of its own.
pub struct SimulatedBox {
    pub address: SocketAddr,
    child: Option<Child>,
}

impl SimulatedBox {
    /// Starts one on a free port.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), arguments).await
    }

    /// The same on a certain address of this machine.
    pub async fn start_on(ip: IpAddr, arguments: &[&str]) -> Self {
        let port = UdpSocket::bind((ip, 0)).expect("a port");
        let address = port.local_addr().expect("an address");
        drop(port);
        let mut simulated = Self {
            address,
            child: None,
        };
        simulated.restart(arguments).await;
        simulated
    }

    /// Ends it as a power cut would, and starts one that knows nothing in its place.
    pub async fn restart(&mut self, arguments: &[&str]) {
        self.kill();
        let listen = self.address.to_string();
        let mut command = Command::new(binary("rollcall-relay"));
        command
            .args(["simulate", "--listen", &listen])
            .args(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the box starts");
        // It says where it is once it listens there.
        let output = child.stdout.take().expect("it is piped");
        let said = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        let said = said.await.expect("it is read").expect("it is text");
        assert!(said.contains(&listen), "{said:?}");
        self.child = Some(child);
    }

    /// Stops it as it is, until it is told to go on.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.expect("kill runs").success());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }
}

impl Drop for SimulatedBox {
    fn drop(&mut self) {
        self.kill();
    }
}
