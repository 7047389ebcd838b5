//! Which media type an answer has: `application/json` by default, JSON:API's own when asked for (JSON:API 1.1, "Content
//! Negotiation"; proxy contract, decision 22).

use actix_web::HttpRequest;
use actix_web::http::header::{Accept, CONTENT_TYPE, Header};

use super::parameters;
use crate::error::{ApiError, Problem, Style};

const JSON: &str = "application/json";
/// JSON:API's own.
pub const JSON_API: &str = "application/vnd.api+json";
/// A stream of events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// What a client takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The best of the types for documents; none where it takes none.
    document: Option<&'static str>,
    pub is_stream: bool,
    /// It asked for JSON:API's type with parameters that this server does not know, and for nothing else.
    has_unknown_parameters: bool,
}

impl Accepted {
    /// Reads `Accept`; one that cannot be read is as good as none.
    pub fn of(req: &HttpRequest) -> Self {
        let accept = Accept::parse(req)
            .map(|accept| accept.0)
            .unwrap_or_default();
        let mut accepted = Self {
            document: None,
            is_stream: false,
            has_unknown_parameters: false,
        };
        if accept.is_empty() {
            accepted.document = Some(JSON);
            return accepted;
        }
        // By quality, and at the same quality what is named before what is only allowed.
        let mut best = None;
        for item in accept
            .iter()
            .filter(|item| item.quality > actix_web::http::header::Quality::ZERO)
        {
            let (media, is_named) = match item.item.essence_str() {
                JSON => (JSON, true),
                JSON_API if item.item.params().all(|(name, _)| name == "profile") => {
                    (JSON_API, true)
                }
                JSON_API => {
                    accepted.has_unknown_parameters = true;
                    continue;
                }
                "*/*" | "application/*" => (JSON, false),
                EVENT_STREAM => {
                    accepted.is_stream = true;
                    continue;
                }
                _ => continue,
            };
            let rank = (item.quality, is_named);
            if best.is_none_or(|(held, _)| rank > held) {
                best = Some((rank, media));
            }
        }
        accepted.document = best.map(|(_, media)| media);
        accepted
    }

    /// The type of a document, or 406.
    pub fn document(self) -> Result<&'static str, ApiError> {
        let message = if self.has_unknown_parameters {
            "this server knows no extensions of application/vnd.api+json: ask for it without media type parameters other \
             than profile, or for application/json"
        } else {
            "this path gives application/json or application/vnd.api+json; ask for one of them, or send no Accept header"
        };
        self.document.ok_or_else(|| {
            ApiError::NotAcceptable(
                Problem::new("media_type_not_acceptable", message).of_header("Accept"),
            )
        })
    }
}

/// Refuses a body in JSON:API's type with parameters that this server does not know (415).
pub fn check_content_type(req: &HttpRequest) -> Result<(), ApiError> {
    let content_type = req.headers().get(CONTENT_TYPE);
    let Some(text) = content_type.and_then(|value| value.to_str().ok()) else {
        return Ok(());
    };
    let mut parts = text.split(';').map(str::trim);
    let is_json_api = parts
        .next()
        .is_some_and(|media| media.eq_ignore_ascii_case(JSON_API));
    let is_known = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("profile")
    };
    if is_json_api && !parts.filter(|part| !part.is_empty()).all(is_known) {
        return Err(ApiError::UnsupportedMedia(
            Problem::new(
                "media_type_unsupported",
                "this server knows no extensions of application/vnd.api+json: send it without media type parameters other \
                 than profile",
            )
            .of_header("Content-Type"),
        ));
    }
    Ok(())
}

/// How an error is written for the one who asks.
pub fn error_style(req: &HttpRequest) -> Style {
    Style {
        media_type: Accepted::of(req).document.unwrap_or(JSON),
        is_pretty: parameters::is_pretty(req.query_string()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn document(accept: &str) -> Option<&'static str> {
        let req = TestRequest::default()
            .insert_header(("accept", accept))
            .to_http_request();
        Accepted::of(&req).document().ok()
    }

    #[test]
    fn what_a_client_asks_for_it_gets() {
        for (accept, media) in [
            ("*/*", Some(JSON)),
            ("text/html, */*;q=0.8", Some(JSON)),
            ("application/vnd.api+json", Some(JSON_API)),
            ("application/vnd.api+json, */*", Some(JSON_API)),
            ("application/json, application/vnd.api+json", Some(JSON)),
            (
                "application/json;q=0.5, application/vnd.api+json",
                Some(JSON_API),
            ),
            (r#"application/vnd.api+json; profile="x""#, Some(JSON_API)),
            (r#"application/vnd.api+json; ext="x""#, None),
            ("application/vnd.api+json; charset=utf-8", None),
            (
                "application/vnd.api+json; charset=utf-8, application/vnd.api+json",
                Some(JSON_API),
            ),
            ("application/vnd.api+json; charset=utf-8, */*", Some(JSON)),
            ("text/html", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(document(accept), media, "{accept}");
        }
    }
}
