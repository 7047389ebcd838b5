//! A real S3 server in this process, on a folder.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// A server with one bucket; gone when dropped.
pub struct S3 {
    root: PathBuf,
    port: u16,
    runtime: Handle,
    task: JoinHandle<()>,
}

impl S3 {
    pub const BUCKET: &str = "rollcall";
    pub const ACCESS_KEY: &str = "test-access-key";
    pub const SECRET_KEY: &str = "test-secret-key";

    /// Serves a new bucket below `root`.
    pub async fn start(root: PathBuf, runtime: Handle) -> Self {
        std::fs::create_dir_all(root.join(Self::BUCKET)).expect("the bucket's folder");
        let (task, port) = serve(&root, 0, &runtime).await;
        Self {
            root,
            port,
            runtime,
            task,
        }
    }

    /// Takes the server away; requests to it are refused.
    pub async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Brings it back on the same port, with what it held.
    pub async fn restart(&mut self) {
        (self.task, _) = serve(&self.root, self.port, &self.runtime).await;
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Credentials and region for a client.
    pub fn client_config(&self) -> Builder {
        Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(
                Self::ACCESS_KEY,
                Self::SECRET_KEY,
                None,
                None,
                "test",
            ))
    }

    /// The keys of all objects, read from the folder itself.
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.root.join(Self::BUCKET);
        let mut keys = Vec::new();
        walk(&bucket, &bucket, &mut keys);
        keys.sort();
        keys
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(root: &Path, port: u16, runtime: &Handle) -> (JoinHandle<()>, u16) {
    let files = s3s_fs::FileSystem::new(root).expect("the folder is there");
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(S3::ACCESS_KEY, S3::SECRET_KEY));
    let service = service.build();
    let (bound, port_of) = oneshot::channel();
    let task = runtime.spawn(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("the port is free");
        let _ = bound.send(listener.local_addr().expect("an address").port());
        // Dropped with this task, and with it every connection.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let service = service.clone();
            connections.spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                // A client that goes away half-way is no failure here.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (task, port_of.await.expect("the server listens"))
}

fn walk(bucket: &Path, folder: &Path, keys: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(bucket, &path, keys);
        } else {
            let key = path.strip_prefix(bucket).expect("below the bucket");
            keys.push(key.to_string_lossy().into_owned());
        }
    }
}
