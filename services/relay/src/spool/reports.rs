//! What was reported of commands, until it is on the disk: a box answers once, so that an answer which the disk would not take is
//! kept in memory and tried again.

use std::time::{Duration, Instant};

use rollcall_model::command::CommandReport;

/// Reports that are kept, at most.
const MAX_REPORTS: usize = 1_000;
/// How long to wait before a disk that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Reports that are not on the disk yet.
#[derive(Default)]
pub struct Reports {
    waiting: Vec<CommandReport>,
    /// Not before, after the disk failed.
    again_at: Option<Instant>,
}

impl Reports {
    pub fn add(&mut self, report: CommandReport) {
        if self.waiting.len() == MAX_REPORTS {
            let lost = self.waiting.remove(0);
            tracing::error!(
                command = %lost.command,
                "too many reports of commands wait for the disk; one is lost, and its command will count as unknown"
            );
        }
        self.waiting.push(report);
    }

    /// Those to be written now. With `is_last` there is no later.
    pub fn take_due(&mut self, is_last: bool) -> Vec<CommandReport> {
        if !is_last && self.again_at.is_some_and(|at| Instant::now() < at) {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }

    pub fn written(&mut self, reports: &[CommandReport]) {
        if !reports.is_empty() && self.again_at.take().is_some() {
            tracing::info!(
                reports = reports.len(),
                "what was reported of commands is on the disk now"
            );
        }
    }

    /// The disk failed.
    pub fn put_back(&mut self, mut reports: Vec<CommandReport>) {
        if reports.is_empty() {
            return;
        }
        tracing::warn!(
            reports = reports.len(),
            "what was reported of commands is not on the disk; it is kept in memory and tried again in {} s",
            AGAIN.as_secs()
        );
        reports.append(&mut self.waiting);
        self.waiting = reports;
        self.again_at = Some(Instant::now() + AGAIN);
    }
}
