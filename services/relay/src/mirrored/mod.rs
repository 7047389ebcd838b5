//! Mirrored boxes: each is observed; what it tells is on our disk before it is acknowledged; where something was missed, it is
//! read anew.
//!
//! One endpoint, and so one port, for all boxes of a sort.

mod facade;
mod health;
mod start;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rollcall_coap::driver::App;
use rollcall_coap::{
    Call, CallId, Code, Endpoint, Event, Failure, Receipt, RequestId, Response, Time,
};
use rollcall_model::command::{Command as Ordered, CommandReport, CommandStatus};
use rollcall_model::ingest::Happening;
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

/// No notification and no ping for so long, and the box has dropped us or is away (pager contract, 1.5: a ping each 30 s).
const SILENCE: Duration = Duration::from_secs(70);
/// Pauses after a box that does not answer, or answers rubbish: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Readings of a box that changes between its two answers, before they are taken as they are.
const MAX_READINGS: u32 = 5;
/// How long to wait before the spool is asked again to take what it could not.
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// Reports that wait for room before the spool, at most.
const MAX_REPORTS: usize = 1_000;
/// How often the boxes are looked after.
const TICK: Duration = Duration::from_millis(250);
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
    is_storing: bool,
    /// Not before, after the spool could not be written.
    store_at: Time,
    pub health: SharedHealth,
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
    reports: VecDeque<Box<CommandReport>>,
}

impl MirroredBox {
    pub fn new(name: String, address: SocketAddr, mirror: Mirror, health: SharedHealth) -> Self {
        Self {
            name,
            address,
            published: Arc::new(RwLock::new(Arc::new(mirror.clone()))),
            mirror,
            facades: Vec::new(),
            observation: None,
            reading: None,
            must_read: true,
            due: Duration::ZERO,
            pause: FIRST_PAUSE,
            heard: Duration::ZERO,
            held: Vec::new(),
            storing: BTreeMap::new(),
            waiting: VecDeque::new(),
            is_storing: false,
            store_at: Duration::ZERO,
            health,
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
        self.due = now + self.pause.mul_f64(rand::rng().random_range(0.75..1.25));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if self.health.turned_bad(why.clone()) {
            tracing::warn!(transmitter = %self.name, address = %self.address, reason = %why, "the box cannot be followed; trying on");
        }
    }

    fn all_is_well(&mut self) {
        self.pause = FIRST_PAUSE;
        if self.health.turned_good() {
            tracing::info!(transmitter = %self.name, "the box is followed again");
        }
    }
}

impl Mirrors {
    pub fn new(mut boxes: Vec<MirroredBox>, jobs: SyncSender<Job>, metrics: Arc<Metrics>) -> Self {
        // After a start of the relay, all at once would be a storm.
        let is_few = boxes.len() <= FEW_BOXES;
        for held in boxes.iter_mut().filter(|_| !is_few) {
            held.due = SPREAD.mul_f64(rand::rng().random::<f64>());
        }
        Self {
            boxes,
            errands: HashMap::new(),
            jobs,
            metrics,
            next_tag: 0,
            reports: VecDeque::new(),
        }
    }

    fn tick(&mut self, endpoint: &mut Endpoint, now: Time) {
        for place in 0..self.boxes.len() {
            let held = &mut self.boxes[place];
            if held.store_at <= now {
                held.store(&self.jobs);
            }
            if let Some(call) = held.observation.filter(|_| held.heard + SILENCE <= now) {
                self.errands.remove(&call);
                endpoint.cancel(now, call);
                let held = &mut self.boxes[place];
                // One that has been restarted knows nothing of our session.
                endpoint.disconnect(held.address);
                held.observation = None;
                held.put_off(now, "nothing was heard of it for 70 s".to_owned());
            } else if held.observation.is_none() && held.due <= now {
                self.register(endpoint, now, place);
            } else if held.must_read && held.reading.is_none() && held.due <= now {
                self.read(endpoint, now, place, 0);
            }
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
        let heard = held
            .mirror
            .notification(&response.payload, OffsetDateTime::now_utc());
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
    fn order(&mut self, endpoint: &mut Endpoint, now: Time, command: &Ordered) {
        let Some(held) = self.boxes.iter().find(|held| held.name == command.service) else {
            return;
        };
        let is_there = orders::meant(&command.order).is_none_or(|(uuid, number)| {
            held.mirror
                .guests()
                .any(|guest| guest.is_active() && guest.uuid == uuid && guest.number == number)
        });
        if !is_there {
            let text = "the session is over: its pager has another one, or none";
            return self.report(orders::not_done(command, CommandStatus::Refused, text));
        }
        if held.observation.is_none() || held.must_read {
            let text = "the box is away, or was not read yet";
            return self.report(orders::not_done(command, CommandStatus::Refused, text));
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
        let left = (command.expires - OffsetDateTime::now_utc()).unsigned_abs();
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
        match held
            .mirror
            .read(&active, &body, OffsetDateTime::now_utc(), insist)
        {
            Ok(heard) => {
                held.must_read = heard.must_read;
                held.all_is_well();
                held.heard = now;
                let receipts = std::mem::take(&mut held.held);
                self.learn(now, place, heard.learned, receipts, None);
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
}

impl App for Mirrors {
    type Command = Command;

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
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

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: Command) {
        match command {
            Command::Tick => {
                self.expire(endpoint, now);
                self.pass_on_reports();
                self.tick(endpoint, now);
            }
            Command::Stored { place, tag } => self.stored(endpoint, place, tag),
            Command::NotStored { place, learnt } => {
                let held = &mut self.boxes[place];
                held.is_storing = false;
                held.waiting.push_front(learnt);
                held.store_at = now + STORE_AGAIN;
            }
            Command::Order(command) => self.order(endpoint, now, &command),
            Command::Pass {
                place,
                request,
                answer,
            } => self.pass(endpoint, now, place, request, answer),
        }
    }
}
