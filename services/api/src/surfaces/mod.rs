//! The wire contracts, one module each. A surface translates: it holds no rule and no SQL.

pub mod broker;
mod docs;
pub mod forms;
pub mod ingest;
mod operations;
pub mod resources;
mod tokens;

use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa_actix_web::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::App;
use crate::auth;
use crate::error::ApiError;

/// Every route, by surface. Order matters where paths overlap: what needs no credential comes before the scopes.
pub(crate) fn routes(cfg: &mut ServiceConfig) {
    cfg.configure(operations::routes);
    cfg.configure(docs::routes);
    cfg.configure(tokens::routes);
    cfg.configure(forms::open_routes);
    cfg.service(
        scope::scope("/api/v1")
            .wrap(from_fn(auth::authenticate))
            .configure(forms::routes)
            .configure(broker::routes),
    );
    cfg.configure(resources::routes);
}

/// What no route took: a path that is not there, or one that takes other methods.
pub(crate) async fn nothing_here(
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    match app.paths.allow(req.path()) {
        Some(allow) if req.method() == actix_web::http::Method::OPTIONS => {
            Ok(HttpResponse::NoContent()
                .insert_header(("Allow", allow))
                .finish())
        }
        Some(allow) => Err(ApiError::MethodNotAllowed {
            allow: allow.to_owned(),
        }),
        None => Err(ApiError::not_found(
            "path_unknown",
            broker::missing(req.path())
                .unwrap_or("there is nothing at this path; the paths are in openapi/rollcall.json"),
        )),
    }
}
