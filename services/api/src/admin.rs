//! `admin`: organizations, projects, keys, relays, and the database's roles. The functions are `rollcall up`'s too.

mod relay;

use anyhow::Context;
use clap::{Args, Subcommand};
use rollcall_model::{OrgId, Permission, ProjectId};
use rollcall_store::api_keys::{self, ApiKey, NewApiKey, Proof};
use rollcall_store::organizations::{self, Organization};
use rollcall_store::projects::{self, Project};
use rollcall_store::{Db, TenantConn, roles};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::auth::{keys, signed, tokens};
use crate::config::DatabaseArgs;

pub use relay::create_relay;

/// `rollcall-api admin ..`
#[derive(Args, Debug)]
pub struct AdminArgs {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make the database roles that the migrations grant to; before the first `migrate`
    Roles(RolesArgs),
    /// Make a private key for /v1/auth's tokens and print it (PKCS#8 PEM)
    JwtKey,
    /// Organizations
    Organization {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        command: OrganizationCommand,
    },
    /// Projects of an organization
    Project {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        command: ProjectCommand,
    },
    /// API keys of an organization
    Key {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Relays of an organization: who forwards events from where the api cannot look
    Relay {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(subcommand)]
        command: relay::Command,
    },
}

#[derive(Args, Debug)]
struct RolesArgs {
    /// Postgres, as a role that may create roles
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: SecretString,
    /// The role that the service logs in as; made where it is missing
    #[arg(long, value_name = "ROLE", default_value = "rollcall")]
    login: String,
    /// Its password, set in any case
    #[arg(
        long,
        env = "ROLLCALL_LOGIN_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    login_password: SecretString,
}

#[derive(Subcommand, Debug)]
enum OrganizationCommand {
    /// Make an organization
    Create { name: String },
    /// List all organizations
    List,
}

#[derive(Subcommand, Debug)]
enum ProjectCommand {
    /// Make a project; it gets the next number
    Create {
        /// The organization's name
        #[arg(long)]
        organization: String,
        name: String,
    },
    /// List an organization's projects
    List {
        /// The organization's name
        #[arg(long)]
        organization: String,
    },
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Make a key and print its secret, this once
    Create(CreateKeyArgs),
    /// List an organization's keys
    List {
        /// The organization's name
        #[arg(long)]
        organization: String,
    },
    /// End a key, and with it its tokens, at once
    Revoke { id: String },
}

#[derive(Args, Debug)]
struct CreateKeyArgs {
    /// The organization's name
    #[arg(long)]
    organization: String,
    /// The one project that the key reaches; all of the organization's where left out
    #[arg(long, value_name = "NUMBER")]
    project: Option<ProjectId>,
    /// What the key is for
    #[arg(long)]
    name: String,
    /// What the key may do: sessions:read, sessions:write, commands:write, events:write, admin; repeatable
    #[arg(long = "permission", value_name = "PERMISSION", required = true)]
    permissions: Vec<Permission>,
    /// After how many days the key ends; never where left out
    #[arg(long, value_name = "DAYS")]
    expires_in_days: Option<u16>,
    /// For devices that sign their requests (X-API-TIMESTAMP) instead of sending the secret
    #[arg(long, requires = "signed_keys_secret")]
    signed: bool,
    /// The api's secret for signed keys
    #[arg(
        long,
        env = "ROLLCALL_SIGNED_KEYS_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    signed_keys_secret: Option<SecretString>,
}

/// A key to make.
#[derive(Clone, Debug)]
pub struct KeySpec<'a> {
    pub name: &'a str,
    pub project: Option<ProjectId>,
    pub permissions: &'a [Permission],
    pub expires_at: Option<OffsetDateTime>,
    /// The api's secret for signed keys, where this is to be one.
    pub signed_with: Option<&'a SecretString>,
}

/// A key just made. The secret cannot be had again.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    pub id: String,
    pub secret: String,
}

/// Carries out a command and gives what to print.
pub async fn run(args: AdminArgs) -> anyhow::Result<String> {
    let (value, text) = match args.command {
        Command::Roles(args) => make_roles(&args).await?,
        Command::JwtKey => {
            let pem = tokens::generate_pem()?;
            (json!({ "pem": pem }), pem.trim_end().to_owned())
        }
        Command::Organization { database, command } => {
            organization(&crate::database(&database)?, command).await?
        }
        Command::Project { database, command } => {
            project(&crate::database(&database)?, command).await?
        }
        Command::Key { database, command } => key(&crate::database(&database)?, command).await?,
        Command::Relay { database, command } => {
            relay::run(&crate::database(&database)?, command).await?
        }
    };
    Ok(if args.json {
        serde_json::to_string_pretty(&value)?
    } else {
        text
    })
}

