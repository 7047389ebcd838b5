//! The OpenAPI document of what runs here, and a viewer for it. The viewer's files are part of the program: a page asks no
//! host but its own, and its policy forbids any other.

use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpResponse, get, web};
use utoipa_actix_web::service_config::ServiceConfig;
use utoipa_swagger_ui::Config;

use crate::App;
use crate::error::ApiError;

/// Styles are set in elements by the viewer itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
/// What the page loads of the viewer.
const FILES: [&str; 3] = [
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-32x32.png",
];

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(show_document).service(show_viewer);
    // Part of the page, no operation.
    cfg.route("/docs/{file}", web::get().to(show_file));
}

/// Show the OpenAPI document
///
/// Of the very version that answers.
#[utoipa::path(tag = "operations", responses((status = 200, description = "The document: OpenAPI 3.1.", body = Object, example = json!({ "openapi": "3.1.0" }))))]
#[get("/openapi.json")]
async fn show_document(app: web::Data<App>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .content_type("application/json")
        .body(app.document.clone())
}

/// Show the API in a browser
#[utoipa::path(tag = "operations", responses((status = 200, description = "A page that shows the OpenAPI document.", body = String, content_type = "text/html")))]
#[get("/docs")]
async fn show_viewer() -> HttpResponse {
    file("text/html; charset=utf-8", include_str!("page.html"))
}

async fn show_file(path: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let name = path.into_inner();
    if name == "start.js" {
        return Ok(file(
            "text/javascript; charset=utf-8",
            include_str!("start.js"),
        ));
    }
    let found = if FILES.contains(&name.as_str()) {
        utoipa_swagger_ui::serve(&name, Arc::new(Config::default()))
            .map_err(|error| anyhow::anyhow!("a file of the viewer is not right: {error}"))?
    } else {
        None
    };
    let found =
        found.ok_or_else(|| ApiError::not_found("path_unknown", "the viewer has no such file"))?;
    Ok(file(&found.content_type, found.bytes.into_owned()))
}

fn file(content_type: &str, body: impl actix_web::body::MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"))
        .content_type(content_type)
        .body(body)
}
