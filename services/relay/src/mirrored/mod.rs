//! Mirrored boxes: each is observed; what it tells is on our disk before it is acknowledged; where something was missed, it is
//! read anew.
//!
//! One endpoint, and so one port, for all boxes of a sort. No socket and no clock in here: events, commands and times go in; calls,
//! and jobs for the spool, come out. `App` alone looks at the clock.

mod facade;
mod health;
mod start;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_coap::driver::App;
use rollcall_coap::{
    Call, CallId, Code, Endpoint, Event, Failure, Receipt, RequestId, Response, Time,
};
use rollcall_model::command::{Command as Ordered, CommandReport, CommandStatus};
use rollcall_model::ingest::Happening;
use rollcall_pager::Now;
use rollcall_pager::mirror::{Learned, Mirror, MirrorDelta, Unread};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use facade::{Facade, FacadeCommand};
pub use health::{Health, SharedHealth};
pub use start::{Boxes, Loops};

use crate::hosted::Owned;
use crate::metrics::Metrics;
use crate::orders;
use crate::spool::Job;
use crate::wire;

/// Pauses after a box that does not answer, or answers rubbish: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Readings of a box that changes between its two answers, before they are taken as they are.
const MAX_READINGS: u32 = 5;
/// Commands that wait while a box is read.
const MAX_ORDERS: usize = 64;
/// How long to wait before the spool is asked again to take what it could not.
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// Reports that wait for room before the spool, at most.
const MAX_REPORTS: usize = 1_000;
/// Why a command is not carried out.
const AWAY: &str = "the box is away, or was not read yet";
const LATE: &str = "the box was not read in the command's time";
/// How often the boxes are looked after.
pub const TICK: Duration = Duration::from_millis(250);
/// Registrations of many boxes are spread over this.
const SPREAD: Duration = Duration::from_secs(10);
const FEW_BOXES: usize = 8;

/// What reaches the mirrors from elsewhere.
pub enum Command {
    Tick,
    /// The spool has what was learned of a box.
    Stored {
        place: usize,
        tag: u64,
    },
    /// The spool could not be written.
    NotStored {
        place: usize,
        learnt: Box<Learnt>,
    },
    /// Something that the cloud wants a box to do.
    Order(Box<Ordered>),
    /// A request for a box, from who asks its mirror.
    Pass {
        place: usize,
        request: Owned,
        answer: (mpsc::Sender<FacadeCommand>, RequestId),
    },
}

/// What was learned of a box, for the spool.
pub struct Learnt {
    pub place: usize,
    pub tag: u64,
    pub name: String,
    pub delta: MirrorDelta,
    pub events: Vec<(OffsetDateTime, Happening)>,
}

/// A box and what goes on with it.
pub struct MirroredBox {
    pub name: String,
    pub address: SocketAddr,
    pub mirror: Mirror,
    /// What is on the disk: what readers see.
    pub published: Arc<RwLock<Arc<Mirror>>>,
    /// Those who observe the mirror.
    pub facades: Vec<mpsc::Sender<FacadeCommand>>,
    /// No notification and no ping for so long, and the box has dropped us or is away.
    silence: Duration,
    observation: Option<CallId>,
    reading: Option<Reading>,
    must_read: bool,
    /// When to register, or to read.
    due: Time,
    pause: Duration,
    heard: Time,
    /// Notifications that wait for the reading under way to be stored.
    held: Vec<Receipt>,
    /// By the tag of a job: what to acknowledge, and what to pass on.
    storing: BTreeMap<u64, (Vec<Receipt>, Option<Bytes>)>,
    /// What is learned waits for what was learned before: they must be stored in their order.
    waiting: VecDeque<Box<Learnt>>,
    /// Commands that wait until it is read, which is under way.
    orders: Vec<Ordered>,
    is_storing: bool,
    /// Not before, after the spool could not be written.
    store_at: Time,
    pub health: SharedHealth,
    /// For pauses that are not those of all boxes.
    rng: StdRng,
}

/// A reading of both lists.
struct Reading {
    active: Option<Bytes>,
    tries: u32,
}

/// What a call is for.
enum Errand {
    Observe(usize),
    Read(usize),
    Pass((mpsc::Sender<FacadeCommand>, RequestId)),
    /// A command, and when its time is over.
    Order(Uuid, Time),
}

