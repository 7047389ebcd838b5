//! What listings are narrowed and sorted by.

use rollcall_tests::TestApp;
use serde_json::json;
use sqlx::PgPool;

use super::{complaint, create, document, get_with, names, with};

/// Five sessions that differ in everything; `e` is deleted, `d` is of another project.
async fn fill(app: &TestApp) -> i64 {
    let other = app.second_project().await;
    for (at, name) in ["a1", "a2", "b", "d", "e"].into_iter().enumerate() {
        let project = if name == "d" { other } else { app.project };
        let unit = format!("unit-{}", at % 2);
        // 2020-09-13T12:26:40Z and every ten seconds on.
        let created = 1_600_000_000 + at * 10;
        let data = json!({ "uuid": name, "unit_id": unit, "created": created, "saved": created });
        create(app, project, data).await;
    }
    app.admin
        .delete(&format!("{}/e", app.sessions()))
        .await
        .result();
    for (name, label, user, minute) in [
        ("a1", Some("x"), None, 5),
        ("a2", Some("y"), Some("u"), 4),
        ("b", None, Some("v"), 3),
        ("d", None, None, 2),
        ("e", None, None, 1),
    ] {
        sqlx::query(
            "update sessions set label = $2, username = $3, received_at = '2026-01-01T00:00:00Z'::timestamptz
             + make_interval(mins => $4) where source_id = $1",
        )
        .bind(name)
        .bind(label)
        .bind(user)
        .bind(minute)
        .execute(&app.superuser)
        .await
        .expect("updated");
    }
    other.get()
}

