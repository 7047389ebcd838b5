//! Request bodies as types that hold only allowed values (pager contract, L22, L23 and L28).
//! Unknown keys are ignored and the last of equal keys counts.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::request::Refusal;

/// Most seconds a goal may have (pager contract, L28).
pub const MAX_GOAL_SECONDS: u32 = 86_400;
/// Most bytes of UTF-8 in a label or message.
pub const MAX_TEXT_BYTES: usize = 1_000;
/// The page mode when none is asked for (pager contract, L24).
pub const DEFAULT_PAGE_MODE: &str = "Flash30Sec";
/// The mode names seen in public documents and code (pager contract, 1.7);
/// [`crate::Config::extra_page_modes`] adds to them.
pub const PAGE_MODES: [&str; 5] = [
    DEFAULT_PAGE_MODE,
    "Flash1Sec",
    "Flash5Min",
    "Glow15Times",
    "Vibe1",
];

/// The members of a JSON object, not yet checked.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(payload) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(Refusal::bad(
                "The body is JSON but not an object; send an object such as {\"number\":23}.",
            )),
            Err(error) => Err(Refusal::bad(format!(
                "The body is not JSON at line {} column {}; send one JSON object in UTF-8.",
                error.line(),
                error.column(),
            ))),
        }
    }

    /// The same, but nothing at all is an empty object (pager contract, L27).
    pub(crate) fn parse_or_empty(payload: &[u8]) -> Result<Self, Refusal> {
        match payload {
            [] => Ok(Self(Map::new())),
            _ => Self::parse(payload),
        }
    }

    /// A whole number that fits both `range` and `T`.
    pub(crate) fn integer<T: TryFrom<u64>>(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.0.get(key) else {
            return Ok(None);
        };
        let fitting = value.as_u64().filter(|number| range.contains(number));
        match fitting.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::bad(format!(
                "`{key}` is not allowed; send a whole JSON number from {} to {}.",
                range.start(),
                range.end(),
            ))),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT_BYTES => Ok(Some(text)),
            Some(Value::String(_)) => Err(Refusal::bad(format!(
                "`{key}` is too long; send at most {MAX_TEXT_BYTES} bytes of UTF-8."
            ))),
            Some(_) => Err(Refusal::bad(format!(
                "`{key}` is not a JSON string; send one."
            ))),
        }
    }

    fn number(&self) -> Result<Option<u16>, Refusal> {
        self.integer("number", 1..=u16::MAX.into())
    }

    fn label(&self) -> Result<Option<Option<String>>, Refusal> {
        if self.0.get("label").is_some_and(Value::is_null) {
            return Ok(Some(None));
        }
        let label = self.text("label")?;
        Ok(label.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty())))
    }
}

/// How to page; what is absent falls back to the default mode and the setting's system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageOptions {
    pub(crate) mode: String,
    pub(crate) message: Option<String>,
    pub(crate) system_id: Option<u16>,
}

impl PageOptions {
    pub(crate) fn auto() -> Self {
        Self {
            mode: DEFAULT_PAGE_MODE.to_owned(),
            message: None,
            system_id: None,
        }
    }

    fn parse(fields: &Fields, extra_modes: &[String]) -> Result<Self, Refusal> {
        let mode = fields.text("pageMode")?.unwrap_or(DEFAULT_PAGE_MODE);
        if !PAGE_MODES.contains(&mode) && !extra_modes.iter().any(|extra| extra == mode) {
            return Err(Refusal::bad(format!(
                "`pageMode` is not known; send one of {} or leave it out.",
                PAGE_MODES.join(", ")
            )));
        }
        Ok(Self {
            mode: mode.to_owned(),
            message: fields.text("message")?.map(str::to_owned),
            system_id: fields.integer("systemId", 0..=u16::MAX.into())?,
        })
    }
}

/// What a request does to a session beyond its fields.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Page(PageOptions),
    Clear,
    Remove,
}

/// The body of POST and PUT on `/v1/sessions`; what is absent stays as it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionPatch {
    pub(crate) goal_seconds: Option<u32>,
    pub(crate) label: Option<Option<String>>,
    pub(crate) party_size: Option<u32>,
    pub(crate) action: Option<Action>,
}

