//! `make bench`: forms of 1 kB created over HTTP with a key, against bare single-row inserts by pgbench into the same
//! Postgres in the same run; then a 1 GiB upload with the api's memory. Prints figures, asserts none.
//!
//! `rollcall up` brings Postgres (fsync on) and S3; the api measured is `rollcall-api serve`, a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};

const CONNECTIONS: [usize; 3] = [1, 32, 64];
const LOGIN: (&str, &str) = ("rollcall_bench", "rollcall_bench");
const UPLOAD_BYTES: usize = 1 << 30;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = match std::env::args().skip_while(|arg| arg != "--seconds").nth(1) {
        Some(text) => text.parse().context("--seconds takes a whole number")?,
        None => 10,
    };
    let folder = tempfile::tempdir()?;
    let system = System::start(folder.path()).await?;
    println!("forms of 1 kB over HTTP with a key, against bare single-row inserts of 1 kB by pgbench; {seconds} s each\n");
    println!("              ----------- forms ----------   ---------- inserts ---------");
    println!("connections     rate/s     p50 ms     p99 ms     rate/s     p50 ms     p99 ms   forms/inserts");
    for connections in CONNECTIONS {
        let inserts = system.inserts(connections, seconds)?;
        let forms = system.forms(connections, seconds).await?;
        let ratio = forms.rate / inserts.rate;
        println!(
            "{connections:>11} {:>10.0} {:>10.2} {:>10.2} {:>10.0} {:>10.2} {:>10.2} {ratio:>15.2}",
            forms.rate, forms.p50_ms, forms.p99_ms, inserts.rate, inserts.p50_ms, inserts.p99_ms
        );
    }
    let upload = system.upload().await?;
    println!(
        "\nupload of 1 GiB to a point: {:.1} s, {:.0} MiB/s; the api's peak memory {:.1} MiB, {:.1} MiB more than before",
        upload.seconds,
        1_024.0 / upload.seconds,
        upload.peak_mib,
        upload.peak_mib - upload.before_mib
    );
    Ok(())
}

/// Rates and latencies of one measurement.
struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Figures {
    fn of(mut latencies: Vec<Duration>, elapsed: Duration) -> anyhow::Result<Self> {
        ensure!(!latencies.is_empty(), "nothing was measured");
        latencies.sort_unstable();
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        Ok(Self { rate, p50_ms: at(50), p99_ms: at(99) })
    }
}

struct Upload {
    seconds: f64,
    before_mib: f64,
    peak_mib: f64,
}

/// Postgres and S3 from `rollcall up`, and an api of its own; all end when dropped.
struct System {
    folder: PathBuf,
    ready: Value,
    url: String,
    http: Client,
    api: Process,
    _up: Process,
}

/// A child that is told to end, and waited for, when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.0.wait();
    }
}

