//! The relay in this process: its key, and one transmitter that it hosts. No other module here knows `rollcall_relay`'s
//! insides.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use rollcall_api::admin;
use rollcall_api::config::ServeConfig;
use rollcall_model::ProjectId;
use rollcall_relay::Relay;
use rollcall_relay::config::{BoxConfig, Cloud, Config, Monitor, SpoolConfig, TransmitterConfig};
use rollcall_relay::simulate::{SimulateArgs, Simulated};
use rollcall_store::{organizations, relays};

use crate::api::{ORGANIZATION, works};
use crate::progress::Progress;
use crate::secrets;
use crate::state::{ApiKey, RelayState, State};

/// Guests of the simulated box.
const PARTIES_PER_MINUTE: f64 = 6.0;

/// The relay, and the box that it mirrors.
pub(crate) struct Running {
    relay: Relay,
    _simulated: Simulated,
}

impl Running {
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        self.relay.failed().await
    }

    pub(crate) async fn stop(self) {
        self.relay.stop().await;
    }
}

/// What the relay and its transmitter are called, where nobody else is.
const NAME: &str = "front-desk";

/// The relay of earlier runs where its key still works, else a new one.
pub(crate) async fn register(
    config: &ServeConfig,
    folder: &Path,
    state: &mut State,
    project_id: i64,
) -> Result<RelayState> {
    let db = rollcall_api::database(&config.database)?;
    let organization = organizations::find(&db, ORGANIZATION)
        .await
        .context("look for the organization")?;
    let org = organization
        .context("the organization was made just now")?
        .org_id;
    let relay = match state.relay.take() {
        Some(relay) if works(&db, org, &relay.key).await? => relay,
        _ => {
            let project = ProjectId::new(project_id).context("projects are numbered from 1")?;
            // One of another data folder may have the plain name.
            let others: Result<Vec<_>> =
                db.tenant(org, async |tx| Ok(relays::list(tx).await?)).await;
            let is_taken = others?.iter().any(|relay| relay.name == NAME);
            let name = if is_taken {
                format!("{NAME}-{}", secrets::random_hex(3))
            } else {
                NAME.to_owned()
            };
            let (_, made) = admin::create_relay(&db, org, project, &name).await?;
            let key = ApiKey {
                id: made.id,
                secret: made.secret,
            };
            RelayState { name, key }
        }
    };
    db.close().await;
    state.relay = Some(relay.clone());
    state.write(folder)?;
    Ok(relay)
}

/// Starts it; answers where the transmitter listens.
pub(crate) async fn start(
    coap: SocketAddr,
    folder: &Path,
    url: String,
    relay: &RelayState,
) -> Result<(Running, SocketAddr)> {
    // A box that somebody else might have: guests come and go, so that the roll moves from the first minute.
    let simulated = Simulated::start(&SimulateArgs {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        boxes: 1,
        parties_per_minute: PARTIES_PER_MINUTE,
        auto_page: false,
        reboot_every: None,
        dtls_psk_file: None,
        ping_every: 30,
    })?;
    let config = Config {
        data_dir: folder.join("relay"),
        cloud: Some(Cloud {
            url,
            key: Some(format!("{}:{}", relay.key.id, relay.key.secret).into()),
            key_file: None,
        }),
        spool: SpoolConfig::default(),
        monitor: Monitor {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        },
        transmitters: vec![TransmitterConfig {
            name: relay.name.clone(),
            listen: coap,
            // Whoever names another address than loopback with --coap means it.
            plain: true,
            dtls: None,
            auto_page: false,
            workers: 1,
            trusted: None,
        }],
        boxes: vec![BoxConfig {
            name: format!("{}-terrace", relay.name),
            address: simulated.uri(),
            dtls: None,
            listen: None,
            plain: false,
            silence_seconds: 70,
        }],
    };
    let started = Relay::start(&config)
        .await
        .context("the relay does not start. Choose another address or port with --coap")?;
    let address = started.transmitters[0];
    Progress::Shown.line(
        "relay",
        format_args!(
            "transmitter {} on coap://{address}; a simulated box, mirrored, as {}-terrace",
            relay.name, relay.name
        ),
    );
    let running = Running {
        relay: started,
        _simulated: simulated,
    };
    Ok((running, address))
}
