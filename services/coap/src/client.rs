//! The endpoint as client: calls go out, answers and notifications come in.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::RngExt;

use crate::code::{Code, Kind};
use crate::endpoint::Endpoint;
use crate::message::{Message, Token};
use crate::option::{self, Block};
use crate::outbox::Purpose;
use crate::seen::Answer;
use crate::types::{Call, CallId, Event, Failure, Receipt, Response, Time};

/// A representation may change while it is fetched; after so many times we give up.
const MAX_RESTARTS: u8 = 4;
/// Notifications older than this are old news whatever their number (RFC 7641, section 3.4).
const FRESH_FOR: Duration = Duration::from_secs(128);
/// What a notification without Max-Age is good for (RFC 7252, section 5.10.5).
const DEFAULT_MAX_AGE: u32 = 60;

#[derive(Default)]
pub(crate) struct Calls {
    next: u64,
    held: BTreeMap<CallId, State>,
    by_token: HashMap<(SocketAddr, Token), CallId>,
    /// Of the notification that is being looked at.
    receipt: Option<Receipt>,
}

impl Calls {
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.held.values().map(|call| call.due).min()
    }
}

struct State {
    to: SocketAddr,
    call: Call,
    /// Of the request that is out.
    token: Token,
    /// Bytes of the body that were taken, and the size exponent in use.
    sent: usize,
    size_exponent: u8,
    /// The block of the answer that is awaited.
    wanted: u32,
    body: BytesMut,
    head: Option<Response>,
    restarts: u8,
    /// When to give up or, where nothing is out, to register again.
    due: Time,
    observation: Option<Observation>,
    is_out: bool,
}

struct Observation {
    token: Token,
    last: Option<(u32, Time)>,
}

impl Endpoint {
    /// Sends a request. Its end is told by [`Event::Ended`]; what an observing one brings, by [`Event::Notified`].
    pub fn call(&mut self, now: Time, to: SocketAddr, call: Call) -> CallId {
        self.calls.next += 1;
        let id = CallId(self.calls.next);
        let state = State {
            to,
            size_exponent: call.size_exponent.min(6),
            token: Token::default(),
            sent: 0,
            wanted: 0,
            body: BytesMut::new(),
            head: None,
            restarts: 0,
            due: now,
            observation: None,
            is_out: false,
            call,
        };
        self.calls.held.insert(id, state);
        self.send_call(now, id);
        id
    }

    /// Ends a call; of an observing one the other side is told.
    pub fn cancel(&mut self, now: Time, id: CallId) {
        let Some(state) = self.calls.held.get(&id) else {
            return;
        };
        let (to, call) = (state.to, state.call.clone());
        let observed = state
            .observation
            .as_ref()
            .map(|observation| observation.token);
        self.forget_call(id);
        if let Some(token) = observed {
            let mut message = Message {
                code: Code::GET,
                token,
                ..Message::empty(Kind::Confirmable, 0)
            };
            message.options.push_uint(option::OBSERVE, 1);
            name_resource(&mut message, &call);
            self.send_reliably(now, to, message, Purpose::Courtesy);
        }
    }

    /// Sends the next message of a call: its request, the next block of its body, or a request for the next of the answer.
    fn send_call(&mut self, now: Time, id: CallId) {
        let mut token = [0; 8];
        self.rng.fill(&mut token);
        let token = Token::new(&token).expect("a token has up to 8 bytes");
        let Some(state) = self.calls.held.get_mut(&id) else {
            return;
        };
        let to = state.to;
        let is_observed = state
            .observation
            .as_ref()
            .map(|observation| observation.token);
        if is_observed != Some(state.token) {
            self.calls.by_token.remove(&(to, state.token));
        }
        // To register again is to repeat the token.
        let registers = state.call.observe && state.wanted == 0 && state.head.is_none();
        state.token = is_observed.filter(|_| registers).unwrap_or(token);
        state.due = now + Duration::from_secs(93) + state.call.patience;
        state.is_out = true;
        let message = state.request(registers);
        let (token, due, is_confirmable) = (state.token, state.due, state.call.confirmable);
        if !is_confirmable {
            state.due = now + state.call.patience;
        }
        self.wake_at(due.min(self.calls.held[&id].due));
        self.calls.by_token.insert((to, token), id);
        if is_confirmable {
            if !self.send_reliably(now, to, message, Purpose::Call(id)) {
                self.end_call(id, Err(Failure::Busy));
            }
        } else {
            let mut message = message;
            message.kind = Kind::NonConfirmable;
            message.id = self.outbox.next_id(to, &mut self.rng);
            self.transmit(to, message.encode());
        }
    }

