//! Pages of a collection: by cursor to any depth, by number to 10,000 rows (proxy contract §1.4, decision 10).

use rollcall_store::listing::{Condition, Order, Query, Start, Value};
use rollcall_store::{PAGE_BYTES, Page};
use serde::Deserialize;
use utoipa::IntoParams;

use super::asked::Asked;
use super::cursor::Seal;
use super::document::{Collection, PageLinks, PageMeta};
use crate::auth::Principal;
use crate::error::{ApiError, Problem};

/// Rows of a page, at most; and as many where nothing is asked for, as tools of before paging read one page only.
const MAX_SIZE: u32 = 1_000;
/// Rows that pages by number reach, and that are counted.
const NUMBERED_ROWS: u32 = 10_000;

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Resources on a page: 1 to 1,000; 1,000 where left out. A page of large ones has fewer.
    #[serde(rename = "page[size]")]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, example = 100)]
    size: Option<String>,
    /// The page after a cursor, as `links.next` has it.
    #[serde(rename = "page[after]")]
    after: Option<String>,
    /// The page before a cursor, as `links.prev` has it.
    #[serde(rename = "page[before]")]
    before: Option<String>,
    /// The page with this number, from 0, within the first 10,000 resources. Brings `meta.total`.
    #[serde(rename = "page[number]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    number: Option<String>,
}

/// A page that is asked for.
pub struct Pager {
    pub query: Query,
    number: Option<u32>,
    seal: Seal,
}

impl Paging {
    /// The page asked for, of what the conditions leave. `listing` names it for its cursors, with every filter and sort.
    pub fn read(
        &self,
        who: &Principal,
        asked: &Asked,
        listing: &str,
        (conditions, order): (Vec<Condition>, Order),
    ) -> Result<Pager, ApiError> {
        let limit = size(self.size.as_deref())?;
        let mut seal = Seal::new(who.org, listing);
        let mut bound: Vec<&(String, String)> = asked.parameters.0.iter().collect();
        bound.retain(|(name, _)| name == "sort" || name.starts_with("filter"));
        bound.sort();
        for (name, value) in bound {
            seal = seal.and(name).and(value);
        }
        let number = self
            .number
            .as_deref()
            .map(|text| page_number(text, limit))
            .transpose()?;
        let place = |name: &'static str, cursor: &str| {
            seal.read(cursor, order.columns)
                .ok_or_else(|| cursor_invalid(name))
        };
        let start = match (self.after.as_deref(), self.before.as_deref(), number) {
            (None, None, None) => Start::First,
            (Some(cursor), None, None) => Start::After(place("page[after]", cursor)?),
            (None, Some(cursor), None) => Start::Before(place("page[before]", cursor)?),
            (None, None, Some(number)) => Start::Skip(number * limit),
            _ => {
                let message = "page[after], page[before] and page[number] exclude each other; send one of them";
                return Err(ApiError::Invalid(
                    Problem::new("page_ambiguous", message).of_parameter("page[after]"),
                ));
            }
        };
        Ok(Pager {
            query: Query {
                conditions,
                order,
                start,
                limit,
                bytes: PAGE_BYTES,
                // One more tells that there are more.
                count_to: number.map(|_| NUMBERED_ROWS + 1),
            },
            number,
            seal,
        })
    }
}

impl Pager {
    /// The document of a page that was read; `place` gives a row's place, `show` the row as clients see it.
    pub fn collection<T, R>(
        &self,
        asked: &Asked,
        page: &Page<T>,
        place: impl Fn(&T) -> Vec<Value>,
        show: impl Fn(&T, &str) -> R,
    ) -> Collection<R> {
        Collection {
            links: self.links(asked, page, place),
            data: page.rows.iter().map(|row| show(row, &asked.base)).collect(),
            included: None,
            meta: page.count.map(|count| PageMeta {
                total: count.min(NUMBERED_ROWS),
                has_more_than_total: (count > NUMBERED_ROWS).then_some(true),
            }),
        }
    }

    fn links<T>(
        &self,
        asked: &Asked,
        page: &Page<T>,
        place: impl Fn(&T) -> Vec<Value>,
    ) -> PageLinks {
        match self.number {
            Some(number) => self.numbered_links(asked, number, page.count.unwrap_or_default()),
            None => {
                let cursor = |row: Option<&T>| row.map(|row| self.seal.write(&place(row)));
                let is_backwards = matches!(self.query.start, Start::Before(_));
                let is_first = matches!(self.query.start, Start::First);
                // Where we came from there is something, or was.
                let has_next = page.has_more || is_backwards;
                let has_prev = if is_backwards {
                    page.has_more
                } else {
                    !is_first
                };
                let at = |after: Option<String>, before: Option<String>| {
                    asked.collection_link(&[
                        ("page[after]", after.as_deref()),
                        ("page[before]", before.as_deref()),
                    ])
                };
                PageLinks {
                    own: asked.collection_link(&[]),
                    first: Some(at(None, None)),
                    prev: cursor(page.rows.first().filter(|_| has_prev))
                        .map(|cursor| at(None, Some(cursor))),
                    next: cursor(page.rows.last().filter(|_| has_next))
                        .map(|cursor| at(Some(cursor), None)),
                    last: None,
                }
            }
        }
    }

    fn numbered_links(&self, asked: &Asked, number: u32, count: u32) -> PageLinks {
        let at =
            |number: u32| asked.collection_link(&[("page[number]", Some(&number.to_string()))]);
        let pages = count.min(NUMBERED_ROWS).div_ceil(self.query.limit);
        PageLinks {
            own: asked.collection_link(&[]),
            first: Some(at(0)),
            prev: number
                .checked_sub(1)
                .map(|prev| at(prev.min(pages.saturating_sub(1)))),
            next: (number + 1 < pages).then(|| at(number + 1)),
            last: (count <= NUMBERED_ROWS && pages > 0).then(|| at(pages - 1)),
        }
    }
}

/// A `page[size]`.
pub fn size(text: Option<&str>) -> Result<u32, ApiError> {
    let Some(text) = text else {
        return Ok(MAX_SIZE);
    };
    let size = text
        .parse()
        .ok()
        .filter(|size| (1..=MAX_SIZE).contains(size));
    size.ok_or_else(|| {
        let message = format!("page[size] must be a whole number from 1 to {MAX_SIZE}");
        ApiError::Invalid(Problem::new("page_size_invalid", message).of_parameter("page[size]"))
    })
}

fn page_number(text: &str, size: u32) -> Result<u32, ApiError> {
    let of_parameter = |problem: Problem| ApiError::Invalid(problem.of_parameter("page[number]"));
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        let message = "page[number] must be a whole number from 0";
        return Err(of_parameter(Problem::new("page_number_invalid", message)));
    }
    let number: Option<u32> = text.parse().ok();
    number
        .filter(|number| number.checked_mul(size).is_some_and(|rows| rows < NUMBERED_ROWS))
        .ok_or_else(|| {
            let message = format!(
                "pages by number end at {NUMBERED_ROWS} resources; go on with page[after], whose cursors `links.next` has \
                 where page[number] is left out"
            );
            of_parameter(Problem::new("page_too_deep", message))
        })
}

/// The error for a cursor that this listing did not give.
pub fn cursor_invalid(parameter: &'static str) -> ApiError {
    let message = format!(
        "{parameter} must be a cursor of this same listing, with the same filters and sort; take the whole of a page's link"
    );
    ApiError::Invalid(Problem::new("cursor_invalid", message).of_parameter(parameter))
}
