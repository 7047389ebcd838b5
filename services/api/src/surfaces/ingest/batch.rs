//! A batch out of its JSON: the envelope as a whole, then each event by itself.

use std::marker::PhantomData;

use rollcall_model::command::CommandReport;
use rollcall_model::ingest::{Gap, IngestEvent, RelayReport, ServiceReport, WatchReport};
use rollcall_model::report::time;
use rollcall_model::{Report, Reported, ServiceKind};
use rollcall_store::gaps::NewGap;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::ApiError;

/// Events of a batch, and services, at most.
pub const MAX_EVENTS: usize = 5_000;
const MAX_SERVICES: usize = 1_000;
const MAX_REPORTS: usize = 1_000;
/// Bytes of a service's name, and of a relay's version.
const MAX_NAME_BYTES: usize = 200;

/// [`rollcall_model::ingest::Batch`] without copies, and without more of them than may be sent.
#[derive(Deserialize)]
struct Envelope<'a> {
    relay: RelayReport,
    #[serde(default = "Bounded::none")]
    services: Bounded<ServiceReport, MAX_SERVICES>,
    #[serde(borrow, default = "Bounded::none")]
    events: Bounded<&'a RawValue, MAX_EVENTS>,
    #[serde(borrow, default = "Bounded::none")]
    reports: Bounded<&'a RawValue, MAX_REPORTS>,
}

/// The first items of an array, and how many it has.
struct Bounded<T, const MAX: usize> {
    items: Vec<T>,
    count: usize,
}

/// A batch whose every event was looked at.
pub struct ReadBatch {
    pub relay: RelayReport,
    /// Of kinds that are known here.
    pub services: Vec<ServiceReport>,
    pub events: Vec<ReadEvent>,
    /// Those that could be read: nothing becomes of the others, however often they are sent.
    pub reports: Vec<CommandReport>,
}

/// An event by itself.
pub struct ReadEvent {
    /// Nil where it could not be read.
    pub id: Uuid,
    pub what: Result<What, Refusal>,
}

/// What an event says.
pub enum What {
    Report {
        service: String,
        source_id: String,
        report: Report,
    },
    Gap(NewGap),
}

/// Why an event is not taken.
#[derive(Debug)]
pub struct Refusal {
    pub code: &'static str,
    pub detail: String,
}

/// Reads a batch.
pub fn read(json: &[u8]) -> Result<ReadBatch, ApiError> {
    let invalid = |message: String| ApiError::invalid("batch_invalid", message);
    let mut envelope: Envelope<'_> = serde_json::from_slice(json)
        .map_err(|error| invalid(format!("the batch cannot be read: {error}")))?;
    for (count, max, what) in [
        (envelope.events.count, MAX_EVENTS, "events"),
        (envelope.services.count, MAX_SERVICES, "services"),
        (envelope.reports.count, MAX_REPORTS, "reports"),
    ] {
        if count > max {
            let message = format!(
                "a batch may have at most {max} {what}, this has {count}; send fewer at once"
            );
            return Err(ApiError::too_large("batch_too_large", message));
        }
    }
    let version = &envelope.relay.version;
    if version.len() > MAX_NAME_BYTES || version.contains('\0') {
        let message =
            format!("relay.version is text of at most {MAX_NAME_BYTES} bytes without U+0000");
        return Err(invalid(message));
    }
    let in_range = |name, at| time(name, at).map_err(|error| invalid(error.to_string()));
    let spool = &mut envelope.relay.spool;
    spool.oldest = spool
        .oldest
        .map(|at| in_range("relay.spool.oldest", at))
        .transpose()?;
    let mut services = envelope.services.items;
    // What a newer relay may speak for besides is not known here, and does not take its events with it.
    services.retain(|service| ServiceKind::of_relay(&service.kind).is_some());
    for service in &mut services {
        service.at = in_range("services[].at", service.at)?;
        let watch = service.watch.take().map(WatchReport::read).transpose();
        service.watch = watch.map_err(|error| {
            let name: String = service.name.chars().take(MAX_NAME_BYTES).collect();
            invalid(format!("services[] {}: {error}", name.escape_debug()))
        })?;
    }
    Ok(ReadBatch {
        relay: envelope.relay,
        services,
        events: envelope.events.items.into_iter().map(event).collect(),
        reports: envelope
            .reports
            .items
            .into_iter()
            .filter_map(report)
            .collect(),
    })
}

fn report(raw: &RawValue) -> Option<CommandReport> {
    let read = serde_json::from_str(raw.get());
    read.inspect_err(|error| tracing::warn!(%error, "a report of a command cannot be read"))
        .ok()
}

fn event(raw: &RawValue) -> ReadEvent {
    #[derive(Deserialize)]
    struct Named {
        id: Uuid,
    }
    match serde_json::from_str::<IngestEvent>(raw.get()) {
        Ok(event) => ReadEvent {
            id: event.id,
            what: what(event),
        },
        Err(error) => ReadEvent {
            id: serde_json::from_str(raw.get()).map_or(Uuid::nil(), |named: Named| named.id),
            what: Err(Refusal {
                code: "event_unreadable",
                detail: format!("the event cannot be read: {error}"),
            }),
        },
    }
}

fn what(event: IngestEvent) -> Result<What, Refusal> {
    check_service(&event.service)?;
    let (id, at, service) = (event.id, event.at, event.service.clone());
    let out_of_range = |error: rollcall_model::OutOfRange| Refusal {
        code: "event_out_of_range",
        detail: error.to_string(),
    };
    let gap = |gap: Gap| {
        Ok(What::Gap(NewGap {
            service: service.clone(),
            id,
            at: time("at", at).map_err(out_of_range)?,
            gap,
        }))
    };
    match event.read().map_err(out_of_range)? {
        Reported::Gap(found) => gap(found),
        Reported::Session(source_id, report) => Ok(What::Report {
            service,
            source_id,
            report,
        }),
    }
}

/// Whether a relay may speak for a service of this name, if nobody else does.
pub fn check_service(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
        return Err(Refusal {
            code: "service_invalid",
            detail: format!(
                "a service's name is text of 1 to {MAX_NAME_BYTES} bytes without control characters"
            ),
        });
    }
    // A project to come would not find its own.
    if name.starts_with("forms-") {
        return Err(taken(name));
    }
    Ok(())
}

/// The refusal of a service that is someone else's.
pub fn taken(name: &str) -> Refusal {
    Refusal {
        code: "service_taken",
        detail: format!(
            "the service {} is not this relay's; give the relay's service another name",
            name.escape_debug()
        ),
    }
}

impl<T, const MAX: usize> Bounded<T, MAX> {
    fn none() -> Self {
        Self {
            items: Vec::new(),
            count: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Bounded<T, MAX>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut bounded = Bounded::none();
                while bounded.count < MAX {
                    let Some(item) = seq.next_element()? else {
                        return Ok(bounded);
                    };
                    bounded.items.push(item);
                    bounded.count += 1;
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    bounded.count += 1;
                }
                Ok(bounded)
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}
