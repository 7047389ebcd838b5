//! The command line: every flag with its environment twin, and the texts of `--help`.

use std::ffi::OsString;
#[cfg(feature = "up")]
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Rollcall on one machine, with nothing set up beforehand.
///
/// For development, trials and tests. In production, `rollcall-api` runs against a Postgres and an S3 of yours.
#[derive(Parser)]
#[command(name = "rollcall", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  rollcall up                                  the whole system; prints what to try next
  rollcall up --http 127.0.0.1:9000            the api on another port
  rollcall with-postgres -- cargo test         a command with a Postgres of its own in DATABASE_URL

`rollcall COMMAND --help` says more about each.";

#[derive(Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "up")]
    Up(Box<Up>),
    WithPostgres(WithPostgres),
}

/// Start everything: Postgres, S3, the api, a relay with a pager transmitter, a demo organization with a key.
///
/// Keeps all its data in one folder and finds it again at the next start, key and ports included. Stops cleanly on
/// Ctrl-C; a second Ctrl-C does not wait for requests in flight.
#[cfg(feature = "up")]
#[derive(Args)]
#[command(after_help = UP_EXAMPLES)]
// Whoever watches wants to see requests; the libraries have nothing to say that is not said better here.
#[command(mut_arg("log_filter", |flag| flag.default_value("warn,rollcall_api=info,rollcall_api::work=warn,rollcall_relay::spool=info")))]
pub(crate) struct Up {
    /// Folder for everything that is kept
    #[arg(
        long,
        env = "ROLLCALL_DATA_DIR",
        value_name = "FOLDER",
        default_value = ".rollcall"
    )]
    pub(crate) data_dir: PathBuf,

    /// Address and port of the api
    #[arg(
        long,
        env = "ROLLCALL_HTTP",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080",
        value_parser = socket_address
    )]
    pub(crate) http: SocketAddr,

    /// Address and UDP port of the pager transmitter that the relay hosts
    #[arg(
        long,
        env = "ROLLCALL_COAP",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:5683",
        value_parser = socket_address
    )]
    pub(crate) coap: SocketAddr,

    /// Write this file when everything is ready: JSON with addresses and the demo key. Removed at a clean stop
    #[arg(long, env = "ROLLCALL_READY_FILE", value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,

    /// Use a Postgres that runs already, as its superuser or a user who may create roles
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        conflicts_with_all = ["postgres_port", "postgres_bin"]
    )]
    pub(crate) database_url: Option<String>,

    /// Port of our own S3 server [default: a free one, then always the same]
    #[arg(long, env = "ROLLCALL_S3_PORT", value_name = "PORT", conflicts_with = "s3_endpoint", value_parser = port())]
    pub(crate) s3_port: Option<u16>,

    #[command(flatten)]
    pub(crate) s3: S3Args,

    #[command(flatten)]
    pub(crate) telemetry: rollcall_telemetry::TelemetryArgs,
}

#[cfg(feature = "up")]
const UP_EXAMPLES: &str = "\
Examples:
  rollcall up
      Everything in ./.rollcall, the api on http://127.0.0.1:8080.

  rollcall up --data-dir /tmp/trial --http 127.0.0.1:0 --coap 127.0.0.1:0 --ready-file /tmp/trial.json
      For scripts: any free port; wait for the file, then read addresses and key from it.

  rollcall up --database-url postgres://postgres:secret@127.0.0.1:5432/rollcall
      On a Postgres (15 or newer) that runs already. The database must exist.

  rollcall up --s3-endpoint http://127.0.0.1:9000 --s3-bucket forms \\
              --s3-access-key AK --s3-secret-key SK
      On an S3 server that runs already. The bucket must exist.

Each flag can come from the environment instead: --data-dir from ROLLCALL_DATA_DIR, and so on.";

/// Our own Postgres.
#[derive(Args)]
pub(crate) struct PostgresArgs {
    /// Port of our own Postgres [default: a free one, then always the same]
    #[arg(long, env = "ROLLCALL_POSTGRES_PORT", value_name = "PORT", value_parser = port())]
    pub(crate) postgres_port: Option<u16>,

