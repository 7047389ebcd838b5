//! A network that misbehaves by its seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shares of datagrams.
    pub lost: f64,
    pub doubled: f64,
    /// Longest way of a datagram; ways differ, so that datagrams overtake each other.
    pub delay: Duration,
}

impl Weather {
    pub const CALM: Self = Self {
        lost: 0.0,
        doubled: 0.0,
        delay: Duration::from_millis(10),
    };
    /// Nothing passes.
    pub const CUT: Self = Self {
        lost: 1.0,
        ..Self::CALM
    };

    pub fn any(rng: &mut StdRng) -> Self {
        let longest = [0.01, 0.2, 3.0, 30.0][rng.random_range(0..4)];
        Self {
            lost: rng.random_range(0.0..0.6),
            doubled: rng.random_range(0.0..0.4),
            delay: Duration::from_secs_f64(longest),
        }
    }
}

/// A datagram: from, to, bytes.
pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

/// What is on its way.
pub struct Network {
    pub weather: Weather,
    rng: StdRng,
    flying: BTreeMap<(Duration, u64), Datagram>,
    next: u64,
}

impl Network {
    pub fn new(rng: StdRng) -> Self {
        Self {
            weather: Weather::CALM,
            rng,
            flying: BTreeMap::new(),
            next: 0,
        }
    }

    pub fn send(&mut self, now: Duration, (from, to, bytes): Datagram) {
        let copies = 1 + usize::from(self.rng.random_bool(self.weather.doubled));
        for _ in 0..copies {
            if self.rng.random_bool(self.weather.lost) {
                continue;
            }
            let delay = self.weather.delay.mul_f64(self.rng.random::<f64>());
            self.next += 1;
            self.flying
                .insert((now + delay, self.next), (from, to, bytes.clone()));
        }
    }

    /// When the next one arrives.
    pub fn due(&self) -> Option<Duration> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// One that has arrived.
    pub fn arrived(&mut self, now: Duration) -> Option<Datagram> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
