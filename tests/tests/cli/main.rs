//! `rollcall-api` as an operator meets it: its commands, what they print, and how they fail.

mod admin;
mod migrate;
mod serve;
mod server;
mod text;
mod traces;
mod work;
