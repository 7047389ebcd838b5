//! One page of a listing: so many rows, but no more bytes than a process can hold for many readers at once.

/// What the rows of a page of an answer may take in memory, in bytes.
pub const PAGE_BYTES: u32 = 8 << 20;

/// Rows in order, and whether there are more behind them, in the direction that they were read.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub has_more: bool,
    /// How many rows there are on all pages, where they were counted; to the most that was asked for, and no further.
    pub count: Option<u32>,
}

impl<T> Page<T> {
    /// The same page of other rows.
    pub(crate) fn try_map<U, E>(self, each: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        Ok(Page {
            rows: self.rows.into_iter().map(each).collect::<Result<_, E>>()?,
            has_more: self.has_more,
            count: self.count,
        })
    }
}
