//! The endpoint as server: observers are told (RFC 7641).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::code::{Code, Kind};
use crate::endpoint::Endpoint;
use crate::message::Message;
use crate::observers::Observer;
use crate::option::{self, Block};
use crate::outbox::Purpose;
use crate::server::{LARGEST, Pending};
use crate::types::{Event, Observe, ObserverId, Response, Time, Urgency};

/// How long an observer may pause in its first answer's blocks until it is sent notifications all the same.
const FETCH_PAUSE: Duration = Duration::from_secs(5);

impl Endpoint {
    /// Tells an observer what its resource is now. An error, or another content format, ends the observation.
    pub fn notify(&mut self, now: Time, id: ObserverId, response: Response, urgency: Urgency) {
        let Some(observer) = self.observers.get_mut(id) else {
            return;
        };
        let peer = observer.peer;
        let is_fetching = observer.fetching_until.is_some();
        if is_fetching || self.outbox.has(peer, Purpose::Notification(id)) {
            let observer = self.observers.get_mut(id).expect("it was there just now");
            if urgency != Urgency::Each {
                observer.waiting.retain(|(_, held)| *held == Urgency::Each);
            }
            observer.waiting.push_back((response, urgency));
            if observer.waiting.len() > self.config.max_queue {
                observer.waiting.pop_front();
            }
            return;
        }
        self.send_notification(now, id, response, urgency);
    }

    fn send_notification(
        &mut self,
        now: Time,
        id: ObserverId,
        response: Response,
        urgency: Urgency,
    ) {
        let Some(observer) = self.observers.get_mut(id) else {
            return;
        };
        let peer = observer.peer;
        let is_confirmable = observer.must_confirm(now, urgency);
        let (mut message, is_last) = self.notification(now, id, response);
        if is_confirmable {
            message.kind = Kind::Confirmable;
            let purpose = if is_last {
                Purpose::Courtesy
            } else {
                Purpose::Notification(id)
            };
            if !self.send_reliably(now, peer, message, purpose) {
                self.drop_observer(id);
            }
        } else {
            message.kind = Kind::NonConfirmable;
            message.id = self.outbox.next_id(peer, &mut self.rng);
            if let Some(observer) = self.observers.get_mut(id) {
                observer.remember_id(message.id);
            }
            self.transmit(peer, message.encode());
        }
        if is_last {
            self.drop_observer(id);
        }
    }

    /// The message that tells an observer, and whether it is the last one.
    fn notification(
        &mut self,
        now: Time,
        id: ObserverId,
        mut response: Response,
    ) -> (Message, bool) {
        let observer = self.observers.get(id).expect("the caller looked");
        if response.code.is_success()
            && response.content_format.is_some()
            && observer.content_format != response.content_format
        {
            response = Response::error(
                Code::NOT_ACCEPTABLE,
                "the resource has another content format now",
            );
        }
        let is_last = !response.code.is_success();
        let (peer, key) = (observer.peer, observer.key.clone());
        let block = Block {
            number: 0,
            more: false,
            size_exponent: observer.size_exponent,
        };
        let mut message = Message {
            code: response.code,
            token: observer.token,
            ..Message::empty(Kind::Confirmable, 0)
        };
        let is_cut = block.size_exponent < LARGEST;
        let part = self.cut(now, (peer, &key), block, response, is_cut);
        let (options, payload) = part.expect("the first block is always there");
        for (number, value) in options.iter() {
            message.options.push(number, value.clone());
        }
        message.payload = payload;
        if !is_last {
            let sequence = self.sequence(now, id);
            self.number(id, sequence, &mut message);
        }
        (message, is_last)
    }

    /// The observer did not acknowledge the last notification; what is newer takes its place.
    pub(crate) fn replace_notification(
        &mut self,
        now: Time,
        to: SocketAddr,
        id: u16,
        of: ObserverId,
    ) {
        let Some((response, _)) = self
            .observers
            .get_mut(of)
            .and_then(|held| held.waiting.pop_front())
        else {
            return;
        };
        let (message, is_last) = self.notification(now, of, response);
        if let Some(bytes) = self.outbox.replace(to, id, message, &mut self.rng) {
            self.transmit(to, bytes);
        }
        if is_last {
            self.drop_observer(of);
        }
    }

    pub(crate) fn on_notification_acknowledged(&mut self, now: Time, id: ObserverId) {
        let Some(observer) = self.observers.get_mut(id) else {
            return;
        };
        observer.heard();
        if observer.fetching_until.is_none() {
            self.send_waiting(now, id);
        }
    }

