//! Batches of 1,000 events that relays forward, packed by zstd: guests who come, are paged and go.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rollcall_model::ingest::event_id;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::system::{Figures, System};

const RELAYS: [usize; 3] = [1, 4, 16];
const EVENTS: u64 = 1_000;

pub async fn run(system: &System, seconds: u64) -> anyhow::Result<()> {
    println!(
        "batches of {EVENTS} events, packed by zstd, each relay one after the other; {seconds} s each\n"
    );
    println!("relays   events/s   batch p50 ms   batch p99 ms   the api's memory MiB");
    for relays in RELAYS {
        let keys: Vec<String> = (0..relays)
            .map(|at| secret(system, &format!("bench-{relays}-{at}")))
            .collect::<anyhow::Result<_>>()?;
        let figures = forward(system, keys, seconds).await?;
        println!(
            "{relays:>6} {:>10.0} {:>14.1} {:>14.1} {:>22.1}",
            figures.rate * EVENTS as f64,
            figures.p50_ms,
            figures.p99_ms,
            system.memory("VmRSS:")?
        );
    }
    Ok(())
}

async fn forward(system: &System, keys: Vec<String>, seconds: u64) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let mut loops = tokio::task::JoinSet::new();
    for secret in keys {
        let (http, url) = (reqwest::Client::new(), format!("{}/v1/ingest", system.url));
        loops.spawn(async move {
            let (spool, mut sequence, mut latencies) = (Uuid::new_v4(), 0, Vec::new());
            while Instant::now() < end {
                let body = zstd::stream::encode_all(batch(spool, &mut sequence).as_slice(), 3)?;
                let sent = Instant::now();
                let request = http
                    .post(&url)
                    .bearer_auth(&secret)
                    .header("content-type", "application/json")
                    .header("content-encoding", "zstd");
                let answer = request.body(body).send().await?;
                ensure!(answer.status().is_success(), "{}", answer.text().await?);
                let answer: Value = answer.json().await?;
                let stored = answer["verdicts"].as_array().map_or(0, |verdicts| {
                    let stored = verdicts
                        .iter()
                        .filter(|verdict| verdict["status"] == "stored");
                    stored.count() as u64
                });
                ensure!(stored == EVENTS, "{stored} of {EVENTS} events were stored");
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

fn batch(spool: Uuid, sequence: &mut u64) -> Vec<u8> {
    let service = format!("desk-{spool}");
    let mut guest = Uuid::new_v4();
    let events: Vec<Value> = (0..EVENTS)
        .map(|at| {
            *sequence += 1;
            if at % 3 == 0 {
                guest = Uuid::new_v4();
            }
            let (what, state) = [("created", "started"), ("paged", "paged"), ("cleared", "cleared")][at as usize % 3];
            json!({
                "id": event_id(spool, &service, *sequence), "service": service, "spool": spool, "sequence": *sequence,
                "at": "2026-11-21T09:05:00.25Z", "type": what,
                "session": {
                    "uuid": guest, "id": *sequence / 3, "number": at % 300 + 1, "party_size": 4, "goal_seconds": 600,
                    "state": state, "created": "2026-11-21T09:00:00Z", "label": "Ada Lovelace", "session_sequence": 121,
                },
            })
        })
        .collect();
    json!({ "relay": { "version": "0.1.0", "spool": { "events": 0, "bytes": 4096 } }, "events": events })
        .to_string()
        .into_bytes()
}

/// The secret of a new relay's key.
pub fn secret(system: &System, name: &str) -> anyhow::Result<String> {
    let key = system.relay_key(name)?;
    let (_, secret) = key.split_once(':').context("a key has a secret")?;
    Ok(secret.to_owned())
}
