//! The trace that a request belongs to (W3C Trace Context).

use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The two headers of W3C Trace Context, as a request carries them.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceHeaders<'a> {
    pub traceparent: Option<&'a str>,
    pub tracestate: Option<&'a str>,
}

/// Makes `span` a child of the trace that the request's headers name, if they name one.
pub fn adopt_parent(span: &Span, headers: TraceHeaders<'_>) {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&headers));
    // Fails only where no trace layer is set up: then there is nothing to adopt.
    let _ = span.set_parent(parent);
}

impl Extractor for TraceHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}
