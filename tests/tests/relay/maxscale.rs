//! MaxScale as a source, before a stand-in that answers with what the proxy contract records of its versions.

use std::path::PathBuf;

use rollcall_relay::sources::maxscale::{Config, Maxscale};
use rollcall_relay::sources::{SeenService, Snapshot};
use rollcall_tests::{Edge, Fault, MaxScale, SqlClient, TestApp, Version};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;
use time::macros::datetime;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::{eventually, history, list};

const CONNECTED: OffsetDateTime = datetime!(2026-11-01 07:06:05 UTC);

fn client(id: u64) -> SqlClient {
    SqlClient {
        id,
        user: "maxuser",
        address: "10.0.0.7",
        port: 40_000,
        service: "RW-Split-Router",
        connected: CONNECTED,
        idle: Some(2.5),
        program: Some("nightly report"),
        servers: vec![("server2", 18), ("server1", 17)],
    }
}

/// The source, with more lines in its table.
fn source(standin: &MaxScale, more: &str) -> (Maxscale, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let password: PathBuf = folder.path().join("password");
    std::fs::write(&password, "mariadb\n").expect("written");
    let login = if more.contains("token_file") {
        String::new()
    } else {
        format!("user = \"admin\"\npassword_file = {password:?}\n")
    };
    let text = format!("name = \"proxy\"\nurl = \"{}\"\n{login}{more}", standin.url);
    let config: Config = toml::from_str(&text).expect("a table");
    (Maxscale::new(&config).expect("a source"), folder)
}

