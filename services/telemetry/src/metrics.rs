//! Every metric of Rollcall, held as a value: [`Metrics`] owns its registry, so tests and several
//! services in one process do not share counts. A field is named as its metric is, without the prefix.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use crate::VERSION;
use crate::labels::{
    AuthFailureLabels, DirectionLabels, PoolStateLabels, RequestLabels, ResponseLabels,
    S3OperationLabels, S3RequestLabels, SessionChangeLabels, SurfaceLabels, SweepLabels,
    TaskLabels,
};

/// One histogram per label set.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of one process. Clones of its fields share their values.
///
/// A family that was never touched is left out of the exposition, as Prometheus has it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    names: Vec<&'static str>,
    /// Requests answered.
    pub http_requests_total: Family<ResponseLabels, Counter>,
    /// From the first byte of a request to the last of its answer's head.
    pub http_request_duration_seconds: Histograms<RequestLabels>,
    /// Counted by [`Metrics::in_flight`].
    pub http_requests_in_flight: Gauge,
    pub http_request_body_bytes_total: Family<SurfaceLabels, Counter>,
    pub http_response_body_bytes_total: Family<SurfaceLabels, Counter>,
    /// Set when scraped, as is the next.
    pub db_pool_connections: Family<PoolStateLabels, Gauge>,
    pub db_pool_connections_max: Gauge,
    pub s3_requests_total: Family<S3RequestLabels, Counter>,
    pub s3_request_duration_seconds: Histograms<S3OperationLabels>,
    pub attachment_bytes_total: Family<DirectionLabels, Counter>,
    /// Clients that the feed is streamed to now.
    pub feed_readers: Gauge,
    pub auth_failures_total: Family<AuthFailureLabels, Counter>,
    pub session_changes_total: Family<SessionChangeLabels, Counter>,
    pub swept_objects_total: Family<SweepLabels, Counter>,
    pub work_run_duration_seconds: Histograms<TaskLabels>,
    /// Seconds since 1970.
    pub work_last_success_timestamp_seconds: Family<TaskLabels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// The `Content-Type` of what [`Metrics::encode`] returns.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Registers everything; all counts start at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut t = Table::default();
        Self {
            http_requests_total: t.add("rollcall_http_requests_total", "Requests answered"),
            http_request_duration_seconds: t.add_histograms(
                "rollcall_http_request_duration_seconds",
                "Time to answer a request",
                request_buckets,
            ),
            http_requests_in_flight: t.add(
                "rollcall_http_requests_in_flight",
                "Requests being answered now",
            ),
            http_request_body_bytes_total: t.add(
                "rollcall_http_request_body_bytes_total",
                "Bytes of request bodies read",
            ),
            http_response_body_bytes_total: t.add(
                "rollcall_http_response_body_bytes_total",
                "Bytes of response bodies sent",
            ),
            db_pool_connections: t.add("rollcall_db_pool_connections", "Open database connections"),
            db_pool_connections_max: t.add(
                "rollcall_db_pool_connections_max",
                "Database connections that may be open at once",
            ),
            s3_requests_total: t.add("rollcall_s3_requests_total", "Requests made to S3"),
            s3_request_duration_seconds: t.add_histograms(
                "rollcall_s3_request_duration_seconds",
                "Time that S3 took to answer",
                request_buckets,
            ),
            attachment_bytes_total: t.add(
                "rollcall_attachment_bytes_total",
                "Bytes of attachments taken in and given out",
            ),
            feed_readers: t.add(
                "rollcall_feed_readers",
                "Clients that the feed is streamed to now",
            ),
            auth_failures_total: t.add("rollcall_auth_failures_total", "Credentials refused"),
            session_changes_total: t.add(
                "rollcall_session_changes_total",
                "Changes of sessions, by what became of them",
            ),
            swept_objects_total: t.add(
                "rollcall_swept_objects_total",
                "Objects deleted from S3 because nothing refers to them",
            ),
            work_run_duration_seconds: t.add_histograms(
                "rollcall_work_run_duration_seconds",
                "Time that one run of a background task took",
                work_buckets,
            ),
            work_last_success_timestamp_seconds: t.add(
                "rollcall_work_last_success_timestamp_seconds",
                "When a background task last succeeded",
            ),
            names: t.names_with_build_info(),
            registry: t.registry,
        }
    }

    /// Everything counted so far, in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes every write");
        out
    }

    /// The name of every metric as a query spells it; a histogram's without `_bucket`, `_sum`, `_count`.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Counts a request as in flight until the guard is dropped, also where its future is dropped
    /// half way because the client went away.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.http_requests_in_flight.inc();
        InFlight(self.http_requests_in_flight.clone())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// One request in flight; see [`Metrics::in_flight`].
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A registry and the names in it, so that the list of names cannot drift from what is registered.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) registry: Registry,
    names: Vec<&'static str>,
}

impl Table {
    pub(crate) fn add<M: Metric + Clone + Default>(&mut self, name: &'static str, help: &str) -> M {
        self.register(name, help, M::default())
    }

    pub(crate) fn add_histograms<L>(
        &mut self,
        name: &'static str,
        help: &str,
        new: fn() -> Histogram,
    ) -> Histograms<L>
    where
        L: Clone + Eq + std::hash::Hash,
        Histograms<L>: Metric,
    {
        self.register(name, help, Family::new_with_constructor(new))
    }