    pub(crate) fn on_response(&mut self, now: Time, from: SocketAddr, mut message: Message) {
        let key = (from, message.id);
        let is_new = message.kind == Kind::Acknowledgement || self.seen.get(now, &key).is_none();
        if !is_new {
            if let Some(Answer::Again(bytes)) = self.seen.get(now, &key).cloned() {
                self.transmit(from, bytes);
            }
            return;
        }
        let id = self.calls.by_token.get(&(from, message.token)).copied();
        let Some(id) = id else {
            // An answer to nothing (section 4.2); of a notification, the Reset ends the observation.
            match message.kind {
                Kind::Acknowledgement => {
                    self.outbox.finish(from, message.id);
                    self.send_next(now, from);
                }
                _ => self.reset(from, message.id),
            }
            return;
        };
        match message.kind {
            Kind::Acknowledgement => {
                if self.outbox.in_flight(from, Purpose::Call(id)) != Some(message.id) {
                    return;
                }
                self.outbox.finish(from, message.id);
            }
            Kind::Confirmable if self.holds_acknowledgement(id, &message) => {
                self.seen
                    .insert(now, key, message.kind, true, Answer::Pending);
                self.calls.receipt = Some(Receipt {
                    peer: from,
                    id: message.id,
                });
            }
            Kind::Confirmable => {
                let bytes = self.acknowledge(from, message.id);
                self.seen
                    .insert(now, key, message.kind, true, Answer::Again(bytes));
            }
            _ => self
                .seen
                .insert(now, key, message.kind, true, Answer::Silence),
        }
        let is_current = self
            .calls
            .held
            .get(&id)
            .is_some_and(|state| state.token == message.token);
        if is_current {
            // The answer is as good as an acknowledgement.
            self.outbox.abandon(from, Purpose::Call(id));
        }
        self.send_next(now, from);
        if option::check(&mut message.options).is_err() {
            self.end_call(id, Err(Failure::BadOption));
        } else {
            self.on_answer(now, id, &message);
        }
        // What nobody is told of is nobody's to confirm.
        if let Some(receipt) = self.calls.receipt.take() {
            self.confirm(receipt);
        }
    }

    fn holds_acknowledgement(&self, id: CallId, message: &Message) -> bool {
        let is_in_blocks = message
            .options
            .first(option::BLOCK2)
            .and_then(|value| Block::from_value(value))
            .is_some_and(|block| block.more);
        let state = self.calls.held.get(&id);
        state.is_some_and(|state| {
            let observed = state
                .observation
                .as_ref()
                .map(|observation| observation.token);
            state.call.holds_acknowledgement && !is_in_blocks && observed == Some(message.token)
        })
    }

    /// Acknowledges a notification: what it told is safe now.
    pub fn confirm(&mut self, receipt: Receipt) {
        let bytes = self.acknowledge(receipt.peer, receipt.id);
        self.seen
            .answer(&(receipt.peer, receipt.id), Answer::Again(bytes));
    }

    fn on_answer(&mut self, now: Time, id: CallId, message: &Message) {
        let Some(state) = self.calls.held.get_mut(&id) else {
            return;
        };
        if !state.accept_number(now, message) {
            return;
        }
        let block1 = message
            .options
            .first(option::BLOCK1)
            .map(|value| Block::from_value(value));
        if let Some(step) = state.after_block1(message.code, block1.flatten()) {
            match step {
                Ok(()) => self.send_call(now, id),
                Err(failure) => self.end_call(id, Err(failure)),
            }
            return;
        }
        let max = self.config.max_answer;
        match state.take(message, max) {
            Ok(Some(response)) => self.finish_call(now, id, response, message),
            Ok(None) => self.send_call(now, id),
            Err(failure) => self.end_call(id, Err(failure)),
        }
    }

