//! The box: a transmitter behind an endpoint, which keeps its sessions over a reboot and forgets who observes; and everything that
//! ever happened on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use rollcall_coap::{Code, Endpoint, Event, JSON, Request, RequestId, Response, Urgency};
use rollcall_pager::{
    Config, DeviceTime, Effects, Method, Now, Session, Snapshot, Transmitter, What,
};
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

pub const ADDRESS: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)),
    5683,
);
const START: OffsetDateTime = datetime!(2026-11-21 09:00 UTC);
/// How often observers are sent a ping (pager contract, L9).
const PING_EVERY: Duration = Duration::from_secs(30);
/// Pagers at the host stand: few, so that they come round.
const PAGERS: u16 = 9;

/// Both clocks at a moment of the simulation.
pub fn at(now: Duration) -> Now {
    Now {
        utc: START + now,
        monotonic: now,
    }
}

/// One step of the box's sequence.
pub struct Step {
    pub sequence: u16,
    pub uuid: Uuid,
    /// Whether it paged the guest, changed what no state tells, or both.
    pub pages: bool,
    pub updates: bool,
}

/// All that happened.
#[derive(Default)]
pub struct Truth {
    pub steps: Vec<Step>,
    /// Each session as it was last.
    pub sessions: BTreeMap<Uuid, Session>,
    /// Each session's states, by the count of steps after which it had them.
    pub states: BTreeMap<Uuid, Vec<(usize, Session)>>,
    /// The box was replaced by one that knows nothing.
    pub is_replaced: bool,
}

pub struct Device {
    config: Config,
    saved: Snapshot,
    /// While it is switched on.
    life: Option<Life>,
    pub truth: Truth,
    rng: StdRng,
    seed: u64,
}

struct Life {
    pager: Transmitter,
    endpoint: Endpoint,
}

impl Device {
    /// A box whose sequence is so far.
    pub fn new(seed: u64, mut rng: StdRng, config: Config, sequence: u16) -> Self {
        let now = at(Duration::ZERO);
        let mut saved = Transmitter::new(config.clone(), now).snapshot();
        saved.meta.sequence = sequence;
        saved.meta.settings.statistics_clear_mark = rng.random_range(0..=24);
        let mut device = Self {
            config,
            saved,
            life: None,
            truth: Truth::default(),
            rng,
            seed,
        };
        device.switch_on(Duration::ZERO);
        device
    }

    pub fn is_on(&self) -> bool {
        self.life.is_some()
    }

    pub fn switch_off(&mut self) {
        self.life = None;
    }

    pub fn switch_on(&mut self, now: Duration) {
        if self.is_on() {
            return;
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let with = rollcall_coap::Config {
            heartbeat: Some(PING_EVERY),
            ..rollcall_coap::Config::default()
        };
        let epoch_ms = at(now).utc.unix_timestamp_nanos() / 1_000_000;
        let epoch_ms = u64::try_from(epoch_ms).expect("after 1970");
        self.life = Some(Life {
            pager: Transmitter::restore(self.saved.clone(), self.config.clone(), at(now))
                .expect("as it was stored"),
            endpoint: Endpoint::new(with, seed, epoch_ms),
        });
    }

    /// Another box takes its place, which knows nothing.
    pub fn replace(&mut self, now: Duration) {
        self.life = None;
        self.saved = Transmitter::new(self.config.clone(), at(now)).snapshot();
        self.truth.is_replaced = true;
        self.switch_on(now);
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.saved
    }

    /// When something is due by itself.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let life = self.life.as_ref()?;
        let tick = life.pager.next_tick(at(now)).map(|sleep| now + sleep);
        life.endpoint.poll_timeout().into_iter().chain(tick).min()
    }

    pub fn receive(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        if let Some(life) = &mut self.life {
            life.endpoint.receive(now, from, bytes);
        }
    }

    /// Does what is due, and answers; gives what it sends.
    pub fn pump(&mut self, now: Duration) -> Vec<(SocketAddr, Vec<u8>)> {
        let Some(life) = &mut self.life else {
            return Vec::new();
        };
        life.endpoint.handle_timeout(now);
        let is_due = |sleep: Duration| sleep.is_zero();
        if life.pager.next_tick(at(now)).is_some_and(is_due) {
            let effects = life.pager.tick(at(now));
            self.happened(now, &effects);
        }
        while let Some(event) = self
            .life
            .as_mut()
            .and_then(|life| life.endpoint.poll_event())
        {
            self.event(now, event);
        }
        let mut sent = Vec::new();
        while let Some((to, bytes)) = self
            .life
            .as_mut()
            .and_then(|life| life.endpoint.poll_transmit())
        {
            sent.push((to, bytes.to_vec()));
        }
        sent
    }

    fn event(&mut self, now: Duration, event: Event) {
        let Some(life) = &mut self.life else {
            return;
        };
        match event {
            Event::Request(id, request) => self.request(now, id, &request),
            Event::Heartbeat(observer) => {
                let ping = Response::content(JSON, life.pager.ping(at(now)));
                life.endpoint.notify(now, observer, ping, Urgency::Latest);
            }
            Event::ObserverGone(_) | Event::Ended(..) | Event::Notified(..) => {}
        }
    }

