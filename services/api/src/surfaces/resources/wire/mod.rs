//! The resources as clients see them: JSON:API with the member names of seed 002, and beyond them our own. A member that a
//! kind of session or its source does not know is absent.

mod attachment;
mod command;
mod connection;
mod event;
mod kinds;
mod project;
mod relay;
mod service;
mod session;

pub use attachment::AttachmentResource;
pub use command::{CommandResource, NewSession, SessionAction};
pub use connection::{
    BrokerSessionAttributes, ProxySessionAttributes, SessionBackend, SessionSubscription,
};
pub use event::EventResource;
pub use kinds::{FormAttributes, PagerAttributes};
pub use project::ProjectResource;
pub use relay::RelayResource;
pub use service::{BrokerNodeFigures, ServiceResource};
pub use session::{SessionResource, services_of};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::{Identifier, Relationship, RelationshipLinks, ToOne};

fn identifier(kind: &'static str, id: impl ToString) -> Identifier {
    Identifier {
        id: id.to_string(),
        kind,
    }
}

fn related(link: String, data: Option<Vec<Identifier>>) -> Option<Relationship> {
    let links = RelationshipLinks {
        own: None,
        related: link,
    };
    Some(Relationship { links, data })
}

fn to_one(link: String, data: Identifier) -> Option<ToOne> {
    let links = RelationshipLinks {
        own: None,
        related: link,
    };
    Some(ToOne { links, data })
}

/// RFC 3339, in UTC.
fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("the year has four digits")
}
