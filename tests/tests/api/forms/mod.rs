//! The forms surface (seed 003, forms-http contract).

mod at_once;
mod attachments;
mod bad_input;
mod batch;
mod create;
mod delete;
mod downloads;
mod files;
mod idempotency;
mod list;
mod multipart;
mod names;
mod repeats;
mod replace;
mod revisions;
mod show;
mod stalls;
mod steps;
mod update;
mod verdicts;
