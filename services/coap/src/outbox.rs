//! Confirmable messages on their way out: sent again until acknowledged, one at a time to each peer
//! (RFC 7252, sections 4.2 and 4.7: `NSTART` = 1).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::message::Message;
use crate::types::{CallId, ObserverId, Time};

/// `ACK_TIMEOUT`: how long to wait for the first acknowledgement, at least; half as much again at most.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// `MAX_RETRANSMIT`
const MAX_RETRANSMIT: u32 = 4;

/// What a confirmable message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A response that comes later than its request's acknowledgement.
    Separate,
    Notification(ObserverId),
    Call(CallId),
    /// Nobody waits for its end.
    Courtesy,
}

struct Exchange {
    bytes: Bytes,
    retries: u32,
    timeout: Duration,
    due: Time,
    purpose: Purpose,
}

#[derive(Default)]
struct Peer {
    next_id: u16,
    in_flight: Option<u16>,
    queue: VecDeque<(Message, Purpose)>,
}

/// What time has brought.
pub enum Due {
    /// Send these bytes again.
    Retransmit(SocketAddr, Bytes),
    /// The peer did not acknowledge.
    GaveUp(SocketAddr, Purpose),
    /// The message waits for something newer to take its place: see [`Outbox::replace`].
    MayReplace(SocketAddr, u16, ObserverId),
}

pub struct Outbox {
    max_peers: usize,
    max_queue: usize,
    peers: HashMap<SocketAddr, Peer>,
    exchanges: HashMap<(SocketAddr, u16), Exchange>,
}

impl Outbox {
    pub fn new(max_peers: usize, max_queue: usize) -> Self {
        Self {
            max_peers,
            max_queue,
            peers: HashMap::new(),
            exchanges: HashMap::new(),
        }
    }

    /// A message id that was not used with this peer lately.
    pub fn next_id(&mut self, to: SocketAddr, rng: &mut StdRng) -> u16 {
        match self.peer(to, rng) {
            Some(peer) => {
                peer.next_id = peer.next_id.wrapping_add(1);
                peer.next_id
            }
            None => rng.random(),
        }
    }

    fn peer(&mut self, to: SocketAddr, rng: &mut StdRng) -> Option<&mut Peer> {
        if !self.peers.contains_key(&to) {
            if self.peers.len() >= self.max_peers {
                self.peers
                    .retain(|_, peer| peer.in_flight.is_some() || !peer.queue.is_empty());
            }
            if self.peers.len() >= self.max_peers {
                return None;
            }
            let peer = Peer {
                next_id: rng.random(),
                ..Peer::default()
            };
            self.peers.insert(to, peer);
        }
        self.peers.get_mut(&to)
    }

    /// Sends a message now or, where another waits for its acknowledgement, after it. Answers the bytes to send now;
    /// an error where too much waits.
    pub fn send(
        &mut self,
        now: Time,
        to: SocketAddr,
        message: Message,
        purpose: Purpose,
        rng: &mut StdRng,
    ) -> Result<Option<Bytes>, ()> {
        let max_queue = self.max_queue;
        let peer = self.peer(to, rng).ok_or(())?;
        if peer.in_flight.is_some() {
            if peer.queue.len() >= max_queue {
                return Err(());
            }
            peer.queue.push_back((message, purpose));
            return Ok(None);
        }
        Ok(Some(self.start(now, to, message, purpose, rng)))
    }

