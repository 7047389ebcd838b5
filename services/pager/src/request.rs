//! What goes into a transmitter and what comes out, in CoAP's terms but without a CoAP library.

use crate::session::Change;

/// A request method; whatever the contract does not use is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// 0.01, also with Observe.
    Get,
    /// 0.02
    Post,
    /// 0.03
    Put,
    /// 0.04
    Delete,
    /// FETCH, PATCH and what may come.
    Other,
}

/// One request. Borrowed from whatever decoded the message.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method,
    /// The Uri-Path options, one segment each: `["v1", "sessions"]`.
    pub path: &'a [String],
    /// The Uri-Query options, one each: `["number=23"]`.
    pub query: &'a [String],
    /// The Content-Format option; absent means JSON.
    pub content_format: Option<u16>,
    /// The ETag options: bodies that the client still has.
    pub etags: &'a [Vec<u8>],
    /// The whole body.
    pub payload: &'a [u8],
}

/// A response code, as in 4.04.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code {
    /// The digit before the point.
    pub class: u8,
    /// The number after the point.
    pub detail: u8,
}

impl Code {
    /// 2.01 Created
    pub const CREATED: Self = Self::new(2, 1);
    /// 2.02 Deleted
    pub const DELETED: Self = Self::new(2, 2);
    /// 2.03 Valid: the client's copy is still right
    pub const VALID: Self = Self::new(2, 3);
    /// 2.04 Changed
    pub const CHANGED: Self = Self::new(2, 4);
    /// 2.05 Content
    pub const CONTENT: Self = Self::new(2, 5);
    /// 4.00 Bad Request
    pub const BAD_REQUEST: Self = Self::new(4, 0);
    /// 4.04 Not Found
    pub const NOT_FOUND: Self = Self::new(4, 4);
    /// 4.05 Method Not Allowed
    pub const METHOD_NOT_ALLOWED: Self = Self::new(4, 5);
    /// 4.15 Unsupported Content-Format
    pub const UNSUPPORTED_CONTENT_FORMAT: Self = Self::new(4, 15);
    /// 5.03 Service Unavailable
    pub const SERVICE_UNAVAILABLE: Self = Self::new(5, 3);

    const fn new(class: u8, detail: u8) -> Self {
        Self { class, detail }
    }

    /// Whether the request was done.
    pub fn is_success(self) -> bool {
        self.class == 2
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.class, self.detail)
    }
}

/// One page to send by radio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The pager, 1 to 65535.
    pub number: u16,
    /// A known mode, such as `Flash30Sec` (pager contract, L23 and L24).
    pub mode: String,
    /// Text for pagers that show one.
    pub message: Option<String>,
    /// The system that the pager belongs to: the request's, otherwise the setting's.
    pub system_id: u16,
}

/// What a call did. The caller first stores it, then transmits `pages` and notifies observers; if
/// storing fails it calls [`crate::Transmitter::rollback`] and does neither.
///
/// To store: delete the whole history if `is_history_cleared`, write the session of every change
/// in order, delete the `dropped`, and write [`crate::Transmitter::meta`] if `is_meta_changed`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Changed sessions in the order of their sequence steps; one notification each.
    pub changes: Vec<Change>,
    /// Pages to transmit.
    pub pages: Vec<Page>,
    /// Ids that fell out of the full history, possibly of a session in `changes`.
    pub dropped: Vec<u64>,
    /// The history was dropped as a whole.
    pub is_history_cleared: bool,
    /// Settings changed; observers get [`crate::Transmitter::settings_notification`].
    pub is_settings_changed: bool,
    /// Counters, settings or statistics changed. A refused request can say so too, when the
    /// statistics' daily clear came due with it.
    pub is_meta_changed: bool,
}

/// The answer to one request and what the request did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The response code.
    pub code: Code,
    /// Compact JSON (Content-Format 50); absent where the code says it all.
    pub body: Option<Vec<u8>>,
    /// The tag of `body`, on the list of active sessions only (pager contract, L17).
    pub etag: Option<[u8; 8]>,
    /// What to store, transmit and notify.
    pub effects: Effects,
}

/// A request that is not done, and the sentence for its sender.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {sentence}")]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) sentence: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { code, sentence }
    }

    pub(crate) fn bad(sentence: impl Into<String>) -> Self {
        Self::new(Code::BAD_REQUEST, sentence)
    }

    pub(crate) fn no_such_method() -> Self {
        Self::new(
            Code::METHOD_NOT_ALLOWED,
            "The resource does not have this method; see its page for those it has.",
        )
    }

    pub(crate) fn absent(number: u16) -> Self {
        Self::new(
            Code::NOT_FOUND,
            format!("No active session has pager {number}; create one with POST /v1/sessions."),
        )
    }
}

/// Refuses every query option. An option that is not understood is never skipped: a mistyped
/// `number` would otherwise address all sessions.
pub(crate) fn no_query(query: &[String]) -> Result<(), Refusal> {
    match query {
        [] => Ok(()),
        _ => Err(Refusal::bad(
            "This resource takes no query option; leave the query out.",
        )),
    }
}

/// Reads the query of `/v1/sessions`: nothing, or one `number=` from 1 to 65535.
pub(crate) fn number_query(query: &[String]) -> Result<Option<u16>, Refusal> {
    let option = match query {
        [] => return Ok(None),
        [option] => option,
        _ => {
            return Err(Refusal::bad(
                "The query has several options; send `number` once and nothing else.",
            ));
        }
    };
    let digits = option.strip_prefix("number=").ok_or_else(|| {
        Refusal::bad("The query option is not `number=`; it is the only one understood here.")
    })?;
    let number = match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse().ok().filter(|&number| number != 0),
        false => None,
    };
    number.map(Some).ok_or_else(|| {
        Refusal::bad("Query option `number` is not a pager; send a whole number from 1 to 65535.")
    })
}

/// Reads the query of `/v1/notify`: nothing, or `action=get_sessions` (pager contract, L8).
pub(crate) fn wants_sessions(query: &[String]) -> Result<bool, Refusal> {
    match query {
        [] => Ok(false),
        [option] if option == "action=get_sessions" => Ok(true),
        _ => Err(Refusal::bad(
            "The query is not understood; send `action=get_sessions` or leave it out.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_good_number_is_a_query() {
        let read = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            number_query(&options).ok()
        };
        assert_eq!(read(&[]), Some(None));
        assert_eq!(read(&["number=23"]), Some(Some(23)));
        assert_eq!(read(&["number=65535"]), Some(Some(65_535)));
        for bad in [
            "",
            "number",
            "number=",
            "number=0",
            "number=65536",
            "number=+5",
            "number=-5",
            "number=abc",
            "number=7 ",
            "number=7.0",
            "nmber=3",
            "Number=3",
            "number=\u{663}",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&["number=3", "number=3"]), None);
        assert_eq!(read(&["number=3", "x=1"]), None);
    }

    #[test]
    fn codes_print_as_coap_writes_them() {
        assert_eq!(Code::NOT_FOUND.to_string(), "4.04");
        assert_eq!(Code::UNSUPPORTED_CONTENT_FORMAT.to_string(), "4.15");
    }
}
