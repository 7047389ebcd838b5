//! The edge of Rollcall: hosts pager transmitters, watches brokers and proxies, keeps what happens on disk, and forwards it to
//! the cloud whatever the network does.

pub mod check;
pub mod clock;
pub mod config;
pub mod forward;
mod hosted;
mod keys;
mod metrics;
pub mod mirrored;
mod monitor;
mod orders;
pub mod simulate;
pub mod sources;
pub mod spool;
pub mod status;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rollcall_coap::driver::{self, Driver};
use rollcall_coap::dtls;
use rollcall_pager::Transmitter;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::{Config, TransmitterConfig};
use crate::forward::{Contact, Forwarder, Reported, Source};
use crate::hosted::Hosted;
use crate::keys::KeyFile;
use crate::metrics::Metrics;
use crate::mirrored::Boxes;
use crate::monitor::Monitored;
use crate::sources::SourceConfig;
use crate::sources::poll::{self, Poller, Services};
use crate::sources::state::Watching;
use crate::spool::{Host, Job, Lane, Queue, Reports, Spool, Watched, Writer, path_in};

/// Changes that wait for the disk, at most.
const MAX_JOBS: usize = 1_024;
/// What waits for one socket's loop.
const MAX_COMMANDS: usize = 4_096;
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How often observers are sent a ping (pager contract, L9).
const PING_EVERY: Duration = Duration::from_secs(30);

/// A relay at work.
pub struct Relay {
    /// Where each transmitter listens, in the order of the configuration.
    pub transmitters: Vec<SocketAddr>,
    /// Where the mirrors of boxes are answered, of those that are.
    pub boxes: Vec<SocketAddr>,
    /// Where each listens with DTLS.
    pub secure: Vec<Option<SocketAddr>>,
    /// Where it tells how it is.
    pub monitor: SocketAddr,
    tasks: JoinSet<()>,
    /// The sockets' loops.
    drivers: JoinSet<()>,
    jobs: SyncSender<Job>,
    writer: JoinHandle<()>,
}

/// A transmitter with its sockets, before anything runs.
struct Bound {
    host: Host,
    address: SocketAddr,
    /// Where it listens with DTLS, and the keys that it takes.
    secure: Option<(SocketAddr, KeyFile)>,
    /// Its sockets, in the order of the host's workers: with DTLS where they have its configuration.
    drivers: Vec<Bind>,
    trusted: Vec<rollcall_coap::Network>,
}

impl Bound {
    fn secure_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(|(address, _)| *address)
    }
}

/// A socket, and what is to run on it.
struct Bind {
    socket: std::net::UdpSocket,
    commands: mpsc::Receiver<hosted::Command>,
    dtls: Option<dtls::Config>,
}

impl Relay {
    /// Opens the spool and starts everything. What cannot work is an error before anything is answered.
    pub async fn start(config: &Config) -> Result<Self> {
        config.check()?;
        let path = path_in(&config.data_dir);
        let max_bytes = config.spool.max_mib << 20;
        let mut spool = Spool::open(&path, max_bytes, config.states())?;
        let known = spool.watched()?;
        let queue = Queue::open(&path)?;
        let listener = TcpListener::bind(config.monitor.listen)
            .await
            .with_context(|| format!("listen on monitor.listen {}", config.monitor.listen))?;
        let monitor = listener
            .local_addr()
            .context("ask for the monitor's port")?;
        let clock = Clock::start();
        let bound = config.transmitters.iter();
        let bound = bound.map(|config| bind(config, &spool, clock));
        let bound = bound.collect::<Result<Vec<_>>>()?;
        let boxes = Boxes::bind(&config.boxes, &spool)?;
        let (mirrored, health) = (boxes.facades()?, boxes.health());
        spool.give_up_unfinished()?;
        let shared = Shared::new(queue, watching(config, &known));
        let (jobs, work) = sync_channel(MAX_JOBS);
        let pollers = pollers(config, &spool, &known, &jobs, &shared)?;
        let (mut tasks, mut drivers) = (JoinSet::new(), JoinSet::new());
        let transmitters = bound.iter().map(|bound| bound.address).collect();
        let secure = bound.iter().map(Bound::secure_address).collect();
        start_lanes(config, reported(&bound, &boxes), &jobs, &shared, &mut tasks)?;
        let of_hosts = (&mut tasks, &mut drivers);
        let hosts = start_hosts(bound, &jobs, clock, &shared.metrics, of_hosts)?;
        let boxes = boxes.start(&jobs, &shared.metrics, (&mut tasks, &mut drivers))?;
        let monitored = Arc::new(Monitored {
            queue: shared.queue.clone(),
            contact: shared.contact,
            metrics: shared.metrics.clone(),
            watching: shared.watching.clone(),
            boxes: health,
        });
        tasks.spawn(monitor::serve(listener, monitored));
        let writer = Writer {
            spool,
            path,
            hosts,
            boxes,
            reports: Reports::default(),
            queue: shared.queue,
            jobs: work,
            clock,
            max_bytes,
            is_disk_low: false,
            min_free_bytes: config.spool.min_free_mib << 20,
            news: shared.news,
            metrics: shared.metrics,
        };
        let writer = start_writer(writer)?;
        if !pollers.is_empty() {
            tasks.spawn(ask(pollers)?);
        }
        Ok(Self {
            transmitters,
            boxes: mirrored,
            secure,
            monitor,
            tasks,
            drivers,
            jobs,
            writer,
        })
    }

