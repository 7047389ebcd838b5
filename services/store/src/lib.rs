//! Every line of SQL. One file per aggregate; what belongs to a tenant takes a [`TenantConn`], so that a query without
//! a tenant does not compile. Knows nothing of HTTP.

pub mod api_keys;
pub mod attachments;
pub mod brokers;
pub mod changes;
pub mod commands;
mod db;
pub mod events;
pub mod gaps;
pub mod idempotency;
pub mod listing;
pub mod organizations;
mod page;
pub mod projects;
pub mod relays;
pub mod roles;
pub mod schema;
pub mod services;
pub mod sessions;
mod subscriptions;

pub use db::{Db, Patience, PoolState, TenantConn};
pub use page::{PAGE_BYTES, Page};
/// The error of every function here, for callers that name it.
pub use sqlx::Error;
