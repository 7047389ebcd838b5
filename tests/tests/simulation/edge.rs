//! The relay, from one start to the next kill: its mirrors, its spool and its lanes, driven as its loops drive them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use rollcall_coap::Endpoint;
use rollcall_pager::mirror::Mirror;
use rollcall_relay::clock::Clock;
use rollcall_relay::forward::{Answer, Course, Forwarder, Reported, Source};
use rollcall_relay::mirrored::{self, MirroredBox, Mirrors, SharedHealth};
use rollcall_relay::spool::{
    Batch, Delivery, Fate, Job, Lane, Queue, Reports, Spool, Writer, path_in,
};
use tokio::sync::{mpsc, oneshot};

use crate::cloud::Account;
use crate::device::{self, at};

/// Jobs of one commit, as the writer's.
const GROUP: usize = 256;
/// After which a box that says nothing counts as away; as a relay has it that is told nothing else.
const SILENCE: Duration = Duration::from_secs(70);
/// How often the boxes are looked after while all is quiet: as often as otherwise would take long over days.
const QUIET_TICK: Duration = Duration::from_secs(5);
/// How long after a datagram all is quiet.
const QUIET_AFTER: Duration = Duration::from_secs(2);

/// What a relay runs with.
pub struct Means<'a> {
    pub folder: &'a Path,
    pub service: &'a str,
    pub account: &'a Account,
    pub http: &'a reqwest::Client,
    pub max_bytes: u64,
    /// Says what it writes, for who looks for the reason of a failure.
    pub is_told: bool,
}

/// Where a lane is.
enum Stage {
    /// Looks for events then; nothing: once there are some.
    Idle(Option<Duration>),
    /// Has asked the cloud, and has its answer then.
    Asked(Batch, Option<Answer>, Duration),
    /// Waits for the spool to know.
    Settling(Batch, oneshot::Receiver<()>, Duration),
}

pub struct Edge {
    pub address: SocketAddr,
    endpoint: Endpoint,
    mirrors: Mirrors,
    pub writer: Writer,
    own: SyncSender<Job>,
    jobs: Receiver<Job>,
    /// What waits for the writer's next commit, and when that is.
    queued: VecDeque<Job>,
    write_at: Option<Duration>,
    /// What the writer said to the mirrors, and when they hear it.
    commands: mpsc::Receiver<mirrored::Command>,
    told: VecDeque<mirrored::Command>,
    tell_at: Option<Duration>,
    tick_at: Duration,
    heard_at: Duration,
    forwarder: Forwarder,
    lanes: Vec<(Course, Stage)>,
    /// The disk fails until then.
    pub disk_fails_until: Duration,
    is_told: bool,
    rng: StdRng,
}

