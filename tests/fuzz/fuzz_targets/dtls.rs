//! Two DTLS layers and somebody between them who drops, repeats, reorders and changes datagrams: nobody falls over, what arrives
//! was sent, and what is held stays within its bounds.
#![no_main]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rollcall_coap::dtls::{Config, Credential, Event, Keys, Layer};

const KEYS: &str = "device:000102030405060708090a0b0c0d0e0f";

struct Lab {
    server: Layer,
    client: Layer,
    now: Duration,
    sent: VecDeque<(bool, Vec<u8>)>,
}

fn address(is_server: bool) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, u8::from(is_server)], 5_684))
}

/// The configurations: to make them is what takes longest.
fn configurations() -> &'static (Config, Config) {
    static HELD: OnceLock<(Config, Config)> = OnceLock::new();
    HELD.get_or_init(|| {
        let credential: Credential = KEYS.parse().expect("a credential");
        let server = Config {
            keys: Some(Arc::new(Keys::parse(KEYS).expect("a key"))),
            max_handshakes: 4,
            max_handshakes_per_network: 2,
            max_sessions: 2,
            ..Config::default()
        };
        let client = Config { credential: Some(credential), ..Config::default() };
        (server, client)
    })
}

impl Lab {
    fn settle(&mut self) {
        for is_server in [true, false] {
            let layer = if is_server { &mut self.server } else { &mut self.client };
            layer.handle_timeout(self.now);
            while let Some(event) = layer.poll_event() {
                if let Event::Data(_, bytes) = event {
                    assert_eq!(&bytes[..], b"said", "what arrives was sent");
                }
            }
            while let Some((_, bytes)) = layer.poll_transmit() {
                self.sent.push_back((is_server, bytes.to_vec()));
            }
        }
        while self.sent.len() > 32 {
            self.sent.pop_front();
        }
        assert!(self.server.handshakes() <= 4 && self.server.sessions() <= 2);
    }

    fn deliver(&mut self, is_from_server: bool, bytes: &[u8]) {
        let to = if is_from_server { &mut self.client } else { &mut self.server };
        to.receive(self.now, address(is_from_server), bytes);
    }

    /// What a few bytes of the input do.
    fn step(&mut self, [what, at, value]: [u8; 3]) {
        match what % 8 {
            0..3 => {
                if let Some((from, bytes)) = self.sent.pop_front() {
                    self.deliver(from, &bytes);
                }
            }
            3 => {
                if let Some((from, mut bytes)) = self.sent.front().cloned() {
                    let length = bytes.len();
                    bytes[usize::from(at) % length] = value;
                    self.deliver(from, &bytes);
                }
            }
            4 => {
                let index = usize::from(at) % self.sent.len().max(1);
                if let Some((from, bytes)) = self.sent.get(index).cloned() {
                    let from = if value & 1 == 0 { from } else { !from };
                    let length = bytes.len().saturating_sub(usize::from(value >> 1));
                    self.deliver(from, &bytes[..length]);
                }
            }
            5 => {
                self.sent.pop_front();
            }
            6 => self.now += Duration::from_millis(u64::from(at) * u64::from(value)),
            _ if value == 255 => self.client.close(),
            _ => {
                let is_server = value & 1 == 0;
                let layer = if is_server { &mut self.server } else { &mut self.client };
                layer.send(self.now, address(!is_server), b"said");
            }
        }
        self.settle();
    }
}

fuzz_target!(|data: &[u8]| {
    let (server, client) = configurations().clone();
    let mut lab = Lab {
        server: Layer::new(server, [1; 32]).expect("a layer"),
        client: Layer::new(client, [2; 32]).expect("a layer"),
        now: Duration::from_secs(1),
        sent: VecDeque::new(),
    };
    lab.client.send(lab.now, address(true), b"said");
    lab.settle();
    for step in data.chunks_exact(3) {
        lab.step([step[0], step[1], step[2]]);
    }
});
