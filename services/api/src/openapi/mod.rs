//! The OpenAPI document, from the handlers themselves; committed as `openapi/rollcall.json`, equal to it by test.

mod shape;

use std::collections::HashMap;

use serde_json::Value;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _};
use utoipa_actix_web::AppExt;

use crate::error::{
    BrokerError, Dialect, FormsError, JsonApiError, JsonApiErrors, JsonApiSource, PlainError,
};
use crate::surfaces;
use crate::surfaces::resources::{
    BrokerSessionAttributes, FormAttributes, PagerAttributes, ProxySessionAttributes,
};

/// The document of everything that [`crate::app`] serves.
pub fn document() -> Value {
    shape::shaped(&operations_of_all())
}

/// The same as the handlers alone say it.
pub(crate) fn operations_of_all() -> OpenApi {
    let (_, mut document) = actix_web::App::new()
        .into_utoipa_app()
        .openapi(base())
        .configure(surfaces::routes)
        .split_for_parts();
    add_common_errors(&mut document);
    document
}

/// The document as it is committed.
pub fn json() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&document())? + "\n")
}

/// What stands around the paths.
pub(crate) fn base() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(
        info(
            title = "Rollcall",
            description = "The roll of every session in a fleet, project by project.",
            license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
        ),
        servers((url = "/", description = "The server that this document comes from.")),
        components(schemas(BrokerError, FormsError, FormAttributes, PagerAttributes, BrokerSessionAttributes, ProxySessionAttributes, JsonApiError, JsonApiErrors, JsonApiSource, PlainError)),
        modifiers(&Security),
        tags(
            (name = "resources", description = "Every kind of session, its service, its files and its history, as JSON:API; and the feed."),
            (name = "forms", description = "Sessions that field devices post as forms, with their attachments."),
            (name = "broker", description = "Clients' sessions on message brokers, as broker tools read them."),
            (name = "ingest", description = "Events that relays forward."),
            (name = "credentials", description = "Tokens, and the keys to check them with."),
            (name = "operations", description = "Health, readiness and metrics."),
        )
    )]
    struct Base;
    Base::openapi()
}

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut OpenApi) {
        let http = |scheme, description: &str| {
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(scheme)
                    .description(Some(description))
                    .build(),
            )
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "basic",
            http(HttpAuthScheme::Basic, "An API key's id and secret."),
        );
        components.add_security_scheme(
            "bearer",
            http(
                HttpAuthScheme::Bearer,
                "An API key's secret, or a token of /v1/auth.",
            ),
        );
    }
}

/// The answers that every operation may give, and those of authenticated ones, so that no handler repeats them. Says of
/// every other operation that it needs no credential.
fn add_common_errors(document: &mut OpenApi) {
    const COMMON: [(&str, &str); 7] = [
        (
            "400",
            "Something in the request is not right; the message says what and where.",
        ),
        (
            "401",
            "The credential is missing or unknown, was revoked, or has expired.",
        ),
        (
            "403",
            "The key lacks a permission, or a signed request is not right.",
        ),
        (
            "404",
            "There is no such resource in the credential's reach.",
        ),
        (
            "408",
            "The body stopped coming, or the request took longer than the configured total time.",
        ),
        ("500", "Something went wrong on our side."),
        (
            "503",
            "Postgres or S3 is away; `Retry-After` says when to repeat the request.",
        ),
    ];
    /// Also where no credential is asked for.
    const ANYWHERE: [&str; 2] = ["408", "500"];
    for (path, item) in &mut document.paths.paths {
        let schema = match Dialect::of(path) {
            Dialect::Forms => "FormsError",
            Dialect::JsonApi => "JsonApiErrors",
            Dialect::Broker => "BrokerError",
            Dialect::Plain => "PlainError",
        };
        for operation in operations_mut(item) {
            let is_open = operation.security.get_or_insert_default().is_empty();
            let applies = |status: &str| !is_open || ANYWHERE.contains(&status);
            for (status, description) in COMMON.iter().filter(|(status, _)| applies(status)) {
                let content = ContentBuilder::new()
                    .schema(Some(Ref::from_schema_name(schema)))
                    .build();
                let response = ResponseBuilder::new()
                    .description(*description)
                    .content("application/json", content);
                let responses = &mut operation.responses.responses;
                responses
                    .entry((*status).to_owned())
                    .or_insert_with(|| response.build().into());
            }
        }
    }
}

/// What each path takes: which methods, for answering a wrong one with 405 and `Allow`, and which parameters.
pub(crate) struct Paths {
    /// A pattern's segments, and its methods.
    methods: Vec<(Vec<String>, String)>,
    queries: HashMap<String, Vec<String>>,
}

impl Paths {
    pub(crate) fn of(document: &OpenApi) -> Self {
        let row = |(path, item): (&String, &PathItem)| {
            let segments = path.split('/').map(str::to_owned).collect();
            let mut methods: Vec<&str> = operations(item).map(|(method, _)| method).collect();
            if methods.contains(&"GET") {
                methods.push("HEAD");
            }
            methods.push("OPTIONS");
            (segments, methods.join(", "))
        };
        let queries = document.paths.paths.iter().map(|(path, item)| {
            let parameters = operations(item)
                .flat_map(|(_, operation)| operation.parameters.iter().flatten())
                .filter_map(|parameter| match parameter {
                    RefOr::T(parameter) => Some(parameter),
                    RefOr::Ref(_) => None,
                });
            let of_query =
                parameters.filter(|parameter| parameter.parameter_in == ParameterIn::Query);
            (
                path.clone(),
                of_query.map(|parameter| parameter.name.clone()).collect(),
            )
        });
        Self {
            methods: document.paths.paths.iter().map(row).collect(),
            queries: queries.collect(),
        }
    }

    /// The parameters in the query string that a path's pattern knows.
    pub(crate) fn parameters(&self, pattern: &str) -> &[String] {
        self.queries.get(pattern).map_or(&[], Vec::as_slice)
    }

    /// The methods of the path's pattern, or `None` where no pattern fits.
    pub(crate) fn allow(&self, path: &str) -> Option<&str> {
        let given: Vec<&str> = path.split('/').collect();
        let fits = |pattern: &[String]| {
            let parameter = |segment: &str| segment.starts_with('{');
            let is_named = |given: &str| !given.is_empty();
            pattern.len() == given.len()
                && pattern.iter().zip(&given).all(|(pattern, given)| {
                    (parameter(pattern) && is_named(given)) || pattern == given
                })
        };
        self.methods
            .iter()
            .find(|(pattern, _)| fits(pattern))
            .map(|(_, allow)| allow.as_str())
    }
}

fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.head,
        &mut item.patch,
    ]
    .into_iter()
    .filter_map(Option::as_mut)
}

fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("HEAD", &item.head),
        ("PATCH", &item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}
