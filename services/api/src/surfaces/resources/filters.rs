//! What listings may be narrowed and sorted by, from parameters to conditions.

use rollcall_model::ProjectId;
use rollcall_store::listing::{Column, Comparison, Condition, Order, Value};
use rollcall_store::{commands, events, relays, services, sessions};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::IntoParams;

use super::expression;
use crate::auth::Principal;
use crate::error::{ApiError, Problem};

/// Which sessions, in which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SessionFilters {
    /// Sessions of this kind.
    #[serde(rename = "filter[kind]")]
    #[param(example = "form")]
    kind: Option<String>,
    /// Sessions that stand so.
    #[serde(rename = "filter[state]")]
    #[param(example = "saved")]
    state: Option<String>,
    /// Sessions that are on the roll, or those that are history.
    #[serde(rename = "filter[active]")]
    #[param(value_type = Option<bool>)]
    active: Option<String>,
    /// Sessions of this service.
    #[serde(rename = "filter[service]")]
    service: Option<String>,
    /// Sessions of the project with this number.
    #[serde(rename = "filter[project]")]
    #[param(value_type = Option<i64>, minimum = 1)]
    project: Option<String>,
    /// Sessions of the pager with this number.
    #[serde(rename = "filter[number]")]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 65535, example = 12)]
    number: Option<String>,
    /// Sessions of this device.
    #[serde(rename = "filter[unit_id]")]
    unit_id: Option<String>,
    /// Sessions that are called so.
    #[serde(rename = "filter[label]")]
    label: Option<String>,
    /// Sessions of this user.
    #[serde(rename = "filter[user]")]
    user: Option<String>,
    /// Sessions that began then or later.
    #[serde(rename = "filter[started][ge]")]
    #[param(format = DateTime, example = "2026-11-01T00:00:00Z")]
    started_ge: Option<String>,
    /// Sessions that began before.
    #[serde(rename = "filter[started][lt]")]
    #[param(format = DateTime)]
    started_lt: Option<String>,
    /// Sessions that changed last then or later.
    #[serde(rename = "filter[updated][ge]")]
    #[param(format = DateTime)]
    updated_ge: Option<String>,
    /// Sessions that changed last before.
    #[serde(rename = "filter[updated][lt]")]
    #[param(format = DateTime)]
    updated_lt: Option<String>,
    /// Sessions whose name at their source begins so.
    #[serde(rename = "filter[source_id][prefix]")]
    source_id_prefix: Option<String>,
    /// MaxScale's `<JSON pointer>=<JSON or expression>`, on members that are columns: `/attributes/state="saved"`,
    /// `/attributes/revision=and(ge(2),lt(9))`. Expressions are `eq ne lt le ge gt` of one JSON value, `and or not`.
    filter: Option<String>,
    /// `started`, `updated`, `source_id`, `id`, or `number`, which leaves out what has none; with `-` in front from the last to
    /// the first. `-started` where left out.
    #[param(example = "-started")]
    sort: Option<String>,
}

const SORTS: [(&str, &[Column]); 5] = {
    use sessions::columns::{ID, NUMBER, SOURCE_ID, STARTED, UPDATED};
    [
        ("started", &[STARTED, ID]),
        ("updated", &[UPDATED, ID]),
        ("source_id", &[SOURCE_ID, ID]),
        ("id", &[ID]),
        ("number", &[NUMBER, STARTED, ID]),
    ]
};

impl SessionFilters {
    /// The conditions, the credential's reach among them, and the order.
    pub fn read(&self, who: &Principal) -> Result<(Vec<Condition>, Order), ApiError> {
        use Comparison::{GreaterOrEqual, Less};
        use sessions::columns::{
            ACTIVE, KIND, LABEL, NUMBER, PROJECT, SERVICE, SOURCE_ID, STARTED, STATE, UNIT,
            UPDATED, USER,
        };
        let mut conditions: Vec<Condition> = reach(who, PROJECT).into_iter().collect();
        for (column, wanted) in [
            (KIND, &self.kind),
            (STATE, &self.state),
            (SERVICE, &self.service),
            (UNIT, &self.unit_id),
            (LABEL, &self.label),
            (USER, &self.user),
        ] {
            conditions.extend(wanted.as_deref().map(|wanted| is(column, wanted)));
        }
        if let Some(flag) = &self.active {
            let flag = boolean("filter[active]", flag)?;
            conditions.push(Condition::equal(ACTIVE, Value::Flag(flag)));
        }
        if let Some(number) = &self.project {
            conditions.push(is_project(PROJECT, number)?);
        }
        if let Some(text) = &self.number {
            let number = text.parse::<u16>().ok().filter(|number| *number > 0);
            let number = number
                .ok_or_else(|| invalid("filter[number]", "must be a pager's number, 1 to 65535"))?;
            conditions.push(Condition::equal(NUMBER, Value::Number(number.into())));
        }
        for (name, column, comparison, wanted) in [
            (
                "filter[started][ge]",
                STARTED,
                GreaterOrEqual,
                &self.started_ge,
            ),
            ("filter[started][lt]", STARTED, Less, &self.started_lt),
            (
                "filter[updated][ge]",
                UPDATED,
                GreaterOrEqual,
                &self.updated_ge,
            ),
            ("filter[updated][lt]", UPDATED, Less, &self.updated_lt),
        ] {
            if let Some(text) = wanted {
                conditions.push(Condition::Compare(
                    column,
                    comparison,
                    Value::Time(time(name, text)?),
                ));
            }
        }
        if let Some(prefix) = &self.source_id_prefix {
            conditions.push(without_nul(
                prefix,
                Condition::Prefix(SOURCE_ID, prefix.clone()),
            ));
        }
        if let Some(filter) = &self.filter {
            conditions.push(expression::parse(filter)?);
        }
        let order = self.order()?;
        // What has no number has no place in its order.
        if order.columns.contains(&NUMBER) {
            conditions.push(Condition::Known(NUMBER));
        }
        Ok((conditions, order))
    }

    fn order(&self) -> Result<Order, ApiError> {
        let sort = self.sort.as_deref().unwrap_or("-started");
        let name = sort.strip_prefix('-').unwrap_or(sort);
        let found = SORTS.iter().find(|(own, _)| *own == name);
        found
            .map(|(_, columns)| Order {
                columns,
                descending: sort.starts_with('-'),
            })
            .ok_or_else(|| {
                let known = SORTS.map(|(own, _)| own).join(", ");
                let message =
                    format!("sort must be one of {known}, or one of them with - in front");
                ApiError::Invalid(Problem::new("sort_invalid", message).of_parameter("sort"))
            })
    }
}

/// Which services.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ServiceFilters {
    /// Services of sessions of this kind.
    #[serde(rename = "filter[kind]")]
    #[param(example = "form")]
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
