//! What the relay counts; the names are telemetry's.

pub use rollcall_telemetry::RelayMetrics as Metrics;
