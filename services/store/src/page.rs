//! One page of a listing: so many rows, but no more bytes than a process can hold for many readers at once.

/// What the rows of a page of an answer may take in memory, in bytes.
pub const PAGE_BYTES: u32 = 8 << 20;

/// Rows in order, and whether there are more behind them, in the direction that they were read.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub has_more: bool,
}
