//! From a commit to the readers of the feed's stream: one against a thousand; and what a reader costs in memory, also one
//! that does not read.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use reqwest::{Client, Response};
use serde_json::json;
use tokio::sync::mpsc;

use crate::forms::form;
use crate::system::System;

const READERS: usize = 1_000;
const EVENTS: usize = 100;
/// Between two events, so that each finds the feed quiet.
const PAUSE: Duration = Duration::from_millis(73);
const STALLED: usize = 100;
const LARGE_BYTES: usize = 100_000;

pub async fn run(system: &System) -> anyhow::Result<()> {
    println!(
        "from the answer to a form until the feed's stream has its event, {EVENTS} forms of 1 kB, one each {PAUSE:?}\n"
    );
    println!("    readers     p50 ms     p99 ms     max ms");
    let before = system.memory("VmRSS:")?;
    for readers in [1, READERS] {
        let mut latencies = latencies(system, readers).await?;
        latencies.sort_unstable();
        let at = |share: usize| millis(latencies[(latencies.len() - 1) * share / 100]);
        println!(
            "{readers:>11} {:>10.2} {:>10.2} {:>10.2}",
            at(50),
            at(99),
            at(100)
        );
    }
    let with = system.memory("VmHWM:")?;
    println!(
        "\nthe api's peak memory with {READERS} readers: {with:.1} MiB; {:.1} KiB a reader",
        (with - before) * 1_024.0 / READERS as f64
    );
    stalled(system).await
}

/// How long each event took to each reader.
async fn latencies(system: &System, readers: usize) -> anyhow::Result<Vec<Duration>> {
    let streams = try_join_all((0..readers).map(|_| open(system))).await?;
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let mut reading = tokio::task::JoinSet::new();
    for stream in streams {
        let arrivals = arrivals.clone();
        reading.spawn(read(stream, arrivals));
    }
    let mut latencies = Vec::new();
    for _ in 0..EVENTS {
        tokio::time::sleep(PAUSE).await;
        post(system, &form()).await?;
        let answered = Instant::now();
        for _ in 0..readers {
            let at = tokio::time::timeout(Duration::from_secs(30), arrived.recv()).await?;
            latencies.push(
                at.context("a reader is gone")?
                    .saturating_duration_since(answered),
            );
        }
    }
    reading.shutdown().await;
    Ok(latencies)
}

/// Tells of every event, as it comes.
async fn read(
    mut stream: Response,
    arrivals: mpsc::UnboundedSender<Instant>,
) -> anyhow::Result<()> {
    let mut tail = Vec::new();
    while let Some(chunk) = stream.chunk().await? {
        tail.extend_from_slice(&chunk);
        let now = Instant::now();
        while let Some(end) = tail.windows(2).position(|two| two == b"\n\n") {
            let is_event = tail[..end].starts_with(b"id: ")
                && tail[..end].windows(6).any(|part| part == b"\ndata:");
            tail.drain(..end + 2);
            if is_event {
                arrivals.send(now)?;
            }
        }
    }
    Ok(())
}

async fn open(system: &System) -> anyhow::Result<Response> {
    let request = Client::new().get(format!("{}/v1/events?from=now", system.url));
    let answer = request
        .bearer_auth(system.secret())
        .header("accept", "text/event-stream")
        .send()
        .await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    Ok(answer)
}

async fn post(system: &System, form: &serde_json::Value) -> anyhow::Result<()> {
    let request = system
        .http
        .post(system.sessions())
        .bearer_auth(system.secret());
    let answer = request.json(form).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    Ok(())
}

/// Readers that do not read, while much happens.
async fn stalled(system: &System) -> anyhow::Result<()> {
    let streams = try_join_all((0..STALLED).map(|_| open(system))).await?;
    let before = system.memory("VmRSS:")?;
    let mut large = form();
    large["session"]["data"] = json!({ "a": "x".repeat(LARGE_BYTES) });
    for _ in 0..EVENTS * 2 {
        large["session"]["uuid"] = json!(uuid::Uuid::new_v4().to_string());
        post(system, &large).await?;
    }
    let after = system.memory("VmRSS:")?;
    println!(
        "{STALLED} readers that do not read, while {} MB of events pass: {:.1} MiB more memory ({:.0} KiB a reader)",
        EVENTS * 2 * LARGE_BYTES / 1_000_000,
        after - before,
        (after - before) * 1_024.0 / STALLED as f64
    );
    drop(streams);
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
