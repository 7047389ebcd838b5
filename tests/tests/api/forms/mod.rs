//! The forms surface (seed 003, forms-http contract).

mod at_once;
mod create;
mod files;
mod idempotency;
mod multipart;
mod names;
mod repeats;
mod replace;
mod steps;
