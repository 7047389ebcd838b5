//! The endpoint's core, without sockets and clock: datagrams and times go in, datagrams and events come out.
//!
//! Invariant: whatever comes in, memory stays within [`Config`]'s bounds.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::blocks::{Downloads, Uploads};
use crate::client::Calls;
use crate::code::{Code, Kind};
use crate::config::Config;
use crate::message::{self, Malformed, Message};
use crate::observers::Observers;
use crate::outbox::{Due, Outbox, Purpose};
use crate::seen::Seen;
use crate::server::Pending;
use crate::types::{Event, Failure, ObserverId, RequestId, Time};

/// Peers that have shown that their address is their own, at most.
const MAX_VERIFIED: usize = 4_096;

/// A CoAP endpoint: server and client (RFC 7252, 7641, 7959, 9175).
pub struct Endpoint {
    pub(crate) config: Config,
    pub(crate) rng: StdRng,
    /// What the time zero of this endpoint was by the wall's clock, in milliseconds: sequence numbers of notifications go
    /// on from there.
    pub(crate) epoch_ms: u64,
    pub(crate) outbox: Outbox,
    pub(crate) seen: Seen,
    pub(crate) uploads: Uploads,
    pub(crate) downloads: Downloads,
    pub(crate) observers: Observers,
    pub(crate) pending: HashMap<RequestId, Pending>,
    /// Which requests must be acknowledged by when, in order; those that are answered by then are passed over.
    pub(crate) unacknowledged: VecDeque<(Time, RequestId)>,
    pub(crate) next_request: u64,
    pub(crate) calls: Calls,
    pub(crate) echo: RandomState,
    pub(crate) verified: VecDeque<SocketAddr>,
    /// Who peers with a secure session are; the layer below bounds them.
    pub(crate) secure: HashMap<SocketAddr, Arc<str>>,
    out: VecDeque<(SocketAddr, Bytes)>,
    events: VecDeque<Event>,
    disconnects: VecDeque<SocketAddr>,
    /// Nothing is due before.
    wake: Option<Time>,
}

impl Endpoint {
    /// An endpoint. `seed` must be unpredictable, but in tests; `epoch_ms` is the time of its making in milliseconds since
    /// 1970.
    pub fn new(config: Config, seed: [u8; 32], epoch_ms: u64) -> Self {
        Self {
            rng: StdRng::from_seed(seed),
            epoch_ms,
            outbox: Outbox::new(config.max_peers, config.max_queue),
            seen: Seen::new(config.max_seen, config.max_seen_safe, config.max_seen_bytes),
            uploads: Uploads::new(config.max_uploads, config.max_body),
            downloads: Downloads::new(config.max_downloads, config.max_download_bytes),
            observers: Observers::new(config.max_observers, config.max_observers_per_peer),
            pending: HashMap::new(),
            unacknowledged: VecDeque::new(),
            next_request: 0,
            calls: Calls::default(),
            echo: RandomState::new(),
            verified: VecDeque::new(),
            secure: HashMap::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            disconnects: VecDeque::new(),
            wake: None,
            config,
        }
    }

