//! Points: the named values of a form session (seed 003, `session[data]`).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};

use crate::AttachmentId;

/// A point's name: never empty, folded to lower case, free of brackets and control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointName(String);

/// All points of a session, by name.
pub type Points = BTreeMap<PointName, Point>;

/// A point's value, in the shape that the forms contract gives it on the wire and that the store keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Point {
    /// A scalar. Numbers and booleans arrive printed (M7).
    Text(String),
    /// A small piece of embedded binary data: Base64, kept as it was sent.
    Raw {
        #[serde(rename = "rawData")]
        raw_data: String,
    },
    /// A file; its bytes are in S3.
    Attachment(Attachment),
}

/// What is known of an attachment besides its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// The client's name for the file, without any folder.
    pub filename: String,
    /// The media type that the client gave; never used to serve the bytes.
    pub content_type: String,
    /// Size in bytes.
    pub length: u64,
    /// Lower-case hexadecimal.
    pub md5: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub id: AttachmentId,
}

/// Why a name or a value cannot be a point's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidPoint {
    #[error("a point's name must not be empty")]
    NoName,
    #[error(
        "`{0}` cannot be a point's name: `[`, `]` and control characters are not allowed in it"
    )]
    Name(String),
    #[error("`{0}` cannot be a point's name: it is reserved")]
    Reserved(String),
    #[error("rawData is not Base64")]
    NotBase64,
    #[error("the value contains the character U+0000, which cannot be stored")]
    Nul,
}

impl PointName {
    /// Folds to lower case (M8) and checks.
    pub fn parse(name: &str) -> Result<Self, InvalidPoint> {
        if name.is_empty() {
            return Err(InvalidPoint::NoName);
        }
        if name.contains(['[', ']']) || name.chars().any(char::is_control) {
            return Err(InvalidPoint::Name(name.escape_debug().to_string()));
        }
        let folded = name.to_lowercase();
        // Harmless here, but not in the objects that dashboards merge the data into.
        if folded == "__proto__" {
            return Err(InvalidPoint::Reserved(folded));
        }
        Ok(Self(folded))
    }

    /// The folded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Point {
    /// A scalar value.
    pub fn text(value: String) -> Result<Self, InvalidPoint> {
        if value.contains('\0') {
            return Err(InvalidPoint::Nul);
        }
        Ok(Self::Text(value))
    }

    /// Embedded binary data. Either Base64 alphabet, padded or not, white space between (the seed's own sample needs
    /// all of that); what is kept is the text, so that it reads back as it was sent.
    pub fn raw(raw_data: String) -> Result<Self, InvalidPoint> {
        let symbols = raw_data.trim_end_matches(|c: char| c == '=' || c.is_ascii_whitespace());
        let tail = &raw_data[symbols.len()..];
        let padding = tail.bytes().filter(|byte| *byte == b'=').count();
        if padding > 2 || lenient_base64().decode(symbols.as_bytes()).is_err() {
            return Err(InvalidPoint::NotBase64);
        }
        Ok(Self::Raw { raw_data })
    }

    /// The attachment, where the value is one.
    pub fn attachment(&self) -> Option<&Attachment> {
        match self {
            Self::Attachment(attachment) => Some(attachment),
            _ => None,
        }
    }

    /// Whether both hold the same value. Two uploads of the same file are the same value.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Attachment(a), Self::Attachment(b)) => a.same(b),
            _ => self == other,
        }
    }
}

impl Attachment {
    /// Whether both describe the same file; the id, new with every upload, does not count.
    pub fn same(&self, other: &Self) -> bool {
        (
            &self.sha256,
            self.length,
            &self.filename,
            &self.content_type,
        ) == (
            &other.sha256,
            other.length,
            &other.filename,
            &other.content_type,
        )
    }
}

fn lenient_base64() -> Encoding {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    specification.translate.from.push_str("-_");
    specification.translate.to.push_str("+/");
    specification.ignore.push_str(" \t\r\n");
    specification.check_trailing_bits = false;
    specification
        .encoding()
        .expect("the specification is a valid one")
}

impl Borrow<str> for PointName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PointName {
    type Error = InvalidPoint;

    fn try_from(name: String) -> Result<Self, InvalidPoint> {
        Self::parse(&name)
    }
}

impl From<PointName> for String {
    fn from(name: PointName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_and_checked() {
        assert_eq!(
            PointName::parse("Point1").map(String::from),
            Ok("point1".into())
        );
        assert_eq!(
            PointName::parse("__timezone__").map(String::from),
            Ok("__timezone__".into())
        );
        assert_eq!(PointName::parse(""), Err(InvalidPoint::NoName));
        for bad in ["a[b", "a]", "a\nb", "\0", "__proto__", "__PROTO__"] {
            assert!(PointName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn raw_data_is_base64_and_kept_as_sent() {
        for good in [
            "",
            "AAEC",
            "AAE=",
            "AA==",
            "AA",
            "-_-_",
            "+/+/",
            "AAEC\r\nAAEC",
            "base-64-data-goes-here==",
        ] {
            let point = Point::raw(good.to_owned());
            assert_eq!(
                point,
                Ok(Point::Raw {
                    raw_data: good.into()
                }),
                "{good:?}"
            );
        }
        for bad in ["A", "AAECA", "AA===", "A=A", "%%%%", "AA\0A", "é"] {
            assert_eq!(
                Point::raw(bad.into()),
                Err(InvalidPoint::NotBase64),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_stored_point_reads_back() {
        let attachment = Attachment {
            filename: "photo.jpg".into(),
            content_type: "image/jpeg".into(),
            length: 3,
            md5: "m".into(),
            sha256: "s".into(),
            id: AttachmentId::generate(),
        };
        for point in [
            Point::Text("x".into()),
            Point::Raw {
                raw_data: "AA==".into(),
            },
            Point::Attachment(attachment),
        ] {
            let json = serde_json::to_string(&point).expect("a point is JSON");
            assert_eq!(
                serde_json::from_str::<Point>(&json).expect("and back"),
                point
            );
        }
    }
}
