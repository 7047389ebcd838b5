//! Urlencoded bodies: any bytes give a session or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_api::surfaces::forms::body::parse_urlencoded;
use rollcall_model::Limits;

fuzz_target!(|body: &[u8]| {
    let _ = parse_urlencoded(body, &Limits::default());
});
