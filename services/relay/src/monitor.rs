//! How the relay is: `/healthz`, `/metrics` and `/status` over HTTP, on loopback alone.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::forward::Contact;
use crate::metrics::Metrics;
use crate::mirrored::SharedHealth;
use crate::spool::Queue;
use crate::status::Status;

/// Connections at once.
const MAX_CONNECTIONS: usize = 32;

pub struct Monitored {
    pub queue: Arc<Queue>,
    pub contact: Arc<Mutex<Contact>>,
    pub metrics: Arc<Metrics>,
    /// The mirrored boxes, by name.
    pub boxes: Vec<(String, SharedHealth)>,
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, monitored: Arc<Monitored>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the monitor could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let monitored = monitored.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let monitored = monitored.clone();
                async move { Ok::<_, Infallible>(answer(&request, &monitored)) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(Duration::from_secs(30), served).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, monitored: &Monitored) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/metrics" | "/status") {
        return text(
            StatusCode::NOT_FOUND,
            "there are /healthz, /metrics and /status\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/status" => match monitored.status() {
            Ok(status) => with_type(
                StatusCode::OK,
                "application/json",
                serde_json::to_string(&status).expect("a status is plain data"),
            ),
            Err(error) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the spool cannot be read: {error:#}\n"),
            ),
        },
        _ => {
            {
                let waiting = monitored.queue.waiting();
                monitored
                    .metrics
                    .spool_events
                    .set(i64::try_from(waiting.events()).unwrap_or(i64::MAX));
                monitored
                    .metrics
                    .spool_bytes
                    .set(i64::try_from(waiting.bytes()).unwrap_or(i64::MAX));
            }
            with_type(
                StatusCode::OK,
                Metrics::CONTENT_TYPE,
                monitored.metrics.encode(),
            )
        }
    }
}

impl Monitored {
    fn status(&self) -> anyhow::Result<Status> {
        let contact = self
            .contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let waiting = self.queue.waiting();
        let services = waiting
            .services
            .iter()
            .map(|(name, (events, _))| (name.clone(), *events))
            .collect();
        let (events, bytes) = (waiting.events(), waiting.bytes());
        drop(waiting);
        Ok(Status {
            is_running: true,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            events,
            bytes,
            oldest: self.queue.oldest()?,
            set_aside: self.queue.set_aside()?,
            services,
            boxes: self
                .boxes
                .iter()
                .map(|(name, health)| (name.clone(), health.read()))
                .collect(),
            contact,
        })
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", body.to_owned())
}

fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: String,
) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type);
    response
        .body(Full::from(body))
        .expect("the parts are constants")
}
