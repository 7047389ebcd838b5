//! One page of a listing: so many rows, but no more bytes than a process can hold for many readers at once.

/// What the rows of a page may take in memory, in bytes; a page has one row at least.
pub(crate) const PAGE_BYTES: i64 = 8 << 20;

/// Rows in order, and whether there are more behind them, in the direction that they were read.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub has_more: bool,
}
