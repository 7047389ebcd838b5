//! An S3 server in this process, on files in the data folder.
//!
//! An object is written to a temporary file and renamed, so it is there whole or not at all, also after `kill -9`.
//! It is not forced to the disk (s3s-fs does not): after a power cut the newest objects may be missing.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use crate::state::S3Keys;

/// The bucket of everything.
pub(crate) const BUCKET: &str = "rollcall";

/// A running server.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves the buckets below `root`, which are folders, to whoever has the keys.
    pub(crate) async fn start(root: &Path, port: u16, keys: &S3Keys) -> Result<Self> {
        let bucket = root.join(BUCKET);
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&bucket);
        made.with_context(|| format!("create {}", bucket.display()))?;
        remove_unfinished_uploads(root).with_context(|| format!("tidy {}", root.display()))?;
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow!("open {}: {error:?}", root.display()))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(
            keys.access_key.clone(),
            keys.secret_key.clone(),
        ));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| {
            format!("port {port} on 127.0.0.1 was taken by another program just now. Start again, or choose one with --s3-port")
        })?;
        let (stop, stopped) = oneshot::channel();
        // Its spans, which print every request whole, would drown those of the api in the same process.
        let serving =
            serve(listener, service.build(), stopped).with_subscriber(NoSubscriber::default());
        let task = tokio::spawn(serving);
        Ok(Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            stop,
            task,
        })
    }

    /// Finishes the requests in flight and ends.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, service: S3Service, mut stopped: oneshot::Receiver<()>) {
    let server = Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of file descriptors, most likely: let some connections end.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small; waiting to fill a packet would cost up to 40 ms each.
        let _ = stream.set_nodelay(true);
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = graceful.watch(connection.into_owned());
        let connection = async move {
            // A client that goes away half-way is its own affair.
            let _ = connection.await;
        };
        tokio::spawn(connection.with_subscriber(NoSubscriber::default()));
    }
    graceful.shutdown().await;
}

/// Removes the parts of multipart uploads that a run which was killed has left: no client can finish them any more.
fn remove_unfinished_uploads(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let part = name.starts_with(".upload_id-") && name.contains(".part-");
        // The upload's own note, and what its object is to be. A key is in there in Base64, without a dot.
        let note = name.contains(".upload-") && name.ends_with(".json");
        if part || note {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_and_objects_stay() {
        let root = tempfile::tempdir().unwrap();
        let objects = [
            ".bucket-YQ.object-Yg.metadata.json",
            ".bucket-YQ.object-Yg.internal.json",
            "rollcall",
        ];
        let parts = [
            ".upload_id-4f1c.part-1",
            ".upload-4f1c.json",
            ".bucket-YQ.object-Yg.upload-4f1c.metadata.json",
        ];
        for name in objects.iter().chain(&parts) {
            fs::write(root.path().join(name), "x").unwrap();
        }
        remove_unfinished_uploads(root.path()).unwrap();
        for name in objects {
            assert!(root.path().join(name).exists(), "{name}");
        }
        for name in parts {
            assert!(!root.path().join(name).exists(), "{name}");
        }
    }
}
