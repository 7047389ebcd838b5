//! What a relay is told: a TOML file, and flags or environment variables over it.

mod boxes;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rollcall_coap::Network;
use secrecy::SecretString;
use serde::Deserialize;

use crate::sources::{SourceConfig, fluxmq, maxscale, pgbouncer, rabbitmq};
use crate::spool::SOURCE_STATES;

pub use boxes::{BoxConfig, BoxDtls};

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(long, env = "ROLLCALL_RELAY_CONFIG", value_name = "FILE")]
    pub config: PathBuf,

    /// Folder for the spool, instead of the file's `data_dir`
    #[arg(long, env = "ROLLCALL_RELAY_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// The cloud's address, instead of the file's `cloud.url`
    #[arg(long, env = "ROLLCALL_RELAY_CLOUD_URL", value_name = "URL")]
    pub cloud_url: Option<String>,

    /// The relay's key as `id:secret`, instead of the file's `cloud.key` or `cloud.key_file`
    #[arg(
        long,
        env = "ROLLCALL_RELAY_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    pub key: Option<SecretString>,
}

/// A relay's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for the spool: `/var/lib/rollcall-relay`.
    pub data_dir: PathBuf,
    /// Where events go. Without it they stay in the spool.
    #[serde(default)]
    pub cloud: Option<Cloud>,
    #[serde(default)]
    pub spool: SpoolConfig,
    #[serde(default)]
    pub monitor: Monitor,
    /// Transmitters that this relay hosts.
    #[serde(default, rename = "transmitter")]
    pub transmitters: Vec<TransmitterConfig>,
    /// Real boxes that this relay mirrors.
    #[serde(default, rename = "box")]
    pub boxes: Vec<BoxConfig>,
    #[serde(default)]
    pub watch: WatchConfig,
    /// Brokers and proxies whose clients are watched.
    #[serde(default)]
    pub rabbitmq: Vec<rabbitmq::Config>,
    #[serde(default)]
    pub fluxmq: Vec<fluxmq::Config>,
    #[serde(default)]
    pub maxscale: Vec<maxscale::Config>,
    #[serde(default)]
    pub pgbouncer: Vec<pgbouncer::Config>,
}

/// How brokers and proxies are watched.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// What moves all the time (idle, messages that wait) is told of a session this often, at most.
    pub moving_seconds: u32,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { moving_seconds: 30 }
    }
}

/// Where events go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloud {
    /// The api's address: `https://rollcall.example.com`.
    pub url: String,
    /// `id:secret`, as `rollcall-api admin relay create` prints it.
    #[serde(default)]
    pub key: Option<SecretString>,
    /// A file that holds the key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

/// The bounds of the spool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Events may take this much; then the oldest give way, and a gap record says which.
    pub max_mib: u64,
    /// The spool does not grow while the disk has less than this left.
    pub min_free_mib: u64,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_mib: 256,
            min_free_mib: 64,
        }
    }
}

/// Where the relay tells how it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Monitor {
    /// `/metrics`, `/healthz` and `/status` are served here.
    pub listen: SocketAddr,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9684)),
        }
    }
}

/// A transmitter that the relay hosts: devices write to it as to the box.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransmitterConfig {
    /// The service's name in the store; unique in the organization.
    pub name: String,
    /// Plain CoAP over UDP: `127.0.0.1:5683`.
    pub listen: SocketAddr,
    /// `listen` may be reached by others than this machine. Whoever reaches it may page guests and clear the roll.
    #[serde(default)]
    pub plain: bool,
    /// CoAP over DTLS, for devices that have a key.
    #[serde(default)]
    pub dtls: Option<DtlsConfig>,
    /// Page a guest by itself once the goal is reached (pager contract, L16).
    #[serde(default)]
    pub auto_page: bool,
    /// Sockets that share the port, each with a thread's work.
    #[serde(default = "workers")]
    pub workers: usize,
    /// Who may get large answers, and write, without showing that its address is its own (RFC 9175): networks such as
    /// `10.0.0.0/8`. Loopback, private and link-local ranges where absent.
    #[serde(default)]
    pub trusted: Option<Vec<String>>,
}

