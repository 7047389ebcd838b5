//! Traces sent to an OpenTelemetry collector: OTLP over HTTP, protobuf, in batches, from a thread of
//! its own. A collector that is away costs the traces that do not fit into the queue, nothing else.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use crate::VERSION;

/// An outage is told once in this time; a batch fails every five seconds or more often.
const SILENCE: Duration = Duration::from_secs(600);

/// Where traces go: the traces' own address as it stands, or `/v1/traces` below the general one.
/// Empty is the same as not set, as the OpenTelemetry specification has it.
pub(crate) fn endpoint(traces: Option<&str>, general: Option<&str>) -> Option<String> {
    let set = |value: &&str| !value.is_empty();
    let traces = traces.map(str::trim).filter(set).map(str::to_owned);
    let general = general.map(str::trim).filter(set);
    traces.or_else(|| general.map(|base| format!("{}/v1/traces", base.trim_end_matches('/'))))
}

/// Who sends the traces. The deployment's word goes before ours, and the name it gives to this process
/// alone (`own_name`) before the attributes that it may give to many (`OTEL_RESOURCE_ATTRIBUTES`).
pub(crate) fn resource(service_name: &str, own_name: Option<&str>) -> Resource {
    let resource = Resource::builder()
        .with_service_name(service_name.to_owned())
        .with_attribute(KeyValue::new("service.version", VERSION))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match own_name.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name.to_owned()).build(),
        None => resource.build(),
    }
}

/// Starts the exporting thread. Sampling, batching and headers are read by the SDK from the standard
/// `OTEL_*` variables.
///
/// # Errors
/// An address that is none; certificates that cannot be loaded, where the address asks for them.
pub(crate) fn tracer_provider(
    endpoint: &str,
    timeout: Duration,
    resource: Resource,
) -> anyhow::Result<SdkTracerProvider> {
    let tls = endpoint.starts_with("https://");
    ensure!(
        tls || endpoint.starts_with("http://"),
        "the address of the OpenTelemetry collector must begin with http:// or https://, as in \
         http://127.0.0.1:4318; unset OTEL_EXPORTER_OTLP_ENDPOINT to send no traces"
    );
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_http_client(http_client(tls, timeout)?)
        .build()
        .context("set up the export of traces to OTEL_EXPORTER_OTLP_ENDPOINT")?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(Exporter {
            inner: exporter,
            last_told: Mutex::new(None),
        })
        .build())
}

/// The SDK's own client panics where no certificates are installed, even if none are needed.
fn http_client(tls: bool, timeout: Duration) -> anyhow::Result<reqwest::blocking::Client> {
    let build = move || {
        let client = reqwest::blocking::Client::builder().timeout(timeout);
        let client = if tls {
            client
        } else {
            client.tls_certs_only([])
        };
        client.build()
    };
    // A thread of its own, because the blocking client refuses to be made on a runtime's thread.
    std::thread::spawn(build)
        .join()
        .ok()
        .context("start the client that sends traces")?
        .context(
            "set up TLS for the OpenTelemetry collector; are certificates of authorities installed \
             (Debian: the package ca-certificates)?",
        )
}

/// The OTLP exporter, with failures told in a sentence, and seldom. The SDK's own complaints, one for
/// every batch, are filtered from the log.
#[derive(Debug)]
struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    last_told: Mutex<Option<Instant>>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        if let Err(error) = &result
            && is_due(&self.last_told, Instant::now())
        {
            tracing::warn!(
                trace.lost_spans = spans,
                error = %error,
                "traces cannot be exported and are lost; see that the collector at \
                 OTEL_EXPORTER_OTLP_ENDPOINT is up and takes OTLP over HTTP (port 4318 by custom), \
                 or log `info,opentelemetry=debug` for the reason. Not told again for {} minutes",
                SILENCE.as_secs() / 60,
            );
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn is_due(last_told: &Mutex<Option<Instant>>, now: Instant) -> bool {
    let mut last_told = last_told.lock().expect("no holder of this lock panics");
    let due = last_told.is_none_or(|last| now.duration_since(last) >= SILENCE);
    if due {
        *last_told = Some(now);
    }
    due
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};

    use super::*;

    #[test]
    fn the_traces_address_goes_before_the_general_one() {
        let none = endpoint(None, None);
        assert_eq!(none, None);
        assert_eq!(endpoint(Some(""), Some(" ")), None);
        for general in ["http://c:4318", "http://c:4318/"] {
            let below = endpoint(Some(""), Some(general));
            assert_eq!(below.as_deref(), Some("http://c:4318/v1/traces"));
        }
        let own = endpoint(Some("http://t/x/"), Some("http://c"));
        assert_eq!(own.as_deref(), Some("http://t/x/"));
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for bad in ["localhost:4318", "c", "ftp://c", "http://a b"] {
            let made = tracer_provider(bad, Duration::from_secs(1), resource("test", None));
            assert!(made.is_err(), "{bad}");
        }
    }

    #[test]
    fn an_outage_is_told_once_in_a_while() {
        let last_told = Mutex::new(None);
        let start = Instant::now();
        assert!(is_due(&last_told, start));
        assert!(!is_due(&last_told, start + Duration::from_secs(5)));
        assert!(is_due(&last_told, start + SILENCE));
        assert!(!is_due(
            &last_told,
            start + SILENCE + Duration::from_secs(5)
        ));
    }

    /// A collector of one request: answers it and returns its head and body.
    fn collect_one(listener: &TcpListener) -> (String, Vec<u8>) {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        reader.get_mut().write_all(answer).unwrap();
        (head, body)
    }

    #[test]
    fn spans_arrive_as_protobuf_under_the_services_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || collect_one(&listener));

        let resource = resource("ignored", Some("rollcall-test"));
        let provider = tracer_provider(&endpoint, Duration::from_secs(10), resource).unwrap();
        provider
            .tracer("test")
            .in_span("work done here", |_context| ());
        provider.shutdown().unwrap();

        let (head, body) = collector.join().unwrap();
        assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(
            head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        let body = String::from_utf8_lossy(&body);
        for part in [
            "service.name",
            "rollcall-test",
            "service.version",
            VERSION,
            "work done here",
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        assert!(!body.contains("ignored"));
    }
}
