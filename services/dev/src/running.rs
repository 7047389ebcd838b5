//! What `rollcall up` has started so far, and how it stops: in reverse, each part when nobody needs it any more.

use std::future::Future;
use std::time::Duration;

use anyhow::Error;
use rollcall_api::serve;
use tokio::task::JoinHandle;

use crate::postgres::Cluster;
use crate::progress::{Progress, say};
use crate::ready::ReadyFile;
use crate::relay;
use crate::s3;
use crate::signals::Signals;

/// How long the S3 server waits for clients that are not the api.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(crate) struct Running {
    pub(crate) ready_file: Option<ReadyFile>,
    pub(crate) work: Option<JoinHandle<()>>,
    pub(crate) relay: Option<relay::Running>,
    pub(crate) api: Option<serve::Running>,
    pub(crate) s3: Option<s3::Server>,
    pub(crate) postgres: Option<Cluster>,
}

impl Running {
    /// Waits for a part to end by itself; never, where that cannot be seen.
    pub(crate) async fn failed(&mut self) -> Error {
        let postgres = async {
            match &mut self.postgres {
                Some(cluster) => cluster.failed().await,
                None => std::future::pending().await,
            }
        };
        let relay = async {
            match &mut self.relay {
                Some(relay) => relay.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = postgres => error,
            error = relay => error,
        }
    }

    /// Stops what runs. Each signal on the way cuts the step short that is being waited for.
    pub(crate) async fn stop(self, signals: &mut Signals) -> Result<(), Error> {
        if let Some(file) = &self.ready_file {
            file.remove();
        }
        if let Some(work) = self.work {
            work.abort();
        }
        if let Some(relay) = self.relay {
            let _ = unless_hurried(relay.stop(), signals).await;
        }
        let mut result = Ok(());
        let something = self.s3.is_some() || self.postgres.is_some();
        if let Some(api) = self.api {
            Progress::Shown.line(
                "api",
                "finishing the requests in flight (Ctrl-C again does not wait for them)",
            );
            // Hurried, the requests are left to end with the process.
            result = unless_hurried(api.stop(), signals).await.unwrap_or(Ok(()));
        }
        if let Some(s3) = self.s3 {
            let stopping = tokio::time::timeout(PATIENCE, s3.stop());
            let _ = unless_hurried(stopping, signals).await;
        }
        if let Some(mut postgres) = self.postgres {
            let stopped = match unless_hurried(postgres.stop(), signals).await {
                Some(stopped) => stopped,
                None => postgres.abort().await,
            };
            result = result.and(stopped);
        }
        if something && result.is_ok() {
            say("Stopped.");
        }
        result
    }
}

/// The step's result, or `None` when a signal came first.
async fn unless_hurried<T>(step: impl Future<Output = T>, signals: &mut Signals) -> Option<T> {
    tokio::select! {
        done = step => Some(done),
        _ = signals.next() => None,
    }
}