    /// The whole of an answer is there.
    fn finish_call(&mut self, now: Time, id: CallId, response: Response, message: &Message) {
        let again = Duration::from_secs(self.rng.random_range(5..=15));
        let Some(state) = self.calls.held.get_mut(&id) else {
            return;
        };
        let is_observed =
            state.observation.is_some() || message.options.first(option::OBSERVE).is_some();
        if !state.call.observe || !is_observed || !response.code.is_success() {
            return self.end_call(id, Ok(response));
        }
        if state
            .observation
            .as_ref()
            .is_some_and(|observation| observation.token != state.token)
        {
            self.calls.by_token.remove(&(state.to, state.token));
        }
        state.is_out = false;
        state.restarts = 0;
        state.wanted = 0;
        let max_age = response.max_age.unwrap_or(DEFAULT_MAX_AGE);
        state.due = now + Duration::from_secs(u64::from(max_age)) + again;
        let due = state.due;
        self.wake_at(due);
        let receipt = self.calls.receipt.take();
        self.say(Event::Notified(id, response, receipt));
    }

    pub(crate) fn on_call_acknowledged(&mut self, now: Time, id: CallId) {
        // The answer comes by itself.
        if let Some(state) = self.calls.held.get_mut(&id) {
            state.due = now + state.call.patience;
            let due = state.due;
            self.wake_at(due);
        }
    }

    pub(crate) fn on_call_reset(&mut self, id: CallId) {
        self.end_call(id, Err(Failure::Reset));
    }

    pub(crate) fn on_call_timeout(&mut self, now: Time, id: CallId) {
        let _ = now;
        self.end_call(id, Err(Failure::Timeout));
    }

    pub(crate) fn call_timeouts(&mut self, now: Time) {
        let due = self.calls.held.iter().filter(|(_, state)| state.due <= now);
        let due: Vec<(CallId, bool)> = due.map(|(id, state)| (*id, state.is_out)).collect();
        for (id, is_out) in due {
            if is_out {
                self.end_call(id, Err(Failure::Timeout));
            } else {
                self.send_call(now, id);
            }
        }
    }

    /// Ends all calls to a peer.
    pub(crate) fn fail_calls(&mut self, peer: SocketAddr, failure: Failure) {
        let of_peer = self.calls.held.iter().filter(|(_, state)| state.to == peer);
        for id in of_peer.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_call(id, Err(failure));
        }
    }

    fn end_call(&mut self, id: CallId, outcome: Result<Response, Failure>) {
        self.forget_call(id);
        self.say(Event::Ended(id, outcome));
    }

    fn forget_call(&mut self, id: CallId) {
        if let Some(state) = self.calls.held.remove(&id) {
            self.outbox.abandon(state.to, Purpose::Call(id));
            self.calls.by_token.remove(&(state.to, state.token));
            if let Some(observation) = state.observation {
                self.calls.by_token.remove(&(state.to, observation.token));
            }
        }
    }
}

impl State {
    fn request(&self, registers: bool) -> Message {
        let call = &self.call;
        let mut message = Message {
            code: call.method,
            token: self.token,
            ..Message::empty(Kind::Confirmable, 0)
        };
        name_resource(&mut message, call);
        if registers {
            message.options.push_uint(option::OBSERVE, 0);
        }
        let is_asking_for_more = self.wanted > 0;
        if !is_asking_for_more {
            for etag in &call.etags {
                message.options.push(option::ETAG, etag.clone());
            }
        }
        let block = Block {
            number: self.wanted,
            more: false,
            size_exponent: self.size_exponent,
        };
        if is_asking_for_more || self.size_exponent < 6 && call.payload.len() <= block.size() {
            message.options.push(option::BLOCK2, block.to_value());
        }
        // For further blocks of the answer, the request is the same but for its body (RFC 7959, section 2.7).
        if let Some(format) = call.content_format.filter(|_| !call.payload.is_empty()) {
            message
                .options
                .push_uint(option::CONTENT_FORMAT, u32::from(format));
        }
        if is_asking_for_more {
            return message;
        }
        if call.payload.len() > block.size() {
            let end = call.payload.len().min(self.sent + block.size());
            let block = Block {
                number: u32::try_from(self.sent >> (self.size_exponent + 4)).unwrap_or(u32::MAX),
                more: end < call.payload.len(),
                size_exponent: self.size_exponent,
            };
            message.options.push(option::BLOCK1, block.to_value());
            if self.sent == 0 {
                let length = u32::try_from(call.payload.len()).unwrap_or(u32::MAX);
                message.options.push_uint(option::SIZE1, length);
            }
            message.payload = call.payload.slice(self.sent..end);
        } else {
            message.payload = call.payload.clone();
        }
        message
    }