/// The mirrored boxes that share a port.
pub struct Mirrors {
    boxes: Vec<MirroredBox>,
    errands: HashMap<CallId, Errand>,
    jobs: SyncSender<Job>,
    metrics: Arc<Metrics>,
    next_tag: u64,
    /// The wall's clock at what is looked at now.
    utc: OffsetDateTime,
    reports: VecDeque<Box<CommandReport>>,
}

impl MirroredBox {
    pub fn new(
        name: String,
        address: SocketAddr,
        mirror: Mirror,
        (silence, health): (Duration, SharedHealth),
    ) -> Self {
        Self {
            name,
            address,
            published: Arc::new(RwLock::new(Arc::new(mirror.clone()))),
            mirror,
            facades: Vec::new(),
            silence,
            observation: None,
            reading: None,
            must_read: true,
            due: Duration::ZERO,
            pause: FIRST_PAUSE,
            heard: Duration::ZERO,
            held: Vec::new(),
            storing: BTreeMap::new(),
            waiting: VecDeque::new(),
            orders: Vec::new(),
            is_storing: false,
            store_at: Duration::ZERO,
            health,
            rng: StdRng::from_seed([0; 32]),
        }
    }

    /// Gives the spool what was learned first, where it has what was learned before.
    fn store(&mut self, jobs: &SyncSender<Job>) {
        if self.is_storing {
            return;
        }
        let Some(learnt) = self.waiting.pop_front() else {
            return;
        };
        match jobs.try_send(Job::Learnt(learnt)) {
            Ok(()) => self.is_storing = true,
            // Tried again at the next tick.
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                if let Job::Learnt(learnt) = job {
                    self.waiting.push_front(learnt);
                }
            }
        }
    }

    /// The box gave no answer, or none of use: tried again later, and said once.
    fn put_off(&mut self, now: Time, why: String) {
        self.due = now + self.pause.mul_f64(self.rng.random_range(0.75..1.25));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.health.turned_bad(why.clone()) {
            tracing::warn!(transmitter = %self.name, address = %self.address, reason = %why, "the box cannot be followed; trying on");
        }
    }

    /// Says how it goes.
    fn tell(&self) {
        let is_followed = self.observation.is_some() && !self.must_read;
        self.health.stands(is_followed, self.mirror.meta().heard);
    }

    fn all_is_well(&mut self) {
        self.pause = FIRST_PAUSE;
        if self.health.turned_good() {
            tracing::info!(transmitter = %self.name, "the box is followed again");
        }
    }
}

impl Mirrors {
    /// Mirrors of boxes, which nobody was asked about yet. `seed` must be unpredictable, but in tests.
    pub fn new(
        mut boxes: Vec<MirroredBox>,
        jobs: SyncSender<Job>,
        metrics: Arc<Metrics>,
        seed: [u8; 32],
    ) -> Self {
        let mut rng = StdRng::from_seed(seed);
        // After a start of the relay, all at once would be a storm.
        let is_few = boxes.len() <= FEW_BOXES;
        for held in &mut boxes {
            held.rng = StdRng::from_rng(&mut rng);
            if !is_few {
                held.due = SPREAD.mul_f64(rng.random::<f64>());
            }
        }
        Self {
            boxes,
            errands: HashMap::new(),
            jobs,
            metrics,
            next_tag: 0,
            utc: OffsetDateTime::UNIX_EPOCH,
            reports: VecDeque::new(),
        }
    }

    fn tick(&mut self, endpoint: &mut Endpoint, now: Time) {
        for place in 0..self.boxes.len() {
            let held = &mut self.boxes[place];
            if held.store_at <= now {
                held.store(&self.jobs);
            }
            if let Some(call) = held
                .observation
                .filter(|_| held.heard + held.silence <= now)
            {
                self.errands.remove(&call);
                endpoint.cancel(now, call);
                let held = &mut self.boxes[place];
                // One that has been restarted knows nothing of our session.
                endpoint.disconnect(held.address);
                held.observation = None;
                // Not by its sequence alone: it may be another box by now.
                held.must_read = true;
                let why = format!("nothing was heard of it for {} s", held.silence.as_secs());
                held.put_off(now, why);
            } else if held.observation.is_none() && held.due <= now {
                self.register(endpoint, now, place);
            } else if held.must_read && held.reading.is_none() && held.due <= now {
                self.read(endpoint, now, place, 0);
            }
            self.boxes[place].tell();
        }
    }