async fn make_roles(args: &RolesArgs) -> anyhow::Result<(Value, String)> {
    roles::create(
        args.database_url.expose_secret(),
        &args.login,
        args.login_password.expose_secret(),
    )
    .await
    .context("make the roles")?;
    let text = format!(
        "roles rollcall_app and rollcall_system are there, and {} may take them on",
        args.login
    );
    Ok((json!({ "login": args.login }), text))
}

async fn organization(db: &Db, command: OrganizationCommand) -> anyhow::Result<(Value, String)> {
    match command {
        OrganizationCommand::Create { name } => {
            let made = create_organization(db, &name).await?;
            Ok((
                organization_json(&made),
                format!("organization {} ({})", made.name, made.org_id),
            ))
        }
        OrganizationCommand::List => {
            let all = organizations::list(db)
                .await
                .context("list the organizations")?;
            let lines: Vec<String> = all
                .iter()
                .map(|one| format!("{}  {}", one.org_id, one.name))
                .collect();
            Ok((
                all.iter().map(organization_json).collect(),
                lines.join("\n"),
            ))
        }
    }
}

async fn project(db: &Db, command: ProjectCommand) -> anyhow::Result<(Value, String)> {
    match command {
        ProjectCommand::Create { organization, name } => {
            let org = find_organization(db, &organization).await?.org_id;
            let made = create_project(db, org, &name).await?;
            Ok((
                project_json(&made),
                format!("project {} ({})", made.project_id, made.name),
            ))
        }
        ProjectCommand::List { organization } => {
            let org = find_organization(db, &organization).await?.org_id;
            let all = list_projects(db, org).await?;
            let lines: Vec<String> = all
                .iter()
                .map(|one| format!("{}  {}", one.project_id, one.name))
                .collect();
            Ok((all.iter().map(project_json).collect(), lines.join("\n")))
        }
    }
}

async fn key(db: &Db, command: KeyCommand) -> anyhow::Result<(Value, String)> {
    match command {
        KeyCommand::Create(args) => {
            let org = find_organization(db, &args.organization).await?.org_id;
            let days = args.expires_in_days.map(|days| Duration::days(days.into()));
            let spec = KeySpec {
                name: &args.name,
                project: args.project,
                permissions: &args.permissions,
                expires_at: days.map(|days| OffsetDateTime::now_utc() + days),
                signed_with: args
                    .signed
                    .then_some(args.signed_keys_secret.as_ref())
                    .flatten(),
            };
            let made = create_key(db, org, &spec).await?;
            Ok((
                json!({ "id": made.id, "secret": made.secret }),
                key_text(&made),
            ))
        }
        KeyCommand::List { organization } => {
            let org = find_organization(db, &organization).await?.org_id;
            let all: anyhow::Result<Vec<ApiKey>> = db
                .tenant(org, async |tx| Ok(api_keys::list(tx).await?))
                .await;
            let all = all.context("list the keys")?;
            let lines: Vec<String> = all.iter().map(key_line).collect();
            Ok((all.iter().map(key_json).collect(), lines.join("\n")))
        }
        KeyCommand::Revoke { id } => {
            let org = keys::org_of(&id)
                .with_context(|| format!("{id} is not a key's id; `admin key list` shows them"))?;
            let found: anyhow::Result<bool> = db
                .tenant(org, async |tx| Ok(api_keys::revoke(tx, &id).await?))
                .await;
            anyhow::ensure!(
                found.context("revoke the key")?,
                "there is no key {id}; `admin key list` shows them"
            );
            Ok((
                json!({ "id": id, "revoked": true }),
                format!("key {id} is revoked"),
            ))
        }
    }
}

/// A new organization; its name must be free.
pub async fn create_organization(db: &Db, name: &str) -> anyhow::Result<Organization> {
    anyhow::ensure!(!name.trim().is_empty(), "an organization needs a name");
    organizations::insert(db, name)
        .await
        .map_err(|error| match constraint(&error) {
            Some("organizations_name_key") => {
                anyhow::anyhow!("there is an organization named {name} already")
            }
            _ => anyhow::Error::new(error).context("make the organization"),
        })
}

/// The organization of that name.
pub async fn find_organization(db: &Db, name: &str) -> anyhow::Result<Organization> {
    let found = organizations::find(db, name)
        .await
        .context("look for the organization")?;
    found.with_context(|| {
        format!("there is no organization named {name}; `admin organization list` shows them")
    })
}

