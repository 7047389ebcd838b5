//! The documents that give commands: out of their JSON, with every complaint at its place.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::web::Payload;
use rollcall_model::command::Order;
use rollcall_model::{Limits, OutOfRange, Session};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use uuid::Uuid;

use super::not_a_pager;
use crate::App;
use crate::error::{ApiError, Problem};
use crate::surfaces::forms::body::{self, Body};
use crate::surfaces::forms::json;
use crate::surfaces::resources::media::JSON_API;

/// Members of a document and of a resource that say nothing here.
const PASSED_OVER: [&str; 3] = ["jsonapi", "links", "meta"];

/// What other members there are.
type Rest = BTreeMap<String, IgnoredAny>;

#[derive(Deserialize)]
struct Envelope<A> {
    data: Data<A>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct Data<A> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    attributes: A,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct ActionAttributes {
    action: Action,
    #[serde(rename = "pageMode")]
    page_mode: Option<String>,
    message: Option<String>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct NewAttributes {
    number: u64,
    goal: Option<u64>,
    label: Option<String>,
    party_size: Option<u64>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Page,
    Clear,
    Remove,
}

/// What is asked of a session.
pub struct SessionAction {
    /// The session's id as the document has it.
    id: String,
    action: Action,
    page_mode: Option<String>,
    message: Option<String>,
}

/// Reads a body that must be JSON, as JSON:API or plain.
pub async fn read(app: &App, req: &HttpRequest, payload: Payload) -> Result<Body, ApiError> {
    let media = body::media_type(req)?;
    if ![JSON_API, "application/json"].contains(&media.as_str()) {
        return Err(ApiError::UnsupportedMedia(
            Problem::new(
                "content_type_unsupported",
                "send this request as application/vnd.api+json or application/json",
            )
            .of_header("Content-Type"),
        ));
    }
    body::read_body(app, req, payload).await
}

/// What to do to a session.
pub fn action(json: &[u8], limits: &Limits) -> Result<SessionAction, ApiError> {
    let Data { id, attributes, .. } = document::<ActionAttributes>(json, limits)?;
    let of_page = [
        ("pageMode", attributes.page_mode.is_some()),
        ("message", attributes.message.is_some()),
    ];
    known(&attributes.rest, "action, pageMode and message")?;
    let others = of_page.iter().filter(|(_, is_there)| *is_there);
    if attributes.action != Action::Page
        && let Some((name, _)) = others.into_iter().next()
    {
        let message = format!("{name} goes with the action page alone; leave it out");
        return Err(of_attribute("attribute_unexpected", name, message));
    }
    let id = id.ok_or_else(|| {
        let message = "data.id is missing; send the session's id, as in the path";
        ApiError::Invalid(Problem::new("id_missing", message).of_pointer("/data"))
    })?;
    Ok(SessionAction {
        id,
        action: attributes.action,
        page_mode: attributes.page_mode,
        message: attributes.message,
    })
}

/// The session to make.
pub fn new_session(json: &[u8], limits: &Limits) -> Result<Order, ApiError> {
    let Data { id, attributes, .. } = document::<NewAttributes>(json, limits)?;
    known(&attributes.rest, "number, goal, label and party_size")?;
    if id.is_some() {
        let message = "a session's id is not the client's to choose; leave data.id out";
        let problem = Problem::new("id_unsupported", message).of_pointer("/data/id");
        return Err(ApiError::Forbidden(problem));
    }
    // What is too large for the type is so for the check.
    let least = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let order = Order::Create {
        number: u16::try_from(attributes.number).unwrap_or(0),
        goal: attributes.goal.map(least),
        label: attributes.label,
        party_size: attributes.party_size.map(least),
    };
    checked(order)
}

impl SessionAction {
    /// The order to the session's transmitter. `name` is what the path calls the session.
    pub fn order(&self, session: &Session, name: &str) -> Result<Order, ApiError> {
        if self.id != name && self.id.to_lowercase() != session.id.to_string() {
            let message = format!(
                "data.id is {}, and the path's session is {}; send the same",
                self.id.escape_debug(),
                session.id
            );
            let problem = Problem::new("id_mismatch", message).of_pointer("/data/id");
            return Err(ApiError::Conflict(problem));
        }
        let number = session.pager.as_ref().map(|pager| pager.number);
        let named = Uuid::try_parse(&session.source_id).ok();
        let (number, session) = number.zip(named).ok_or_else(not_a_pager)?;
        checked(match self.action {
            Action::Page => Order::Page {
                session,
                number,
                page_mode: self.page_mode.clone(),
                message: self.message.clone(),
            },
            Action::Clear => Order::Clear { session, number },
            Action::Remove => Order::Remove { session, number },
        })
    }
}

fn document<A: DeserializeOwned>(json: &[u8], limits: &Limits) -> Result<Data<A>, ApiError> {
    let Envelope { data, rest } =
        json::parse::<Envelope<A>>(json, limits).map_err(ApiError::Invalid)?;
    for (place, rest) in [("", &rest), ("/data", &data.rest)] {
        let mut unknown = rest
            .keys()
            .filter(|name| !PASSED_OVER.contains(&name.as_str()));
        if let Some(name) = unknown.next() {
            let message = format!(
                "the document has a member that means nothing here: {}; leave it out",
                name.escape_debug()
            );
            let pointer = pointer(place, name);
            return Err(ApiError::Invalid(
                Problem::new("member_unknown", message).of_pointer(pointer),
            ));
        }
    }
    if data.kind != "sessions" {
        let message = format!(
            "data.type is {}, and this path is one of sessions; send sessions",
            data.kind.escape_debug()
        );
        let problem = Problem::new("type_mismatch", message).of_pointer("/data/type");
        return Err(ApiError::Conflict(problem));
    }
    Ok(data)
}

/// Refuses attributes that are none here, and names them.
fn known(rest: &Rest, own: &str) -> Result<(), ApiError> {
    let Some(first) = rest.keys().next() else {
        return Ok(());
    };
    let names: Vec<String> = rest
        .keys()
        .take(10)
        .map(|name| name.escape_debug().to_string())
        .collect();
    let message = format!(
        "these attributes are unknown here: {}; those known are {own}",
        names.join(", ")
    );
    Err(of_attribute("attribute_unknown", first, message))
}

fn checked(order: Order) -> Result<Order, ApiError> {
    match order.check() {
        Ok(()) => Ok(order),
        Err(OutOfRange(message)) => {
            let name = message.split(' ').next().unwrap_or_default().to_owned();
            Err(of_attribute("attribute_out_of_range", &name, message))
        }
    }
}

fn of_attribute(code: &'static str, name: &str, message: String) -> ApiError {
    ApiError::Invalid(Problem::new(code, message).of_pointer(pointer("/data/attributes", name)))
}

fn pointer(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}
