//! The forms surface (seed 003, forms-http contract).

mod at_once;
mod create;
mod delete;
mod files;
mod idempotency;
mod list;
mod multipart;
mod names;
mod repeats;
mod replace;
mod show;
mod steps;
