//! How much one request may carry. Operators set these; surfaces enforce them and name the limit in the error.

use std::time::Duration;

/// Bounds on one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body without its files.
    pub body_bytes: usize,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Points in one session.
    pub points: usize,
    /// Levels of brackets in a field's name, or of objects and arrays in JSON.
    pub nesting: usize,
    /// Bytes of a field's name; also of a point's name.
    pub name_bytes: usize,
    /// Sessions in one batch or bulk update.
    pub items: usize,
    /// Between two pieces of a body that is waited for.
    pub idle: Duration,
    /// From the first byte of the request to the last of the answer.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            file_bytes: 2 << 30,
            points: 2_000,
            nesting: 16,
            name_bytes: 255,
            items: 1_000,
            idle: Duration::from_secs(60),
            total: Duration::from_secs(30 * 60),
        }
    }
}
