//! Handshakes under way: who may begin one, and how they end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::dtls::cookie;
use crate::dtls::layer::Layer;
use crate::dtls::record::{self, ClientHello};
use crate::dtls::session::{self, Said, Session};
use crate::dtls::{Credential, End, Event};
use crate::types::Time;

/// Handshakes of ours that are begun, one after the other, until we give up.
const MAX_ATTEMPTS: u32 = 4;
/// A handshake that is older gives way to a new one where there are too many: it had its time.
const YIELDS_AFTER: Duration = Duration::from_secs(1);
/// A handshake under way.
pub struct Opening {
    pub session: Session,
    pub is_client: bool,
    /// The client's random bytes tell one handshake from another.
    pub random: [u8; 32],
    pub who: Option<Credential>,
    pub since: Time,
    pub due: Time,
    pub attempts: u32,
    pub waiting: VecDeque<Bytes>,
}

impl Layer {
    pub(super) fn on_client_hello(&mut self, now: Time, from: SocketAddr, hello: &ClientHello) {
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
    pub(super) fn connect(
        &mut self,
        now: Time,
        to: SocketAddr,
        waiting: VecDeque<Bytes>,
        attempts: u32,
    ) {
        let (config, who) = match self.own(to) {
            Ok(Some(own)) => own,
            Ok(None) => return,
            Err(end) => return self.events.push_back(Event::Ended(to, end)),
        };
        if self.openings.len() >= self.config.max_handshakes {
            return self.events.push_back(Event::Ended(to, End::Unanswered));
        }
        let instant = self.base + now;
        let mut session = Session::client(&config, instant);
        let outcome = session.handle_timeout(instant);
        let opening = Opening {
            session,
            is_client: true,
            random: [0; 32],
            who: Some(who),
            since: now,
            due: now,
            attempts,
            waiting,
        };
        self.openings.insert(to, opening);
        self.drain_opening(now, to, outcome);
    }

    /// What we connect to a peer as; nothing where we connect to nobody but those that are named.
    fn own(&self, to: SocketAddr) -> Result<Option<(Arc<dimpl::Config>, Credential)>, End> {
        let Some(own) = self.config.peers.get(&to) else {
            return Ok(self.client.clone().zip(self.config.credential.clone()));
        };
        let who = own.keys.find(own.identity.as_bytes()).ok_or(End::NoKey)?;
        let config = session::client(&self.config, &who).map_err(|error| {
            tracing::error!(%error, peer = %to, "a DTLS handshake cannot be set up");
            End::NoKey
        })?;
        Ok(Some((config, who)))
    }

    pub(super) fn feed_opening(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
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
    pub(super) fn drain_opening(
        &mut self,
        now: Time,
        peer: SocketAddr,
        outcome: Result<(), dimpl::Error>,
    ) {
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
            return self.fail(peer, End::Refused);
        }
        if is_connected {
            self.establish(now, peer);
            for bytes in data {
                self.heard(now, peer);
                self.events.push_back(Event::Data(peer, bytes));
            }
        }
        if is_closed {
            if self.openings.get(&peer).is_some_and(|held| held.is_client) {
                return self.fail(peer, End::Refused);
            }
            self.openings.remove(&peer);
            self.end(peer, false);
        }
    }

    /// A handshake has taken too long.
    pub(super) fn give_up(&mut self, now: Time, peer: SocketAddr) {
        let is_again = |opening: &Opening| opening.is_client && opening.attempts < MAX_ATTEMPTS;
        if !self.openings.get(&peer).is_some_and(is_again) {
            return self.fail(peer, End::Unanswered);
        }
        if let Some(opening) = self.openings.remove(&peer) {
            self.connect(now, peer, opening.waiting, opening.attempts + 1);
        }
    }

    /// A handshake cannot come to its end. Of a client that we serve only the address is known, so it is told little.
    fn fail(&mut self, peer: SocketAddr, end: End) {
        let Some(opening) = self.openings.remove(&peer) else {
            return;
        };
        if opening.is_client {
            return self.events.push_back(Event::Ended(peer, end));
        }
        let alert = record::handshake_failure();
        self.out.push_back((peer, alert.into()));
    }
}

/// The network that an address is of: a /24 of IPv4, a /64 of IPv6.
fn network_of(peer: SocketAddr) -> u128 {
    match peer.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits() >> 8,
        std::net::IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}