/// Where a transmitter is served over DTLS 1.2, with pre-shared keys (RFC 7252, section 9.1.3.1).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DtlsConfig {
    /// `0.0.0.0:5684`.
    pub listen: SocketAddr,
    /// Who may connect: lines of `identity:hexkey`, the key of 16 bytes or more.
    pub psk_file: PathBuf,
    /// Seconds that a device may be silent until it has to connect anew.
    #[serde(default = "idle_seconds")]
    pub idle_seconds: u64,
    /// Devices that are connected, at most, at each socket; beyond it the one that was silent longest has to connect anew.
    #[serde(default = "max_devices")]
    pub max_devices: usize,
}

fn idle_seconds() -> u64 {
    24 * 60 * 60
}

fn max_devices() -> usize {
    10_000
}

fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.min(2)
}

impl Config {
    /// Reads the file and what is set over it.
    pub fn read(args: &ConfigArgs) -> Result<Self> {
        let path = args.config.display();
        let text = std::fs::read_to_string(&args.config)
            .with_context(|| format!("read --config {path}"))?;
        let mut config = Self::parse(&text).with_context(|| format!("read --config {path}"))?;
        if let Some(folder) = &args.data_dir {
            config.data_dir.clone_from(folder);
        }
        if let Some(url) = &args.cloud_url {
            let cloud = config.cloud.get_or_insert_with(|| Cloud {
                url: String::new(),
                key: None,
                key_file: None,
            });
            cloud.url.clone_from(url);
        }
        if let Some(key) = &args.key {
            let cloud = config
                .cloud
                .as_mut()
                .context("--key needs a cloud: set cloud.url in the file, or --cloud-url")?;
            cloud.key = Some(key.clone());
        }
        config.check()?;
        Ok(config)
    }

    /// An error tells the line and not what is on it, for that may be a password.
    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(before).filter(|b| *b == b'\n').count() + 1;
            anyhow::anyhow!("line {line}: {}", error.message())
        })
    }

    /// Brokers and proxies that are watched.
    pub fn sources(&self) -> Vec<SourceConfig<'_>> {
        let rabbitmq = self.rabbitmq.iter().map(SourceConfig::RabbitMq);
        let fluxmq = self.fluxmq.iter().map(SourceConfig::FluxMq);
        let maxscale = self.maxscale.iter().map(SourceConfig::Maxscale);
        let pgbouncer = self.pgbouncer.iter().map(SourceConfig::Pgbouncer);
        let brokers = rabbitmq.chain(fluxmq);
        brokers.chain(maxscale).chain(pgbouncer).collect()
    }

    /// Transmitters and boxes, by their services' names.
    pub fn pagers(&self) -> Vec<String> {
        let hosted = self.transmitters.iter().map(|held| &held.name);
        let mirrored = self.boxes.iter().map(|held| &held.name);
        hosted.chain(mirrored).cloned().collect()
    }

    /// How many transmitters' state the spool has room for.
    pub fn states(&self) -> usize {
        self.pagers().len() + self.sources().len() * SOURCE_STATES
    }

    /// Brokers, by their services' names.
    pub fn brokers(&self) -> Vec<String> {
        let sources = self.sources().into_iter().map(|source| source.about());
        let brokers = sources.filter(|about| about.is_broker);
        brokers.map(|about| about.name).collect()
    }

    /// Says what cannot work before anything is started.
    pub fn check(&self) -> Result<()> {
        self.check_names()?;
        for transmitter in &self.transmitters {
            transmitter.networks()?;
            transmitter.check_reach()?;
        }
        for held in &self.boxes {
            held.check()?;
        }
        for source in self.sources() {
            source.check()?;
        }
        if !self.monitor.listen.ip().is_loopback() {
            bail!(
                "monitor.listen is {}: it has no login, so it stays on a loopback address",
                self.monitor.listen
            );
        }
        ensure!(self.spool.max_mib > 0, "spool.max_mib is at least 1");
        Ok(())
    }

    /// Names and ports are unique.
    fn check_names(&self) -> Result<()> {
        let hosted = self
            .transmitters
            .iter()
            .map(|held| (held.name.as_str(), held.addresses()));
        let mirrored = self
            .boxes
            .iter()
            .map(|held| (held.name.as_str(), held.listen.into_iter().collect()));
        let watched = self.sources();
        let sources = watched.iter().map(SourceConfig::name);
        let mut names: Vec<&str> = Vec::new();
        let mut taken: Vec<SocketAddr> = Vec::new();
        for (name, addresses) in hosted
            .chain(mirrored)
            .chain(sources.map(|name| (name, Vec::new())))
        {
            let is_fine = (1..=200).contains(&name.len()) && !name.chars().any(char::is_control);
            ensure!(
                is_fine,
                "transmitter, box or source {}: `name` has 1 to 200 bytes and no control characters",
                names.len() + 1
            );
            ensure!(
                !name.starts_with("forms-"),
                "`{name}`: names with `forms-` in front are the cloud's own; take another `name`"
            );
            ensure!(
                !names.contains(&name),
                "two transmitters, boxes or sources are called `{name}`; a name is unique"
            );
            names.push(name);
            for address in addresses {
                ensure!(
                    address.port() == 0 || !taken.contains(&address),
                    "`{name}` is not alone, or twice, to listen on {address}; give each a port"
                );
                taken.push(address);
            }
        }
        Ok(())
    }
}

