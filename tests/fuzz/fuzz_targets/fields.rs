//! Names of form fields: any text gives a path or an error, and a path is the text taken apart.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_api::surfaces::forms::fields::FieldPath;
use rollcall_model::Limits;

fuzz_target!(|name: &str| {
    if let Ok(path) = FieldPath::parse(name, &Limits::default()) {
        let rebuilt = path.keys.iter().fold(path.root.to_owned(), |name, key| format!("{name}[{key}]"));
        assert_eq!(rebuilt, name);
    }
});
