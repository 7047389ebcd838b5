//! `admin relay`: who forwards events from where the api cannot look.

use anyhow::Context;
use clap::Subcommand;
use rollcall_model::{OrgId, Permission, ProjectId};
use rollcall_store::Db;
use rollcall_store::relays::{self, Relay};
use serde_json::{Value, json};

use super::{
    CreatedKey, KeySpec, constraint, explain, find_organization, insert_key, key_text, make_key,
    rfc3339,
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Make a relay and its key, and print the key's secret, this once
    #[command(
        after_help = "Example:\n  rollcall-api admin relay create --organization demo --project 1 --name front-desk"
    )]
    Create {
        /// The organization's name
        #[arg(long)]
        organization: String,
        /// The project that the relay's services and sessions are of
        #[arg(long, value_name = "NUMBER")]
        project: ProjectId,
        /// What the relay is called; unique in the organization
        #[arg(long)]
        name: String,
    },
    /// List an organization's relays: when each was last heard of, and what waits there
    #[command(after_help = "Example:\n  rollcall-api admin relay list --organization demo")]
    List {
        /// The organization's name
        #[arg(long)]
        organization: String,
    },
}

/// Carries out a command.
pub(super) async fn run(db: &Db, command: Command) -> anyhow::Result<(Value, String)> {
    match command {
        Command::Create {
            organization,
            project,
            name,
        } => {
            let org = find_organization(db, &organization).await?.org_id;
            let (relay, key) = create_relay(db, org, project, &name).await?;
            let text = format!("relay   {} ({})\n{}", relay.name, relay.id, key_text(&key));
            let value = json!({ "relay_id": relay.id, "id": key.id, "secret": key.secret });
            Ok((value, text))
        }
        Command::List { organization } => {
            let org = find_organization(db, &organization).await?.org_id;
            let all: anyhow::Result<Vec<Relay>> =
                db.tenant(org, async |tx| Ok(relays::list(tx).await?)).await;
            let all = all.context("list the relays")?;
            let lines: Vec<String> = all.iter().map(relay_line).collect();
            Ok((all.iter().map(relay_json).collect(), lines.join("\n")))
        }
    }
}

/// A new relay of a project, and the key that it forwards with.
pub async fn create_relay(
    db: &Db,
    org: OrgId,
    project: ProjectId,
    name: &str,
) -> anyhow::Result<(Relay, CreatedKey)> {
    let is_name = !name.trim().is_empty() && name.len() <= 200 && !name.contains(char::is_control);
    anyhow::ensure!(
        is_name,
        "a relay needs a name, of at most 200 bytes and without control characters"
    );
    let spec = KeySpec {
        name,
        project: Some(project),
        permissions: &[Permission::Ingest],
        expires_at: None,
        signed_with: None,
    };
    let (key, proof) = make_key(org, &spec)?;
    let stored: Result<Relay, rollcall_store::Error> = db
        .tenant(org, async |tx| {
            insert_key(tx, &spec, &key, &proof).await?;
            relays::insert(tx, project, name, &key.id).await
        })
        .await;
    let relay = stored.map_err(|error| match constraint(&error) {
        Some("relays_by_name") => {
            anyhow::anyhow!("the organization has a relay named {name} already")
        }
        _ => explain(error, Some(project), "make the relay"),
    })?;
    Ok((relay, key))
}

fn relay_json(relay: &Relay) -> Value {
    json!({
        "relay_id": relay.id,
        "name": relay.name,
        "project_id": relay.project_id,
        "key_id": relay.key_id,
        "created_at": rfc3339(Some(relay.created_at)),
        "last_seen_at": rfc3339(relay.last_seen_at),
        "version": relay.version,
        "spool": {
            "events": relay.spool_events,
            "bytes": relay.spool_bytes,
            "oldest": rfc3339(relay.spool_oldest_at),
        },
        "set_aside": relay.set_aside,
    })
}

fn relay_line(relay: &Relay) -> String {
    let mut line = format!(
        "{}  {}  project {}  key {}",
        relay.id, relay.name, relay.project_id, relay.key_id
    );
    match rfc3339(relay.last_seen_at) {
        Some(at) => line.push_str(&format!(
            "  last seen {at}  waiting {}  set aside {}",
            relay.spool_events, relay.set_aside
        )),
        None => line.push_str("  never seen"),
    }
    line
}
