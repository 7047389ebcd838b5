//! The api's surfaces, one module each.

mod broker;
mod commands;
mod credentials;
mod feed;
mod forms;
mod ingest;
mod operations;
mod outages;
mod reach;
mod resources;
mod work;