    fn register<M: Metric + Clone>(&mut self, name: &'static str, help: &str, metric: M) -> M {
        self.names.push(name);
        // The encoder puts a counter's suffix back.
        let family = name.strip_suffix("_total").unwrap_or(name);
        self.registry.register(family, help, metric.clone());
        metric
    }

    pub(crate) fn names_with_build_info(&mut self) -> Vec<&'static str> {
        let info = Info::new([("version", VERSION)]);
        self.registry
            .register("rollcall_build", "The version that runs", info);
        let mut names = std::mem::take(&mut self.names);
        names.push("rollcall_build_info");
        names
    }
}

/// 0.5 ms to 60 s: from a cached answer to the upload of a large attachment.
pub(crate) fn request_buckets() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        60.0,
    ])
}

/// 10 ms to an hour.
fn work_buckets() -> Histogram {
    Histogram::new([0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Direction, Method, PoolState};

    /// Every family has a sample, so that none is left out of the exposition.
    fn all_touched() -> Metrics {
        let m = Metrics::new();
        let (surface, operation, outcome, reason, task) =
            ("forms", "put_object", "ok", "x", "sweep");
        let request = RequestLabels {
            surface,
            method: Method::from("GET"),
            route: r"/v1/{id:\d+}".into(),
        };
        m.http_request_duration_seconds
            .get_or_create(&request)
            .observe(0.003);
        let response = ResponseLabels {
            request,
            status: 200,
        };
        m.http_requests_total.get_or_create(&response).inc();
        let surface = SurfaceLabels { surface };
        m.http_request_body_bytes_total
            .get_or_create(&surface)
            .inc_by(5);
        m.http_response_body_bytes_total
            .get_or_create(&surface)
            .inc_by(7);
        for (state, count) in [(PoolState::Idle, 3), (PoolState::Used, 2)] {
            let labels = PoolStateLabels { state };
            m.db_pool_connections.get_or_create(&labels).set(count);
        }
        m.db_pool_connections_max.set(16);
        m.s3_requests_total
            .get_or_create(&S3RequestLabels { operation, outcome })
            .inc();
        m.s3_request_duration_seconds
            .get_or_create(&S3OperationLabels { operation })
            .observe(0.2);
        for direction in [Direction::In, Direction::Out] {
            let labels = DirectionLabels { direction };
            m.attachment_bytes_total.get_or_create(&labels).inc();
        }
        m.auth_failures_total
            .get_or_create(&AuthFailureLabels { reason })
            .inc();
        let kind = "form";
        m.session_changes_total
            .get_or_create(&SessionChangeLabels { kind, outcome })
            .inc();
        m.swept_objects_total
            .get_or_create(&SweepLabels { reason })
            .inc();
        let task = TaskLabels { task };
        m.work_run_duration_seconds.get_or_create(&task).observe(2.);
        m.work_last_success_timestamp_seconds
            .get_or_create(&task)
            .set(1.8e9);
        m
    }

    /// The suffixes that a sample of this type carries after its family's name.
    fn suffixes(kind: &str) -> &'static [&'static str] {
        match kind {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            other => panic!("{other} is no type that we use"),
        }
    }

    #[test]
    fn the_exposition_is_openmetrics_text() {
        let text = all_touched().encode();
        assert!(text.ends_with("\n# EOF\n"));
        let (mut family, mut kind, mut samples) = ("", "", 0);
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                (family, kind) = declared.split_once(' ').unwrap();
                assert!(family.starts_with("rollcall_"), "{line}");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix = name.strip_prefix(family).unwrap();
                assert!(suffixes(kind).contains(&suffix), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                samples += 1;
            }
        }
        assert!(samples > 40, "{samples} samples");
    }

    #[test]
    fn every_name_is_in_the_exposition_and_the_other_way_round() {
        let metrics = all_touched();
        let text = metrics.encode();
        for name in metrics.names() {
            let found = text.lines().any(|line| line.starts_with(name));
            assert!(found, "{name} is not in the exposition");
        }
        let families = text.lines().filter(|line| line.starts_with("# TYPE "));
        assert_eq!(families.count(), metrics.names().len());
    }

    #[test]
    fn labels_are_spelled_and_escaped() {
        let text = all_touched().encode();
        for series in [
            r#"rollcall_http_requests_total{surface="forms",method="GET",route="/v1/{id:\\d+}",status="200"} 1"#,
            r#"rollcall_http_request_duration_seconds_bucket{le="0.005",surface="forms",method="GET",route="/v1/{id:\\d+}"} 1"#,
            r#"rollcall_db_pool_connections{state="used"} 2"#,
            r#"rollcall_attachment_bytes_total{direction="out"} 1"#,
        ] {
            assert!(text.contains(series), "{series} in {text}");
        }
    }

    #[test]
    fn a_method_that_nobody_knows_makes_no_series_of_its_own() {
        assert_eq!(Method::from("BREW"), Method::Other);
        assert_eq!(Method::from("get"), Method::Other);
    }

    #[test]
    fn requests_in_flight_are_counted_until_their_guard_is_dropped() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.in_flight(), metrics.in_flight());
        assert_eq!(metrics.http_requests_in_flight.get(), 2);
        drop((first, second));
        assert_eq!(metrics.http_requests_in_flight.get(), 0);
    }
}
