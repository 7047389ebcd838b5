//! The forms surface (seed 003, forms-http contract).

mod bad_input;
mod create;
mod repeats;
