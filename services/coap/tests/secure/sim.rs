//! A server and as many clients as a test wants, each an endpoint on a layer, and the network between them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_coap::driver::hand_up;
use rollcall_coap::dtls::{Config, Credential, Keys, Layer};
use rollcall_coap::{
    Call, CallId, Code, Endpoint, Event, Failure, ObserverId, Response, TEXT, Urgency,
};

pub const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 5684);

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost: f64,
    pub doubled: f64,
    pub delay: Duration,
}

pub const FAIR: Weather = Weather {
    lost: 0.0,
    doubled: 0.0,
    delay: Duration::from_millis(2),
};

/// The address of a client; each is of a network of its own.
pub fn address(n: u16) -> SocketAddr {
    let [a, b] = n.to_be_bytes();
    SocketAddr::from(([203, a, b, 7], 40_000))
}

pub fn credential(identity: &str, byte: u8) -> Credential {
    Credential {
        identity: Arc::from(identity),
        key: Arc::from([byte; 16]),
    }
}

/// Keys of the devices `d1` to `d99`: their number, sixteen times.
pub fn keys() -> Arc<Keys> {
    let lines = (1..100).map(|n| format!("d{n}:{}\n", format!("{n:02x}").repeat(16)));
    Arc::new(Keys::parse(&lines.collect::<String>()).expect("the keys are good"))
}

/// An endpoint on its layer.
pub struct Host {
    pub layer: Layer,
    pub endpoint: Endpoint,
}

impl Host {
    pub fn new(config: Config, seed: u64) -> Self {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        // Nobody is trusted for its address: what is answered is answered because of the session.
        let of_endpoint = rollcall_coap::Config {
            trusted: Vec::new(),
            ..rollcall_coap::Config::default()
        };
        Self {
            layer: Layer::new(config, bytes).expect("the configuration is good"),
            endpoint: Endpoint::new(of_endpoint, bytes, 0),
        }
    }

    pub fn client(identity: &str, byte: u8, seed: u64) -> Self {
        let config = Config {
            credential: Some(credential(identity, byte)),
            ..Config::default()
        };
        Self::new(config, seed)
    }

    pub fn receive(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        self.layer.receive(now, from, datagram);
        hand_up(&mut self.layer, &mut self.endpoint, now);
    }

    fn handle_timeout(&mut self, now: Duration) {
        self.layer.handle_timeout(now);
        hand_up(&mut self.layer, &mut self.endpoint, now);
        self.endpoint.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Duration> {
        let both = [self.layer.poll_timeout(), self.endpoint.poll_timeout()];
        both.into_iter().flatten().min()
    }

    /// Brings down what the endpoint sends.
    pub fn push(&mut self, now: Duration) {
        loop {
            while let Some((to, bytes)) = self.endpoint.poll_transmit() {
                self.layer.send(now, to, &bytes);
            }
            while let Some(peer) = self.endpoint.poll_disconnect() {
                self.layer.disconnect(peer);
            }
            if !hand_up(&mut self.layer, &mut self.endpoint, now) {
                return;
            }
        }
    }
}

pub struct Sim {
    pub now: Duration,
    pub server: Host,
    pub clients: BTreeMap<SocketAddr, Host>,
    pub ended: BTreeMap<(SocketAddr, CallId), Result<Response, Failure>>,
    pub notified: Vec<(SocketAddr, Response)>,
    pub observers: Vec<ObserverId>,
    pub gone: usize,
    /// Who asked for what, as the server's app saw it.
    pub asked: Vec<(SocketAddr, Option<Arc<str>>, String)>,
    /// Everything that was sent: from, to, and what.
    pub wire: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    pub weather: Weather,
    rng: StdRng,
    flying: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    next: u64,
}

impl Sim {
    pub fn new(seed: u64, weather: Weather) -> Self {
        let config = Config {
            keys: Some(keys()),
            ..Config::default()
        };
        Self::with(seed, weather, config)
    }

    pub fn with(seed: u64, weather: Weather, config: Config) -> Self {
        Self {
            now: Duration::from_secs(1),
            server: Host::new(config, seed),
            clients: BTreeMap::new(),
            ended: BTreeMap::new(),
            notified: Vec::new(),
            observers: Vec::new(),
            gone: 0,
            asked: Vec::new(),
            wire: Vec::new(),
            weather,
            rng: StdRng::seed_from_u64(seed),
            flying: BTreeMap::new(),
            next: 0,
        }
    }

