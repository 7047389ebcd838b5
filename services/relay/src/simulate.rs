//! `rollcall-relay simulate`: a stand-in for a real box, with guests of its own, for tests and demonstrations.
//!
//! It keeps its state over the reboots that it simulates, and nothing beyond its own end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use rand::RngExt;
use rollcall_coap::driver::{self, App, Driver};
use rollcall_coap::dtls::{self, Keys};
use rollcall_coap::{Code, Endpoint, Event, JSON, Request, RequestId, Response, Time, Urgency};
use rollcall_pager::{Config, Effects, Method, Snapshot, Transmitter};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::clock::Clock;
use crate::hosted;
use crate::keys::KeyFile;

/// How often the guests are looked after.
const TICK: Duration = Duration::from_millis(100);
/// How long a reboot takes.
const REBOOT: Duration = Duration::from_secs(2);
/// Pagers that the simulated host stand hands out.
const PAGERS: u16 = 60;
/// About twice as many guests as usually wait.
const USUAL_GUESTS: usize = 24;

/// What is simulated.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Address and UDP port of the box
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5693")]
    pub listen: SocketAddr,

    /// Boxes, each like the others, on the ports that follow (with port 0 on free ones)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub boxes: u16,

    /// Guests who come, are paged some time later, and go
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub parties_per_minute: f64,

    /// Page a guest by itself once the goal is reached
    #[arg(long)]
    pub auto_page: bool,

    /// Reboot again and again: observers are forgotten, sessions are not
    #[arg(long, value_name = "SECONDS")]
    pub reboot_every: Option<u64>,

    /// Speak DTLS, and nothing else, with those whose keys are in this file: lines of identity:hexkey. It is read once
    #[arg(long, value_name = "FILE")]
    pub dtls_psk_file: Option<PathBuf>,
    /// How often observers are sent a ping
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub ping_every: u64,
}

/// A box that runs; it ends when this is dropped.
pub struct Simulated {
    pub address: SocketAddr,
    is_secure: bool,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Simulated {
    /// Starts all that are asked for.
    pub fn all(args: &SimulateArgs) -> Result<Vec<Self>> {
        let begin = |place: u16| {
            let mut args = args.clone();
            if args.listen.port() != 0 {
                let port = args.listen.port().checked_add(place);
                args.listen
                    .set_port(port.context("--boxes asks for ports beyond 65535")?);
            }
            Self::start(&args)
        };
        (0..args.boxes).map(begin).collect()
    }

    /// Starts one.
    pub fn start(args: &SimulateArgs) -> Result<Self> {
        ensure!(
            (0.0..=60_000.0).contains(&args.parties_per_minute),
            "--parties-per-minute is from 0 to 60000"
        );
        ensure!(args.reboot_every != Some(0), "--reboot-every is at least 1");
        ensure!(args.ping_every != 0, "--ping-every is at least 1");
        let bind = |address| {
            driver::bind(address, false)
                .with_context(|| format!("listen on UDP {address}; is another program there? Choose another with --listen"))
        };
        let keys = args.dtls_psk_file.as_deref().map(KeyFile::open);
        let keys = keys.transpose().context("--dtls-psk-file")?;
        let keys = keys.map(|file| file.keys);
        let is_secure = keys.is_some();
        let socket = bind(args.listen)?;
        let address = socket.local_addr().context("ask for the socket's port")?;
        let args = SimulateArgs {
            listen: address,
            ..args.clone()
        };
        let task = tokio::spawn(async move {
            if let Err(error) = live(&args, socket, keys).await {
                tracing::error!(error = format!("{error:#}"), "the simulated box has ended");
            }
        });
        Ok(Self {
            address,
            is_secure,
            task,
        })
    }

    /// Where it is, with the scheme to speak to it: `coap://127.0.0.1:5693`.
    pub fn uri(&self) -> String {
        let scheme = if self.is_secure { "coaps" } else { "coap" };
        format!("{scheme}://{}", self.address)
    }
}

/// One life after the other.
async fn live(
    args: &SimulateArgs,
    socket: std::net::UdpSocket,
    keys: Option<Arc<Keys>>,
) -> Result<()> {
    let clock = Clock::start();
    let config = Config {
        auto_page: args.auto_page,
        etag_epoch: rand::random(),
        ..Config::default()
    };
    let (saved, kept) = watch::channel(Transmitter::new(config.clone(), clock.now()).snapshot());
    let mut socket = Some(socket);
    loop {
        let of_this_life = match socket.take() {
            Some(socket) => socket,
            None => driver::bind(args.listen, false).context("listen again")?,
        };
        let snapshot: Snapshot = kept.borrow().clone();
        let (ticks, commands) = mpsc::channel(16);
        let app = Box {
            pager: Transmitter::restore(snapshot, config.clone(), clock.now())
                .context("restore the box")?,
            clock,
            saved: saved.clone(),
            parties_per_tick: args.parties_per_minute * TICK.as_secs_f64() / 60.0,
        };
        let endpoint = rollcall_coap::Config {
            heartbeat: Some(Duration::from_secs(args.ping_every)),
            ..rollcall_coap::Config::default()
        };
        let driver = Driver::new(of_this_life, endpoint, app, commands);
        let mut driver = driver.context("start the box")?;
        if keys.is_some() {
            let config = dtls::Config {
                keys: keys.clone(),
                ..dtls::Config::default()
            };
            driver = driver.secure(config).context("set up DTLS")?;
        }
        let beat = async move {
            let mut every = tokio::time::interval(TICK);
            loop {
                every.tick().await;
                if ticks.send(()).await.is_err() {
                    return;
                }
            }
        };
        let life = async {
            match args.reboot_every {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = driver.run() => {}
            () = beat => {}
            () = life => {}
        }
        tokio::time::sleep(REBOOT).await;
    }
}

/// The box itself.
struct Box {
    pager: Transmitter,
    clock: Clock,
    saved: watch::Sender<Snapshot>,
    parties_per_tick: f64,
}

impl App for Box {
    type Command = ();

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
        match event {
            Event::Request(id, request) => self.request(endpoint, now, id, &request),
            Event::Heartbeat(observer) => {
                let body = self.pager.ping(self.clock.now());
                endpoint.notify(
                    now,
                    observer,
                    Response::content(JSON, body),
                    Urgency::Latest,
                );
            }
            Event::ObserverGone(_) | Event::Ended(..) | Event::Notified(..) => {}
        }
    }

    /// A tick.
    fn command(&mut self, endpoint: &mut Endpoint, now: Time, (): ()) {
        let effects = self.pager.tick(self.clock.now());
        self.tell(endpoint, now, &effects);
        let mut rng = rand::rng();
        let whole = self.parties_per_tick.trunc();
        let chance = self.parties_per_tick - whole;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 100"
        )]
        let parties = whole as u32 + u32::from(rng.random_bool(chance));
        for _ in 0..parties {
            let number = rng.random_range(1..=PAGERS);
            let size = rng.random_range(1..=8);
            let goal = rng.random_range(20..=90);
            let body = format!(r#"{{"number":{number},"partySize":{size},"goal":{goal}}}"#);
            self.ask(endpoint, now, Method::Post, &[], &body);
        }
        // Of those who wait, some are paged or go: the sooner, the more there are.
        for _ in 0..parties * 2 {
            let waiting = self.pager.active().len();
            if waiting < rng.random_range(1..=USUAL_GUESTS) {
                continue;
            }
            let some = self.pager.active().nth(rng.random_range(0..waiting.max(1)));
            let Some((number, is_paged)) =
                some.map(|session| (session.number, session.notified.is_some()))
            else {
                return;
            };
            let query = [format!("number={number}")];
            let action = if is_paged {
                r#"{"action":"clear"}"#
            } else {
                r#"{"action":"page"}"#
            };
            self.ask(endpoint, now, Method::Put, &query, action);
        }
    }
}

