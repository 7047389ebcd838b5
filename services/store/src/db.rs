//! The pool, and the transaction that is bound to a tenant.
//!
//! Invariant: tenant data is reached only inside [`Db::tenant`], as the role `rollcall_app`, which row-level security
//! holds to the organizations named when the transaction began.

use std::ops::AsyncFnOnce;
use std::time::Duration;

use rollcall_model::OrgId;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};

/// A pool of connections as the service's own role.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
}

/// A transaction in which nothing but one organization's rows exists.
#[derive(Debug)]
pub struct TenantConn {
    tx: Transaction<'static, Postgres>,
    org: OrgId,
}

/// How many connections there are.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    pub idle: u32,
    pub used: u32,
    pub max: u32,
}

impl Db {
    /// A pool that connects when first asked. A caller waits `acquire_timeout` for a connection, then gets
    /// [`sqlx::Error::PoolTimedOut`].
    pub fn from_url(
        url: &str,
        max_connections: u32,
        acquire_timeout: Duration,
    ) -> sqlx::Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(acquire_timeout)
            .connect_lazy_with(options.application_name("rollcall"));
        Ok(Self { pool })
    }

    /// Runs `work` in one transaction as `org`; commits on `Ok`, rolls back on `Err` and when dropped half-way.
    ///
    /// A commit is on disk before this returns. Do no network I/O inside: it would hold a connection.
    pub async fn tenant<T, E>(
        &self,
        org: OrgId,
        work: impl AsyncFnOnce(&mut TenantConn) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<sqlx::Error>,
    {
        // One round trip. A uuid's text holds nothing but hexadecimal digits and dashes.
        let begin = format!(
            "begin; select set_config('role', 'rollcall_app', true), set_config('app.orgs', '{org}', true), \
             set_config('synchronous_commit', 'on', true), set_config('statement_timeout', '30s', true)"
        );
        let tx = self.pool.begin_with(AssertSqlSafe(begin)).await?;
        let mut conn = TenantConn { tx, org };
        let done = work(&mut conn).await?;
        conn.tx.commit().await?;
        Ok(done)
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> sqlx::Result<()> {
        sqlx::query("select 1")
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// The pool's size now.
    pub fn pool_state(&self) -> PoolState {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        PoolState {
            idle,
            used: self.pool.size().saturating_sub(idle),
            max: self.pool.options().get_max_connections(),
        }
    }

    /// Closes every connection once its work is done.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Where no tenant is known yet: the directory of organizations and keys, and the schema's version.
    pub(crate) fn directory(&self) -> &PgPool {
        &self.pool
    }
}

impl TenantConn {
    /// The organization that this transaction is bound to.
    pub fn org(&self) -> OrgId {
        self.org
    }

    /// Runs `work` so that, where it fails, nothing of it stays and the transaction goes on.
    pub async fn attempt<T, E>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<sqlx::Error>,
    {
        sqlx::raw_sql("savepoint attempt")
            .execute(self.conn())
            .await?;
        let done = work(self).await;
        let end = match done {
            Ok(_) => "release savepoint attempt",
            Err(_) => "rollback to savepoint attempt",
        };
        sqlx::raw_sql(end).execute(self.conn()).await?;
        done
    }

    pub(crate) fn conn(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}
