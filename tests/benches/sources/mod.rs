//! 100,000 clients of one broker: how long a picture of them takes the relay, in how much memory, and how fast the cloud knows.
//! Beside it: the same events, forwarded by a loop of the bench's own.

mod broker;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rollcall_model::ingest::event_id;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ingest;
use crate::relay::Relay;
use crate::system::System;
use broker::{Broker, Turn};

const CLIENTS: usize = 100_000;
/// Between two pictures one of so many changes.
const SHARE: usize = 10;
const POLL_SECONDS: u64 = 10;
/// Pictures of each sort.
const PICTURES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(600);
/// Events in a batch of the baseline.
const BATCH: usize = 1_000;

pub async fn run(system: &System) -> anyhow::Result<()> {
    println!(
        "{CLIENTS} clients of one RabbitMQ (a stand-in), 9 of 10 by MQTT with a queue and a filter each; asked each {POLL_SECONDS} s\n"
    );
    let broker = Broker::start(CLIENTS).await?;
    let mut relay = Relay::watching(system, &broker.url, POLL_SECONDS)?;
    println!(
        "picture                   fetch s   tell s   events   in the cloud s   events/s   the relay's memory MiB (peak)"
    );
    let begun = Instant::now();
    relay.restart(Some(&system.url)).await?;
    let mut told = Told::of(&relay).await?;
    let first = told.next(&relay, begun, CLIENTS as u64).await?;
    first.print("first", &relay)?;
    for _ in 0..PICTURES {
        let unchanged = told.next(&relay, Instant::now(), 0).await?;
        unchanged.print("nothing changed", &relay)?;
    }
    let mut rates = Vec::new();
    for turn in 0..PICTURES {
        broker.turn(turns(turn));
        // A client that connects anew is told as gone and there again.
        let events = (CLIENTS / SHARE) as u64 * 3 / 2;
        let changed = told.next(&relay, Instant::now(), events).await?;
        changed.print("10 % changed", &relay)?;
        rates.push(changed.rate());
    }
    println!();
    baseline(system, first.rate(), rates).await
}

/// Of every tenth client, by turns one that connects anew and one that subscribes to something else.
fn turns(turn: usize) -> Vec<(usize, Turn)> {
    let every = (turn + 1..CLIENTS).step_by(SHARE).enumerate();
    every
        .map(|(place, at)| match place % 2 {
            0 => (at, Turn::Reconnects),
            _ => (at, Turn::SubscribesElsewhere),
        })
        .collect()
}

/// What the relay has counted.
struct Told {
    pictures: f64,
    fetching: f64,
    telling: f64,
    events: f64,
}

/// What a picture took.
struct Picture {
    fetch: f64,
    tell: f64,
    events: f64,
    /// From the first event in the spool until the cloud had the last.
    forward: f64,
}

