//! MaxScale's `filter=<pointer>=<expression>` (proxy contract §1.4 and decision 9) on the members of a session that are
//! columns. `<expression>` is a JSON value, or `eq ne lt le ge gt` of one, or `and or not` of expressions.
//!
//! Unlike MaxScale's: values of unequal types are never ordered, `5` and `5.0` are equal, times compare as times, `idle` with whole
//! seconds too.

use rollcall_store::listing::{Column, ColumnKind, Comparison, Condition, Value};
use rollcall_store::sessions::columns;
use serde_json::Value as Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::error::{ApiError, Problem};

/// Where a session's document has what is a column.
const MEMBERS: [(&str, Column); 21] = [
    ("id", columns::ID),
    ("attributes/state", columns::STATE),
    ("attributes/active", columns::ACTIVE),
    ("attributes/kind", columns::KIND),
    ("attributes/project", columns::PROJECT),
    ("attributes/number", columns::NUMBER),
    ("attributes/unit_id", columns::UNIT),
    ("attributes/label", columns::LABEL),
    ("attributes/user", columns::USER),
    ("attributes/remote", columns::REMOTE),
    ("attributes/client_id", columns::CLIENT),
    ("attributes/protocol", columns::PROTOCOL),
    ("attributes/inflight", columns::INFLIGHT),
    ("attributes/queue_depth", columns::QUEUE_DEPTH),
    ("attributes/idle", columns::IDLE_SINCE),
    ("attributes/source_id", columns::SOURCE_ID),
    ("attributes/started", columns::STARTED),
    ("attributes/saved", columns::SAVED),
    ("attributes/updated", columns::UPDATED),
    ("attributes/revision", columns::REVISION),
    ("relationships/services/data/0/id", columns::SERVICE),
];
const MAX_DEPTH: usize = 16;
const MAX_TERMS: usize = 100;