    /// Stops to ask boxes for what would come too late.
    fn expire(&mut self, endpoint: &mut Endpoint, now: Time) {
        let due = |(call, errand): (&CallId, &Errand)| match errand {
            Errand::Order(id, until) if *until <= now => Some((*call, *id)),
            _ => None,
        };
        let due: Vec<(CallId, Uuid)> = self.errands.iter().filter_map(due).collect();
        for (call, id) in due {
            self.errands.remove(&call);
            endpoint.cancel(now, call);
            let text = "the box gave no answer in its time; whether it did as asked is not known";
            self.report(orders::unanswered(id, CommandStatus::Unknown, text));
        }
    }

    /// Ends commands for which a box is not read in their time, or turns out to be away.
    fn expire_waiting(&mut self) {
        let utc = OffsetDateTime::now_utc();
        let mut reports = Vec::new();
        for held in &mut self.boxes {
            let is_away = held.health.is_bad();
            held.orders.retain(|command| {
                let end = match orders::is_expired(command, utc) {
                    true => (CommandStatus::Expired, LATE),
                    false if is_away => (CommandStatus::Refused, AWAY),
                    false => return true,
                };
                reports.push(orders::not_done(command, end.0, end.1));
                false
            });
        }
        for report in reports {
            self.report(report);
        }
    }

    fn register(&mut self, endpoint: &mut Endpoint, now: Time, place: usize) {
        let held = &mut self.boxes[place];
        let call = Call {
            query: vec!["action=get_sessions".to_owned()],
            observe: true,
            holds_acknowledgement: true,
            patience: Duration::from_secs(20),
            ..Call::new(Code::GET, "/v1/notify")
        };
        let id = endpoint.call(now, held.address, call);
        held.observation = Some(id);
        held.heard = now;
        self.errands.insert(id, Errand::Observe(place));
    }

    fn read(&mut self, endpoint: &mut Endpoint, now: Time, place: usize, tries: u32) {
        let held = &mut self.boxes[place];
        held.mirror.begin_reading();
        let call = endpoint.call(now, held.address, Call::new(Code::GET, "/v1/sessions"));
        held.reading = Some(Reading {
            active: None,
            tries,
        });
        self.errands.insert(call, Errand::Read(place));
        self.metrics.box_readings_total.inc();
    }

    /// A notification, or the first answer of an observation.
    fn notified(&mut self, now: Time, place: usize, response: &Response, receipt: Option<Receipt>) {
        let held = &mut self.boxes[place];
        held.heard = now;
        let is_reading = held.reading.is_some();
        if held.must_read {
            // Learned now and not stored, it would be no news to the reading.
            held.mirror.begin_reading();
        }
        let heard = held.mirror.notification(&response.payload, self.utc);
        if heard.is_rubbish {
            held.put_off(now, "it tells what is no JSON".to_owned());
            held.must_read = true;
        } else {
            held.must_read |= heard.must_read;
            if !held.must_read {
                held.all_is_well();
            }
        }
        let receipts: Vec<Receipt> = receipt.into_iter().collect();
        if is_reading || held.must_read {
            // What it told is in the lists that are read now.
            held.held.extend(receipts);
            return;
        }
        self.learn(
            now,
            place,
            heard.learned,
            receipts,
            Some(response.payload.clone()),
        );
    }

    /// Gives the spool what was learned; acknowledges at once where that is nothing.
    fn learn(
        &mut self,
        now: Time,
        place: usize,
        learned: Vec<Learned>,
        receipts: Vec<Receipt>,
        told: Option<Bytes>,
    ) {
        let held = &mut self.boxes[place];
        self.next_tag += 1;
        let learnt = Learnt {
            place,
            tag: self.next_tag,
            name: held.name.clone(),
            delta: held.mirror.take_changes(),
            events: learned
                .iter()
                .map(|learned| (learned.at, wire::learned(learned)))
                .collect(),
        };
        held.storing.insert(learnt.tag, (receipts, told));
        held.waiting.push_back(Box::new(learnt));
        if held.store_at <= now {
            held.store(&self.jobs);
        }
    }

