//! The endpoint as server: requests come in, responses and notifications go out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::blocks::{Key, Step};
use crate::code::{Code, Kind};
use crate::endpoint::Endpoint;
use crate::message::{Message, Options, Token};
use crate::notify::has_more;
use crate::observers::Registration;
use crate::option::{self, Block};
use crate::outbox::Purpose;
use crate::seen::Answer;
use crate::types::{Event, Observe, ObserverId, Request, RequestId, Response, Time};

/// How long a request may wait for its response before it is acknowledged by itself (RFC 7252, section 5.2.2).
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(200);
/// The size exponent of the largest block: 1,024 bytes.
pub(crate) const LARGEST: u8 = 6;
/// Most bytes of a response to a peer that has not shown that its address is its own (RFC 9175, section 2.4).
const SAFE_BYTES: usize = 136;

/// A request that waits for its response.
pub(crate) struct Pending {
    pub(crate) peer: SocketAddr,
    id: u16,
    kind: Kind,
    pub(crate) token: Token,
    method: Code,
    pub(crate) key: Bytes,
    path: Vec<String>,
    query: Vec<String>,
    etags: Vec<Bytes>,
    pub(crate) observe: Option<Observe>,
    block1: Option<Block>,
    block2: Option<Block>,
    no_response: u8,
    is_acknowledged: bool,
}

impl Endpoint {
    pub(crate) fn on_request(&mut self, now: Time, from: SocketAddr, mut message: Message) {
        let key = (from, message.id);
        match self.seen.get(now, &key).cloned() {
            Some(Answer::Again(bytes)) => return self.transmit(from, bytes),
            Some(Answer::Pending | Answer::Silence) => return,
            None => {}
        }
        let is_safe = message.code == Code::GET;
        self.seen
            .insert(now, key, message.kind, is_safe, Answer::Pending);
        let checked = option::check(&mut message.options);
        let mut pending = Pending::of(from, &message);
        let options = &message.options;
        if options
            .first(option::PROXY_URI)
            .or(options.first(option::PROXY_SCHEME))
            .is_some()
        {
            return self.refuse(
                now,
                pending,
                Code::PROXYING_NOT_SUPPORTED,
                "this is no proxy",
            );
        }
        if let Err(number) = checked {
            if message.kind == Kind::NonConfirmable {
                return self.seen.answer(&key, Answer::Silence);
            }
            let text = format!(
                "option {number} is not understood here, or has a value that it cannot have"
            );
            return self.refuse(now, pending, Code::BAD_OPTION, &text);
        }
        let identity = self.secure.get(&from).cloned();
        let request = match read(from, identity, &message) {
            Ok(request) => request,
            Err((code, text)) => return self.refuse(now, pending, code, text),
        };
        if !self.admit(now, from, &request, &message.options) {
            return self.ask_for_echo(now, pending);
        }
        if request.observe == Some(Observe::Register) {
            pending.path.clone_from(&request.path);
            pending.query.clone_from(&request.query);
        }
        pending.etags.clone_from(&request.etags);
        pending.observe = request.observe;
        self.on_blocks(now, pending, request, &message);
    }

    /// Whether the request may be carried out: its sender's address is trusted or shown to be its own, or little comes of
    /// it. (What a GET comes to is looked at when it is answered.)
    fn admit(&mut self, now: Time, from: SocketAddr, request: &Request, options: &Options) -> bool {
        if self.is_trusted(from) {
            return true;
        }
        let echoed = options.first(option::ECHO).map(|value| &value[..]);
        let ages = [0, 1];
        let matches = |age| {
            self.echo_value(now, from, age)
                .is_some_and(|value| echoed == Some(&value[..]))
        };
        if ages.into_iter().any(matches) {
            self.verify(from);
            return true;
        }
        request.method == Code::GET && request.observe != Some(Observe::Register)
    }

    fn ask_for_echo(&mut self, now: Time, pending: Pending) {
        let value = self
            .echo_value(now, pending.peer, 0)
            .expect("no time is before the first");
        let mut message = pending.message(Code::UNAUTHORIZED);
        message.options.push(option::ECHO, value.to_vec());
        self.answer(now, &pending, message);
    }