impl Cloud {
    /// The key, from wherever it is.
    pub fn key(&self) -> Result<SecretString> {
        if let Some(key) = &self.key {
            return Ok(key.clone());
        }
        let path: &Path = self.key_file.as_deref().context(
            "there is no key: set cloud.key_file in the file, or ROLLCALL_RELAY_KEY; `rollcall-api admin relay create` makes one",
        )?;
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read cloud.key_file {}", path.display()))?;
        Ok(SecretString::from(text.trim().to_owned()))
    }
}

impl TransmitterConfig {
    /// Where it listens.
    fn addresses(&self) -> Vec<SocketAddr> {
        let secure = self.dtls.as_ref().map(|dtls| dtls.listen);
        [self.listen].into_iter().chain(secure).collect()
    }

    fn check_reach(&self) -> Result<()> {
        let (name, listen) = (&self.name, self.listen);
        ensure!(
            listen.ip().is_loopback() || self.plain,
            "transmitter `{name}` listens on {listen} with plain CoAP, which has no login and no encryption: whoever reaches it \
             can page guests, clear the roll and read names. Serve it with DTLS ([transmitter.dtls], listen on port 5684) and \
             leave `listen` on 127.0.0.1; or, on a network of trusted devices alone, say plain = true"
        );
        if let Some(dtls) = &self.dtls {
            ensure!(
                dtls.idle_seconds > 0 && dtls.max_devices > 0,
                "transmitter `{name}`: dtls.idle_seconds and dtls.max_devices are at least 1"
            );
        }
        Ok(())
    }