/// The condition that a filter states.
pub fn parse(filter: &str) -> Result<Condition, ApiError> {
    let invalid = |message: String| {
        ApiError::Invalid(Problem::new("filter_invalid", message).of_parameter("filter"))
    };
    let Some((pointer, text)) = filter.split_once('=') else {
        return Err(invalid(
            "filter must be a JSON pointer, `=` and an expression, like /attributes/state=\"saved\"".to_owned(),
        ));
    };
    let path = pointer.strip_prefix('/').unwrap_or(pointer);
    let Some((_, column)) = MEMBERS.iter().find(|(own, _)| *own == path) else {
        let known = MEMBERS.map(|(own, _)| format!("/{own}")).join(", ");
        return Err(invalid(format!(
            "`{}` cannot be filtered by; what can is {known}",
            pointer.escape_debug()
        )));
    };
    let mut reader = Reader {
        text,
        at: 0,
        terms: 0,
        column: *column,
    };
    let condition = reader
        .expression(0)
        .and_then(|condition| reader.end().map(|()| condition));
    match condition {
        // What lacks the member is not wanted, whatever the expression says of it.
        Ok(condition) => Ok(Condition::All(vec![Condition::Known(*column), condition])),
        Err(expected) => Err(invalid(format!(
            "the filter's expression is not right from character {} on: {expected}",
            text[..reader.at.min(text.len())].chars().count() + 1
        ))),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
    column: Column,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, expected: char) -> bool {
        self.skip_space();
        let is_there = self.rest().starts_with(expected);
        self.at += if is_there { expected.len_utf8() } else { 0 };
        is_there
    }

    fn end(&mut self) -> Result<(), String> {
        self.skip_space();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err("nothing more was expected".to_owned())
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Condition, String> {
        self.terms += 1;
        if depth > MAX_DEPTH || self.terms > MAX_TERMS {
            return Err(format!(
                "an expression has at most {MAX_TERMS} terms, nested at most {MAX_DEPTH} deep"
            ));
        }
        self.skip_space();
        let length = self
            .rest()
            .bytes()
            .take_while(u8::is_ascii_lowercase)
            .count();
        let word = &self.rest()[..length];
        let is_call = self.rest()[length..].trim_start().starts_with('(');
        if !is_call {
            return self.comparison(Comparison::Equal);
        }
        let word = word.to_owned();
        let comparison = match word.as_str() {
            "eq" => Some(Comparison::Equal),
            "ne" => Some(Comparison::NotEqual),
            "lt" => Some(Comparison::Less),
            "le" => Some(Comparison::LessOrEqual),
            "ge" => Some(Comparison::GreaterOrEqual),
            "gt" => Some(Comparison::Greater),
            "and" | "or" | "not" => None,
            _ => return Err("one of eq, ne, lt, le, ge, gt, and, or, not was expected".to_owned()),
        };
        self.at += length;
        self.take('(');
        let condition = match comparison {
            Some(comparison) => self.comparison(comparison)?,
            None => {
                let mut parts = vec![self.expression(depth + 1)?];
                while self.take(',') {
                    parts.push(self.expression(depth + 1)?);
                }
                match word.as_str() {
                    "and" => Condition::All(parts),
                    "or" => Condition::Any(parts),
                    _ => Condition::Not(Box::new(Condition::Any(parts))),
                }
            }
        };
        if self.take(')') {
            Ok(condition)
        } else {
            Err("`)` was expected".to_owned())
        }
    }

    fn comparison(&mut self, comparison: Comparison) -> Result<Condition, String> {
        self.skip_space();
        let length = literal_length(self.rest());
        let expected = "a JSON string, number, true, false or null was expected; strings stand in double quotes";
        let literal =
            serde_json::from_str(&self.rest()[..length]).map_err(|_| expected.to_owned())?;
        let condition = compare(self.column, comparison, &literal)?;
        self.at += length;
        Ok(condition)
    }
}

/// How far a JSON value that is no array and no object goes.
fn literal_length(text: &str) -> usize {
    if !text.starts_with('"') {
        return text.find([',', ')']).unwrap_or(text.len());
    }
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn compare(column: Column, comparison: Comparison, literal: &Json) -> Result<Condition, String> {
    let with = |value: Value| Ok(Condition::Compare(column, comparison, value));
    match (column.kind, literal) {
        (_, Json::Array(_) | Json::Object(_)) => {
            Err("arrays and objects are not compared".to_owned())
        }
        _ if column == columns::IDLE_SINCE => Ok(match literal.as_f64() {
            Some(seconds) => is_idle(comparison, seconds, OffsetDateTime::now_utc()),
            None => unequal(comparison),
        }),
        (ColumnKind::Text, Json::String(text)) if !text.contains('\0') => {
            with(Value::Text(text.clone()))
        }
        (ColumnKind::Flag, Json::Bool(flag)) if is_equality(comparison) => with(Value::Flag(*flag)),
        (ColumnKind::Number, Json::Number(number)) => {
            Ok(compare_number(column, comparison, number))
        }
        (ColumnKind::Id, Json::String(text)) => match Uuid::try_parse(text) {
            Ok(id) => with(Value::Id(id)),
            Err(_) => Ok(unequal(comparison)),
        },
        (ColumnKind::Time, Json::String(text)) => match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(time) => with(Value::Time(time)),
            Err(_) => Err(
                "this member is a time; compare it with one like \"2026-11-21T09:00:00Z\""
                    .to_owned(),
            ),
        },
        _ => Ok(unequal(comparison)),
    }
}

/// How long somebody is idle, by the column of since when: who is so for longer, is so since earlier.
pub fn is_idle(comparison: Comparison, seconds: f64, now: OffsetDateTime) -> Condition {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    /// Seconds that a time can be away, and Postgres still has it.
    const FARTHEST: f64 = 1e10;
    let turned = match comparison {
        Equal | NotEqual => comparison,
        Less => Greater,
        LessOrEqual => GreaterOrEqual,
        Greater => Less,
        GreaterOrEqual => LessOrEqual,
    };
    let away = time::Duration::seconds_f64(seconds.clamp(-FARTHEST, FARTHEST));
    Condition::Compare(columns::IDLE_SINCE, turned, Value::Time(now - away))
}

fn is_equality(comparison: Comparison) -> bool {
    matches!(comparison, Comparison::Equal | Comparison::NotEqual)
}

/// What a comparison with a value of another type comes to: equal they are not, and in no order.
fn unequal(comparison: Comparison) -> Condition {
    match comparison {
        Comparison::NotEqual => Condition::All(Vec::new()),
        _ => Condition::Any(Vec::new()),
    }
}

/// Compares whole numbers with a number that may have a fraction.
fn compare_number(
    column: Column,
    comparison: Comparison,
    number: &serde_json::Number,
) -> Condition {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let with = |comparison, whole| Condition::Compare(column, comparison, Value::Number(whole));
    if let Some(whole) = number.as_i64() {
        return with(comparison, whole);
    }
    // Beyond the range of whole numbers the cast takes the nearest, which no column has.
    let real = number.as_f64().unwrap_or(f64::MAX);
    let (floor, ceiling) = (real.floor() as i64, real.ceil() as i64);
    match comparison {
        Equal | NotEqual if floor != ceiling => unequal(comparison),
        Equal | NotEqual => with(comparison, floor),
        Less | GreaterOrEqual => with(comparison, ceiling),
        LessOrEqual | Greater => with(comparison, floor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(filter: &str) -> Condition {
        match parse(filter).expect(filter) {
            Condition::All(mut parts) if parts.len() == 2 => parts.remove(1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn expressions_are_read() {
        let state = |comparison, text: &str| {
            Condition::Compare(columns::STATE, comparison, Value::Text(text.to_owned()))
        };
        assert_eq!(
            of(r#"/attributes/state="saved""#),
            state(Comparison::Equal, "saved")
        );
        assert_eq!(
            of(r#"attributes/state=ne("a,\")")"#),
            state(Comparison::NotEqual, "a,\")")
        );
        assert_eq!(
            of(r#"/attributes/state= or( eq("a") , not(lt("b"),gt("c")) ) "#),
            Condition::Any(vec![
                state(Comparison::Equal, "a"),
                Condition::Not(Box::new(Condition::Any(vec![
                    state(Comparison::Less, "b"),
                    state(Comparison::Greater, "c"),
                ]))),
            ])
        );
    }

    #[test]
    fn unequal_types_are_unequal_and_in_no_order() {
        for (filter, is_true) in [
            ("/attributes/state=5", false),
            ("/attributes/state=ne(5)", true),
            ("/attributes/state=le(5)", false),
            ("/attributes/project=ge(\"5\")", false),
            ("/attributes/active=lt(true)", false),
            ("/id=eq(1)", false),
            ("/attributes/label=null", false),
            ("/attributes/project=1.5", false),
            ("/attributes/idle=ge(\"5\")", false),
            ("/attributes/inflight=ge(true)", false),
        ] {
            let expected = if is_true {
                Condition::All(vec![])
            } else {
                Condition::Any(vec![])
            };
            assert_eq!(of(filter), expected, "{filter}");
        }
    }

    #[test]
    fn whole_numbers_compare_with_fractions() {
        let project = |comparison, number| {
            Condition::Compare(columns::PROJECT, comparison, Value::Number(number))
        };
        for (filter, expected) in [
            ("/attributes/project=2.0", project(Comparison::Equal, 2)),
            ("/attributes/project=lt(1.5)", project(Comparison::Less, 2)),
            (
                "/attributes/project=le(1.5)",
                project(Comparison::LessOrEqual, 1),
            ),
            (
                "/attributes/project=gt(1.5)",
                project(Comparison::Greater, 1),
            ),
            (
                "/attributes/project=ge(1.5)",
                project(Comparison::GreaterOrEqual, 2),
            ),
        ] {
            assert_eq!(of(filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let deep = format!("/id={}1{}", "not(".repeat(200), ")".repeat(200));
        let wide = format!("/id=or({}1)", "1,".repeat(200));
        for filter in [
            "",
            "x",
            "/attributes/points/a=1",
            "/id=",
            "/id=eq()",
            "/id=eq(1",
            "/id=eq(1,2)",
            "/id=maybe(1)",
            "/id=\"a",
            "/id=[1]",
            "/id=eq(1))",
            "/id=saved",
            "/attributes/started=\"today\"",
            "/id=and()",
            &deep,
            &wide,
        ] {
            assert!(
                matches!(parse(filter), Err(ApiError::Invalid(_))),
                "{filter}"
            );
        }
    }
}
