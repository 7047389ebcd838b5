//! The resources and what they do.
//!
//! PUT, POST and DELETE change what later requests see. DELETE of a resource that was there at first brings it back as it
//! was: the tests that come after it find it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rollcall_coap::driver::App;
use rollcall_coap::link::{Link, well_known_core};
use rollcall_coap::{
    Code, Endpoint, Event, ObserverId, Request, RequestId, Response, TEXT, Time, Urgency,
};
use tokio::sync::mpsc;

use crate::links;

/// The content format application/xml.
const XML: u16 = 41;
/// More than a message can hold without blocks.
const LARGE: usize = 2_048;
/// Resources that clients may create; beyond it, the answer is 5.03.
const MAX_HELD: usize = 256;
/// Where POSTs to /test and /create2 create (TD_COAP_CORE_18).
const LOCATION: &str = "/location1/location2/location3";

/// What reaches the site from the program.
pub enum Command {
    /// Observable resources change now.
    Tick,
    /// A request to /separate has waited long enough.
    Answer(RequestId),
}

/// What a resource is now.
#[derive(Clone)]
struct Held {
    format: u16,
    body: Bytes,
    /// Which state it is in, counted over the whole site.
    version: u64,
}

/// All resources.
pub struct Site {
    held: BTreeMap<String, Held>,
    versions: u64,
    ticks: u64,
    created: u64,
    delay: Duration,
    links: Vec<Link>,
    commands: mpsc::Sender<Command>,
}

impl Site {
    /// `delay` is what /separate takes; its answers go through `commands`.
    pub fn new(delay: Duration, commands: mpsc::Sender<Command>) -> Self {
        let mut site = Self {
            held: BTreeMap::new(),
            versions: 0,
            ticks: 0,
            created: 0,
            delay,
            links: links::all(),
            commands,
        };
        for path in ["/test", "/validate", "/large-update"] {
            site.reset(path);
        }
        for (path, _) in OBSERVABLE {
            site.reset(path);
        }
        site
    }

    fn answer(&mut self, path: &str, request: &Request) -> Response {
        let response = match (path, request.method) {
            ("/test" | "/create2", Code::POST) => self.create(LOCATION, request),
            ("/large-create", Code::POST) => {
                self.created += 1;
                self.create(&format!("/large-create/{}", self.created), request)
            }
            ("/large-post", Code::POST) => large_post(request),
            ("/location-query", Code::POST) => Response {
                location_path: vec!["location-query".to_owned()],
                location_query: vec!["first=1".to_owned(), "second=2".to_owned()],
                ..Response::new(Code::CREATED)
            },
            ("/obs-reset", Code::POST) => self.put(path, request),
            (_, Code::GET) => self.get(path, request),
            (_, Code::PUT) if self.is_writable(path) => self.put(path, request),
            (_, Code::DELETE) if self.is_writable(path) => self.delete(path, request),
            _ if self.exists(path) => not_allowed(),
            _ => not_found(),
        };
        // Of a client that accepts one format alone, another one is of no use (RFC 7252, section 5.10.4).
        let fits = request.accept.is_none() || request.accept == response.content_format;
        if response.code == Code::CONTENT && !fits {
            return Response::error(Code::NOT_ACCEPTABLE, "this is not to be had in that format");
        }
        response
    }

    fn get(&self, path: &str, request: &Request) -> Response {
        match path {
            // TD_COAP_CORE_13 and 14.
            "/seg1/seg2/seg3" => Response::content(TEXT, "three segments"),
            "/query" => Response::content(TEXT, format!("query: {}", request.query.join("&"))),
            // TD_COAP_CORE_20.
            "/multi-format" => match request.accept {
                Some(XML) => Response::content(XML, "<text>in XML</text>"),
                _ => Response::content(TEXT, "in plain text"),
            },
            // TD_COAP_BLOCK_01, 02 and 06.
            "/large" => Response::content(TEXT, lines(0, LARGE)),
            "/link1" | "/link2" | "/link3" => Response::content(TEXT, path.to_owned()),
            // TD_COAP_LINK_09.
            "/path" => well_known_core(&links::of_path(), &request.query),
            "/path/sub1" | "/path/sub2" | "/path/sub3" => Response::content(TEXT, path.to_owned()),
            "/.well-known/core" => well_known_core(&self.links, &request.query),
            _ => match self.held.get(path) {
                Some(held) => held.response(),
                None if matches!(path, "/create1" | "/create3") => not_found(),
                None if self.exists(path) => not_allowed(),
                None => not_found(),
            },
        }
    }

