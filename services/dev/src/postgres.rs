//! A Postgres of our own: made on first use, started as a child process, stopped with us. Loopback TCP only, and only
//! with the password that was made with it. Nothing that holds data is ever deleted.

mod account;
mod cluster;
mod leftover;
mod pid_file;
mod programs;

pub(crate) use cluster::{Cluster, Kind, Settings};

use std::path::Path;

use anyhow::Result;

use crate::progress::Progress;

/// Stops a server that still runs on the cluster in `home` although nobody holds it any more.
pub(crate) async fn stop_leftover(home: &Path) -> Result<()> {
    leftover::clear(&home.join("data"), Progress::Silent)
        .await
        .map(|_| ())
}
