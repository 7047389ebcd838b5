//! CoAP: reads of one session against libcoap's server, durable writes, the way from a datagram to a row in Postgres, and
//! how fast a backlog drains.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rollcall_coap::message::{Message, Token, decode};
use rollcall_coap::{Code, Kind, option};
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::coaps;
use crate::relay::Relay;
use crate::system::{Figures, Process, System, free_address};

/// A lost datagram is sent again after as long.
const RETRY: Duration = Duration::from_secs(2);
const BACKLOG: u64 = 100_000;

pub async fn run(system: &System, seconds: u64) -> anyhow::Result<()> {
    let relay = Relay::start(system, Some(&system.url)).await?;
    println!(
        "the relay's memory before anything is asked of it: {:.1} MiB\n",
        relay.memory("VmRSS:")?
    );
    reads(&relay, seconds).await?;
    let session = request(Code::GET, "v1/sessions", "number=5", b"");
    coaps::run(relay.coaps, &session, seconds).await?;
    println!(
        "the relay's memory with all of them connected: {:.1} MiB\n",
        relay.memory("VmRSS:")?
    );
    writes(&relay, seconds).await?;
    to_a_row(system, &relay).await?;
    drop(relay);
    drain(system).await
}

/// GETs of one session: closed loops, one request under way for each client, all over loopback.
async fn reads(relay: &Relay, seconds: u64) -> anyhow::Result<()> {
    let create = request(
        Code::POST,
        "v1/sessions",
        "",
        br#"{"number":5,"label":"Sarah"}"#,
    );
    exchange(relay.coap, &create).await?;
    let session = request(Code::GET, "v1/sessions", "number=5", b"");
    let port = free_address()?.parse::<SocketAddr>()?.port();
    let libcoap = Command::new("coap-server-notls")
        .args(["-A", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let libcoap = match libcoap {
        Ok(child) => Some(Process(child)),
        Err(error) => {
            println!(
                "libcoap's server is not there ({error}); install libcoap3-bin for the baseline"
            );
            None
        }
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!(
        "GET of one session, {seconds} s each; baseline: libcoap's coap-server-notls, GET of its first page\n"
    );
    println!(
        "    clients      GETs/s     p50 ms     p99 ms   libcoap/s     p50 ms     p99 ms      ratio   repeats"
    );
    for clients in [50, 5_000] {
        let ours = hammer(relay.coap, &session, clients, seconds).await;
        let (ours, repeats) = ours.context("ask the relay")?;
        let theirs = match &libcoap {
            Some(_) => {
                let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let first_page = request(Code::GET, "", "", b"");
                let theirs = hammer(to, &first_page, clients, seconds).await;
                // With thousands of clients it may let one starve; that is no reason to measure nothing.
                let failed = |error| println!("libcoap's server, {clients} clients: {error}");
                theirs.map_err(failed).ok().map(|(figures, _)| figures)
            }
            None => None,
        };
        let theirs = theirs.unwrap_or(Figures {
            rate: f64::NAN,
            p50_ms: f64::NAN,
            p99_ms: f64::NAN,
        });
        println!(
            "{clients:>11} {:>11.0} {:>10.2} {:>10.2} {:>11.0} {:>10.2} {:>10.2} {:>10.2} {repeats:>9}",
            ours.rate,
            ours.p50_ms,
            ours.p99_ms,
            theirs.rate,
            theirs.p50_ms,
            theirs.p99_ms,
            ours.rate / theirs.rate
        );
    }
    println!(
        "\nthe relay's peak memory: {:.1} MiB\n",
        relay.memory("VmHWM:")?
    );
    Ok(())
}

/// POSTs that are answered once they are on the disk.
async fn writes(relay: &Relay, seconds: u64) -> anyhow::Result<()> {
    println!("POST of a change, answered after the commit (synchronous=FULL), {seconds} s each\n");
    println!("    clients     POSTs/s     p50 ms     p99 ms");
    for clients in [1, 50] {
        let (figures, _) = hammer_with(relay.coap, clients, seconds, |client, n| {
            let body = format!(
                r#"{{"number":{},"partySize":{}}}"#,
                1_000 + client,
                n % 1_000 + 1
            );
            request(Code::POST, "v1/sessions", "", body.as_bytes())
        })
        .await?;
        println!(
            "{clients:>11} {:>11.0} {:>10.2} {:>10.2}",
            figures.rate, figures.p50_ms, figures.p99_ms
        );
    }
    Ok(())
}

/// From a datagram until its session is a row in Postgres.
async fn to_a_row(system: &System, relay: &Relay) -> anyhow::Result<()> {
    const EVENTS: usize = 100;
    relay.drained().await?;
    let mut latencies = Vec::new();
    let begun = Instant::now();
    for n in 0..EVENTS {
        tokio::time::sleep(Duration::from_millis(37)).await;
        let number = 20_000 + n;
        let started = Instant::now();
        let body = format!(r#"{{"number":{number}}}"#);
        exchange(
            relay.coap,
            &request(Code::POST, "v1/sessions", "", body.as_bytes()),
        )
        .await?;
        let url = format!("{}/v1/sessions?filter[number]={number}", system.url);
        loop {
            let page: Value = system.get(&url).send().await?.json().await?;
            if page["data"].as_array().is_some_and(|rows| !rows.is_empty()) {
                break;
            }
            ensure!(
                started.elapsed() < Duration::from_secs(20),
                "session {number} does not arrive"
            );
        }
        latencies.push(started.elapsed());
    }
    let figures = Figures::of(latencies, begun.elapsed())?;
    println!(
        "\nfrom a datagram until /v1/sessions shows its row, {EVENTS} of them: p50 {:.1} ms, p99 {:.1} ms\n",
        figures.p50_ms, figures.p99_ms
    );
    Ok(())
}

/// Events that were taken while the cloud was away.
async fn drain(system: &System) -> anyhow::Result<()> {
    let mut relay = Relay::start(system, None).await?;
    let started = Instant::now();
    while relay.waiting().await? < BACKLOG {
        hammer_with(relay.coap, 200, 1, |client, n| {
            let body = format!(
                r#"{{"number":{},"partySize":{}}}"#,
                1 + client,
                n % 1_000 + 1
            );
            request(Code::POST, "v1/sessions", "", body.as_bytes())
        })
        .await?;
    }
    let waiting = relay.waiting().await?;
    println!(
        "{waiting} events taken in {:.1} s while no cloud was there",
        started.elapsed().as_secs_f64()
    );
    relay.restart(Some(&system.url)).await?;
    let started = Instant::now();
    relay.drained().await?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "drained in {seconds:.1} s: {:.0} events/s; the relay's peak memory {:.1} MiB",
        waiting as f64 / seconds,
        relay.memory("VmHWM:")?
    );
    Ok(())
}

pub fn request(method: Code, path: &str, query: &str, payload: &[u8]) -> Message {
    let mut message = Message {
        code: method,
        payload: payload.to_vec().into(),
        ..Message::empty(Kind::Confirmable, 0)
    };
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        message.options.push(option::URI_PATH, segment.to_owned());
    }
    if !query.is_empty() {
        message.options.push(option::URI_QUERY, query.to_owned());
    }
    message
}

pub async fn exchange(to: SocketAddr, message: &Message) -> anyhow::Result<Message> {
    let mut client = Client::connect(to, 0).await?;
    let answer = client.exchange(message).await?;
    ensure!(answer.code.is_success(), "{} to {message:?}", answer.code);
    Ok(answer)
}

async fn hammer(
    to: SocketAddr,
    message: &Message,
    clients: usize,
    seconds: u64,
) -> anyhow::Result<(Figures, u64)> {
    let message = message.clone();
    hammer_with(to, clients, seconds, move |_, _| message.clone()).await
}

/// Closed loops of `clients` clients, a socket each.
async fn hammer_with(
    to: SocketAddr,
    clients: usize,
    seconds: u64,
    make: impl Fn(usize, u64) -> Message + Send + Sync + 'static,
) -> anyhow::Result<(Figures, u64)> {
    let (stop, make) = (Arc::new(AtomicBool::new(false)), Arc::new(make));
    let mut tasks = JoinSet::new();
    for at in 0..clients {
        let mut client = Client::connect(to, at).await?;
        let (stop, make) = (stop.clone(), make.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let message = make(at, n);
                let started = Instant::now();
                let answer = client.exchange(&message).await?;
                latencies.push(started.elapsed());
                ensure!(
                    answer.code.is_success(),
                    "{} instead of success",
                    answer.code
                );
                n += 1;
            }
            Ok((latencies, client.repeats))
        });
    }
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let elapsed = started.elapsed();
    let (mut latencies, mut repeats) = (Vec::new(), 0);
    for result in tasks.join_all().await {
        let (of_client, again) = result?;
        latencies.extend(of_client);
        repeats += again;
    }
    Ok((Figures::of(latencies, elapsed)?, repeats))
}

