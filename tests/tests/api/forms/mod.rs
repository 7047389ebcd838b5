//! The forms surface (seed 003, forms-http contract).

mod attachments;
mod bad_input;
mod create;
mod lists;
mod repeats;
mod writes;
