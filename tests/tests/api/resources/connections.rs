//! Clients of brokers and proxies on `/v1`: their documents, names, filters and orders, and who sees them.

use rollcall_model::Permission;
use rollcall_tests::{Credential, Relay, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{complaint, document, names, path_of, with};

async fn store(relay: &Relay, events: &[Value]) {
    let verdicts = relay.verdicts(events).await;
    assert!(verdicts.iter().all(|one| one == "stored"), "{verdicts:?}");
}

/// A session's attributes without those that differ in every run.
async fn attributes(app: &TestApp, path: &str) -> Value {
    let mut shown = document(&app.reader, path).await["data"]["attributes"].take();
    let told = shown.as_object_mut().expect("an object");
    for name in ["updated", "received_from", "project"] {
        assert!(told.remove(name).is_some(), "{name}");
    }
    shown
}

fn ago(seconds: i64) -> Value {
    let at = OffsetDateTime::now_utc() - time::Duration::seconds(seconds);
    json!(at.format(&Rfc3339).expect("a time"))
}

#[sqlx::test(migrations = "../migrations")]
async fn a_client_of_a_broker_is_shown_whole(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let mqtt = json!({
        "label": "pump", "state": "running", "vhost": "/", "node": "rabbit@plant", "port": 45747, "cipher": "TLSv1.3",
        "disconnected_at": "2026-11-21T08:00:00.5Z", "clean_start": false, "expiry_seconds": 86400, "receive_maximum": 20,
        "max_packet_size": 65536, "topic_alias_max": 10, "request_response": true, "request_problem": false,
        "has_will": true, "inflight": 2, "queue_depth": 0, "subscription_count": 3,
        "subscriptions": [
            { "filter": "a/+", "qos": 1, "no_local": true, "retain_as_published": false, "retain_handling": 2,
              "consumer_group": "g", "subscription_id": 7 },
            { "filter": "b/#", "qos": 0 },
        ],
    });
    let amqp =
        json!({ "kind": "amqp", "protocol": "amqp0.9.1", "user": null, "subscriptions": [] });
    let address = "amqp091:[::1]:5672";
    store(
        &relay,
        &[
            relay.connection(("plant", 1), "connected", "dev/1", &mqtt),
            relay.connection(("plant", 2), "connected", address, &amqp),
        ],
    )
    .await;
    assert_eq!(
        attributes(&app, "/v1/sessions/dev%2F1").await,
        json!({
            "state": "connected", "connected": "Sat Nov 21 09:00:00 2026", "active": true, "kind": "mqtt",
            "source_id": "dev/1", "revision": 1, "started": "2026-11-21T09:00:00Z", "label": "pump", "user": "guest",
            "remote": "10.0.0.7", "port": 45747, "source_state": "running", "client_id": "dev/1", "protocol": "mqtt3.1.1",
            "vhost": "/", "node": "rabbit@plant", "cipher": "TLSv1.3", "connected_at": "2026-11-21T09:00:00Z",
            "disconnected_at": "2026-11-21T08:00:00.5Z", "clean_start": false, "expiry_interval": 86400,
            "receive_maximum": 20, "max_packet_size": 65536, "topic_alias_max": 10, "request_response": true,
            "request_problem": false, "has_will": true, "inflight": 2, "queue_depth": 0, "subscription_count": 3,
            "subscriptions": [
                { "filter": "a/+", "qos": 1, "no_local": true, "retain_as_published": false, "retain_handling": 2,
                  "consumer_group": "g", "subscription_id": 7 },
                { "filter": "b/#", "qos": 0 },
            ],
            "reconnects": { "count": 0, "window_seconds": 3600 },
        })
    );
    let path = with("/v1/sessions", &[("filter[client_id]", address)]);
    let listed = document(&app.reader, &path).await;
    let own = listed["data"][0]["id"].as_str().expect("an id");
    assert_eq!(
        attributes(&app, &format!("/v1/sessions/{own}")).await,
        json!({
            "state": "connected", "connected": "Sat Nov 21 09:00:00 2026", "active": true, "kind": "amqp",
            "source_id": address, "revision": 1, "started": "2026-11-21T09:00:00Z", "remote": "10.0.0.7",
            "client_id": address, "protocol": "amqp0.9.1", "connected_at": "2026-11-21T09:00:00Z",
            "subscription_count": 0, "subscriptions": [], "reconnects": { "count": 0, "window_seconds": 3600 },
        })
    );
}

/// Seed 002's envelope and members, and 2.2's where they are known.
#[sqlx::test(migrations = "../migrations")]
async fn a_client_of_a_proxy_is_the_seeds_session(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let proxy = json!({
        "kind": "proxy", "client_id": null, "protocol": "mariadb", "user": "maxuser", "remote": "127.0.0.1", "port": 4711,
        "state": "Session ready for routing", "connected_at": "2017-05-17T10:06:35Z", "idle_since": "2026-11-21T09:04:17.5Z",
        "database": "shop", "backends": [{ "server": "server1", "id": "17", "state": "used", "cipher": "x" }],
    });
    store(
        &relay,
        &[relay.connection(("RW-Split-Router", 1), "connected", "9", &proxy)],
    )
    .await;
    let mut whole = document(&app.reader, "/v1/sessions/9").await;
    let data = &mut whole["data"];
    let id = data["id"].as_str().expect("an id").to_owned();
    let services = data["relationships"]["services"].take();
    assert_eq!(
        services["data"],
        json!([{ "id": "RW-Split-Router", "type": "services" }])
    );
    let idle = data["attributes"]["idle"].take();
    assert!(idle.as_f64().is_some_and(|idle| idle > 0.0), "{idle}");
    let mut shown = attributes(&app, &format!("/v1/sessions/{id}")).await;
    shown["idle"] = Value::Null;
    assert_eq!(
        shown,
        json!({
            "state": "Session ready for routing", "connected": "Wed May 17 10:06:35 2017", "active": true, "kind": "proxy",
            "source_id": "9", "revision": 1, "started": "2017-05-17T10:06:35Z", "user": "maxuser", "remote": "127.0.0.1",
            "port": 4711, "idle": null, "protocol": "mariadb", "database": "shop", "connected_at": "2017-05-17T10:06:35Z",
            "backends": [{ "server": "server1", "id": "17", "state": "used", "cipher": "x" }],
            "reconnects": { "count": 0, "window_seconds": 3600 },
        })
    );
    // In an event it stands as it did then, whenever that is read.
    let event = document(&app.reader, &format!("/v1/events/{id}.1")).await;
    assert_eq!(event["data"]["attributes"]["event_type"], "connected");
    let then = &event["data"]["attributes"]["session"]["attributes"];
    assert_eq!(then["idle"], 42.5);
    let gone = json!({ "kind": "proxy", "client_id": null, "presence": "gone", "idle_since": "2026-11-21T09:04:17Z" });
    store(
        &relay,
        &[relay.connection(("RW-Split-Router", 2), "disconnected", "9", &gone)],
    )
    .await;
    let shown = attributes(&app, "/v1/sessions/9").await;
    assert_eq!((&shown["state"], shown.get("idle")), (&json!("gone"), None));
    let path = "/v1/sessions?sort=idle";
    assert!(
        names(&document(&app.reader, path).await).is_empty(),
        "who is gone is not idle"
    );
}

/// Asks for a path as it is, which clients would tidy up.
async fn raw(app: &TestApp, path: &str) -> String {
    let Credential::Basic { secret, .. } = app.reader.credential.clone() else {
        panic!("a key")
    };
    let stream = tokio::net::TcpStream::connect(app.addr()).await;
    let mut stream = stream.expect("a connection");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("an answer");
    answer
}

#[sqlx::test(migrations = "../migrations")]
async fn a_client_is_found_by_whatever_id_it_has(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let long = "x".repeat(1_000);
    let ids = [
        ("a/b", "a%2Fb"),
        ("..", "%2E%2E"),
        (".", "%2e"),
        ("a%25b", "a%2525b"),
        ("50%", "50%25"),
        ("é 1", "%C3%A9%201"),
        ("/", "%2F"),
        ("a?b#c", "a%3Fb%23c"),
        ("tab\tand\nline", "tab%09and%0Aline"),
        ("amqp091:[::1]:5672", "amqp091%3A%5B%3A%3A1%5D%3A5672"),
        (&long, &long),
    ];
    for (at, (id, _)) in ids.iter().enumerate() {
        let place = ("plant", u64::try_from(at).expect("small") + 1);
        store(
            &relay,
            &[relay.connection(place, "connected", id, &json!({}))],
        )
        .await;
    }
    for (id, path) in ids {
        let answer = raw(&app, &format!("/v1/sessions/{path}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{id}: {answer}");
        let expected = format!(r#""client_id":{}"#, json!(id));
        assert!(answer.contains(&expected), "{id}: {answer}");
    }
    let answer = raw(&app, "/v1/sessions/a/b").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// Twelve clients; of every third nothing is known that may be counted.
async fn fill(app: &TestApp, relay: &Relay) {
    let mut events = Vec::new();
    for at in 0..12_u64 {
        let place = ("plant", at + 1);
        let mut client = json!({
            "protocol": if at % 2 == 0 { "mqtt5" } else { "mqtt3.1.1" }, "user": format!("u{}", at % 4),
            "remote": format!("10.0.0.{}", at % 5),
        });
        if at % 3 != 0 {
            client["inflight"] = json!(at % 4);
            client["queue_depth"] = json!(at * 100);
            // In pairs that are idle for equally long.
            client["idle_since"] = json!(format!("2026-11-21T08:0{}:00Z", at / 4));
        }
        events.push(relay.connection(place, "connected", &format!("c{at:02}"), &client));
    }
    store(relay, &events).await;
    let kind = document(&app.reader, "/v1/sessions?filter[kind]=mqtt").await;
    assert_eq!(names(&kind).len(), 12);
}

#[sqlx::test(migrations = "../migrations")]
async fn clients_are_narrowed_by_what_is_known_of_them(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    fill(&app, &relay).await;
    let recent = json!({ "idle_since": ago(100) });
    store(
        &relay,
        &[relay.connection(("plant", 13), "connected", "recent", &recent)],
    )
    .await;
    for (name, value, expected) in [
        ("filter[protocol]", "mqtt5", "c00 c02 c04 c06 c08 c10"),
        ("filter[user]", "u1", "c01 c05 c09"),
        ("filter[remote]", "10.0.0.4", "c04 c09"),
        ("filter[client_id]", "c04", "c04"),
        ("filter[client_id]", "c0", ""),
        ("filter[source_id][prefix]", "c1", "c10 c11"),
        ("filter[inflight][ge]", "3", "c07 c11"),
        ("filter[inflight][gt]", "2", "c07 c11"),
        ("filter[inflight][lt]", "1", "c04 c08"),
        ("filter[inflight][le]", "0", "c04 c08"),
        ("filter[queue_depth][ge]", "1000", "c10 c11"),
        ("filter[queue_depth][gt]", "1000", "c11"),
        ("filter[queue_depth][le]", "200", "c01 c02"),
        ("filter[queue_depth][lt]", "200", "c01"),
        ("filter[idle][lt]", "600", "recent"),
        ("filter[idle][le]", "600.5", "recent"),
        (
            "filter[idle][ge]",
            "99",
            "c01 c02 c04 c05 c07 c08 c10 c11 recent",
        ),
        ("filter[idle][gt]", "1e9", ""),
        ("filter", "/attributes/idle=lt(600)", "recent"),
        (
            "filter",
            "/attributes/idle=and(gt(99),not(ge(600)))",
            "recent",
        ),
        (
            "filter",
            "/attributes/inflight=or(eq(0),ge(2.5))",
            "c04 c07 c08 c11",
        ),
        ("filter", "/attributes/queue_depth=not(gt(100))", "c01"),
        (
            "filter",
            r#"/attributes/protocol=ne("mqtt5")"#,
            "c01 c03 c05 c07 c09 c11 recent",
        ),
        ("filter", r#"/attributes/client_id=le("c01")"#, "c00 c01"),
    ] {
        let path = with("/v1/sessions", &[(name, value), ("sort", "source_id")]);
        let found = names(&document(&app.reader, &path).await).join(" ");
        assert_eq!(found, expected, "{name}={value}");
    }
    for (name, value) in [
        ("filter[inflight][ge]", "-1"),
        ("filter[inflight][lt]", "1.5"),
        ("filter[queue_depth][gt]", "9223372036854775808"),
        ("filter[idle][ge]", "NaN"),
        ("filter[idle][le]", "-0.1"),
        ("filter[idle][lt]", "1e10"),
        ("sort", "client_id"),
    ] {
        let answer = app
            .reader
            .get(&with("/v1/sessions", &[(name, value)]))
            .await;
        let (status, _, named) = complaint(&answer);
        assert_eq!(
            (status, named.as_deref()),
            (400, Some(name)),
            "{name}={value}"
        );
    }
}

/// Every page of a listing, by its links.
async fn pages(app: &TestApp, first: &str, link: &str) -> Vec<String> {
    let mut path = first.to_owned();
    let mut all = Vec::new();
    loop {
        let page = document(&app.reader, &path).await;
        all.push(names(&page));
        match &page["links"][link] {
            Value::Null => break,
            next => path = path_of(next),
        }
    }
    if link == "prev" {
        all.reverse();
    }
    all.concat()
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_of_clients_are_exact_in_every_order(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    fill(&app, &relay).await;
    for sort in ["inflight", "queue_depth", "idle"] {
        for sign in ["", "-"] {
            let whole = document(&app.reader, &format!("/v1/sessions?sort={sign}{sort}")).await;
            let values: Vec<f64> = whole["data"]
                .as_array()
                .expect("an array")
                .iter()
                .map(|one| one["attributes"][sort].as_f64().expect("it is known"))
                .collect();
            assert_eq!(values.len(), 8, "{sort}: what is unknown is left out");
            let is_sorted = match sign {
                "" => values.is_sorted(),
                _ => values.is_sorted_by(|a, b| a >= b),
            };
            assert!(is_sorted, "{sign}{sort}: {values:?}");
            let first = format!("/v1/sessions?sort={sign}{sort}&page[size]=3");
            assert_eq!(
                pages(&app, &first, "next").await,
                names(&whole),
                "{sign}{sort}"
            );
            // From the last page back to the first.
            let mut last = first;
            while let Value::String(next) =
                document(&app.reader, &last).await["links"]["next"].take()
            {
                last = path_of(&json!(next));
            }
            assert_eq!(
                pages(&app, &last, "prev").await,
                names(&whole),
                "{sign}{sort}, back"
            );
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn clients_with_many_subscriptions_come_on_shorter_pages(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let relay = app.relay("edge").await;
    let filters: Vec<Value> = (0..1_000)
        .map(|at| json!({ "filter": format!("{at:0>400}"), "qos": 0 }))
        .collect();
    let many = json!({ "subscriptions": filters });
    for at in 1..=20 {
        let event = relay.connection(("plant", at), "connected", &format!("c{at:02}"), &many);
        store(&relay, &[event]).await;
    }
    let page = document(&app.reader, "/v1/sessions?sort=source_id").await;
    let shown = names(&page).len();
    assert!((2..20).contains(&shown), "{shown}");
    assert_eq!(
        pages(&app, "/v1/sessions?sort=source_id", "next")
            .await
            .len(),
        20
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn clients_are_seen_in_reach_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other = app.second_project().await;
    let own = app.relay("own").await;
    let far = app.relay_of(app.org, other, "far").await;
    let strange = app
        .relay_of(app.strange_org, app.strange_project, "strange")
        .await;
    let client = json!({ "inflight": 1, "idle_since": "2026-11-21T08:00:00Z", "subscriptions": [{ "filter": "f", "qos": 0 }] });
    for (relay, service) in [(&own, "plant"), (&far, "far-plant"), (&strange, "plant")] {
        store(
            relay,
            &[relay.connection((service, 1), "connected", "same", &client)],
        )
        .await;
    }
    let bound = app.client(Some(other), &[Permission::SessionsRead]).await;
    let queries = [
        "filter[client_id]=same",
        "filter[remote]=10.0.0.7",
        "filter[protocol]=mqtt3.1.1",
        "filter[inflight][ge]=0",
        "filter[idle][ge]=0",
        "sort=idle",
        "sort=-queue_depth&filter[queue_depth][ge]=0",
    ];
    for (reader, count) in [(&app.reader, 2), (&bound, 1), (&app.stranger, 1)] {
        for query in &queries[..6] {
            let found = document(reader, &format!("/v1/sessions?{query}")).await;
            assert_eq!(names(&found).len(), count, "{query}");
        }
        let none = document(reader, &format!("/v1/sessions?{}", queries[6])).await;
        assert!(names(&none).is_empty());
    }
    let answer = app.reader.get("/v1/sessions/same").await;
    assert_eq!(complaint(&answer).1, "session_ambiguous");
    let found = document(&bound, "/v1/sessions/same").await;
    assert_eq!(found["data"]["attributes"]["project"], other.get());
    let id = found["data"]["id"].as_str().expect("an id");
    for path in ["", "/events", "/services"] {
        let answer = app.stranger.get(&format!("/v1/sessions/{id}{path}")).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}