    /// Puts the blocks of a body together, and finds the blocks of a representation that is on its way.
    fn on_blocks(
        &mut self,
        now: Time,
        mut pending: Pending,
        mut request: Request,
        message: &Message,
    ) {
        let block = |number| {
            message
                .options
                .first(number)
                .map(|value| Block::from_value(value))
        };
        let (block1, block2) = (block(option::BLOCK1), block(option::BLOCK2));
        if block1 == Some(None) || block2 == Some(None) {
            return self.refuse(
                now,
                pending,
                Code::BAD_REQUEST,
                "a block's size exponent is 0 to 6",
            );
        }
        (pending.block1, pending.block2) = (block1.flatten(), block2.flatten());
        let announced = message.options.uint(option::SIZE1).unwrap_or(0) as usize;
        if message.payload.len().max(announced) > self.config.max_body {
            return self.refuse_too_large(now, pending);
        }
        let key: Key = (pending.peer, pending.key.clone());
        if let Some(block) = pending.block1 {
            let part = (request.content_format, &message.payload[..]);
            match self.uploads.take(now, key.clone(), block, part) {
                Step::Whole(body) => request.payload = body,
                Step::Continue => {
                    let message = pending.message(Code::CONTINUE);
                    return self.answer(now, &pending, message);
                }
                Step::TooLarge => return self.refuse_too_large(now, pending),
                Step::Incomplete => {
                    let text = "this block does not follow the last; begin again with block 0";
                    return self.refuse(now, pending, Code::INCOMPLETE, text);
                }
                Step::BadLength => {
                    let text = "a block but the last is as long as it says";
                    return self.refuse(now, pending, Code::BAD_REQUEST, text);
                }
            }
        }
        if let Some(block) = pending.block2.filter(|block| block.number > 0) {
            if let Some(response) = self.downloads.get(now, &key) {
                let mut message = self.block_of(now, &pending, block, response);
                if let Some(sequence) = self.sequence_of_blocks(&pending) {
                    message.options.push_uint(option::OBSERVE, sequence);
                }
                let is_last = !has_more(&message);
                self.answer(now, &pending, message);
                return self.on_block_fetched(now, &pending, is_last);
            }
            if pending.method != Code::GET {
                let text = "the answer that this block is of is gone; ask anew";
                return self.refuse(now, pending, Code::INCOMPLETE, text);
            }
        }
        if self.pending.len() >= self.config.max_pending {
            let mut message = pending.message(Code::UNAVAILABLE);
            message.options.push_uint(option::MAX_AGE, 5);
            return self.answer(now, &pending, message);
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        if pending.kind == Kind::Confirmable {
            self.unacknowledged.push_back((now + ACKNOWLEDGE_AFTER, id));
        }
        self.pending.insert(id, pending);
        self.say(Event::Request(id, request));
    }

    pub(crate) fn acknowledge_slow_requests(&mut self, now: Time) {
        while let Some((due, id)) = self.unacknowledged.front().copied() {
            let Some(pending) = self.pending.get_mut(&id) else {
                self.unacknowledged.pop_front();
                continue;
            };
            if due > now {
                return;
            }
            self.unacknowledged.pop_front();
            pending.is_acknowledged = true;
            let key = (pending.peer, pending.id);
            let bytes = self.acknowledge(key.0, key.1);
            self.seen.answer(&key, Answer::Again(bytes));
        }
    }

    /// Answers a request. Where it asks to observe and `is_observable`, its sender is an observer from now on, by the name that is
    /// answered.
    pub fn respond(
        &mut self,
        now: Time,
        id: RequestId,
        mut response: Response,
        is_observable: bool,
    ) -> Option<ObserverId> {
        let pending = self.pending.remove(&id)?;
        // What was answered in time needs no look at the clock.
        while let Some((_, id)) = self.unacknowledged.front()
            && !self.pending.contains_key(id)
        {
            self.unacknowledged.pop_front();
        }
        if response.code == Code::CONTENT
            && response
                .etag
                .as_ref()
                .is_some_and(|etag| pending.etags.contains(etag))
        {
            response.code = Code::VALID;
            response.content_format = None;
            response.payload = Bytes::new();
        }
        if response.payload.len() + 32 > SAFE_BYTES && !self.is_trusted(pending.peer) {
            self.ask_for_echo(now, pending);
            return None;
        }
        let observer = self.observe(now, &pending, &response, is_observable);
        let block = pending.block2.unwrap_or(Block {
            number: 0,
            more: false,
            size_exponent: LARGEST,
        });
        let mut message = self.block_of(now, &pending, block, response);
        if let Some(observer) = observer {
            let sequence = self.sequence(now, observer);
            self.number(observer, sequence, &mut message);
            self.hold(now, observer, has_more(&message));
        }
        self.answer(now, &pending, message);
        observer
    }

    /// Registers or forgets an observer, as the request asks.
    fn observe(
        &mut self,
        now: Time,
        pending: &Pending,
        response: &Response,
        is_observable: bool,
    ) -> Option<ObserverId> {
        let known = self.observers.find(pending.peer, &pending.token);
        let wants = pending.observe == Some(Observe::Register);
        if wants && is_observable && response.code.is_success() {
            let heartbeat_due = self.config.heartbeat.map(|every| now + every);
            if let Some(due) = heartbeat_due {
                self.wake_at(due);
            }
            let registration = Registration {
                peer: pending.peer,
                token: pending.token,
                key: pending.key.clone(),
                path: pending.path.clone(),
                query: pending.query.clone(),
                content_format: response.content_format,
                size_exponent: pending.block2.map_or(LARGEST, |block| block.size_exponent),
            };
            let clock = self.clock(now);
            return self
                .observers
                .register(now, clock, heartbeat_due, registration);
        }
        if pending.observe.is_some()
            && let Some(id) = known
        {
            self.drop_observer(id);
        }
        None
    }

    /// The message that carries a block of a response, or all of it where that is no more.
    fn block_of(
        &mut self,
        now: Time,
        pending: &Pending,
        block: Block,
        response: Response,
    ) -> Message {
        let mut message = pending.message(response.code);
        let is_asked = pending.block2.is_some();
        let block = Block {
            size_exponent: block.size_exponent.min(LARGEST),
            ..block
        };
        let part = self.cut(now, (pending.peer, &pending.key), block, response, is_asked);
        let Some((options, payload)) = part else {
            let mut message = pending.message(Code::BAD_REQUEST);
            message.payload = Bytes::from_static(b"there is no such block: the answer is shorter");
            return message;
        };
        for (number, value) in options.iter() {
            message.options.push(number, value.clone());
        }
        message.payload = payload;
        message
    }

    /// The options and the payload of one block of a response; nothing where it has no such block.
    pub(crate) fn cut(
        &mut self,
        now: Time,
        (peer, key): (SocketAddr, &Bytes),
        block: Block,
        mut response: Response,
        is_asked: bool,
    ) -> Option<(Options, Bytes)> {
        let length = response.payload.len();
        let is_cut = length > block.size() || block.number > 0;
        if is_cut && block.offset() >= length {
            return None;
        }
        if is_cut && response.etag.is_none() && response.code.is_success() {
            let tag = fingerprint(&response.payload);
            response.etag = Some(Bytes::copy_from_slice(&tag.to_be_bytes()));
        }
        let mut options = Options::default();
        if let Some(etag) = &response.etag {
            options.push(option::ETAG, etag.clone());
        }
        for segment in &response.location_path {
            options.push(option::LOCATION_PATH, segment.clone());
        }
        if let Some(format) = response.content_format {
            options.push_uint(option::CONTENT_FORMAT, u32::from(format));
        }
        if let Some(seconds) = response.max_age {
            options.push_uint(option::MAX_AGE, seconds);
        }
        for part in &response.location_query {
            options.push(option::LOCATION_QUERY, part.clone());
        }
        let end = length.min(block.offset() + block.size());
        let payload = response.payload.slice(block.offset().min(end)..end);
        if is_cut || (is_asked && length > 0) {
            let more = end < length;
            options.push(option::BLOCK2, Block { more, ..block }.to_value());
            if block.number == 0 {
                options.push_uint(option::SIZE2, u32::try_from(length).unwrap_or(u32::MAX));
                if more {
                    self.downloads.insert(now, (peer, key.clone()), response);
                }
            }
        }
        Some((options, payload))
    }

    fn refuse(&mut self, now: Time, pending: Pending, code: Code, text: &str) {
        let mut message = pending.message(code);
        message.payload = Bytes::copy_from_slice(text.as_bytes());
        self.answer(now, &pending, message);
    }

    fn refuse_too_large(&mut self, now: Time, pending: Pending) {
        let mut message = pending.message(Code::TOO_LARGE);
        let most = u32::try_from(self.config.max_body).unwrap_or(u32::MAX);
        message.options.push_uint(option::SIZE1, most);
        message.payload = Bytes::from(format!("a body has at most {most} bytes"));
        self.answer(now, &pending, message);
    }

    /// Sends a response, with its request's acknowledgement where that has not left yet.
    fn answer(&mut self, now: Time, pending: &Pending, mut message: Message) {
        let key = (pending.peer, pending.id);
        let is_unwanted = pending.no_response & (1 << message.code.class().saturating_sub(1)) != 0;
        if let Some(block) = pending.block1 {
            // Of a request in blocks, the answer says which block it is to (RFC 7959, section 2.3).
            let more = message.code == Code::CONTINUE;
            message
                .options
                .push(option::BLOCK1, Block { more, ..block }.to_value());
        }
        match pending.kind {
            Kind::Confirmable if pending.is_acknowledged => {
                if !is_unwanted {
                    message.kind = Kind::Confirmable;
                    self.send_reliably(now, pending.peer, message, Purpose::Separate);
                }
            }
            Kind::Confirmable if is_unwanted => {
                let bytes = self.acknowledge(key.0, key.1);
                self.seen.answer(&key, Answer::Again(bytes));
            }
            Kind::Confirmable => {
                message.kind = Kind::Acknowledgement;
                message.id = pending.id;
                let bytes = message.encode();
                self.seen.answer(&key, Answer::Again(bytes.clone()));
                self.transmit(pending.peer, bytes);
            }
            _ => {
                self.seen.answer(&key, Answer::Silence);
                if !is_unwanted {
                    message.kind = Kind::NonConfirmable;
                    message.id = self.outbox.next_id(pending.peer, &mut self.rng);
                    self.transmit(pending.peer, message.encode());
                }
            }
        }
    }
}

impl Pending {
    fn of(peer: SocketAddr, message: &Message) -> Self {
        let wish = message.options.uint(option::NO_RESPONSE).unwrap_or(0);
        Self {
            peer,
            id: message.id,
            kind: message.kind,
            token: message.token,
            method: message.code,
            key: cache_key(message),
            path: Vec::new(),
            query: Vec::new(),
            etags: Vec::new(),
            observe: None,
            block1: None,
            block2: None,
            no_response: u8::try_from(wish).unwrap_or(0),
            is_acknowledged: false,
        }
    }

