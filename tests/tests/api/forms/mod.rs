//! The forms surface (seed 003, forms-http contract).

mod at_once;
mod attachments;
mod bad_input;
mod create;
mod delete;
mod files;
mod idempotency;
mod list;
mod multipart;
mod names;
mod repeats;
mod replace;
mod revisions;
mod show;
mod steps;
mod writes;
