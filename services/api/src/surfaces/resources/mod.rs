//! The resources surface: JSON:API over every kind of session (seed 002; proxy-and-broker contract §1 and its decisions).

pub mod asked;
mod attachments;
mod commands;
pub mod cursor;
mod document;
mod events;
pub mod expression;
mod filters;
pub mod media;
mod paging;
pub mod parameters;
mod projects;
mod relays;
mod root;
mod services;
mod sessions;
mod stream;
mod wire;

use actix_web::middleware::from_fn;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_actix_web::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::auth;
use crate::surfaces::ingest;

pub use wire::{
    BrokerNodeFigures, BrokerSessionAttributes, FormAttributes, PagerAttributes,
    ProxySessionAttributes, SessionBackend, SessionSubscription,
};

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.service(
        scope::scope("/v1")
            .wrap(from_fn(auth::authenticate))
            .service(root::get_root)
            .service(sessions::list_all_sessions)
            .service(sessions::get_session)
            .service(commands::give::command_session)
            .service(sessions::list_session_service_names)
            .service(sessions::list_session_services)
            .service(sessions::list_session_attachments)
            .service(events::list_session_events)
            .service(services::list_services)
            .service(services::get_service)
            .service(commands::give::create_service_session)
            .service(commands::list_commands)
            .service(commands::get_command)
            // Before the relay that would be called so.
            .service(ingest::commands::fetch_commands)
            .service(relays::list_relays)
            .service(relays::get_relay)
            .service(relays::list_relay_services)
            .service(projects::list_projects)
            .service(projects::get_project)
            .service(attachments::get_attachment_resource)
            .service(attachments::get_attachment_content)
            .service(events::list_events)
            .service(events::get_event)
            .service(ingest::forward_events),
    );
}

/// What every request may ask for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape for the document; `Asked` reads them")]
pub struct Common {
    /// Indent the document by 4 spaces; `false`, `off`, `no` and `0` do not.
    #[param(example = true)]
    pretty: Option<bool>,
}
