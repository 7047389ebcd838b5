//! The process's log and trace set-up: what may be configured, and the one call that installs it.
//! Called once, by `main`; tests that need no log call nothing.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, FilterFn, Targets};
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::otlp;

/// How long a stopping process waits for its last traces to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags, with environment twins, for logs and traces.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArgs {
    /// How log lines are written to stderr [default: text on a terminal, else json]
    #[arg(
        long,
        env = "ROLLCALL_LOG_FORMAT",
        value_enum,
        global = true,
        help_heading = "Telemetry"
    )]
    pub log_format: Option<LogFormat>,

    /// What is logged: a level, or levels by target as in `info,rollcall_store=debug`
    #[arg(
        long,
        env = "ROLLCALL_LOG",
        default_value_t = Self::default().log_filter,
        global = true,
        help_heading = "Telemetry"
    )]
    pub log_filter: String,

    /// Where to send traces: an OpenTelemetry collector's HTTP address, as http://127.0.0.1:4318
    /// [default: traces are not sent]
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        global = true,
        help_heading = "Telemetry"
    )]
    pub otlp_endpoint: Option<String>,

    /// The same, but the whole address, path included
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        global = true,
        help_heading = "Telemetry"
    )]
    pub otlp_traces_endpoint: Option<String>,

    /// How long one export of traces may take, in milliseconds
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TIMEOUT",
        value_name = "MS",
        default_value_t = Self::default().otlp_timeout_ms,
        global = true,
        help_heading = "Telemetry"
    )]
    pub otlp_timeout_ms: u64,

    /// The name of this service in traces [default: the program's name]
    #[arg(
        long,
        env = "OTEL_SERVICE_NAME",
        value_name = "NAME",
        global = true,
        help_heading = "Telemetry"
    )]
    pub otel_service_name: Option<String>,
}

impl Default for TelemetryArgs {
    fn default() -> Self {
        Self {
            log_format: None,
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            otlp_traces_endpoint: None,
            otlp_timeout_ms: 10_000,
            otel_service_name: None,
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    fn for_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// What [`init`] installed. Keep it until the process has done its work, then call [`Telemetry::shutdown`].
#[derive(Debug)]
#[must_use = "the last traces are lost unless shutdown() is called"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets up the process's log on stderr and, where a collector is configured, the export of traces;
/// takes in W3C trace context. May be called inside or outside of a tokio runtime.
///
/// # Errors
/// A filter or an address that cannot be understood; a second call in one process.
pub fn init(service_name: &str, args: &TelemetryArgs) -> anyhow::Result<Telemetry> {
    let format = args.log_format.unwrap_or_else(LogFormat::for_stderr);
    let log_filter = log_filter(&args.log_filter)?;
    // The SDK warns about OTEL_* variables that it does not understand while the provider is built,
    // which is before the log stands: a log for that moment shows them.
    let early = Registry::default().with(log_layer(format).with_filter(LevelFilter::WARN));
    let provider = tracing::subscriber::with_default(early, || provider(service_name, args))?;

    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let traces = provider.as_ref().map(|provider| {
        OpenTelemetryLayer::new(provider.tracer("rollcall"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(trace_filter())
    });
    Registry::default()
        .with(traces)
        .with(log_layer(format).with_filter(log_filter))
        .try_init()
        .context("install the log; telemetry may be set up only once in a process")?;
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends the traces that are still queued, waiting five seconds at the most. Blocks: call it when the
    /// runtime has stopped, or from `spawn_blocking`.
    pub fn shutdown(self) {
        let Some(provider) = self.provider else {
            return;
        };
        if let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(error = %error, "the last traces were not exported before the end");
        }
    }
}

fn provider(service_name: &str, args: &TelemetryArgs) -> anyhow::Result<Option<SdkTracerProvider>> {
    let endpoint = otlp::endpoint(
        args.otlp_traces_endpoint.as_deref(),
        args.otlp_endpoint.as_deref(),
    );
    let Some(endpoint) = endpoint else {
        return Ok(None);
    };
    let resource = otlp::resource(service_name, args.otel_service_name.as_deref());
    let timeout = Duration::from_millis(args.otlp_timeout_ms);
    otlp::tracer_provider(&endpoint, timeout, resource).map(Some)
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            // The list holds the current span too, the request's first.
            .with_current_span(false)
            .with_span_list(true)
            .boxed(),
        // The writer's default is colour unless NO_COLOR; a file wants none either.
        LogFormat::Text if std::io::stderr().is_terminal() => layer.compact().boxed(),
        LogFormat::Text => layer.compact().with_ansi(false).boxed(),
    }
}

/// What is logged. Spans pass whatever the filter says, so that a lone warning still carries the
/// request's id.
fn log_filter<S>(directives: &str) -> anyhow::Result<impl Filter<S> + use<S>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let directives = Some(directives.trim()).filter(|d| !d.is_empty());
    let directives = directives.unwrap_or("info");
    let mut filter = parse_directives(directives).with_context(|| {
        format!(
            "ROLLCALL_LOG or --log-filter is `{directives}`, which cannot be read; write a level \
             (off, error, warn, info, debug, trace) or levels by target, as in \
             `info,rollcall_store=debug`"
        )
    })?;
    // The exporter tells of its failures itself; these do so for every batch.
    if !directives.contains("opentelemetry") {
        for quiet in ["opentelemetry=off", "rustls_platform_verifier=off"] {
            filter = filter.add_directive(quiet.parse().context("parse a directive")?);
        }
    }
    let spans = FilterFn::new(|meta| meta.is_span() && *meta.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    Ok(filter.or(spans))
}

/// A bare word would be taken for a target, so that a misspelt level silenced everything else.
fn parse_directives(directives: &str) -> anyhow::Result<EnvFilter> {
    for directive in directives.split(',').filter(|d| !d.contains(['=', '['])) {
        ensure!(
            directive.trim().parse::<LevelFilter>().is_ok(),
            "`{directive}` is not a level"
        );
    }
    Ok(EnvFilter::builder().parse(directives)?)
}

/// Traces do not follow the log's filter: a quiet log still traces, and a log at `trace` does not send
/// what the exporter itself does.
fn trace_filter() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("opentelemetry", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_cannot_be_read_are_refused() {
        let refused = |directives: &str| log_filter::<Registry>(directives).is_err();
        for good in [
            "",
            " ",
            "info",
            "WARN",
            "off",
            "info,",
            "info,rollcall_store=debug",
            "a[b{c=1}]=trace",
        ] {
            assert!(!refused(good), "{good:?}");
        }
        for bad in ["inof", "info;debug", "rollcall=loud", "=x[", "info,loud"] {
            assert!(refused(bad), "{bad:?}");
        }
    }

    #[test]
    fn flags_have_defaults_and_stand_after_a_subcommand() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            telemetry: TelemetryArgs,
            #[command(subcommand)]
            _command: Command,
        }
        #[derive(clap::Subcommand)]
        enum Command {
            Serve,
        }
        let parse = |line: &str| <Cli as clap::Parser>::parse_from(line.split(' ')).telemetry;

        let args = parse("x serve --log-format json --otlp-endpoint http://127.0.0.1:4318");
        assert_eq!(args.log_format, Some(LogFormat::Json));
        assert_eq!(args.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4318"));
        assert_eq!(parse("x --log-filter warn serve").log_filter, "warn");
    }
}
