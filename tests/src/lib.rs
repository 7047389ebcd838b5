//! The harness: a real Postgres (from `DATABASE_URL`, a database for each test), a real S3 server in process, the real
//! application on a real socket, and clients for it. The application connects as the service's own role, never as the
//! superuser that makes the databases.

mod client;
mod coap;
mod edge;
mod fluxmq;
mod maxscale;
pub mod program;
mod properties;
mod proxy;
mod relay;
mod s3;
mod stand_in;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rollcall_api::admin::{self, KeySpec};
use rollcall_api::config::{
    CredentialArgs, DatabaseArgs, HttpArgs, LimitArgs, S3Args, ServeConfig,
};
use rollcall_api::objects::Objects;
use rollcall_api::serve::{self, Running};
use rollcall_model::{OrgId, Permission, ProjectId};
use rollcall_store::{Db, roles};
use rollcall_telemetry::{Metrics, TelemetryArgs};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

pub use client::{Answer, Client, Credential, file, send};
pub use coap::{CoapAnswer, CoapClient, LossyWay, request};
pub use edge::{Edge, SimulatedBox};
pub use fluxmq::{FluxInside, FluxMq, flux_session};
pub use maxscale::{Fault, MaxScale, SqlClient, Version};
pub use properties::for_all;
pub use proxy::Proxy;
pub use relay::{Relay, verdicts};
pub use s3::S3;

/// The service's login in the test cluster.
const LOGIN: &str = "rollcall_test";
const PASSWORD: &str = "rollcall_test";
/// The secret that the keys for signed requests are derived from.
pub const SIGNED_KEYS_SECRET: &str = "a secret of at least thirty-two characters";

/// A running system with two organizations.
pub struct TestApp {
    /// `http://127.0.0.1:<port>`
    pub url: String,
    pub config: ServeConfig,
    pub s3: S3,
    /// The service's own pool.
    pub db: Db,
    /// The superuser's pool: for looking at what is there, past row-level security.
    pub superuser: PgPool,
    pub org: OrgId,
    /// A project of that organization.
    pub project: ProjectId,
    /// May do everything in the organization.
    pub admin: Client,
    /// May read in the organization.
    pub reader: Client,
    /// May do everything in another organization.
    pub stranger: Client,
    pub strange_org: OrgId,
    /// A project of the other organization.
    pub strange_project: ProjectId,
    app: actix_web::web::Data<rollcall_api::App>,
    addr: SocketAddr,
    /// Taken when the application stops.
    running: Option<Running>,
    /// The application's own threads, so that a test's end can wait for it.
    runtime: Option<Runtime>,
    folder: TempDir,
}

impl TestApp {
    /// Starts everything with the usual configuration.
    pub async fn start(superuser: PgPool) -> Self {
        Self::start_with(superuser, |_| {}).await
    }

    /// Starts everything; `change` may turn the configuration before.
    pub async fn start_with(superuser: PgPool, change: impl FnOnce(&mut ServeConfig)) -> Self {
        make_roles().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let s3 = S3::start(folder.path().join("s3"), runtime.handle().clone()).await;
        let mut config = config(&superuser, &s3, folder.path());
        change(&mut config);
        let started = runtime.spawn(serve(config.clone(), s3.client_config()));
        let running = started
            .await
            .expect("no panic")
            .expect("the application starts");
        let url = format!("http://{}", running.addr);
        let db = running.app.db.clone();
        let org = organization(&db, "demo").await;
        let other = organization(&db, "other").await;
        let project = project(&db, org).await;
        let strange_project = self::project(&db, other).await;
        let anonymous = Client::new(&url);
        let client =
            async |org, permission| anonymous.with(key(&db, org, None, &[permission]).await);
        Self {
            admin: client(org, Permission::Admin).await,
            reader: client(org, Permission::SessionsRead).await,
            stranger: client(other, Permission::Admin).await,
            url,
            config,
            s3,
            db,
            superuser,
            org,
            project,
            strange_org: other,
            strange_project,
            addr: running.addr,
            app: running.app.clone(),
            running: Some(running),
            runtime: Some(runtime),
            folder,
        }
    }

    /// A client without a credential.
    pub fn anonymous(&self) -> Client {
        self.admin.with(Credential::None)
    }

    /// A client with a new key of the organization.
    pub async fn client(&self, project: Option<ProjectId>, permissions: &[Permission]) -> Client {
        self.admin
            .with(key(&self.db, self.org, project, permissions).await)
    }

    /// Another project of the organization.
    pub async fn second_project(&self) -> ProjectId {
        project(&self.db, self.org).await
    }

    /// `/api/v1/projects/<project>/sessions`
    pub fn sessions(&self) -> String {
        format!("/api/v1/projects/{}/sessions", self.project)
    }

    /// Where the application listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The running application's own objects, metrics and limits.
    pub fn app(&self) -> &rollcall_api::App {
        &self.app
    }

    /// A folder that goes with the test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs something on the application's own threads.
    pub async fn on_its_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.runtime
            .as_ref()
            .expect("until dropped")
            .spawn(work)
            .await
            .expect("no panic")
    }

    /// Begins to stop the application as SIGTERM does: it finishes the requests in flight.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("stopped once");
        let stopped = self
            .runtime
            .as_ref()
            .expect("until dropped")
            .spawn(running.stop());
        stopped.await.expect("no panic").expect("a clean stop");
    }
}

