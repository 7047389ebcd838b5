//! Postgres, ready for the api: roles and schema.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rollcall_store::{roles, schema};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::data_dir::DataDir;
use crate::progress::{Progress, seconds_since};
use crate::state::{Login, State};

/// How long a server that runs already may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the roles and brings the schema up to date, as the owner. Returns the url for the service's own role.
pub(crate) async fn prepare(owner_url: &str, folder: &DataDir, state: &mut State) -> Result<String> {
    let started = Instant::now();
    let mut conn = connect(owner_url).await?;
    if state.login.is_none() {
        state.login = Some(Login::generate());
        state.write(folder.path())?;
    }
    let login = state.login.as_ref().expect("made above where it was missing");
    roles::create(&mut conn, &login.name, &login.password).await.context("make the roles in Postgres")?;
    conn.close().await.context("leave Postgres")?;
    let applied = schema::migrate(owner_url).await.context("bring the schema up to date")?;
    let version = schema::wanted();
    let did = match applied.len() {
        0 => String::new(),
        1 => format!(", 1 migration applied in {}", seconds_since(started)),
        n => format!(", {n} migrations applied in {}", seconds_since(started)),
    };
    Progress::Shown.line("schema", format_args!("version {version}{did}"));
    service_url(owner_url, login)
}

async fn connect(url: &str) -> Result<PgConnection> {
    let options: PgConnectOptions = url
        .parse()
        // The error's own text may quote the password.
        .map_err(|_| anyhow!("--database-url is not of the form postgres://user:password@host:port/database"))?;
    let place = format!("{}:{}", options.get_host(), options.get_port());
    match tokio::time::timeout(PATIENCE, options.connect()).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(error)) => Err(error).with_context(|| format!("the Postgres at {place} cannot be used")),
        Err(_) => bail!("the Postgres at {place} does not answer within {PATIENCE:?}"),
    }
}

/// The owner's url with the login in its place; whatever else it says (TLS, host) stays.
fn service_url(owner_url: &str, login: &Login) -> Result<String> {
    let (scheme, rest) = owner_url.split_once("://").context("a url that was connected to has a scheme")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Ok(format!("{scheme}://{}:{}@{host}{tail}", login.name, login.password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_changes_in_a_url() {
        let login = Login { name: "n".to_owned(), password: "p".to_owned() };
        for (owner, service) in [
            ("postgres://o:secret@127.0.0.1:5432/db", "postgres://n:p@127.0.0.1:5432/db"),
            ("postgresql://h/db?sslmode=require", "postgresql://n:p@h/db?sslmode=require"),
            ("postgres://o@h?host=/tmp/a@b", "postgres://n:p@h?host=/tmp/a@b"),
        ] {
            assert_eq!(service_url(owner, &login).unwrap(), service);
        }
    }
}
