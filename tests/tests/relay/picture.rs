//! A simulated broker, the relay's differences, its spool, and the real cloud: the history in the store is what happened, as far as
//! pictures show it, whatever is cut, killed or lost between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use rollcall_model::ServiceKind;
use rollcall_model::ingest::{ConnectionFacts, ConnectionKind, ConnectionSession, Presence};
use rollcall_relay::clock::Clock;
use rollcall_relay::forward::{Answer, Course, Forwarder};
use rollcall_relay::sources::SeenService;
use rollcall_relay::sources::diff::{Memory, Moment};
use rollcall_relay::spool::{
    Delivery, Job, Lane, Queue, Reports, Spool, Telling, Watch, Watched, Writer, path_in,
};
use rollcall_tests::{TestApp, for_all};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sqlx::PgPool;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::sync::oneshot;

use crate::list;

const CASES: u32 = 60;
const CLIENTS: usize = 5;
const START: OffsetDateTime = datetime!(2026-11-20 09:00:00 UTC);

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Where it is connected already, it takes over from itself.
    Connect(usize),
    Leave(usize),
    /// The broker forgets the session that it kept.
    Expire(usize),
    /// A whole picture, told whole.
    Poll,
    /// A whole picture, of which so many sessions are told until the relay is killed.
    PollUntilKilled(usize),
    Restart,
    Forward(Loss),
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Nothing,
    Request,
    Answer,
    /// The relay is killed before the spool knows that the cloud has the events.
    Relay,
}

fn act() -> impl Strategy<Value = Act> {
    let who = 0..CLIENTS;
    let loss = prop_oneof![
        Just(Loss::Nothing),
        Just(Loss::Request),
        Just(Loss::Answer),
        Just(Loss::Relay)
    ];
    // A picture that is lost is one that is not taken.
    prop_oneof![
        8 => who.clone().prop_map(Act::Connect),
        5 => who.clone().prop_map(Act::Leave),
        2 => who.prop_map(Act::Expire),
        6 => Just(Act::Poll),
        1 => (0..CLIENTS).prop_map(Act::PollUntilKilled),
        1 => Just(Act::Restart),
        2 => loss.prop_map(Act::Forward),
    ]
}

/// How a client stands: whether it is there, and since when it last was.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stand {
    There(OffsetDateTime),
    Kept(OffsetDateTime),
}

