//! Query strings of `/v1`: any text gives parameters that a link writes down so that they read back, a filter's expression or
//! an error, and no cursor but our own is a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_api::surfaces::resources::cursor::Seal;
use rollcall_api::surfaces::resources::expression;
use rollcall_api::surfaces::resources::parameters::Parameters;
use rollcall_model::OrgId;
use rollcall_store::sessions::columns::{ID, STARTED};

fuzz_target!(|query: &str| {
    let read = Parameters::read(query);
    let link = read.query(&[]);
    assert_eq!(Parameters::read(link.trim_start_matches('?')).0, read.0);
    let _ = expression::parse(query);
    let seal = Seal::new(OrgId::generate(), "sessions");
    assert!(seal.read(query, &[STARTED, ID]).is_none());
});
