//! Everything that is configured, one small struct per concern; flags and environment, nothing else.
//!
//! Each struct is also built as a value: by `rollcall up` and by the tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rollcall_model::Limits;
use rollcall_telemetry::TelemetryArgs;
use secrecy::SecretString;

/// Postgres.
#[derive(Args, Clone, Debug)]
pub struct DatabaseArgs {
    /// Where Postgres is, as the service's own role: postgres://rollcall:…@host/rollcall
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: SecretString,
    /// Connections that this process may open
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_CONNECTIONS",
        value_name = "N",
        default_value_t = 16
    )]
    pub database_connections: u32,
    /// How long a request waits for a connection before it gets 503, in milliseconds
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_WAIT_MS",
        value_name = "MS",
        default_value_t = 5_000
    )]
    pub database_wait_ms: u64,
    /// How long all of a transaction may take before its request gets 503, in milliseconds
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_TRANSACTION_MS",
        value_name = "MS",
        default_value_t = 30_000
    )]
    pub database_transaction_ms: u64,
}

/// S3. Credentials and region come from AWS's usual chain (environment, profile, web identity, container, instance).
#[derive(Args, Clone, Debug)]
pub struct S3Args {
    /// The bucket that holds the attachments' bytes; it must exist
    #[arg(long, env = "ROLLCALL_S3_BUCKET", value_name = "NAME")]
    pub s3_bucket: String,
    /// An S3 server other than AWS's
    #[arg(long, env = "ROLLCALL_S3_ENDPOINT", value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// Put the bucket in the path instead of the host's name; most servers other than AWS's want it
    #[arg(long, env = "ROLLCALL_S3_PATH_STYLE")]
    pub s3_path_style: bool,
    /// Where clients reach S3: for AWS's own, https://s3.REGION.amazonaws.com. With it, a download with redirect=true is
    /// sent there by a signed link
    #[arg(long, env = "ROLLCALL_S3_PUBLIC_ENDPOINT", value_name = "URL")]
    pub s3_public_endpoint: Option<String>,
    /// How long such a link holds, in seconds
    #[arg(
        long,
        env = "ROLLCALL_S3_LINK_SECONDS",
        value_name = "S",
        default_value_t = 300,
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    pub s3_link_seconds: u64,
}

/// HTTP.
#[derive(Args, Clone, Debug)]
pub struct HttpArgs {
    /// Address to listen on; TLS is the ingress's part
    #[arg(
        long,
        env = "ROLLCALL_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// Worker threads; as many as there are cores when not given
    #[arg(long, env = "ROLLCALL_HTTP_WORKERS", value_name = "N")]
    pub http_workers: Option<usize>,
    /// How long requests in flight may take to finish after SIGTERM, in seconds
    #[arg(
        long,
        env = "ROLLCALL_SHUTDOWN_SECONDS",
        value_name = "S",
        default_value_t = 30
    )]
    pub shutdown_seconds: u64,
}

/// Tokens and signed requests.
#[derive(Args, Clone, Debug, Default)]
pub struct CredentialArgs {
    /// Private keys (P-256, PKCS#8 PEM files) of /v1/auth's tokens: the first signs, all verify. To rotate, put the new
    /// key first, and drop the old one once its last token has expired
    #[arg(
        long = "jwt-key",
        env = "ROLLCALL_JWT_KEYS",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub jwt_keys: Vec<PathBuf>,
    /// Longest life of a token, in seconds
    #[arg(
        long,
        env = "ROLLCALL_JWT_MAX_AGE_SECONDS",
        value_name = "S",
        default_value_t = 86_400
    )]
    pub jwt_max_age_seconds: u64,
    /// Secret that the secrets of keys for signed requests are derived from; at least 32 characters
    #[arg(
        long,
        env = "ROLLCALL_SIGNED_KEYS_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub signed_keys_secret: Option<SecretString>,
}