    /// Whether an answer is news: of notifications, one that is older than the last is not (RFC 7641, section 3.4).
    fn accept_number(&mut self, now: Time, message: &Message) -> bool {
        let Some(number) = message
            .options
            .uint(option::OBSERVE)
            .filter(|_| self.call.observe)
        else {
            return true;
        };
        let observation = self.observation.get_or_insert(Observation {
            token: message.token,
            last: None,
        });
        if let Some((last, at)) = observation.last {
            let ahead = number.wrapping_sub(last) & 0x00FF_FFFF;
            if now < at + FRESH_FOR && (ahead == 0 || ahead >= 1 << 23) {
                return false;
            }
        }
        observation.last = Some((number, now));
        // What was being fetched is older.
        self.wanted = 0;
        self.body.clear();
        self.head = None;
        true
    }

    /// What follows on the answer to a block of the body: the next one, or a failure; nothing where that was the last.
    fn after_block1(&mut self, code: Code, answered: Option<Block>) -> Option<Result<(), Failure>> {
        let size = 16 << self.size_exponent;
        let length = self.call.payload.len();
        if length <= size || self.wanted > 0 {
            return None;
        }
        let smaller = answered
            .map(|block| block.size_exponent)
            .filter(|theirs| *theirs < self.size_exponent);
        match code {
            Code::CONTINUE => {
                self.sent = length.min(self.sent + size);
                if self.sent >= length {
                    return Some(Err(Failure::Blocks));
                }
                self.size_exponent = smaller.unwrap_or(self.size_exponent);
                Some(Ok(()))
            }
            Code::TOO_LARGE if self.sent == 0 && smaller.is_some() => {
                self.size_exponent = smaller?;
                Some(Ok(()))
            }
            _ => None,
        }
    }

    /// Takes an answer or a block of it: the whole where it is the last, nothing where there are more.
    fn take(&mut self, message: &Message, max: usize) -> Result<Option<Response>, Failure> {
        let block = message
            .options
            .first(option::BLOCK2)
            .map(|value| Block::from_value(value));
        let block = block
            .map(|block| block.ok_or(Failure::Blocks))
            .transpose()?;
        let Some(block) = block.filter(|block| block.more || block.number > 0) else {
            self.head = None;
            self.body.clear();
            return Ok(Some(response_of(message, message.payload.clone())));
        };
        let etag = message.options.first(option::ETAG).cloned();
        let is_other = self.head.as_ref().is_some_and(|head| head.etag != etag);
        if block.number > 0 && (is_other || self.head.is_none()) {
            self.restarts += 1;
            self.body.clear();
            self.head = None;
            self.wanted = 0;
            return if self.restarts > MAX_RESTARTS || self.call.method != Code::GET {
                Err(Failure::Blocks)
            } else {
                Ok(None)
            };
        }
        if block.offset() != self.body.len()
            || (block.more && message.payload.len() != block.size())
        {
            return Err(Failure::Blocks);
        }
        if self.body.len() + message.payload.len() > max {
            return Err(Failure::TooLarge);
        }
        self.body.extend_from_slice(&message.payload);
        if self.head.is_none() {
            self.head = Some(response_of(message, Bytes::new()));
        }
        self.size_exponent = block.size_exponent;
        if block.more {
            self.wanted = block.number + 1;
            return Ok(None);
        }
        let head = self.head.take().ok_or(Failure::Blocks)?;
        let payload = self.body.split().freeze();
        Ok(Some(Response { payload, ..head }))
    }
}

fn name_resource(message: &mut Message, call: &Call) {
    for segment in &call.path {
        message.options.push(option::URI_PATH, segment.clone());
    }
    for part in &call.query {
        message.options.push(option::URI_QUERY, part.clone());
    }
    if let Some(format) = call.accept {
        message.options.push_uint(option::ACCEPT, u32::from(format));
    }
}

fn response_of(message: &Message, payload: Bytes) -> Response {
    let options = &message.options;
    let texts = |number| {
        options
            .all(number)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    };
    let format = options.uint(option::CONTENT_FORMAT);
    Response {
        code: message.code,
        content_format: format.and_then(|format| u16::try_from(format).ok()),
        etag: options.first(option::ETAG).cloned(),
        max_age: options.uint(option::MAX_AGE),
        location_path: texts(option::LOCATION_PATH),
        location_query: texts(option::LOCATION_QUERY),
        payload,
    }
}