impl Told {
    async fn of(relay: &Relay) -> anyhow::Result<Self> {
        let text = relay.metrics().await?;
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| {
                let rest = line.strip_prefix(name)?;
                rest.rsplit_once(' ')?.1.parse().ok()
            });
            line.unwrap_or(0.0)
        };
        Ok(Self {
            pictures: figure("rollcall_relay_source_telling_duration_seconds_count"),
            fetching: figure("rollcall_relay_source_poll_duration_seconds_sum"),
            telling: figure("rollcall_relay_source_telling_duration_seconds_sum"),
            events: figure("rollcall_relay_events_total"),
        })
    }

    /// Waits for a picture with so many events at least, until the cloud has them.
    async fn next(
        &mut self,
        relay: &Relay,
        begun: Instant,
        events: u64,
    ) -> anyhow::Result<Picture> {
        let mut since = None;
        loop {
            ensure!(
                begun.elapsed() < PATIENCE,
                "a picture takes longer than {} s",
                PATIENCE.as_secs()
            );
            let now = Self::of(relay).await?;
            let told = now.events - self.events;
            if told > 0.0 {
                since.get_or_insert_with(Instant::now);
            }
            if now.pictures > self.pictures && told >= events as f64 {
                let since = since.unwrap_or_else(Instant::now);
                relay.drained().await?;
                let pictures = now.pictures - self.pictures;
                let picture = Picture {
                    fetch: (now.fetching - self.fetching) / pictures,
                    tell: now.telling - self.telling,
                    events: told,
                    forward: since.elapsed().as_secs_f64(),
                };
                *self = Self::of(relay).await?;
                return Ok(picture);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Picture {
    fn rate(&self) -> f64 {
        self.events / self.forward
    }

    fn print(&self, name: &str, relay: &Relay) -> anyhow::Result<()> {
        let (forward, rate) = match self.events > 0.0 {
            true => (
                format!("{:.1}", self.forward),
                format!("{:.0}", self.rate()),
            ),
            false => ("-".to_owned(), "-".to_owned()),
        };
        println!(
            "{name:<25} {:>7.2} {:>8.2} {:>8.0} {forward:>16} {rate:>10} {:>13.0} ({:.0})",
            self.fetch,
            self.tell,
            self.events,
            relay.memory("VmRSS:")?,
            relay.memory("VmHWM:")?
        );
        Ok(())
    }
}

/// The same events in batches, one after the other, without broker, spool and relay.
async fn baseline(system: &System, first: f64, mut changed: Vec<f64>) -> anyhow::Result<()> {
    let secret = ingest::secret(system, "bench-connections")?;
    let (spool, mut sequence) = (Uuid::new_v4(), 0);
    let mut rate = async |events: Vec<(&str, usize, u16)>| -> anyhow::Result<f64> {
        let mut took = Duration::ZERO;
        let count = events.len();
        for events in events.chunks(BATCH) {
            let events: Vec<Value> = events
                .iter()
                .map(|(what, at, turn)| {
                    sequence += 1;
                    event((spool, sequence), what, *at, *turn)
                })
                .collect();
            let body = json!({ "relay": { "version": "0.1.0", "spool": { "events": 0, "bytes": 4096 } }, "events": events });
            let body = zstd::stream::encode_all(body.to_string().as_bytes(), 3)?;
            let sent = Instant::now();
            let request = system
                .http
                .post(format!("{}/v1/ingest", system.url))
                .bearer_auth(&secret)
                .header("content-type", "application/json")
                .header("content-encoding", "zstd");
            let answer = request.body(body).send().await?;
            let answer: Value = answer.error_for_status()?.json().await?;
            took += sent.elapsed();
            let verdicts = answer["verdicts"].as_array().context("verdicts")?;
            ensure!(
                verdicts.iter().all(|verdict| verdict["status"] == "stored"),
                "not all is stored"
            );
        }
        Ok(count as f64 / took.as_secs_f64())
    };
    let plain_first = rate((0..CLIENTS).map(|at| ("connected", at, 0)).collect()).await?;
    let turned = (1..CLIENTS).step_by(SHARE).enumerate();
    let turned = turned.flat_map(|(place, at)| match place % 2 {
        0 => vec![("disconnected", at, 0), ("connected", at, 1)],
        _ => vec![("updated", at, 1)],
    });
    let plain_changed = rate(turned.collect()).await?;
    changed.sort_by(f64::total_cmp);
    let changed = changed[changed.len() / 2];
    println!("events/s into the cloud   the relay   plain batches   ratio");
    for (name, own, plain) in [
        ("first", first, plain_first),
        ("10 % changed", changed, plain_changed),
    ] {
        println!("{name:<25} {own:>9.0} {plain:>15.0} {:>7.2}", own / plain);
    }
    Ok(())
}

/// An event as the relay makes it of the stand-in's clients.
fn event((spool, sequence): (Uuid, u64), what: &str, at: usize, turn: u16) -> Value {
    let service = "plain";
    let id = format!("fleet/device-{at}");
    let is_gone = what == "disconnected";
    let connected = if what == "updated" { 0 } else { turn };
    json!({
        "id": event_id(spool, service, sequence), "service": service, "spool": spool, "sequence": sequence,
        "at": "2026-11-21T09:05:00.25Z", "type": what,
        "connection": {
            "source_id": id, "kind": "mqtt", "user": "fleet", "remote": format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255),
            "presence": if is_gone { "disconnected" } else { "connected" }, "client_id": id, "protocol": "mqtt3.1.1", "vhost": "/",
            "node": "rabbit@localhost", "port": 20_000 + connected, "state": (!is_gone).then_some("running"),
            "connected_at": format!("2026-11-21T09:00:0{connected}Z"), "clean_start": false, "expiry_seconds": 86_400,
            "inflight": 0, "queue_depth": 0,
            "subscriptions": [{ "filter": format!("fleet/device-{at}/commands/{turn}"), "qos": 1 }],
        },
    })
}
