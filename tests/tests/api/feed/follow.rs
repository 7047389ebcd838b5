//! By page and by long poll.

use rollcall_model::Permission;
use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::{create, page, refusal, settle, told};

#[sqlx::test(migrations = "../migrations")]
async fn an_event_tells_what_happened_and_the_session_as_it_then_was(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, "one").await;
    let path = format!("{}/one", app.sessions());
    let change = json!({ "session": { "data": { "a": "2", "b/c": "3" } } });
    app.admin.put(&path, &change).await.result();
    app.admin.delete(&path).await.result();
    settle(&app).await;
    let (events, _) = page(&app.reader, "/v1/events").await;
    let all: Vec<_> = events.iter().map(told).collect();
    let expected =
        ["created", "updated", "deleted"].map(|event| (event.to_owned(), "one".to_owned()));
    assert_eq!(all, expected);
    let attributes = |at: usize| &events[at]["attributes"];
    assert_eq!(attributes(0)["changed"], json!([""]));
    assert_eq!(
        attributes(0)["session"]["attributes"]["points"],
        json!({ "a": "1" })
    );
    assert_eq!(
        attributes(1)["session"]["attributes"]["points"],
        json!({ "a": "2", "b/c": "3" })
    );
    let changed = attributes(1)["changed"]
        .as_array()
        .expect("an array")
        .clone();
    assert!(
        changed.contains(&json!("/points/a")) && changed.contains(&json!("/points/b~1c")),
        "{changed:?}"
    );
    assert_eq!(attributes(2)["session"]["attributes"]["state"], "deleted");
    // Its own address, and its session's history, show the same.
    let id = events[1]["id"].as_str().expect("an id");
    assert_eq!(
        app.reader.get(&format!("/v1/events/{id}")).await.json()["data"],
        events[1]
    );
    let (history, _) = {
        let document = app.reader.get("/v1/sessions/one/events").await.json();
        (document["data"].as_array().expect("an array").clone(), ())
    };
    assert_eq!(history, events);
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_lead_on_and_the_last_one_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (none, start) = page(&app.reader, "/v1/events").await;
    assert!(none.is_empty());
    for name in ["a", "b", "c", "d", "e"] {
        create(&app, name).await;
    }
    settle(&app).await;
    for path in [
        "/v1/events?page[size]=2".to_owned(),
        format!("{start}&page[size]=2"),
    ] {
        let mut path = path;
        let mut names = Vec::new();
        for expected in [2, 2, 1, 0, 0] {
            let (events, next) = page(&app.reader, &path).await;
            assert_eq!(events.len(), expected);
            names.extend(events.iter().map(|event| told(event).1));
            path = next;
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        create(&app, "late").await;
        settle(&app).await;
        let (late, _) = page(&app.reader, &path).await;
        assert_eq!(late.len(), 1);
        app.admin
            .delete(&format!("{}/late", app.sessions()))
            .await
            .result();
        // Away again for the second round: its events stay.
        sqlx::query("delete from events where session ->> 'source_id' = 'late'")
            .execute(&app.superuser)
            .await
            .expect("deleted");
        sqlx::query("delete from sessions where source_id = 'late'")
            .execute(&app.superuser)
            .await
            .expect("deleted");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_waits_is_answered_when_it_happens(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, "before").await;
    settle(&app).await;
    let (_, next) = page(&app.reader, "/v1/events?from=now&filter[type]=deleted").await;
    let path = format!("{next}&wait=30");
    let (waited, ()) = tokio::join!(page(&app.reader, &path), async {
        // Once the request waits, it holds the organization's live end; what it is not about does not end the wait.
        create(&app, "other").await;
        app.admin
            .delete(&format!("{}/before", app.sessions()))
            .await
            .result();
    });
    let all: Vec<_> = waited.0.iter().map(told).collect();
    assert_eq!(all, [("deleted".to_owned(), "before".to_owned())]);
    let (nothing, next) = page(&app.reader, &waited.1.replace("wait=30", "wait=1")).await;
    assert!(nothing.is_empty());
    assert!(
        page(&app.reader, &next.replace("wait=1", "wait=0"))
            .await
            .0
            .is_empty()
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_feed_narrowed_is_the_whole_narrowed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other = app.second_project().await;
    create(&app, "one").await;
    let elsewhere = format!("/api/v1/projects/{other}/sessions");
    app.admin
        .post(
            &elsewhere,
            &json!({ "session": { "uuid": "two", "unit_id": "x" } }),
        )
        .await
        .result();
    app.admin
        .delete(&format!("{}/one", app.sessions()))
        .await
        .result();
    settle(&app).await;
    let (all, _) = page(&app.reader, "/v1/events").await;
    let session = all[0]["attributes"]["session"]["id"]
        .as_str()
        .expect("an id");
    for (filter, pointer, value) in [
        ("kind", "/attributes/kind", json!("form")),
        ("kind", "/attributes/kind", json!("pager")),
        ("type", "/attributes/event_type", json!("deleted")),
        (
            "service",
            "/attributes/service",
            json!(format!("forms-{other}")),
        ),
        ("project", "/attributes/project", json!(app.project.get())),
        ("session", "/attributes/session/id", json!(session)),
    ] {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let (events, _) = page(&app.reader, &format!("/v1/events?filter[{filter}]={text}")).await;
        let expected: Vec<_> = all
            .iter()
            .filter(|event| event.pointer(pointer) == Some(&value))
            .cloned()
            .collect();
        assert_eq!(events, expected, "{filter}={text}");
    }
    let bound = app.client(Some(other), &[Permission::SessionsRead]).await;
    let (own, _) = page(&bound, "/v1/events").await;
    assert_eq!(
        own.iter().map(told).collect::<Vec<_>>(),
        [("created".to_owned(), "two".to_owned())]
    );
    let (none, _) = page(
        &bound,
        &format!("/v1/events?filter[project]={}", app.project),
    )
    .await;
    assert!(none.is_empty());
    assert!(page(&app.stranger, "/v1/events").await.0.is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_no_place_in_the_feed_is_refused_and_tells_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, "one").await;
    settle(&app).await;
    let (_, next) = page(&app.reader, "/v1/events").await;
    let cursor = next.rsplit_once('=').expect("a cursor").1;
    let stream = ("accept", "text/event-stream");
    for (path, headers) in [
        ("/v1/events?page[after]=CURSOR", vec![]),
        ("/v1/events", vec![("last-event-id", "CURSOR")]),
        ("/v1/events", vec![("last-event-id", "CURSOR"), stream]),
    ] {
        let with = |cursor: &str| {
            let headers: Vec<(&str, String)> = headers
                .iter()
                .map(|(name, value)| (*name, value.replace("CURSOR", cursor)))
                .collect();
            (path.replace("CURSOR", cursor), headers)
        };
        let ask = async |cursor: &str| {
            let (path, headers) = with(cursor);
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            refusal(&app.stranger, &path, &headers).await
        };
        let of_another = ask(cursor).await;
        assert_eq!(of_another.0, 400, "{path}");
        assert_eq!(of_another, ask("AAAA").await, "{path}");
        assert_eq!(of_another, ask(&cursor[2..]).await, "{path}");
    }
    for (query, parameter) in [
        ("wait=61", "wait"),
        ("wait=x", "wait"),
        ("from=yesterday", "from"),
        ("page[size]=0", "page[size]"),
        ("filter[session]=one", "filter[session]"),
        ("filter[project]=0", "filter[project]"),
        ("include=sessions", "include"),
    ] {
        let (status, error) = refusal(&app.reader, &format!("/v1/events?{query}"), &[]).await;
        assert_eq!(
            (status, &error["errors"][0]["source"]["parameter"]),
            (400, &json!(parameter)),
            "{query}"
        );
    }
}
