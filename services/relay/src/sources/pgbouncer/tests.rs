use time::macros::datetime;

use super::*;
use crate::sources::SeenService;
use crate::sources::poll::in_time;
use read::Row;

/// As PgBouncer 1.18.0 of Debian answered: a client in a transaction, one that does nothing, the console itself.
const CLIENTS: &str = "\
type|user|database|state|addr|port|local_addr|local_port|connect_time|request_time|wait|wait_us|close_needed|ptr|link|remote_pid|tls|application_name
C|bob|other|active|127.0.0.1|43742|127.0.0.1|55962|2026-11-21 10:33:59 UTC|2026-11-21 10:33:59 UTC|0|0|0|0x56171b6f5aa0||0||shop-idle
C|stats|pgbouncer|active|127.0.0.1|43766|127.0.0.1|55962|2026-11-21 10:34:00 UTC|2026-11-21 10:34:00 UTC|0|0|0|0x56171b6f5d00||0||psql
C|alice|shop|active|127.0.0.1|43734|127.0.0.1|55962|2026-11-21 10:33:58 UTC|2026-11-21 10:33:59 UTC|1|540650|0|0x56171b6f5840|0x56171b6fd180|0||shop-app";
const SERVERS: &str = "\
type|user|database|state|addr|port|local_addr|local_port|connect_time|request_time|wait|wait_us|close_needed|ptr|link|remote_pid|tls|application_name
S|app|other|idle|127.0.0.1|55961|127.0.0.1|51026|2026-11-21 10:33:59 UTC|2026-11-21 10:33:59 UTC|0|0|0|0x56171b6fcf20||598||shop-idle
S|app|shop|active|127.0.0.1|55961|127.0.0.1|51042|2026-11-21 10:33:59 UTC|2026-11-21 10:33:59 UTC|0|0|0|0x56171b6fd180|0x56171b6f5840|599||shop-app";
const DATABASES: &str = "\
name|host|port|database|force_user|pool_size|pool_mode|paused|disabled
other|127.0.0.1|55961|template1|app|20||0|0
pgbouncer||55962|pgbouncer|pgbouncer|2|statement|0|0
shop|127.0.0.1|55961|postgres|app|20||1|0
spare|127.0.0.1|55961|spare||20||0|1";
const POOLS: &str = "\
database|user|cl_active
other|app|1
pgbouncer|pgbouncer|1
shop|app|1
spare|eve|0";

const NOW: OffsetDateTime = datetime!(2026-11-21 10:34:00.4 UTC);

