//! All peers of a socket: whose datagram is it, who may begin a handshake, who has to go.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::dtls::cookie::Cookies;
use crate::dtls::keys::Resolver;
use crate::dtls::opening::Opening;
use crate::dtls::record::{self, ClientHello, First};
use crate::dtls::session::{self, Said, Session};
use crate::dtls::{Config, Credential, End, Event};
use crate::types::Time;

/// Datagrams that wait for a handshake of ours to come to its end.
const MAX_WAITING: usize = 16;
/// How exactly is known when a peer was heard last.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// A server that was silent for so long, while we sent, may have forgotten us. It is less than what passes until a message is
/// sent for the last time.
const SILENT_FOR: Duration = Duration::from_secs(25);
/// More than a record that anyone sends over UDP.
const SCRATCH: usize = 2_048;

/// A peer that has shown its key.
pub struct Established {
    session: Session,
    is_client: bool,
    pub random: [u8; 32],
    who: Credential,
    heard: Time,
    /// It has sent something, so it knows that the handshake is over.
    is_confirmed: bool,
    /// Since when what we send is answered by nothing.
    unanswered: Option<Time>,
}

/// DTLS for all peers of a socket.
pub struct Layer {
    pub(super) config: Config,
    /// What dimpl's clock says at our time zero.
    pub(super) base: Instant,
    pub(super) resolver: Option<Arc<Resolver>>,
    pub(super) server: Option<Arc<dimpl::Config>>,
    pub(super) client: Option<Arc<dimpl::Config>>,
    pub(super) cookies: Cookies,
    version: u64,
    pub(super) openings: HashMap<SocketAddr, Opening>,
    pub(super) established: HashMap<SocketAddr, Established>,
    /// The established, those that were silent longest first.
    idle: BTreeSet<(Time, SocketAddr)>,
    pub(super) out: VecDeque<(SocketAddr, Bytes)>,
    pub(super) events: VecDeque<Event>,
    pub(super) scratch: Vec<u8>,
    wake: Option<Time>,
}

impl Layer {
    /// A layer without peers. `secret` must be unpredictable.
    pub fn new(config: Config, secret: [u8; 32]) -> Result<Self, dimpl::Error> {
        let resolver = config.keys.clone().map(Resolver::new).map(Arc::new);
        let of_dimpl: Option<Arc<dyn dimpl::PskResolver>> = match &resolver {
            Some(resolver) => Some(resolver.clone()),
            None => None,
        };
        let server = of_dimpl.map(|keys| session::server(&config, keys));
        let client = config.credential.as_ref();
        let client = client.map(|credential| session::client(&config, credential));
        Ok(Self {
            version: config.keys.as_ref().map_or(0, |keys| keys.version()),
            config,
            base: Instant::now(),
            resolver,
            server: server.transpose()?,
            client: client.transpose()?,
            cookies: Cookies::new(secret),
            openings: HashMap::new(),
            established: HashMap::new(),
            idle: BTreeSet::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            wake: None,
        })
    }

    /// Takes a datagram.
    pub fn receive(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        self.look_at_keys();
        let Some(first) = record::first(datagram).filter(|_| from.port() != 0) else {
            return;
        };
        match first {
            First::ClientHello => {
                if let Some(hello) = ClientHello::read(datagram) {
                    self.on_client_hello(now, from, &hello);
                }
            }
            First::Plain if self.openings.contains_key(&from) => {
                self.feed_opening(now, from, datagram);
            }
            // The end of the handshake was lost on its way to the peer, which asks for it again.
            First::Plain => {
                let is_confirmed = |held: &Established| held.is_confirmed;
                if self
                    .established
                    .get(&from)
                    .is_some_and(|e| !is_confirmed(e))
                {
                    self.feed_established(now, from, datagram);
                }
            }
            First::PlainAlert => self.feed_opening(now, from, datagram),
            First::Protected => {
                let is_taken = self.established.contains_key(&from)
                    && self.feed_established(now, from, datagram);
                if !is_taken {
                    self.feed_opening(now, from, datagram);
                }
            }
        }
    }

    /// Sends to a peer that is connected. To others we connect first, where we have a credential.
    pub fn send(&mut self, now: Time, to: SocketAddr, data: &[u8]) {
        self.look_at_keys();
        if let Some(held) = self.established.get_mut(&to) {
            let since = *held.unanswered.get_or_insert(now);
            if held.is_client && since + SILENT_FOR < now {
                return self.end(to, true);
            }
            let outcome = held.session.send(data);
            self.drain_established(now, to);
            if let Err(error) = outcome {
                tracing::debug!(%error, peer = %to, "a DTLS session cannot go on");
                self.end(to, false);
            }
            return;
        }
        if let Some(opening) = self.openings.get_mut(&to) {
            let is_new = !opening.waiting.iter().any(|held| held[..] == *data);
            if opening.is_client && is_new && opening.waiting.len() < MAX_WAITING {
                opening.waiting.push_back(session::copy(data));
            }
            return;
        }
        self.connect(now, to, VecDeque::from([session::copy(data)]), 1);
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
        self.wake
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.look_at_keys();
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        let handshake_for = self.config.handshake_for;
        let due = self.openings.iter().filter(|(_, o)| o.due <= now);
        let mut due: Vec<SocketAddr> = due.map(|(peer, _)| *peer).collect();
        // A map has no order of its own, and what is sent must not hang on chance.
        due.sort_unstable();
        for peer in due {
            let instant = self.base + now;
            let Some(opening) = self.openings.get_mut(&peer) else {
                continue;
            };
            if opening.since + handshake_for <= now {
                self.give_up(now, peer);
                continue;
            }
            let outcome = opening.session.handle_timeout(instant);
            self.drain_opening(now, peer, outcome);
        }
        while let Some((heard, peer)) = self.idle.first().copied()
            && heard + self.config.idle_for <= now
        {
            self.end(peer, true);
        }
        let of_idle = self.idle.first();
        let of_idle = of_idle.map(|(heard, _)| *heard + self.config.idle_for);
        let of_openings = self.openings.values().map(|opening| opening.due);
        self.wake = of_openings.chain(of_idle).min();
    }

