//! One seed's world: a box, a relay and the cloud, and time, which passes from one thing that is due to the next.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_relay::forward::{Answer, Forwarder};
use rollcall_relay::spool::Batch;
use tempfile::TempDir;

use crate::check::{self, Summary};
use crate::cloud::{Account, Cloud};
use crate::device::{self, Device};
use crate::edge::{Edge, Means};
use crate::network::{Network, Weather};
use crate::plan::{Happening, Plan};

/// How long after all is well everything has to be known: longer than any pause of the relay's, and than the box's silence.
const SETTLES_IN: Duration = Duration::from_secs(400);

pub struct World<'a> {
    now: Duration,
    rng: StdRng,
    pub plan: Plan,
    pub device: Device,
    network: Network,
    edge: Option<Edge>,
    cloud: &'a Cloud,
    account: Account,
    pub service: String,
    is_told: bool,
    folder: TempDir,
    box_back_at: Option<Duration>,
    edge_back_at: Option<Duration>,
    cloud_back_at: Duration,
    /// Shares of batches that the cloud is too busy for, that do not reach it, and whose answers get lost.
    poor: (f64, f64, f64),
    /// How many steps the box had made where the relay's knowledge begins; nothing while it has none.
    pub base: Option<usize>,
}

impl<'a> World<'a> {
    /// Lives a seed's life, and checks what came of it; tells of it where it is one alone.
    pub fn live(seed: u64, cloud: &'a Cloud, is_told: bool) -> Summary {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Plan::of(&mut rng);
        let config = rollcall_pager::Config {
            auto_page: plan.auto_page,
            max_history: plan.max_history,
            ..rollcall_pager::Config::default()
        };
        let service = format!("box-{seed}");
        let mut world = Self {
            now: Duration::from_secs(1),
            device: Device::new(seed, StdRng::from_rng(&mut rng), config, plan.sequence),
            network: Network::new(StdRng::from_rng(&mut rng)),
            rng,
            plan,
            edge: None,
            cloud,
            account: cloud.account(&service),
            service,
            is_told,
            folder: tempfile::tempdir().expect("a folder"),
            box_back_at: None,
            edge_back_at: None,
            cloud_back_at: Duration::ZERO,
            poor: (0.0, 0.0, 0.0),
            base: None,
        };
        for _ in 0..world.plan.before {
            world.device.host_stand(world.now);
            world.now += Duration::from_secs(7);
        }
        world.start_edge();
        for _ in 0..world.plan.happenings {
            let next = world.plan.next(&mut world.rng);
            let before = world.device.truth.steps.len();
            world.happen(&next);
            if is_told {
                world.tell(&next, before);
            }
            let pause = world.plan.pace.mul_f64(world.rng.random::<f64>().powi(3));
            world.run(world.now + pause);
        }
        world.settle();
        let known = cloud.known(&world.service);
        if is_told {
            println!("{:?}, read from step {:?}", world.plan, world.base);
            println!("{:#?}", known.gaps);
        }
        let summary = check::check(&world, &known);
        cloud.forget(&world.service);
        summary
    }

    /// Says what happens, for who looks for the reason of a failure.
    fn tell(&self, what: &Happening, before: usize) {
        println!("{:>12.3} s  {what:?}", self.now.as_secs_f64());
        for step in &self.device.truth.steps[before..] {
            let session = &self.device.truth.sessions[&step.uuid];
            println!(
                "{:>12}    step {}: {}, pager {}, {:?}",
                "", step.sequence, session.id, session.number, session.state
            );
        }
    }

    pub fn now(&self) -> Duration {
        self.now
    }

