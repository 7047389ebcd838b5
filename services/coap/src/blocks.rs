//! Bodies in blocks (RFC 7959): uploads that come in, downloads that go out.
//!
//! Invariant: an upload grows by the next block alone; a download's blocks are all of one representation.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::option::Block;
use crate::types::Response;
use crate::types::Time;

/// How long an upload or a download may pause.
const PAUSE: Duration = Duration::from_secs(247);
/// Of one peer, so that it cannot displace those of others.
const UPLOADS_PER_PEER: usize = 4;

/// Who moves which resource: the peer, and everything of the request that counts for a cache (its query included).
pub type Key = (SocketAddr, Bytes);

struct Upload {
    body: BytesMut,
    content_format: Option<u16>,
    touched: Time,
}

pub struct Uploads {
    max: usize,
    max_body: usize,
    held: HashMap<Key, Upload>,
}

/// What a block comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More are to come.
    Continue,
    /// The whole body.
    Whole(Bytes),
    /// It is not the one after the last (4.08).
    Incomplete,
    /// The body is larger than allowed (4.13).
    TooLarge,
    /// The block is not as long as it says (4.00).
    BadLength,
}

impl Uploads {
    pub fn new(max: usize, max_body: usize) -> Self {
        Self {
            max,
            max_body,
            held: HashMap::new(),
        }
    }

    /// Takes the next block; the first one begins anew.
    pub fn take(
        &mut self,
        now: Time,
        key: Key,
        block: Block,
        (content_format, payload): (Option<u16>, &[u8]),
    ) -> Step {
        if payload.len() > block.size() || (block.more && payload.len() < block.size()) {
            return Step::BadLength;
        }
        if block.offset() + payload.len() > self.max_body {
            self.held.remove(&key);
            return Step::TooLarge;
        }
        if block.number == 0 {
            self.held.remove(&key);
            if !block.more {
                return Step::Whole(Bytes::copy_from_slice(payload));
            }
            self.make_room(now, key.0);
            let upload = Upload {
                body: BytesMut::new(),
                content_format,
                touched: now,
            };
            self.held.insert(key.clone(), upload);
        }
        let Some(upload) = self.held.get_mut(&key) else {
            return Step::Incomplete;
        };
        if upload.touched + PAUSE < now
            || block.offset() != upload.body.len()
            || content_format != upload.content_format
        {
            return Step::Incomplete;
        }
        upload.body.extend_from_slice(payload);
        upload.touched = now;
        if block.more {
            return Step::Continue;
        }
        let upload = self.held.remove(&key).expect("it was there just now");
        Step::Whole(upload.body.freeze())
    }

    /// Forgets what a peer has begun.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.held.retain(|key, _| key.0 != peer);
    }

    fn make_room(&mut self, now: Time, peer: SocketAddr) {
        self.held.retain(|_, upload| upload.touched + PAUSE >= now);
        let of_peer = self.held.keys().filter(|key| key.0 == peer).count();
        let is_candidate = |key: &Key| of_peer < UPLOADS_PER_PEER || key.0 == peer;
        if of_peer >= UPLOADS_PER_PEER || self.held.len() >= self.max {
            let candidates = self.held.iter().filter(|(key, _)| is_candidate(key));
            let oldest = candidates.min_by_key(|(key, upload)| (upload.touched, key.0));
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.held.remove(&key);
            }
        }
    }
}

struct Download {
    response: Response,
    touched: Time,
}

/// Representations that are too large for one message, as they were when their first block was sent.
pub struct Downloads {
    max: usize,
    max_bytes: usize,
    bytes: usize,
    held: HashMap<Key, Download>,
}

impl Downloads {
    pub fn new(max: usize, max_bytes: usize) -> Self {
        Self {
            max,
            max_bytes,
            bytes: 0,
            held: HashMap::new(),
        }
    }

    pub fn insert(&mut self, now: Time, key: Key, response: Response) {
        self.remove(&key);
        if response.payload.len() > self.max_bytes {
            return;
        }
        self.bytes += response.payload.len();
        let download = Download {
            response,
            touched: now,
        };
        self.held.insert(key, download);
        while self.held.len() > self.max || self.bytes > self.max_bytes {
            let oldest = self
                .held
                .iter()
                .min_by_key(|(key, held)| (held.touched, key.0));
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.remove(&key);
        }
    }

    pub fn get(&mut self, now: Time, key: &Key) -> Option<Response> {
        let download = self.held.get_mut(key)?;
        if download.touched + PAUSE < now {
            self.remove(key);
            return None;
        }
        download.touched = now;
        Some(download.response.clone())
    }

    /// Forgets what a peer has begun.
    pub fn forget(&mut self, peer: SocketAddr) {
        let of_peer = self.held.keys().filter(|key| key.0 == peer);
        for key in of_peer.cloned().collect::<Vec<_>>() {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(download) = self.held.remove(key) {
            self.bytes -= download.response.payload.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Block = Block {
        number: 0,
        more: true,
        size_exponent: 0,
    };

    fn key(port: u16) -> Key {
        (
            SocketAddr::from(([127, 0, 0, 1], port)),
            Bytes::from_static(b"k"),
        )
    }

    fn uploads() -> Uploads {
        Uploads::new(8, 64)
    }

    #[test]
    fn blocks_must_follow_each_other() {
        let (mut uploads, at) = (uploads(), Duration::ZERO);
        let third = Block { number: 2, ..FIRST };
        assert_eq!(
            uploads.take(at, key(1), FIRST, (None, &[1; 16])),
            Step::Continue
        );
        assert_eq!(
            uploads.take(at, key(1), third, (None, &[1; 16])),
            Step::Incomplete
        );
        assert_eq!(
            uploads.take(at, key(2), third, (None, &[1; 16])),
            Step::Incomplete
        );
        assert_eq!(
            uploads.take(at, key(1), FIRST, (None, &[1; 15])),
            Step::BadLength
        );
    }

    #[test]
    fn an_upload_that_begins_anew_forgets_its_past() {
        let (mut uploads, at) = (uploads(), Duration::ZERO);
        assert_eq!(
            uploads.take(at, key(1), FIRST, (None, &[1; 16])),
            Step::Continue
        );
        assert_eq!(
            uploads.take(at, key(1), FIRST, (None, &[2; 16])),
            Step::Continue
        );
        let last = Block {
            number: 1,
            more: false,
            size_exponent: 0,
        };
        let Step::Whole(body) = uploads.take(at, key(1), last, (None, &[3; 2])) else {
            panic!("the body is whole");
        };
        assert_eq!(&body[..], [&[2; 16][..], &[3; 2]].concat());
    }

    #[test]
    fn a_body_is_bounded_and_so_are_uploads() {
        let (mut uploads, at) = (uploads(), Duration::ZERO);
        let far = Block {
            number: Block::MAX_NUMBER,
            ..FIRST
        };
        assert_eq!(
            uploads.take(at, key(1), far, (None, &[1; 16])),
            Step::TooLarge
        );
        for port in 1..100 {
            uploads.take(at, key(port), FIRST, (None, &[1; 16]));
        }
        assert!(uploads.held.len() <= 8);
    }
}
