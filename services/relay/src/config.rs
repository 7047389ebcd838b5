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
mod tests;
