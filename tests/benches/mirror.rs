//! Mirrored boxes: from a click until the caller has the box's answer, what many boxes cost the relay, and how fast a
//! backlog behind a mirror drains.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rollcall_coap::Code;
use serde_json::{Value, json};

use crate::coap::{Client, exchange, request};
use crate::relay::Relay;
use crate::system::{Figures, Process, System, binary};

const CLICKS: usize = 400;
const BOXES: usize = 500;
const BACKLOG: u64 = 100_000;

pub async fn run(system: &System, seconds: u64) -> anyhow::Result<()> {
    clicks(system).await?;
    many(system, seconds.max(30)).await?;
    drain(system).await
}

/// Simulated boxes, in a process together.
struct Boxes {
    addresses: Vec<SocketAddr>,
    _process: Process,
}

impl Boxes {
    fn start(boxes: usize, parties_per_minute: u32) -> anyhow::Result<Self> {
        let mut child = Command::new(binary("rollcall-relay")?)
            .args(["simulate", "--listen", "127.0.0.1:0"])
            .args(["--boxes", &boxes.to_string()])
            .args(["--parties-per-minute", &parties_per_minute.to_string()])
            .env("ROLLCALL_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .context("start `rollcall-relay simulate`")?;
        let output = child.stdout.take().context("its output is piped")?;
        let process = Process(child);
        let mut addresses = Vec::new();
        for line in BufReader::new(output).lines().take(boxes) {
            let line = line?;
            let (_, address) = line.split_once("coap://").context("it says where")?;
            addresses.push(address.parse()?);
        }
        ensure!(addresses.len() == boxes, "{} boxes", addresses.len());
        Ok(Self {
            addresses,
            _process: process,
        })
    }
}

/// `PATCH /v1/sessions/{id}?wait=..` until there is the box's answer, by turns with what it goes through.
async fn clicks(system: &System) -> anyhow::Result<()> {
    let boxes = Boxes::start(1, 0)?;
    let relay = Relay::mirroring(system, Some(&system.url), ("click", &boxes.addresses)).await?;
    relay.is_following(1).await?;
    let to = boxes.addresses[0];
    exchange(
        to,
        &request(Code::POST, "v1/sessions", "", br#"{"number":7}"#),
    )
    .await?;
    let id = guest(system).await?;
    let mut latencies = [const { Vec::new() }; 3];
    let mut client = Client::connect(to, 1).await?;
    let begun = Instant::now();
    for _ in 0..CLICKS {
        let sent = Instant::now();
        click(system, &id).await?;
        latencies[0].push(sent.elapsed());
        let sent = Instant::now();
        let answer = system.get(&format!("{}/v1/sessions/{id}", system.url));
        let answer = answer.send().await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        answer.bytes().await?;
        latencies[1].push(sent.elapsed());
        let sent = Instant::now();
        let page = request(
            Code::PUT,
            "v1/sessions",
            "number=7",
            br#"{"action":"page"}"#,
        );
        let answer = client.exchange(&page).await?;
        ensure!(answer.code.is_success(), "{}", answer.code);
        latencies[2].push(sent.elapsed());
    }
    let elapsed = begun.elapsed();
    println!(
        "{CLICKS} clicks on a guest of a mirrored box, one caller, by turns with the baselines\n"
    );
    println!("                                     p50 ms     p99 ms");
    let mut figures = Vec::new();
    for (what, latencies) in [
        "click until the box's answer",
        "GET of the session",
        "PUT to the box",
    ]
    .iter()
    .zip(latencies)
    {
        let of = Figures::of(latencies, elapsed)?;
        println!("{what:<32} {:>10.2} {:>10.2}", of.p50_ms, of.p99_ms);
        figures.push(of);
    }
    println!(
        "\nratio to GET and PUT together: p50 {:.1}, p99 {:.1} (goal: p99 of a click at most 500 ms)\n",
        figures[0].p50_ms / (figures[1].p50_ms + figures[2].p50_ms),
        figures[0].p99_ms / (figures[1].p99_ms + figures[2].p99_ms)
    );
    Ok(())
}

/// The one guest, once they are on the roll.
async fn guest(system: &System) -> anyhow::Result<String> {
    let url = format!("{}/v1/sessions?filter[service]=click-0", system.url);
    let started = Instant::now();
    loop {
        let page: Value = system.get(&url).send().await?.json().await?;
        if let Some(id) = page["data"][0]["id"].as_str() {
            return Ok(id.to_owned());
        }
        ensure!(
            started.elapsed() < Duration::from_secs(20),
            "no guest: {page}"
        );
    }
}

async fn click(system: &System, id: &str) -> anyhow::Result<()> {
    let body =
        json!({ "data": { "type": "sessions", "id": id, "attributes": { "action": "page" } } });
    let url = format!("{}/v1/sessions/{id}?wait=20", system.url);
    let request = system.http.patch(url).bearer_auth(system.secret());
    let command: Value = request.json(&body).send().await?.json().await?;
    ensure!(
        command["data"]["attributes"]["status"] == "done",
        "{command}"
    );
    Ok(())
}

/// What many boxes with guests who come and go cost the relay.
async fn many(system: &System, seconds: u64) -> anyhow::Result<()> {
    let boxes = Boxes::start(BOXES, 6)?;
    let relay = Relay::mirroring(system, Some(&system.url), ("many", &boxes.addresses)).await?;
    println!(
        "{BOXES} mirrored boxes, 6 parties a minute each; the relay's memory at first: {:.1} MiB",
        relay.memory("VmRSS:")?
    );
    let started = Instant::now();
    relay.is_following(BOXES).await?;
    println!(
        "all followed after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let (cpu, begun, events) = (relay.cpu_seconds()?, Instant::now(), relay.events().await?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let elapsed = begun.elapsed().as_secs_f64();
    println!(
        "over {elapsed:.0} s: {:.0} events/s, CPU {:.1} % of a core, memory {:.1} MiB, at most {:.1} MiB (goal: under 64); {} events wait\n",
        (relay.events().await? - events) / elapsed,
        (relay.cpu_seconds()? - cpu) / elapsed * 100.0,
        relay.memory("VmRSS:")?,
        relay.memory("VmHWM:")?,
        relay.waiting().await?
    );
    Ok(())
}

/// Events of boxes that were mirrored while the cloud was away.
async fn drain(system: &System) -> anyhow::Result<()> {
    // Each tells of one change after the other, as they are stored here: so it takes many to tell of much.
    const MANY: usize = 200;
    let boxes = Boxes::start(MANY, 200)?;
    let mut relay = Relay::mirroring(system, None, ("behind", &boxes.addresses)).await?;
    let started = Instant::now();
    while relay.waiting().await? < BACKLOG {
        ensure!(
            started.elapsed() < Duration::from_secs(240),
            "the backlog does not grow: {} events",
            relay.waiting().await?
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(boxes);
    let waiting = relay.waiting().await?;
    println!(
        "{waiting} events of {MANY} mirrored boxes taken in {:.1} s while no cloud was there",
        started.elapsed().as_secs_f64()
    );
    relay.restart(Some(&system.url)).await?;
    let started = Instant::now();
    relay.drained().await?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "drained in {seconds:.1} s: {:.0} events/s (goal: 5,000); the relay's peak memory {:.1} MiB",
        waiting as f64 / seconds,
        relay.memory("VmHWM:")?
    );
    Ok(())
}
