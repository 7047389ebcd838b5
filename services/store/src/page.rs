//! One page of a listing: so many rows, but no more bytes than a process can hold for many readers at once.

use std::ops::AsyncFnMut;

/// What sessions a page may take in memory, in bytes; a page has one row at least.
const PAGE_BYTES: usize = 8 << 20;
/// Rows that are asked for while their size is not known.
const FIRST_ROWS: usize = 8;

/// Rows in order, and whether there are more behind them.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub has_more: bool,
}

/// Fills a page of at most `limit` rows. `fetch` gives at most so many rows behind one, or from the beginning on;
/// `size` is what a row takes in memory.
pub(crate) async fn fill<T>(
    limit: usize,
    size: impl Fn(&T) -> usize,
    mut fetch: impl AsyncFnMut(Option<&T>, i64) -> sqlx::Result<Vec<T>>,
) -> sqlx::Result<Page<T>> {
    let mut page = Page {
        rows: Vec::new(),
        has_more: false,
    };
    let (mut bytes, mut next) = (0, FIRST_ROWS);
    loop {
        // One row more than fits tells whether there is another page.
        let wanted = next.min(limit + 1 - page.rows.len());
        let count = i64::try_from(wanted).unwrap_or(i64::MAX);
        let rows = fetch(page.rows.last(), count).await?;
        let is_last = rows.len() < wanted;
        for row in rows {
            let size = size(&row);
            let is_full = page.rows.len() == limit || bytes + size > PAGE_BYTES;
            if is_full && !page.rows.is_empty() {
                page.has_more = true;
                return Ok(page);
            }
            bytes += size;
            page.rows.push(row);
        }
        if is_last {
            return Ok(page);
        }
        let mean = (bytes / page.rows.len().max(1)).max(1);
        next = (PAGE_BYTES.saturating_sub(bytes) / mean).max(1);
    }
}