    /// Ends only where a part of the relay has ended, which none does by itself.
    pub async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            _ = self.tasks.join_next() => {}
            _ = self.drivers.join_next(), if !self.drivers.is_empty() => {}
        }
        anyhow::anyhow!("a part of the relay ended unexpectedly; see the log")
    }

    /// Writes what was taken, and ends.
    pub async fn stop(mut self) {
        let jobs = self.jobs.clone();
        let _ = tokio::task::spawn_blocking(move || {
            let _ = jobs.send(Job::Stop);
            let _ = self.writer.join();
        })
        .await;
        // With the writer go those who command the sockets' loops: they end, and say goodbye to devices.
        let drivers = async { while self.drivers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GOODBYE, drivers).await;
        self.tasks.shutdown().await;
    }
}

/// The services that the relay speaks for.
fn reported(bound: &[Bound], boxes: &Boxes) -> Vec<Reported> {
    let hosted = bound.iter().map(|bound| Reported {
        name: bound.host.name.clone(),
        source: Source::Hosted(bound.host.published.clone()),
    });
    let mirrored = boxes.iter().map(|held| Reported {
        name: held.name.clone(),
        source: Source::Mirrored(held.published.clone()),
    });
    hosted.chain(mirrored).collect()
}

fn start_writer(writer: Writer) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || writer.run())
        .context("start the spool's thread")
}

/// Starts to ask the sources, until what is returned is dropped. One thread does it: the allocator keeps for each thread what it
/// once needed, and pictures are large.
fn ask(pollers: Vec<Poller>) -> Result<impl Future<Output = ()> + Send> {
    let (mut held, dropped) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("set up the sources' loops")?;
    let work = async move {
        let mut asked = JoinSet::new();
        for poller in pollers {
            asked.spawn(poller.run());
        }
        tokio::select! {
            _ = dropped => {}
            Some(_) = asked.join_next() => {}
        }
    };
    let thread = std::thread::Builder::new().name("sources".to_owned());
    thread
        .spawn(move || runtime.block_on(work))
        .context("start the sources' thread")?;
    Ok(async move { held.closed().await })
}

/// What parts of a relay share.
struct Shared {
    queue: Arc<Queue>,
    contact: Arc<Mutex<Contact>>,
    metrics: Arc<Metrics>,
    news: Arc<Notify>,
    watching: Arc<Watching>,
}

impl Shared {
    fn new(queue: Queue, watching: Watching) -> Self {
        Self {
            queue: Arc::new(queue),
            contact: Arc::new(Mutex::new(Contact::default())),
            metrics: Arc::new(Metrics::new()),
            news: Arc::new(Notify::new()),
            watching: Arc::new(watching),
        }
    }
}

/// Starts to send events to the cloud.
fn start_lanes(
    config: &Config,
    services: Vec<Reported>,
    jobs: &SyncSender<Job>,
    shared: &Shared,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let Some(cloud) = &config.cloud else {
        tracing::warn!("no cloud is configured: events stay in the spool");
        return Ok(());
    };
    let forwarder = Arc::new(Forwarder {
        url: cloud.url.clone(),
        key: cloud.key()?,
        client: Forwarder::client()?,
        queue: shared.queue.clone(),
        jobs: jobs.clone(),
        news: shared.news.clone(),
        services,
        contact: shared.contact.clone(),
        metrics: shared.metrics.clone(),
        told: Mutex::default(),
        watching: shared.watching.clone(),
        told_watched: Mutex::default(),
    });
    for lane in [Lane::Live, Lane::Backlog] {
        tasks.spawn(forwarder.clone().run(lane));
    }
    let (url, key) = (cloud.url.clone(), cloud.key()?);
    tasks.spawn(orders::fetch(
        forwarder.client.clone(),
        url,
        key,
        jobs.clone(),
    ));
    Ok(())
}

/// The sources, before any is asked.
fn watching(config: &Config, known: &[Watched]) -> Watching {
    let sources = config.sources();
    for held in known.iter().filter(|held| !held.is_gone) {
        if !sources.iter().any(|source| source.name() == held.source) {
            tracing::warn!(
                service = &*held.name,
                source = held.source,
                "nobody watches this service any more: the configuration has its source no longer; its sessions stay as they were"
            );
        }
    }
    let sources = sources.iter().map(SourceConfig::about);
    Watching::new(sources.collect(), config.pagers(), known)
}