    /// The trusted networks.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let Some(trusted) = &self.trusted else {
            return Ok(Network::local());
        };
        let parse = |text: &String| {
            text.parse()
                .with_context(|| format!("transmitter `{}`: `trusted`", self.name))
        };
        trusted.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_enough_and_mistakes_are_named() {
        let config: Config = toml::from_str(
            "data_dir = \"/tmp/x\"\n[[transmitter]]\nname = \"desk\"\nlisten = \"127.0.0.1:5683\"\n",
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(config.spool.max_mib, 256);
        let mistake = Config::parse("data_dir = \"/tmp/x\"\nspol = 1\n").unwrap_err();
        let mistake = mistake.to_string();
        assert!(
            mistake.contains("spol") && mistake.contains("line 2"),
            "{mistake}"
        );
    }

    #[test]
    fn a_password_in_the_file_is_not_repeated_by_the_mistake_beside_it() {
        for text in [
            "data_dir = \"/x\"\n[[fluxmq]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\npassword = \"hunter2\"\n",
            "data_dir = \"/x\"\n[cloud]\nurl = \"http://127.0.0.1:1\"\nkey = \"rk_a:hunter2\n",
            "data_dir = \"/x\"\n[cloud]\nurl = \"http://127.0.0.1:1\"\nkey = [\"hunter2\"]\n",
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("line "), "{error}");
        }
    }

    #[test]
    fn plain_coap_is_for_this_machine_unless_somebody_says_so() {
        let with = |rest: &str| {
            let text = format!("data_dir = \"/x\"\n[[transmitter]]\nname = \"a\"\n{rest}");
            let config: Config = toml::from_str(&text).unwrap();
            config.check().map_err(|error| error.to_string())
        };
        let error = with("listen = \"10.1.2.3:5683\"").unwrap_err();
        assert!(
            error.contains("plain = true") && error.contains("DTLS"),
            "{error}"
        );
        assert!(with("listen = \"[::]:5683\"").is_err());
        with("listen = \"10.1.2.3:5683\"\nplain = true").unwrap();
        with("listen = \"[::1]:5683\"").unwrap();
        let dtls = "[transmitter.dtls]\nlisten = \"0.0.0.0:5684\"\npsk_file = \"/x/keys\"\n";
        with(&format!("listen = \"127.0.0.1:5683\"\n{dtls}")).unwrap();
        assert!(with(&format!("listen = \"0.0.0.0:5684\"\nplain = true\n{dtls}")).is_err());
    }

    #[test]
    fn a_source_has_a_name_of_its_own() {
        let with = |pool: &str, bus: &str| {
            let text = format!(
                "data_dir = \"/x\"\n[[transmitter]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\n[[pgbouncer]]\nname = {pool:?}\n\
                 host = \"127.0.0.1\"\nuser = \"u\"\n[[fluxmq]]\nname = {bus:?}\nurl = \"http://127.0.0.1:1\"\n"
            );
            let config: Config = toml::from_str(&text).unwrap();
            config.check().map_err(|error| error.to_string())
        };
        with("b", "c").unwrap();
        assert!(with("a", "c").unwrap_err().contains("`a`"));
        assert!(with("b", "b").unwrap_err().contains("`b`"));
        assert!(with("", "c").unwrap_err().contains("`name`"));
        assert!(with("b", "forms-1").unwrap_err().contains("cloud's own"));
    }

    #[test]
    fn sources_of_every_kind_are_asked_no_more_than_each_second_and_once_an_hour_at_least() {
        let http = "name = \"a\"\nurl = \"http://127.0.0.1:1\"\n";
        let kinds = [
            format!("[[rabbitmq]]\n{http}user = \"u\"\npassword_env = \"P\"\n"),
            format!("[[fluxmq]]\n{http}"),
            format!("[[maxscale]]\n{http}"),
            "[[pgbouncer]]\nname = \"a\"\nhost = \"127.0.0.1\"\nuser = \"u\"\n".to_owned(),
        ];
        for kind in kinds {
            let with = |times: &str| {
                let text = format!("data_dir = \"/x\"\n{kind}{times}");
                toml::from_str::<Config>(&text).unwrap().check()
            };
            with("poll_seconds = 3600\ntimeout_seconds = 600").unwrap();
            for wrong in [
                "poll_seconds = 0",
                "poll_seconds = 3601",
                "timeout_seconds = 0",
                "timeout_seconds = 601",
            ] {
                let error = with(wrong).unwrap_err().to_string();
                assert!(
                    error.contains("`poll_seconds` is from 1"),
                    "{kind}{wrong}: {error}"
                );
            }
        }
    }

    #[test]
    fn names_and_ports_are_unique() {
        let with = |second: &str| {
            let text = format!(
                "data_dir = \"/x\"\n[[transmitter]]\nname = \"a\"\nlisten = \"127.0.0.1:1\"\n[[transmitter]]\n{second}"
            );
            toml::from_str::<Config>(&text)
                .unwrap()
                .check()
                .map_err(|e| e.to_string())
        };
        assert!(
            with("name = \"a\"\nlisten = \"127.0.0.1:2\"")
                .unwrap_err()
                .contains("`a`")
        );
        assert!(
            with("name = \"b\"\nlisten = \"127.0.0.1:1\"")
                .unwrap_err()
                .contains("127.0.0.1:1")
        );
        assert!(with("name = \"b\"\nlisten = \"127.0.0.1:2\"").is_ok());
        assert!(with("name = \"b\"\nlisten = \"127.0.0.1:2\"\ntrusted = [\"10/8\"]").is_err());
    }
}