    fn request(&mut self, now: Duration, id: RequestId, request: &Request) {
        assert_eq!(
            request.method,
            Code::GET,
            "a mirror changes nothing by itself"
        );
        let etags: Vec<Vec<u8>> = request.etags.iter().map(|etag| etag.to_vec()).collect();
        let asked = rollcall_pager::Request {
            method: Method::Get,
            path: &request.path,
            query: &request.query,
            content_format: request.content_format,
            etags: &etags,
            payload: &request.payload,
        };
        let Some(life) = &mut self.life else {
            return;
        };
        let reply = life.pager.read(asked, at(now)).expect("it is a GET");
        let response = Response {
            etag: reply.etag.map(|etag| bytes::Bytes::copy_from_slice(&etag)),
            ..Response::content(JSON, reply.body.unwrap_or_default())
        };
        let response = Response {
            code: Code::new(reply.code.class, reply.code.detail),
            ..response
        };
        let is_observable = request.path == ["v1", "notify"];
        life.endpoint.respond(now, id, response, is_observable);
    }

    /// Somebody at the host stand does something.
    pub fn host_stand(&mut self, now: Duration) {
        let rng = &mut self.rng;
        let number = rng.random_range(1..=PAGERS);
        let one = format!("/v1/sessions?number={number}");
        let size = rng.random_range(1..9_u32);
        let action = ["page", "clear", "remove"][rng.random_range(0..3)];
        let (method, address, body) = match rng.random_range(0..100) {
            0..25 => (
                Method::Post,
                "/v1/sessions",
                format!(
                    r#"{{"number":{number},"partySize":{size},"goal":{}}}"#,
                    size * 60
                ),
            ),
            25..33 => (
                Method::Post,
                "/v1/sessions",
                format!(r#"{{"number":{number},"label":"party of {size}","action":"page"}}"#),
            ),
            33..48 => (Method::Put, &*one, format!(r#"{{"partySize":{size}}}"#)),
            48..54 => (
                Method::Put,
                &*one,
                format!(r#"{{"partySize":{size},"action":"{action}"}}"#),
            ),
            54..90 => (Method::Put, &*one, format!(r#"{{"action":"{action}"}}"#)),
            90..92 => (Method::Delete, "/v1/sessions", String::new()),
            92..94 => (Method::Delete, "/v1/sessions/history", String::new()),
            94..97 => (Method::Delete, "/v1/sessions/statistics", String::new()),
            _ => (Method::Delete, &*one, String::new()),
        };
        self.ask(now, method, address, &body);
    }

    /// The box's clock jumps.
    pub fn set_clock(&mut self, now: Duration) {
        let span = [5, 3_600, 400 * 86_400][self.rng.random_range(0..3)];
        let moved = time::Duration::seconds(self.rng.random_range(-span..=span));
        let text = (at(now).utc + moved).to_utc();
        let (date, clock) = (text.date(), text.time());
        let text = format!(
            "{date}T{:02}:{:02}:{:02}",
            clock.hour(),
            clock.minute(),
            clock.second()
        );
        assert!(DeviceTime::parse(&text).is_some(), "{text}");
        self.ask(
            now,
            Method::Post,
            "/v1/settings",
            &format!(r#"{{"datetime":"{text}"}}"#),
        );
    }

    fn ask(&mut self, now: Duration, method: Method, address: &str, body: &str) {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let path: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
        let query: Vec<String> = query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        let asked = rollcall_pager::Request {
            method,
            path: &path,
            query: &query,
            content_format: None,
            etags: &[],
            payload: body.as_bytes(),
        };
        let Some(life) = &mut self.life else {
            return;
        };
        let new = self.truth.sessions.len() as u128 + 1;
        let uuid = Uuid::from_u128(u128::from(self.seed) << 64 | new);
        let reply = life.pager.handle(asked, at(now), || uuid);
        self.happened(now, &reply.effects);
    }

    /// Keeps what happened, and tells the observers.
    fn happened(&mut self, now: Duration, effects: &Effects) {
        let Some(life) = &mut self.life else {
            return;
        };
        if *effects == Effects::default() {
            return;
        }
        self.saved = life.pager.snapshot();
        let mut bodies = Vec::new();
        for change in &effects.changes {
            bodies.push(life.pager.notification(change, at(now)));
            self.truth
                .record(&change.session, change.what, change.sequence);
        }
        if effects.is_settings_changed {
            bodies.push(life.pager.settings_notification(at(now)));
        }
        let observers: Vec<_> = life.endpoint.observers().map(|(id, ..)| id).collect();
        for body in bodies {
            for observer in &observers {
                let news = Response::content(JSON, body.clone());
                life.endpoint.notify(now, *observer, news, Urgency::Each);
            }
        }
    }
}

impl Truth {
    fn record(&mut self, session: &Session, what: What, sequence: u16) {
        let before = self.sessions.insert(session.uuid, session.clone());
        let told = |s: &Session| (s.party_size, s.goal_seconds, s.label.clone());
        self.steps.push(Step {
            sequence,
            uuid: session.uuid,
            pages: what == What::Paged || before.is_none() && session.notified.is_some(),
            updates: before.is_some_and(|before| told(&before) != told(session)),
        });
        let after = self.steps.len();
        let states = self.states.entry(session.uuid).or_default();
        states.push((after, session.clone()));
    }
}
