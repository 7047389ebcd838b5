//! The database roles that the migrations grant to. Roles belong to the whole cluster, so the bootstrap makes them
//! (`rollcall-api admin roles`, `rollcall up`), never a migration.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Makes `rollcall_app` and `rollcall_system` and lets `login` take them on. `login` is created, where it is missing,
/// with the password; an existing one gets the password too. Repeating it changes nothing else.
///
/// Connects by `url`, as a role that may create roles.
pub async fn create(url: &str, login: &str, password: &str) -> sqlx::Result<()> {
    let mut conn = PgConnection::connect(url).await?;
    let (name, literal) = (quoted(login, '"'), quoted(login, '\''));
    let password = quoted(password, '\'');
    let mut statements = Vec::new();
    for role in ["rollcall_app", "rollcall_system"] {
        statements.push(create_role(role, &quoted(role, '\'')));
    }
    statements.push(create_role(&name, &literal));
    statements.push(format!(
        "alter role {name} login nosuperuser nobypassrls password {password}"
    ));
    statements.push(format!("grant rollcall_app, rollcall_system to {name}"));
    for statement in statements {
        // Names cannot be parameters of DDL; they are quoted above.
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut conn)
            .await?;
    }
    Ok(())
}

/// Two bootstraps at once must both succeed: the loser finds the role there.
fn create_role(name: &str, literal: &str) -> String {
    format!(
        "do $do$ begin if not exists (select from pg_roles where rolname = {literal}) then create role {name} nologin; \
         end if; exception when duplicate_object or unique_violation then null; end $do$"
    )
}

fn quoted(text: &str, quote: char) -> String {
    let doubled = text.replace(quote, &format!("{quote}{quote}"));
    let escaped = if quote == '\'' && doubled.contains('\\') {
        return format!(" E'{}'", doubled.replace('\\', "\\\\"));
    } else {
        doubled
    };
    format!("{quote}{escaped}{quote}")
}