    /// TD_COAP_CORE_22 and 23.
    fn put(&mut self, path: &str, request: &Request) -> Response {
        let held = self.held.get(path);
        if let Some(response) = precondition(held, request) {
            return response;
        }
        let code = match held {
            Some(_) => Code::CHANGED,
            None => Code::CREATED,
        };
        let format = request.content_format.unwrap_or(TEXT);
        self.set(path, format, request.payload.clone());
        Response::new(code)
    }

    fn delete(&mut self, path: &str, request: &Request) -> Response {
        if let Some(response) = precondition(self.held.get(path), request) {
            return response;
        }
        self.held.remove(path);
        self.reset(path);
        Response::new(Code::DELETED)
    }

    fn create(&mut self, path: &str, request: &Request) -> Response {
        if self.held.len() >= MAX_HELD {
            return Response::error(Code::UNAVAILABLE, "too much was created already");
        }
        let format = request.content_format.unwrap_or(TEXT);
        self.set(path, format, request.payload.clone());
        let segments = path.split('/').skip(1);
        Response {
            location_path: segments.map(str::to_owned).collect(),
            ..Response::new(Code::CREATED)
        }
    }

    fn set(&mut self, path: &str, format: u16, body: Bytes) {
        self.versions += 1;
        let held = Held {
            format,
            body,
            version: self.versions,
        };
        self.held.insert(path.to_owned(), held);
    }

    /// Makes a resource what it is at first.
    fn reset(&mut self, path: &str) {
        let body = match path {
            "/test" => "the resource /test".to_owned(),
            "/validate" => "the resource /validate".to_owned(),
            "/large-update" => lines(0, LARGE),
            _ if urgency(path).is_some() => ticked(path, self.ticks),
            _ => return,
        };
        self.set(path, TEXT, Bytes::from(body));
    }

    fn is_writable(&self, path: &str) -> bool {
        matches!(path, "/create1" | "/create3") || self.held.contains_key(path)
    }

    fn exists(&self, path: &str) -> bool {
        let is = |link: &Link| link.href == path;
        self.held.contains_key(path)
            || path == "/.well-known/core"
            || self.links.iter().any(is)
            || links::of_path().iter().any(is)
    }

    /// Tells those who observe a resource what it is.
    fn publish(&self, endpoint: &mut Endpoint, now: Time, path: &str, urgency: Urgency) {
        let of_path = endpoint
            .observers()
            .filter(|(_, held, _)| path_of(held) == path);
        let observers: Vec<ObserverId> = of_path.map(|(id, ..)| id).collect();
        for id in observers {
            let held = self.held.get(path);
            let response = held.map_or_else(not_found, Held::response);
            endpoint.notify(now, id, response, urgency);
        }
    }
}

