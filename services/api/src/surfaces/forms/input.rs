//! A session as a client writes it, in JSON or in fields, and the checks that both share.
//!
//! What is parsed here cannot hold a bad value: names are never empty, times are whole seconds that the store can keep,
//! a field or key that stands twice is refused.

use std::collections::BTreeMap;

use rollcall_model::{Limits, Merge, Point, PointChange, PointName, Points, Put};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::fields::FieldPath;
use crate::error::{ApiError, Problem};

/// 9999-12-31T23:59:59Z, the last second that prints with four digits of year.
const LAST_SECOND: i64 = 253_402_300_799;
/// Longest `uuid` and `unit_id`, in bytes.
const NAME_BYTES: usize = 255;
/// What a session shows besides what can be written; a client that sends back what it read means nothing by it.
const SHOWN: [&str; 6] = [
    "created_timestamp",
    "saved_timestamp",
    "received",
    "received_timestamp",
    "received_from",
    "sub_project_sessions",
];

/// A session as a client wrote it, for whatever purpose.
#[derive(Debug, Default)]
pub struct SessionInput {
    pub uuid: Option<Name>,
    pub unit_id: Option<Name>,
    pub created: Option<UnixSeconds>,
    pub saved: Option<UnixSeconds>,
    pub is_deleted: Option<bool>,
    pub points: BTreeMap<PointName, PointInput>,
}

/// A `uuid` or `unit_id`: 1 to 255 bytes, no control characters (M5).
#[derive(Clone, Debug)]
pub struct Name(pub String);

/// Whole seconds since 1970 (M6: a digit string counts as an integer).
#[derive(Clone, Copy, Debug)]
pub struct UnixSeconds(pub OffsetDateTime);

/// A point as written.
#[derive(Clone, Debug)]
pub enum PointInput {
    Value(Point),
    /// JSON's null: the empty string in a create, no change in an update (M7).
    Null,
    /// What a point with a file reads back as.
    Described {
        filename: String,
    },
}

impl SessionInput {
    /// The session to create; `uuid` apart.
    pub fn into_put(self) -> Result<Put, ApiError> {
        let Some(unit_id) = self.unit_id else {
            return Err(ApiError::invalid(
                "unit_id_missing",
                "session[unit_id] is missing; it names the device that created the session",
            ));
        };
        let mut points = Points::new();
        for (name, point) in self.points {
            let value = match point {
                PointInput::Value(value) => value,
                PointInput::Null => Point::Text(String::new()),
                PointInput::Described { .. } => {
                    return Err(ApiError::invalid(
                        "file_not_sent",
                        format!(
                            "session[data][{name}] describes a file; send the file itself, as multipart/form-data"
                        ),
                    ));
                }
            };
            points.insert(name, value);
        }
        Ok(Put {
            unit_id: unit_id.0,
            created: self.created.map(|seconds| seconds.0),
            saved: self.saved.map(|seconds| seconds.0),
            points,
        })
    }

    /// The changes to make to an existing session. `uuid` and `created` are not among them (contract §2.4, update).
    pub fn into_merge(self, limits: &Limits) -> Merge {
        let change = |(name, point)| {
            let change = match point {
                PointInput::Value(value) => PointChange::Set(value),
                PointInput::Described { filename } => PointChange::Keep { filename },
                PointInput::Null => return None,
            };
            Some((name, change))
        };
        Merge {
            unit_id: self.unit_id.map(|name| name.0),
            saved: self.saved.map(|seconds| seconds.0),
            points: self.points.into_iter().filter_map(change).collect(),
            deleted: self.is_deleted,
            max_points: limits.points,
            max_bytes: limits.body_bytes,
        }
    }

