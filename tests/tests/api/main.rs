//! The api's surfaces, one module each.

mod forms;
mod outages;
