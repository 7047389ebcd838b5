//! The pool, and the transaction that is bound to a tenant.
//!
//! Invariant: tenant data is reached only inside [`Db::tenant`], as the role `rollcall_app`, which row-level security
//! holds to the organizations named when the transaction began.

use std::io;
use std::ops::AsyncFnOnce;
use std::time::Duration;

use rollcall_model::OrgId;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, Postgres};
use tokio::sync::broadcast;

/// Commits that a watcher may be behind by before it is told only that it missed some.
const COMMITS: usize = 256;

/// A pool of connections as the service's own role.
#[derive(Clone, Debug)]
pub struct Db {
    pool: PgPool,
    patience: Patience,
    commits: broadcast::Sender<OrgId>,
    commands: broadcast::Sender<OrgId>,
}

/// How long Postgres is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection; then callers get [`sqlx::Error::PoolTimedOut`].
    pub connection: Duration,
    /// For all of a transaction, its commit included; then callers get [`sqlx::Error::Io`]. A server that is gone without
    /// a word would else be waited for until the operating system gives up.
    pub transaction: Duration,
}

/// A transaction in which nothing but one organization's rows exists.
#[derive(Debug)]
pub struct TenantConn {
    conn: PoolConnection<Postgres>,
    org: OrgId,
    /// Whether the transaction is yet to end.
    is_open: bool,
    /// Whether it wrote an event.
    pub(crate) has_events: bool,
    /// Whether it gave a command, or brought one to its end.
    pub(crate) has_commands: bool,
}

/// How many connections there are.
#[derive(Clone, Copy, Debug)]
pub struct PoolState {
    pub idle: u32,
    pub used: u32,
    pub max: u32,
}

impl Db {
    /// A pool that connects when first asked.
    pub fn from_url(url: &str, max_connections: u32, patience: Patience) -> sqlx::Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(patience.connection)
            .connect_lazy_with(options.application_name("rollcall"));
        let (commits, _) = broadcast::channel(COMMITS);
        let (commands, _) = broadcast::channel(COMMITS);
        Ok(Self {
            pool,
            patience,
            commits,
            commands,
        })
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
        let timeout_ms = self.patience.transaction.as_millis();
        // One round trip. A uuid's text holds nothing but hexadecimal digits and dashes.
        let begin = format!(
            "begin; select set_config('role', 'rollcall_app', true), set_config('app.orgs', '{org}', true), \
             set_config('synchronous_commit', 'on', true), \
             set_config('statement_timeout', '{timeout_ms}ms', true)"
        );
        let mut tx = TenantConn {
            conn: self.acquire().await?,
            org,
            is_open: true,
            has_events: false,
            has_commands: false,
        };
        let done = self.bounded(async {
            sqlx::raw_sql(AssertSqlSafe(begin))
                .execute(tx.conn())
                .await?;
            let done = work(&mut tx).await?;
            sqlx::raw_sql("commit").execute(tx.conn()).await?;
            Ok::<T, E>(done)
        });
        // Where Postgres does not answer, `tx` is dropped open, and its connection with it.
        let done = done.await?;
        let is_ended = done.is_ok() || self.roll_back(&mut tx).await;
        tx.is_open = !is_ended;
        // Nobody may be watching.
        if done.is_ok() && tx.has_events {
            let _ = self.commits.send(org);
        }
        if done.is_ok() && tx.has_commands {
            let _ = self.commands.send(org);
        }
        done
    }

    /// The organizations whose events this process commits, as it does. A hint to look sooner, no more: other processes
    /// write too.
    pub fn commits(&self) -> broadcast::Receiver<OrgId> {
        self.commits.subscribe()
    }

    /// The same of commands: given, or at their end. Apart from the events, so that whoever waits for a command is not woken
    /// by everything else that happens.
    pub fn commands(&self) -> broadcast::Receiver<OrgId> {
        self.commands.subscribe()
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

    /// Runs `work` where no tenant is known yet: on the directory of organizations and keys, and the schema's version.
    pub(crate) async fn directory<T>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut conn = self.acquire().await?;
        let done = self.bounded(work(&mut conn)).await;
        if done.is_err() {
            // In the pool it would hold a place until it answers, which may be never.
            conn.close_on_drop();
        }
        done?
    }

    async fn roll_back(&self, tx: &mut TenantConn) -> bool {
        let rolled_back = sqlx::raw_sql("rollback").execute(tx.conn());
        matches!(self.bounded(rolled_back).await, Ok(Ok(_)))
    }

    async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is what the ways to a tenant and to the directory are made of"
        )]
        self.pool.acquire().await
    }

    /// Waits for Postgres as long as patience lasts.
    async fn bounded<T>(&self, work: impl Future<Output = T>) -> sqlx::Result<T> {
        let done = tokio::time::timeout(self.patience.transaction, work).await;
        done.map_err(|_| {
            sqlx::Error::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                "Postgres did not answer within --database-transaction-ms",
            ))
        })
    }
}

impl Drop for TenantConn {
    /// Ends a transaction that was not committed. Its connection is not kept: it may be in the middle of an answer, or
    /// wait for one that never comes.
    fn drop(&mut self) {
        if self.is_open {
            self.conn.close_on_drop();
        }
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
        &mut self.conn
    }
}