fn service<'a>(seen: &'a Snapshot, name: &str) -> &'a SeenService {
    let found = seen.services.iter().find(|service| service.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {seen:#?}"))
}

fn ids(seen: &Snapshot) -> Vec<u64> {
    let all = seen.services.iter().flat_map(|held| &held.connections);
    let mut ids: Vec<u64> = all
        .map(|held| held.source_id.parse().expect("a number"))
        .collect();
    ids.sort_unstable();
    ids
}

/// What every version tells of the first client, and what this one tells besides.
fn expected(version: Version) -> Value {
    let mut told = json!({
        "source_id": "9", "kind": "proxy", "user": "maxuser", "remote": "10.0.0.7", "presence": "connected",
        "state": "Session started", "protocol": "mariadb", "connected_at": "2026-11-01T07:06:05Z",
    });
    if version < Version::V2_4 {
        told["state"] = json!("Session ready for routing");
    } else if version < Version::V2_5 {
        told["backends"] = json!([{ "server": "server1" }, { "server": "server2" }]);
    } else {
        let cipher = "TLS_AES_256_GCM_SHA384";
        told["backends"] = json!([
            { "server": "server1", "id": "17", "cipher": cipher },
            { "server": "server2", "id": "18", "cipher": cipher },
        ]);
    }
    if version == Version::V2_5 {
        told["database"] = json!("shop");
    }
    if version >= Version::V6 {
        told["port"] = json!(40_000);
    }
    if version >= Version::V24_02 {
        told["label"] = json!("nightly report");
    }
    told
}

#[tokio::test]
async fn every_version_tells_what_it_knows_and_nothing_else() {
    for version in Version::ALL {
        let mut busy = client(10);
        (busy.idle, busy.program, busy.service) = (Some(0.0), None, "Documents");
        let standin = MaxScale::start(version, vec![client(9), busy]).await;
        standin.inside().zone = UtcOffset::from_hms(2, 0, 0).unwrap();
        let (mut source, _folder) = source(&standin, "utc_offset = \"+02:00\"\n");
        let asked = OffsetDateTime::now_utc();
        let seen = source.snapshot().await.unwrap();
        assert_eq!(seen.version.as_deref(), Some(version.name()));
        assert_eq!(seen.trouble, None, "{version:?}");

        let states: Vec<_> = (seen.services.iter())
            .map(|held| {
                (
                    held.name.as_str(),
                    held.state.as_deref(),
                    held.connections.len(),
                )
            })
            .collect();
        let wanted = [
            ("Documents", Some("Started"), 1),
            ("RW-Split-Router", Some("Started"), 1),
            // Without sessions it is a service all the same.
            ("Read-Connection-Router", Some("Stopped"), 0),
        ];
        assert_eq!(states, wanted, "{version:?}");

        let first = &service(&seen, "RW-Split-Router").connections[0];
        let mut told = serde_json::to_value(first).unwrap();
        told.as_object_mut().unwrap().remove("idle_since");
        assert_eq!(told, expected(version), "{version:?}");
        let idle = first.facts.idle_since.unwrap();
        let since = asked - Duration::seconds_f64(2.5);
        assert!(
            idle >= since && idle <= OffsetDateTime::now_utc(),
            "{version:?}: {idle}"
        );

        let busy = &service(&seen, "Documents").connections[0];
        assert_eq!(busy.facts.idle_since, None, "{version:?}: a query runs");
        assert_eq!(busy.label, None);
        assert_eq!(busy.facts.protocol.as_deref(), Some("nosql"));
    }
}

#[tokio::test]
async fn a_time_without_a_zone_is_unknown_and_a_wrong_zone_is_said() {
    let mut fresh = client(9);
    fresh.connected = OffsetDateTime::now_utc();
    for version in [Version::V2_2, Version::V6, Version::V22_08] {
        let standin = MaxScale::start(version, vec![fresh.clone()]).await;
        standin.inside().zone = UtcOffset::from_hms(2, 0, 0).unwrap();
        let (mut unset, _folder) = source(&standin, "");
        let seen = unset.snapshot().await.unwrap();
        let held = &service(&seen, "RW-Split-Router").connections[0];
        assert_eq!(held.facts.connected_at, None);
        assert!(seen.trouble.unwrap().contains("set `utc_offset`"));

        let (mut wrong, _folder) = source(&standin, "utc_offset = \"+00:00\"\n");
        let trouble = wrong.snapshot().await.unwrap().trouble.unwrap();
        assert!(trouble.contains("`utc_offset` is wrong"), "{trouble}");
    }
}

#[tokio::test]
async fn seconds_alive_tells_when_the_times_are_off() {
    let mut ahead = client(9);
    ahead.connected = OffsetDateTime::now_utc() - Duration::hours(1);
    let standin = MaxScale::start(Version::V24_02, vec![ahead]).await;
    let (mut source, _folder) = source(&standin, "");
    assert_eq!(source.snapshot().await.unwrap().trouble, None);
    // Alive for an hour, but connected two hours ago: said by a clock that is an hour behind.
    standin.inside().clock_behind = Duration::hours(1);
    let trouble = source.snapshot().await.unwrap().trouble.unwrap();
    assert!(
        trouble.contains("-3600 s") || trouble.contains("-3599 s"),
        "{trouble}"
    );
}

#[tokio::test]
async fn nobody_is_gone_because_others_left_while_pages_were_read() {
    for version in [Version::V6, Version::V24_02] {
        let standin = MaxScale::start(version, (1..=10).map(client).collect()).await;
        let (mut source, _folder) = source(&standin, "page_size = 5\n");
        let seen = source.snapshot().await.unwrap();
        assert_eq!(ids(&seen), (1..=10).collect::<Vec<_>>());

        // One that was read leaves, and another comes: as many as before, and number 6 has moved to the page before.
        standin.inside().after_page = Some(Box::new(|clients, number| {
            if number == 0 {
                clients.retain(|held| held.id != 3);
                clients.push(client(11));
            }
        }));
        let seen = source.snapshot().await.unwrap();
        // Number 3 was there a moment ago; it is gone in the next picture.
        assert_eq!(ids(&seen), (1..=11).collect::<Vec<_>>());
        standin.inside().after_page = None;
        let seen = source.snapshot().await.unwrap();
        assert_eq!(ids(&seen), [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
    }
}

#[tokio::test]
async fn of_many_that_seem_gone_all_pages_are_read_again() {
    let many = 600;
    let standin = MaxScale::start(Version::V24_02, (1..=many).map(client).collect()).await;
    let (mut source, _folder) = source(&standin, "page_size = 100\n");
    assert_eq!(ids(&source.snapshot().await.unwrap()).len(), 600);
    let mut is_done = false;
    standin.inside().after_page = Some(Box::new(move |clients, number| {
        if number == 0 && !std::mem::replace(&mut is_done, true) {
            // What is on the first page goes, and more.
            clients.retain(|held| held.id > 400);
        }
    }));
    standin.inside().requests.clear();
    let seen = source.snapshot().await.unwrap();
    let left: Vec<u64> = (1..=100).chain(401..=many).collect();
    assert_eq!(ids(&seen), left);
    let requests = standin.inside().requests.len();
    assert!(
        requests < 50,
        "{requests} requests: nobody was to be asked for alone"
    );
}

#[tokio::test]
async fn rubbish_is_no_picture_and_the_next_answer_is() {
    let standin = MaxScale::start(Version::V24_02, (1..=4).map(client).collect()).await;
    let (mut source, _folder) = source(&standin, "page_size = 3\ntimeout_seconds = 2\n");
    for (fault, words) in [
        (Fault::BrokenOff, "broke off"),
        (Fault::HalfJson, "JSON that cannot be read"),
        (Fault::Html, "not with JSON"),
        (Fault::Huge, "MiB, which is not read"),
        (Fault::WrongTypes, "JSON that cannot be read"),
        (Fault::ShortPage, "has 2 sessions where there should be 3"),
        (Fault::ShuttingDown, "MaxScale is shutting down"),
        (Fault::Silence, "in time"),
    ] {
        standin.inside().fault = fault;
        let error = format!("{:#}", source.snapshot().await.unwrap_err());
        assert!(error.contains(words), "{fault:?}: {error}");
        assert!(!error.contains("mariadb"), "{fault:?}: {error}");
    }
    standin.inside().fault = Fault::None;
    assert_eq!(ids(&source.snapshot().await.unwrap()), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_token_is_taken() {
    let standin = MaxScale::start(Version::V24_02, vec![client(1)]).await;
    standin.inside().authorization = "Bearer a.b.c".to_owned();
    let (mut basic, folder) = source(&standin, "");
    let error = format!("{:#}", basic.snapshot().await.unwrap_err());
    assert!(
        error.contains("401") && error.contains("Access denied"),
        "{error}"
    );
    assert!(error.contains("check the user"), "{error}");

    let token = folder.path().join("token");
    std::fs::write(&token, "a.b.c\n").unwrap();
    let (mut bearer, _folder) = source(&standin, &format!("token_file = {token:?}\n"));
    assert_eq!(ids(&bearer.snapshot().await.unwrap()), [1]);
}

#[tokio::test]
async fn a_prefix_stands_in_front_of_services_names() {
    let standin = MaxScale::start(Version::V6, vec![client(1)]).await;
    let (mut source, _folder) = source(&standin, "prefix = \"north/\"\n");
    let seen = source.snapshot().await.unwrap();
    assert_eq!(service(&seen, "north/RW-Split-Router").connections.len(), 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_beside_it_tells_of_its_sessions_and_keeps_them_while_it_is_away(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let standin = MaxScale::start(Version::V24_02, vec![client(9), client(10)]).await;
    let mut edge = Edge::of(&app, &[]).await;
    let password = edge.folder().join("password");
    std::fs::write(&password, "mariadb\n").unwrap();
    edge.set(&format!(
        "[[maxscale]]\nname = \"proxy\"\nurl = \"{}\"\nuser = \"admin\"\npassword_file = {password:?}\npoll_seconds = 1\n",
        standin.url
    ));
    edge.start(Some(&app.url)).await;
    let path = "/v1/sessions?filter[kind]=proxy&filter[service]=RW-Split-Router";
    let found = eventually("two sessions", async || {
        let found = list(&app.reader, path).await;
        (found.len() == 2).then_some(found)
    })
    .await;
    let ninth = found
        .iter()
        .find(|held| held["attributes"]["source_id"] == "9")
        .unwrap();
    let told = &ninth["attributes"];
    for (name, value) in [
        ("state", json!("Session started")),
        ("active", json!(true)),
        ("user", json!("maxuser")),
        ("remote", json!("10.0.0.7")),
        ("port", json!(40_000)),
        ("label", json!("nightly report")),
        ("connected", json!("Sun Nov  1 07:06:05 2026")),
        ("connected_at", json!("2026-11-01T07:06:05Z")),
    ] {
        assert_eq!(told[name], value, "{name} of {told}");
    }
    let servers: Vec<_> = (told["backends"].as_array().unwrap().iter())
        .map(|held| held["server"].as_str().unwrap())
        .collect();
    assert_eq!(servers, ["server1", "server2"]);
    let by_number = app.reader.get("/v1/sessions/9").await;
    assert_eq!(by_number.json()["data"]["id"], ninth["id"]);

    standin.inside().fault = Fault::ShuttingDown;
    eventually("the relay is refused", async || {
        let status = edge.status().await;
        status["sources"][0]["unreachable_since"].as_str().map(drop)
    })
    .await;
    standin.inside().clients.remove(0);
    let active = list(&app.reader, path).await;
    assert!(
        active
            .iter()
            .all(|held| held["attributes"]["active"] == true),
        "{active:?}"
    );
    standin.inside().fault = Fault::None;
    eventually("number 9 is gone", async || {
        let found = list(&app.reader, path).await;
        let is_gone = |held: &&Value| held["attributes"]["active"] == false;
        let gone: Vec<_> = found.iter().filter(is_gone).collect();
        (gone.len() == 1 && gone[0]["id"] == ninth["id"]).then_some(())
    })
    .await;
    let states = history(&app, ninth, "state").await;
    assert_eq!(
        (&states[0], states.last().unwrap()),
        (&json!("Session started"), &json!("gone"))
    );
}