    fn stored(&mut self, endpoint: &mut Endpoint, place: usize, tag: u64) {
        let held = &mut self.boxes[place];
        held.is_storing = false;
        held.store(&self.jobs);
        let Some((receipts, told)) = held.storing.remove(&tag) else {
            return;
        };
        for receipt in receipts {
            endpoint.confirm(receipt);
        }
        let published = Arc::new(held.mirror.clone());
        *held
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = published;
        if let Some(body) = told {
            for facade in &held.facades {
                // One that does not keep up sees the gap in the sequence.
                let _ = facade.try_send(FacadeCommand::Told(body.clone()));
            }
        }
    }

    fn ended(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        call: CallId,
        outcome: Result<Response, Failure>,
    ) {
        match self.errands.remove(&call) {
            Some(Errand::Observe(place)) => {
                let held = &mut self.boxes[place];
                held.observation = None;
                held.must_read = true;
                held.put_off(
                    now,
                    match outcome {
                        Ok(response) => format!("it answers {} to an observation", response.code),
                        Err(failure) => failure.to_string(),
                    },
                );
            }
            Some(Errand::Read(place)) => self.was_read(endpoint, now, place, outcome),
            Some(Errand::Pass((facade, id))) => {
                let _ = facade.try_send(FacadeCommand::Passed(id, outcome));
            }
            Some(Errand::Order(id, _)) => self.report(orders::outcome(id, &outcome)),
            None => {}
        }
    }

    fn report(&mut self, report: CommandReport) {
        if self.reports.len() == MAX_REPORTS {
            self.reports.pop_front();
            tracing::error!(
                "too many reports of commands wait for the spool; one is lost, and its command will count as unknown"
            );
        }
        self.reports.push_back(Box::new(report));
        self.pass_on_reports();
    }

