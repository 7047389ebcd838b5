//! A hosted transmitter on its CoAP endpoint: reads are answered from what is committed, changes go to the spool's writer
//! and are answered once they are on the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::mpsc::SyncSender;

use bytes::Bytes;
use rollcall_coap::driver::App;
use rollcall_coap::link::{Link, well_known_core};
use rollcall_coap::{
    Code, Endpoint, Event, JSON, ObserverId, Request, RequestId, Response, Time, Urgency,
};
use rollcall_pager::{Method, Reply, Transmitter};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::spool::{Job, read_published};

/// Seconds after which a client may try again.
const RETRY_SECONDS: u32 = 5;

/// A request as a transmitter takes it, to carry to another thread.
pub struct Owned {
    pub method: Method,
    /// The method as CoAP has it.
    pub code: Code,
    pub path: Vec<String>,
    pub query: Vec<String>,
    pub content_format: Option<u16>,
    pub payload: Bytes,
}

impl Owned {
    pub fn of(request: Request) -> Self {
        Self {
            method: method(request.method),
            code: request.method,
            path: request.path,
            query: request.query,
            content_format: request.content_format,
            payload: request.payload,
        }
    }

    pub fn borrow(&self) -> rollcall_pager::Request<'_> {
        rollcall_pager::Request {
            method: self.method,
            path: &self.path,
            query: &self.query,
            content_format: self.content_format,
            etags: &[],
            payload: &self.payload,
        }
    }
}

/// What the writer says.
pub enum Command {
    /// The change is on the disk; this is its answer.
    Answer(RequestId, Box<Reply>),
    /// The change could not be written.
    Failed(RequestId),
    /// What observers are told.
    Notify(Arc<[News]>),
}

/// A body for observers.
pub struct News {
    /// The step that it tells of, where a session changed.
    pub sequence: Option<u16>,
    pub body: Bytes,
}

/// One socket's part of a hosted transmitter.
pub struct Hosted {
    /// Its places among the relay's hosts, and among the host's sockets.
    pub host: usize,
    pub worker: usize,
    pub published: Arc<RwLock<Arc<Transmitter>>>,
    pub jobs: SyncSender<Job>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// The steps at which new observers began, until they are told of one after it.
    pub begun: HashMap<ObserverId, u16>,
}

impl App for Hosted {
    type Command = Command;

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
        match event {
            Event::Request(id, request) => self.request(endpoint, now, id, request),
            Event::Heartbeat(observer) => {
                let body = read_published(&self.published).ping(self.clock.now());
                endpoint.notify(
                    now,
                    observer,
                    Response::content(JSON, body),
                    Urgency::Latest,
                );
            }
            Event::ObserverGone(observer) => {
                self.begun.remove(&observer);
                self.metrics.observers.dec();
            }
            // This endpoint asks nobody.
            Event::Ended(..) | Event::Notified(..) => {}
        }
    }

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: Command) {
        match command {
            Command::Answer(id, reply) => {
                endpoint.respond(now, id, response(*reply), false);
            }
            Command::Failed(id) => {
                let text = "the relay could not write this to its disk, so it did nothing; try again later";
                endpoint.respond(now, id, unavailable(text), false);
            }
            Command::Notify(all) => {
                let observers: Vec<_> = endpoint.observers().map(|(id, ..)| id).collect();
                for news in all.iter() {
                    for observer in &observers {
                        if self.is_new_to(*observer, news.sequence) {
                            let response = Response::content(JSON, news.body.clone());
                            endpoint.notify(now, *observer, response, Urgency::Each);
                        }
                    }
                }
            }
        }
    }
}

impl Hosted {
    /// Whether the observer's first answer did not tell of the step: what is committed may be read before its news are here.
    fn is_new_to(&mut self, observer: ObserverId, sequence: Option<u16>) -> bool {
        let Some(sequence) = sequence else {
            return true;
        };
        let is_new = self
            .begun
            .get(&observer)
            .is_none_or(|begun| is_after(sequence, *begun));
        if is_new {
            self.begun.remove(&observer);
        }
        is_new
    }

