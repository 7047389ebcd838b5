//! The lines that a person reads while things start and stop.

use std::io::Write;
use std::time::Instant;

/// Where the lines go: to standard output, or nowhere when the output belongs to someone else's command.
#[derive(Clone, Copy)]
pub(crate) enum Progress {
    Shown,
    Silent,
}

impl Progress {
    /// One line about `topic`.
    pub(crate) fn line(self, topic: &str, text: impl std::fmt::Display) {
        if matches!(self, Self::Shown) {
            say(format_args!("  {topic:<10} {text}"));
        }
    }
}

/// Prints a line; a reader who has gone away (`rollcall up | head`) must not bring the servers down.
pub(crate) fn say(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Seconds since `start`, as they are shown.
pub(crate) fn seconds_since(start: Instant) -> String {
    format!("{:.1} s", start.elapsed().as_secs_f64())
}
