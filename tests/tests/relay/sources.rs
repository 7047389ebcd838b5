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

/// A service's attributes, once they are right.
async fn service(app: &TestApp, what: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let look = async || {
        let answer = app.reader.get(&format!("/v1/services/{SERVICE}")).await;
        let attributes =
            (answer.status == 200).then(|| answer.json()["data"]["attributes"].clone());
        attributes.filter(&is_right)
    };
    eventually(what, look).await
}

#[sqlx::test(migrations = "../migrations")]
async fn the_cloud_shows_how_a_source_is_and_what_it_knows(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let standin = MaxScale::start(Version::ALL[0], vec![client(1), client(2)]).await;
    let mut edge = watching(&app, &standin).await;
    edge.start(Some(&app.url)).await;
    let fine = service(&app, "the source is seen", |held| {
        held["source"]["seen"].is_string()
    })
    .await;
    assert_eq!(fine["source"]["kind"], "maxscale", "{fine}");
    let knows: Vec<&str> = fine["source"]["knows"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut declared = rollcall_relay::sources::maxscale::KNOWS.to_vec();
    declared.sort_unstable();
    assert_eq!(knows, declared);
    assert!(fine.get("unreachable_since").is_none(), "{fine}");
    let path = format!("/v1/sessions?filter[service]={SERVICE}&filter[active]=true");
    eventually("two are there", async || {
        (list(&app.reader, &path).await.len() == 2).then_some(())
    })
    .await;
    let password = std::mem::replace(&mut standin.inside().authorization, "other".to_owned());
    let cut = service(&app, "unreachable", |held| {
        held["unreachable_since"].is_string()
    })
    .await;
    let trouble = cut["source"]["trouble"].as_str().expect("why");
    assert!(trouble.contains("401"), "{cut}");
    assert!(cut["source"]["seen"].as_str() >= fine["source"]["seen"].as_str());
    assert_eq!(list(&app.reader, &path).await.len(), 2, "nobody is gone");
    assert_eq!(told(&app).await, ["connected", "connected"]);
    standin.inside().authorization = password;
    let back = service(&app, "reachable again", |held| {
        held.get("unreachable_since").is_none()
    })
    .await;
    assert_eq!(back["source"]["trouble"], fine["source"]["trouble"]);
    assert_eq!(told(&app).await.len(), 2);
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
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, words) = check(&edge).await;
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.starts_with("ok      sql: maxscale at http"),
        "{words}"
    );
    assert!(!words.contains("FAILED"), "{words}");
    assert!(words.contains(&format!("1 on {SERVICE}")), "{words}");
    assert!(words.contains("it takes the relay's key"), "{words}");
    standin.inside().authorization = "other".to_owned();
    edge.key = format!("{}:wrong", edge.key_id);
    let (code, words) = check(&edge).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("401"), "{words}");
    assert_eq!(words.matches("FAILED").count(), 2, "{words}");
    assert!(words.contains("the key is not accepted"), "{words}");
    assert!(!words.contains("mariadb"), "{words}");
}
