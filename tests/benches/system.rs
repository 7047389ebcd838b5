//! What is measured: `rollcall up` brings Postgres (fsync on) and S3; the api is `rollcall-api serve`, a process of its own.
//! And with what: closed loops over HTTP, and pgbench on the same Postgres.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;

const LOGIN: (&str, &str) = ("rollcall_bench", "rollcall_bench");

/// Rates and latencies of one measurement.
pub struct Figures {
    pub rate: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Figures {
    pub fn of(mut latencies: Vec<Duration>, elapsed: Duration) -> anyhow::Result<Self> {
        ensure!(!latencies.is_empty(), "nothing was measured");
        latencies.sort_unstable();
        let at =
            |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        Ok(Self {
            rate,
            p50_ms: at(50),
            p99_ms: at(99),
        })
    }
}

/// Postgres and S3 from `rollcall up`, and an api of its own; all end when dropped.
pub struct System {
    pub folder: PathBuf,
    pub ready: Value,
    pub url: String,
    pub http: Client,
    api: Process,
    _up: Process,
}

/// A child that is told to end, and waited for, when dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

impl System {
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let ready_file = folder.join("ready.json");
        let up = Command::new(binary("rollcall")?)
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
            .stdout(Stdio::null())
            .spawn()
            .context("start `rollcall up`")?;
        let up = Process(up);
        let ready: Value =
            serde_json::from_slice(&patiently(|| fs::read(&ready_file).ok()).await?)?;
        let listen = free_address()?;
        let api = start_api(&ready, &listen)?;
        let (url, http) = (format!("http://{listen}"), Client::new());
        let health = format!("{url}/healthz");
        for _ in 0..200 {
            if http.get(&health).send().await.is_ok() {
                return Ok(Self {
                    folder: folder.to_owned(),
                    ready,
                    url,
                    http,
                    api,
                    _up: up,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the api does not answer at {health}")
    }

    pub fn sessions(&self) -> String {
        format!(
            "{}/api/v1/projects/{}/sessions",
            self.url, self.ready["project_id"]
        )
    }

    pub fn secret(&self) -> &str {
        self.ready["api_key"]["secret"].as_str().unwrap_or_default()
    }

    /// The url of Postgres as its owner.
    pub fn postgres(&self) -> anyhow::Result<&str> {
        self.ready["postgres"]
            .as_str()
            .context("the ready file names Postgres")
    }

    /// Runs SQL as Postgres's owner.
    pub fn sql(&self, text: &str) -> anyhow::Result<()> {
        let psql = programs()?.join("psql");
        run(Command::new(psql).args([self.postgres()?, "--quiet", "--command", text]))
    }

    /// Closed loops, one connection each, for `seconds`.
    pub async fn hammer(
        &self,
        connections: usize,
        seconds: u64,
        request: impl Fn(&Client) -> RequestBuilder + Clone + Send + 'static,
    ) -> anyhow::Result<Figures> {
        let started = Instant::now();
        let end = started + Duration::from_secs(seconds);
        let mut loops = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (http, secret, request) =
                (Client::new(), self.secret().to_owned(), request.clone());
            loops.spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let answer = request(&http).bearer_auth(&secret).send().await?;
                    ensure!(answer.status().is_success(), "{}", answer.text().await?);
                    answer.bytes().await?;
                    latencies.push(sent.elapsed());
                }
                Ok(latencies)
            });
        }
        let mut latencies = Vec::new();
        while let Some(done) = loops.join_next().await {
            latencies.extend(done??);
        }
        Figures::of(latencies, started.elapsed())
    }

    /// The same number of connections of pgbench, each running a script.
    pub fn pgbench(
        &self,
        name: &str,
        script: &str,
        connections: usize,
        seconds: u64,
    ) -> anyhow::Result<Figures> {
        let file = self.folder.join(format!("{name}.sql"));
        fs::write(&file, script)?;
        let logs = self.folder.join(format!("{name}-{connections}"));
        fs::create_dir_all(&logs)?;
        let (count, time) = (connections.to_string(), seconds.to_string());
        let started = Instant::now();
        run(Command::new(programs()?.join("pgbench"))
            .current_dir(&logs)
            .args([
                "--no-vacuum",
                "--protocol=prepared",
                "--log",
                "--client",
                &count,
                "--jobs",
            ])
            .args([&connections.min(4).to_string(), "--time", &time, "--file"])
            .arg(&file)
            .arg(self.postgres()?))?;
        let elapsed = started.elapsed();
        let mut latencies = Vec::new();
        for entry in fs::read_dir(&logs)? {
            for line in fs::read_to_string(entry?.path())?.lines() {
                // client, transaction, microseconds, ...
                let micros = line
                    .split(' ')
                    .nth(2)
                    .context("a line of pgbench's log")?
                    .parse()?;
                latencies.push(Duration::from_micros(micros));
            }
        }
        Figures::of(latencies, elapsed)
    }

