//! A CoAP endpoint among strangers: whatever datagrams come, from whom and when, and whatever is answered, told and asked
//! meanwhile, what it sends is well-formed, no call ends twice, it comes to rest, and every call ends.
#![no_main]

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rollcall_coap::message::{MAX_MESSAGE, Message, Token, decode};
use rollcall_coap::{
    Call, CallId, Code, Config, Endpoint, Event, Kind, ObserverId, RequestId, Response, TEXT, Urgency, option,
};

/// The input, taken apart from its front; zeros where it is at its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Any of these.
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// A length that a few bytes can make large: the limits of blocks and messages are near.
    fn length(&mut self) -> usize {
        let base = self.pick(&[0, 1, 13, 16, 64, 255, 269, 1_000, 1_024, 1_100, 1_152, 2_048, 5_000]);
        base + usize::from(self.byte() % 32)
    }
}

struct Lab {
    endpoint: Endpoint,
    now: Duration,
    waiting: VecDeque<(RequestId, SocketAddr)>,
    observers: BTreeSet<ObserverId>,
    calls: BTreeSet<CallId>,
    observing: BTreeSet<CallId>,
    /// What was sent last, to answer it.
    sent: VecDeque<(SocketAddr, Message)>,
    echo: Vec<u8>,
}

/// The last one is no address that can be answered, the one before has to show that it is its own.
const PEERS: [([u8; 4], u16); 5] =
    [([127, 0, 0, 1], 1_000), ([127, 0, 0, 1], 1_001), ([10, 0, 0, 1], 5_683), ([203, 0, 113, 9], 5_683), ([203, 0, 113, 9], 0)];
const CODES: [Code; 14] = [
    Code::GET, Code::POST, Code::PUT, Code::DELETE, Code::new(0, 5), Code::EMPTY, Code::CONTENT, Code::CHANGED, Code::CONTINUE,
    Code::VALID, Code::INCOMPLETE, Code::TOO_LARGE, Code::NOT_FOUND, Code::new(7, 0),
];
const KINDS: [Kind; 4] = [Kind::Confirmable, Kind::NonConfirmable, Kind::Acknowledgement, Kind::Reset];
const OPTIONS: [u16; 22] = [
    option::IF_MATCH, option::URI_HOST, option::ETAG, option::IF_NONE_MATCH, option::OBSERVE, option::URI_PORT,
    option::LOCATION_PATH, option::URI_PATH, option::CONTENT_FORMAT, option::MAX_AGE, option::URI_QUERY, option::ACCEPT,
    option::BLOCK2, option::BLOCK1, option::SIZE2, option::PROXY_URI, option::SIZE1, option::ECHO, option::NO_RESPONSE,
    option::REQUEST_TAG, 9, 65_001,
];

