//! What the attributes of forms and of guests with pagers hold, for the document alone.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// What a form's attributes hold beyond those of every kind.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape for the document; `SessionAttributes` has the members"
)]
pub struct FormAttributes {
    /// `saved` or `deleted`.
    #[schema(pattern = "^(saved|deleted)$")]
    state: Option<String>,
    /// When it was last saved, by its source's clock.
    #[schema(format = DateTime)]
    saved: Option<String>,
    /// The device that created or last edited it.
    unit_id: Option<String>,
    /// The values by lower-case name.
    points: Option<BTreeMap<String, PointValue>>,
}

/// What a pager's attributes hold beyond those of every kind.
#[derive(ToSchema)]
#[schema(example = json!({
    "state": "paged", "number": 12, "party_size": 4, "goal": 600, "notified": "2026-11-21T09:05:00Z", "pager_id": 7,
    "session_sequence": 121
}))]
#[expect(
    dead_code,
    reason = "the shape for the document; `SessionAttributes` has the members"
)]
pub struct PagerAttributes {
    /// `started`, `paged`, `cleared` or `removed`.
    #[schema(pattern = "^(started|paged|cleared|removed)$")]
    state: Option<String>,
    /// The pager's number.
    #[schema(minimum = 1, maximum = 65535)]
    number: Option<u16>,
    /// Guests in the party.
    #[schema(minimum = 1, maximum = 1000000)]
    party_size: Option<u32>,
    /// After how many seconds the guest is to be paged.
    #[schema(maximum = 86400)]
    goal: Option<u32>,
    /// When the guest was paged first, by the source's clock.
    #[schema(format = DateTime)]
    notified: Option<String>,
    /// When the session ended, by the source's clock.
    #[schema(format = DateTime)]
    cleared: Option<String>,
    /// How it ended: `STOP` (the guest came) or `REMOVED`.
    #[schema(pattern = "^(STOP|REMOVED)$")]
    clear_type: Option<String>,
    /// The transmitter's own number for the session.
    pager_id: Option<u64>,
    /// The transmitter's `sessionSequence` of the last change; 65535 where it does not know.
    session_sequence: Option<u16>,
}

/// A point of a form.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the shape for the document")]
pub enum PointValue {
    /// A scalar, as text.
    Text(String),
    Raw(RawValue),
    File(FileValue),
}

/// A small piece of embedded binary data.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document")]
pub struct RawValue {
    /// Base64, as it was sent.
    #[serde(rename = "rawData")]
    raw_data: String,
}

/// The description of a file; its bytes are the attachment's content.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document")]
pub struct FileValue {
    filename: String,
    content_type: String,
    /// Size in bytes.
    length: u64,
    /// Lower-case hexadecimal.
    md5: String,
    /// Lower-case hexadecimal.
    sha256: String,
    /// The attachment's id.
    id: String,
}
