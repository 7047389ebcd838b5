//! JSON bodies: any bytes give a session or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_api::surfaces::forms::{input::SessionInput, json};
use rollcall_model::Limits;

fuzz_target!(|body: &[u8]| {
    let _ = json::parse::<SessionInput>(body, &Limits::default());
});
