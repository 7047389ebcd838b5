//! The JSON that clients see: the envelope and what it carries, keys in the order of the
//! contract's examples (pager contract, 1.2 to 1.5).

use serde::Serialize;
use uuid::Uuid;

use crate::clock::{DeviceTime, Stamp};
use crate::session::{ClearType, Session, State};
use crate::settings::Settings;
use crate::statistics::Summary;

/// Every body but an error. `responseTypes` names the members that follow.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope<'a> {
    pub(crate) response_types: &'static [&'static str],
    pub(crate) global_session_sequence: u16,
    pub(crate) timestamp: DeviceTime,
    pub(crate) device_name: &'a str,
    pub(crate) firmware_version: &'a str,
    #[serde(flatten)]
    pub(crate) content: Content<'a>,
}

#[derive(Default, Serialize)]
pub(crate) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settings: Option<SettingsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statistics: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sessions: Option<Vec<SessionBody<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session_history: Option<Vec<SessionBody<'a>>>,
}

impl Content<'_> {
    /// Names what is present; `ping` is what carries nothing.
    pub(crate) fn types(&self) -> &'static [&'static str] {
        match self {
            Self {
                sessions: Some(_),
                statistics: Some(_),
                ..
            } => &["sessions", "statistics"],
            Self {
                sessions: Some(_), ..
            } => &["sessions"],
            Self {
                statistics: Some(_),
                ..
            } => &["statistics"],
            Self {
                session_history: Some(_),
                ..
            } => &["session_history"],
            Self {
                settings: Some(_), ..
            } => &["settings"],
            _ => &["ping"],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettingsBody {
    datetime: DeviceTime,
    system_id: u16,
    default_target_goal: u32,
    statistics_clear_mark: u8,
}

impl SettingsBody {
    pub(crate) fn new(settings: &Settings, datetime: DeviceTime) -> Self {
        Self {
            datetime,
            system_id: settings.system_id,
            default_target_goal: settings.default_target_goal,
            statistics_clear_mark: settings.statistics_clear_mark,
        }
    }
}

/// A session; moments that did not happen are left out, a label that is not set is null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionBody<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_sequence: Option<u16>,
    uuid: Uuid,
    number: u16,
    party_size: u32,
    goal_in_seconds: u32,
    created: DeviceTime,
    started: DeviceTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    notified: Option<DeviceTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared: Option<DeviceTime>,
    label: Option<&'a str>,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_type: Option<ClearType>,
}

impl<'a> SessionBody<'a> {
    /// As active lists and notifications show it, with its sequence (pager contract, L6).
    pub(crate) fn new(session: &'a Session) -> Self {
        let device = |stamp: Stamp| stamp.device;
        Self {
            id: session.id,
            session_sequence: Some(session.sequence),
            uuid: session.uuid,
            number: session.number,
            party_size: session.party_size,
            goal_in_seconds: session.goal_seconds,
            created: session.created.device,
            started: session.created.device,
            notified: session.notified.map(device),
            cleared: session.cleared.map(device),
            label: session.label.as_deref(),
            state: session.state,
            clear_type: session.clear_type,
        }
    }

    /// As the history shows it, without a sequence (pager contract, L25).
    pub(crate) fn archived(session: &'a Session) -> Self {
        Self {
            session_sequence: None,
            ..Self::new(session)
        }
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

/// The body of a refusal: one sentence (pager contract, L22).
pub(crate) fn error(sentence: &str) -> Vec<u8> {
    json(&ErrorBody { error: sentence })
}

pub(crate) fn json<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).expect("every key is a string and no value's serialization fails")
}
