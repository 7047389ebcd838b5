//! Which seeds are run, and how one that failed is run again.

use std::any::Any;

/// The first seed, and how many: those that the environment asks for, or so many from 0.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness is where tests are configured"
)]
pub fn asked(usual: u64) -> (u64, u64) {
    let number = |name: &str| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(text.parse().expect("a whole number"))
    };
    let first = number("SIMULATE_FROM").unwrap_or(0);
    (first, number("SIMULATE_SEEDS").unwrap_or(usual))
}

/// What is said of a seed that failed.
pub fn failure(seed: u64, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "seed {seed} failed; it alone: make simulate FROM={seed} SEEDS=1\n{}",
        text.unwrap_or("(no message)")
    )
}