/// A client with one request under way.
pub struct Client {
    socket: UdpSocket,
    id: u16,
    repeats: u64,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(to: SocketAddr, at: usize) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(to).await?;
        Ok(Self {
            socket,
            id: (at as u16).wrapping_mul(7),
            repeats: 0,
            buffer: vec![0; 2_048],
        })
    }

    pub async fn exchange(&mut self, message: &Message) -> anyhow::Result<Message> {
        self.id = self.id.wrapping_add(1);
        let mut message = message.clone();
        message.id = self.id;
        message.token = Token::new(&self.id.to_be_bytes()).context("two bytes are a token")?;
        let bytes = message.encode();
        for _ in 0..10 {
            self.socket.send(&bytes).await?;
            let answer = tokio::time::timeout(RETRY, self.answer(&message)).await;
            match answer {
                Ok(answer) => return answer,
                Err(_) => self.repeats += 1,
            }
        }
        anyhow::bail!("no answer after ten tries")
    }

    async fn answer(&mut self, message: &Message) -> anyhow::Result<Message> {
        loop {
            let length = self.socket.recv(&mut self.buffer).await?;
            let Ok(answer) = decode(&self.buffer[..length]) else {
                continue;
            };
            if answer.kind == Kind::Confirmable {
                self.socket
                    .send(&Message::empty(Kind::Acknowledgement, answer.id).encode())
                    .await?;
            }
            if answer.token == message.token && answer.code != Code::EMPTY {
                return Ok(answer);
            }
        }
    }
}