    /// A client with the key of the device `d<n>`.
    pub fn add(&mut self, n: u8) -> SocketAddr {
        self.add_with(n, &format!("d{n}"), n)
    }

    pub fn add_with(&mut self, n: u8, identity: &str, byte: u8) -> SocketAddr {
        let at = address(u16::from(n));
        let seed = self.rng.random();
        // A restarted client counts its calls anew.
        self.ended.retain(|(of, _), _| *of != at);
        self.clients.insert(at, Host::client(identity, byte, seed));
        at
    }

    pub fn call(&mut self, from: SocketAddr, call: Call) -> (SocketAddr, CallId) {
        let host = self.clients.get_mut(&from).expect("it was added");
        (from, host.endpoint.call(self.now, SERVER, call))
    }

    pub fn get(&mut self, from: SocketAddr) -> (SocketAddr, CallId) {
        self.call(from, Call::new(Code::GET, "/thing"))
    }

    /// The code that a call ended with.
    pub fn code(&self, call: (SocketAddr, CallId)) -> Result<Code, Failure> {
        let ended = self.ended.get(&call).expect("the call has ended");
        ended.as_ref().map(|response| response.code).map_err(|f| *f)
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.collect();
            let next = self.flying.first_key_value().map(|((at, _), _)| *at);
            let next = next
                .into_iter()
                .chain(self.server.poll_timeout())
                .chain(self.clients.values().filter_map(Host::poll_timeout));
            let Some(next) = next.min().filter(|next| *next <= until) else {
                self.now = until;
                // What was brought down last may have told something at once.
                return self.collect();
            };
            self.now = next.max(self.now);
            while let Some(entry) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
                let (from, to, bytes) = entry.remove();
                let to = if to == SERVER {
                    Some(&mut self.server)
                } else {
                    self.clients.get_mut(&to)
                };
                if let Some(host) = to {
                    host.receive(self.now, from, &bytes);
                }
            }
            self.server.handle_timeout(self.now);
            for host in self.clients.values_mut() {
                host.handle_timeout(self.now);
            }
        }
    }

    pub fn publish(&mut self, body: &str) {
        for observer in self.observers.clone() {
            let response = Response::content(TEXT, body.to_owned());
            let endpoint = &mut self.server.endpoint;
            endpoint.notify(self.now, observer, response, Urgency::Each);
        }
    }

    fn collect(&mut self) {
        self.serve();
        let now = self.now;
        let mut sent = Vec::new();
        self.server.push(now);
        while let Some((to, bytes)) = self.server.layer.poll_transmit() {
            sent.push((SERVER, to, bytes));
        }
        for (at, host) in &mut self.clients {
            while let Some(event) = host.endpoint.poll_event() {
                match event {
                    Event::Ended(call, outcome) => {
                        let before = self.ended.insert((*at, call), outcome);
                        assert!(before.is_none(), "a call ends once");
                    }
                    Event::Notified(_, response, _) => self.notified.push((*at, response)),
                    event => panic!("a client alone is told {event:?}"),
                }
            }
            host.push(now);
            while let Some((to, bytes)) = host.layer.poll_transmit() {
                sent.push((*at, to, bytes));
            }
        }
        for (from, to, bytes) in sent {
            self.send(from, to, &bytes);
        }
    }

    fn serve(&mut self) {
        while let Some(event) = self.server.endpoint.poll_event() {
            match event {
                Event::Request(id, request) => {
                    let body = String::from_utf8_lossy(&request.payload).into_owned();
                    self.asked
                        .push((request.peer, request.identity.clone(), body));
                    let response = match request.method {
                        Code::GET => Response::content(TEXT, "x".repeat(3_000)),
                        _ => Response::new(Code::CHANGED),
                    };
                    let endpoint = &mut self.server.endpoint;
                    let observer = endpoint.respond(self.now, id, response, true);
                    if let Some(observer) = observer.filter(|id| !self.observers.contains(id)) {
                        self.observers.push(observer);
                    }
                }
                Event::ObserverGone(id) => {
                    self.gone += 1;
                    self.observers.retain(|held| *held != id);
                }
                event => panic!("a server alone is told {event:?}"),
            }
        }
    }

    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.wire.push((from, to, bytes.to_vec()));
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.doubled));
        for _ in 0..copies {
            if self.rng.random_bool(self.weather.lost) {
                continue;
            }
            let delay = self.weather.delay.mul_f64(self.rng.random::<f64>());
            self.next += 1;
            let flight = (from, to, bytes.to_vec());
            self.flying.insert((self.now + delay, self.next), flight);
        }
    }
}
