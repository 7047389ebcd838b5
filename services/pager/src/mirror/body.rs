//! What a box says, read leniently: what is missing or odd in one member spoils nothing else, and what is needed is asked for
//! by name (pager contract, 1.2 to 1.5).

use serde::Deserialize;
use serde_json::{Map, Value};
use time::PrimitiveDateTime;
use uuid::Uuid;

use crate::clock::DeviceTime;
use crate::session::{ClearType, State};

/// A body of a box.
#[derive(Debug)]
pub(super) struct Body {
    /// `globalSessionSequence`, where it is one.
    pub(super) sequence: Option<u16>,
    /// The box's clock as it answered.
    pub(super) timestamp: Option<PrimitiveDateTime>,
    pub(super) device_name: Option<String>,
    pub(super) firmware_version: Option<String>,
    pub(super) statistics: Option<Value>,
    pub(super) settings: Option<Value>,
    pub(super) sessions: Option<Vec<Told>>,
    pub(super) history: Option<Vec<Told>>,
    /// Sessions that could not be read.
    pub(super) unreadable: u64,
}

/// A session as a box tells of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) id: u64,
    pub(super) uuid: Uuid,
    pub(super) number: u16,
    pub(super) party_size: u32,
    pub(super) goal_seconds: u32,
    pub(super) created: String,
    pub(super) notified: Option<String>,
    pub(super) cleared: Option<String>,
    pub(super) label: Option<String>,
    pub(super) state: State,
    pub(super) clear_type: Option<ClearType>,
    pub(super) sequence: Option<u16>,
    /// As it was said, unknown members included.
    pub(super) raw: Value,
}

impl Body {
    /// Reads a body; nothing where it is no JSON object.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut map: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let timestamp = text(map.get("timestamp"));
        let timestamp = timestamp.and_then(|text| DeviceTime::parse(&text));
        let mut unreadable = 0;
        let mut list = |value: Option<Value>, is_archived| {
            let Some(Value::Array(items)) = value else {
                return None;
            };
            let told: Vec<Option<Told>> = items
                .into_iter()
                .map(|item| Told::read(item, is_archived))
                .collect();
            unreadable += told.iter().filter(|told| told.is_none()).count() as u64;
            Some(told.into_iter().flatten().collect())
        };
        let sessions = list(map.remove("sessions"), false);
        let history = list(map.remove("session_history"), true);
        let sequence = map.get("globalSessionSequence").and_then(Value::as_u64);
        Some(Self {
            sequence: sequence.and_then(|sequence| u16::try_from(sequence).ok()),
            timestamp: timestamp.map(DeviceTime::get),
            device_name: text(map.get("deviceName")),
            firmware_version: text(map.get("firmwareVersion")),
            statistics: map.remove("statistics").filter(Value::is_object),
            settings: map.remove("settings").filter(Value::is_object),
            sessions,
            history,
            unreadable,
        })
    }
}

/// The members that are needed; the others may be missing (L25).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Needed {
    id: u64,
    uuid: Uuid,
    number: u16,
    created: String,
    #[serde(default)]
    party_size: Option<u32>,
    #[serde(default)]
    goal_in_seconds: Option<u32>,
    #[serde(default)]
    notified: Option<String>,
    #[serde(default)]
    cleared: Option<String>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    state: Option<State>,
    #[serde(default)]
    clear_type: Option<ClearType>,
    #[serde(default)]
    session_sequence: Option<u16>,
}

impl Told {
    fn read(raw: Value, is_archived: bool) -> Option<Self> {
        let needed = Needed::deserialize(&raw).ok()?;
        DeviceTime::parse(&needed.created)?;
        let state = if is_archived || needed.cleared.is_some() {
            State::Cleared
        } else {
            let paged = needed.notified.is_some().then_some(State::Paged);
            needed.state.or(paged).unwrap_or(State::Started)
        };
        let is_stamp = |text: &String| DeviceTime::parse(text).is_some();
        Some(Self {
            id: needed.id,
            uuid: needed.uuid,
            number: needed.number,
            party_size: needed.party_size.unwrap_or(1),
            goal_seconds: needed.goal_in_seconds.unwrap_or(0),
            created: needed.created,
            notified: needed.notified.filter(is_stamp),
            cleared: needed.cleared.filter(is_stamp),
            label: needed.label,
            state,
            clear_type: needed.clear_type,
            sequence: needed.session_sequence,
            raw,
        })
    }
}