type Take = fn(&mut Picture, &Row<'_>) -> Result<()>;

fn feed(picture: &mut Picture, table: &str, take: Take) -> Result<()> {
    let mut lines = table.lines();
    let names: Vec<&str> = lines.next().unwrap().split('|').collect();
    for line in lines {
        let mut row = Row::default();
        for (name, value) in names.iter().zip(line.split('|')) {
            row.push(name, value.as_bytes());
        }
        take(picture, &row)?;
    }
    Ok(())
}

fn picture(clients: &str, offset: Option<UtcOffset>) -> Snapshot {
    let mut picture = Picture::new("stats", offset);
    feed(&mut picture, DATABASES, Picture::database).unwrap();
    feed(&mut picture, POOLS, Picture::pool).unwrap();
    feed(&mut picture, SERVERS, Picture::server).unwrap();
    feed(&mut picture, clients, Picture::client).unwrap();
    picture.snapshot("edge/", NOW)
}

fn service<'a>(snapshot: &'a Snapshot, name: &str) -> &'a SeenService {
    let found = snapshot.services.iter().find(|seen| seen.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {snapshot:#?}"))
}

#[test]
fn debians_version_tells_of_clients_servers_and_pools() {
    let seen = picture(CLIENTS, None);
    let names: Vec<_> = seen.services.iter().map(|seen| &seen.name).collect();
    assert_eq!(names, ["edge/other/app", "edge/shop/app", "edge/spare/eve"]);
    assert_eq!(seen.trouble, None);

    let busy = &service(&seen, "edge/shop/app").connections;
    assert_eq!(busy.len(), 1);
    let told = serde_json::to_value(&busy[0]).unwrap();
    let expected = serde_json::json!({
        "source_id": "127.0.0.1:43734@2026-11-21T10:33:58", "kind": "proxy", "label": "shop-app", "user": "alice",
        "remote": "127.0.0.1", "presence": "connected", "state": "active", "protocol": "postgres", "port": 43734,
        "database": "shop", "connected_at": "2026-11-21T10:33:58Z",
        "backends": [{"server": "127.0.0.1:55961", "id": "599", "state": "active"}],
    });
    assert_eq!(told, expected);

    let idle = &service(&seen, "edge/other/app").connections[0].facts;
    assert_eq!(idle.idle_since, Some(datetime!(2026-11-21 10:33:59 UTC)));
    assert_eq!(idle.backends.as_deref(), Some(&[][..]));
}

#[test]
fn a_pool_without_clients_is_there_and_its_databases_state_is_told() {
    let seen = picture(CLIENTS, None);
    let state = |name| service(&seen, name).state.as_deref();
    assert_eq!(state("edge/shop/app"), Some("paused"));
    assert_eq!(state("edge/spare/eve"), Some("disabled"));
    // This version does not tell whether it is paused as a whole.
    assert_eq!(state("edge/other/app"), Some("enabled"));
    assert!(service(&seen, "edge/spare/eve").connections.is_empty());
}

#[test]
fn newer_versions_have_numbers_and_a_state_of_the_whole() {
    let clients = "\
type|user|database|replication|state|addr|port|connect_time|request_time|wait|wait_us|ptr|link|tls|application_name|prepared_statements|id
C|bob|new|none|idle|::1|43742|2026-11-21 10:33:59 UTC|2026-11-21 10:33:59 UTC|0|0|0x5a0||TLSv1.3/TLS_AES_256_GCM_SHA384||0|4711";
    let mut picture = Picture::new("stats", None);
    let states = "key|value\nactive|no\npaused|yes\nsuspended|no";
    feed(&mut picture, states, Picture::state).unwrap();
    let version = "version\nPgBouncer 1.25.0";
    feed(&mut picture, version, Picture::version).unwrap();
    feed(&mut picture, clients, Picture::client).unwrap();
    let seen = picture.snapshot("", NOW);
    assert_eq!(seen.version.as_deref(), Some("1.25.0"));
    // A pool that came up between two questions.
    let pool = service(&seen, "new/bob");
    assert_eq!(pool.state.as_deref(), Some("paused"));
    assert_eq!(pool.connections[0].source_id, "4711");
    let cipher = pool.connections[0].facts.cipher.as_deref();
    assert_eq!(cipher, Some("TLSv1.3/TLS_AES_256_GCM_SHA384"));
}

#[test]
fn a_zone_by_name_is_measured_by_our_own_request() {
    // Newfoundland, as PgBouncer 1.18.0 printed it.
    let local = CLIENTS.replace(" 10:3", " 07:0").replace("UTC", "NST");
    let seen = picture(&local, None);
    assert_eq!(seen.trouble, None);
    let idle = &service(&seen, "edge/other/app").connections[0];
    assert_eq!(idle.source_id, "127.0.0.1:43742@2026-11-21T07:03:59");
    let connected = idle.facts.connected_at.unwrap();
    assert_eq!(connected, datetime!(2026-11-21 10:33:59 UTC));
}

#[test]
fn a_time_that_cannot_be_placed_is_unknown_and_said() {
    let mixed = CLIENTS.replacen("10:33:59 UTC", "11:33:59 CET", 1);
    let seen = picture(&mixed, None);
    let idle = &service(&seen, "edge/other/app").connections[0];
    assert_eq!(idle.facts.connected_at, None);
    let trouble = seen.trouble.unwrap();
    assert!(
        trouble.contains("CET") && trouble.contains("utc_offset"),
        "{trouble}"
    );

    let seen = picture(&mixed, Some(zone::offset("+01:00").unwrap()));
    let idle = &service(&seen, "edge/other/app").connections[0];
    assert_eq!(
        idle.facts.connected_at,
        Some(datetime!(2026-11-21 10:33:59 UTC))
    );
    assert_eq!(seen.trouble, None);
}

#[test]
fn a_wrong_offset_is_said() {
    let old = CLIENTS.replace(" UTC", "");
    assert_eq!(picture(&old, None).trouble, None);
    let trouble = picture(&old, Some(zone::offset("+02:00").unwrap()))
        .trouble
        .unwrap();
    assert!(
        trouble.contains("-7200 s") && trouble.contains("utc_offset"),
        "{trouble}"
    );
}

#[test]
fn clients_over_a_unix_socket_are_told_apart() {
    let header = CLIENTS.lines().next().unwrap();
    let row = |ptr| {
        format!(
            "C|alice|shop|active|unix|55964|unix|55964|2026-11-21 10:33:59 UTC|2026-11-21 10:33:59 UTC|0|0|0|{ptr}||32157||psql"
        )
    };
    let seen = picture(&format!("{header}\n{}\n{}", row("0x1"), row("0x2")), None);
    let connections = &service(&seen, "edge/shop/app").connections;
    let ids: Vec<_> = connections.iter().map(|held| &held.source_id).collect();
    assert_eq!(
        ids,
        [
            "unix:0x1@2026-11-21T10:33:59",
            "unix:0x2@2026-11-21T10:33:59"
        ]
    );
    assert_eq!(connections[0].facts.port, None);
}

#[test]
fn a_cancellation_of_nobody_is_no_session_and_any_bytes_are_a_label() {
    let header = CLIENTS.lines().next().unwrap();
    let cancels = "C|(nouser)|(nodb)|waiting_cancel_req|127.0.0.1|1|127.0.0.1|1|2026-11-21 10:33:59 UTC|2026-11-21 10:33:59 UTC|0|0|0|0x1||0||";
    let seen = picture(&format!("{header}\n{cancels}"), None);
    assert!(seen.services.iter().all(|seen| seen.connections.is_empty()));

    let mut picture = Picture::new("stats", None);
    let mut row = Row::default();
    let values = [
        ("user", "a"),
        ("database", "b"),
        ("state", "active"),
        ("addr", "10.0.0.1"),
        ("port", "7"),
    ];
    for (name, value) in values {
        row.push(name, value.as_bytes());
    }
    row.push("connect_time", b"2026-11-21 10:33:59 UTC");
    row.push("application_name", b"caf\xe9\0");
    picture.client(&row).unwrap();
    let seen = picture.snapshot("", NOW);
    let label = seen.services[0].connections[0].label.as_deref();
    assert_eq!(label, Some("caf\u{fffd}"));
}

#[test]
fn what_is_not_a_console_is_an_error_that_names_the_column() {
    let mut picture = Picture::new("stats", None);
    let error = feed(&mut picture, "one|two\n1|2", Picture::client).unwrap_err();
    assert!(
        error.to_string().contains("no column `database`"),
        "{error}"
    );
    let rubbish = CLIENTS.replacen("2026-11-21 10:33:59 UTC", "yesterday", 1);
    let error = feed(&mut picture, &rubbish, Picture::client).unwrap_err();
    assert!(error.to_string().contains("yesterday"), "{error}");
}

#[test]
fn a_configuration_says_what_is_wrong_with_it() {
    let read = |more: &str| -> Result<Config> {
        let text = format!("name = \"pool\"\nuser = \"stats\"\n{more}");
        let config: Config = toml::from_str(&text)?;
        config.check()?;
        Ok(config)
    };
    assert!(!read("host = \"127.0.0.1\"").unwrap().has_tls());
    assert!(!read("host = \"/run/pgbouncer\"").unwrap().has_tls());
    assert!(read("host = \"db.example.com\"").unwrap().has_tls());
    for (more, word) in [
        ("host = \"\"", "`host`"),
        ("host = \"h\"\nutc_offset = \"CET\"", "`utc_offset`"),
        ("host = \"/run\"\ntls = true", "`tls`"),
        (
            "host = \"h\"\ntls = false\nca_file = \"ca.pem\"",
            "`ca_file`",
        ),
        ("host = \"h\"\npassword = \"secret\"", "unknown field"),
    ] {
        let error = format!("{:#}", read(more).unwrap_err());
        assert!(error.contains(word), "{more}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_costs_a_picture_and_nothing_else() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut peer, _) = listener.accept().await.unwrap();
        let _ = peer.read(&mut [0; 1_024]).await.unwrap();
        // A message that is shorter than its own length.
        peer.write_all(b"R\0\0\0\x02rest").await.unwrap();
        peer
    });
    let text = format!("name = \"pool\"\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"stats\"\n");
    let mut source = Pgbouncer::new(&toml::from_str(&text).unwrap()).unwrap();
    let taken = in_time(Duration::from_secs(10), source.snapshot()).await;
    let error = format!("{:#}", taken.unwrap_err());
    assert!(error.contains("cannot be read"), "{error}");
    drop(served.await.unwrap());
}
