//! `work`: what nobody waits for. Deletes objects that no row knows, files that were replaced long ago, and answers kept
//! for repeated requests that are too old; ends commands whose time is over.
//!
//! Every step may be repeated and may run on several machines at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rollcall_model::{AttachmentId, ObjectKey, OrgId, ProjectId, SessionId};
use rollcall_store::{Db, attachments, commands, idempotency, organizations};
use rollcall_telemetry::{Metrics, SweepLabels, TaskLabels};
use time::OffsetDateTime;

use crate::error::ApiError;
use crate::objects::{Listed, Objects};

const BATCH: i64 = 1_000;

/// What one round did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Done {
    /// Objects without a row, deleted.
    pub orphans: u64,
    /// Replaced files, deleted.
    pub retired: u64,
    /// Kept answers, forgotten.
    pub answers: u64,
    /// Commands, ended by time.
    pub commands: u64,
}

/// What to work on, and with what patience.
pub struct Work<'a> {
    pub db: &'a Db,
    pub objects: &'a Objects,
    pub metrics: &'a Metrics,
    /// Objects that no row knows are deleted where they were stored before this.
    pub orphans_before: OffsetDateTime,
    pub keep_replaced: Duration,
}

impl Work<'_> {
    /// One round of everything.
    pub async fn once(&self) -> Result<Done, ApiError> {
        let started = Instant::now();
        let mut done = Done::default();
        for organization in organizations::list(self.db).await? {
            let org = organization.org_id;
            done.commands += self.expire_commands(org).await?;
            done.orphans += self.sweep_orphans(org).await?;
            done.retired += self.sweep_retired(org).await?;
            done.answers += self.expire_answers(org).await?;
        }
        let task = TaskLabels { task: "sweep" };
        self.metrics
            .work_run_duration_seconds
            .get_or_create(&task)
            .observe(started.elapsed().as_secs_f64());
        let now = OffsetDateTime::now_utc().unix_timestamp();
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds since 1970 fit a double"
        )]
        self.metrics
            .work_last_success_timestamp_seconds
            .get_or_create(&task)
            .set(now as f64);
        tracing::info!(
            sweep.orphans = done.orphans,
            sweep.retired = done.retired,
            sweep.answers = done.answers,
            sweep.commands = done.commands,
            duration_ms = started.elapsed().as_secs_f64() * 1_000.0,
            "swept"
        );
        Ok(done)
    }

    /// Walks an organization's objects and deletes what a request stored without coming to its end. Objects of
    /// organizations that this database does not know are another database's.
    async fn sweep_orphans(&self, org: OrgId) -> Result<u64, ApiError> {
        let prefix = format!("{org}/");
        let (mut swept, mut after) = (0, None);
        loop {
            let page = self.objects.list(&prefix, after).await?;
            let Some(last) = page.last() else {
                return Ok(swept);
            };
            after = Some(last.key.clone());
            let old: Vec<ObjectKey> = page
                .iter()
                .filter_map(|object| self.may_be_orphan(object))
                .collect();
            swept += self.delete_unknown(org, &old).await?;
        }
    }

    /// The object's key, where it is one of ours and old enough. What else is there is not ours to delete.
    fn may_be_orphan(&self, object: &Listed) -> Option<ObjectKey> {
        let old = object.modified < self.orphans_before.unix_timestamp();
        old.then(|| object.key.parse().ok()).flatten()
    }

    async fn delete_unknown(&self, org: OrgId, keys: &[ObjectKey]) -> Result<u64, ApiError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let ids: Vec<uuid::Uuid> = keys.iter().map(|key| key.attachment.0).collect();
        let known: HashSet<uuid::Uuid> = self
            .db
            .tenant(org, async |tx| {
                attachments::known(tx, &ids).await.map_err(ApiError::from)
            })
            .await?;
        let unknown = keys.iter().filter(|key| !known.contains(&key.attachment.0));
        let unknown: Vec<String> = unknown.map(ToString::to_string).collect();
        self.objects.delete(&unknown).await?;
        Ok(self.count("orphan", unknown.len()))
    }

    /// Deletes the objects of replaced files, then their rows: a row may outlive its object, never the other way round.
    async fn sweep_retired(&self, org: OrgId) -> Result<u64, ApiError> {
        let mut swept = 0;
        loop {
            let keep = self.keep_replaced.as_secs_f64();
            let rows = self
                .db
                .tenant(org, async |tx| {
                    attachments::list_retired(tx, keep, BATCH)
                        .await
                        .map_err(ApiError::from)
                })
                .await?;
            if rows.is_empty() {
                return Ok(swept);
            }
            let key = |row: &attachments::Retired| {
                let project = ProjectId::new(row.project_id)?;
                let (session, attachment) = (SessionId(row.session_id), AttachmentId(row.id));
                Some(
                    ObjectKey {
                        org,
                        project,
                        session,
                        attachment,
                    }
                    .to_string(),
                )
            };
            self.objects
                .delete(&rows.iter().filter_map(key).collect::<Vec<_>>())
                .await?;
            let ids: Vec<uuid::Uuid> = rows.iter().map(|row| row.id).collect();
            self.db
                .tenant(org, async |tx| {
                    attachments::delete_retired(tx, &ids)
                        .await
                        .map_err(ApiError::from)
                })
                .await?;
            swept += self.count("replaced", rows.len());
        }
    }

    async fn expire_answers(&self, org: OrgId) -> Result<u64, ApiError> {
        let mut expired = 0;
        loop {
            let count = self
                .db
                .tenant(org, async |tx| {
                    idempotency::expire(tx, BATCH).await.map_err(ApiError::from)
                })
                .await?;
            expired += count;
            if count == 0 {
                return Ok(expired);
            }
        }
    }

    async fn expire_commands(&self, org: OrgId) -> Result<u64, ApiError> {
        let mut expired = 0;
        loop {
            let count = self
                .db
                .tenant(org, async |tx| {
                    commands::expire(tx, BATCH).await.map_err(ApiError::from)
                })
                .await?;
            expired += count;
            if count == 0 {
                return Ok(expired);
            }
        }
    }

    fn count(&self, reason: &'static str, count: usize) -> u64 {
        let count = count as u64;
        self.metrics
            .swept_objects_total
            .get_or_create(&SweepLabels { reason })
            .inc_by(count);
        count
    }
}