impl Box {
    fn request(&mut self, endpoint: &mut Endpoint, now: Time, id: RequestId, request: &Request) {
        let etags: Vec<Vec<u8>> = request.etags.iter().map(|etag| etag.to_vec()).collect();
        let asked = rollcall_pager::Request {
            method: hosted::method(request.method),
            path: &request.path,
            query: &request.query,
            content_format: request.content_format,
            etags: &etags,
            payload: &request.payload,
        };
        let reply = self.pager.handle(asked, self.clock.now(), Uuid::new_v4);
        let effects = reply.effects.clone();
        let is_observable = request.method == Code::GET && request.path == ["v1", "notify"];
        endpoint.respond(now, id, hosted::response(reply), is_observable);
        self.tell(endpoint, now, &effects);
    }

    /// What the host stand of the simulation asks.
    fn ask(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        method: Method,
        query: &[String],
        body: &str,
    ) {
        let request = rollcall_pager::Request {
            method,
            path: &["v1".to_owned(), "sessions".to_owned()],
            query,
            content_format: None,
            etags: &[],
            payload: body.as_bytes(),
        };
        let reply = self.pager.handle(request, self.clock.now(), Uuid::new_v4);
        self.tell(endpoint, now, &reply.effects);
    }

    fn tell(&mut self, endpoint: &mut Endpoint, now: Time, effects: &Effects) {
        if *effects == Effects::default() {
            return;
        }
        let at = self.clock.now();
        self.saved.send_replace(self.pager.snapshot());
        let mut bodies: Vec<Vec<u8>> = effects
            .changes
            .iter()
            .map(|change| self.pager.notification(change, at))
            .collect();
        bodies.extend(
            effects
                .is_settings_changed
                .then(|| self.pager.settings_notification(at)),
        );
        let observers: Vec<_> = endpoint.observers().map(|(id, ..)| id).collect();
        for body in bodies {
            for observer in &observers {
                endpoint.notify(
                    now,
                    *observer,
                    Response::content(JSON, body.clone()),
                    Urgency::Each,
                );
            }
        }
    }
}