type Step = (&'static str, OffsetDateTime);

/// What must have been seen of a client that stood so at one picture and so at the next.
fn between(before: Option<Stand>, now: Option<Stand>, is_first: bool) -> Vec<Step> {
    use Stand::{Kept, There};
    let (came, went, removed) = ("connected", "disconnected", "removed");
    match (before, now) {
        (before, now) if before == now => vec![],
        // Before the first picture nobody was seen to come.
        (None, Some(Kept(at))) if is_first => vec![(went, at)],
        (None | Some(Kept(_)), Some(There(at))) => vec![(came, at)],
        (Some(There(at)), None) => vec![(went, at)],
        (Some(There(old)), Some(Kept(at))) if old == at => vec![(went, at)],
        (Some(There(old)), Some(There(at))) => vec![(went, old), (came, at)],
        (Some(There(old)), Some(Kept(at))) => vec![(went, old), (came, at), (went, at)],
        (None | Some(Kept(_)), Some(Kept(at))) => vec![(came, at), (went, at)],
        (Some(Kept(at)), None) => vec![(removed, at)],
        (None, None) => vec![],
    }
}

/// The broker, and what its pictures showed.
#[derive(Default)]
struct Broker {
    clients: [Option<Stand>; CLIENTS],
    seen: [Option<Stand>; CLIENTS],
    history: BTreeMap<String, Vec<Step>>,
}

fn name(who: usize) -> String {
    format!("fleet/device {who}")
}

/// Every other client has its session kept.
fn is_kept(who: usize) -> bool {
    who % 2 == 1
}

impl Broker {
    fn connect(&mut self, who: usize, now: OffsetDateTime) {
        self.clients[who] = Some(Stand::There(now));
    }

    fn leave(&mut self, who: usize) {
        if let Some(Stand::There(at)) = self.clients[who] {
            self.clients[who] = is_kept(who).then_some(Stand::Kept(at));
        }
    }

    fn expire(&mut self, who: usize) {
        if matches!(self.clients[who], Some(Stand::Kept(_))) {
            self.clients[who] = None;
        }
    }

    fn picture(&self) -> Vec<ConnectionSession> {
        let clients = self.clients.iter().enumerate();
        let session = |(who, stand): (usize, &Option<Stand>)| {
            let (presence, at) = match (*stand)? {
                Stand::There(at) => (Presence::Connected, at),
                Stand::Kept(at) => (Presence::Disconnected, at),
            };
            Some(ConnectionSession {
                source_id: name(who),
                kind: ConnectionKind::Mqtt,
                label: None,
                user: None,
                remote: None,
                facts: ConnectionFacts {
                    presence,
                    connected_at: Some(at),
                    clean_start: Some(!is_kept(who)),
                    ..ConnectionFacts::default()
                },
            })
        };
        clients.filter_map(session).collect()
    }

    /// What a picture showed of a client was told.
    fn was_told(&mut self, id: &str, is_first: bool) {
        let who = (0..CLIENTS).find(|who| name(*who) == id);
        let who = who.expect("nobody else is told of");
        let steps = between(self.seen[who], self.clients[who], is_first);
        self.seen[who] = self.clients[who];
        let held = self.history.entry(id.to_owned()).or_default();
        held.extend(steps);
    }
}

/// The relay from one start to the next kill.
struct Relay {
    service: Arc<str>,
    writer: Writer,
    memory: Memory,
    previous: Option<OffsetDateTime>,
    forwarder: Forwarder,
    course: Course,
}

impl Relay {
    fn start(folder: &Path, service: &str, url: &str, key: &str) -> Self {
        let path = path_in(folder);
        let spool = Spool::open(&path, 64 << 20, 1).expect("the spool opens");
        // A kill loses nothing that was written; waiting for the disk would only take time.
        let fast = spool.connection.pragma_update(None, "synchronous", "off");
        fast.expect("it is let");
        let known = spool.watched().expect("services");
        let queue = Arc::new(Queue::open(&path).expect("the queue opens"));
        let (own, unused) = sync_channel(1);
        let forwarder = Forwarder {
            url: url.to_owned(),
            key: key.to_owned().into(),
            client: Forwarder::client().expect("a client"),
            queue: queue.clone(),
            jobs: own,
            news: Arc::default(),
            services: Vec::new(),
            contact: Arc::default(),
            metrics: Arc::default(),
            told: Mutex::default(),
            watching: Arc::default(),
            told_watched: Mutex::default(),
        };
        Self {
            service: service.into(),
            memory: spool.memory(service).expect("what was told"),
            previous: known.first().and_then(|held| held.seen),
            writer: Writer {
                spool,
                path,
                hosts: Vec::new(),
                boxes: Default::default(),
                reports: Reports::default(),
                queue,
                jobs: unused,
                clock: Clock::start(),
                max_bytes: 64 << 20,
                is_disk_low: false,
                min_free_bytes: 0,
                news: Arc::default(),
                metrics: Arc::default(),
            },
            forwarder,
            course: Course::new(Lane::Live, [0; 32]),
        }
    }

    fn write(&mut self, telling: Telling) -> Telling {
        let (done, mut is_done) = oneshot::channel();
        let watch = Box::new(Watch { telling, done });
        let now = self.writer.clock.now();
        self.writer.step(now, vec![Job::Watched(watch)]);
        is_done
            .try_recv()
            .expect("an answer")
            .expect("it is stored")
    }

    fn note(&mut self, seen: Option<OffsetDateTime>) {
        let service = Watched {
            name: self.service.clone(),
            source: self.service.to_string(),
            kind: ServiceKind::Broker,
            seen,
            is_gone: false,
        };
        let services = vec![service];
        self.write(Telling {
            services,
            ..Telling::default()
        });
    }

    /// Takes a picture, and tells what is new of so many sessions.
    fn poll(&mut self, broker: &mut Broker, now: OffsetDateTime, most: usize) {
        self.note(None);
        let moment = Moment {
            now,
            previous: self.previous,
            every: Duration::seconds(30),
            again: None,
            is_unsure: false,
        };
        let seen = SeenService {
            name: self.service.to_string(),
            kind: ServiceKind::Broker,
            state: None,
            broker: None,
            connections: broker.picture(),
        };
        let mut differences = self.memory.compare(Some(seen), &self.service, moment);
        for _ in 0..most {
            let Some(change) = differences.next(&self.memory) else {
                self.note(Some(now));
                self.previous = Some(now);
                return;
            };
            let telling = Telling {
                changes: vec![change],
                ..Telling::default()
            };
            for change in self.write(telling).changes {
                broker.was_told(&change.source_id, self.previous.is_none());
                self.memory.told(change);
            }
        }
    }

    /// Sends a batch. Says whether there was none.
    async fn forward(&mut self, loss: Loss) -> bool {
        let queue = self.forwarder.queue.clone();
        let batch = queue.take(Lane::Live, 7).expect("the queue is read");
        if batch.events.is_empty() {
            return true;
        }
        if !matches!(loss, Loss::Request) {
            let body = self.forwarder.body(&batch).expect("a batch");
            let key = self.forwarder.key.expose_secret();
            let (id, secret) = key.split_once(':').expect("a key");
            let request = self
                .forwarder
                .client
                .post(format!("{}/v1/ingest", self.forwarder.url))
                .basic_auth(id, Some(secret))
                .header("content-type", "application/json");
            let request = match body.is_packed {
                true => request.header("content-encoding", "zstd"),
                false => request,
            };
            let response = request.body(body.bytes).send().await.expect("an answer");
            let status = response.status();
            let answer = response.bytes().await.expect("a whole answer");
            assert!(status.is_success(), "{answer:?}");
            if matches!(loss, Loss::Nothing) {
                let answer = Answer::of(status, None, &answer);
                let (fates, _) = self.forwarder.judge(&mut self.course, &batch, answer);
                let (done, _) = oneshot::channel();
                let at = OffsetDateTime::now_utc();
                let delivery = Delivery { fates, at, done };
                let now = self.writer.clock.now();
                self.writer.step(now, vec![Job::Delivered(delivery)]);
            }
        }
        queue.release(&batch);
        false
    }
}

async fn live(app: &TestApp, key: &str, acts: Vec<Act>) {
    let service = format!("bus-{}", uuid::Uuid::new_v4());
    let folder = tempfile::tempdir().expect("a folder");
    let start = || Relay::start(folder.path(), &service, &app.url, key);
    let (mut broker, mut now) = (Broker::default(), START);
    let mut relay = start();
    for act in acts {
        now += Duration::seconds(3);
        match act {
            Act::Connect(who) => broker.connect(who, now),
            Act::Leave(who) => broker.leave(who),
            Act::Expire(who) => broker.expire(who),
            Act::Poll => relay.poll(&mut broker, now, usize::MAX),
            Act::PollUntilKilled(most) => relay.poll(&mut broker, now, most),
            Act::Restart => {}
            Act::Forward(loss) => drop(relay.forward(loss).await),
        }
        if matches!(
            act,
            Act::PollUntilKilled(_) | Act::Restart | Act::Forward(Loss::Relay)
        ) {
            drop(relay);
            relay = start();
        }
    }
    now += Duration::seconds(3);
    relay.poll(&mut broker, now, usize::MAX);
    while !relay.forward(Loss::Nothing).await {}
    assert_eq!(stored(app, &service).await, broker.history);
}

/// What the cloud has of each session: its events in their order, and the connection that each tells of.
async fn stored(app: &TestApp, service: &str) -> BTreeMap<String, Vec<Step>> {
    let path = format!("/v1/sessions?filter[service]={service}");
    let sessions = list(&app.reader, &path).await;
    let mut stored = BTreeMap::new();
    for session in sessions {
        let id = session["id"].as_str().expect("an id");
        let path = format!("/v1/sessions/{id}/events");
        let events = list(&app.reader, &path).await;
        let mut is_there = false;
        let steps = events.iter().map(|event| {
            let step = step(event);
            assert!(
                !(is_there && step.0 == "connected"),
                "there twice: {events:#?}"
            );
            is_there = step.0 == "connected" || is_there && step.0 == "updated";
            step
        });
        let steps: Vec<Step> = steps.collect();
        let id = session["attributes"]["source_id"].as_str().expect("an id");
        let other = stored.insert(id.to_owned(), steps);
        assert_eq!(other, None, "two sessions of one id");
    }
    stored
}

fn step(event: &Value) -> Step {
    let attributes = &event["attributes"];
    let words = ["connected", "disconnected", "updated", "removed"];
    let told = attributes["event_type"].as_str().expect("a type");
    let word = words.into_iter().find(|word| *word == told);
    let at = &attributes["session"]["attributes"]["connected_at"];
    let at = OffsetDateTime::parse(at.as_str().expect("a time"), &Rfc3339);
    (word.expect("an event of a broker"), at.expect("RFC 3339"))
}

#[sqlx::test(migrations = "../migrations")]
async fn the_history_of_every_client_is_what_the_pictures_showed(pool: PgPool) {
    let app = Arc::new(TestApp::start(pool).await);
    let made = rollcall_api::admin::create_relay(&app.db, app.org, app.project, "watcher").await;
    let (_, key) = made.expect("a relay");
    let key = format!("{}:{}", key.id, key.secret);
    let acts = prop::collection::vec(act(), 1..80);
    for_all(CASES, acts, async move |acts| live(&app, &key, acts).await).await;
}
