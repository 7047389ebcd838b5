//! Logs, traces and metrics: how a Rollcall process sets them up, and what every metric is called.
//! A leaf: it knows no other Rollcall crate and no web framework, and keeps no state but what
//! [`init`] installs for the process.

mod labels;
mod metrics;
mod otlp;
mod parent;
mod relay;
mod setup;

pub use labels::{
    AuthFailureLabels, Direction, DirectionLabels, Method, PoolState, PoolStateLabels,
    RequestLabels, ResponseLabels, S3OperationLabels, S3RequestLabels, SessionChangeLabels,
    SourceLabels, SurfaceLabels, SweepLabels, TaskLabels,
};
pub use metrics::{Histograms, InFlight, Metrics};
pub use parent::{TraceHeaders, adopt_parent};
pub use relay::{RelayMetrics, SourceMetrics};
pub use setup::{LogFormat, Telemetry, TelemetryArgs, init};

/// The version of this build, as traces and `rollcall_build_info` tell it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
