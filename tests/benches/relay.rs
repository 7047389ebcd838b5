//! A relay as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::coaps;
use crate::system::{Process, System, binary, free_address, patiently};

/// A relay of its own, with a folder of its own.
pub struct Relay {
    pub coap: SocketAddr,
    pub coaps: SocketAddr,
    monitor: String,
    folder: PathBuf,
    key: String,
    process: Option<Process>,
}

impl Relay {
    /// One that hosts a transmitter.
    pub async fn start(system: &System, cloud: Option<&str>) -> anyhow::Result<Self> {
        let mut relay = Self::new(system)?;
        let keys = relay.folder.join("devices");
        std::fs::write(&keys, coaps::PSK)?;
        let name = relay.folder.file_name().context("a folder has a name")?;
        let tables = format!(
            "[[transmitter]]\nname = {name:?}\nlisten = \"{}\"\n[transmitter.dtls]\nlisten = \"{}\"\npsk_file = {keys:?}\n",
            relay.coap, relay.coaps
        );
        relay.configure(&tables)?;
        relay.restart(cloud).await?;
        Ok(relay)
    }

    /// One that mirrors boxes, whose names are `name`, a dash and their place.
    pub async fn mirroring(
        system: &System,
        cloud: Option<&str>,
        (name, boxes): (&str, &[SocketAddr]),
    ) -> anyhow::Result<Self> {
        let mut relay = Self::new(system)?;
        let tables = boxes.iter().enumerate().map(|(at, address)| {
            format!("[[box]]\nname = \"{name}-{at}\"\naddress = \"coap://{address}\"\n")
        });
        relay.configure(&tables.collect::<String>())?;
        relay.restart(cloud).await?;
        Ok(relay)
    }

    /// One that watches a RabbitMQ; it does not run yet.
    pub fn watching(system: &System, url: &str, poll_seconds: u64) -> anyhow::Result<Self> {
        let relay = Self::new(system)?;
        let password = relay.folder.join("password");
        std::fs::write(&password, "watcher")?;
        let name = relay.folder.file_name().context("a folder has a name")?;
        relay.configure(&format!(
            "[[rabbitmq]]\nname = {name:?}\nurl = {url:?}\nuser = \"watcher\"\npassword_file = {password:?}\n\
             poll_seconds = {poll_seconds}\n"
        ))?;
        Ok(relay)
    }

    fn new(system: &System) -> anyhow::Result<Self> {
        let name = format!("bench-{}", std::process::id() as u64 + unique());
        let folder = system.folder.join(&name);
        std::fs::create_dir_all(&folder)?;
        let key = system.relay_key(&name)?;
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        let secure = std::net::UdpSocket::bind("127.0.0.1:0")?;
        Ok(Self {
            coap: socket.local_addr()?,
            coaps: secure.local_addr()?,
            monitor: free_address()?,
            folder,
            key,
            process: None,
        })
    }

    fn configure(&self, tables: &str) -> anyhow::Result<()> {
        let config = format!(
            "data_dir = {:?}\n[monitor]\nlisten = {:?}\n{tables}",
            self.folder, self.monitor
        );
        Ok(std::fs::write(self.folder.join("relay.toml"), config)?)
    }

    pub async fn restart(&mut self, cloud: Option<&str>) -> anyhow::Result<()> {
        self.process = None;
        let mut command = Command::new(binary("rollcall-relay")?);
        command
            .arg("run")
            .arg("--config")
            .arg(self.folder.join("relay.toml"));
        if let Some(url) = cloud {
            command
                .env("ROLLCALL_RELAY_CLOUD_URL", url)
                .env("ROLLCALL_RELAY_KEY", &self.key);
        }
        let log = std::fs::File::create(self.folder.join("log"))?;
        self.process = Some(Process(
            command.env("ROLLCALL_LOG", "warn").stderr(log).spawn()?,
        ));
        let address: SocketAddr = self.monitor.parse()?;
        patiently(|| std::net::TcpStream::connect(address).ok()).await?;
        Ok(())
    }

    pub async fn status(&self) -> anyhow::Result<Value> {
        let url = format!("http://{}/status", self.monitor);
        Ok(reqwest::get(url).await?.json().await?)
    }

    /// Waits until all boxes are followed.
    pub async fn is_following(&self, boxes: usize) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let status = self.status().await?;
            let followed = status["boxes"].as_object().map_or(0, |boxes| {
                let is_followed = |status: &&Value| status["is_followed"] == true;
                boxes.values().filter(is_followed).count()
            });
            if followed >= boxes {
                return Ok(());
            }
            ensure!(
                started.elapsed() < Duration::from_secs(120),
                "{followed} of {boxes} boxes are followed: {status}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.monitor);
        Ok(reqwest::get(url).await?.text().await?)
    }

    /// Events that it has written to its spool since it was started.
    pub async fn events(&self) -> anyhow::Result<f64> {
        let text = self.metrics().await?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("rollcall_relay_events_total "));
        Ok(line.context("it counts events")?.parse()?)
    }

    /// Seconds of a core that it has taken.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let process = self.process.as_ref().context("the relay runs")?;
        process.cpu_seconds()
    }

    pub async fn waiting(&self) -> anyhow::Result<u64> {
        let status = self.status().await?;
        status["events"].as_u64().context("a status has events")
    }

    pub async fn drained(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while self.waiting().await? > 0 {
            ensure!(
                started.elapsed() < Duration::from_secs(300),
                "the spool does not drain"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub fn memory(&self, field: &str) -> anyhow::Result<f64> {
        self.process
            .as_ref()
            .context("the relay runs")?
            .memory(field)
    }
}

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
