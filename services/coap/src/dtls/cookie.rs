//! Cookies without state (RFC 6347, section 4.2.1): who sends one back receives at its address.
//!
//! dimpl makes a cookie per connection, which takes a connection per stranger. So the cookie is ours, and a connection is made
//! when it has come back; dimpl, which asks its HMAC what the cookie must be, is then told ours.

use std::cell::Cell;
use std::net::SocketAddr;

use dimpl::CryptoError;
use dimpl::crypto::{CryptoProvider, HashAlgorithm, HmacProvider, aws_lc_rs};

use crate::types::Time;

/// Seconds after which another cookie is given out; one holds for up to twice as long.
const CHANGES_AFTER: u64 = 64;

pub type Cookie = [u8; 32];

pub struct Cookies {
    secret: [u8; 32],
}

impl Cookies {
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    pub fn make(&self, now: Time, peer: SocketAddr, random: &[u8; 32]) -> Cookie {
        self.of_slot(now.as_secs() / CHANGES_AFTER, peer, random)
    }

    pub fn is_good(&self, now: Time, peer: SocketAddr, random: &[u8; 32], cookie: &[u8]) -> bool {
        let slot = now.as_secs() / CHANGES_AFTER;
        let slots = [Some(slot), slot.checked_sub(1)];
        // Compared without a look at where they differ: what differs is a keyed hash, and time tells nothing of its key.
        cookie.len() == 32
            && slots.into_iter().flatten().any(|slot| {
                let good = self.of_slot(slot, peer, random);
                good.iter().zip(cookie).fold(0, |all, (a, b)| all | (a ^ b)) == 0
            })
    }

    fn of_slot(&self, slot: u64, peer: SocketAddr, random: &[u8; 32]) -> Cookie {
        let mut data = [0; 58];
        let ip = match peer.ip() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        data[..16].copy_from_slice(&ip.octets());
        data[16..18].copy_from_slice(&peer.port().to_be_bytes());
        data[18..26].copy_from_slice(&slot.to_be_bytes());
        data[26..].copy_from_slice(random);
        let hmac = aws_lc_rs::default_provider().hmac_provider;
        hmac.hmac_sha256(&self.secret, &data)
            .expect("SHA-256 is always there")
    }
}

thread_local! {
    static GOOD: Cell<Option<Cookie>> = const { Cell::new(None) };
}

/// Has dimpl take this cookie for the one that it gave out.
pub fn accepting<T>(cookie: Cookie, handshake: impl FnOnce() -> T) -> T {
    GOOD.set(Some(cookie));
    let done = handshake();
    GOOD.set(None);
    done
}

/// What dimpl computes with.
pub fn provider() -> CryptoProvider {
    CryptoProvider {
        hmac_provider: &Hmac,
        ..aws_lc_rs::default_provider()
    }
}

#[derive(Debug)]
struct Hmac;

impl HmacProvider for Hmac {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        // Between a ClientHello and the answer to it, cookies are all that dimpl computes an HMAC for.
        if let Some(cookie) = GOOD.get() {
            out[..cookie.len()].copy_from_slice(&cookie);
            return Ok(cookie.len());
        }
        let hmac = aws_lc_rs::default_provider().hmac_provider;
        hmac.hmac(hash, key, data, out)
    }
}