impl TestApp {
    /// Stops the application and starts it anew, on another address.
    pub async fn restart(&mut self) {
        self.stop().await;
        let started = serve(self.config.clone(), self.s3.client_config());
        let started = self.runtime.as_ref().expect("until dropped").spawn(started);
        let running = started
            .await
            .expect("no panic")
            .expect("the application starts");
        self.url = format!("http://{}", running.addr);
        self.addr = running.addr;
        self.app = running.app.clone();
        self.db = running.app.db.clone();
        for client in [&mut self.admin, &mut self.reader, &mut self.stranger] {
            *client = client.at(&self.url);
        }
        self.running = Some(running);
    }
}

impl Drop for TestApp {
    /// Closes every connection, or Postgres would not let go of the test's database.
    fn drop(&mut self) {
        let runtime = self.runtime.take().expect("dropped once");
        let (running, db) = (self.running.take(), self.db.clone());
        let (done, closed) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            if let Some(running) = running {
                running.stopper().stop(false).await;
            }
            db.close().await;
            let _ = done.send(());
        });
        let _ = closed.recv_timeout(Duration::from_secs(10));
        runtime.shutdown_background();
    }
}

/// A configuration for a test's own database and bucket.
fn config(superuser: &PgPool, s3: &S3, folder: &Path) -> ServeConfig {
    let options = superuser.connect_options();
    let (host, port) = (options.get_host(), options.get_port());
    let database = options.get_database().expect("a test has a database");
    let url = format!("postgres://{LOGIN}:{PASSWORD}@{host}:{port}/{database}");
    ServeConfig {
        http: HttpArgs {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            http_workers: Some(2),
            shutdown_seconds: 10,
        },
        database: DatabaseArgs {
            database_url: url.into(),
            database_connections: 8,
            database_wait_ms: 2_000,
            database_transaction_ms: 30_000,
        },
        s3: S3Args {
            s3_bucket: S3::BUCKET.into(),
            s3_endpoint: Some(s3.endpoint()),
            s3_path_style: true,
            s3_public_endpoint: Some(s3.endpoint()),
            s3_link_seconds: 300,
        },
        credentials: CredentialArgs {
            jwt_keys: vec![signing_key(folder)],
            jwt_max_age_seconds: 86_400,
            signed_keys_secret: Some(SIGNED_KEYS_SECRET.into()),
        },
        limits: LimitArgs::default(),
        telemetry: TelemetryArgs::default(),
    }
}

async fn serve(config: ServeConfig, s3: aws_sdk_s3::config::Builder) -> anyhow::Result<Running> {
    let metrics = Arc::new(Metrics::new());
    let objects = Objects::new(s3, &config.s3, Arc::clone(&metrics));
    serve::start_with(&config, objects, metrics).await
}

fn signing_key(folder: &Path) -> PathBuf {
    let path = folder.join("jwt.pem");
    let pem = rollcall_api::auth::tokens::generate_pem().expect("a key");
    std::fs::write(&path, pem).expect("written");
    path
}

/// Roles belong to the cluster: once for all tests of this process.
async fn make_roles() {
    static MADE: OnceCell<()> = OnceCell::const_new();
    let made = MADE.get_or_init(async || {
        let url = database_url();
        roles::create(&url, LOGIN, PASSWORD)
            .await
            .expect("the roles are made");
    });
    made.await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness is where tests are configured"
)]
fn database_url() -> String {
    std::env::var("DATABASE_URL").expect("`make test` sets DATABASE_URL")
}

/// The url of a test's own database as its owner, with the password.
pub fn owner_url(pool: &PgPool) -> String {
    let mut url = reqwest::Url::parse(&database_url()).expect("DATABASE_URL is a URL");
    url.set_path(
        pool.connect_options()
            .get_database()
            .expect("a test has a database"),
    );
    url.into()
}

async fn organization(db: &Db, name: &str) -> OrgId {
    admin::create_organization(db, name)
        .await
        .expect("an organization")
        .org_id
}

async fn project(db: &Db, org: OrgId) -> ProjectId {
    let made = admin::create_project(db, org, "inspections")
        .await
        .expect("a project");
    ProjectId::new(made.project_id).expect("a positive number")
}

async fn key(
    db: &Db,
    org: OrgId,
    project: Option<ProjectId>,
    permissions: &[Permission],
) -> Credential {
    let spec = KeySpec {
        name: "test",
        project,
        permissions,
        expires_at: None,
        signed_with: None,
    };
    let made = admin::create_key(db, org, &spec).await.expect("a key");
    Credential::Basic {
        id: made.id,
        secret: made.secret,
    }
}

/// What is stored of sessions in the whole system: for seeing that a refused request left nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    pub sessions: i64,
    pub events: i64,
    pub attachments: i64,
    pub objects: usize,
}

impl TestApp {
    /// Counts what is stored, past row-level security.
    pub async fn stored(&self) -> Stored {
        let (sessions, events, attachments) = sqlx::query_as(
            "select (select count(*) from sessions), (select count(*) from events), (select count(*) from attachments)",
        )
        .fetch_one(&self.superuser)
        .await
        .expect("counts");
        Stored {
            sessions,
            events,
            attachments,
            objects: self.s3.keys().len(),
        }
    }
}