impl SessionPatch {
    pub(crate) fn parse(fields: &Fields, extra_modes: &[String]) -> Result<Self, Refusal> {
        let action = match fields.text("action")? {
            None => None,
            Some("page") => Some(Action::Page(PageOptions::parse(fields, extra_modes)?)),
            Some("clear") => Some(Action::Clear),
            Some("remove") => Some(Action::Remove),
            Some(_) => {
                return Err(Refusal::bad(
                    "`action` is not known; send `page`, `clear` or `remove` or leave it out.",
                ));
            }
        };
        Ok(Self {
            goal_seconds: fields.integer("goal", 0..=MAX_GOAL_SECONDS.into())?,
            label: fields.label()?,
            party_size: fields.integer("partySize", 1..=u32::MAX.into())?,
            action,
        })
    }
}

/// The pager of a POST on `/v1/sessions`: the body's, or the query's, which the page's address
/// suggests as an older form (pager contract, 1.5). Two different ones are refused.
pub(crate) fn post_number(fields: &Fields, query: Option<u16>) -> Result<u16, Refusal> {
    match (fields.number()?, query) {
        (Some(body), Some(query)) if body != query => Err(Refusal::bad(
            "`number` in the body differs from the query; send it in the body only.",
        )),
        (Some(number), _) | (None, Some(number)) => Ok(number),
        (None, None) => Err(Refusal::bad(
            "`number` is missing in the body; send the pager as a whole number from 1 to 65535.",
        )),
    }
}

/// The body of POST `/v1/page`.
pub(crate) fn standalone_page(
    payload: &[u8],
    extra_modes: &[String],
) -> Result<(u16, PageOptions), Refusal> {
    let fields = Fields::parse(payload)?;
    let number = post_number(&fields, None)?;
    Ok((number, PageOptions::parse(&fields, extra_modes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(body: &str) -> Result<(u16, SessionPatch), Refusal> {
        let fields = Fields::parse(body.as_bytes())?;
        Ok((
            post_number(&fields, None)?,
            SessionPatch::parse(&fields, &[])?,
        ))
    }

    #[test]
    fn the_documented_example_is_read() {
        let body = r#"{ "number": 66, "goal": 60, "label": "Sarah", "partySize": 4 }"#;
        let (number, patch) = patch(body).unwrap();
        assert_eq!(number, 66);
        assert_eq!(patch.goal_seconds, Some(60));
        assert_eq!(patch.label, Some(Some("Sarah".to_owned())));
        assert_eq!((patch.party_size, patch.action), (Some(4), None));
    }

    #[test]
    fn unknown_keys_are_ignored_and_the_last_of_equal_ones_counts() {
        let (number, patch) = patch(r#"{"number":1,"x":[{}],"number":2,"label":""}"#).unwrap();
        assert_eq!((number, patch.label), (2, Some(None)));
    }

    #[test]
    fn bad_values_are_refused() {
        for body in [
            "",
            "{",
            "[]",
            "7",
            "{}",
            r#"{"number":0}"#,
            r#"{"number":70000}"#,
            r#"{"number":"7"}"#,
            r#"{"number":7.5}"#,
            r#"{"number":-1}"#,
            r#"{"number":null}"#,
            r#"{"number":1e400}"#,
            r#"{"number":1,"goal":86401}"#,
            r#"{"number":1,"goal":"60"}"#,
            r#"{"number":1,"partySize":0}"#,
            r#"{"number":1,"partySize":4294967296}"#,
            r#"{"number":1,"label":5}"#,
            r#"{"number":1,"action":"fly"}"#,
            r#"{"number":1,"action":"page","pageMode":"Moo"}"#,
            r#"{"number":1,"action":"page","systemId":65536}"#,
            "{\"number\":1}\u{feff}",
        ] {
            assert!(patch(body).is_err(), "{body}");
        }
        let long = format!(r#"{{"number":1,"label":"{}"}}"#, "x".repeat(1_001));
        assert!(patch(&long).is_err());
        assert!(patch(&format!("{{\"number\":1,\"a\":{}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn page_options_without_page_are_ignored() {
        let body = r#"{"number":1,"pageMode":"Moo","message":5,"systemId":-1}"#;
        assert_eq!(patch(body).unwrap().1.action, None);
    }

    #[test]
    fn extra_modes_are_known() {
        let extra = ["Vibe9".to_owned()];
        let body = br#"{"number":4,"pageMode":"Vibe9","message":"hi","systemId":3}"#;
        let (number, options) = standalone_page(body, &extra).unwrap();
        assert_eq!((number, options.mode.as_str()), (4, "Vibe9"));
        assert_eq!(options.system_id, Some(3));
    }
}
