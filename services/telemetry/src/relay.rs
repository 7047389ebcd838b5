//! The metrics of a relay.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::labels::SourceLabels;
use crate::metrics::{Histograms, Table, request_buckets};

/// What a relay counts. A field is named as its metric is, without the prefix `rollcall_relay_`.
#[derive(Debug)]
pub struct RelayMetrics {
    registry: Registry,
    names: Vec<&'static str>,
    pub coap_requests_total: Counter,
    /// Who observes hosted transmitters now.
    pub observers: Gauge,
    /// Pages that transmitters were asked for.
    pub pages_total: Counter,
    /// Events written to the spool.
    pub events_total: Counter,
    /// Events that wait to be sent, and their bytes; set when scraped.
    pub spool_events: Gauge,
    pub spool_bytes: Gauge,
    pub spool_write_failures_total: Counter,
    /// Times that a mirrored box was read whole.
    pub box_readings_total: Counter,
    pub sources: SourceMetrics,
    /// Gap records: each says that events are missing.
    pub gaps_total: Counter,
    /// Events that the cloud refused.
    pub events_set_aside_total: Counter,
    pub events_forwarded_total: Counter,
    pub batches_total: Counter,
    /// Batches that the cloud did not take.
    pub failures_total: Counter,
    /// Seconds since 1970.
    pub last_contact_timestamp_seconds: Gauge<f64, AtomicU64>,
}

/// What is counted of each broker and proxy that is watched. A field is named as its metric is, without the prefix
/// `rollcall_relay_source_`.
#[derive(Debug)]
pub struct SourceMetrics {
    /// Pictures that were asked for, of brokers and proxies.
    pub polls_total: Family<SourceLabels, Counter>,
    /// Of these, those that did not come whole.
    pub poll_failures_total: Family<SourceLabels, Counter>,
    /// From asking to the last of the answer.
    pub poll_duration_seconds: Histograms<SourceLabels>,
    /// From the picture to the spool.
    pub telling_duration_seconds: Histograms<SourceLabels>,
    /// Sessions in the last whole picture.
    pub sessions: Family<SourceLabels, Gauge>,
    /// Seconds since 1970 of the last whole picture.
    pub seen_timestamp_seconds: Family<SourceLabels, Gauge<f64, AtomicU64>>,
}

impl SourceMetrics {
    fn new(t: &mut Table) -> Self {
        Self {
            polls_total: t.add(
                "rollcall_relay_source_polls_total",
                "Pictures that were asked for",
            ),
            poll_failures_total: t.add(
                "rollcall_relay_source_poll_failures_total",
                "Pictures that did not come whole",
            ),
            poll_duration_seconds: t.add_histograms(
                "rollcall_relay_source_poll_duration_seconds",
                "How long a picture took to come",
                request_buckets,
            ),
            telling_duration_seconds: t.add_histograms(
                "rollcall_relay_source_telling_duration_seconds",
                "How long a picture took to the spool",
                request_buckets,
            ),
            sessions: t.add(
                "rollcall_relay_source_sessions",
                "Sessions in the last whole picture",
            ),
            seen_timestamp_seconds: t.add(
                "rollcall_relay_source_seen_timestamp_seconds",
                "When the last whole picture was taken",
            ),
        }
    }
}

impl RelayMetrics {
    /// The `Content-Type` of what [`RelayMetrics::encode`] returns.
    pub const CONTENT_TYPE: &str = crate::Metrics::CONTENT_TYPE;

    /// Registers everything; all counts start at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut t = Table::default();
        Self {
            coap_requests_total: t.add("rollcall_relay_coap_requests_total", "CoAP requests taken"),
            observers: t.add(
                "rollcall_relay_observers",
                "Observers of hosted transmitters",
            ),
            pages_total: t.add(
                "rollcall_relay_pages_total",
                "Pages that transmitters were asked for",
            ),
            events_total: t.add("rollcall_relay_events_total", "Events written to the spool"),
            spool_events: t.add("rollcall_relay_spool_events", "Events that wait to be sent"),
            spool_bytes: t.add(
                "rollcall_relay_spool_bytes",
                "Bytes of the events that wait",
            ),
            spool_write_failures_total: t.add(
                "rollcall_relay_spool_write_failures_total",
                "Times that the spool could not be written",
            ),
            box_readings_total: t.add(
                "rollcall_relay_box_readings_total",
                "Times that a mirrored box was read whole",
            ),
            sources: SourceMetrics::new(&mut t),
            gaps_total: t.add(
                "rollcall_relay_gaps_total",
                "Records of events that are missing",
            ),
            events_set_aside_total: t.add(
                "rollcall_relay_events_set_aside_total",
                "Events that the cloud refused",
            ),
            events_forwarded_total: t.add(
                "rollcall_relay_events_forwarded_total",
                "Events that the cloud took",
            ),
            batches_total: t.add(
                "rollcall_relay_batches_total",
                "Batches that the cloud took",
            ),
            failures_total: t.add(
                "rollcall_relay_failures_total",
                "Batches that the cloud did not take",
            ),
            last_contact_timestamp_seconds: t.add(
                "rollcall_relay_last_contact_timestamp_seconds",
                "When the cloud last took something",
            ),
            names: t.names_with_build_info(),
            registry: t.registry,
        }
    }

    /// The names of all metrics.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// All metrics in the text format of OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a string does not fail");
        out
    }
}

impl Default for RelayMetrics {
    fn default() -> Self {
        Self::new()
    }
}
