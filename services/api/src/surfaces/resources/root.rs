//! The surface's own address: that it is there, and where everything else is (proxy contract §1.3, `/v1/`).

use actix_web::{HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;

use super::Common;
use super::asked::Asked;
use super::document::answer;
use crate::auth::{Allow, perm};
use crate::error::ApiError;

/// Where the collections are.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "links": {
        "self": "http://localhost:8080/v1/",
        "sessions": "http://localhost:8080/v1/sessions/",
        "services": "http://localhost:8080/v1/services/",
        "projects": "http://localhost:8080/v1/projects/",
        "relays": "http://localhost:8080/v1/relays/",
        "events": "http://localhost:8080/v1/events/"
    },
    "meta": { "version": "0.1.0" }
}))]
pub struct Root {
    links: RootLinks,
    meta: RootMeta,
}

/// The collections.
#[derive(Serialize, ToSchema)]
pub struct RootLinks {
    #[serde(rename = "self")]
    own: String,
    sessions: String,
    services: String,
    projects: String,
    relays: String,
    events: String,
}

/// What answers.
#[derive(Serialize, ToSchema)]
pub struct RootMeta {
    /// Rollcall's version.
    version: &'static str,
}

/// Show where the resources are
///
/// For a client that looks whether the server is there, and takes its key.
#[utoipa::path(
    tag = "resources",
    params(Common),
    security(("basic" = []), ("bearer" = [])),
    responses((status = 200, description = "The addresses of the collections.", body = Root)),
)]
#[get("")]
pub async fn get_root(
    _allow: Allow<perm::SessionsRead>,
    asked: Asked,
) -> Result<HttpResponse, ApiError> {
    let at = |name: &str| format!("{}/v1/{name}/", asked.base);
    let root = Root {
        links: RootLinks {
            own: asked.collection_link(&[]),
            sessions: at("sessions"),
            services: at("services"),
            projects: at("projects"),
            relays: at("relays"),
            events: at("events"),
        },
        meta: RootMeta {
            version: env!("CARGO_PKG_VERSION"),
        },
    };
    answer(&asked, &root)
}
