//! The schema's version: what this build was made for, and what the database has.

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use crate::Db;

/// The migrations that this build carries.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// How the database's schema compares with the one this build was made for. Versions are migrations' numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaState {
    Current {
        version: i64,
    },
    /// Migrations are missing; `found` is 0 for an empty database.
    Older {
        found: i64,
        wanted: i64,
    },
    /// A newer build has migrated the database.
    Newer {
        found: i64,
        wanted: i64,
    },
}

/// Compares the schema with this build's.
pub async fn state(db: &Db) -> sqlx::Result<SchemaState> {
    let found = db.directory(async |conn| {
        sqlx::query_scalar!("select max(version) from _sqlx_migrations where success")
            .fetch_one(conn)
            .await
    });
    let found = match found.await {
        Ok(version) => version.unwrap_or(0),
        Err(error) if is_undefined_table(&error) => 0,
        Err(error) => return Err(error),
    };
    let wanted = wanted();
    Ok(match found.cmp(&wanted) {
        std::cmp::Ordering::Less => SchemaState::Older { found, wanted },
        std::cmp::Ordering::Equal => SchemaState::Current { version: wanted },
        std::cmp::Ordering::Greater => SchemaState::Newer { found, wanted },
    })
}

/// The version that this build was made for.
pub fn wanted() -> i64 {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Applies what is missing, in order, each migration in its own transaction; two at once wait for each other.
/// Connects by `url` as the schema's owner. Returns the versions that it applied.
pub async fn migrate(url: &str) -> Result<Vec<i64>, MigrateError> {
    let mut conn = PgConnection::connect(url).await?;
    let before = match conn.list_applied_migrations(&MIGRATIONS.table_name).await {
        Ok(applied) => applied
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0),
        // No table yet: nothing was applied.
        Err(_) => 0,
    };
    MIGRATIONS.run(&mut conn).await?;
    conn.close().await?;
    Ok(MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .filter(|version| *version > before)
        .collect())
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    const UNDEFINED_TABLE: &str = "42P01";
    error
        .as_database_error()
        .and_then(|e| e.code())
        .is_some_and(|code| code == UNDEFINED_TABLE)
}
