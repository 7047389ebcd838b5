//! Choosing the loopback ports of our own servers: picked once, then kept, so that URLs stay the same.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Below the range from which Linux and macOS take ports for outgoing connections: a port from that range may be
/// in use for a moment at any start.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port for one of our servers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) port: u16,
    /// The port of earlier runs, where something else has taken it since.
    pub(crate) instead_of: Option<u16>,
}

/// The asked port if there is one (an error if it is taken), else the kept one, else a free one.
pub(crate) fn choose(flag: &str, asked: Option<u16>, kept: Option<u16>) -> Result<Choice> {
    match (asked, kept) {
        (Some(port), _) if is_free(port) => Ok(Choice {
            port,
            instead_of: None,
        }),
        (Some(port), _) => bail!(
            "port {port} on 127.0.0.1 is taken by another program. Choose another one with {flag}, or leave {flag} out to \
             have a free one picked."
        ),
        (None, Some(port)) if is_free(port) => Ok(Choice {
            port,
            instead_of: None,
        }),
        (None, kept) => Ok(Choice {
            port: any_free()?,
            instead_of: kept,
        }),
    }
}

/// Whether a server could listen on this loopback port now.
pub(crate) fn is_free(port: u16) -> bool {
    port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn any_free() -> Result<u16> {
    // Starting at a random place keeps two data folders on one machine from meeting on the same port later.
    let start =
        u16::from_str_radix(&crate::secrets::random_hex(2), 16).expect("two bytes in hexadecimal");
    let size = RANGE.end - RANGE.start;
    for step in 0..size {
        let port = RANGE.start + ((u32::from(start) + u32::from(step)) % u32::from(size)) as u16;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!(
        "no port from {} to {} on 127.0.0.1 is free",
        RANGE.start,
        RANGE.end - 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_kept() {
        let port = any_free().unwrap();
        assert!(RANGE.contains(&port));
        assert_eq!(
            choose("--s3-port", None, Some(port)).unwrap(),
            Choice {
                port,
                instead_of: None
            }
        );
    }

    #[test]
    fn a_kept_port_that_is_taken_is_replaced_and_said_so() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let choice = choose("--s3-port", None, Some(port)).unwrap();
        assert_ne!(choice.port, port);
        assert_eq!(choice.instead_of, Some(port));
    }

    #[test]
    fn an_asked_port_that_is_taken_is_an_error_that_names_port_and_flag() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = choose("--s3-port", Some(port), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("--s3-port"),
            "{error}"
        );
    }
}
