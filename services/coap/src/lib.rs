//! A CoAP endpoint: the message layer, bodies in blocks, and observation (RFC 7252, 7641, 7959, 9175).
//!
//! [`Endpoint`] is the core: it has no sockets and no clock. [`driver`] gives it both, and [`dtls`] between the two where it
//! is wanted. coap-lite is the codec, no more.

#[cfg(target_endian = "big")]
compile_error!("coap-lite 0.13 misreads long options on big-endian machines; mend it there first");

mod blocks;
mod client;
mod code;
mod config;
pub mod driver;
pub mod dtls;
mod endpoint;
pub mod link;
pub mod message;
mod notify;
mod observers;
pub mod option;
mod outbox;
mod seen;
mod server;
mod types;

pub use code::{Code, Kind};
pub use config::{BadNetwork, Config, Network};
pub use endpoint::Endpoint;
pub use types::{
    Call, CallId, Event, Failure, JSON, LINKS, Observe, ObserverId, Receipt, Request, RequestId,
    Response, TEXT, Time, Urgency,
};