/// Those who ask the sources, with what was told of them.
fn pollers(
    config: &Config,
    spool: &Spool,
    known: &[Watched],
    jobs: &SyncSender<Job>,
    shared: &Shared,
) -> Result<Vec<Poller>> {
    let shared = poll::Shared {
        watching: shared.watching.clone(),
        queue: shared.queue.clone(),
        jobs: jobs.clone(),
        news: shared.news.clone(),
        metrics: shared.metrics.clone(),
        every: time::Duration::seconds(config.watch.moving_seconds.into()),
    };
    let open = |(place, source): (usize, &SourceConfig<'_>)| {
        let name = source.name();
        let (poll_every, timeout) = source.times();
        anyhow::Ok(Poller {
            place,
            name: name.to_owned(),
            source: source
                .open()
                .with_context(|| format!("set up source `{name}`"))?,
            poll_every,
            timeout,
            services: Services::restore(spool, name, known)?,
            shared: shared.clone(),
        })
    };
    config.sources().iter().enumerate().map(open).collect()
}

/// Finds a transmitter's state and binds its sockets.
fn bind(config: &TransmitterConfig, spool: &Spool, clock: Clock) -> Result<Bound> {
    let device = rollcall_pager::Config {
        auto_page: config.auto_page,
        etag_epoch: rand::random(),
        ..rollcall_pager::Config::default()
    };
    let name = &config.name;
    let transmitter = match spool.transmitter(name)? {
        Some(snapshot) => Transmitter::restore(snapshot, device, clock.now())
            .with_context(|| format!("the stored state of transmitter `{name}` cannot be right"))?,
        None => Transmitter::new(device, clock.now()),
    };
    let mut drivers = Vec::new();
    let mut workers = Vec::new();
    let address = open(config, config.listen, None, (&mut drivers, &mut workers))?;
    let mut secure = None;
    if let Some(of_dtls) = &config.dtls {
        let file = KeyFile::open(&of_dtls.psk_file);
        let file = file.with_context(|| format!("transmitter `{name}`"))?;
        let with = dtls::Config {
            keys: Some(file.keys.clone()),
            max_sessions: of_dtls.max_devices,
            idle_for: Duration::from_secs(of_dtls.idle_seconds),
            ..dtls::Config::default()
        };
        let to = (&mut drivers, &mut workers);
        secure = Some((open(config, of_dtls.listen, Some(&with), to)?, file));
    }
    let host = Host {
        name: name.clone(),
        published: Arc::new(RwLock::new(Arc::new(transmitter.clone()))),
        working: transmitter,
        workers,
    };
    Ok(Bound {
        host,
        address,
        secure,
        drivers,
        trusted: config.networks()?,
    })
}

/// Opens a transmitter's sockets at one address, which is answered.
fn open(
    config: &TransmitterConfig,
    listen: SocketAddr,
    dtls: Option<&dtls::Config>,
    (drivers, workers): (&mut Vec<Bind>, &mut Vec<mpsc::Sender<hosted::Command>>),
) -> Result<SocketAddr> {
    let mut address = listen;
    for _ in 0..config.workers.max(1) {
        let socket = driver::bind(address, config.workers > 1).with_context(|| {
            format!(
                "transmitter `{}`: listen on UDP {listen}; is another program there?",
                config.name
            )
        })?;
        // Where any port was asked for, the next sockets share the one that came.
        address = socket.local_addr().context("ask for the socket's port")?;
        let (sender, commands) = mpsc::channel(MAX_COMMANDS);
        workers.push(sender);
        drivers.push(Bind {
            socket,
            commands,
            dtls: dtls.cloned(),
        });
    }
    Ok(address)
}

fn start_hosts(
    bound: Vec<Bound>,
    jobs: &SyncSender<Job>,
    clock: Clock,
    metrics: &Arc<Metrics>,
    (tasks, drivers): (&mut JoinSet<()>, &mut JoinSet<()>),
) -> Result<Vec<Host>> {
    let mut hosts = Vec::new();
    for (place, bound) in bound.into_iter().enumerate() {
        for (worker, bind) in bound.drivers.into_iter().enumerate() {
            let app = Hosted {
                host: place,
                worker,
                published: bound.host.published.clone(),
                jobs: jobs.clone(),
                clock,
                metrics: metrics.clone(),
                begun: HashMap::new(),
            };
            let config = rollcall_coap::Config {
                heartbeat: Some(PING_EVERY),
                trusted: bound.trusted.clone(),
                ..rollcall_coap::Config::default()
            };
            let driver = Driver::new(bind.socket, config, app, bind.commands);
            let mut driver = driver.context("start a socket's loop")?;
            if let Some(dtls) = bind.dtls {
                driver = driver.secure(dtls).context("set up DTLS")?;
            }
            drivers.spawn(driver.run());
        }
        if let Some((address, file)) = bound.secure {
            tracing::info!(
                transmitter = %bound.host.name, %address, keys = file.keys.len(),
                "a transmitter listens with DTLS"
            );
            tasks.spawn(file.watch());
        }
        tracing::info!(transmitter = %bound.host.name, address = %bound.address, "a transmitter listens");
        hosts.push(bound.host);
    }
    Ok(hosts)
}