impl System {
    async fn start(folder: &Path) -> anyhow::Result<Self> {
        let ready_file = folder.join("ready.json");
        let up = Command::new(binary("rollcall")?)
            .args(["up", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready_file)
            .stdout(Stdio::null())
            .spawn()
            .context("start `rollcall up`")?;
        let up = Process(up);
        let ready: Value = serde_json::from_slice(&patiently(|| fs::read(&ready_file).ok()).await?)?;
        let listen = free_address()?;
        let api = start_api(&ready, &listen)?;
        let (url, http) = (format!("http://{listen}"), Client::new());
        let health = format!("{url}/healthz");
        for _ in 0..200 {
            if http.get(&health).send().await.is_ok() {
                return Ok(Self { folder: folder.to_owned(), ready, url, http, api, _up: up });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the api does not answer at {health}")
    }

    fn sessions(&self) -> String {
        format!("{}/api/v1/projects/{}/sessions", self.url, self.ready["project_id"])
    }

    fn secret(&self) -> &str {
        self.ready["api_key"]["secret"].as_str().unwrap_or_default()
    }

    /// Closed loops, one connection each, for `seconds`.
    async fn forms(&self, connections: usize, seconds: u64) -> anyhow::Result<Figures> {
        let end = Instant::now() + Duration::from_secs(seconds);
        let started = Instant::now();
        let mut loops = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (http, url, secret) = (Client::new(), self.sessions(), self.secret().to_owned());
            loops.spawn(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let sent = Instant::now();
                    let answer = http.post(&url).bearer_auth(&secret).json(&form()).send().await?;
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

    /// The same number of connections of pgbench, each inserting single rows.
    fn inserts(&self, connections: usize, seconds: u64) -> anyhow::Result<Figures> {
        let postgres = self.ready["postgres"].as_str().context("the ready file names Postgres")?;
        let bin = programs()?;
        let table = "create table if not exists bench_rows (id uuid primary key, data jsonb not null)";
        run(Command::new(bin.join("psql")).args([postgres, "--quiet", "--command", table]))?;
        let script = self.folder.join("insert.sql");
        let data = form()["session"].to_string();
        fs::write(&script, format!("insert into bench_rows values (gen_random_uuid(), '{data}') returning id;\n"))?;
        let logs = self.folder.join(format!("pgbench-{connections}"));
        fs::create_dir_all(&logs)?;
        let (count, time) = (connections.to_string(), seconds.to_string());
        let started = Instant::now();
        run(Command::new(bin.join("pgbench"))
            .current_dir(&logs)
            .args(["--no-vacuum", "--protocol=prepared", "--log", "--client", &count, "--jobs"])
            .args([&connections.min(4).to_string(), "--time", &time, "--file"])
            .arg(&script)
            .arg(postgres))?;
        let elapsed = started.elapsed();
        let mut latencies = Vec::new();
        for entry in fs::read_dir(&logs)? {
            for line in fs::read_to_string(entry?.path())?.lines() {
                // client, transaction, microseconds, ...
                let micros = line.split(' ').nth(2).context("a line of pgbench's log")?.parse()?;
                latencies.push(Duration::from_micros(micros));
            }
        }
        Figures::of(latencies, elapsed)
    }

    /// One file of 1 GiB, streamed.
    async fn upload(&self) -> anyhow::Result<Upload> {
        let session = json!({ "session": { "uuid": "upload", "unit_id": "bench" } });
        let created = self.http.post(self.sessions()).bearer_auth(self.secret()).json(&session).send().await?;
        ensure!(created.status().is_success(), "{}", created.text().await?);
        let chunk = bytes::Bytes::from(vec![0x5a_u8; 64 << 10]);
        let count = UPLOAD_BYTES / chunk.len();
        let body = futures_util::stream::iter(0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
        let before_mib = self.memory("VmRSS:")?;
        let started = Instant::now();
        let answer = self
            .http
            .put(format!("{}/upload/attachments/file", self.sessions()))
            .bearer_auth(self.secret())
            .header("content-type", "application/octet-stream")
            .body(reqwest::Body::wrap_stream(body))
            .send()
            .await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        let seconds = started.elapsed().as_secs_f64();
        Ok(Upload { seconds, before_mib, peak_mib: self.memory("VmHWM:")? })
    }

    /// A figure of the api's process, in MiB.
    fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.api.0.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context("the kernel tells memory")?;
        let kib: f64 = line.split_whitespace().nth(1).context("a figure")?.parse()?;
        Ok(kib / 1_024.0)
    }
}

/// A form of about 1 kB with a name of its own.
fn form() -> Value {
    let text = "The valve on the north side was replaced and tested at full pressure for ten minutes. ";
    json!({ "session": {
        "uuid": uuid::Uuid::new_v4().to_string(),
        "unit_id": "bench-device",
        "created": 1_234_567_890,
        "saved": 1_234_567_890,
        "data": {
            "inspector": "A. Example",
            "result": "passed",
            "reading": "12.75",
            "remarks": text.repeat(9),
            "__timezone__": "36000"
        }
    } })
}

fn start_api(ready: &Value, listen: &str) -> anyhow::Result<Process> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("the ready file is complete");
    let owner = text(&ready["postgres"])?;
    let api = binary("rollcall-api")?;
    let roles = ["admin", "roles", "--login", LOGIN.0, "--login-password", LOGIN.1, "--database-url", &owner];
    run(Command::new(&api).args(roles))?;
    let mut url = reqwest::Url::parse(&owner)?;
    let named = url.set_username(LOGIN.0).and_then(|()| url.set_password(Some(LOGIN.1)));
    ensure!(named.is_ok(), "the ready file's postgres is a URL with a host");
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
fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.ancestors().nth(2).context("a target folder")?.join(name);
    ensure!(path.exists(), "{} is not built; run `make bench`", path.display());
    Ok(path)
}

/// Where Postgres's programs are: beside the server that `rollcall up` found.
fn programs() -> anyhow::Result<PathBuf> {
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

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn patiently<T>(mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    for _ in 0..600 {
        if let Some(found) = look() {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("`rollcall up` was not ready within 30 s")
}

fn free_address() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
