//! The words of Rollcall as types: who owns a session, what a session is, what may change it and what that change means.
//!
//! Pure: no I/O, no clock, no async. Surfaces parse into these types, `store` persists them.

mod change;
pub mod command;
pub mod connection;
mod event;
mod ids;
pub mod ingest;
mod limits;
pub mod pager;
mod permission;
mod point;
pub mod report;
mod session;
pub mod watch;

pub use change::{Decision, Merge, Op, PointChange, Put, Rejection, SessionChange};
pub use connection::Connection;
pub use event::EventType;
pub use ids::{AttachmentId, InvalidId, ObjectKey, OrgId, ProjectId, SessionId};
pub use limits::Limits;
pub use pager::Pager;
pub use permission::{Permission, UnknownPermission};
pub use point::{Attachment, InvalidPoint, Point, PointName, Points};
pub use report::{Facts, OutOfRange, Report, Reported};
pub use session::{Kind, ServiceKind, Session, UnknownKind, forms_service};
