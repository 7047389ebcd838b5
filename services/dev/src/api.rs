//! The api in this process: how it is configured, what it is filled with, its background work. No other module here
//! knows `rollcall_api`'s insides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use rollcall_api::admin::{self, KeySpec};
use rollcall_api::auth::{keys, tokens};
use rollcall_api::config::{
    CredentialArgs, DatabaseArgs, HttpArgs, LimitArgs, S3Args, ServeConfig,
};
use rollcall_api::objects::Objects;
use rollcall_api::serve;
use rollcall_api::work::Work;
use rollcall_model::{OrgId, Permission};
use rollcall_store::{Db, api_keys, organizations};
use rollcall_telemetry::Metrics;
use time::OffsetDateTime;
use tokio::task::JoinHandle;

use crate::config::Up;
use crate::progress::{Progress, seconds_since};
use crate::ready::S3;
use crate::secrets;
use crate::state::{ApiKey, State};

/// The organization that everybody finds here.
pub(crate) const ORGANIZATION: &str = "demo";

/// Pause between two rounds of background work.
const ROUND: Duration = Duration::from_secs(3_600);
/// How long files of replaced sessions are kept.
const KEEP_REPLACED: Duration = Duration::from_secs(30 * 86_400);

/// Who may use the api, and where.
pub(crate) struct Demo {
    pub(crate) project_id: i64,
    pub(crate) api_key: ApiKey,
}

/// The api's configuration, over the Postgres and the S3 that run by now.
pub(crate) fn configure(
    config: &Up,
    folder: &Path,
    state: &mut State,
    database_url: String,
    s3: &S3,
) -> Result<ServeConfig> {
    let secret = state
        .signed_keys_secret
        .get_or_insert_with(|| secrets::random_hex(32))
        .clone();
    state.write(folder)?;
    Ok(ServeConfig {
        http: HttpArgs {
            listen: config.http,
            http_workers: None,
            shutdown_seconds: 10,
        },
        database: DatabaseArgs {
            database_url: database_url.into(),
            database_connections: 16,
            database_wait_ms: 5_000,
            database_transaction_ms: 30_000,
        },
        s3: S3Args {
            s3_bucket: s3.bucket.clone(),
            s3_endpoint: Some(s3.endpoint.clone()),
            s3_path_style: true,
            s3_public_endpoint: Some(s3.endpoint.clone()),
            s3_link_seconds: 300,
        },
        credentials: CredentialArgs {
            jwt_keys: vec![token_key(folder)?],
            jwt_max_age_seconds: 86_400,
            signed_keys_secret: Some(secret.into()),
        },
        limits: LimitArgs::default(),
        telemetry: config.telemetry.clone(),
    })
}

/// The private key that signs tokens, made once.
fn token_key(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("token-key.pem");
    if !path.exists() {
        let pem = tokens::generate_pem()?;
        secrets::write_private(&path, pem.as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(path)
}

/// Makes what is missing of organization, project and key. A key that still works is kept.
pub(crate) async fn fill(config: &ServeConfig, folder: &Path, state: &mut State) -> Result<Demo> {
    let db = rollcall_api::database(&config.database)?;
    let found = organizations::find(&db, ORGANIZATION)
        .await
        .context("look for the organization")?;
    let org = match found {
        Some(organization) => organization.org_id,
        None => admin::create_organization(&db, ORGANIZATION).await?.org_id,
    };
    let project = match admin::list_projects(&db, org).await?.into_iter().next() {
        Some(project) => project,
        None => admin::create_project(&db, org, "Demo").await?,
    };
    let kept = state.api_key.take();
    let (api_key, did) = match kept {
        Some(key) if works(&db, org, &key).await? => (key, "as before"),
        kept => {
            let spec = KeySpec {
                name: "rollcall up",
                project: None,
                permissions: &Permission::ALL,
                expires_at: None,
                signed_with: None,
            };
            let made = admin::create_key(&db, org, &spec).await?;
            let did = if kept.is_some() {
                "new, as the old one is not in this database"
            } else {
                "new"
            };
            (
                ApiKey {
                    id: made.id,
                    secret: made.secret,
                },
                did,
            )
        }
    };
    db.close().await;
    state.api_key = Some(api_key.clone());
    state.write(folder)?;
    let project_id = project.project_id;
    Progress::Shown.line(
        "demo",
        format_args!("organization {ORGANIZATION}, project {project_id}, key {did}"),
    );
    Ok(Demo {
        project_id,
        api_key,
    })
}

/// Whether this database knows the key, and would let it in.
pub(crate) async fn works(db: &Db, org: OrgId, key: &ApiKey) -> Result<bool> {
    let stored = api_keys::find_for_authentication(db, org, &key.id)
        .await
        .context("look for the key")?;
    Ok(stored.is_some_and(|stored| {
        let current = stored
            .expires_at
            .is_none_or(|end| end > OffsetDateTime::now_utc());
        let hash = stored.secret_hash.as_deref();
        stored.revoked_at.is_none()
            && current
            && hash.is_some_and(|hash| keys::matches(&key.secret, hash))
    }))
}

/// Serves.
pub(crate) async fn start(config: &ServeConfig, s3: &S3) -> Result<serve::Running> {
    let started = Instant::now();
    let credentials = Credentials::new(&s3.access_key, &s3.secret_key, None, None, "rollcall up");
    let client = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        // No server but AWS's own asks where it is.
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials);
    let metrics = Arc::new(Metrics::new());
    let objects = Objects::new(client, &config.s3, Arc::clone(&metrics));
    objects.ping().await.map_err(|error| {
        anyhow!(
            "the bucket {} at {} cannot be used: {error}. It must exist, and the keys must open it.",
            s3.bucket,
            s3.endpoint
        )
    })?;
    let running = serve::start_with(config, objects, metrics).await?;
    let took = seconds_since(started);
    Progress::Shown.line(
        "api",
        format_args!("http://{}, ready in {took}", running.addr),
    );
    Ok(running)
}

/// The background work, until aborted. Only for a Postgres and an S3 that are both of this data folder: it deletes
/// objects that the database does not know, and of a bucket that others use, or used with another database, that
/// would be all.
pub(crate) fn work(api: &serve::Running) -> JoinHandle<()> {
    let app = api.app.clone();
    // Nothing was in flight before, so in the first round what has no row will never get one.
    let started = OffsetDateTime::now_utc();
    tokio::spawn(async move {
        let mut rounds = tokio::time::interval(ROUND);
        let mut orphans_before = started;
        loop {
            rounds.tick().await;
            let work = Work {
                db: &app.db,
                objects: &app.objects,
                metrics: &app.metrics,
                orphans_before,
                keep_replaced: KEEP_REPLACED,
            };
            if let Err(error) = work.once().await {
                tracing::error!(%error, "a sweep failed; the next one tries again");
            }
            orphans_before = OffsetDateTime::now_utc() - time::Duration::DAY;
        }
    })
}