    /// Takes a datagram.
    pub fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        // To port 0 nothing can be sent.
        if from.port() == 0 {
            return;
        }
        let message = match message::decode(datagram) {
            Ok(message) => message,
            Err(Malformed::Ignore) => return,
            Err(Malformed::Reject { id }) => return self.reset(from, id),
        };
        match (message.kind, message.code) {
            // A ping (section 4.3).
            (Kind::Confirmable, Code::EMPTY) => self.reset(from, message.id),
            (Kind::Acknowledgement, Code::EMPTY) => self.on_acknowledgement(now, from, message.id),
            (Kind::Reset, _) => self.on_reset(now, from, message.id),
            (_, code) if code.is_request() => self.on_request(now, from, message),
            _ => self.on_response(now, from, message),
        }
    }

    /// A secure session with a peer has begun: its address is its own, and this is who it is.
    pub fn connect(&mut self, peer: SocketAddr, identity: Arc<str>) {
        self.secure.insert(peer, identity);
    }

    /// A session with a peer is over, and with it all that was of it (RFC 7252, section 9.1.1): its observers are gone, its
    /// requests get no response, calls to it have failed, and ids of its messages mean nothing any more.
    pub fn forget(&mut self, peer: SocketAddr, why: Failure) {
        self.secure.remove(&peer);
        for id in self.observers.of(peer) {
            self.drop_observer(id);
        }
        self.pending.retain(|_, pending| pending.peer != peer);
        self.fail_calls(peer, why);
        self.outbox.forget(peer);
        self.seen.forget(peer);
        self.uploads.forget(peer);
        self.downloads.forget(peer);
    }

    /// Asks for the end of the secure session with a peer, where there is one: the next message to it begins another. Of use where
    /// a peer is silent that may have forgotten us.
    pub fn disconnect(&mut self, peer: SocketAddr) {
        self.disconnects.push_back(peer);
    }

    /// A peer whose secure session is to be ended.
    pub fn poll_disconnect(&mut self) -> Option<SocketAddr> {
        self.disconnects.pop_front()
    }

    /// A datagram to send, and to whom.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.out.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called; it may find nothing to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let first = self.unacknowledged.front().map(|(due, _)| *due);
        match (self.wake, first) {
            (Some(wake), Some(first)) => Some(wake.min(first)),
            (wake, first) => wake.or(first),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.acknowledge_slow_requests(now);
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        let observers = &self.observers;
        let due = self.outbox.due(now, |id| {
            observers.get(id).is_some_and(|observer| {
                observer
                    .waiting
                    .front()
                    .is_some_and(|(_, urgency)| *urgency != crate::Urgency::Each)
            })
        });
        for due in due {
            match due {
                Due::Retransmit(to, bytes) => self.transmit(to, bytes),
                Due::GaveUp(to, purpose) => {
                    self.on_gave_up(now, purpose);
                    self.send_next(now, to);
                }
                Due::MayReplace(to, id, observer) => {
                    self.replace_notification(now, to, id, observer)
                }
            }
        }
        self.heartbeats(now);
        self.release_slow_observers(now);
        self.call_timeouts(now);
        let of_observers = self
            .observers
            .iter()
            .flat_map(|(_, observer)| [observer.heartbeat_due, observer.fetching_until])
            .flatten();
        self.wake = of_observers
            .chain(self.outbox.next_due())
            .chain(self.calls.next_due())
            .min();
    }

    /// See to it that [`Self::handle_timeout`] is called by then.
    pub(crate) fn wake_at(&mut self, due: Time) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }

    pub(crate) fn transmit(&mut self, to: SocketAddr, bytes: Bytes) {
        self.out.push_back((to, bytes));
    }

    pub(crate) fn say(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn reset(&mut self, to: SocketAddr, id: u16) {
        self.transmit(to, Message::empty(Kind::Reset, id).encode());
    }

    pub(crate) fn acknowledge(&mut self, to: SocketAddr, id: u16) -> Bytes {
        let bytes = Message::empty(Kind::Acknowledgement, id).encode();
        self.transmit(to, bytes.clone());
        bytes
    }

    /// Sends a confirmable message, now or after those that wait already; says whether it could be taken.
    pub(crate) fn send_reliably(
        &mut self,
        now: Time,
        to: SocketAddr,
        message: Message,
        purpose: Purpose,
    ) -> bool {
        match self.outbox.send(now, to, message, purpose, &mut self.rng) {
            Ok(Some(bytes)) => {
                self.transmit(to, bytes);
                self.wake_at(now + std::time::Duration::from_secs(2));
                true
            }
            Ok(None) => true,
            Err(()) => false,
        }
    }

    /// Sends what waits for a peer.
    pub(crate) fn send_next(&mut self, now: Time, to: SocketAddr) {
        if let Some(bytes) = self.outbox.next(now, to, &mut self.rng) {
            self.transmit(to, bytes);
            self.wake_at(now + std::time::Duration::from_secs(2));
        }
    }

    fn on_acknowledgement(&mut self, now: Time, from: SocketAddr, id: u16) {
        match self.outbox.finish(from, id) {
            Some(Purpose::Notification(observer)) => {
                self.on_notification_acknowledged(now, observer)
            }
            Some(Purpose::Call(call)) => self.on_call_acknowledged(now, call),
            Some(Purpose::Separate | Purpose::Courtesy) | None => {}
        }
        self.send_next(now, from);
    }

    fn on_reset(&mut self, now: Time, from: SocketAddr, id: u16) {
        match self.outbox.finish(from, id) {
            Some(Purpose::Notification(observer)) => self.drop_observer(observer),
            Some(Purpose::Call(call)) => self.on_call_reset(call),
            Some(Purpose::Separate | Purpose::Courtesy) => {}
            None => {
                if let Some(observer) = self.observers.find_by_id(from, id) {
                    self.drop_observer(observer);
                }
            }
        }
        self.send_next(now, from);
    }

    fn on_gave_up(&mut self, now: Time, purpose: Purpose) {
        match purpose {
            Purpose::Notification(observer) => self.drop_observer(observer),
            Purpose::Call(call) => self.on_call_timeout(now, call),
            Purpose::Separate | Purpose::Courtesy => {}
        }
    }

    /// Forgets an observer, and says so.
    pub(crate) fn drop_observer(&mut self, id: ObserverId) {
        if let Some(observer) = self.observers.remove(id) {
            self.outbox
                .abandon(observer.peer, Purpose::Notification(id));
            self.say(Event::ObserverGone(id));
        }
    }

    /// Whether the address has shown that it is its own, or needs not.
    pub(crate) fn is_trusted(&self, peer: SocketAddr) -> bool {
        let mut networks = self.config.trusted.iter();
        networks.any(|network| network.contains(peer.ip()))
            || self.secure.contains_key(&peer)
            || self.verified.contains(&peer)
    }

    pub(crate) fn verify(&mut self, peer: SocketAddr) {
        if self.verified.contains(&peer) {
            return;
        }
        if self.verified.len() == MAX_VERIFIED {
            self.verified.pop_front();
        }
        self.verified.push_back(peer);
    }

    /// What a peer must send back to show that it receives at its address; it changes about once a minute.
    pub(crate) fn echo_value(&self, now: Time, peer: SocketAddr, age: u64) -> Option<[u8; 8]> {
        let minute = (now.as_secs() / 64).checked_sub(age)?;
        Some(self.echo.hash_one((peer, minute)).to_be_bytes())
    }
}
