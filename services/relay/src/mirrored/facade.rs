//! A mirror as its readers see it: the contract's API, answered from what is known of the box. Changes are passed on to the box,
//! and answered with what it says.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use rollcall_coap::driver::App;
use rollcall_coap::{
    Code, Endpoint, Event, Failure, JSON, Request, RequestId, Response, Time, Urgency,
};
use rollcall_pager::mirror::Mirror;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::Command;
use crate::hosted::{Owned, answer_at_once, response, unavailable};
use crate::metrics::Metrics;

/// What the mirrors say to a facade.
pub enum FacadeCommand {
    /// What the box told, as it told it.
    Told(Bytes),
    /// The box's answer to a request that was passed on.
    Passed(RequestId, Result<Response, Failure>),
}

/// The socket of a mirror.
pub struct Facade {
    pub place: usize,
    pub published: Arc<RwLock<Arc<Mirror>>>,
    pub mirrors: mpsc::WeakSender<Command>,
    /// To itself.
    pub own: mpsc::Sender<FacadeCommand>,
    pub metrics: Arc<Metrics>,
}

impl App for Facade {
    type Command = FacadeCommand;

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
        match event {
            Event::Request(id, request) => self.request(endpoint, now, id, request),
            Event::Heartbeat(observer) => {
                if let Some(body) = self.mirror().ping(OffsetDateTime::now_utc()) {
                    endpoint.notify(
                        now,
                        observer,
                        Response::content(JSON, body),
                        Urgency::Latest,
                    );
                }
            }
            Event::ObserverGone(_) | Event::Ended(..) | Event::Notified(..) => {}
        }
    }

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: FacadeCommand) {
        match command {
            FacadeCommand::Told(body) => {
                let observers: Vec<_> = endpoint.observers().map(|(id, ..)| id).collect();
                for observer in observers {
                    let response = Response::content(JSON, body.clone());
                    endpoint.notify(now, observer, response, Urgency::Each);
                }
            }
            FacadeCommand::Passed(id, Ok(response)) => {
                endpoint.respond(now, id, response, false);
            }
            FacadeCommand::Passed(id, Err(failure)) => {
                let text = if failure.is_undone() {
                    format!("the box was not reached, so it did nothing: {failure}")
                } else {
                    format!(
                        "the box gave no answer ({failure}); whether it did as asked is not known"
                    )
                };
                let response = Response {
                    content_format: Some(JSON),
                    payload: Bytes::from(serde_json::json!({ "error": text }).to_string()),
                    ..Response::new(Code::GATEWAY_TIMEOUT)
                };
                endpoint.respond(now, id, response, false);
            }
        }
    }
}

impl Facade {
    fn mirror(&self) -> Arc<Mirror> {
        self.published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn request(&self, endpoint: &mut Endpoint, now: Time, id: RequestId, request: Request) {
        self.metrics.coap_requests_total.inc();
        if let Some(answer) = answer_at_once(&request) {
            endpoint.respond(now, id, answer, false);
            return;
        }
        let is_get = request.method == Code::GET;
        let owned = Owned::of(request);
        // A box may take a query that it does not understand for none, and clear all (pager contract, 1.5).
        if let Some(refusal) = rollcall_pager::refuse_query(&owned.borrow()) {
            endpoint.respond(now, id, response(refusal), false);
            return;
        }
        if !owned.payload.is_empty()
            && serde_json::from_slice::<serde_json::Value>(&owned.payload).is_err()
        {
            let response = Response {
                content_format: Some(JSON),
                payload: Bytes::from_static(br#"{"error":"The body is not JSON."}"#),
                ..Response::new(Code::BAD_REQUEST)
            };
            endpoint.respond(now, id, response, false);
            return;
        }
        if is_get && let Some(body) = self.known(&owned) {
            let is_observable = owned.path == ["v1", "notify"];
            endpoint.respond(now, id, Response::content(JSON, body), is_observable);
            return;
        }
        let command = Command::Pass {
            place: self.place,
            request: owned,
            answer: (self.own.clone(), id),
        };
        let mirrors = self.mirrors.upgrade();
        if mirrors.is_none_or(|mirrors| mirrors.try_send(command).is_err()) {
            endpoint.respond(
                now,
                id,
                unavailable("too much waits for the box; try again later"),
                false,
            );
        }
    }

    /// What is known without asking the box.
    fn known(&self, request: &Owned) -> Option<Vec<u8>> {
        let (mirror, now) = (self.mirror(), OffsetDateTime::now_utc());
        if request.path == ["v1", "notify"] {
            return if request.query.is_empty() {
                mirror.ping(now)
            } else {
                mirror.body(&["v1".to_owned(), "sessions".to_owned()], None, now)
            };
        }
        let number = request
            .query
            .first()
            .and_then(|query| query.strip_prefix("number="));
        mirror.body(
            &request.path,
            number.and_then(|number| number.parse().ok()),
            now,
        )
    }
}
