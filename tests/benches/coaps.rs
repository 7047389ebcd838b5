//! CoAP over DTLS: handshakes, and reads by devices that are connected.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::Rng as _;
use rollcall_coap::dtls::{Config, Credential, Event, Layer};
use rollcall_coap::message::{Message, Token, decode};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::system::Figures;

/// What all devices of the measurement connect with.
pub const PSK: &str = "device:000102030405060708090a0b0c0d0e0f";
/// A lost datagram is sent again after as long.
const RETRY: Duration = Duration::from_millis(500);
const DEVICES: usize = 2_000;

/// Devices that connect, ask once and are gone; then devices that stay.
pub async fn run(to: SocketAddr, message: &Message, seconds: u64) -> anyhow::Result<()> {
    println!(
        "DTLS 1.2, PSK_AES128_CCM_8; the devices compute on the same cores, {seconds} s each\n"
    );
    println!("                              rate/s     p50 ms     p99 ms");
    for loops in [1, 50] {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for at in 0..loops {
            let (stop, message) = (stop.clone(), message.clone());
            tasks.spawn(async move {
                let (mut device, mut latencies) = (Device::at(to, at).await?, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    device.exchange(&message).await?;
                    latencies.push(started.elapsed());
                    device.goodbye().await?;
                }
                Ok::<_, anyhow::Error>(latencies)
            });
        }
        let what = format!("handshake and GET, {loops} at once");
        show(&what, tasks, &stop, seconds).await?;
    }
    let mut devices = JoinSet::new();
    let started = Instant::now();
    for at in 0..DEVICES {
        let message = message.clone();
        devices.spawn(async move {
            let mut device = Device::at(to, at).await?;
            device.exchange(&message).await?;
            Ok::<_, anyhow::Error>(device)
        });
    }
    let devices = devices.join_all().await;
    println!(
        "{DEVICES} devices at once were all connected after {:.2} s",
        started.elapsed().as_secs_f64()
    );
    let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for device in devices {
        let (mut device, stop, message) = (device?, stop.clone(), message.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                device.exchange(&message).await?;
                latencies.push(started.elapsed());
            }
            Ok(latencies)
        });
    }
    show(&format!("GET, {DEVICES} connected"), tasks, &stop, seconds).await
}

async fn show(
    what: &str,
    tasks: JoinSet<anyhow::Result<Vec<Duration>>>,
    stop: &AtomicBool,
    seconds: u64,
) -> anyhow::Result<()> {
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let elapsed = started.elapsed();
    let mut latencies = Vec::new();
    for of_task in tasks.join_all().await {
        latencies.extend(of_task?);
    }
    let figures = Figures::of(latencies, elapsed)?;
    println!(
        "{what:>26} {:>9.0} {:>10.2} {:>10.2}",
        figures.rate, figures.p50_ms, figures.p99_ms
    );
    Ok(())
}

/// A device with one request under way.
struct Device {
    socket: UdpSocket,
    layer: Layer,
    to: SocketAddr,
    started: Instant,
    id: u16,
    buffer: Vec<u8>,
}

impl Device {
    /// The devices are of many networks: of one network, few may connect at a time.
    async fn at(to: SocketAddr, at: usize) -> anyhow::Result<Self> {
        let [.., high, low] = (at + 256).to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, high, low, 1), 0)).await?;
        socket.connect(to).await?;
        let credential: Credential = PSK.parse().map_err(anyhow::Error::msg)?;
        let config = Config {
            credential: Some(credential),
            ..Config::default()
        };
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        Ok(Self {
            socket,
            layer: Layer::new(config, secret)?,
            to,
            started: Instant::now(),
            id: 0,
            buffer: vec![0; 2_048],
        })
    }

    async fn exchange(&mut self, message: &Message) -> anyhow::Result<()> {
        self.id = self.id.wrapping_add(1);
        let mut message = message.clone();
        message.id = self.id;
        message.token = Token::new(&self.id.to_be_bytes()).context("two bytes are a token")?;
        let bytes = message.encode();
        for _ in 0..40 {
            self.layer.send(self.started.elapsed(), self.to, &bytes);
            if let Ok(answered) = tokio::time::timeout(RETRY, self.answer(&message)).await {
                return answered;
            }
            self.layer.handle_timeout(self.started.elapsed());
        }
        anyhow::bail!("no answer after forty tries")
    }

    /// Ends the session; the next exchange begins another.
    async fn goodbye(&mut self) -> anyhow::Result<()> {
        self.layer.close();
        while self.layer.poll_event().is_some() {}
        while let Some((_, bytes)) = self.layer.poll_transmit() {
            self.socket.send(&bytes).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, message: &Message) -> anyhow::Result<()> {
        loop {
            while let Some((_, bytes)) = self.layer.poll_transmit() {
                self.socket.send(&bytes).await?;
            }
            let length = self.socket.recv(&mut self.buffer).await?;
            let now = self.started.elapsed();
            self.layer.receive(now, self.to, &self.buffer[..length]);
            while let Some(event) = self.layer.poll_event() {
                match event {
                    Event::Data(_, bytes) => {
                        let is_it = decode(&bytes).is_ok_and(|answer| {
                            answer.token == message.token && answer.code.is_success()
                        });
                        if is_it {
                            return Ok(());
                        }
                    }
                    Event::Ended(..) => ensure!(false, "the session has ended"),
                    Event::Connected(..) => {}
                }
            }
        }
    }
}
