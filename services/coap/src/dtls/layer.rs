//! All peers of a socket: whose datagram is it, who may begin a handshake, who has to go.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::dtls::cookie::{self, Cookies};
use crate::dtls::keys::Resolver;
use crate::dtls::record::{self, ClientHello, First};
use crate::dtls::session::{self, Said, Session};
use crate::dtls::{Config, Credential, Event};
use crate::types::Time;

/// Datagrams that wait for a handshake of ours to come to its end.
const MAX_WAITING: usize = 16;
/// Handshakes of ours that are begun, one after the other, until we give up.
const MAX_ATTEMPTS: u32 = 4;
/// A handshake that is older gives way to a new one where there are too many: it had its time.
const YIELDS_AFTER: Duration = Duration::from_secs(1);
/// How exactly is known when a peer was heard last.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// A server that was silent for so long, while we sent, may have forgotten us. It is less than what passes until a message is
/// sent for the last time.
const SILENT_FOR: Duration = Duration::from_secs(25);
/// More than a record that anyone sends over UDP.
const SCRATCH: usize = 2_048;

/// A handshake under way.
struct Opening {
    session: Session,
    is_client: bool,
    /// The client's random bytes tell one handshake from another.
    random: [u8; 32],
    who: Option<Credential>,
    since: Time,
    due: Time,
    attempts: u32,
    waiting: VecDeque<Bytes>,
}

/// A peer that has shown its key.
struct Established {
    session: Session,
    is_client: bool,
    random: [u8; 32],
    who: Credential,
    heard: Time,
    /// It has sent something, so it knows that the handshake is over.
    is_confirmed: bool,
    /// Since when what we send is answered by nothing.
    unanswered: Option<Time>,
}

/// DTLS for all peers of a socket.
pub struct Layer {
    config: Config,
    /// What dimpl's clock says at our time zero.
    base: Instant,
    resolver: Option<Arc<Resolver>>,
    server: Option<Arc<dimpl::Config>>,
    client: Option<Arc<dimpl::Config>>,
    cookies: Cookies,
    version: u64,
    openings: HashMap<SocketAddr, Opening>,
    established: HashMap<SocketAddr, Established>,
    /// The established, those that were silent longest first.
    idle: BTreeSet<(Time, SocketAddr)>,
    out: VecDeque<(SocketAddr, Bytes)>,
    events: VecDeque<Event>,
    scratch: Vec<u8>,
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
        if self.client.is_some() {
            self.connect(now, to, VecDeque::from([session::copy(data)]), 1);
        }
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

