//! What is in range of how a relay watches a service: a row of the store holds it whole.

use crate::connection::MEMBERS;
use crate::ingest::{BrokerNode, BrokerReport, WatchReport};
use crate::report::{OutOfRange, optional_time, text};

/// Nodes of a broker that are told, and names of what a source knows.
pub const MAX_NODES: usize = 64;
pub const MAX_KNOWS: usize = 100;
/// Bytes of a name, a version, a state or an address.
pub const MAX_NAME_BYTES: usize = 200;
/// Seconds that anything may have been up: more than three hundred years.
pub const MAX_UPTIME: f64 = 1e10;

impl WatchReport {
    /// The report where every value is in range. Times are UTC from here on. Of what the source can know those names stay
    /// that `/v1` has, each once: a newer relay may know of more.
    pub fn read(mut self) -> Result<Self, OutOfRange> {
        name("watch.source", &self.source)?;
        optional_name("watch.version", self.version.as_deref())?;
        optional_name("watch.state", self.state.as_deref())?;
        text("watch.trouble", self.trouble.as_deref().unwrap_or_default())?;
        if self.knows.len() > MAX_KNOWS {
            let message = format!("watch.knows names at most {MAX_KNOWS} members");
            return Err(OutOfRange(message));
        }
        self.knows.sort();
        self.knows.dedup();
        self.knows.retain(|name| MEMBERS.contains(&name.as_str()));
        self.seen = optional_time("watch.seen", self.seen)?;
        self.unreachable_since = optional_time("watch.unreachable_since", self.unreachable_since)?;
        self.broker.as_ref().map_or(Ok(()), BrokerReport::check)?;
        Ok(Self {
            state: self.state.filter(|state| !state.is_empty()),
            ..self
        })
    }
}

impl BrokerReport {
    fn check(&self) -> Result<(), OutOfRange> {
        uptime("watch.broker.uptime_seconds", self.uptime_seconds)?;
        for (name, count) in [
            ("connections", self.connections),
            ("disconnections", self.disconnections),
            ("messages_received", self.messages_received),
            ("messages_sent", self.messages_sent),
            ("bytes_received", self.bytes_received),
            ("bytes_sent", self.bytes_sent),
            ("protocol_errors", self.protocol_errors),
        ] {
            if count.is_some_and(|count| i64::try_from(count).is_err()) {
                return Err(OutOfRange(format!("watch.broker.{name} is below 2^63")));
            }
        }
        if self.nodes.len() > MAX_NODES {
            let message = format!("watch.broker.nodes lists at most {MAX_NODES}");
            return Err(OutOfRange(message));
        }
        self.nodes.iter().try_for_each(BrokerNode::check)
    }
}

impl BrokerNode {
    fn check(&self) -> Result<(), OutOfRange> {
        name("watch.broker.nodes[].id", &self.id)?;
        optional_name("watch.broker.nodes[].address", self.address.as_deref())?;
        uptime("watch.broker.nodes[].uptime_seconds", self.uptime_seconds)
    }
}

fn name(member: &str, value: &str) -> Result<(), OutOfRange> {
    if value.is_empty() {
        return Err(OutOfRange(format!("{member} is not empty")));
    }
    optional_name(member, Some(value))
}

fn optional_name(member: &str, value: Option<&str>) -> Result<(), OutOfRange> {
    let is_wrong = |value: &str| value.len() > MAX_NAME_BYTES || value.contains('\0');
    if value.is_some_and(is_wrong) {
        return Err(OutOfRange(format!(
            "{member} is text of at most {MAX_NAME_BYTES} bytes without U+0000"
        )));
    }
    Ok(())
}

fn uptime(member: &str, seconds: Option<f64>) -> Result<(), OutOfRange> {
    if seconds.is_some_and(|seconds| !(0.0..=MAX_UPTIME).contains(&seconds)) {
        return Err(OutOfRange(format!("{member} is from 0 to {MAX_UPTIME}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn report() -> WatchReport {
        WatchReport {
            source: "rabbitmq".to_owned(),
            ..WatchReport::default()
        }
    }

    #[test]
    fn what_is_known_is_told_by_the_names_of_v1_alone() {
        let knows = ["user", "soul", "remote", "user"].map(str::to_owned);
        let read = WatchReport {
            knows: knows.to_vec(),
            seen: Some(datetime!(2026-11-21 10:00 +1)),
            state: Some(String::new()),
            ..report()
        };
        let read = read.read().expect("in range");
        assert_eq!(read.knows, ["remote", "user"]);
        assert_eq!(read.seen, Some(datetime!(2026-11-21 09:00 UTC)));
        assert_eq!(read.state, None);
    }

    #[test]
    fn no_report_fills_a_row() {
        fn node(id: &str) -> BrokerNode {
            BrokerNode {
                id: id.to_owned(),
                address: None,
                healthy: true,
                leader: None,
                uptime_seconds: None,
            }
        }
        fn broker(report: &mut WatchReport) -> &mut BrokerReport {
            report.broker.get_or_insert_default()
        }
        type Case = (&'static str, fn(&mut WatchReport));
        let cases: [Case; 9] = [
            ("source", |report| report.source.clear()),
            ("version", |report| report.version = Some("x".repeat(201))),
            ("state", |report| report.state = Some("a\0b".to_owned())),
            ("trouble", |report| {
                report.trouble = Some("x".repeat(1_001));
            }),
            ("knows", |report| {
                report.knows = vec!["user".to_owned(); MAX_KNOWS + 1];
            }),
            ("seen", |report| {
                report.seen = Some(datetime!(1800-01-01 00:00 UTC));
            }),
            ("broker.nodes ", |report| {
                broker(report).nodes = vec![node("n"); MAX_NODES + 1];
            }),
            ("broker.nodes[].id", |report| {
                broker(report).nodes = vec![node(&"x".repeat(201))];
            }),
            ("broker.bytes_sent", |report| {
                broker(report).bytes_sent = Some(u64::MAX);
            }),
        ];
        for (member, change) in cases {
            let mut report = report();
            change(&mut report);
            let error = report.read().expect_err(member).to_string();
            assert!(error.starts_with(&format!("watch.{member}")), "{error}");
        }
    }
}