#[sqlx::test(migrations = "../migrations")]
async fn every_filter_leaves_what_it_names(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other = fill(&app).await.to_string();
    let service = format!("forms-{other}");
    for (name, value, expected) in [
        ("filter[kind]", "form", "a1 a2 b d e"),
        ("filter[kind]", "pager", ""),
        ("filter[state]", "deleted", "e"),
        ("filter[active]", "true", "a1 a2 b d"),
        ("filter[active]", "false", "e"),
        ("filter[service]", service.as_str(), "d"),
        ("filter[service]", "forms", ""),
        ("filter[project]", other.as_str(), "d"),
        ("filter[unit_id]", "unit-1", "a2 d"),
        ("filter[label]", "x", "a1"),
        ("filter[user]", "u", "a2"),
        ("filter[started][ge]", "2020-09-13T12:27:00Z", "b d e"),
        ("filter[started][lt]", "2020-09-13T14:27:00+02:00", "a1 a2"),
        ("filter[updated][ge]", "2026-01-01T00:04:00Z", "a1 a2"),
        ("filter[updated][lt]", "2026-01-01T00:02:00Z", "e"),
        ("filter[source_id][prefix]", "a", "a1 a2"),
        ("filter[source_id][prefix]", "%", ""),
        ("filter[nonsense]", "x", "a1 a2 b d e"),
    ] {
        let path = with("/v1/sessions", &[(name, value), ("sort", "source_id")]);
        let found = names(&document(&app.reader, &path).await).join(" ");
        assert_eq!(found, expected, "{name}={value}");
    }
    let both = with(
        "/v1/sessions",
        &[
            ("filter[unit_id]", "unit-0"),
            ("filter[active]", "true"),
            ("sort", "source_id"),
        ],
    );
    assert_eq!(names(&document(&app.reader, &both).await), ["a1", "b"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn every_sort_orders_both_ways(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app).await;
    for (sort, expected) in [
        ("started", "a1 a2 b d e"),
        ("updated", "e d b a2 a1"),
        ("source_id", "a1 a2 b d e"),
    ] {
        for (sort, is_down) in [(sort.to_owned(), false), (format!("-{sort}"), true)] {
            let mut expected: Vec<&str> = expected.split(' ').collect();
            if is_down {
                expected.reverse();
            }
            let found =
                names(&document(&app.reader, &with("/v1/sessions", &[("sort", &sort)])).await);
            assert_eq!(found, expected, "{sort}");
        }
    }
    let list = document(&app.reader, "/v1/sessions?sort=id").await;
    let ids: Vec<_> = list["data"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|one| one["id"].to_string())
        .collect();
    assert!(ids.is_sorted());
    let usual = names(&document(&app.reader, "/v1/sessions").await);
    assert_eq!(usual, ["e", "d", "b", "a2", "a1"], "newest first");
}

#[sqlx::test(migrations = "../migrations")]
async fn maxscales_expressions_are_understood(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app).await;
    for (filter, expected) in [
        (r#"/attributes/state="saved""#, "a1 a2 b d"),
        (r#"/attributes/state=ne("saved")"#, "e"),
        (r#"attributes/label="x""#, "a1"),
        (r#"/attributes/label=ne("x")"#, "a2"),
        (r#"/attributes/label=not(eq("x"),eq("z"))"#, "a2"),
        (r#"/attributes/label=not(null)"#, "a1 a2"),
        (r#"/attributes/source_id=and(ge("a2"),lt("d"))"#, "a2 b"),
        (r#"/attributes/source_id=or("a1",eq("e"))"#, "a1 e"),
        ("/attributes/active=true", "a1 a2 b d"),
        ("/attributes/revision=ge(2)", "e"),
        ("/attributes/revision=lt(1.5)", "a1 a2 b d"),
        ("/attributes/revision=1.0", "a1 a2 b d"),
        (r#"/attributes/revision=le("x")"#, ""),
        (r#"/attributes/started=gt("2020-09-13T12:27:00Z")"#, "d e"),
        (r#"/attributes/remote=ne("x")"#, ""),
    ] {
        let path = with("/v1/sessions", &[("filter", filter), ("sort", "source_id")]);
        assert_eq!(
            names(&document(&app.reader, &path).await).join(" "),
            expected,
            "{filter}"
        );
    }
    let id = document(&app.reader, "/v1/sessions/b").await["data"]["id"].to_string();
    for filter in [format!("id={id}"), format!("/id=and(ge({id}),le({id}))")] {
        let path = with("/v1/sessions", &[("filter", &filter)]);
        assert_eq!(
            names(&document(&app.reader, &path).await),
            ["b"],
            "{filter}"
        );
    }
    let service = format!(
        r#"/relationships/services/data/0/id="forms-{}""#,
        app.project
    );
    let path = with(
        "/v1/sessions",
        &[("filter", &service), ("sort", "source_id")],
    );
    assert_eq!(
        names(&document(&app.reader, &path).await),
        ["a1", "a2", "b", "e"]
    );
    for filter in [
        "x",
        "/attributes/points/a=1",
        "/attributes/state=saved",
        "/attributes/started=\"now\"",
        "/id=eq(1",
    ] {
        let answer = app
            .reader
            .get(&with("/v1/sessions", &[("filter", filter)]))
            .await;
        assert_eq!(
            complaint(&answer),
            (400, "filter_invalid".into(), Some("filter".into())),
            "{filter}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn wrong_values_are_refused_by_name(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (path, name, value) in [
        ("sessions", "filter[active]", "maybe"),
        ("sessions", "filter[project]", "0"),
        ("sessions", "filter[started][ge]", "yesterday"),
        ("sessions", "filter[updated][lt]", "2026-01-01"),
        ("sessions", "sort", "points"),
        ("sessions", "sort", "started,id"),
        ("sessions", "include", "points"),
        ("sessions", "page[size]", "1001"),
        ("sessions", "page[size]", "-1"),
        ("sessions", "page[number]", "+1"),
        ("sessions", "page[after]", "AAAA"),
        ("services", "filter[project]", "x"),
        ("services", "include", "projects"),
        ("projects", "page[before]", "é"),
    ] {
        let answer = app
            .reader
            .get(&with(&format!("/v1/{path}"), &[(name, value)]))
            .await;
        let (status, _, named) = complaint(&answer);
        assert_eq!(
            (status, named.as_deref()),
            (400, Some(name)),
            "{name}={value}"
        );
    }
    let twice = app
        .reader
        .get("/v1/sessions?filter[kind]=form&filter[kind]=form")
        .await;
    assert_eq!(twice.status, 400, "{}", twice.text());
    let broken = app.reader.get("/v1/sessions?filter[kind]=%ff").await;
    assert_eq!(complaint(&broken).1, "utf8_broken");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_strict_request_may_say_what_is_documented_and_nothing_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, app.project, json!({ "uuid": "a", "unit_id": "x" })).await;
    let strict = [("prefer", "handling=strict")];
    let answer = get_with(
        &app.reader,
        "/v1/sessions?page[size]=1&rdns=true&sync=false",
        &strict,
    )
    .await;
    assert_eq!(
        complaint(&answer),
        (400, "parameter_unknown".into(), Some("rdns".into()))
    );
    assert!(answer.text().contains("rdns, sync"), "{}", answer.text());
    let text = rollcall_api::openapi::json().expect("a document");
    let openapi: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut seen = 0;
    for (path, item) in openapi["paths"].as_object().expect("paths") {
        if !path.starts_with("/v1/") || path == "/v1/auth" {
            continue;
        }
        let Some(parameters) = item["get"]["parameters"].as_array() else {
            continue;
        };
        for parameter in parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
        {
            seen += 1;
            let name = parameter["name"].as_str().expect("a name");
            let filled = path
                .replace("{id}", "a")
                .replace("{service}", &format!("forms-{}", app.project))
                .replace("{project_id}", &app.project.to_string());
            let answer = get_with(&app.reader, &with(&filled, &[(name, "")]), &strict).await;
            assert!(
                !answer.text().contains("parameter_unknown"),
                "{path} {name}: {}",
                answer.text()
            );
        }
    }
    assert!(seen > 50, "{seen}");
    let answer = get_with(&app.reader, "/v1/sessions?pretty=false", &strict).await;
    assert_eq!(answer.header("preference-applied"), Some("handling=strict"));
}
