//! DTLS 1.2 with pre-shared keys (`TLS_PSK_WITH_AES_128_CCM_8`; RFC 6347, 7252 section 9) under an endpoint, without sockets
//! and clock: dimpl does the protocol of one peer, [`Layer`] looks after all of them.
//!
//! Invariant: an address that did not send back its cookie costs no memory; what others cost is bounded by [`Config`].

mod cookie;
mod keys;
mod layer;
mod opening;
mod record;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::types::Failure;

pub use keys::{BadKeys, Keys, MIN_KEY_BYTES};
pub use layer::Layer;

/// Who we are, and whom we let in.
#[derive(Clone, Debug)]
pub struct Config {
    /// Keys of those who may connect to us, by their identity; nobody may where absent.
    pub keys: Option<Arc<Keys>>,
    /// What we connect to certain peers as.
    pub peers: HashMap<SocketAddr, Own>,
    /// What we connect to others as; we connect to none of them where absent.
    pub credential: Option<Credential>,
    /// Handshakes under way, in all and of one network (a /24 of IPv4, a /64 of IPv6).
    pub max_handshakes: usize,
    pub max_handshakes_per_network: usize,
    /// How long a handshake may take.
    pub handshake_for: Duration,
    /// Peers that are connected; beyond it the one that was silent longest gives way.
    pub max_sessions: usize,
    /// How long a connected peer may be silent.
    pub idle_for: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keys: None,
            peers: HashMap::new(),
            credential: None,
            max_handshakes: 1_000,
            max_handshakes_per_network: 8,
            handshake_for: Duration::from_secs(5),
            max_sessions: 10_000,
            idle_for: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// A name and the key that goes with it.
#[derive(Clone)]
pub struct Credential {
    pub identity: Arc<str>,
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.identity)
    }
}

/// Which of a list's keys is ours. It is looked up for each handshake, so that it may be exchanged at any time.
#[derive(Clone, Debug)]
pub struct Own {
    pub keys: Arc<Keys>,
    pub identity: Arc<str>,
}

/// Why a peer's session is over, or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was there, and is no more.
    Over,
    /// The peer would not make one.
    Refused,
    /// The handshake did not come to its end, or too many were under way.
    Unanswered,
    /// We have no key for it.
    NoKey,
}

/// What a layer has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer has shown that it has the key of this identity. An earlier session of the same address was told to be over.
    Connected(SocketAddr, Arc<str>),
    /// What a connected peer sent.
    Data(SocketAddr, Bytes),
    /// A peer's session is over, or could not be made.
    Ended(SocketAddr, End),
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        match end {
            End::Over => Self::Session,
            End::Refused => Self::Refused,
            End::Unanswered => Self::NoHandshake,
            End::NoKey => Self::NoKey,
        }
    }
}
