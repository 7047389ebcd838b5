//! What every request passes, outermost first: the paths' other spellings, its id, its span, its metrics, the rendering
//! of errors, the decoding of its target, HEAD, and the time that it and its body may take.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, PayloadError};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue};
use actix_web::http::{Method as Http, StatusCode, Uri};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use percent_encoding::percent_decode_str;
use rollcall_telemetry::{
    Method, RequestLabels, ResponseLabels, SurfaceLabels, TraceHeaders, adopt_parent,
};
use tracing::Span;
use tracing::field::Empty;
use tracing_actix_web::{DefaultRootSpanBuilder, RootSpanBuilder};

use crate::App;
use crate::error::{ApiError, Dialect, Problem, Style};
use crate::surfaces::broker;
use crate::surfaces::resources::media;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES: usize = 128;

/// The id of a request: the client's own, where it sent one that can be shown, else a UUIDv7.
#[derive(Clone)]
pub struct RequestId(String);

impl RequestId {
    /// The id given to `req` on its way in.
    pub fn of(req: &HttpRequest) -> String {
        req.extensions()
            .get::<Self>()
            .map(|id| id.0.clone())
            .unwrap_or_default()
    }

    fn take(req: &ServiceRequest) -> Self {
        let sent = req
            .headers()
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let usable = |id: &&str| !id.is_empty() && id.len() <= REQUEST_ID_BYTES;
        Self(
            sent.filter(usable)
                .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned),
        )
    }
}

/// Gives the request its id and the answer the same.
pub async fn identify<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let id = RequestId::take(&req);
    let value = HeaderValue::from_str(&id.0).expect("it came from a header or is a UUID");
    req.extensions_mut().insert(id);
    match next.call(req).await {
        Ok(mut response) => {
            response.headers_mut().insert(REQUEST_ID, value);
            Ok(response)
        }
        Err(error) => {
            let mut response = error.error_response();
            response.headers_mut().insert(REQUEST_ID, value);
            Err(InternalError::from_response(error, response).into())
        }
    }
}

/// The root span: `org`, `key` and `project_id` are recorded once known. No query string and no body: both may hold
/// what a log must not.
pub struct RootSpan;

impl RootSpanBuilder for RootSpan {
    fn on_request_start(req: &ServiceRequest) -> Span {
        let route = req
            .match_pattern()
            .unwrap_or_else(|| "unmatched".to_owned());
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            otel.name = %format!("{} {route}", req.method()),
            otel.status_code = Empty,
            http.method = %req.method(),
            http.route = %route,
            http.status_code = Empty,
            exception.message = Empty,
            exception.details = Empty,
            request_id = %RequestId::of(req.request()),
            org = Empty,
            key = Empty,
            project_id = Empty,
        );
        let header = |name: &str| req.headers().get(name)?.to_str().ok();
        let headers = TraceHeaders {
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
        };
        adopt_parent(&span, headers);
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        DefaultRootSpanBuilder::on_request_end(span, outcome);
    }
}

/// Counts and times requests, by route pattern; a path that matches none is one label, not one for each.
pub async fn measure<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let app = app(&req);
    let in_flight = app.metrics.in_flight();
    let surface = surface(req.path());
    let method = Method::from(req.method().as_str());
    let length = req
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let started = Instant::now();
    let outcome = next.call(req).await;
    drop(in_flight);
    let (status, route, sent) = match &outcome {
        Ok(response) => {
            let route = response.request().match_pattern();
            (response.status(), route, response.response().body().size())
        }
        // Not `error_response`, which would take the answer that `render` left in it.
        Err(error) => (
            error.as_response_error().status_code(),
            None,
            BodySize::None,
        ),
    };
    let elapsed = started.elapsed().as_secs_f64();
    tracing::info!(
        http.status_code = status.as_u16(),
        duration_ms = (elapsed * 1e6).round() / 1e3,
        "request answered"
    );
    let route = route.map_or(Cow::Borrowed("unmatched"), Cow::Owned);
    let request = RequestLabels {
        surface,
        method,
        route,
    };
    let metrics = &app.metrics;
    metrics
        .http_request_duration_seconds
        .get_or_create(&request)
        .observe(elapsed);
    let labels = ResponseLabels {
        request,
        status: status.as_u16(),
    };
    metrics.http_requests_total.get_or_create(&labels).inc();
    let surface = SurfaceLabels { surface };
    metrics
        .http_request_body_bytes_total
        .get_or_create(&surface)
        .inc_by(length.unwrap_or(0));
    if let BodySize::Sized(length) = sent {
        metrics
            .http_response_body_bytes_total
            .get_or_create(&surface)
            .inc_by(length);
    }
    outcome
}

/// Says every error in the dialect of the surface it happened on, the framework's own included.
pub async fn render<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let dialect = Dialect::of(req.path());
    let style = match dialect {
        Dialect::JsonApi => media::error_style(req.request()),
        _ => Style::PLAIN,
    };
    let id = RequestId::of(req.request());
    match next.call(req).await {
        Ok(response) => match response.response().error() {
            Some(error) => {
                let said = say(error, dialect, &id, style);
                Ok(response.into_response(said))
            }
            None => Ok(response.map_into_boxed_body()),
        },
        Err(error) => {
            let said = say(&error, dialect, &id, style);
            Err(InternalError::from_response(error, said).into())
        }
    }
}

