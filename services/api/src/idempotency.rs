//! `Idempotency-Key` on writes, with Stripe's rules: the first answer under a key is kept for 24 hours and given again to
//! every repeat of the same request; another request under the same key is refused. Nothing is kept of a request that
//! was refused before its work began.

use std::ops::AsyncFnOnce;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use aws_lc_rs::digest::{Context, SHA256};
use rollcall_model::{AttachmentId, Session};
use rollcall_store::TenantConn;
use rollcall_store::idempotency::{self, Claim};
use serde::Serialize;

use crate::App;
use crate::auth::Principal;
use crate::error::{ApiError, Dialect, Style};
use crate::middleware::RequestId;

const KEY_BYTES: usize = 255;
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An answer to a write.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: Vec<u8>,
    is_replay: bool,
    held: Vec<AttachmentId>,
}

/// Who writes what: what a kept answer is bound to.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub app: &'a App,
    pub who: &'a Principal,
    pub http: &'a HttpRequest,
    /// What the body says.
    pub fingerprint: [u8; 32],
    pub dialect: Dialect,
}

impl Reply {
    /// A successful answer.
    pub fn ok(body: &impl Serialize) -> Result<Self, ApiError> {
        Self::new(StatusCode::OK, body)
    }

    /// The answer to what will be done later.
    pub fn accepted(body: &impl Serialize) -> Result<Self, ApiError> {
        Self::new(StatusCode::ACCEPTED, body)
    }

    fn new(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(body).map_err(anyhow::Error::new)?;
        Ok(Self {
            status,
            body,
            is_replay: false,
            held: Vec::new(),
        })
    }

    /// The document that was accepted; none where the answer is a refusal that was kept.
    pub fn accepted_body(&self) -> Option<&[u8]> {
        (self.status == StatusCode::ACCEPTED).then_some(&self.body)
    }

    /// The header that tells a repeat's answer, where it is one.
    pub fn replayed(&self) -> Option<(HeaderName, HeaderValue)> {
        self.is_replay
            .then_some((REPLAYED, HeaderValue::from_static("true")))
    }

    /// Notes which attachments the answered session holds.
    pub fn holding(mut self, session: &Session) -> Self {
        self.held = session
            .points
            .values()
            .filter_map(|point| Some(point.attachment()?.id))
            .collect();
        self
    }

    /// Whether the answered session holds the attachment; one stored for a repeat it does not.
    pub fn holds(&self, attachment: AttachmentId) -> bool {
        self.held.contains(&attachment)
    }

    /// The answer as HTTP.
    pub fn into_response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/json"));
        if let Some(replayed) = self.replayed() {
            response.insert_header(replayed);
        }
        response.body(self.body)
    }
}

impl Request<'_> {
    /// Does `work` in one transaction and gives its answer, or gives the answer that the same request got before.
    pub async fn run(
        self,
        work: impl AsyncFnOnce(&mut TenantConn) -> Result<Reply, ApiError>,
    ) -> Result<Reply, ApiError> {
        let Some(key) = self.key()? else {
            return self.app.db.tenant(self.who.org, work).await;
        };
        let fingerprint = self.whole_fingerprint();
        let key_id = self.who.key_id.as_str();
        let done = async |tx: &mut TenantConn| match idempotency::claim(
            tx,
            key_id,
            &key,
            &fingerprint,
        )
        .await?
        {
            Claim::Reused => Err(ApiError::invalid(
                "idempotency_key_reused",
                "this Idempotency-Key was used for another request; use a new key for a new request",
            )),
            Claim::Answered { status, body } => Ok(Reply {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
                body,
                is_replay: true,
                held: Vec::new(),
            }),
            Claim::New => {
                // Whatever its result, the work was done: a refusal is an answer too, and is kept.
                let reply = match tx.attempt(work).await {
                    Err(error) if error.is_definite() => self.refusal(&error),
                    other => other?,
                };
                idempotency::complete(tx, key_id, &key, reply.status.as_u16(), &reply.body).await?;
                Ok(reply)
            }
        };
        self.app.db.tenant(self.who.org, done).await
    }

    fn refusal(&self, error: &ApiError) -> Reply {
        Reply {
            status: error.status_code(),
            body: error.body(self.dialect, &RequestId::of(self.http), Style::PLAIN),
            is_replay: false,
            held: Vec::new(),
        }
    }

    fn key(&self) -> Result<Option<String>, ApiError> {
        let Some(value) = self.http.headers().get("idempotency-key") else {
            return Ok(None);
        };
        match value.to_str() {
            Ok(key) if !key.is_empty() && key.len() <= KEY_BYTES => Ok(Some(key.to_owned())),
            _ => Err(ApiError::invalid(
                "idempotency_key_invalid",
                "an Idempotency-Key has 1 to 255 visible ASCII characters",
            )),
        }
    }

    /// The same body sent elsewhere is another request.
    fn whole_fingerprint(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        for part in [
            self.http.method().as_str(),
            self.http.path(),
            self.http.query_string(),
        ] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.update(&self.fingerprint);
        hash.finish()
            .as_ref()
            .try_into()
            .expect("SHA-256 has 32 bytes")
    }
}
