//! What a relay watches beside transmitters: brokers and proxies of databases, asked again and again for a picture of their
//! clients.
//!
//! Invariant: only a whole picture counts. What could not be read whole says nothing of anybody.

mod bounds;
pub mod fluxmq;
mod http;
pub mod maxscale;
pub mod pgbouncer;
pub mod rabbitmq;
mod secret;
mod zone;

use rollcall_model::ServiceKind;
use rollcall_model::ingest::{BrokerReport, ConnectionSession};

/// Everything that a source tells at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The version that the source names.
    pub version: Option<String>,
    /// Each service once.
    pub services: Vec<SeenService>,
    /// What the picture lacks though it is whole: rights that are missing, ids that are too long ... In words.
    pub trouble: Option<String>,
}

/// A service of a source, and all of its sessions.
#[derive(Debug)]
pub struct SeenService {
    /// Unique in the organization: of a broker the source's name in the configuration.
    pub name: String,
    pub kind: ServiceKind,
    /// How it stands, in the source's words.
    pub state: Option<String>,
    /// What a broker says of itself.
    pub broker: Option<BrokerReport>,
    /// Every session that the source has, by its name there; each once.
    pub connections: Vec<ConnectionSession>,
}
