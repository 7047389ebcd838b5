//! Boxes and other relays that speak DTLS are mirrored: each with its own key, each alone with what goes wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use rollcall_coap::{Call, Code};
use rollcall_tests::{Edge, SimulatedBox, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Device, key, relay_on};
use crate::{eventually, sessions, within};

const IPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// A file of keys in the relay's folder, for nobody else to read.
fn keys(edge: &Edge, name: &str, lines: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = edge.folder().join(name);
    std::fs::write(&path, lines).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its own");
    path
}

/// Starts a box that takes the key of `relay` and that of a stand.
async fn secure_box(edge: &Edge, ip: IpAddr, of_relay: &str) -> SimulatedBox {
    let file = keys(
        edge,
        &format!("of-box-{of_relay}"),
        &format!("relay:{}\nstand:{}\n", key(of_relay), key("9")),
    );
    let file = file.to_str().expect("a path").to_owned();
    SimulatedBox::start_on(ip, &["--dtls-psk-file", &file]).await
}

fn stand(simulated: &SimulatedBox) -> Device {
    Device::of(simulated.address, &format!("stand:{}", key("9")))
}

/// A table of a box that is at `address`, with a file of keys.
fn table(name: &str, address: &str, file: &PathBuf) -> String {
    format!(
        "[[box]]\nname = {name:?}\naddress = \"coaps://{address}\"\n[box.dtls]\npsk_file = {file:?}\n"
    )
}

/// What the relay says of a box.
async fn health(edge: &Edge, name: &str) -> Value {
    edge.status().await["boxes"][name].clone()
}

async fn is_followed(edge: &Edge, name: &str) {
    within(Duration::from_secs(150), name, async || {
        let health = health(edge, name).await;
        Some(()).filter(|()| health["is_followed"] == true)
    })
    .await;
}

/// Waits until the relay says a certain thing of a box.
async fn says(edge: &Edge, name: &str, words: &str) {
    within(Duration::from_secs(150), words, async || {
        let health = health(edge, name).await;
        let trouble = health["trouble"].as_str().unwrap_or_default();
        Some(()).filter(|()| trouble.contains(words))
    })
    .await;
}

/// The session of a pager on a service, once it is in the store.
async fn arrived(app: &TestApp, service: &str, number: u16) -> Value {
    eventually("a guest", async || {
        let all = sessions(app, service).await;
        let mut found = all.into_iter();
        found.find(|session| session["attributes"]["number"] == number)
    })
    .await
}

/// Pages a guest from the cloud; answers the command's end.
async fn page(app: &TestApp, session: &Value) -> Value {
    let id = session["id"].as_str().expect("an id");
    let body = json!({"data": {"type": "sessions", "id": id, "attributes": {"action": "page"}}});
    let path = format!("/v1/sessions/{id}?wait=20");
    let request = app.admin.request(reqwest::Method::PATCH, &path).json(&body);
    rollcall_tests::send(request).await.json()["data"]["attributes"].clone()
}

