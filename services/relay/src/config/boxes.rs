//! What a relay is told of a box that it mirrors.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// A box that the relay mirrors: the box is the truth.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxConfig {
    /// The service's name in the store; unique in the organization.
    pub name: String,
    /// Where the box is: `coap://10.0.1.32:5683`, or `coaps://10.0.1.32:5684` with DTLS.
    pub address: String,
    /// What we connect as, of `coaps://`.
    #[serde(default)]
    pub dtls: Option<BoxDtls>,
    /// Where the relay answers for it, from the mirror; nowhere where absent.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// Answer with plain CoAP elsewhere than on loopback, knowing what that risks.
    #[serde(default)]
    pub plain: bool,
    /// Seconds without a word of the box after which it counts as away, and is observed anew. A box says something each 30 s
    /// at least (pager contract, 1.5).
    #[serde(default = "silence_seconds")]
    pub silence_seconds: u64,
}

fn silence_seconds() -> u64 {
    70
}

/// What we connect to a box as, with DTLS 1.2 and a pre-shared key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxDtls {
    /// Our keys: lines of `identity:hexkey`, the key of 16 bytes or more.
    pub psk_file: PathBuf,
    /// Which of them the box knows; may be left out where the file has one alone.
    #[serde(default)]
    pub identity: Option<String>,
}

impl BoxConfig {
    /// Whether the box is spoken to with DTLS.
    pub fn is_secure(&self) -> bool {
        self.address.starts_with("coaps://")
    }

    /// The box's socket address; a name is looked up now, once.
    pub fn address(&self) -> Result<SocketAddr> {
        let (scheme, port) = if self.is_secure() {
            ("coaps://", 5684)
        } else {
            ("coap://", 5683)
        };
        let text = self.address.strip_prefix(scheme).unwrap_or(&self.address);
        let text = text.trim_end_matches('/');
        let in_brackets = text.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
        let host = in_brackets.unwrap_or(text);
        let found = if host.parse::<IpAddr>().is_ok() || !text.contains(':') {
            (host, port).to_socket_addrs()
        } else {
            text.to_socket_addrs()
        };
        let mut found = found.with_context(|| {
            format!(
                "box `{}`: `address` is an address such as coap://10.0.1.32:5683 or coaps://[2001:db8::32]:5684, not {}",
                self.name, self.address
            )
        })?;
        found
            .next()
            .with_context(|| format!("box `{}`: {} has no address", self.name, self.address))
    }

    /// Says what cannot work.
    pub(super) fn check(&self) -> Result<()> {
        let (name, address) = (&self.name, &self.address);
        ensure!(
            (1..=86_400).contains(&self.silence_seconds),
            "box `{name}`: silence_seconds is from 1 to 86400"
        );
        ensure!(
            !self.is_secure() || self.dtls.is_some(),
            "box `{name}`: to connect to {address} needs a key: add a table [box.dtls] with psk_file, a file of lines \
             identity:hexkey, and, where it has several, identity"
        );
        ensure!(
            self.is_secure() || self.dtls.is_none(),
            "box `{name}`: there is a key in [box.dtls], but {address} is plain CoAP: write coaps://, or take the table out"
        );
        let reach = self
            .listen
            .filter(|listen| !listen.ip().is_loopback() && !self.plain);
        if let Some(listen) = reach {
            anyhow::bail!(
                "box `{name}`: its mirror listens on {listen} with plain CoAP, which has no login and no encryption: whoever \
                 reaches it can page guests, clear the roll and read names. Leave `listen` on 127.0.0.1; or, on a network of \
                 trusted devices alone, say plain = true"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// The address of a box, and what is wrong with it.
    fn read(lines: &str) -> Result<String, String> {
        let text = format!("data_dir = \"/x\"\n[[box]]\nname = \"a\"\n{lines}");
        let config: Config = toml::from_str(&text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())?;
        let address = config.boxes[0].address();
        address
            .map(|address| address.to_string())
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_mirror_is_for_this_machine_unless_somebody_says_so() {
        let with = |rest: &str| read(&format!("address = \"coap://10.0.1.32\"\n{rest}"));
        with("").unwrap();
        with("listen = \"127.0.0.1:5694\"").unwrap();
        let error = with("listen = \"0.0.0.0:5694\"").unwrap_err();
        assert!(error.contains("plain = true"), "{error}");
        with("listen = \"0.0.0.0:5694\"\nplain = true").unwrap();
    }

    #[test]
    fn boxes_are_of_both_families_plain_or_secure() {
        let dtls = "\n[box.dtls]\npsk_file = \"/x/keys\"\nidentity = \"relay\"\n";
        for (address, rest, expected) in [
            ("10.0.1.32", "", "10.0.1.32:5683"),
            ("coap://10.0.1.32:1", "", "10.0.1.32:1"),
            ("coap://[::1]", "", "[::1]:5683"),
            ("coap://[::1]:7/", "", "[::1]:7"),
            ("coaps://10.0.1.32", dtls, "10.0.1.32:5684"),
            ("coaps://[::1]", dtls, "[::1]:5684"),
            ("coaps://[::1]:7", dtls, "[::1]:7"),
        ] {
            let found = read(&format!("address = {address:?}\n{rest}"));
            assert_eq!(found.unwrap(), expected, "{address}");
        }
        let error = read("address = \"coaps://10.0.1.32\"").unwrap_err();
        assert!(error.contains("[box.dtls]"), "{error}");
        let error = read(&format!("address = \"coap://10.0.1.32\"{dtls}")).unwrap_err();
        assert!(error.contains("coaps://"), "{error}");
        let error = read("address = \"coap+tcp://10.0.1.32\"").unwrap_err();
        assert!(error.contains("box `a`"), "{error}");
    }
}