/// An error as a client sees it; what it does not see is logged here, once.
fn say(error: &Error, dialect: Dialect, request_id: &str, style: Style) -> HttpResponse {
    let mut response = match error.as_error::<ApiError>() {
        Some(known) => known.response(dialect, request_id, style),
        None => of_framework(error).response(dialect, request_id, style),
    };
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(%error, "a request failed");
    }
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The framework's errors by meaning; their text is about the request, but not always for the client.
fn of_framework(error: &Error) -> ApiError {
    match error.as_response_error().status_code() {
        StatusCode::NOT_FOUND => ApiError::not_found("not_found", "there is nothing at this path"),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::too_large("body_too_large", "the body is too large")
        }
        status if status.is_client_error() => {
            ApiError::invalid("request_invalid", error.to_string())
        }
        _ => ApiError::Internal(anyhow::anyhow!("{error:?}")),
    }
}

/// Accepts the contract's other spelling, `/api/v1/project/..` (M1), and a slash at the end.
pub async fn spell<B: MessageBody + 'static>(
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let path = req.path();
    let singular = path
        .strip_prefix("/api/v1/project/")
        .map(|rest| format!("/api/v1/projects/{rest}"));
    let spelled = singular.as_deref().unwrap_or(path);
    let trimmed = match spelled.trim_end_matches('/') {
        "" => "/",
        _ if !broker::may_trim(spelled) => spelled,
        trimmed => trimmed,
    };
    if trimmed != path {
        let query = req
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        if let Ok(path_and_query) = format!("{trimmed}{query}").parse() {
            let mut parts = req.head().uri.clone().into_parts();
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                req.match_info_mut().get_mut().update(&uri);
                req.head_mut().uri = uri;
            }
        }
    }
    next.call(req).await
}

/// Refuses a path or query that is not UTF-8 once decoded: what is named by it could only be guessed.
pub async fn decode<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let broken = |what: &str, text: &str| {
        let at = percent_decode_str(text).decode_utf8().err()?.valid_up_to();
        let message = format!("the {what} is not UTF-8 from byte {at} on, once decoded");
        Some(ApiError::invalid("utf8_broken", message))
    };
    let no_name = || {
        let missing = broker::missing(req.path())?;
        Some(ApiError::not_found("name_broken", missing))
    };
    // A name that cannot be decoded names nothing there (proxy-and-broker contract, §2.2).
    let of_path = broken("path", req.path()).map(|error| no_name().unwrap_or(error));
    let broken = of_path.or_else(|| broken("query string", req.query_string()));
    match broken {
        Some(error) => Ok(req.error_response(error)),
        None => Ok(next.call(req).await?.map_into_boxed_body()),
    }
}

/// Answers HEAD as GET, but for the body: it has only its size, so that nothing is read to be thrown away.
pub async fn head<B: MessageBody + 'static>(
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if req.method() != Http::HEAD {
        return Ok(next.call(req).await?.map_into_boxed_body());
    }
    req.head_mut().method = Http::GET;
    let response = next.call(req).await?;
    Ok(response.map_body(|_, body| BoxBody::new(Unsent(body.size()))))
}

/// A body that is not sent, as the answer to HEAD has none.
struct Unsent(BodySize);

impl MessageBody for Unsent {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// Gives a body up that stalls. Its reader sees an error of the kind `TimedOut` in place of the next piece.
pub async fn limit_idle<B: MessageBody + 'static>(
    mut req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let idle = app(&req).limits.idle;
    let payload = req.take_payload();
    if matches!(payload, Payload::None) {
        return next.call(req).await;
    }
    // Waiting counts while a piece is asked for, not while what came is worked on.
    let pieces = stream::unfold(payload, move |mut payload| async move {
        let piece = match tokio::time::timeout(idle, payload.next()).await {
            Ok(piece) => piece?,
            Err(_) => Err(PayloadError::Io(io::ErrorKind::TimedOut.into())),
        };
        Some((piece, payload))
    });
    // Readers ask once more after the end.
    req.set_payload(Payload::Stream {
        payload: Box::pin(pieces.fuse()),
    });
    next.call(req).await
}

/// Ends a request that takes longer than the configured total time. What it stored is swept; its transaction is rolled
/// back. The request itself is gone with its work, so that this one error is an `Err`.
pub async fn limit_time<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let total = app(&req).limits.total;
    match tokio::time::timeout(total, next.call(req)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ApiError::TimedOut(Problem::new(
            "request_too_slow",
            format!(
                "the request took more than {} s (limit: total); send less at a time",
                total.as_secs()
            ),
        ))
        .into()),
    }
}

fn app(req: &ServiceRequest) -> web::Data<App> {
    req.app_data::<web::Data<App>>()
        .expect("the app registers itself")
        .clone()
}

/// Which surface a path belongs to, as a metric's label.
fn surface(path: &str) -> &'static str {
    match Dialect::of(path) {
        Dialect::Forms => "forms",
        Dialect::JsonApi => "resources",
        Dialect::Broker => "broker",
        Dialect::Plain => "operations",
    }
}
