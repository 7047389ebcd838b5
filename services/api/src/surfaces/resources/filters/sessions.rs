//! What sessions may be narrowed and sorted by.

use rollcall_store::listing::Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
use rollcall_store::listing::{Column, Condition, Order, Value};
use rollcall_store::sessions::columns;
use serde::Deserialize;
use time::OffsetDateTime;
use utoipa::IntoParams;

use super::super::expression;
use super::{boolean, invalid, is, is_project, reach, time, without_nul};
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
    /// Sessions that come from this address.
    #[serde(rename = "filter[remote]")]
    #[param(example = "10.0.0.7")]
    remote: Option<String>,
    /// Connections over this protocol.
    #[serde(rename = "filter[protocol]")]
    #[param(example = "mqtt5")]
    protocol: Option<String>,
    /// Sessions on brokers of the client with this id.
    #[serde(rename = "filter[client_id]")]
    client_id: Option<String>,
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
    /// Connections with this many messages that are sent and not acknowledged or more. Where it is unknown, they are left out.
    #[serde(rename = "filter[inflight][ge]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    inflight_ge: Option<String>,
    /// Connections with more messages that are sent and not acknowledged than this. Where it is unknown, they are left out.
    #[serde(rename = "filter[inflight][gt]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    inflight_gt: Option<String>,
    /// Connections with this many messages that are sent and not acknowledged or fewer. Where it is unknown, they are left out.
    #[serde(rename = "filter[inflight][le]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    inflight_le: Option<String>,
    /// Connections with fewer messages that are sent and not acknowledged than this. Where it is unknown, they are left out.
    #[serde(rename = "filter[inflight][lt]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    inflight_lt: Option<String>,
    /// Connections with this many messages that wait or more. Where it is unknown, they are left out.
    #[serde(rename = "filter[queue_depth][ge]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    queue_depth_ge: Option<String>,
    /// Connections with more messages that wait than this. Where it is unknown, they are left out.
    #[serde(rename = "filter[queue_depth][gt]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    queue_depth_gt: Option<String>,
    /// Connections with this many messages that wait or fewer. Where it is unknown, they are left out.
    #[serde(rename = "filter[queue_depth][le]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    queue_depth_le: Option<String>,
    /// Connections with fewer messages that wait than this. Where it is unknown, they are left out.
    #[serde(rename = "filter[queue_depth][lt]")]
    #[param(value_type = Option<i64>, minimum = 0)]
    queue_depth_lt: Option<String>,
    /// Connections that have been idle for this many seconds or longer. Where it is unknown, they are left out.
    #[serde(rename = "filter[idle][ge]")]
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1000000000)]
    idle_ge: Option<String>,
    /// Connections that have been idle for longer than this many seconds. Where it is unknown, they are left out.
    #[serde(rename = "filter[idle][gt]")]
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1000000000)]
    idle_gt: Option<String>,
    /// Connections that have been idle for this many seconds or shorter. Where it is unknown, they are left out.
    #[serde(rename = "filter[idle][le]")]
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1000000000)]
    idle_le: Option<String>,
    /// Connections that have been idle for less than this many seconds. Where it is unknown, they are left out.
    #[serde(rename = "filter[idle][lt]")]
    #[param(value_type = Option<f64>, minimum = 0, maximum = 1000000000)]
    idle_lt: Option<String>,
    /// MaxScale's `<JSON pointer>=<JSON or expression>`, on members that are columns: `/attributes/state="saved"`,
    /// `/attributes/revision=and(ge(2),lt(9))`. Expressions are `eq ne lt le ge gt` of one JSON value, `and or not`.
    filter: Option<String>,
    /// `started`, `updated`, `source_id`, `id`; or `number`, `inflight`, `queue_depth`, `idle`, which leave out what has none or
    /// where it is unknown; with `-` in front from the last to the first. `-started` where left out.
    #[param(example = "-started")]
    sort: Option<String>,
}

const SORTS: [(&str, &[Column]); 8] = {
    use columns::{ID, IDLE_SINCE, INFLIGHT, NUMBER, QUEUE_DEPTH, SOURCE_ID, STARTED, UPDATED};
    [
        ("started", &[STARTED, ID]),
        ("updated", &[UPDATED, ID]),
        ("source_id", &[SOURCE_ID, ID]),
        ("id", &[ID]),
        ("number", &[NUMBER, STARTED, ID]),
        ("inflight", &[INFLIGHT, ID]),
        ("queue_depth", &[QUEUE_DEPTH, ID]),
        ("idle", &[IDLE_SINCE, ID]),
    ]
};

/// Which may be unknown, so that a session has no place in their order.
const MAY_BE_UNKNOWN: [Column; 4] = [
    columns::NUMBER,
    columns::INFLIGHT,
    columns::QUEUE_DEPTH,
    columns::IDLE_SINCE,
];
/// Seconds that may be asked for; more than thirty years.
const MAX_IDLE: f64 = 1e9;

impl SessionFilters {
    /// The conditions, the credential's reach among them, and the order.
    pub fn read(&self, who: &Principal) -> Result<(Vec<Condition>, Order), ApiError> {
        let mut conditions: Vec<Condition> = reach(who, columns::PROJECT).into_iter().collect();
        self.push_equal(&mut conditions)?;
        self.push_times(&mut conditions)?;
        self.push_counts(&mut conditions)?;
        self.push_idle(&mut conditions, OffsetDateTime::now_utc())?;
        if let Some(prefix) = &self.source_id_prefix {
            let condition = Condition::Prefix(columns::SOURCE_ID, prefix.clone());
            conditions.push(without_nul(prefix, condition));
        }
        if let Some(filter) = &self.filter {
            conditions.push(expression::parse(filter)?);
        }
        let order = self.order()?;
        let may_be_unknown = order.columns.iter().filter(|c| MAY_BE_UNKNOWN.contains(c));
        conditions.extend(may_be_unknown.map(|column| Condition::Known(*column)));
        Ok((conditions, order))
    }

