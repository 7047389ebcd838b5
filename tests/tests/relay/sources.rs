//! What becomes of a source's clients on their way from the picture to the cloud; a stand-in for MaxScale tells of them.

use rollcall_tests::{Edge, MaxScale, SqlClient, TestApp, Version};
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{eventually, list};

const SERVICE: &str = "RW-Split-Router";

fn client(id: u64) -> SqlClient {
    SqlClient {
        id,
        user: "maxuser",
        address: "10.0.0.7",
        port: 40_000,
        service: SERVICE,
        connected: OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000),
        idle: None,
        program: None,
        servers: Vec::new(),
    }
}

/// A relay that watches the stand-in alone.
async fn watching(app: &TestApp, standin: &MaxScale) -> Edge {
    let mut edge = Edge::of(app, &[]).await;
    let password = edge.folder().join("password");
    std::fs::write(&password, "mariadb").expect("a password file");
    edge.set(&format!(
        "[[maxscale]]\nname = \"sql\"\nurl = \"{}\"\nuser = \"admin\"\npassword_file = {password:?}\npoll_seconds = 1\n",
        standin.url
    ));
    edge
}

/// The types of all events of the service's sessions, in the feed's order.
async fn told(app: &TestApp) -> Vec<String> {
    let events = list(&app.reader, "/v1/events").await;
    let word = |event: &Value| {
        event["attributes"]["event_type"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    events.iter().map(word).collect()
}

async fn source(edge: &Edge) -> Value {
    edge.status().await["sources"][0].clone()
}

#[sqlx::test(migrations = "../migrations")]
async fn clients_come_and_go_and_stay_while_their_proxy_is_away(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let standin = MaxScale::start(Version::ALL[0], vec![client(1), client(2)]).await;
    let mut edge = watching(&app, &standin).await;
    edge.start(Some(&app.url)).await;
    eventually("two are there", async || {
        (told(&app).await == ["connected", "connected"]).then_some(())
    })
    .await;
    // The proxy lets nobody in; then the relay dies, and the proxy is away still.
    let password = std::mem::replace(&mut standin.inside().authorization, "other".to_owned());
    let unreachable = async || {
        let source = source(&edge).await;
        (source["unreachable_since"].is_string() && source["sessions"] == 2).then_some(source)
    };
    let seen = eventually("unreachable", unreachable).await;
    assert!(seen["trouble"].as_str().unwrap().contains("401"), "{seen}");
    let words = edge.command("status", None).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("unreachable since"), "{words}");
    assert!(!words.contains("mariadb"), "{words}");
    edge.kill();
    standin.inside().clients.remove(0);
    standin.inside().clients.push(client(3));
    edge.start(Some(&app.url)).await;
    let failed = async || {
        source(&edge).await["unreachable_since"]
            .is_string()
            .then_some(())
    };
    eventually("unreachable again", failed).await;
    assert_eq!(told(&app).await.len(), 2, "who cannot be seen is not gone");
    standin.inside().authorization = password;
    eventually("the differences alone", async || {
        (told(&app).await.len() > 3).then_some(())
    })
    .await;
    assert_eq!(told(&app).await[2..], ["disconnected", "connected"]);
    let metrics = edge.monitor("/metrics").await;
    assert!(
        metrics.contains("rollcall_relay_source_sessions{source=\"sql\"} 2"),
        "{metrics}"
    );
    // Without the relay, the spool says what it knows.
    edge.stop();
    let words = edge.command("status", None).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    assert!(words.contains("2 sessions on 3 services"), "{words}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_check_says_what_can_be_reached_and_what_cannot(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let standin = MaxScale::start(Version::ALL[0], vec![client(1)]).await;
    let mut edge = watching(&app, &standin).await;
    let check = async |edge: &Edge| {
        let mut command = edge.command("check", Some(&app.url));
        // What it asks runs on this thread.
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.unwrap().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (is_fine, words) = check(&edge).await;
    assert!(is_fine, "{words}");
    assert!(words.contains(&format!("1 on {SERVICE}")), "{words}");
    assert!(words.contains("it takes the relay's key"), "{words}");
    standin.inside().authorization = "other".to_owned();
    edge.key = format!("{}:wrong", edge.key_id);
    let (is_fine, words) = check(&edge).await;
    assert!(!is_fine);
    assert_eq!(words.matches("FAILED").count(), 2, "{words}");
    assert!(words.contains("the key is not accepted"), "{words}");
    assert!(!words.contains("mariadb"), "{words}");
}
