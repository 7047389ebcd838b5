//! What listings may be narrowed and sorted by, from parameters to conditions.

mod sessions;

pub use sessions::SessionFilters;

use rollcall_model::ProjectId;
use rollcall_store::listing::{Column, Condition, Order, Value};
use rollcall_store::{commands, events, relays, services};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use crate::auth::Principal;
use crate::error::{ApiError, Problem};

/// Which services.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ServiceFilters {
    /// Services of this kind: `form`, `pager`, `broker`, `proxy`.
    #[serde(rename = "filter[kind]")]
    #[param(example = "broker")]
    kind: Option<String>,
    /// Services that stand so.
    #[serde(rename = "filter[state]")]
    state: Option<String>,
    /// Services of the project with this number.
    #[serde(rename = "filter[project]")]
    #[param(value_type = Option<i64>, minimum = 1)]
    project: Option<String>,
}

/// Which relays.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RelayFilters {
    /// Relays of the project with this number.
    #[serde(rename = "filter[project]")]
    #[param(value_type = Option<i64>, minimum = 1)]
    project: Option<String>,
}

impl RelayFilters {
    /// The conditions, the credential's reach among them, and the order: by name.
    pub fn read(&self, who: &Principal) -> Result<(Vec<Condition>, Order), ApiError> {
        use relays::columns::{NAME, PROJECT};
        let mut conditions: Vec<Condition> = reach(who, PROJECT).into_iter().collect();
        if let Some(number) = &self.project {
            conditions.push(is_project(PROJECT, number)?);
        }
        let order = Order {
            columns: &[NAME],
            descending: false,
        };
        Ok((conditions, order))
    }
}

impl ServiceFilters {
    /// The conditions, the credential's reach among them, and the order: by name.
    pub fn read(&self, who: &Principal) -> Result<(Vec<Condition>, Order), ApiError> {
        use services::columns::{KIND, NAME, PROJECT, STATE};
        let mut conditions: Vec<Condition> = reach(who, PROJECT).into_iter().collect();
        conditions.extend(self.kind.as_deref().map(|kind| is(KIND, kind)));
        conditions.extend(self.state.as_deref().map(|state| is(STATE, state)));
        if let Some(number) = &self.project {
            conditions.push(is_project(PROJECT, number)?);
        }
        let order = Order {
            columns: &[NAME],
            descending: false,
        };
        Ok((conditions, order))
    }
}

/// Which commands.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CommandFilters {
    /// Commands to this service.
    #[serde(rename = "filter[service]")]
    service: Option<String>,
    /// Commands that stand so.
    #[serde(rename = "filter[status]")]
    #[param(example = "queued")]
    status: Option<String>,
    /// Commands of the session with this id: Rollcall's own, a UUID.
    #[serde(rename = "filter[session]")]
    #[param(format = Uuid)]
    session: Option<String>,
    /// Commands of the project with this number.
    #[serde(rename = "filter[project]")]
    #[param(value_type = Option<i64>, minimum = 1)]
    project: Option<String>,
}

impl CommandFilters {
    /// The conditions, the credential's reach among them, and the order: newest first.
    pub fn read(&self, who: &Principal) -> Result<(Vec<Condition>, Order), ApiError> {
        use commands::columns::{CREATED, ID, PROJECT, SERVICE, SESSION, STATUS};
        let mut conditions: Vec<Condition> = reach(who, PROJECT).into_iter().collect();
        conditions.extend(self.service.as_deref().map(|service| is(SERVICE, service)));
        conditions.extend(self.status.as_deref().map(|status| is(STATUS, status)));
        if let Some(number) = &self.project {
            conditions.push(is_project(PROJECT, number)?);
        }
        if let Some(text) = &self.session {
            conditions.push(is_session(SESSION, text)?);
        }
        let order = Order {
            columns: &[CREATED, ID],
            descending: true,
        };
        Ok((conditions, order))
    }
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilters {
    /// Events of sessions of this kind.
    #[serde(rename = "filter[kind]")]
    #[param(example = "form")]
    kind: Option<String>,
    /// Events of this type.
    #[serde(rename = "filter[type]")]
    #[param(example = "created")]
    event_type: Option<String>,
    /// Events of this service's sessions.
    #[serde(rename = "filter[service]")]
    service: Option<String>,
    /// Events of the project with this number.
    #[serde(rename = "filter[project]")]
    #[param(value_type = Option<i64>, minimum = 1)]
    project: Option<String>,
    /// Events of the session with this id: Rollcall's own, a UUID.
    #[serde(rename = "filter[session]")]
    #[param(format = Uuid)]
    session: Option<String>,
}

impl EventFilters {
    /// The conditions, the credential's reach among them.
    pub fn read(&self, who: &Principal) -> Result<Vec<Condition>, ApiError> {
        use events::columns::{KIND, PROJECT, SERVICE, SESSION, TYPE};
        let mut conditions: Vec<Condition> = reach(who, PROJECT).into_iter().collect();
        for (column, wanted) in [
            (KIND, &self.kind),
            (TYPE, &self.event_type),
            (SERVICE, &self.service),
        ] {
            conditions.extend(wanted.as_deref().map(|wanted| is(column, wanted)));
        }
        if let Some(number) = &self.project {
            conditions.push(is_project(PROJECT, number)?);
        }
        if let Some(text) = &self.session {
            conditions.push(is_session(SESSION, text)?);
        }
        Ok(conditions)
    }
}

/// The one project in the credential's reach.
pub fn reach(who: &Principal, column: Column) -> Option<Condition> {
    let project = who.project?;
    Some(Condition::equal(column, Value::Number(project.get())))
}

fn is(column: Column, wanted: &str) -> Condition {
    without_nul(
        wanted,
        Condition::equal(column, Value::Text(wanted.to_owned())),
    )
}

/// Postgres knows no text with a NUL: nothing is called so.
fn without_nul(text: &str, condition: Condition) -> Condition {
    if text.contains('\0') {
        Condition::Any(Vec::new())
    } else {
        condition
    }
}

fn is_project(column: Column, text: &str) -> Result<Condition, ApiError> {
    let number: ProjectId = text
        .parse()
        .map_err(|_| invalid("filter[project]", "must be a project's number, from 1"))?;
    Ok(Condition::equal(column, Value::Number(number.get())))
}

fn is_session(column: Column, text: &str) -> Result<Condition, ApiError> {
    let id = uuid::Uuid::try_parse(text)
        .map_err(|_| invalid("filter[session]", "must be a session's id, a UUID"))?;
    Ok(Condition::equal(column, Value::Id(id)))
}

fn boolean(name: &'static str, text: &str) -> Result<bool, ApiError> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(name, "must be true or false")),
    }
}

fn time(name: &'static str, text: &str) -> Result<OffsetDateTime, ApiError> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        invalid(
            name,
            "must be a time as RFC 3339 writes it, like 2026-11-21T09:00:00Z",
        )
    })
}

fn invalid(name: &'static str, rule: &str) -> ApiError {
    ApiError::Invalid(Problem::new("filter_invalid", format!("{name} {rule}")).of_parameter(name))
}
