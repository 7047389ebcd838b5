//! Identifiers. Each is a type of its own, so that an organization is never passed where a session is meant.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The organization (tenant): a UUIDv7, first part of every key in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrgId(pub Uuid);

/// A project's number: a positive integer, unique across the system (seed 003, `project_id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct ProjectId(i64);

/// Rollcall's own id of a session: a UUIDv8, the hash of what names the session at its source.
///
/// Because it follows from the name, it is known before a byte of the session is stored: objects in S3 can carry it,
/// and a repeated session meets the first one on the primary key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// The bytes of one point at one time: a UUIDv7, last part of the object's key in S3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttachmentId(pub Uuid);

/// Where an attachment's bytes are in S3: `org/project/session/attachment`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ObjectKey {
    pub org: OrgId,
    pub project: ProjectId,
    pub session: SessionId,
    pub attachment: AttachmentId,
}

/// Text that is not an identifier of the kind asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {expected}")]
pub struct InvalidId {
    what: &'static str,
    expected: &'static str,
}

impl OrgId {
    /// A new id, ordered by time of creation.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl AttachmentId {
    /// A new id, ordered by time of creation.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl SessionId {
    /// The id of the session that `service` of `org` knows as `source_id`, compared without regard to case
    /// (forms-http contract, decision M5).
    pub fn of(org: OrgId, service: &str, source_id: &str) -> Self {
        Self::exactly(org, service, &source_id.to_lowercase())
    }

    /// The same where names that differ by case are two: brokers' clients `A` and `a`.
    pub fn exactly(org: OrgId, service: &str, source_id: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(org.0.as_bytes());
        hash.update(&(service.len() as u64).to_be_bytes());
        hash.update(service.as_bytes());
        hash.update(source_id.as_bytes());
        let digest = hash.finish();
        let (head, _) = digest
            .as_ref()
            .split_first_chunk::<16>()
            .expect("a SHA-256 digest has 32 bytes");
        Self(Uuid::new_v8(*head))
    }
}

impl ProjectId {
    /// The number, or `None` where it is not positive.
    pub fn new(number: i64) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The number as the store and the wire carry it.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl FromStr for ProjectId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok().and_then(Self::new))
            .flatten()
            .ok_or(InvalidId {
                what: "project_id",
                expected: "a positive integer",
            })
    }
}

impl<'de> Deserialize<'de> for ProjectId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        Self::new(number)
            .ok_or_else(|| serde::de::Error::custom("project_id must be a positive integer"))
    }
}

impl From<Uuid> for OrgId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl FromStr for ObjectKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            what: "an object's key",
            expected: "organization/project/session/attachment",
        };
        let uuid = |part: &str| Uuid::try_parse(part).map_err(|_| invalid());
        let key = match *text.split('/').collect::<Vec<_>>() {
            [org, project, session, attachment] => Self {
                org: OrgId(uuid(org)?),
                project: project.parse()?,
                session: SessionId(uuid(session)?),
                attachment: AttachmentId(uuid(attachment)?),
            },
            _ => return Err(invalid()),
        };
        // A UUID can be spelled in several ways; only what we write is a key of ours.
        (key.to_string() == text).then_some(key).ok_or_else(invalid)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            org,
            project,
            session,
            attachment,
        } = self;
        write!(f, "{org}/{project}/{session}/{attachment}")
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_id_is_a_positive_integer() {
        assert_eq!("39".parse::<ProjectId>().map(ProjectId::get), Ok(39));
        for bad in ["", "0", "-1", "+1", "1.5", "x", "99999999999999999999"] {
            assert!(bad.parse::<ProjectId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_object_key_reads_back() {
        let org = OrgId::generate();
        let key = ObjectKey {
            org,
            project: ProjectId(3),
            session: SessionId::of(org, "forms-3", "s"),
            attachment: AttachmentId::generate(),
        };
        assert_eq!(key.to_string().parse(), Ok(key));
        let loud = key.to_string().to_uppercase();
        for bad in ["", "a/b/c/d", "x", &format!("{key}/x"), &loud] {
            assert!(bad.parse::<ObjectKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_id_follows_from_its_name_alone() {
        let org = OrgId(Uuid::from_u128(7));
        let id = SessionId::of(org, "forms-1", "ABC");
        assert_eq!(id, SessionId::of(org, "forms-1", "abc"));
        assert_ne!(id, SessionId::of(org, "forms-1a", "bc"));
        assert_ne!(id, SessionId::exactly(org, "forms-1", "ABC"));
        assert_ne!(
            id,
            SessionId::of(OrgId(Uuid::from_u128(8)), "forms-1", "abc")
        );
        assert_eq!(id.0.get_version_num(), 8);
    }
}