    fn push_equal(&self, conditions: &mut Vec<Condition>) -> Result<(), ApiError> {
        for (column, wanted) in [
            (columns::KIND, &self.kind),
            (columns::STATE, &self.state),
            (columns::SERVICE, &self.service),
            (columns::UNIT, &self.unit_id),
            (columns::LABEL, &self.label),
            (columns::USER, &self.user),
            (columns::REMOTE, &self.remote),
            (columns::PROTOCOL, &self.protocol),
            (columns::CLIENT, &self.client_id),
        ] {
            conditions.extend(wanted.as_deref().map(|wanted| is(column, wanted)));
        }
        if let Some(flag) = &self.active {
            let flag = boolean("filter[active]", flag)?;
            conditions.push(Condition::equal(columns::ACTIVE, Value::Flag(flag)));
        }
        if let Some(number) = &self.project {
            conditions.push(is_project(columns::PROJECT, number)?);
        }
        if let Some(text) = &self.number {
            let number = text.parse::<u16>().ok().filter(|number| *number > 0);
            let number = number
                .ok_or_else(|| invalid("filter[number]", "must be a pager's number, 1 to 65535"))?;
            let number = Value::Number(number.into());
            conditions.push(Condition::equal(columns::NUMBER, number));
        }
        Ok(())
    }

    fn push_times(&self, conditions: &mut Vec<Condition>) -> Result<(), ApiError> {
        use columns::{STARTED, UPDATED};
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
                let value = Value::Time(time(name, text)?);
                conditions.push(Condition::Compare(column, comparison, value));
            }
        }
        Ok(())
    }

    fn push_counts(&self, conditions: &mut Vec<Condition>) -> Result<(), ApiError> {
        use columns::{INFLIGHT, QUEUE_DEPTH};
        for (name, column, comparison, wanted) in [
            (
                "filter[inflight][ge]",
                INFLIGHT,
                GreaterOrEqual,
                &self.inflight_ge,
            ),
            ("filter[inflight][gt]", INFLIGHT, Greater, &self.inflight_gt),
            (
                "filter[inflight][le]",
                INFLIGHT,
                LessOrEqual,
                &self.inflight_le,
            ),
            ("filter[inflight][lt]", INFLIGHT, Less, &self.inflight_lt),
            (
                "filter[queue_depth][ge]",
                QUEUE_DEPTH,
                GreaterOrEqual,
                &self.queue_depth_ge,
            ),
            (
                "filter[queue_depth][gt]",
                QUEUE_DEPTH,
                Greater,
                &self.queue_depth_gt,
            ),
            (
                "filter[queue_depth][le]",
                QUEUE_DEPTH,
                LessOrEqual,
                &self.queue_depth_le,
            ),
            (
                "filter[queue_depth][lt]",
                QUEUE_DEPTH,
                Less,
                &self.queue_depth_lt,
            ),
        ] {
            if let Some(text) = wanted {
                let number = text.parse::<i64>().ok().filter(|number| *number >= 0);
                let number =
                    number.ok_or_else(|| invalid(name, "must be a whole number from 0"))?;
                let value = Value::Number(number);
                conditions.push(Condition::Compare(column, comparison, value));
            }
        }
        Ok(())
    }

    /// Who is idle for longer, is so since earlier.
    fn push_idle(
        &self,
        conditions: &mut Vec<Condition>,
        now: OffsetDateTime,
    ) -> Result<(), ApiError> {
        for (name, comparison, wanted) in [
            ("filter[idle][ge]", GreaterOrEqual, &self.idle_ge),
            ("filter[idle][gt]", Greater, &self.idle_gt),
            ("filter[idle][le]", LessOrEqual, &self.idle_le),
            ("filter[idle][lt]", Less, &self.idle_lt),
        ] {
            if let Some(text) = wanted {
                let seconds = text.parse::<f64>().ok();
                let seconds = seconds.filter(|seconds| (0.0..=MAX_IDLE).contains(seconds));
                let seconds = seconds.ok_or_else(|| {
                    invalid(name, &format!("must be seconds, from 0 to {MAX_IDLE}"))
                })?;
                conditions.push(expression::is_idle(comparison, seconds, now));
            }
        }
        Ok(())
    }

    fn order(&self) -> Result<Order, ApiError> {
        let sort = self.sort.as_deref().unwrap_or("-started");
        let name = sort.strip_prefix('-').unwrap_or(sort);
        let found = SORTS.iter().find(|(own, _)| *own == name);
        let (_, columns) = found.ok_or_else(|| {
            let known = SORTS.map(|(own, _)| own).join(", ");
            let message = format!("sort must be one of {known}, or one of them with - in front");
            ApiError::Invalid(Problem::new("sort_invalid", message).of_parameter("sort"))
        })?;
        // Who is idle for the shortest time, is so since the latest.
        let is_turned = columns.contains(&columns::IDLE_SINCE);
        Ok(Order {
            columns,
            descending: sort.starts_with('-') != is_turned,
        })
    }
}