impl Lab {
    fn new() -> Self {
        let config = Config {
            max_body: 8_192,
            max_answer: 8_192,
            max_seen: 64,
            max_seen_safe: 16,
            max_seen_bytes: 16_384,
            max_pending: 8,
            max_uploads: 4,
            max_downloads: 4,
            max_download_bytes: 16_384,
            max_observers: 8,
            max_observers_per_peer: 3,
            max_peers: 4,
            max_queue: 4,
            heartbeat: Some(Duration::from_secs(30)),
            ..Config::default()
        };
        Self {
            endpoint: Endpoint::new(config, [7; 32], 1_700_000_000_000),
            now: Duration::from_secs(1),
            waiting: VecDeque::new(),
            observers: BTreeSet::new(),
            calls: BTreeSet::new(),
            observing: BTreeSet::new(),
            sent: VecDeque::new(),
            echo: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input) {
        match input.byte() % 12 {
            0 => {
                let (from, length) = (peer(input), usize::from(input.byte()) * 8);
                let datagram = input.bytes(length);
                self.endpoint.receive(self.now, from, datagram);
            }
            1 | 2 => {
                let from = peer(input);
                let message = self.message(input);
                self.endpoint.receive(self.now, from, &message.encode());
            }
            3 | 4 => self.reply(input),
            5 => {
                let ms = input.pick(&[0, 1, 100, 250, 2_000, 5_000, 31_000, 100_000, 300_000]);
                self.now += Duration::from_millis(ms) + Duration::from_millis(input.byte().into());
            }
            6 => self.answer(input),
            7 => {
                let urgency = input.pick(&[Urgency::Each, Urgency::Latest, Urgency::Casual]);
                let response = response(input);
                for observer in self.observers.clone() {
                    self.endpoint.notify(self.now, observer, response.clone(), urgency);
                }
            }
            8 => self.call(input),
            9 => self.endpoint.connect(peer(input), "device".into()),
            10 => {
                // A session is over.
                let from = peer(input);
                self.waiting.retain(|(_, of)| *of != from);
                self.endpoint.forget(from);
            }
            _ => {
                if let Some(id) = self.calls.pop_first() {
                    self.observing.remove(&id);
                    self.endpoint.cancel(self.now, id);
                }
            }
        }
        self.settle();
    }

    /// A message of valid form, with few ids, tokens and paths, so that they meet again.
    fn message(&mut self, input: &mut Input) -> Message {
        let token = [input.byte() % 3; 2];
        let mut message = Message {
            code: input.pick(&CODES),
            token: Token::new(&token).expect("two bytes"),
            ..Message::empty(input.pick(&KINDS), u16::from(input.byte() % 8))
        };
        for _ in 0..input.byte() % 8 {
            let number = input.pick(&OPTIONS);
            let value = match (number, input.byte() % 4) {
                (option::ECHO, 0..3) => self.echo.clone(),
                // What grows a message up to what fits into no datagram of ours.
                (option::URI_QUERY | option::URI_PATH, 3) => vec![b'q'; input.length().min(255)],
                (_, length) => input.bytes(length.into()).to_vec(),
            };
            message.options.push(number, value);
        }
        message.payload = vec![b'p'; input.length()].into();
        message
    }

    /// An answer to something that was sent: acknowledged, refused, or answered with what relates to it.
    fn reply(&mut self, input: &mut Input) {
        let at = usize::from(input.byte()) % self.sent.len().max(1);
        let Some((peer, sent)) = self.sent.get(at).cloned() else {
            return;
        };
        let message = match input.byte() % 4 {
            0 => Message::empty(Kind::Acknowledgement, sent.id),
            1 => Message::empty(Kind::Reset, sent.id),
            how => Message {
                id: if how == 2 { sent.id } else { input.byte().into() },
                token: sent.token,
                ..self.message(input)
            },
        };
        self.endpoint.receive(self.now, peer, &message.encode());
    }

    fn answer(&mut self, input: &mut Input) {
        let id = if input.byte() % 2 == 0 { self.waiting.pop_front() } else { self.waiting.pop_back() };
        if let Some((id, _)) = id {
            let is_observable = input.byte() % 2 == 0;
            let observer = self.endpoint.respond(self.now, id, response(input), is_observable);
            self.observers.extend(observer);
        }
    }

    fn call(&mut self, input: &mut Input) {
        if self.calls.len() >= 16 {
            return;
        }
        let method = input.pick(&[Code::GET, Code::POST, Code::PUT]);
        let flags = input.byte();
        let call = Call {
            payload: if method == Code::GET { Vec::new() } else { vec![b'c'; input.length()] }.into(),
            content_format: Some(TEXT),
            observe: method == Code::GET && flags & 1 == 0,
            confirmable: flags & 2 == 0,
            size_exponent: flags >> 4,
            ..Call::new(method, "/a/b")
        };
        let observes = call.observe;
        let to = SocketAddr::from(input.pick(&PEERS[..4]));
        let id = self.endpoint.call(self.now, to, call);
        self.calls.insert(id);
        if observes {
            self.observing.insert(id);
        }
    }

    /// Takes everything that the endpoint has to say and to send.
    fn settle(&mut self) {
        self.endpoint.handle_timeout(self.now);
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Request(id, request) => self.waiting.push_back((id, request.peer)),
                Event::Heartbeat(id) => {
                    let response = Response::content(TEXT, "ping");
                    self.endpoint.notify(self.now, id, response, Urgency::Latest);
                }
                Event::ObserverGone(id) => {
                    self.observers.remove(&id);
                }
                Event::Ended(id, _) => assert!(self.calls.remove(&id), "a call that is over ends"),
                Event::Notified(id, ..) => assert!(self.observing.contains(&id), "a call that does not observe is told"),
            }
        }
        while let Some((to, bytes)) = self.endpoint.poll_transmit() {
            assert_ne!(to.port(), 0, "there is nobody at port 0");
            let message = decode(&bytes).expect("what is sent is well-formed");
            // What we ask may be long by its path and query; what we answer has at most one block.
            assert!(bytes.len() <= MAX_MESSAGE || message.code.is_request(), "{} bytes", bytes.len());
            if let Some(echo) = message.options.first(option::ECHO) {
                self.echo = echo.to_vec();
            }
            if self.sent.len() == 8 {
                self.sent.pop_front();
            }
            self.sent.push_back((to, message));
        }
        assert!(self.waiting.len() <= 8, "more wait than may");
        assert!(self.observers.len() <= 8, "more observe than may");
    }

    /// Lets the time pass that it takes for everything to be over.
    fn rest(&mut self) {
        for id in std::mem::take(&mut self.observing) {
            self.calls.remove(&id);
            self.endpoint.cancel(self.now, id);
        }
        self.settle();
        for _ in 0..10_000 {
            let Some(due) = self.endpoint.poll_timeout() else {
                break;
            };
            assert!(due > self.now, "what is due is done when its time has come");
            self.now = due;
            self.settle();
        }
        assert!(self.endpoint.poll_timeout().is_none(), "it never comes to rest");
        assert!(self.calls.is_empty(), "calls never end");
        assert!(self.observers.is_empty(), "nobody acknowledges, and all observe");
    }
}

fn peer(input: &mut Input) -> SocketAddr {
    SocketAddr::from(input.pick(&PEERS))
}

fn response(input: &mut Input) -> Response {
    let code = input.pick(&[Code::CONTENT, Code::CONTENT, Code::CHANGED, Code::CREATED, Code::NOT_FOUND]);
    let flags = input.byte();
    Response {
        code,
        content_format: (flags & 1 == 0).then_some(u16::from(flags >> 7)),
        etag: (flags & 2 == 0).then(|| vec![flags; 4].into()),
        max_age: (flags & 4 == 0).then_some(3),
        location_path: vec!["l".repeat(usize::from(flags >> 4)); usize::from(flags & 8 == 0)],
        location_query: Vec::new(),
        payload: vec![b'r'; input.length()].into(),
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut lab, mut input) = (Lab::new(), Input(data));
    while !input.0.is_empty() {
        lab.step(&mut input);
    }
    lab.rest();
});
