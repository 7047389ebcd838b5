//! A network that misbehaves by its seed, and the server that the tests ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_coap::{
    Call, CallId, Code, Config, Endpoint, Event, Failure, ObserverId, Request, RequestId, Response,
    TEXT, Urgency,
};

pub const SERVER: SocketAddr = address(5683);
pub const CLIENT: SocketAddr = address(40_000);

const fn address(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shares of datagrams.
    pub lost: f64,
    pub doubled: f64,
    /// Longest way of a datagram; ways differ, so that datagrams overtake each other.
    pub delay: Duration,
}

/// What the server does, and what became of it.
#[derive(Default)]
pub struct Server {
    /// How long it thinks about each request.
    pub thinks: Duration,
    pub stored: Vec<u8>,
    /// Bodies of the POSTs that were carried out.
    pub posts: Vec<Vec<u8>>,
    pub observers: Vec<ObserverId>,
    /// How many observers were given up.
    pub gone: usize,
    waiting: Vec<(Duration, RequestId, Request)>,
}

impl Server {
    fn answer(&mut self, request: &Request) -> Response {
        match (request.method, request.path.first().map(String::as_str)) {
            (Code::POST, Some("mirror")) => Response {
                code: Code::CHANGED,
                ..Response::content(TEXT, request.payload.clone())
            },
            (Code::POST, _) => {
                self.posts.push(request.payload.to_vec());
                Response::new(Code::CHANGED)
            }
            (Code::PUT, _) => {
                self.stored = request.payload.to_vec();
                Response::new(Code::CHANGED)
            }
            (_, Some("echo")) => Response::content(TEXT, request.query.join("&")),
            _ => Response::content(TEXT, self.stored.clone()),
        }
    }
}

pub struct Sim {
    pub now: Duration,
    pub server: Server,
    pub at_server: Endpoint,
    pub at_client: Endpoint,
    pub ended: BTreeMap<CallId, Result<Response, Failure>>,
    pub notified: Vec<Response>,
    /// Datagrams that the server got, for tests that repeat or spoil them.
    pub wire: Vec<Vec<u8>>,
    weather: Weather,
    rng: StdRng,
    flying: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    next: u64,
}

impl Sim {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self::with(seed, weather, Config::default())
    }

    pub fn with(seed: u64, weather: Weather, config: Config) -> Self {
        let seeds = |n: u8| {
            let mut bytes = [n; 32];
            bytes[..8].copy_from_slice(&seed.to_be_bytes());
            bytes
        };
        Self {
            now: Duration::from_secs(1),
            server: Server::default(),
            at_server: Endpoint::new(config, seeds(1), 0),
            at_client: Endpoint::new(Config::default(), seeds(2), 0),
            ended: BTreeMap::new(),
            notified: Vec::new(),
            wire: Vec::new(),
            weather,
            rng: StdRng::from_seed(seeds(3)),
            flying: BTreeMap::new(),
            next: 0,
        }
    }

    pub fn call(&mut self, call: Call) -> CallId {
        self.at_client.call(self.now, SERVER, call)
    }

    /// Tells all observers of the server's resource.
    pub fn publish(&mut self, body: &[u8], urgency: Urgency) {
        self.server.stored = body.to_vec();
        for observer in self.server.observers.clone() {
            let response = Response::content(TEXT, body.to_vec());
            self.at_server.notify(self.now, observer, response, urgency);
        }
    }

    /// Lets time pass until `until`, or until nothing is left to happen.
    pub fn run(&mut self, until: Duration) {
        loop {
            self.collect();
            let thoughts = self.server.waiting.iter().map(|(due, ..)| *due).min();
            let next = [
                self.flying.first_key_value().map(|((at, _), _)| *at),
                self.at_server.poll_timeout(),
                self.at_client.poll_timeout(),
                thoughts,
            ];
            let Some(next) = next
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= until)
            else {
                self.now = until.max(self.now);
                return;
            };
            self.now = next.max(self.now);
            while let Some(entry) = self
                .flying
                .first_entry()
                .filter(|entry| entry.key().0 <= self.now)
            {
                let (from, to, bytes) = entry.remove();
                if to == SERVER {
                    self.wire.push(bytes.clone());
                    self.at_server.receive(self.now, from, &bytes);
                } else {
                    self.at_client.receive(self.now, from, &bytes);
                }
            }
            self.at_server.handle_timeout(self.now);
            self.at_client.handle_timeout(self.now);
        }
    }

    fn collect(&mut self) {
        self.serve();
        while let Some(event) = self.at_client.poll_event() {
            match event {
                Event::Ended(call, outcome) => {
                    let before = self.ended.insert(call, outcome);
                    assert!(before.is_none(), "a call ends once");
                }
                Event::Notified(_, response, _) => self.notified.push(response),
                Event::Request(id, _) => {
                    let response = Response::new(Code::NOT_FOUND);
                    self.at_client.respond(self.now, id, response, false);
                }
                event => panic!("a client alone is told {event:?}"),
            }
        }
        while let Some((to, bytes)) = self.at_server.poll_transmit() {
            self.send(SERVER, to, &bytes);
        }
        while let Some((to, bytes)) = self.at_client.poll_transmit() {
            self.send(CLIENT, to, &bytes);
        }
    }

    fn serve(&mut self) {
        while let Some(event) = self.at_server.poll_event() {
            match event {
                Event::Request(id, request) => {
                    self.server
                        .waiting
                        .push((self.now + self.server.thinks, id, request));
                }
                Event::ObserverGone(id) => {
                    self.server.gone += 1;
                    self.server.observers.retain(|held| *held != id);
                }
                Event::Heartbeat(id) => {
                    let response = Response::content(TEXT, self.server.stored.clone());
                    self.at_server
                        .notify(self.now, id, response, Urgency::Latest);
                }
                event => panic!("a server alone is told {event:?}"),
            }
        }
        let (due, later) = std::mem::take(&mut self.server.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(due, ..)| *due <= self.now);
        self.server.waiting = later;
        for (_, id, request) in due {
            let response = self.server.answer(&request);
            let observer = self.at_server.respond(self.now, id, response, true);
            if let Some(observer) = observer.filter(|id| !self.server.observers.contains(id)) {
                self.server.observers.push(observer);
            }
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.doubled));
        for _ in 0..copies {
            if self.rng.random_bool(self.weather.lost) {
                continue;
            }
            let delay = self.weather.delay.mul_f64(self.rng.random::<f64>());
            self.next += 1;
            self.flying
                .insert((self.now + delay, self.next), (from, to, bytes.to_vec()));
        }
    }
}
