//! The label sets of the metrics. Every value is bounded: an enum, a word that the code spells out,
//! or a route's pattern. Nothing that a stranger sends and no tenant's id becomes a label.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// An HTTP method. Methods are free text on the wire, so unknown ones share one value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Method {
    Delete,
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Other,
}

impl From<&str> for Method {
    fn from(method: &str) -> Self {
        match method {
            "DELETE" => Self::Delete,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            _ => Self::Other,
        }
    }
}

impl EncodeLabelValue for Method {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        encoder.write_str(match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Other => "other",
        })
    }
}

/// What a connection of the database pool is doing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PoolState {
    Idle,
    Used,
}

impl EncodeLabelValue for PoolState {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        encoder.write_str(match self {
            Self::Idle => "idle",
            Self::Used => "used",
        })
    }
}

/// Which way an attachment's bytes went, seen from the service.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    In,
    Out,
}

impl EncodeLabelValue for Direction {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        encoder.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

/// What is known of a request before it is answered.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct RequestLabels {
    pub surface: &'static str,
    pub method: Method,
    /// The pattern of the route, such as `/v1/sessions/{id}`; never the path that was asked for.
    pub route: Cow<'static, str>,
}

/// A request and the status that it was answered with.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct ResponseLabels {
    #[prometheus(flatten)]
    pub request: RequestLabels,
    pub status: u16,
}

/// One surface (wire contract) of the service.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct SurfaceLabels {
    pub surface: &'static str,
}

/// A source that a relay watches, by the name that its configuration gives it.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct SourceLabels {
    pub source: String,
}

/// Connections of the database pool by what they do.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct PoolStateLabels {
    pub state: PoolState,
}

/// An S3 operation by its name, such as `put_object`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct S3OperationLabels {
    pub operation: &'static str,
}

/// An S3 operation and how it ended, such as `ok`, `not_found`, `error`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct S3RequestLabels {
    pub operation: &'static str,
    pub outcome: &'static str,
}

/// Bytes by which way they went.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct DirectionLabels {
    pub direction: Direction,
}

/// Why a credential was refused, such as `expired`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct AuthFailureLabels {
    pub reason: &'static str,
}

/// The kind of a session, and what became of a change to one, such as `created`, `repeated`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct SessionChangeLabels {
    pub kind: &'static str,
    pub outcome: &'static str,
}

/// Why an object was swept from S3.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct SweepLabels {
    pub reason: &'static str,
}

/// A background task, by its name.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
pub struct TaskLabels {
    pub task: &'static str,
}