fn seed(rng: &mut StdRng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// What sends its events, but for the sending.
fn forwarder(
    means: &Means<'_>,
    queue: &Arc<Queue>,
    own: &SyncSender<Job>,
    published: Arc<RwLock<Arc<Mirror>>>,
) -> Forwarder {
    Forwarder {
        url: means.account.url.clone(),
        key: format!("{}:{}", means.account.id, means.account.secret).into(),
        client: means.http.clone(),
        queue: queue.clone(),
        jobs: own.clone(),
        news: Arc::default(),
        services: vec![Reported {
            name: means.service.to_owned(),
            source: Source::Mirrored(published),
        }],
        contact: Arc::default(),
        metrics: Arc::default(),
        told: Mutex::new(HashMap::new()),
    }
}

impl Edge {
    /// Starts it on what its spool has.
    pub fn start(means: &Means<'_>, now: Duration, mut rng: StdRng) -> Self {
        let path = path_in(means.folder);
        let spool = Spool::open(&path, 64 << 20, 1).expect("the spool opens");
        // A kill loses nothing that was written; waiting for the disk would only take time.
        spool
            .connection
            .pragma_update(None, "synchronous", "off")
            .expect("it is let");
        let mirror = spool.mirror(means.service).expect("the mirror is read");
        let queue = Arc::new(Queue::open(&path).expect("the queue opens"));
        let (own, jobs) = sync_channel(1_024);
        let (sender, commands) = mpsc::channel(4_096);
        let health = SharedHealth::of(device::ADDRESS.to_string());
        let held = MirroredBox::new(
            means.service.to_owned(),
            device::ADDRESS,
            mirror,
            (SILENCE, health),
        );
        let published = held.published.clone();
        let metrics = Arc::default();
        let mirrors = Mirrors::new(
            vec![held],
            own.clone(),
            Arc::clone(&metrics),
            seed(&mut rng),
        );
        let forwarder = forwarder(means, &queue, &own, published);
        let (_, unused) = sync_channel(1);
        let writer = Writer {
            spool,
            path,
            hosts: Vec::new(),
            boxes: HashMap::from([(means.service.to_owned(), sender)]),
            reports: Reports::default(),
            queue,
            jobs: unused,
            clock: Clock::start(),
            max_bytes: means.max_bytes,
            is_disk_low: false,
            min_free_bytes: 0,
            news: Arc::default(),
            metrics,
        };
        let lane = |lane, rng: &mut StdRng| (Course::new(lane, seed(rng)), Stage::Idle(Some(now)));
        let epoch_ms = u64::try_from(at(now).utc.unix_timestamp() * 1_000).expect("after 1970");
        Self {
            // Mostly another port; sometimes the one of before.
            address: SocketAddr::from(([127, 0, 0, 1], 40_000 + rng.random_range(0..3_u16))),
            endpoint: Endpoint::new(rollcall_coap::Config::default(), seed(&mut rng), epoch_ms),
            mirrors,
            writer,
            own,
            jobs,
            queued: VecDeque::new(),
            write_at: None,
            commands,
            told: VecDeque::new(),
            tell_at: None,
            tick_at: now,
            heard_at: now,
            forwarder,
            lanes: [Lane::Live, Lane::Backlog]
                .map(|which| lane(which, &mut rng))
                .into(),
            disk_fails_until: Duration::ZERO,
            is_told: means.is_told,
            rng,
        }
    }

    /// Whether nothing waits any more.
    pub fn is_idle(&self) -> bool {
        let is_idle = |(_, stage): &(Course, Stage)| matches!(stage, Stage::Idle(None));
        self.queued.is_empty()
            && self.told.is_empty()
            && self.lanes.iter().all(is_idle)
            && self.writer.queue.waiting().events() == 0
    }

    pub fn due(&self) -> Duration {
        let lanes = self.lanes.iter().filter_map(|(_, stage)| match stage {
            Stage::Idle(due) => *due,
            Stage::Asked(_, _, due) => Some(*due),
            Stage::Settling(..) => None,
        });
        let others = [self.endpoint.poll_timeout(), self.write_at, self.tell_at];
        let first = lanes.chain(others.into_iter().flatten()).min();
        first.map_or(self.tick_at, |first| first.min(self.tick_at))
    }

    pub fn receive(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.heard_at = now;
        self.tick_at = self.tick_at.min(now + mirrored::TICK);
        self.endpoint.receive(now, from, bytes);
    }

    /// Does what is due, but for asking the cloud; gives what it sends.
    pub fn pump(&mut self, now: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        if self.tell_at.is_some_and(|due| due <= now) {
            self.tell_at = None;
            for command in std::mem::take(&mut self.told) {
                self.mirrors.obey(&mut self.endpoint, at(now), command);
            }
        }
        self.endpoint.handle_timeout(now);
        while let Some(event) = self.endpoint.poll_event() {
            self.mirrors.hear(&mut self.endpoint, at(now), event);
        }
        if self.tick_at <= now {
            let is_quiet = self.heard_at + QUIET_AFTER < now;
            self.tick_at = now + if is_quiet { QUIET_TICK } else { mirrored::TICK };
            self.mirrors
                .obey(&mut self.endpoint, at(now), mirrored::Command::Tick);
        }
        self.queued.extend(self.jobs.try_iter());
        if !self.queued.is_empty() && self.write_at.is_none() {
            self.write_at = Some(now + self.some_time());
        }
        let mut sent = Vec::new();
        while let Some((to, bytes)) = self.endpoint.poll_transmit() {
            sent.push((to, bytes.to_vec()));
        }
        sent
    }

    /// What one thread of the relay is behind another.
    fn some_time(&mut self) -> Duration {
        let longest = if self.rng.random_bool(0.1) {
            5_000.0
        } else {
            20.0
        };
        Duration::from_secs_f64(self.rng.random_range(0.1..longest) / 1_000.0)
    }

    /// The writer's turn, where it is due; says whether it was.
    pub fn write(&mut self, now: Duration) -> bool {
        if self.write_at.is_none_or(|due| due > now) {
            return false;
        }
        let fails = now < self.disk_fails_until;
        let only_reads = if fails { "on" } else { "off" };
        let spool = &self.writer.spool.connection;
        spool
            .pragma_update(None, "query_only", only_reads)
            .expect("it is let");
        let most = self.queued.len().min(GROUP);
        let jobs: Vec<Job> = self.queued.drain(..most).collect();
        if self.is_told {
            tell(now, &jobs, fails);
        }
        self.writer.step(at(now), jobs);
        while let Ok(command) = self.commands.try_recv() {
            self.told.push_back(command);
        }
        if !self.told.is_empty() && self.tell_at.is_none() {
            self.tell_at = Some(now + self.some_time());
        }
        self.write_at = (!self.queued.is_empty()).then(|| now + self.some_time());
        let has_events = self.writer.queue.waiting().events() > 0;
        for (_, stage) in &mut self.lanes {
            match stage {
                Stage::Idle(due @ None) if has_events => *due = Some(now),
                // Written, or not: then it is sent again.
                Stage::Settling(batch, done, pause) => {
                    let is_open = done.try_recv() == Err(oneshot::error::TryRecvError::Empty);
                    if !is_open {
                        self.writer.queue.release(batch);
                        *stage = Stage::Idle(Some(now + *pause));
                    }
                }
                _ => {}
            }
        }
        true
    }

    /// The lanes' turn. `ask` is the cloud: its answer, and how long it takes.
    pub fn forward(
        &mut self,
        now: Duration,
        mut ask: impl FnMut(&Forwarder, &Batch) -> (Answer, Duration),
    ) {
        for (course, stage) in &mut self.lanes {
            match stage {
                Stage::Idle(Some(due)) if *due <= now => {
                    let batch = self.forwarder.queue.take(course.lane, course.most);
                    let batch = batch.expect("the queue is read");
                    *stage = if batch.events.is_empty() {
                        Stage::Idle(None)
                    } else {
                        let (answer, takes) = ask(&self.forwarder, &batch);
                        Stage::Asked(batch, Some(answer), now + takes)
                    };
                }
                Stage::Asked(batch, answer, due) if *due <= now => {
                    let answer = answer.take().expect("judged once");
                    let (fates, pause) = self.forwarder.judge(course, batch, answer);
                    let is_taken = |(_, fate): &(i64, Fate)| matches!(fate, Fate::Delivered);
                    assert!(fates.iter().all(is_taken), "refused: {fates:?}");
                    if fates.is_empty() {
                        self.forwarder.queue.release(batch);
                        *stage = Stage::Idle(Some(now + pause));
                        continue;
                    }
                    let (done, is_done) = oneshot::channel();
                    let delivery = Delivery {
                        fates,
                        at: at(now).utc,
                        done,
                    };
                    self.own
                        .try_send(Job::Delivered(delivery))
                        .expect("there is room");
                    *stage = Stage::Settling(std::mem::take(batch), is_done, pause);
                }
                _ => {}
            }
        }
        self.queued.extend(self.jobs.try_iter());
        if !self.queued.is_empty() && self.write_at.is_none() {
            self.write_at = Some(now + self.some_time());
        }
    }
}

fn tell(now: Duration, jobs: &[Job], fails: bool) {
    for job in jobs {
        let Job::Learnt(learnt) = job else {
            continue;
        };
        let what: Vec<String> = learnt
            .events
            .iter()
            .map(|(_, what)| format!("{what:?}"))
            .collect();
        let sequence = learnt.delta.meta.sequence;
        println!(
            "{:>12.3} s  writes {sequence:?}, failing {fails}: {what:#?}",
            now.as_secs_f64()
        );
    }
}