    /// Takes one field of a form; fields outside `session[..]` mean nothing here.
    pub fn set_field(
        &mut self,
        path: &FieldPath<'_>,
        value: String,
        limits: &Limits,
    ) -> Result<(), Problem> {
        if path.root != "session" {
            return Ok(());
        }
        match *path.keys.as_slice() {
            ["uuid"] => fill(&mut self.uuid, "uuid", Name::parse(value)?),
            ["unit_id"] => fill(&mut self.unit_id, "unit_id", Name::parse(value)?),
            ["created"] => fill(&mut self.created, "created", UnixSeconds::parse(&value)?),
            ["saved"] => fill(&mut self.saved, "saved", UnixSeconds::parse(&value)?),
            ["data", name] => self.set_point(
                name,
                Point::text(value).map_err(|e| of_point(name, &e))?,
                limits,
            ),
            ["data", name, "rawData"] => self.set_point(
                name,
                Point::raw(value).map_err(|e| of_point(name, &e))?,
                limits,
            ),
            [name] if SHOWN.contains(&name) || name == "is_deleted" => Ok(()),
            _ => Err(Problem::new(
                "field_unknown",
                format!(
                    "session[{}] is not a field of a session; there are uuid, unit_id, created, saved, data[<point>] \
                     and data[<point>][rawData]",
                    path.keys.join("][").escape_debug()
                ),
            )),
        }
    }

    /// Puts a value into a point that is not there yet.
    pub fn set_point(&mut self, name: &str, point: Point, limits: &Limits) -> Result<(), Problem> {
        let name = point_name(name, limits)?;
        insert(&mut self.points, name, PointInput::Value(point), limits)
    }

    /// Bounds that the parser of JSON does not know.
    pub fn check(self, limits: &Limits) -> Result<Self, Problem> {
        if self.points.len() > limits.points {
            return Err(too_many_points(limits));
        }
        match self
            .points
            .keys()
            .find(|name| name.as_str().len() > limits.name_bytes)
        {
            Some(name) => Err(name_too_long(name.as_str(), limits)),
            None => Ok(self),
        }
    }
}

/// A point's name, within the limits.
pub fn point_name(name: &str, limits: &Limits) -> Result<PointName, Problem> {
    if name.len() > limits.name_bytes {
        return Err(name_too_long(name, limits));
    }
    PointName::parse(name).map_err(|error| Problem::new("point_invalid", error.to_string()))
}

fn insert(
    points: &mut BTreeMap<PointName, PointInput>,
    name: PointName,
    point: PointInput,
    limits: &Limits,
) -> Result<(), Problem> {
    if points.contains_key(&name) {
        return Err(Problem::new("field_duplicate", twice(&name)));
    }
    if points.len() == limits.points {
        return Err(too_many_points(limits));
    }
    points.insert(name, point);
    Ok(())
}

fn fill<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), Problem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::new(
            "field_duplicate",
            format!("session[{name}] stands twice; send it once"),
        )),
    }
}

fn twice(name: &PointName) -> String {
    format!(
        "the point {name} stands twice (names are compared without regard to case); send it once"
    )
}

fn too_many_points(limits: &Limits) -> Problem {
    Problem::new(
        "too_many_points",
        format!(
            "a session may have at most {} points (limit: points)",
            limits.points
        ),
    )
}

fn name_too_long(name: &str, limits: &Limits) -> Problem {
    let (length, limit) = (name.len(), limits.name_bytes);
    Problem::new(
        "name_too_long",
        format!(
            "a point's name may have at most {limit} bytes (limit: name), this one has {length}"
        ),
    )
}

fn of_point(name: &str, error: &rollcall_model::InvalidPoint) -> Problem {
    Problem::new(
        "point_invalid",
        format!("session[data][{}]: {error}", name.escape_debug()),
    )
}

impl Name {
    /// Checks a name.
    pub fn parse(text: String) -> Result<Self, Problem> {
        let wrong = |what: &str| {
            Err(Problem::new(
                "name_invalid",
                format!("a uuid or unit_id {what}"),
            ))
        };
        match text {
            text if text.is_empty() => wrong("must not be empty; leave uuid out to have one made"),
            text if text.len() > NAME_BYTES => wrong("may have at most 255 bytes"),
            text if text.chars().any(char::is_control) => {
                wrong("must not contain control characters")
            }
            text => Ok(Self(text)),
        }
    }
}

