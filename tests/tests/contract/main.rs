//! What must not drift: the OpenAPI document, who may call what, and who sees which rows.

mod credentials;
mod methods;
mod metrics;
mod openapi;
mod rows;
mod schema;