    fn start(
        &mut self,
        now: Time,
        to: SocketAddr,
        mut message: Message,
        purpose: Purpose,
        rng: &mut StdRng,
    ) -> Bytes {
        message.id = self.next_id(to, rng);
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.in_flight = Some(message.id);
        }
        let bytes = message.encode();
        let timeout = ACK_TIMEOUT.mul_f64(1.0 + rng.random::<f64>() / 2.0);
        let exchange = Exchange {
            bytes: bytes.clone(),
            retries: 0,
            timeout,
            due: now + timeout,
            purpose,
        };
        self.exchanges.insert((to, message.id), exchange);
        bytes
    }

    /// Puts a newer message in the place of one that was not acknowledged yet; how often it was sent goes on counting
    /// (RFC 7641, section 4.5.2). Answers the bytes.
    pub fn replace(
        &mut self,
        to: SocketAddr,
        id: u16,
        mut message: Message,
        rng: &mut StdRng,
    ) -> Option<Bytes> {
        let mut exchange = self.exchanges.remove(&(to, id))?;
        message.id = self.next_id(to, rng);
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.in_flight = Some(message.id);
        }
        exchange.bytes = message.encode();
        let bytes = exchange.bytes.clone();
        self.exchanges.insert((to, message.id), exchange);
        Some(bytes)
    }

    /// Ends what the peer has acknowledged, refused, or answered; answers what it was for.
    pub fn finish(&mut self, to: SocketAddr, id: u16) -> Option<Purpose> {
        let exchange = self.exchanges.remove(&(to, id))?;
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.in_flight = peer.in_flight.filter(|in_flight| *in_flight != id);
        }
        Some(exchange.purpose)
    }

    /// Ends the message in flight to a peer, and forgets those in its queue, that are for this purpose.
    pub fn abandon(&mut self, to: SocketAddr, purpose: Purpose) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        peer.queue.retain(|(_, held)| *held != purpose);
        if let Some(id) = peer.in_flight
            && self
                .exchanges
                .get(&(to, id))
                .is_some_and(|e| e.purpose == purpose)
        {
            self.finish(to, id);
        }
    }

    /// Forgets a peer, and all that is on its way to it.
    pub fn forget(&mut self, peer: SocketAddr) {
        if let Some(held) = self.peers.remove(&peer)
            && let Some(id) = held.in_flight
        {
            self.exchanges.remove(&(peer, id));
        }
    }

    /// What is in flight to a peer for this purpose.
    pub fn in_flight(&self, to: SocketAddr, purpose: Purpose) -> Option<u16> {
        let id = self.peers.get(&to)?.in_flight?;
        let exchange = self.exchanges.get(&(to, id))?;
        (exchange.purpose == purpose).then_some(id)
    }

    /// Whether anything for this purpose waits or is in flight.
    pub fn has(&self, to: SocketAddr, purpose: Purpose) -> bool {
        self.in_flight(to, purpose).is_some()
            || self
                .peers
                .get(&to)
                .is_some_and(|peer| peer.queue.iter().any(|(_, held)| *held == purpose))
    }

    /// Starts what waits for a peer that has nothing in flight; answers the bytes to send.
    pub fn next(&mut self, now: Time, to: SocketAddr, rng: &mut StdRng) -> Option<Bytes> {
        let peer = self.peers.get_mut(&to)?;
        if peer.in_flight.is_some() {
            return None;
        }
        let (message, purpose) = peer.queue.pop_front()?;
        Some(self.start(now, to, message, purpose, rng))
    }

    /// When something is due.
    pub fn next_due(&self) -> Option<Time> {
        self.exchanges.values().map(|exchange| exchange.due).min()
    }

    /// What is due. `may_replace` says of which observers something newer waits.
    pub fn due(&mut self, now: Time, may_replace: impl Fn(ObserverId) -> bool) -> Vec<Due> {
        let is_due = |(key, exchange): (&(SocketAddr, u16), &Exchange)| {
            (exchange.due <= now).then_some(*key)
        };
        let mut keys: Vec<_> = self.exchanges.iter().filter_map(is_due).collect();
        // A map has no order of its own, and what is sent must not hang on chance.
        keys.sort_unstable();
        let mut due = Vec::with_capacity(keys.len());
        for (to, id) in keys {
            let exchange = self.exchanges.get_mut(&(to, id)).expect("it is there");
            if exchange.retries >= MAX_RETRANSMIT {
                let purpose = exchange.purpose;
                self.finish(to, id);
                due.push(Due::GaveUp(to, purpose));
                continue;
            }
            exchange.retries += 1;
            exchange.timeout *= 2;
            exchange.due = now + exchange.timeout;
            match exchange.purpose {
                Purpose::Notification(observer) if may_replace(observer) => {
                    due.push(Due::MayReplace(to, id, observer));
                }
                _ => due.push(Due::Retransmit(to, exchange.bytes.clone())),
            }
        }
        due
    }
}
