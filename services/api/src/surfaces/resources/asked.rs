//! What every request of this surface may say beside its own parameters: the form of the answer, which members and what
//! else it is to have, and which state of it the client holds already.

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{EntityTag, Header, IfMatch, IfNoneMatch};
use actix_web::{FromRequest, HttpRequest, web};

use super::media::{self, Accepted};
use super::parameters::{self, Parameters};
use crate::App;
use crate::error::{ApiError, Problem, Style};

/// Extractor: everything common about a request.
#[derive(Debug)]
pub struct Asked {
    /// `http://host`, without a slash at the end, as the client spelled it.
    pub base: String,
    /// The path, without a slash at the end.
    path: String,
    pub parameters: Parameters,
    accepted: Accepted,
    /// `fields[type]`: the members wanted of each type, as paths.
    pub fields: BTreeMap<String, Vec<String>>,
    is_pretty: bool,
    pub is_strict: bool,
    if_match: Option<IfMatch>,
    if_none_match: Option<IfNoneMatch>,
}

impl FromRequest for Asked {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(req))
    }
}

impl Asked {
    fn of(req: &HttpRequest) -> Result<Self, ApiError> {
        media::check_content_type(req)?;
        let accepted = Accepted::of(req);
        let parameters = Parameters::read(req.query_string());
        let is_strict = is_strict(req);
        if is_strict {
            check_names(req, &parameters)?;
        }
        let connection = req.connection_info();
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &parameters.0 {
            let kind = name
                .strip_prefix("fields[")
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(kind) = kind {
                let members = value.split(',').filter(|member| !member.is_empty());
                let paths = fields.entry(kind.to_owned()).or_default();
                paths.extend(members.map(|member| member.trim_matches('/').to_owned()));
            }
        }
        // Whether there is one at all is the header's to say; what cannot be read matches nothing.
        let has = |name: &str| req.headers().contains_key(name);
        Ok(Self {
            base: format!("{}://{}", connection.scheme(), connection.host()),
            path: req.path().to_owned(),
            parameters,
            accepted,
            fields,
            is_pretty: parameters::is_pretty(req.query_string()),
            is_strict,
            if_match: has("if-match")
                .then(|| IfMatch::parse(req).unwrap_or(IfMatch::Items(Vec::new()))),
            if_none_match: has("if-none-match")
                .then(|| IfNoneMatch::parse(req).unwrap_or(IfNoneMatch::Items(Vec::new()))),
        })
    }

    /// How the answer is to be written, or 406.
    pub fn style(&self) -> Result<Style, ApiError> {
        Ok(Style {
            media_type: self.accepted.document()?,
            is_pretty: self.is_pretty,
        })
    }

    /// Whether events are to be streamed.
    pub fn wants_stream(&self) -> bool {
        self.accepted.is_stream
    }

    /// The address of what was asked for, with some parameters replaced.
    pub fn link(&self, replaced: &[(&str, Option<&str>)]) -> String {
        format!(
            "{}{}{}",
            self.base,
            self.path,
            self.parameters.query(replaced)
        )
    }

    /// The same of a collection, which has a slash at its end (seed 002).
    pub fn collection_link(&self, replaced: &[(&str, Option<&str>)]) -> String {
        format!(
            "{}{}/{}",
            self.base,
            self.path,
            self.parameters.query(replaced)
        )
    }

    /// What to include, of what may be.
    pub fn include(&self, allowed: &[&str]) -> Result<Vec<&str>, ApiError> {
        let names = self
            .parameters
            .all("include")
            .flat_map(|list| list.split(','));
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        match names.iter().find(|name| !allowed.contains(name)) {
            None => Ok(names),
            Some(other) => {
                let message = match allowed {
                    [] => format!("nothing can be included here, `{other}` neither"),
                    _ => format!(
                        "`{other}` cannot be included; what can is {}",
                        allowed.join(", ")
                    ),
                };
                Err(ApiError::Invalid(
                    Problem::new("include_invalid", message).of_parameter("include"),
                ))
            }
        }
    }

    /// Whether the client holds this state already (304), or holds another than it must (412).
    pub fn holds(&self, tag: &EntityTag) -> Result<bool, ApiError> {
        let is_expected = match &self.if_match {
            None | Some(IfMatch::Any) => true,
            Some(IfMatch::Items(tags)) => tags.iter().any(|held| held.strong_eq(tag)),
        };
        if !is_expected {
            let message = "If-Match names another state than the one that is there; read it again";
            return Err(ApiError::PreconditionFailed(
                Problem::new("precondition_failed", message).of_header("If-Match"),
            ));
        }
        Ok(match &self.if_none_match {
            None => false,
            Some(IfNoneMatch::Any) => true,
            Some(IfNoneMatch::Items(tags)) => tags.iter().any(|held| held.weak_eq(tag)),
        })
    }
}

/// `Prefer: handling=strict` (RFC 7240).
fn is_strict(req: &HttpRequest) -> bool {
    let values = req
        .headers()
        .get_all("prefer")
        .filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    preferences.any(|preference| {
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("handling") && value.eq_ignore_ascii_case("strict")
    })
}

/// Refuses parameters that the operation does not have. Without `strict` they are ignored, as MaxScale does.
fn check_names(req: &HttpRequest, parameters: &Parameters) -> Result<(), ApiError> {
    let app = req
        .app_data::<web::Data<App>>()
        .expect("the app registers itself");
    let pattern = req.match_pattern().unwrap_or_default();
    let known = app.paths.parameters(&pattern);
    let mut unknown: Vec<&str> = parameters.0.iter().map(|(name, _)| name.as_str()).collect();
    unknown.retain(|name| !known.iter().any(|own| own == name));
    let Some(first) = unknown.first() else {
        return Ok(());
    };
    let message = format!(
        "this path does not know the parameters: {}; those it knows are {}",
        unknown.join(", "),
        known.join(", ")
    );
    Err(ApiError::Invalid(
        Problem::new("parameter_unknown", message).of_parameter(*first),
    ))
}
