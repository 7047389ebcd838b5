//! Starts the mirrors: a loop with one port for all boxes of a sort, IPv4 or IPv6, plain or with DTLS.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rollcall_coap::driver::{self, Driver};
use rollcall_coap::dtls::{self, Own};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Command, Facade, FacadeCommand, MirroredBox, Mirrors, SharedHealth, TICK};
use crate::config::BoxConfig;
use crate::keys::OwnKeys;
use crate::metrics::Metrics;
use crate::spool::{Job, Spool};
use crate::{MAX_COMMANDS, PING_EVERY};

/// The loop of each box, by the box's service.
pub type Loops = HashMap<String, mpsc::Sender<Command>>;

/// The boxes with the sockets of their mirrors, before anything runs.
pub struct Boxes {
    held: Vec<Bound>,
    keys: OwnKeys,
}

struct Bound {
    held: MirroredBox,
    /// What we connect to it as, with DTLS.
    own: Option<Own>,
    facade: Option<UdpSocket>,
}

impl Boxes {
    /// Finds every state and every key, and binds the mirrors' sockets.
    pub fn bind(configs: &[BoxConfig], spool: &Spool) -> Result<Self> {
        let mut keys = OwnKeys::default();
        let mut held: Vec<Bound> = Vec::new();
        for config in configs {
            let bound = Bound::of(config, spool, &mut keys)?;
            let (address, is_secure) = (bound.held.address, bound.own.is_some());
            let is_there = |other: &Bound| other.own.is_some() && other.held.address == address;
            ensure!(
                !is_secure || !held.iter().any(is_there),
                "box `{}`: another box is at coaps://{address} already",
                config.name
            );
            held.push(bound);
        }
        Ok(Self { held, keys })
    }

    /// Where mirrors are answered, of those that are.
    pub fn facades(&self) -> Result<Vec<SocketAddr>> {
        let sockets = self.held.iter().filter_map(|bound| bound.facade.as_ref());
        let addresses = sockets.map(UdpSocket::local_addr);
        addresses
            .collect::<Result<_, _>>()
            .context("ask for the socket's port")
    }

    pub fn iter(&self) -> impl Iterator<Item = &MirroredBox> {
        self.held.iter().map(|bound| &bound.held)
    }

    pub fn health(&self) -> Vec<(String, SharedHealth)> {
        let health = |held: &MirroredBox| (held.name.clone(), held.health.clone());
        self.iter().map(health).collect()
    }

    /// Starts to follow the boxes, and to answer for them.
    pub fn start(
        self,
        jobs: &SyncSender<Job>,
        metrics: &Arc<Metrics>,
        (tasks, drivers): (&mut JoinSet<()>, &mut JoinSet<()>),
    ) -> Result<Loops> {
        let mut sorts: BTreeMap<(bool, bool), Vec<Bound>> = BTreeMap::new();
        for bound in self.held {
            let sort = (bound.own.is_some(), bound.held.address.is_ipv6());
            sorts.entry(sort).or_default().push(bound);
        }
        let mut loops = Loops::new();
        for boxes in sorts.into_values() {
            start_sort(boxes, jobs, metrics, (tasks, drivers), &mut loops)?;
        }
        self.keys.watch(tasks);
        Ok(loops)
    }
}

impl Bound {
    fn of(config: &BoxConfig, spool: &Spool, keys: &mut OwnKeys) -> Result<Self> {
        let name = &config.name;
        let own = config.dtls.as_ref().map(|of_dtls| keys.find(of_dtls));
        let own = own.transpose().with_context(|| format!("box `{name}`"))?;
        let address = config.address()?;
        let scheme = if own.is_some() { "coaps" } else { "coap" };
        let health = SharedHealth::of(format!("{scheme}://{address}"));
        let silence = Duration::from_secs(config.silence_seconds);
        let facade = config.listen.map(|listen| {
            driver::bind(listen, false).with_context(|| {
                format!("box `{name}`: listen on UDP {listen}; is another program there?")
            })
        });
        Ok(Self {
            held: MirroredBox::new(
                name.clone(),
                address,
                spool.mirror(name)?,
                (silence, health),
            ),
            own,
            facade: facade.transpose()?,
        })
    }
}

/// Starts the loop of boxes that share a port.
fn start_sort(
    boxes: Vec<Bound>,
    jobs: &SyncSender<Job>,
    metrics: &Arc<Metrics>,
    (tasks, drivers): (&mut JoinSet<()>, &mut JoinSet<()>),
    loops: &mut Loops,
) -> Result<()> {
    let addresses: Vec<SocketAddr> = boxes.iter().map(|bound| bound.held.address).collect();
    let socket =
        driver::bind(own_address(&addresses), false).context("open a port to the boxes")?;
    let (sender, commands) = mpsc::channel(MAX_COMMANDS);
    let (mut held, mut peers) = (Vec::new(), HashMap::new());
    for (place, bound) in boxes.into_iter().enumerate() {
        let mut mirrored = bound.held;
        if let Some(own) = bound.own {
            peers.insert(mirrored.address, own);
        }
        if let Some(socket) = bound.facade {
            let (own, told) = mpsc::channel::<FacadeCommand>(MAX_COMMANDS);
            mirrored.facades.push(own.clone());
            let app = Facade {
                place,
                published: mirrored.published.clone(),
                mirrors: sender.downgrade(),
                own,
                metrics: metrics.clone(),
            };
            let config = rollcall_coap::Config {
                heartbeat: Some(PING_EVERY),
                ..rollcall_coap::Config::default()
            };
            let driver = Driver::new(socket, config, app, told);
            tasks.spawn(driver.context("start a mirror's loop")?.run());
        }
        let address = &mirrored.health.read().address;
        tracing::info!(transmitter = %mirrored.name, %address, "a box is mirrored");
        loops.insert(mirrored.name.clone(), sender.clone());
        held.push(mirrored);
    }
    let app = Mirrors::new(held, jobs.clone(), metrics.clone(), rand::random());
    let driver = Driver::new(socket, rollcall_coap::Config::default(), app, commands);
    let mut driver = driver.context("start the mirrors")?;
    if !peers.is_empty() {
        let config = dtls::Config {
            peers,
            ..dtls::Config::default()
        };
        driver = driver.secure(config).context("set up DTLS to the boxes")?;
    }
    drivers.spawn(driver.run());
    // It is the writer's to keep the loop alive: when that ends, boxes are told goodbye.
    let ticks = sender.downgrade();
    tasks.spawn(async move {
        let mut every = tokio::time::interval(TICK);
        loop {
            every.tick().await;
            match ticks.upgrade() {
                Some(ticks) if ticks.send(Command::Tick).await.is_ok() => {}
                _ => return std::future::pending().await,
            }
        }
    });
    Ok(())
}

/// Where to speak to boxes of one family from: on loopback where all of them are.
fn own_address(boxes: &[SocketAddr]) -> SocketAddr {
    let is_local = boxes.iter().all(|address| address.ip().is_loopback());
    let is_ipv6 = boxes.iter().any(SocketAddr::is_ipv6);
    let ip: IpAddr = match (is_ipv6, is_local) {
        (false, true) => Ipv4Addr::LOCALHOST.into(),
        (false, false) => Ipv4Addr::UNSPECIFIED.into(),
        (true, true) => Ipv6Addr::LOCALHOST.into(),
        (true, false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    (ip, 0).into()
}