    fn request(&mut self, endpoint: &mut Endpoint, now: Time, id: RequestId, request: Request) {
        self.metrics.coap_requests_total.inc();
        if let Some(answer) = answer_at_once(&request) {
            endpoint.respond(now, id, answer, false);
            return;
        }
        let is_get = request.method == Code::GET;
        let etags: Vec<Vec<u8>> = request.etags.iter().map(|etag| etag.to_vec()).collect();
        let of_transmitter = rollcall_pager::Request {
            method: Method::Get,
            path: &request.path,
            query: &request.query,
            content_format: request.content_format,
            etags: &etags,
            payload: &[],
        };
        if is_get {
            let published = read_published(&self.published);
            if let Some(reply) = published.read(of_transmitter, self.clock.now()) {
                let is_observable = request.path == ["v1", "notify"];
                let before = endpoint.observers().len();
                let observer = endpoint.respond(now, id, response(reply), is_observable);
                if let Some(observer) = observer.filter(|_| endpoint.observers().len() > before) {
                    self.begun.insert(observer, published.meta().sequence);
                    self.metrics.observers.inc();
                }
                return;
            }
        }
        let job = Job::Request {
            host: self.host,
            worker: self.worker,
            id,
            request: Owned::of(request),
        };
        if self.jobs.try_send(job).is_err() {
            let text = "too much waits for the relay's disk; try again later";
            endpoint.respond(now, id, unavailable(text), false);
        }
    }
}

/// Whether a step is later than another; steps come round again (pager contract, L5).
fn is_after(sequence: u16, other: u16) -> bool {
    let around = i32::from(rollcall_pager::UNKNOWN_SEQUENCE);
    let ahead = (i32::from(sequence) - i32::from(other)).rem_euclid(around);
    0 < ahead && ahead <= around / 2
}

/// The answer to a request that no state is needed for: the list of resources, and conditions that no resource here can meet.
pub fn answer_at_once(request: &Request) -> Option<Response> {
    if request.method == Code::GET && request.path == [".well-known", "core"] {
        return Some(well_known_core(&links(), &request.query));
    }
    if request.accept.is_some_and(|accept| accept != JSON) {
        return Some(Response::error(
            Code::NOT_ACCEPTABLE,
            "answers are JSON: leave Accept out, or ask for 50",
        ));
    }
    let is_conditional = !request.if_match.is_empty() || request.if_none_match;
    if is_conditional && request.method != Code::GET {
        let text = "changes take no conditions here: leave If-Match and If-None-Match out";
        return Some(Response::error(Code::PRECONDITION_FAILED, text));
    }
    None
}

pub fn method(code: Code) -> Method {
    match code {
        Code::GET => Method::Get,
        Code::POST => Method::Post,
        Code::PUT => Method::Put,
        Code::DELETE => Method::Delete,
        _ => Method::Other,
    }
}

pub fn response(reply: Reply) -> Response {
    let body = reply.body.map(Bytes::from);
    Response {
        content_format: body.as_ref().map(|_| JSON),
        etag: reply.etag.map(|etag| Bytes::copy_from_slice(&etag)),
        payload: body.unwrap_or_default(),
        max_age: (reply.code == rollcall_pager::Code::SERVICE_UNAVAILABLE).then_some(RETRY_SECONDS),
        ..Response::new(Code::new(reply.code.class, reply.code.detail))
    }
}

pub fn unavailable(text: &str) -> Response {
    Response {
        content_format: Some(JSON),
        payload: Bytes::from(serde_json::json!({ "error": text }).to_string()),
        max_age: Some(RETRY_SECONDS),
        ..Response::new(Code::UNAVAILABLE)
    }
}

/// The transmitter's resources (pager contract, 1.5).
fn links() -> [Link; 6] {
    let link = |href, rt| Link {
        href,
        attributes: vec![("rt", rt), ("ct", "50")],
    };
    [
        link("/v1/sessions", "pager.sessions"),
        link("/v1/sessions/history", "pager.history"),
        link("/v1/sessions/statistics", "pager.statistics"),
        link("/v1/settings", "pager.settings"),
        link("/v1/page", "pager.page"),
        Link {
            href: "/v1/notify",
            attributes: vec![("rt", "pager.notify"), ("ct", "50"), ("obs", "")],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::is_after;

    #[test]
    fn steps_follow_each_other_around_the_end() {
        for (sequence, other, is) in [
            (1, 0, true),
            (0, 0, false),
            (0, 1, false),
            (0, 65_534, true),
            (65_534, 0, false),
            (300, 65_500, true),
            (32_767, 0, true),
            (32_768, 0, false),
        ] {
            assert_eq!(is_after(sequence, other), is, "{sequence} after {other}");
        }
        let mut sequence = 0;
        for _ in 0..70_000 {
            let next = rollcall_pager::next_sequence(sequence);
            assert!(is_after(next, sequence) && !is_after(sequence, next));
            sequence = next;
        }
    }
}