    /// Folder of Postgres's programs initdb and postgres [default: looked for]
    #[arg(long, env = "ROLLCALL_POSTGRES_BIN", value_name = "FOLDER")]
    pub(crate) postgres_bin: Option<PathBuf>,
}

/// An S3 server that runs already. All four or none.
#[cfg(feature = "up")]
#[derive(Args)]
pub(crate) struct S3Args {
    /// Use an S3 server that runs already
    #[arg(
        long,
        env = "ROLLCALL_S3_ENDPOINT",
        value_name = "URL",
        requires_all = ["s3_bucket", "s3_access_key", "s3_secret_key"]
    )]
    pub(crate) s3_endpoint: Option<String>,

    /// Its bucket
    #[arg(
        long,
        env = "ROLLCALL_S3_BUCKET",
        value_name = "NAME",
        requires = "s3_endpoint"
    )]
    pub(crate) s3_bucket: Option<String>,

    /// Its access key
    #[arg(
        long,
        env = "ROLLCALL_S3_ACCESS_KEY",
        value_name = "KEY",
        requires = "s3_endpoint"
    )]
    pub(crate) s3_access_key: Option<String>,

    /// Its secret key
    #[arg(
        long,
        env = "ROLLCALL_S3_SECRET_KEY",
        hide_env_values = true,
        value_name = "SECRET",
        requires = "s3_endpoint"
    )]
    pub(crate) s3_secret_key: Option<String>,
}

/// Run a command with a Postgres of its own, and remove that afterwards.
///
/// The command finds a new, empty database in DATABASE_URL, as a superuser, with the roles that Rollcall's migrations
/// need. The cluster lives in the temporary folder, is fast instead of durable, and goes when the command ends,
/// however it ends. The exit status is the command's.
#[derive(Args)]
#[command(after_help = WITH_POSTGRES_EXAMPLES)]
pub(crate) struct WithPostgres {
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,

    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub(crate) command: Vec<OsString>,
}

const WITH_POSTGRES_EXAMPLES: &str = "\
Examples:
  rollcall with-postgres -- cargo test --workspace
  rollcall with-postgres -- sh -c 'cargo sqlx migrate run && psql \"$DATABASE_URL\"'";

#[cfg(feature = "up")]
fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "it takes an IP address and a port, for example 127.0.0.1:8080 or [::1]:8080")
}

/// A port that can be asked for: 0 would mean another one at each start.
fn port() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[cfg(feature = "up")]
    #[test]
    fn every_flag_has_its_environment_twin() {
        // The telemetry flags have the names that OpenTelemetry gives them.
        let theirs = rollcall_telemetry::TelemetryArgs::augment_args(clap::Command::new("theirs"));
        let theirs: Vec<_> = theirs.get_arguments().map(clap::Arg::get_id).collect();
        for command in Cli::command().get_subcommands() {
            for argument in command
                .get_arguments()
                .filter(|a| !theirs.contains(&a.get_id()))
            {
                let Some(long) = argument.get_long() else {
                    continue;
                };
                let twin = format!("ROLLCALL_{}", long.to_uppercase().replace('-', "_"));
                let env = argument.get_env().and_then(|name| name.to_str());
                assert_eq!(env, Some(twin.as_str()), "--{long}");
            }
        }
    }

    #[cfg(feature = "up")]
    #[test]
    fn half_of_an_s3_server_is_refused() {
        let complete = [
            "--s3-endpoint=http://h",
            "--s3-bucket=b",
            "--s3-access-key=a",
            "--s3-secret-key=s",
        ];
        let parse =
            |flags: &[&str]| Cli::try_parse_from([&["rollcall", "up"], flags].concat()).is_ok();
        assert!(parse(&complete) && parse(&[]));
        for missing in 0..complete.len() {
            let mut flags = complete.to_vec();
            flags.remove(missing);
            assert!(!parse(&flags), "{flags:?}");
        }
    }
}