impl App for Site {
    type Command = Command;

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
        let Event::Request(id, request) = event else {
            return;
        };
        let path = path_of(&request.path);
        // TD_COAP_CORE_09, 11, 16 and 17.
        if path == "/separate" && request.method == Code::GET {
            let (delay, commands) = (self.delay, self.commands.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = commands.send(Command::Answer(id)).await;
            });
            return;
        }
        let response = self.answer(&path, &request);
        let code = response.code;
        let urgency = urgency(&path);
        endpoint.respond(now, id, response, urgency.is_some());
        let Some(urgency) = urgency else {
            return;
        };
        match code {
            // TD_COAP_OBS_07.
            Code::DELETED => endpoint.end_observations(now, &request.path, &not_found()),
            // TD_COAP_OBS_08 and 09; a client that has forgotten the observation refuses this one (06).
            Code::CHANGED => self.publish(endpoint, now, &path, urgency),
            _ => {}
        }
    }

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: Command) {
        match command {
            Command::Answer(id) => {
                let response = Response::content(TEXT, "a separate answer");
                endpoint.respond(now, id, response, false);
            }
            Command::Tick => {
                self.ticks += 1;
                for (path, urgency) in OBSERVABLE {
                    // What has another format by now (TD_COAP_OBS_08) keeps it.
                    let format = self.held.get(path).map_or(TEXT, |held| held.format);
                    self.set(path, format, Bytes::from(ticked(path, self.ticks)));
                    self.publish(endpoint, now, path, urgency);
                }
            }
        }
    }
}

impl Held {
    fn etag(&self) -> Bytes {
        Bytes::copy_from_slice(&self.version.to_be_bytes())
    }

    fn response(&self) -> Response {
        Response {
            etag: Some(self.etag()),
            ..Response::content(self.format, self.body.clone())
        }
    }
}

/// What changes with time, and how its observers are told of it.
const OBSERVABLE: [(&str, Urgency); 6] = [
    ("/obs", Urgency::Latest),
    ("/obs-non", Urgency::Casual),
    ("/obs-large", Urgency::Latest),
    ("/obs-pumping", Urgency::Latest),
    ("/obs-pumping-non", Urgency::Casual),
    ("/obs-reset", Urgency::Latest),
];

fn urgency(path: &str) -> Option<Urgency> {
    let found = OBSERVABLE.iter().find(|(held, _)| *held == path);
    found.map(|(_, urgency)| *urgency)
}

/// The body of an observable resource after so many ticks.
fn ticked(path: &str, ticks: u64) -> String {
    match path {
        // TD_COAP_OBS_13.
        "/obs-large" => lines(ticks, LARGE),
        // Within one block, in a few, in many: TD_COAP_OBS_14.
        "/obs-pumping" | "/obs-pumping-non" => {
            lines(ticks, [32, LARGE, 4 * LARGE][ticks as usize % 3])
        }
        _ => ticks.to_string(),
    }
}

/// Text of so many bytes, no two lines of it alike: a block that is lost or stands twice shows.
fn lines(first: u64, length: usize) -> String {
    let numbers = first..;
    let lines = numbers.map(|number| format!("line {number:010}\n"));
    lines.take(length.div_ceil(16)).collect()
}

/// TD_COAP_BLOCK_05: the answer is large too.
fn large_post(request: &Request) -> Response {
    let is_large = request.payload.len() >= LARGE;
    let payload = if is_large {
        request.payload.clone()
    } else {
        Bytes::from(lines(0, LARGE))
    };
    Response {
        code: Code::CHANGED,
        ..Response::content(request.content_format.unwrap_or(TEXT), payload)
    }
}

/// The refusal, where If-Match or If-None-Match asks for it (RFC 7252, section 5.10.8).
fn precondition(held: Option<&Held>, request: &Request) -> Option<Response> {
    let refuse = |text| Some(Response::error(Code::PRECONDITION_FAILED, text));
    if request.if_none_match && held.is_some() {
        return refuse("it is there already");
    }
    let matches =
        |wanted: &Bytes| held.is_some_and(|held| wanted.is_empty() || *wanted == held.etag());
    if !request.if_match.is_empty() && !request.if_match.iter().any(matches) {
        return refuse("it has changed since");
    }
    None
}

/// The path as one string; nothing here has a segment with a slash in it.
fn path_of(segments: &[String]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(&segment.replace('/', "%2F"));
    }
    path
}

fn not_found() -> Response {
    Response::error(Code::NOT_FOUND, "there is no such resource")
}

fn not_allowed() -> Response {
    Response::error(Code::METHOD_NOT_ALLOWED, "this resource has no such method")
}