    fn wake_at(&mut self, due: Time) {
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

    fn on_client_hello(&mut self, now: Time, from: SocketAddr, hello: &ClientHello) {
        if self.server.is_none() {
            return;
        }
        if !self.cookies.is_good(now, from, &hello.random, hello.cookie) {
            let cookie = self.cookies.make(now, from, &hello.random);
            self.out.push_back((from, hello.ask_for(&cookie).into()));
            return;
        }
        let known = self.openings.get(&from).map(|opening| opening.random);
        if known == Some(hello.random) {
            return self.feed_opening(now, from, hello.record());
        }
        // A peer that is connected and begins anew has been restarted: its old session ends once it has shown the key.
        let is_known = self.established.get(&from);
        if is_known.is_some_and(|held| held.random == hello.random) {
            return;
        }
        self.openings.remove(&from);
        if self.make_room(now, from) {
            self.accept(now, from, hello);
        }
    }

    /// Begins the handshake of a peer whose cookie has come back.
    fn accept(&mut self, now: Time, from: SocketAddr, hello: &ClientHello) {
        let (Some(config), Some(before)) = (&self.server, hello.without_cookie()) else {
            return;
        };
        let Ok(good) = hello.cookie.try_into() else {
            return;
        };
        let instant = self.base + now;
        let mut session = Session::server(config, instant);
        let outcome = cookie::accepting(good, || {
            session.receive(instant, &before)?;
            // It asks for its cookie, which has come already.
            session.drain(&mut self.scratch, |_| {});
            session.receive(instant, hello.record())
        });
        let opening = Opening {
            session,
            is_client: false,
            random: hello.random,
            who: None,
            since: now,
            due: now,
            attempts: 1,
            waiting: VecDeque::new(),
        };
        self.openings.insert(from, opening);
        let sent = self.out.len();
        self.drain_opening(now, from, outcome);
        let mut answers = self.out.iter().skip(sent);
        let is_hello = |bytes: &Bytes| record::handshake_type(bytes) == Some(record::SERVER_HELLO);
        if !answers.any(|(_, bytes)| is_hello(bytes)) {
            self.openings.remove(&from);
        }
    }

    /// Sees to it that one more handshake may be under way; says whether it may.
    fn make_room(&mut self, now: Time, from: SocketAddr) -> bool {
        let network = network_of(from);
        let of_network = |peer: &SocketAddr| network_of(*peer) == network;
        let in_network = self.openings.keys().filter(|peer| of_network(peer)).count();
        let is_crowded = in_network >= self.config.max_handshakes_per_network;
        if !is_crowded && self.openings.len() < self.config.max_handshakes {
            return true;
        }
        let is_preferred = self.established.contains_key(&from);
        let may_go = |(peer, opening): &(&SocketAddr, &Opening)| {
            let had_its_time = opening.since + YIELDS_AFTER <= now;
            let is_stranger = is_preferred && !self.established.contains_key(peer);
            !opening.is_client && (of_network(peer) || !is_crowded) && (had_its_time || is_stranger)
        };
        let oldest = self.openings.iter().filter(may_go);
        let oldest = oldest.min_by_key(|(peer, opening)| (opening.since, **peer));
        let Some(peer) = oldest.map(|(peer, _)| *peer) else {
            return false;
        };
        self.openings.remove(&peer);
        true
    }

    /// Begins a handshake of ours.
    fn connect(&mut self, now: Time, to: SocketAddr, waiting: VecDeque<Bytes>, attempts: u32) {
        let (Some(config), Some(who)) = (&self.client, &self.config.credential) else {
            return;
        };
        if self.openings.len() >= self.config.max_handshakes {
            return self.events.push_back(Event::Ended(to));
        }
        let instant = self.base + now;
        let mut session = Session::client(config, instant);
        let outcome = session.handle_timeout(instant);
        let opening = Opening {
            session,
            is_client: true,
            random: [0; 32],
            who: Some(who.clone()),
            since: now,
            due: now,
            attempts,
            waiting,
        };
        self.openings.insert(to, opening);
        self.drain_opening(now, to, outcome);
    }

    fn feed_opening(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        let instant = self.base + now;
        let Some(opening) = self.openings.get_mut(&from) else {
            return;
        };
        let outcome = opening.session.receive(instant, datagram);
        if let Some(who) = self.resolver.as_ref().and_then(|resolver| resolver.take())
            && !opening.is_client
        {
            opening.who = Some(who);
        }
        self.drain_opening(now, from, outcome);
    }

    /// Sends what a handshake has to send; sees whether it has come to its end.
    fn drain_opening(&mut self, now: Time, peer: SocketAddr, outcome: Result<(), dimpl::Error>) {
        let Some(opening) = self.openings.get_mut(&peer) else {
            return;
        };
        let (mut is_connected, mut is_closed, mut data) = (false, false, Vec::new());
        let out = &mut self.out;
        let due = opening.session.drain(&mut self.scratch, |said| match said {
            Said::Packet(bytes) => out.push_back((peer, session::copy(bytes))),
            Said::Connected => is_connected = true,
            Said::Data(bytes) => data.push(session::copy(bytes)),
            Said::Closed => is_closed = true,
        });
        let due = due.saturating_duration_since(self.base);
        let due = due.min(opening.since + self.config.handshake_for).max(now);
        opening.due = due;
        self.wake_at(due);
        if let Err(error) = outcome {
            tracing::debug!(%error, %peer, "a DTLS handshake failed");
            return self.fail(peer);
        }
        if is_connected {
            self.establish(now, peer);
            for bytes in data {
                self.heard(now, peer);
                self.events.push_back(Event::Data(peer, bytes));
            }
        }
        if is_closed {
            self.openings.remove(&peer);
            self.end(peer, false);
        }
    }

    /// A handshake has taken too long.
    fn give_up(&mut self, now: Time, peer: SocketAddr) {
        let is_again = |opening: &Opening| opening.is_client && opening.attempts < MAX_ATTEMPTS;
        if !self.openings.get(&peer).is_some_and(is_again) {
            return self.fail(peer);
        }
        if let Some(opening) = self.openings.remove(&peer) {
            self.connect(now, peer, opening.waiting, opening.attempts + 1);
        }
    }

    /// A handshake cannot come to its end. Of a client that we serve only the address is known, so it is told little.
    fn fail(&mut self, peer: SocketAddr) {
        let Some(opening) = self.openings.remove(&peer) else {
            return;
        };
        if opening.is_client {
            return self.events.push_back(Event::Ended(peer));
        }
        let alert = record::handshake_failure();
        self.out.push_back((peer, alert.into()));
    }

    /// A handshake has come to its end: from here on its session is the peer's only one.
    fn establish(&mut self, now: Time, peer: SocketAddr) {
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
    fn heard(&mut self, now: Time, peer: SocketAddr) {
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
    fn end(&mut self, peer: SocketAddr, with_goodbye: bool) {
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
            self.events.push_back(Event::Ended(peer));
        }
    }
}

/// The network that an address is of: a /24 of IPv4, a /64 of IPv6.
fn network_of(peer: SocketAddr) -> u128 {
    match peer.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits() >> 8,
        std::net::IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}
