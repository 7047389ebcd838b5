//! Batches of relays: any bytes give verdicts to be, no more than may be sent, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_api::surfaces::ingest::batch;

fuzz_target!(|body: &[u8]| {
    if let Ok(read) = batch::read(body) {
        assert!(read.events.len() <= batch::MAX_EVENTS);
    }
});