    fn some(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.random::<f64>().powi(2))
    }

    fn happen(&mut self, what: &Happening) {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        match what {
            Happening::AtHostStand => self.device.host_stand(self.now),
            Happening::Rush(times) => (0..*times).for_each(|_| self.device.host_stand(self.now)),
            Happening::Clock => self.device.set_clock(self.now),
            Happening::Weather => self.network.weather = Weather::any(&mut self.rng),
            Happening::Cut => self.network.weather = Weather::CUT,
            Happening::Fair => self.network.weather = Weather::CALM,
            Happening::Reboot => {
                self.device.switch_off();
                self.box_back_at = Some(self.now + self.some(minutes(5)));
            }
            Happening::Replace => self.device.replace(self.now),
            Happening::Kill => {
                self.edge = None;
                self.edge_back_at = Some(self.now + self.some(minutes(10)));
            }
            Happening::CloudAway => {
                self.cloud_back_at = self.now + self.some(self.plan.longest_silence);
            }
            Happening::CloudPoor => {
                let mut share = || self.rng.random_range(0.0..0.5);
                self.poor = (share(), share(), share());
            }
            Happening::Disk => {
                let until = self.now + self.some(minutes(1));
                if let Some(edge) = &mut self.edge {
                    edge.disk_fails_until = until;
                }
            }
            Happening::Pause => {
                let away = self.cloud_back_at.saturating_sub(self.now).max(minutes(10));
                let pause = self.some(away);
                self.run(self.now + pause);
            }
        }
    }

    fn start_edge(&mut self) {
        let means = Means {
            folder: self.folder.path(),
            service: &self.service,
            account: &self.account,
            http: &self.cloud.http,
            max_bytes: self.plan.max_bytes,
            is_told: self.is_told,
        };
        self.edge_back_at = None;
        self.edge = Some(Edge::start(
            &means,
            self.now,
            StdRng::from_rng(&mut self.rng),
        ));
    }

    /// Lets time pass.
    fn run(&mut self, until: Duration) {
        loop {
            self.pump();
            let edge = self.edge.as_ref().map(Edge::due);
            let due = [
                self.network.due(),
                self.device.due(self.now),
                edge,
                self.box_back_at,
                self.edge_back_at,
            ];
            let Some(due) = due.into_iter().flatten().min().filter(|due| *due <= until) else {
                self.now = until.max(self.now);
                return;
            };
            self.now = due.max(self.now);
            while let Some((from, to, bytes)) = self.network.arrived(self.now) {
                match &mut self.edge {
                    _ if to == device::ADDRESS => self.device.receive(self.now, from, &bytes),
                    Some(edge) if edge.address == to => edge.receive(self.now, from, &bytes),
                    // Nobody is there.
                    _ => {}
                }
            }
        }
    }

    /// Does what is due now.
    fn pump(&mut self) {
        if self.box_back_at.is_some_and(|due| due <= self.now) {
            self.box_back_at = None;
            self.device.switch_on(self.now);
        }
        if self.edge_back_at.is_some_and(|due| due <= self.now) {
            self.start_edge();
        }
        for (to, bytes) in self.device.pump(self.now) {
            self.network.send(self.now, (device::ADDRESS, to, bytes));
        }
        let Some(edge) = &mut self.edge else {
            return;
        };
        for (to, bytes) in edge.pump(self.now) {
            self.network.send(self.now, (edge.address, to, bytes));
        }
        if edge.write(self.now) && self.base.is_none() {
            let mirror = edge.writer.spool.mirror(&self.service);
            let mirror = mirror.expect("the mirror is read");
            self.base = mirror.meta().sequence.map(|known| {
                let is_known = |step: &device::Step| step.sequence == known;
                self.device
                    .truth
                    .steps
                    .iter()
                    .rposition(is_known)
                    .map_or(0, |at| at + 1)
            });
        }
        let (now, back, poor) = (self.now, self.cloud_back_at, self.poor);
        let (rng, cloud, account) = (&mut self.rng, self.cloud, &self.account);
        edge.forward(now, |forwarder, batch| {
            let takes = Duration::from_secs_f64(rng.random_range(0.005..0.5));
            if now < back {
                return (away("the simulation has it so"), takes);
            }
            answer(forwarder, batch, (cloud, account), poor, rng)
        });
    }

    /// All is well from now on, until nothing waits any more.
    fn settle(&mut self) {
        self.network.weather = Weather::CALM;
        self.cloud_back_at = Duration::ZERO;
        self.poor = (0.0, 0.0, 0.0);
        self.box_back_at = None;
        self.device.switch_on(self.now);
        if self.edge.is_none() {
            self.start_edge();
        }
        if let Some(edge) = &mut self.edge {
            edge.disk_fails_until = Duration::ZERO;
        }
        self.run(self.now + SETTLES_IN);
        // A ping may be on its way at any moment, but not for ever.
        let is_idle = (0..100).any(|_| {
            self.run(self.now + Duration::from_millis(100));
            self.edge.as_ref().is_some_and(Edge::is_idle)
        });
        assert!(
            is_idle,
            "something still waits {SETTLES_IN:?} after all was well: {:?}",
            self.plan
        );
    }
}

/// The cloud's answer to a batch, and how long it takes.
fn answer(
    forwarder: &Forwarder,
    batch: &Batch,
    (cloud, account): (&Cloud, &Account),
    (busy, unheard, unanswered): (f64, f64, f64),
    rng: &mut StdRng,
) -> (Answer, Duration) {
    let takes = Duration::from_secs_f64(rng.random_range(0.005..0.5));
    let gives_up = Duration::from_secs_f64(rng.random_range(0.5..30.0));
    if rng.random_bool(busy) {
        let wait = Some(Duration::from_secs(rng.random_range(1..60)));
        let text = br#"{"errors":[{"code":"unavailable","detail":"busy"}]}"#;
        return (
            Answer::of(reqwest::StatusCode::SERVICE_UNAVAILABLE, wait, text),
            takes,
        );
    }
    if rng.random_bool(unheard) {
        return (away("the way there is lost"), gives_up);
    }
    let body = forwarder.body(batch).expect("a batch is written");
    let answer = cloud.post(account, &body);
    if rng.random_bool(unanswered) {
        return (away("the way back is lost"), gives_up);
    }
    (answer, takes)
}

fn away(why: &str) -> Answer {
    Answer::Away {
        why: why.to_owned(),
        wait: None,
        is_locked_out: false,
    }
}