/// Bounds on one request; see [`Limits`].
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// Bytes of a body without its files
    #[arg(long, env = "ROLLCALL_LIMIT_BODY_BYTES", value_name = "N", default_value_t = Limits::default().body_bytes)]
    pub limit_body_bytes: usize,
    /// Bytes of one file
    #[arg(long, env = "ROLLCALL_LIMIT_FILE_BYTES", value_name = "N", default_value_t = Limits::default().file_bytes)]
    pub limit_file_bytes: u64,
    /// Points in one session
    #[arg(long, env = "ROLLCALL_LIMIT_POINTS", value_name = "N", default_value_t = Limits::default().points)]
    pub limit_points: usize,
    /// Levels of brackets in a field's name, or of objects and arrays in JSON
    #[arg(long, env = "ROLLCALL_LIMIT_NESTING", value_name = "N", default_value_t = Limits::default().nesting)]
    pub limit_nesting: usize,
    /// Bytes of a field's or a point's name
    #[arg(long, env = "ROLLCALL_LIMIT_NAME_BYTES", value_name = "N", default_value_t = Limits::default().name_bytes)]
    pub limit_name_bytes: usize,
    /// Sessions in one batch or bulk update
    #[arg(long, env = "ROLLCALL_LIMIT_ITEMS", value_name = "N", default_value_t = Limits::default().items)]
    pub limit_items: usize,
    /// Between two pieces of a body, in seconds; a body that stalls longer is given up
    #[arg(long, env = "ROLLCALL_LIMIT_IDLE_SECONDS", value_name = "S", default_value_t = Limits::default().idle.as_secs())]
    pub limit_idle_seconds: u64,
    /// From a request's first byte to its answer, in seconds
    #[arg(long, env = "ROLLCALL_LIMIT_TOTAL_SECONDS", value_name = "S", default_value_t = Limits::default().total.as_secs())]
    pub limit_total_seconds: u64,
    /// Memory for bodies and files on their way in, over all requests of this process, in MiB; what does not get any
    /// within 5 s gets 503
    #[arg(long, env = "ROLLCALL_LIMIT_MEMORY_MIB", value_name = "MIB", default_value_t = MEMORY_MIB)]
    pub limit_memory_mib: u32,
    /// Readers that stream the feed from this process at once; more get 503
    #[arg(long, env = "ROLLCALL_LIMIT_FEED_READERS", value_name = "N", default_value_t = FEED_READERS)]
    pub limit_feed_readers: usize,
}

/// Readers of the feed, where nothing is configured.
const FEED_READERS: usize = 10_000;
/// Memory for bodies, where nothing is configured.
const MEMORY_MIB: u32 = 512;

/// What `serve` needs.
#[derive(Args, Clone, Debug)]
pub struct ServeConfig {
    #[command(flatten)]
    pub http: HttpArgs,
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub s3: S3Args,
    #[command(flatten)]
    pub credentials: CredentialArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// What `work` needs.
#[derive(Args, Clone, Debug)]
pub struct WorkConfig {
    #[command(flatten)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    pub s3: S3Args,
    #[command(flatten)]
    pub work: WorkArgs,
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Do everything once, say what was done, and exit
    #[arg(long)]
    pub once: bool,
}

/// Background work.
#[derive(Args, Clone, Debug)]
pub struct WorkArgs {
    /// Pause between two sweeps, in seconds
    #[arg(
        long,
        env = "ROLLCALL_SWEEP_INTERVAL_SECONDS",
        value_name = "S",
        default_value_t = 3_600
    )]
    pub sweep_interval_seconds: u64,
    /// Age from which an object that no row knows is deleted, in seconds; longer than any request may take, or a sweep
    /// deletes what a request is still storing
    #[arg(
        long,
        env = "ROLLCALL_SWEEP_GRACE_SECONDS",
        value_name = "S",
        default_value_t = 86_400
    )]
    pub sweep_grace_seconds: u64,
    /// How long the files of replaced and updated sessions are kept, in seconds
    #[arg(long, env = "ROLLCALL_KEEP_REPLACED_SECONDS", value_name = "S", default_value_t = 30 * 86_400)]
    pub keep_replaced_seconds: u64,
}

impl LimitArgs {
    /// The limits as the model has them.
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes: self.limit_body_bytes,
            file_bytes: self.limit_file_bytes,
            points: self.limit_points,
            nesting: self.limit_nesting,
            name_bytes: self.limit_name_bytes,
            items: self.limit_items,
            idle: Duration::from_secs(self.limit_idle_seconds),
            total: Duration::from_secs(self.limit_total_seconds),
        }
    }
}

impl Default for LimitArgs {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            limit_body_bytes: limits.body_bytes,
            limit_file_bytes: limits.file_bytes,
            limit_points: limits.points,
            limit_nesting: limits.nesting,
            limit_name_bytes: limits.name_bytes,
            limit_items: limits.items,
            limit_idle_seconds: limits.idle.as_secs(),
            limit_total_seconds: limits.total.as_secs(),
            limit_memory_mib: MEMORY_MIB,
            limit_feed_readers: FEED_READERS,
        }
    }
}