#[sqlx::test(migrations = "../migrations")]
async fn boxes_with_keys_are_mirrored_and_paged_over_both_families(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &[]).await;
    let mut boxes = Vec::new();
    let mut tables = String::new();
    for (at, ip) in IPS.into_iter().enumerate() {
        let digit = (at + 1).to_string();
        let simulated = secure_box(&edge, ip, &digit).await;
        let file = keys(
            &edge,
            &format!("for-{at}"),
            &format!("relay:{}\n", key(&digit)),
        );
        tables += &table(
            &format!("secure-{at}"),
            &simulated.address.to_string(),
            &file,
        );
        boxes.push(simulated);
    }
    edge.set(&tables);
    edge.start(Some(&app.url)).await;
    for (at, simulated) in boxes.iter().enumerate() {
        let name = format!("secure-{at}");
        is_followed(&edge, &name).await;
        let mut stand = stand(simulated);
        stand.post(r#"{"number":7,"label":"Sarah"}"#).await.unwrap();
        let session = arrived(&app, &name, 7).await;
        let done = page(&app, &session).await;
        assert_eq!(
            (&done["status"], &done["code"]),
            (&json!("done"), &json!("2.04"))
        );
        let listed = stand.call(Call::new(Code::GET, "/v1/sessions")).await;
        let listed: Value = serde_json::from_slice(&listed.unwrap().payload).unwrap();
        assert_eq!(listed["sessions"][0]["state"], "paged", "at the box itself");
    }
    for digit in ["1", "2"] {
        assert!(!edge.log().contains(&key(digit)), "no key is in the log");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_wrong_key_and_a_box_that_says_nothing_fail_alone_and_say_why(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &[]).await;
    let good = secure_box(&edge, IPS[0], "1").await;
    let other = secure_box(&edge, IPS[0], "2").await;
    let silent = UdpSocket::bind((IPS[0], 0)).unwrap();
    let right = keys(&edge, "right", &format!("relay:{}\n", key("1")));
    let wrong = keys(&edge, "wrong", &format!("relay:{}\n", key("3")));
    edge.set(
        &[
            table("good", &good.address.to_string(), &right),
            table("other", &other.address.to_string(), &wrong),
            table("silent", &silent.local_addr().unwrap().to_string(), &right),
        ]
        .concat(),
    );
    edge.start(Some(&app.url)).await;
    is_followed(&edge, "good").await;
    says(
        &edge,
        "other",
        "does it know our identity, and do both have the same key?",
    )
    .await;
    let mut at_good = stand(&good);
    at_good.post(r#"{"number":1}"#).await.unwrap();
    arrived(&app, "good", 1).await;
    says(&edge, "silent", "the handshake does not come to its end").await;
    let told = edge.command("status", None).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("box           good at coaps://"), "{told}");
    assert!(told.contains(": followed; last heard of 2"), "{told}");
    assert!(told.contains("do both have the same key?"), "{told}");
    assert!(edge.log().contains("do both have the same key?"));
    // The key is put right while the relay runs, and nobody starts anything.
    std::fs::write(&wrong, format!("relay:{}\n", key("2"))).unwrap();
    is_followed(&edge, "other").await;
    stand(&other).post(r#"{"number":2}"#).await.unwrap();
    arrived(&app, "other", 2).await;
    for text in [edge.log(), told] {
        for digit in ["1", "2", "3"] {
            assert!(!text.contains(&key(digit)), "no key is told: {text}");
        }
    }
    assert_eq!(health(&edge, "good").await["is_followed"], true);
}

#[sqlx::test(migrations = "../migrations")]
async fn boxes_that_reboot_or_stay_away_are_found_again(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &[]).await;
    let mut rebooted = secure_box(&edge, IPS[0], "1").await;
    let mut away = secure_box(&edge, IPS[1], "2").await;
    let first = keys(&edge, "first", &format!("relay:{}\n", key("1")));
    let second = keys(&edge, "second", &format!("relay:{}\n", key("2")));
    edge.set(
        &[
            table("rebooted", &rebooted.address.to_string(), &first),
            table("away", &away.address.to_string(), &second),
        ]
        .concat(),
    );
    edge.start(Some(&app.url)).await;
    for name in ["rebooted", "away"] {
        is_followed(&edge, name).await;
    }
    let file = |digit: &str| edge.folder().join(format!("of-box-{digit}"));
    let (file_1, file_2) = (file("1"), file("2"));
    let of = |path: &PathBuf| path.to_str().unwrap().to_owned();
    // Neither says goodbye, as in a power cut. One is back on its old port at once, and knows of no session.
    away.kill();
    rebooted.restart(&["--dtls-psk-file", &of(&file_1)]).await;
    stand(&rebooted).post(r#"{"number":3}"#).await.unwrap();
    says(&edge, "away", "nothing was heard of it for 70 s").await;
    away.restart(&["--dtls-psk-file", &of(&file_2)]).await;
    stand(&away).post(r#"{"number":4}"#).await.unwrap();
    for (name, number) in [("rebooted", 3), ("away", 4)] {
        arrived(&app, name, number).await;
        is_followed(&edge, name).await;
    }
    let log = edge.log();
    assert!(log.contains("the box is followed again"), "{log}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_mirrors_what_another_relay_hosts(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (at, ip) in IPS.into_iter().enumerate() {
        let (mut host, address) = relay_on(&app, ip, &format!("desk-{at}")).await;
        let mut edge = Edge::of(&app, &[&format!("own-{at}")]).await;
        let file = keys(
            &edge,
            "keys",
            &format!("stand-2:{}\nstand-1:{}\n", key("7"), key("1")),
        );
        let name = format!("mirror-{at}");
        let lines = table(&name, &address.to_string(), &file);
        // Of several keys one has to be named.
        edge.set(&lines);
        let refused = edge.command("run", None).output().unwrap();
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert!(complaint.contains("dtls.identity"), "{complaint}");
        edge.set(&format!("{lines}identity = \"stand-3\"\n"));
        let refused = edge.command("run", None).output().unwrap();
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert!(
            complaint.contains("no key of the identity `stand-3`"),
            "{complaint}"
        );
        edge.set(&format!("{lines}identity = \"stand-1\"\n"));
        edge.start(Some(&app.url)).await;
        is_followed(&edge, &name).await;
        let mut stand = host.client(0).await;
        stand.post("/v1/sessions", r#"{"number":5}"#).await;
        let mirrored = arrived(&app, &name, 5).await;
        assert_eq!(page(&app, &mirrored).await["status"], "done");
        let hosted = arrived(&app, &format!("desk-{at}"), 5).await;
        eventually("paged there too", async || {
            let id = hosted["id"].as_str().unwrap();
            let session = app.reader.get(&format!("/v1/sessions/{id}")).await.json();
            Some(()).filter(|()| session["data"]["attributes"]["state"] == "paged")
        })
        .await;
        // A relay that stops says goodbye: the other one knows at once, and comes back when it does.
        host.stop();
        says(&edge, &name, "secure session").await;
        host.start(Some(&app.url)).await;
        is_followed(&edge, &name).await;
        stand.post("/v1/sessions", r#"{"number":6}"#).await;
        arrived(&app, &name, 6).await;
    }
}
