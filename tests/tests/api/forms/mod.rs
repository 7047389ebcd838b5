//! The forms surface (seed 003, forms-http contract).

mod create;
mod files;
mod multipart;
mod names;
mod repeats;
mod replace;
mod steps;