impl UnixSeconds {
    fn parse(text: &str) -> Result<Self, Problem> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = text
            .parse::<i64>()
            .ok()
            .filter(|seconds| digits && *seconds <= LAST_SECOND);
        seconds
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .map(Self)
            .ok_or_else(|| {
                Problem::new(
                    "time_invalid",
                    "created and saved must be integers: whole seconds since 1970, up to the year 9999",
                )
            })
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text).map_err(|problem| D::Error::custom(problem.message))
    }
}

impl<'de> Deserialize<'de> for UnixSeconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = raw
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or(raw);
        Self::parse(text).map_err(|problem| D::Error::custom(problem.message))
    }
}

impl<'de> Deserialize<'de> for PointInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Besides rawData, what a point with a file reads back as; anything else would be lost without a word.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Hash {
            #[serde(rename = "rawData")]
            raw_data: Option<String>,
            filename: Option<String>,
            content_type: Option<IgnoredAny>,
            length: Option<IgnoredAny>,
            md5: Option<IgnoredAny>,
            sha256: Option<IgnoredAny>,
            id: Option<IgnoredAny>,
        }

        // The text itself: a number is kept as it was written.
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let inside = |error: serde_json::Error| D::Error::custom(without_position(&error));
        let point = match raw.as_bytes().first() {
            Some(b'"') => Point::text(serde_json::from_str(raw).map_err(inside)?),
            Some(b'{') => match serde_json::from_str::<Hash>(raw).map_err(inside)? {
                Hash {
                    raw_data: Some(raw_data),
                    filename: None,
                    content_type: None,
                    length: None,
                    md5: None,
                    sha256: None,
                    id: None,
                } => Point::raw(raw_data),
                Hash {
                    raw_data: None,
                    filename: Some(filename),
                    ..
                } => return Ok(Self::Described { filename }),
                _ => {
                    return Err(D::Error::custom(
                        "a point's value may be a hash only with rawData, or as a file's description reads back",
                    ));
                }
            },
            Some(b'[') => return Err(D::Error::custom("a point's value may not be an array")),
            Some(b'n') => return Ok(Self::Null),
            _ => Point::text(raw.to_owned()),
        };
        point.map(Self::Value).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SessionInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SessionVisitor)
    }
}

struct SessionVisitor;

impl<'de> Visitor<'de> for SessionVisitor {
    type Value = SessionInput;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "a session: an object with unit_id, data and, as wanted, uuid, created and saved",
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SessionInput, A::Error> {
        fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
            slot: &mut Option<T>,
            key: &str,
            map: &mut A,
        ) -> Result<(), A::Error> {
            // A null is as good as nothing.
            if let Some(value) = map.next_value::<Option<T>>()? {
                fill(slot, key, value).map_err(|problem| A::Error::custom(problem.message))?;
            }
            Ok(())
        }

        let mut input = SessionInput::default();
        let mut data = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "uuid" => once(&mut input.uuid, &key, &mut map)?,
                "unit_id" => once(&mut input.unit_id, &key, &mut map)?,
                "created" => once(&mut input.created, &key, &mut map)?,
                "saved" => once(&mut input.saved, &key, &mut map)?,
                "is_deleted" => once(&mut input.is_deleted, &key, &mut map)?,
                "data" => once(&mut data, &key, &mut map)?,
                shown if SHOWN.contains(&shown) => {
                    map.next_value::<IgnoredAny>()?;
                }
                other => {
                    let other = other.escape_debug();
                    return Err(A::Error::custom(format!(
                        "`{other}` is not a key of a session; there are uuid, unit_id, created, saved and data"
                    )));
                }
            }
        }
        input.points = data.map(|Data(points)| points).unwrap_or_default();
        Ok(input)
    }
}

struct Data(BTreeMap<PointName, PointInput>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DataVisitor;

        impl<'de> Visitor<'de> for DataVisitor {
            type Value = Data;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of points")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
                let mut points = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let name = PointName::parse(&name).map_err(A::Error::custom)?;
                    if points.contains_key(&name) {
                        return Err(A::Error::custom(twice(&name)));
                    }
                    points.insert(name, map.next_value()?);
                }
                Ok(Data(points))
            }
        }

        deserializer.deserialize_map(DataVisitor)
    }
}

/// An error inside a value whose own lines and columns would mislead: the outer parser adds the right ones.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
