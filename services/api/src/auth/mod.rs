//! Who is asking, and what they may do.
//!
//! Scope middleware ([`authenticate`]) decides before any extractor reads a byte of the body; handlers name the
//! permission they need in their signature ([`Allow`]). The tenant and the projects in reach come from the credential
//! alone.

mod credential;
pub mod keys;
pub mod signed;
pub mod tokens;

use std::future::{Ready, ready};
use std::marker::PhantomData;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use rollcall_model::{OrgId, Permission, ProjectId};
use rollcall_telemetry::AuthFailureLabels;

use crate::App;
use crate::error::{ApiError, Problem};

pub use credential::{basic_only, still_holds};

/// Who is asking.
#[derive(Clone, Debug)]
pub struct Principal {
    pub org: OrgId,
    /// The one project in reach; all of the organization's where absent.
    pub project: Option<ProjectId>,
    pub key_id: String,
    pub permissions: Vec<Permission>,
}

impl Principal {
    /// Whether the principal holds the permission.
    pub fn may(&self, wanted: Permission) -> bool {
        self.permissions.iter().any(|held| held.includes(wanted))
    }

    /// Whether the project may be looked for at all; whether it exists is the store's to say.
    pub fn reaches(&self, project: ProjectId) -> bool {
        self.project.is_none_or(|own| own == project)
    }
}

/// Scope middleware: lets a request in with a [`Principal`], or answers 401 or 403 before its body is read.
pub async fn authenticate<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let app = req
        .app_data::<web::Data<App>>()
        .expect("the app registers itself")
        .clone();
    match credential::check(&app, req.request()).await {
        Ok(principal) => {
            tracing::Span::current().record("org", tracing::field::display(principal.org));
            tracing::Span::current().record("key", principal.key_id.as_str());
            req.extensions_mut().insert(principal);
            Ok(next.call(req).await?.map_into_boxed_body())
        }
        // An `Err` would skip the outer middleware.
        Err(error) => Ok(refuse(&app, req, error)),
    }
}

fn refuse(app: &App, req: ServiceRequest, error: ApiError) -> ServiceResponse<BoxBody> {
    if !matches!(error, ApiError::Unavailable(_) | ApiError::Internal(_)) {
        let reason = error.problem().code;
        app.metrics
            .auth_failures_total
            .get_or_create(&AuthFailureLabels { reason })
            .inc();
    }
    req.error_response(error)
}

/// Extractor: the principal, who holds permission `P`. Always ready, so that no other extractor's error comes first.
pub struct Allow<P> {
    pub who: Principal,
    permission: PhantomData<P>,
}

/// A permission as a type, for [`Allow`].
pub trait Needs {
    const PERMISSION: Permission;
}

/// The permissions that handlers name.
pub mod perm {
    use super::{Needs, Permission};

    /// `sessions:read`
    pub struct SessionsRead;
    /// `sessions:write`
    pub struct SessionsWrite;
    /// `commands:write`
    pub struct CommandsWrite;
    /// `events:write`
    pub struct Ingest;

    impl Needs for SessionsRead {
        const PERMISSION: Permission = Permission::SessionsRead;
    }

    impl Needs for SessionsWrite {
        const PERMISSION: Permission = Permission::SessionsWrite;
    }

    impl Needs for CommandsWrite {
        const PERMISSION: Permission = Permission::CommandsWrite;
    }

    impl Needs for Ingest {
        const PERMISSION: Permission = Permission::Ingest;
    }
}

impl<P: Needs> FromRequest for Allow<P> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(who) = req.extensions().get::<Principal>().cloned() else {
            return ready(Err(ApiError::Internal(anyhow::anyhow!(
                "the route is outside an authenticated scope"
            ))));
        };
        if !who.may(P::PERMISSION) {
            return ready(Err(ApiError::Forbidden(Problem::new(
                "permission_missing",
                format!(
                    "this key lacks the permission {}; use a key that has it",
                    P::PERMISSION
                ),
            ))));
        }
        ready(Ok(Self {
            who,
            permission: PhantomData,
        }))
    }
}
