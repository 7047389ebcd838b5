//! The one error of the api, and how each surface says it.
//!
//! An [`ApiError`] is named by its meaning; [`crate::middleware::render`] turns it into the dialect of the surface it
//! happened on. Text from inside (SQL, S3, panics) goes to the log, never to a client.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::surfaces::broker;

/// What went wrong, by meaning. `code` is stable; `message` says what is wrong, where, and what to do.
#[derive(Debug)]
pub enum ApiError {
    Invalid(Problem),
    Unauthenticated(Problem),
    Forbidden(Problem),
    NotFound(Problem),
    MethodNotAllowed {
        allow: String,
    },
    /// The request took longer than the configured total time.
    TimedOut(Problem),
    Conflict(Problem),
    TooLarge(Problem),
    UnsupportedMedia(Problem),
    /// None of the media types that the client takes can be given.
    NotAcceptable(Problem),
    /// `If-Match` names another state than the one that is there.
    PreconditionFailed(Problem),
    /// Postgres or S3 is away; the same request may work soon.
    Unavailable(Problem),
    Internal(anyhow::Error),
}

/// A stable code and a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub code: &'static str,
    pub message: String,
    /// The part of the request that is meant.
    pub source: Option<Source>,
}

/// A part of a request that an error is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A parameter of the query string.
    Parameter(String),
    Header(&'static str),
    /// A member of the body, as a JSON pointer.
    Pointer(String),
}

/// How an error document is written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub media_type: &'static str,
    /// With line breaks, indented by 4 spaces.
    pub is_pretty: bool,
}

/// How a surface speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// `{status, message, code, request_id}` (forms-http contract, §2.2 and M3).
    Forms,
    /// JSON:API 1.1 error document.
    JsonApi,
    /// `{error}` (proxy-and-broker contract, §2.2): brokers' tools.
    Broker,
    /// `{code, message, request_id}`: operations.
    Plain,
}

/// An error of the forms surface.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "status": "not_found",
    "message": "there is no such session in this project",
    "code": "session_not_found",
    "request_id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"
}))]
pub struct FormsError {
    /// The HTTP status in words, in snake case.
    pub status: String,
    /// What is wrong, where, and what to do.
    pub message: String,
    /// Stable; for programs.
    pub code: String,
    pub request_id: String,
}

/// A JSON:API 1.1 error document.
#[derive(Serialize, ToSchema)]
pub struct JsonApiErrors {
    pub errors: Vec<JsonApiError>,
}

/// One error of a JSON:API document.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11",
    "status": "401",
    "code": "credential_missing",
    "title": "Unauthorized",
    "detail": "send a key's id and secret as HTTP Basic authentication"
}))]
pub struct JsonApiError {
    /// The request's id.
    pub id: String,
    /// The HTTP status, as text.
    pub status: String,
    /// Stable; for programs.
    pub code: String,
    pub title: String,
    /// What is wrong, where, and what to do.
    pub detail: String,
    /// The part of the request that is meant, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<JsonApiSource>,
}

/// A part of a request: one of the members.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "parameter": "page[size]" }))]
pub struct JsonApiSource {
    /// A parameter of the query string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// A header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A member of the body: a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// An error as brokers' tools know it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({ "error": "broker not available" }))]
pub struct BrokerError {
    /// What is wrong.
    pub error: String,
}

/// An error outside the surfaces.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "code": "path_unknown",
    "message": "there is nothing at this path; the paths are in openapi/rollcall.json",
    "request_id": "0197d8a4-6f0e-7c65-9d1c-5d2b8f6f0a11"
}))]
pub struct PlainError {
    /// Stable; for programs.
    pub code: String,
    /// What is wrong, where, and what to do.
    pub message: String,
    pub request_id: String,
}

impl Dialect {
    /// The dialect that is spoken at a path.
    pub fn of(path: &str) -> Self {
        let under = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if broker::part(path).is_some() {
            Self::Broker
        } else if under("/api/v1") {
            Self::Forms
        } else if under("/v1") {
            Self::JsonApi
        } else {
            Self::Plain
        }
    }
}

impl Problem {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// The same, about a parameter of the query string.
    pub fn of_parameter(mut self, name: impl Into<String>) -> Self {
        self.source = Some(Source::Parameter(name.into()));
        self
    }

    /// The same, about a header.
    pub fn of_header(mut self, name: &'static str) -> Self {
        self.source = Some(Source::Header(name));
        self
    }

    /// The same, about a member of the body.
    pub fn of_pointer(mut self, pointer: impl Into<String>) -> Self {
        self.source = Some(Source::Pointer(pointer.into()));
        self
    }
}

impl Source {
    fn json(self) -> JsonApiSource {
        let (mut parameter, mut header, mut pointer) = (None, None, None);
        match self {
            Self::Parameter(name) => parameter = Some(name),
            Self::Header(name) => header = Some(name.to_owned()),
            Self::Pointer(place) => pointer = Some(place),
        }
        JsonApiSource {
            parameter,
            header,
            pointer,
        }
    }
}

impl Style {
    /// JSON in one line.
    pub const PLAIN: Self = Self {
        media_type: "application/json",
        is_pretty: false,
    };