    /// A figure of the api's process, in MiB.
    pub fn memory(&self, name: &str) -> anyhow::Result<f64> {
        self.api.memory(name)
    }

    /// A read by the demo key.
    pub fn get(&self, url: &str) -> RequestBuilder {
        self.http.get(url).bearer_auth(self.secret())
    }

    /// The key of a new relay, as `id:secret`.
    pub fn relay_key(&self, name: &str) -> anyhow::Result<String> {
        let project = self.ready["project_id"].to_string();
        let made = output(
            Command::new(binary("rollcall-api")?)
                .args([
                    "admin",
                    "--json",
                    "relay",
                    "create",
                    "--organization",
                    "demo",
                ])
                .args(["--project", &project, "--name", name])
                .env("ROLLCALL_DATABASE_URL", self.postgres()?),
        )?;
        let made: Value = serde_json::from_slice(&made)?;
        let text = |name: &str| made[name].as_str().context("a key has an id and a secret");
        Ok(format!("{}:{}", text("id")?, text("secret")?))
    }
}

impl Process {
    /// A figure that the kernel tells of the process, in MiB.
    pub fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .context("the kernel tells memory")?;
        let kib: f64 = line
            .split_whitespace()
            .nth(1)
            .context("a figure")?
            .parse()?;
        Ok(kib / 1_024.0)
    }

    /// Seconds of a core that the process has taken.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // After the name, which may hold anything: the 14th and 15th fields of all, in ticks of 10 ms.
        let (_, fields) = stat.rsplit_once(')').context("a name in brackets")?;
        let mut ticks = fields.split_whitespace().skip(11).take(2);
        let mut next = || ticks.next().and_then(|text| text.parse::<f64>().ok());
        let (user, system) = (next().context("user")?, next().context("system")?);
        Ok((user + system) / 100.0)
    }
}

fn start_api(ready: &Value, listen: &str) -> anyhow::Result<Process> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .context("the ready file is complete")
    };
    let owner = text(&ready["postgres"])?;
    let api = binary("rollcall-api")?;
    let roles = [
        "admin",
        "roles",
        "--login",
        LOGIN.0,
        "--login-password",
        LOGIN.1,
        "--database-url",
        &owner,
    ];
    run(Command::new(&api).args(roles))?;
    let mut url = reqwest::Url::parse(&owner)?;
    let named = url
        .set_username(LOGIN.0)
        .and_then(|()| url.set_password(Some(LOGIN.1)));
    ensure!(
        named.is_ok(),
        "the ready file's postgres is a URL with a host"
    );
    let s3 = &ready["s3"];
    let child = Command::new(api)
        .args(["serve", "--s3-path-style", "--listen", listen])
        .env("ROLLCALL_LOG", "warn")
        .env("ROLLCALL_DATABASE_URL", url.as_str())
        .env("ROLLCALL_S3_ENDPOINT", text(&s3["endpoint"])?)
        .env("ROLLCALL_S3_BUCKET", text(&s3["bucket"])?)
        .env("AWS_ACCESS_KEY_ID", text(&s3["access_key"])?)
        .env("AWS_SECRET_ACCESS_KEY", text(&s3["secret_key"])?)
        .env("AWS_REGION", "us-east-1")
        .spawn()
        .context("start `rollcall-api serve`")?;
    Ok(Process(child))
}

/// A binary of the same build as this one.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own
        .ancestors()
        .nth(2)
        .context("a target folder")?
        .join(name);
    ensure!(
        path.exists(),
        "{} is not built; run `make bench`",
        path.display()
    );
    Ok(path)
}

/// Where Postgres's programs are: beside the server that `rollcall up` found.
pub fn programs() -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("pgbench").exists())
        .collect();
    found.sort();
    // Elsewhere they are on PATH, where an empty folder leaves the bare name.
    Ok(found.pop().unwrap_or_default())
}

pub fn run(command: &mut Command) -> anyhow::Result<()> {
    output(command).map(|_| ())
}

/// Runs a program to its good end; gives what it printed.
fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

pub async fn patiently<T>(mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    for _ in 0..600 {
        if let Some(found) = look() {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("`rollcall up` was not ready within 30 s")
}

pub fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .to_string())
}
