//! The admin console's connection: simple queries, and answers row by row, bounded.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Error, Result, bail};
use futures_util::TryStreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Column as _, ConnectOptions as _, PgConnection, Row as _};

use super::read::Row;

/// Rows of one answer, and bytes of its values, at most.
const MAX_ROWS: usize = 500_000;
const MAX_BYTES: usize = 512 << 20;

/// Where the console is, and who asks.
pub struct Target {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<SecretString>,
    pub tls: bool,
    pub ca_file: Option<PathBuf>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A connection to the console.
pub struct Console {
    connection: PgConnection,
    place: String,
    /// Whether this version has `SHOW STATE`.
    pub has_state: bool,
}

impl Console {
    pub async fn open(target: &Target) -> Result<Self> {
        let password = target.password.as_ref();
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&target.host)
            .port(target.port)
            .username(&target.user)
            .password(password.map_or("", |password| password.expose_secret()))
            .database("pgbouncer")
            .application_name("rollcall-relay")
            // The console knows no prepared statements, and refuses settings that it does not know.
            .statement_cache_capacity(0)
            .extra_float_digits(None)
            .ssl_mode(if target.tls {
                PgSslMode::VerifyFull
            } else {
                PgSslMode::Disable
            })
            .disable_statement_logging();
        if let Some(file) = &target.ca_file {
            options = options.ssl_root_cert(file);
        }
        let connection = options
            .connect()
            .await
            .map_err(|error| refused(target, error))?;
        let mut console = Self {
            connection,
            place: target.to_string(),
            has_state: false,
        };
        console.has_state = console.knows("SHOW STATE").await?;
        Ok(console)
    }

    /// Whether the console takes a query. A refusal leaves the connection as it was.
    async fn knows(&mut self, query: &'static str) -> Result<bool> {
        match sqlx::raw_sql(query).fetch_all(&mut self.connection).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(_)) => Ok(false),
            Err(error) => {
                Err(error).with_context(|| format!("ask PgBouncer at {} `{query}`", self.place))
            }
        }
    }

    /// Asks, and hands over each row of the answer.
    pub async fn each(
        &mut self,
        query: &'static str,
        mut take: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let asked = || format!("ask PgBouncer at {} `{query}`", self.place);
        let mut answer = sqlx::raw_sql(query).fetch(&mut self.connection);
        let (mut rows, mut bytes) = (0, 0);
        while let Some(row) = answer.try_next().await.with_context(asked)? {
            let mut values = Row::default();
            for (place, column) in row.columns().iter().enumerate() {
                let value = row.try_get_raw(place).with_context(asked)?;
                let value = value.as_bytes().unwrap_or_default();
                bytes += value.len();
                values.push(column.name(), value);
            }
            rows += 1;
            if rows > MAX_ROWS || bytes > MAX_BYTES {
                bail!(
                    "PgBouncer at {} answers `{query}` with more than {MAX_ROWS} rows or {} MiB, which is not read",
                    self.place,
                    MAX_BYTES >> 20
                );
            }
            take(&values).with_context(asked)?;
        }
        Ok(())
    }
}

/// Why there is no console, and what to do.
fn refused(target: &Target, error: sqlx::Error) -> Error {
    let said = match &error {
        sqlx::Error::Database(said) => said.message().to_owned(),
        _ => {
            let text = format!("PgBouncer at {target} cannot be reached");
            return Error::new(error).context(text);
        }
    };
    let user = &target.user;
    let password = target.password.as_ref().map(|held| held.expose_secret());
    let said = match password {
        Some(password) if said.contains(password) => "it repeats the password",
        _ => &said,
    };
    let advice = if said.contains("not allowed") {
        format!("add {user} to stats_users in its configuration, and reload it")
    } else if said.contains("SSL required") {
        "set `tls = true`".to_owned()
    } else {
        format!("check `user` ({user}) and its password, and PgBouncer's log")
    };
    anyhow::anyhow!("PgBouncer at {target} refuses the console ({said}): {advice}")
}
