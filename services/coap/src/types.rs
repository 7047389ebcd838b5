//! What goes between an endpoint and the code that uses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::code::Code;

/// Time since the endpoint was made. The endpoint has no clock: every call says what time it is.
pub type Time = Duration;

/// The content format of JSON (RFC 7252, section 12.3).
pub const JSON: u16 = 50;
/// The content format of plain text in UTF-8.
pub const TEXT: u16 = 0;
/// The content format of links (RFC 6690).
pub const LINKS: u16 = 40;

/// Names a request that waits for its response.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(pub(crate) u64);

/// Names an observer of a resource of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObserverId(pub(crate) u64);

/// Names a request of ours to somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub(crate) u64);

/// A confirmable notification that waits for [`crate::Endpoint::confirm`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub(crate) peer: SocketAddr,
    pub(crate) id: u16,
}

/// What a GET asks of an observation (RFC 7641, section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observe {
    Register,
    Deregister,
}

/// A whole request, its blocks put together, its critical options understood.
#[derive(Clone, Debug)]
pub struct Request {
    pub peer: SocketAddr,
    /// Who the peer has shown to be; none without DTLS.
    pub identity: Option<Arc<str>>,
    /// One of GET, POST, PUT and DELETE.
    pub method: Code,
    /// The segments of the path.
    pub path: Vec<String>,
    /// The parts of the query, such as `number=23`.
    pub query: Vec<String>,
    pub content_format: Option<u16>,
    pub accept: Option<u16>,
    /// Entity tags of representations that the client holds.
    pub etags: Vec<Bytes>,
    pub if_match: Vec<Bytes>,
    pub if_none_match: bool,
    /// Of a GET alone.
    pub observe: Option<Observe>,
    pub payload: Bytes,
}

/// What a request is answered with, whole; the endpoint cuts it into blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    pub code: Code,
    pub content_format: Option<u16>,
    pub etag: Option<Bytes>,
    /// In seconds.
    pub max_age: Option<u32>,
    pub location_path: Vec<String>,
    pub location_query: Vec<String>,
    pub payload: Bytes,
}

impl Response {
    /// A response without anything else.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            content_format: None,
            etag: None,
            max_age: None,
            location_path: Vec::new(),
            location_query: Vec::new(),
            payload: Bytes::new(),
        }
    }

    /// A 2.05 with a payload.
    pub fn content(content_format: u16, payload: impl Into<Bytes>) -> Self {
        Self {
            content_format: Some(content_format),
            payload: payload.into(),
            ..Self::new(Code::CONTENT)
        }
    }

    /// An error, and in words what is wrong (a diagnostic payload; RFC 7252, section 5.5.2).
    pub fn error(code: Code, diagnostic: impl Into<String>) -> Self {
        Self {
            payload: Bytes::from(diagnostic.into()),
            ..Self::new(code)
        }
    }
}

/// How an observer is told of news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Confirmable, and every one of them: what waits is sent one after the other.
    Each,
    /// Confirmable; what waits gives way to what is newer (RFC 7641, section 4.5.2).
    Latest,
    /// Non-confirmable but for every fifth, or one a minute; what waits gives way.
    Casual,
}

/// A request to another endpoint.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Code,
    pub path: Vec<String>,
    pub query: Vec<String>,
    pub content_format: Option<u16>,
    pub accept: Option<u16>,
    pub etags: Vec<Bytes>,
    pub payload: Bytes,
    /// Ask to be told of changes; the call then goes on until it is cancelled or ends by itself.
    pub observe: bool,
    pub confirmable: bool,
    /// Acknowledge confirmable notifications only when [`crate::Endpoint::confirm`] says so; until then the other side repeats
    /// them. Those in blocks are acknowledged at once: the rest has to be asked for.
    pub holds_acknowledgement: bool,
    /// The largest block to use: 2 to the power of this plus 4 bytes.
    pub size_exponent: u8,
    /// How long to wait for the response after the other side has acknowledged the request.
    pub patience: Duration,
}

impl Call {
    /// A confirmable request for `path`, whose segments are separated by slashes.
    pub fn new(method: Code, path: &str) -> Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        Self {
            method,
            path: segments.map(str::to_owned).collect(),
            query: Vec::new(),
            content_format: None,
            accept: None,
            etags: Vec::new(),
            payload: Bytes::new(),
            observe: false,
            confirmable: true,
            holds_acknowledgement: false,
            size_exponent: 6,
            patience: Duration::from_secs(60),
        }
    }
}

/// Why a call has no response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    #[error("no answer: the other side is away, or what is between loses everything")]
    Timeout,
    #[error("the other side refuses the message: it does not know what it is about")]
    Reset,
    #[error("the answer has a critical option that is not understood")]
    BadOption,
    #[error("the answer's blocks do not fit together")]
    Blocks,
    #[error("the answer is larger than allowed")]
    TooLarge,
    #[error("too much is waiting for this peer already")]
    Busy,
    #[error("the secure session with the other side has ended")]
    Session,
    #[error(
        "no secure session: the other side refuses it; does it know our identity, and do both have the same key?"
    )]
    Refused,
    #[error(
        "no secure session: the handshake does not come to its end; is the other side there, does it speak DTLS on this port, do \
         both have the same key?"
    )]
    NoHandshake,
    #[error(
        "no secure session: we have no key for it any more; is our identity still in the file of keys?"
    )]
    NoKey,
}

impl Failure {
    /// Whether the other side has for sure not done what it was asked; else nobody knows.
    pub fn is_undone(self) -> bool {
        match self {
            Self::Reset | Self::Busy | Self::Refused | Self::NoHandshake | Self::NoKey => true,
            Self::Timeout | Self::BadOption | Self::Blocks | Self::TooLarge | Self::Session => {
                false
            }
        }
    }
}

/// What an endpoint has to say.
#[derive(Debug)]
pub enum Event {
    /// A request to answer by [`crate::Endpoint::respond`], now or later.
    Request(RequestId, Request),
    /// It is time to send the observer something, so that both know the other is there.
    Heartbeat(ObserverId),
    /// The observer is gone: it asked to, refused a message, or did not answer for too long.
    ObserverGone(ObserverId),
    /// The end of a call, or of its observation.
    Ended(CallId, Result<Response, Failure>),
    /// The first answer to an observing call, and what came after it; with a receipt where the acknowledgement is held.
    Notified(CallId, Response, Option<Receipt>),
}
