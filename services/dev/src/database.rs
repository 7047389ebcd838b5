//! Postgres, ready for the api: roles and schema.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rollcall_store::{roles, schema};

use crate::progress::{Progress, seconds_since};
use crate::state::Login;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the roles and brings the schema up to date, as the owner. Returns the url for the service's own role.
pub(crate) async fn prepare(owner_url: &str, login: &Login) -> Result<String> {
    let started = Instant::now();
    let service_url = service_url(owner_url, login)?;
    let created = tokio::time::timeout(
        PATIENCE,
        roles::create(owner_url, &login.name, &login.password),
    );
    match created.await {
        Ok(created) => created.context(
            "make the roles in Postgres (--database-url needs a database that exists, and a user who may create roles)",
        )?,
        Err(_) => bail!("Postgres does not answer within {} s", PATIENCE.as_secs()),
    }
    let applied = schema::migrate(owner_url)
        .await
        .context("bring the schema up to date")?;
    let version = schema::wanted();
    let did = match applied.len() {
        0 => String::new(),
        1 => format!(", 1 migration applied in {}", seconds_since(started)),
        n => format!(", {n} migrations applied in {}", seconds_since(started)),
    };
    Progress::Shown.line("schema", format_args!("version {version}{did}"));
    Ok(service_url)
}

/// The owner's url with the login in its place; whatever else it says (host, TLS) stays.
fn service_url(owner_url: &str, login: &Login) -> Result<String> {
    let parts = owner_url
        .split_once("://")
        .filter(|(scheme, _)| ["postgres", "postgresql"].contains(scheme));
    let Some((scheme, rest)) = parts else {
        // The text may hold a password, so it is not quoted.
        bail!("--database-url is not of the form postgres://user:password@host:port/database");
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Ok(format!(
        "{scheme}://{}:{}@{host}{tail}",
        login.name, login.password
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_changes_in_a_url() {
        let login = Login {
            name: "n".to_owned(),
            password: "p".to_owned(),
        };
        for (owner, service) in [
            (
                "postgres://o:secret@127.0.0.1:5432/db",
                "postgres://n:p@127.0.0.1:5432/db",
            ),
            (
                "postgresql://h/db?sslmode=require",
                "postgresql://n:p@h/db?sslmode=require",
            ),
            (
                "postgres://o@h?host=/tmp/a@b",
                "postgres://n:p@h?host=/tmp/a@b",
            ),
        ] {
            assert_eq!(service_url(owner, &login).unwrap(), service);
        }
        let error = service_url("mysql://o:secret@h/db", &login)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--database-url") && !error.contains("secret"),
            "{error}"
        );
    }
}
