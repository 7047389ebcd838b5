//! The words of Rollcall as types: who owns a session, what a session is, what may change it and what that change means.
//!
//! Pure: no I/O, no clock, no async. Surfaces parse into these types, `store` persists them.

mod change;
pub mod command;
mod event;
mod ids;
pub mod ingest;
mod limits;
pub mod pager;
mod permission;
mod point;
mod session;

pub use change::{Decision, Merge, Op, PointChange, Put, Rejection, SessionChange};
pub use event::EventType;
pub use ids::{AttachmentId, InvalidId, ObjectKey, OrgId, ProjectId, SessionId};
pub use limits::Limits;
pub use pager::{OutOfRange, Pager, Report, Reported};
pub use permission::{Permission, UnknownPermission};
pub use point::{Attachment, InvalidPoint, Point, PointName, Points};
pub use session::{Kind, Session, UnknownKind, forms_service};
