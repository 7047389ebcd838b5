//! What an endpoint may be told, and its bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

/// An endpoint's bounds: each caps a table that a stranger can make grow.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bytes of a request's body, its blocks together; beyond it 4.13.
    pub max_body: usize,
    /// Bytes of the body of an answer to a call of ours.
    pub max_answer: usize,
    /// Messages whose repeats are recognized.
    pub max_seen: usize,
    /// Of these, messages that may be answered anew at no harm (GET).
    pub max_seen_safe: usize,
    /// Bytes of answers kept for repeats.
    pub max_seen_bytes: usize,
    /// Requests that wait for their response.
    pub max_pending: usize,
    /// Uploads in blocks that are under way.
    pub max_uploads: usize,
    /// Downloads in blocks that are under way, and the bytes of all.
    pub max_downloads: usize,
    pub max_download_bytes: usize,
    pub max_observers: usize,
    pub max_observers_per_peer: usize,
    /// Peers whose message ids are kept apart.
    pub max_peers: usize,
    /// Messages that wait for one peer to acknowledge the one before.
    pub max_queue: usize,
    /// How often observers are sent something; never where absent.
    pub heartbeat: Option<Duration>,
    /// Who may get a large answer without having shown that its address is its own (RFC 9175).
    pub trusted: Vec<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_body: 64 << 10,
            max_answer: 8 << 20,
            max_seen: 32_768,
            max_seen_safe: 12_288,
            max_seen_bytes: 12 << 20,
            max_pending: 4_096,
            max_uploads: 128,
            max_downloads: 256,
            max_download_bytes: 16 << 20,
            max_observers: 10_000,
            max_observers_per_peer: 16,
            max_peers: 16_384,
            max_queue: 64,
            heartbeat: None,
            trusted: Network::local(),
        }
    }
}

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The first address, as IPv6; IPv4 is mapped.
    first: u128,
    /// How many leading bits count.
    bits: u32,
}

impl Network {
    /// Loopback, private and link-local ranges of IPv4 and IPv6.
    pub fn local() -> Vec<Self> {
        const LOCAL: [&str; 9] = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ];
        let parse = |text: &str| text.parse().expect("the ranges are written rightly");
        LOCAL.into_iter().map(parse).collect()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
        (mapped(address) ^ self.first) & mask == 0
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Text that is no range of addresses.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no network; write an address and how many of its bits count, such as 10.0.0.0/8")]
pub struct BadNetwork(String);

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.to_owned());
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let bits = (!bits.is_empty()).then(|| bits.parse::<u32>());
        let bits = bits.transpose().map_err(|_| bad())?;
        let (first, most) = if let Ok(v4) = address.parse::<Ipv4Addr>() {
            (mapped(IpAddr::V4(v4)), 32)
        } else {
            let v6 = address.parse::<Ipv6Addr>().map_err(|_| bad())?;
            (v6.to_bits(), 128)
        };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(bad());
        }
        Ok(Self {
            first,
            bits: bits + 128 - most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_trusted_and_others_are_not() {
        let networks = Network::local();
        let trusted = |text: &str| {
            let address = text.parse().unwrap();
            networks.iter().any(|network| network.contains(address))
        };
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.7.1",
            "::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(trusted(address), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
            assert!(!trusted(address), "{address}");
        }
        assert!("10.0.0.0/33".parse::<Network>().is_err());
        assert!("ten".parse::<Network>().is_err());
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .contains("8.8.8.8".parse().unwrap())
        );
    }
}