    /// Gives the spool what was reported of commands, as far as it has room.
    fn pass_on_reports(&mut self) {
        while let Some(report) = self.reports.pop_front() {
            match self.jobs.try_send(Job::Reported(report)) {
                Ok(()) => {}
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    if let Job::Reported(report) = job {
                        self.reports.push_front(report);
                    }
                    return;
                }
            }
        }
    }

    /// Carries a command out: once, for it is on the disk as begun.
    fn order(&mut self, endpoint: &mut Endpoint, now: Time, command: Ordered) {
        let mut boxes = self.boxes.iter_mut();
        let Some(held) = boxes.find(|held| held.name == command.service) else {
            return;
        };
        if held.observation.is_none() || held.must_read {
            if !held.health.is_bad() && held.orders.len() < MAX_ORDERS {
                // A moment yet.
                held.orders.push(command);
                return;
            }
            return self.report(orders::not_done(&command, CommandStatus::Refused, AWAY));
        }
        if orders::is_expired(&command, OffsetDateTime::now_utc()) {
            return self.report(orders::not_done(&command, CommandStatus::Expired, LATE));
        }
        let is_there = orders::meant(&command.order).is_none_or(|(uuid, number)| {
            held.mirror
                .guests()
                .any(|guest| guest.is_active() && guest.uuid == uuid && guest.number == number)
        });
        if !is_there {
            let text = "the session is over: its pager has another one, or none";
            return self.report(orders::not_done(&command, CommandStatus::Refused, text));
        }
        let request = orders::request(&command.order);
        let call = Call {
            path: request.path,
            query: request.query,
            content_format: request.content_format,
            payload: request.payload,
            patience: Duration::from_secs(20),
            ..Call::new(request.code, "")
        };
        let id = endpoint.call(now, held.address, call);
        let left = (command.expires - self.utc).unsigned_abs();
        self.errands
            .insert(id, Errand::Order(command.id, now + left));
    }

    /// One of the two lists is there.
    fn was_read(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        place: usize,
        outcome: Result<Response, Failure>,
    ) {
        let held = &mut self.boxes[place];
        let Some(reading) = held.reading.take() else {
            return;
        };
        let body = match outcome {
            Ok(response) if response.code.is_success() => response.payload,
            Ok(response) => {
                return self.not_read(now, place, format!("it answers {}", response.code));
            }
            Err(failure) => return self.not_read(now, place, failure.to_string()),
        };
        let Some(active) = reading.active else {
            let call = endpoint.call(
                now,
                held.address,
                Call::new(Code::GET, "/v1/sessions/history"),
            );
            held.reading = Some(Reading {
                active: Some(body),
                tries: reading.tries,
            });
            self.errands.insert(call, Errand::Read(place));
            return;
        };
        let insist = reading.tries >= MAX_READINGS;
        match held.mirror.read(&active, &body, self.utc, insist) {
            Ok(heard) => {
                held.must_read = heard.must_read;
                held.all_is_well();
                held.heard = now;
                let receipts = std::mem::take(&mut held.held);
                let orders = std::mem::take(&mut held.orders);
                self.learn(now, place, heard.learned, receipts, None);
                for command in orders {
                    self.order(endpoint, now, command);
                }
            }
            Err(Unread::Changed) => self.read(endpoint, now, place, reading.tries + 1),
            Err(error @ Unread::Rubbish(_)) => self.not_read(now, place, error.to_string()),
        }
    }

    fn not_read(&mut self, now: Time, place: usize, why: String) {
        let held = &mut self.boxes[place];
        held.mirror.give_up();
        held.must_read = true;
        held.put_off(now, why);
    }

    /// Passes a request on to a box, its body as compact JSON: the box's parser is small (pager contract, 1.1).
    fn pass(
        &mut self,
        endpoint: &mut Endpoint,
        now: Time,
        place: usize,
        request: Owned,
        answer: (mpsc::Sender<FacadeCommand>, RequestId),
    ) {
        let compact = serde_json::from_slice::<serde_json::Value>(&request.payload);
        let payload = compact
            .map(|value| Bytes::from(value.to_string()))
            .unwrap_or_default();
        let call = Call {
            path: request.path,
            query: request.query,
            content_format: request
                .content_format
                .or((!payload.is_empty()).then_some(rollcall_coap::JSON)),
            payload,
            patience: Duration::from_secs(20),
            ..Call::new(request.code, "")
        };
        let id = endpoint.call(now, self.boxes[place].address, call);
        self.errands.insert(id, Errand::Pass(answer));
    }

    /// Something came from a box.
    pub fn hear(&mut self, endpoint: &mut Endpoint, now: Now, event: Event) {
        self.utc = now.utc;
        let now = now.monotonic;
        match event {
            Event::Notified(call, response, receipt) => {
                if let Some(Errand::Observe(place)) = self.errands.get(&call) {
                    let place = *place;
                    self.notified(now, place, &response, receipt);
                }
            }
            Event::Ended(call, outcome) => self.ended(endpoint, now, call, outcome),
            // Nobody has anything to ask of this port.
            Event::Request(id, _) => {
                endpoint.respond(now, id, Response::new(Code::NOT_FOUND), false);
            }
            Event::Heartbeat(_) | Event::ObserverGone(_) => {}
        }
    }

    /// Something came from elsewhere in the relay, or it is time.
    pub fn obey(&mut self, endpoint: &mut Endpoint, now: Now, command: Command) {
        self.utc = now.utc;
        let now = now.monotonic;
        match command {
            Command::Tick => {
                self.expire(endpoint, now);
                self.pass_on_reports();
                self.expire_waiting();
                self.tick(endpoint, now);
            }
            Command::Stored { place, tag } => self.stored(endpoint, place, tag),
            Command::NotStored { place, learnt } => {
                let held = &mut self.boxes[place];
                held.is_storing = false;
                held.waiting.push_front(learnt);
                held.store_at = now + STORE_AGAIN;
            }
            Command::Order(command) => self.order(endpoint, now, *command),
            Command::Pass {
                place,
                request,
                answer,
            } => self.pass(endpoint, now, place, request, answer),
        }
    }
}

impl App for Mirrors {
    type Command = Command;

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
        self.hear(endpoint, at(now), event);
    }

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: Command) {
        self.obey(endpoint, at(now), command);
    }
}

/// A moment by the endpoint's clock, with the wall's.
fn at(now: Time) -> Now {
    Now {
        utc: OffsetDateTime::now_utc(),
        monotonic: now,
    }
}