    /// Gives a message to an observer its sequence number, and keeps that where more blocks are to come.
    pub(crate) fn number(&mut self, id: ObserverId, sequence: u32, message: &mut Message) {
        message.options.push_uint(option::OBSERVE, sequence);
        if has_more(message)
            && let Some(observer) = self.observers.get_mut(id)
        {
            observer.blocks_sequence = Some(sequence);
        }
    }

    /// What changes while an observer fetches the blocks of its first answer is told after that: a client may take what comes
    /// first for the state, and drop the older body (RFC 7641, section 3.4).
    pub(crate) fn hold(&mut self, now: Time, id: ObserverId, is_fetching: bool) {
        let until = is_fetching.then_some(now + FETCH_PAUSE);
        if let Some(observer) = self.observers.get_mut(id) {
            observer.fetching_until = until;
        }
        if let Some(until) = until {
            self.wake_at(until);
        }
    }

    pub(crate) fn on_block_fetched(&mut self, now: Time, pending: &Pending, is_last: bool) {
        for id in self.observers.fetching(pending.peer, &pending.key) {
            if is_last {
                self.release(now, id);
            } else {
                self.hold(now, id, true);
            }
        }
    }

    /// Sends what waited for the first answer's last block.
    fn release(&mut self, now: Time, id: ObserverId) {
        let Some(observer) = self.observers.get_mut(id) else {
            return;
        };
        observer.fetching_until = None;
        if !self.outbox.has(observer.peer, Purpose::Notification(id)) {
            self.send_waiting(now, id);
        }
    }

    fn send_waiting(&mut self, now: Time, id: ObserverId) {
        let waiting = self.observers.get_mut(id).map(|held| &mut held.waiting);
        if let Some((response, urgency)) = waiting.and_then(VecDeque::pop_front) {
            self.send_notification(now, id, response, urgency);
        }
    }

    /// No longer waits for observers that fetch no more blocks.
    pub(crate) fn release_slow_observers(&mut self, now: Time) {
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        let due = self
            .observers
            .iter()
            .filter(|(_, observer)| is_due(observer.fetching_until));
        let due: Vec<ObserverId> = due.map(|(id, _)| id).collect();
        for id in due {
            self.release(now, id);
        }
    }

    /// The sequence number of the notification that a further block is of, where its request asks to observe too. Such a
    /// request refreshes the observation (RFC 7641, section 4.1), and node-coap takes a body's number from its last block.
    pub(crate) fn sequence_of_blocks(&mut self, pending: &Pending) -> Option<u32> {
        if pending.observe != Some(Observe::Register) {
            return None;
        }
        let id = self.observers.find(pending.peer, &pending.token)?;
        let observer = self.observers.get_mut(id)?;
        observer.heard();
        observer.blocks_sequence
    }

    /// Counts heartbeats that are due, asks for what to send, and drops observers that missed too many.
    pub(crate) fn heartbeats(&mut self, now: Time) {
        let Some(every) = self.config.heartbeat else {
            return;
        };
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        let due = self
            .observers
            .iter()
            .filter(|(_, observer)| is_due(observer.heartbeat_due));
        let due: Vec<ObserverId> = due.map(|(id, _)| id).collect();
        for id in due {
            let observer = self.observers.get_mut(id).expect("it is due");
            observer.heartbeat_due = Some(now + every);
            if observer.miss() {
                self.drop_observer(id);
            } else {
                self.say(Event::Heartbeat(id));
            }
        }
    }

    /// Every observer: its name, and the path and the query that it asked for.
    pub fn observers(&self) -> impl ExactSizeIterator<Item = (ObserverId, &[String], &[String])> {
        let describe = |(id, observer)| {
            let observer: &Observer = observer;
            (id, &observer.path[..], &observer.query[..])
        };
        self.observers.iter().map(describe)
    }

    /// Ends every observation of a path; `response`, an error, says why.
    pub fn end_observations(&mut self, now: Time, path: &[String], response: &Response) {
        let of_path = self
            .observers
            .iter()
            .filter(|(_, observer)| observer.path == path);
        let ids: Vec<ObserverId> = of_path.map(|(id, _)| id).collect();
        for id in ids {
            self.send_notification(now, id, response.clone(), Urgency::Latest);
        }
    }

    pub(crate) fn clock(&self, now: Time) -> u32 {
        let ms = u128::from(self.epoch_ms) + now.as_millis();
        (ms & 0x00FF_FFFF) as u32
    }

    pub(crate) fn sequence(&mut self, now: Time, id: ObserverId) -> u32 {
        let clock = self.clock(now);
        self.observers
            .get_mut(id)
            .map_or(clock, |observer| observer.next_sequence(clock))
    }
}

/// Whether a message is a block that others follow.
pub(crate) fn has_more(message: &Message) -> bool {
    let block = message.options.first(option::BLOCK2);
    block
        .and_then(|value| Block::from_value(value))
        .is_some_and(|block| block.more)
}