/// A new project, with its form intake.
pub async fn create_project(db: &Db, org: OrgId, name: &str) -> anyhow::Result<Project> {
    let made: anyhow::Result<Project> = db
        .tenant(org, async |tx| Ok(projects::insert(tx, name).await?))
        .await;
    made.context("make the project")
}

/// Every project of the organization.
pub async fn list_projects(db: &Db, org: OrgId) -> anyhow::Result<Vec<Project>> {
    let all: anyhow::Result<Vec<Project>> = db
        .tenant(org, async |tx| Ok(projects::list(tx).await?))
        .await;
    all.context("list the projects")
}

/// A new key. Its secret is in the answer and nowhere else.
pub async fn create_key(db: &Db, org: OrgId, spec: &KeySpec<'_>) -> anyhow::Result<CreatedKey> {
    let (key, proof) = make_key(org, spec)?;
    let stored: Result<(), rollcall_store::Error> = db
        .tenant(org, async |tx| insert_key(tx, spec, &key, &proof).await)
        .await;
    stored.map_err(|error| explain(error, spec.project, "make the key"))?;
    Ok(key)
}

/// A key, and what is kept of its secret: a hash or, for the signed scheme, a salt.
fn make_key(org: OrgId, spec: &KeySpec<'_>) -> anyhow::Result<(CreatedKey, [u8; 32])> {
    let mut made = keys::generate(org)?;
    let mut proof = [0; 32];
    match spec.signed_with {
        Some(configured) => {
            keys::random(&mut proof)?;
            made.secret = signed::secret_of(configured, &made.id, &proof);
        }
        None => proof = keys::hash(&made.secret),
    }
    let key = CreatedKey {
        id: made.id,
        secret: made.secret,
    };
    Ok((key, proof))
}

async fn insert_key(
    tx: &mut TenantConn,
    spec: &KeySpec<'_>,
    key: &CreatedKey,
    proof: &[u8; 32],
) -> Result<(), rollcall_store::Error> {
    let row = NewApiKey {
        id: &key.id,
        project: spec.project,
        name: spec.name,
        permissions: spec.permissions,
        proof: match spec.signed_with {
            Some(_) => Proof::SignedSalt(proof),
            None => Proof::SecretHash(proof),
        },
        expires_at: spec.expires_at,
    };
    api_keys::insert(tx, &row).await
}

fn explain(
    error: rollcall_store::Error,
    project: Option<ProjectId>,
    what: &'static str,
) -> anyhow::Error {
    match (constraint(&error), project) {
        (Some("api_keys_org_id_project_id_fkey"), Some(project)) => {
            anyhow::anyhow!(
                "the organization has no project {project}; `admin project list` shows them"
            )
        }
        _ => anyhow::Error::new(error).context(what),
    }
}

fn constraint(error: &rollcall_store::Error) -> Option<&str> {
    error.as_database_error()?.constraint()
}

fn organization_json(one: &Organization) -> Value {
    json!({ "id": one.org_id, "name": one.name, "created_at": rfc3339(Some(one.created_at)) })
}

fn project_json(one: &Project) -> Value {
    json!({ "project_id": one.project_id, "name": one.name, "created_at": rfc3339(Some(one.created_at)) })
}

fn key_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "project_id": key.project_id,
        "permissions": key.permissions,
        "signed": key.signed_salt.is_some(),
        "created_at": rfc3339(Some(key.created_at)),
        "expires_at": rfc3339(key.expires_at),
        "revoked_at": rfc3339(key.revoked_at),
        "last_used_at": rfc3339(key.last_used_at),
    })
}

fn key_line(key: &ApiKey) -> String {
    let project = key.project_id.map_or("all projects".to_owned(), |project| {
        format!("project {project}")
    });
    let mut line = format!(
        "{}  {}  {project}  {}",
        key.id,
        key.name,
        key.permissions.join(",")
    );
    let notes = [
        ("last used", key.last_used_at),
        ("expires", key.expires_at),
        ("revoked", key.revoked_at),
    ];
    for (note, at) in notes {
        if let Some(at) = rfc3339(at) {
            line.push_str(&format!("  {note} {at}"));
        }
    }
    line
}

fn key_text(key: &CreatedKey) -> String {
    format!(
        "id      {}\nsecret  {}\n\nThe secret is shown this once; keep it safe.",
        key.id, key.secret
    )
}

fn rfc3339(at: Option<OffsetDateTime>) -> Option<String> {
    at.and_then(|at| at.format(&Rfc3339).ok())
}
