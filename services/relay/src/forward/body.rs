//! What is sent to the cloud.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

use anyhow::{Context, Result};
use rollcall_model::ingest::{self, PagerStatistics, RelayReport, ServiceReport, SpoolReport};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Forwarder, Source};
use crate::spool::{Batch, read_published};
use crate::wire;

/// Least bytes that are worth compressing, and zstd's level.
const COMPRESS_FROM: usize = 1_024;
const COMPRESSION: i32 = 3;

/// The body of a batch.
pub struct Body {
    pub bytes: Vec<u8>,
    /// By zstd.
    pub is_packed: bool,
    /// The statistics that it tells, by service.
    pub told: HashMap<String, PagerStatistics>,
    /// Commands whose reports it carries.
    pub reported: Vec<uuid::Uuid>,
}

impl Forwarder {
    /// The body of a batch.
    pub fn body(&self, batch: &Batch) -> Result<Body> {
        let events: Result<Vec<Box<RawValue>>, _> = batch
            .events
            .iter()
            .map(|event| RawValue::from_string(event.body.clone()))
            .collect();
        let services = self.reports(batch);
        let told = services
            .iter()
            .filter_map(|service| Some((service.name.clone(), service.statistics?)));
        let told = told.collect();
        let batch = ingest::Batch {
            relay: RelayReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                spool: self.spool(batch)?,
            },
            services,
            events: events.context("read an event of the spool")?,
            reports: self.queue.reports()?,
        };
        let bytes = serde_json::to_vec(&batch).context("write a batch")?;
        let reported = batch.reports.iter().map(|report| report.command).collect();
        let is_packed = bytes.len() >= COMPRESS_FROM;
        let bytes = if is_packed {
            zstd::encode_all(&bytes[..], COMPRESSION).context("compress a batch")?
        } else {
            bytes
        };
        Ok(Body {
            bytes,
            is_packed,
            told,
            reported,
        })
    }

    /// The services of the batch's events, and those whose statistics the cloud does not know.
    fn reports(&self, batch: &Batch) -> Vec<ServiceReport> {
        let names: HashSet<&str> = batch
            .events
            .iter()
            .map(|event| event.service.as_str())
            .collect();
        let known = self
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let report = |service: &super::Reported| {
            let now = match &service.source {
                Source::Hosted(published) => Some(wire::statistics(
                    &read_published(published).meta().statistics,
                )),
                Source::Mirrored(published) => {
                    let mirror = published.read().unwrap_or_else(PoisonError::into_inner);
                    mirror
                        .meta()
                        .statistics
                        .as_ref()
                        .and_then(wire::told_statistics)
                }
            };
            let is_news = now.is_some() && known.get(&service.name) != now.as_ref();
            (names.contains(service.name.as_str()) || is_news).then(|| ServiceReport {
                name: service.name.clone(),
                kind: "pager".to_owned(),
                at: OffsetDateTime::now_utc(),
                statistics: now,
                watch: None,
            })
        };
        self.services.iter().filter_map(report).collect()
    }

    /// What will be left in the spool once the cloud has the batch.
    fn spool(&self, batch: &Batch) -> Result<SpoolReport> {
        let sent: u64 = batch
            .events
            .iter()
            .map(|event| event.body.len() as u64)
            .sum();
        let (events, bytes) = {
            let waiting = self.queue.waiting();
            let events = waiting.events().saturating_sub(batch.events.len() as u64);
            (events, waiting.bytes().saturating_sub(sent))
        };
        let oldest = if events > 0 {
            self.queue.oldest()?
        } else {
            None
        };
        Ok(SpoolReport {
            events,
            bytes,
            oldest: oldest.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()),
            set_aside: self.queue.set_aside()?,
        })
    }
}