    fn message(&self, code: Code) -> Message {
        Message {
            code,
            token: self.token,
            ..Message::empty(Kind::Acknowledgement, self.id)
        }
    }
}

/// The request, but for its blocks.
fn read(
    peer: SocketAddr,
    identity: Option<Arc<str>>,
    message: &Message,
) -> Result<Request, (Code, &'static str)> {
    if !(Code::GET.0..=Code::DELETE.0).contains(&message.code.0) {
        let text = "the methods here are GET, POST, PUT and DELETE";
        return Err((Code::METHOD_NOT_ALLOWED, text));
    }
    let options = &message.options;
    let texts = |number| {
        let values = options
            .all(number)
            .map(|value| String::from_utf8(value.to_vec()));
        let texts: Result<Vec<String>, _> = values.collect();
        texts.map_err(|_| (Code::BAD_REQUEST, "path and query are UTF-8"))
    };
    let uint16 = |number| {
        options
            .uint(number)
            .and_then(|value| u16::try_from(value).ok())
    };
    let observe = options
        .uint(option::OBSERVE)
        .filter(|_| message.code == Code::GET);
    Ok(Request {
        peer,
        identity,
        method: message.code,
        path: texts(option::URI_PATH)?,
        query: texts(option::URI_QUERY)?,
        content_format: uint16(option::CONTENT_FORMAT),
        accept: uint16(option::ACCEPT),
        etags: options.all(option::ETAG).cloned().collect(),
        if_match: options.all(option::IF_MATCH).cloned().collect(),
        if_none_match: options.first(option::IF_NONE_MATCH).is_some(),
        observe: match observe {
            Some(0) => Some(Observe::Register),
            Some(1) => Some(Observe::Deregister),
            _ => None,
        },
        payload: message.payload.clone(),
    })
}

/// Everything by which requests for different things differ: method and options, the query included.
fn cache_key(message: &Message) -> Bytes {
    let values = message.options.iter().map(|(_, value)| value.len() + 4);
    let mut key = Vec::with_capacity(1 + values.sum::<usize>());
    key.push(message.code.0);
    for (number, value) in message.options.iter() {
        let is_apart = matches!(
            number,
            option::OBSERVE | option::BLOCK1 | option::BLOCK2 | option::ETAG
        );
        if !is_apart && (!option::is_no_cache_key(number) || number == option::REQUEST_TAG) {
            key.extend_from_slice(&number.to_be_bytes());
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            key.extend_from_slice(&length.to_be_bytes());
            key.extend_from_slice(value);
        }
    }
    Bytes::from(key)
}

/// Tells representations apart (FNV-1a); nobody gains from making two alike.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