    /// JSON in this style.
    pub fn json(self, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
        if !self.is_pretty {
            return serde_json::to_vec(value);
        }
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        value.serialize(&mut serializer)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

impl ApiError {
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(Problem::new(code, message))
    }

    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::NotFound(Problem::new(code, message))
    }

    pub fn too_large(code: &'static str, message: impl Into<String>) -> Self {
        Self::TooLarge(Problem::new(code, message))
    }

    /// Answers whether nothing can have come of the request, so that what it left behind may be removed at once. After
    /// a database error a commit may yet have happened.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Unavailable(_) | Self::Internal(_))
    }

    /// The stable code and the sentence for a client.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Invalid(problem)
            | Self::Unauthenticated(problem)
            | Self::Forbidden(problem)
            | Self::NotFound(problem)
            | Self::TimedOut(problem)
            | Self::Conflict(problem)
            | Self::TooLarge(problem)
            | Self::UnsupportedMedia(problem)
            | Self::NotAcceptable(problem)
            | Self::PreconditionFailed(problem)
            | Self::Unavailable(problem) => problem.clone(),
            Self::MethodNotAllowed { allow } => Problem::new(
                "method_not_allowed",
                format!("this path does not take that method; it takes {allow}"),
            ),
            Self::Internal(_) => Problem::new(
                "internal_error",
                "something went wrong on our side; repeat the request, and report its request id if it happens again",
            ),
        }
    }

    /// The status in the forms contract's words.
    pub fn word(&self) -> String {
        word(self.status_code())
    }

    /// The error's body in a dialect: JSON.
    pub fn body(&self, dialect: Dialect, request_id: &str, style: Style) -> Vec<u8> {
        let Problem {
            code,
            message,
            source,
        } = self.problem();
        let status = self.status_code();
        let (code, request_id) = (code.to_owned(), request_id.to_owned());
        let body = match dialect {
            Dialect::Forms => style.json(&FormsError {
                status: word(status),
                message,
                code,
                request_id,
            }),
            Dialect::JsonApi => style.json(&JsonApiErrors {
                errors: vec![JsonApiError {
                    id: request_id,
                    status: status.as_str().to_owned(),
                    code,
                    title: status.canonical_reason().unwrap_or("Error").to_owned(),
                    detail: message,
                    source: source.map(Source::json),
                }],
            }),
            Dialect::Broker => style.json(&BrokerError {
                error: match self {
                    Self::MethodNotAllowed { .. } => "method not allowed".to_owned(),
                    _ => message,
                },
            }),
            Dialect::Plain => style.json(&PlainError {
                code,
                message,
                request_id,
            }),
        };
        body.expect("strings are JSON")
    }

    /// The whole answer in a dialect.
    pub fn response(&self, dialect: Dialect, request_id: &str, style: Style) -> HttpResponse {
        let mut response = self.builder();
        response
            .content_type(style.media_type)
            .body(self.body(dialect, request_id, style))
    }

    fn builder(&self) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            Self::Unauthenticated(_) => {
                response.append_header((
                    WWW_AUTHENTICATE,
                    r#"Basic realm="rollcall", charset="UTF-8""#,
                ));
                response.append_header((WWW_AUTHENTICATE, r#"Bearer realm="rollcall""#));
            }
            Self::MethodNotAllowed { allow } => {
                if let Ok(value) = HeaderValue::from_str(allow) {
                    response.insert_header((ALLOW, value));
                }
            }
            Self::Unavailable(_) => {
                response.insert_header((RETRY_AFTER, "2"));
            }
            _ => {}
        }
        response
    }
}

/// The word that the forms contract prints for a status (M3).
fn word(status: StatusCode) -> String {
    let reason = status.canonical_reason().unwrap_or("error");
    reason.to_lowercase().replace([' ', '-'], "_")
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal(error) => write!(f, "{error:#}"),
            other => {
                let Problem { code, message, .. } = other.problem();
                write!(f, "{code}: {message}")
            }
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::TimedOut(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMedia(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A placeholder: `middleware::render` replaces it once the surface and the request's id are known.
    fn error_response(&self) -> HttpResponse {
        self.builder().finish()
    }
}

impl From<rollcall_store::Error> for ApiError {
    fn from(error: rollcall_store::Error) -> Self {
        use rollcall_store::Error;
        let away = match &error {
            Error::RowNotFound => return Self::not_found("not_found", "there is no such resource"),
            Error::PoolTimedOut
            | Error::PoolClosed
            | Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::BeginFailed => true,
            Error::Database(database) => {
                // Another batch stored the event between the look and the write: a repeat finds it.
                database.constraint() == Some("events_by_source_event")
                    || database.code().is_some_and(|code| is_passing(&code))
            }
            _ => false,
        };
        if away {
            tracing::warn!(error = %error, "postgres did not do its part");
            return Self::Unavailable(Problem::new(
                "database_unavailable",
                "the database is not available right now; repeat the request in a moment",
            ));
        }
        Self::Internal(anyhow::Error::new(error).context("use the database"))
    }
}

/// Whether a Postgres error is one that passes: connection trouble (08), out of resources (53), deadlock or
/// serialization (40), a server that stops or a statement that took too long (57), read-only after a failover (25006).
fn is_passing(code: &str) -> bool {
    ["08", "53", "40", "57"]
        .iter()
        .any(|class| code.starts_with(class))
        || code == "25006"
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

impl std::error::Error for ApiError {}