    /// Ends the session with a peer, or a handshake of ours: what is sent to it next begins another.
    pub fn disconnect(&mut self, peer: SocketAddr) {
        self.end(peer, true);
        let opening = self.openings.remove(&peer);
        if opening.is_some_and(|opening| opening.is_client) {
            self.events.push_back(Event::Ended(peer, End::Over));
        }
    }

    /// Says goodbye to everybody.
    pub fn close(&mut self) {
        for peer in self.established.keys().copied().collect::<Vec<_>>() {
            self.end(peer, true);
        }
        self.openings.clear();
    }

    /// Handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.openings.len()
    }

    /// Peers that are connected.
    pub fn sessions(&self) -> usize {
        self.established.len()
    }

    pub(super) fn wake_at(&mut self, due: Time) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }

    /// Cuts off who connected with a key that is gone.
    fn look_at_keys(&mut self) {
        let Some(resolver) = &self.resolver else {
            return;
        };
        let version = resolver.keys().version();
        if version == self.version {
            return;
        }
        self.version = version;
        let is_gone = |held: &Established| {
            let key = resolver.keys().find(held.who.identity.as_bytes());
            !held.is_client && key.is_none_or(|now| now.key != held.who.key)
        };
        let gone = self.established.iter().filter(|(_, held)| is_gone(held));
        for peer in gone.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.end(peer, true);
        }
        // They begin anew with the keys that hold now.
        self.openings.retain(|_, opening| opening.is_client);
    }

    /// A handshake has come to its end: from here on its session is the peer's only one.
    pub(super) fn establish(&mut self, now: Time, peer: SocketAddr) {
        let Some(opening) = self.openings.remove(&peer) else {
            return;
        };
        let Some(who) = opening.who else {
            return;
        };
        self.forget(peer);
        while self.established.len() >= self.config.max_sessions {
            let Some((_, oldest)) = self.idle.first().copied() else {
                break;
            };
            self.end(oldest, true);
        }
        let identity = who.identity.clone();
        self.idle.insert((now, peer));
        let held = Established {
            session: opening.session,
            is_client: opening.is_client,
            random: opening.random,
            who,
            heard: now,
            is_confirmed: false,
            unanswered: None,
        };
        self.established.insert(peer, held);
        self.wake_at(now + self.config.idle_for);
        self.events.push_back(Event::Connected(peer, identity));
        for data in opening.waiting {
            self.send(now, peer, &data);
        }
    }

    /// Gives a datagram to a peer's session; says whether that made anything of it.
    fn feed_established(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) -> bool {
        let instant = self.base + now;
        let Some(held) = self.established.get_mut(&from) else {
            return false;
        };
        let outcome = held.session.receive(instant, datagram);
        let is_taken = self.drain_established(now, from);
        if let Err(error) = outcome {
            tracing::debug!(%error, peer = %from, "a DTLS session has ended");
            self.end(from, false);
            return true;
        }
        is_taken
    }

    /// Sends and tells what a session has to send and to tell; says whether there was anything.
    fn drain_established(&mut self, now: Time, peer: SocketAddr) -> bool {
        let Some(held) = self.established.get_mut(&peer) else {
            return false;
        };
        let (mut is_closed, mut is_heard, mut is_any) = (false, false, false);
        let (out, events) = (&mut self.out, &mut self.events);
        held.session.drain(&mut self.scratch, |said| {
            is_any = true;
            match said {
                Said::Packet(bytes) => out.push_back((peer, session::copy(bytes))),
                Said::Data(bytes) => {
                    is_heard = true;
                    events.push_back(Event::Data(peer, session::copy(bytes)));
                }
                Said::Closed => is_closed = true,
                Said::Connected => {}
            }
        });
        if is_heard {
            self.heard(now, peer);
        }
        if is_closed {
            self.end(peer, false);
        }
        is_any
    }

    /// A peer has sent something that only it can have sent.
    pub(super) fn heard(&mut self, now: Time, peer: SocketAddr) {
        let Some(held) = self.established.get_mut(&peer) else {
            return;
        };
        held.is_confirmed = true;
        held.unanswered = None;
        if held.heard + HEARD_WITHIN <= now {
            self.idle.remove(&(held.heard, peer));
            self.idle.insert((now, peer));
            held.heard = now;
        }
    }

    /// Ends a peer's session, with a goodbye where one is due.
    pub(super) fn end(&mut self, peer: SocketAddr, with_goodbye: bool) {
        if with_goodbye && let Some(held) = self.established.get_mut(&peer) {
            held.session.close();
            let out = &mut self.out;
            held.session.drain(&mut self.scratch, |said| {
                if let Said::Packet(bytes) = said {
                    out.push_back((peer, session::copy(bytes)));
                }
            });
        }
        self.forget(peer);
    }

    fn forget(&mut self, peer: SocketAddr) {
        if let Some(held) = self.established.remove(&peer) {
            self.idle.remove(&(held.heard, peer));
            self.events.push_back(Event::Ended(peer, End::Over));
        }
    }
}
