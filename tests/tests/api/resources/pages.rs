//! Pages by cursor and by number.

use proptest::prelude::*;
use rollcall_tests::{Client, TestApp, for_all};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{complaint, create, document, names, path_of, with};

async fn fill(app: &TestApp, count: usize) {
    for at in 0..count {
        // Several began in the same second.
        let created = 1_600_000_000 + at / 3;
        let session = json!({ "uuid": format!("s{at:02}"), "unit_id": format!("u{}", at % 2), "created": created });
        app.admin
            .post(&app.sessions(), &json!({ "session": session }))
            .await
            .result();
    }
}

/// Every row from a page on, by `next` or by `prev`; each page's rows in order.
async fn walk(client: &Client, path: &str, link: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut path = path.to_owned();
    loop {
        let page = document(client, &path).await;
        pages.push(names(&page));
        assert!(pages.len() < 50, "it does not end");
        match &page["links"][link] {
            Value::Null => return pages,
            next => path = path_of(next),
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_show_every_row_once_forward_and_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app, 25).await;
    for sort in [
        "started",
        "-started",
        "updated",
        "-updated",
        "source_id",
        "-source_id",
        "id",
        "-id",
    ] {
        let all = names(&document(&app.reader, &format!("/v1/sessions?sort={sort}")).await);
        let forward = walk(
            &app.reader,
            &format!("/v1/sessions?sort={sort}&page[size]=4"),
            "next",
        )
        .await;
        assert_eq!(forward.concat(), all, "{sort}");
        assert!(
            forward.iter().rev().skip(1).all(|page| page.len() == 4),
            "{sort}"
        );
        // From the last page back to the first.
        let mut last = format!("/v1/sessions?sort={sort}&page[size]=4");
        while let Value::String(next) = &document(&app.reader, &last).await["links"]["next"] {
            last = path_of(&json!(next));
        }
        let back = walk(&app.reader, &last, "prev").await;
        let back: Vec<String> = back.into_iter().rev().flatten().collect();
        assert_eq!(back, all, "{sort}");
    }
    let page = document(&app.reader, "/v1/sessions?page[size]=30").await;
    assert!(
        page["links"].get("next").is_none() && page["links"].get("prev").is_none(),
        "absent, not null"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn rows_that_stay_are_neither_skipped_nor_doubled_while_others_come_and_go(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app, 12).await;
    let mut path = "/v1/sessions?sort=source_id&page[size]=3".to_owned();
    let mut seen = Vec::new();
    for round in 0.. {
        let page = document(&app.reader, &path).await;
        seen.extend(names(&page));
        // Before and behind the place: new ones, and the row that the cursor names is gone.
        for name in [format!("a{round}"), format!("z{round}")] {
            create(&app, app.project, json!({ "uuid": name, "unit_id": "x" })).await;
        }
        sqlx::query("delete from events where session ->> 'source_id' = $1")
            .bind(&seen[seen.len() - 1])
            .execute(&app.superuser)
            .await
            .expect("deleted");
        sqlx::query("delete from sessions where source_id = $1")
            .bind(&seen[seen.len() - 1])
            .execute(&app.superuser)
            .await
            .expect("deleted");
        match &page["links"]["next"] {
            Value::Null => break,
            next => path = path_of(next),
        }
    }
    let first: Vec<_> = seen
        .iter()
        .filter(|name| name.starts_with('s'))
        .cloned()
        .collect();
    let expected: Vec<String> = (0..12).map(|at| format!("s{at:02}")).collect();
    assert_eq!(first, expected);
    assert!(
        seen.iter().all(|name| !name.starts_with('a')),
        "what came before the place is not on a later page"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn links_keep_every_parameter_and_cursors_fit_nowhere_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app, 9).await;
    let parameters = [
        ("filter[unit_id]", "u0"),
        ("filter[source_id][prefix]", "s"),
        ("filter", r#"/attributes/state="saved""#),
        ("fields[sessions]", "source_id,state"),
        ("include", "services"),
        ("sort", "-source_id"),
        ("page[size]", "2"),
        ("pretty", "true"),
        ("rdns", "a&b=c d"),
    ];
    let page = document(&app.reader, &with("/v1/sessions", &parameters)).await;
    let next = document(&app.reader, &path_of(&page["links"]["next"])).await;
    for link in [
        &page["links"]["next"],
        &page["links"]["first"],
        &next["links"]["prev"],
        &next["links"]["self"],
    ] {
        let url: reqwest::Url = link.as_str().expect("a link").parse().expect("a URL");
        for (name, value) in parameters {
            let held: Vec<_> = url
                .query_pairs()
                .filter(|(own, _)| own == name)
                .map(|(_, value)| value.into_owned())
                .collect();
            assert_eq!(held, [value], "{name} in {link}");
        }
    }
    let url: reqwest::Url = page["links"]["next"]
        .as_str()
        .expect("a link")
        .parse()
        .expect("a URL");
    let cursor = url
        .query_pairs()
        .find(|(name, _)| name == "page[after]")
        .expect("a cursor")
        .1
        .into_owned();
    let refused = async |client: &Client, path: &str, changed: &[(&str, &str)]| {
        let mut all: Vec<(&str, &str)> = parameters
            .iter()
            .filter(|(name, _)| changed.iter().all(|(other, _)| other != name))
            .copied()
            .collect();
        all.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        if changed.iter().all(|(name, _)| *name != "page[after]") {
            all.push(("page[after]", &cursor));
        }
        let answer = client.get(&with(path, &all)).await;
        (answer.status == 400).then(|| complaint(&answer))
    };
    let expected = Some((
        400,
        "cursor_invalid".to_owned(),
        Some("page[after]".to_owned()),
    ));
    for changed in [
        vec![("filter[unit_id]", "u1")],
        vec![("filter[unit_id]", "")],
        vec![("filter", "")],
        vec![("sort", "source_id")],
        vec![("sort", "")],
        vec![("page[after]", &cursor[1..])],
        vec![("page[after]", "AAAAAAAAAAAAAAAA")],
    ] {
        assert_eq!(
            refused(&app.reader, "/v1/sessions", &changed).await,
            expected,
            "{changed:?}"
        );
    }
    assert_eq!(
        refused(&app.stranger, "/v1/sessions", &[]).await,
        expected,
        "another organization's"
    );
    assert_eq!(
        refused(&app.reader, "/v1/services", &[("include", "")]).await,
        expected,
        "another listing's"
    );
    // What only changes the form of the answer does not unbind it.
    assert_eq!(
        refused(
            &app.reader,
            "/v1/sessions",
            &[("page[size]", "3"), ("pretty", "")]
        )
        .await,
        None
    );
    let both = app
        .reader
        .get(&with(
            "/v1/sessions",
            &[("page[after]", &cursor), ("page[number]", "0")],
        ))
        .await;
    assert_eq!(complaint(&both).1, "page_ambiguous");
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_by_number_count_to_ten_thousand_and_end_there(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app, 7).await;
    let page = document(
        &app.reader,
        "/v1/sessions?sort=source_id&page[size]=3&page[number]=1",
    )
    .await;
    assert_eq!(names(&page), ["s03", "s04", "s05"]);
    assert_eq!(page["meta"], json!({ "total": 7 }));
    let last = document(&app.reader, &path_of(&page["links"]["last"])).await;
    assert_eq!(names(&last), ["s06"]);
    assert!(last["links"].get("next").is_none());
    assert_eq!(
        names(&document(&app.reader, &path_of(&page["links"]["prev"])).await),
        ["s00", "s01", "s02"]
    );
    let beyond = document(&app.reader, "/v1/sessions?page[size]=3&page[number]=9").await;
    assert_eq!(
        (names(&beyond).len(), &beyond["meta"]["total"]),
        (0, &json!(7))
    );
    let copies = "insert into sessions
        select (jsonb_populate_record(null::sessions, to_jsonb(s) || jsonb_build_object('id', gen_random_uuid()))).*
        from sessions s, generate_series(1, $1) where source_id = 's00'";
    for (more, total, has_more) in [(9_993, 10_000, Value::Null), (1, 10_000, json!(true))] {
        sqlx::query(copies)
            .bind(more)
            .execute(&app.superuser)
            .await
            .expect("copied");
        // The first time there is one row of that name, the second time many.
        sqlx::query("update sessions set source_id = 'copy-' || id where source_id = 's00'")
            .execute(&app.superuser)
            .await
            .expect("named");
        sqlx::query("update sessions set source_id = 's00' where id = (select id from sessions where source_id like 'copy-%' limit 1)").execute(&app.superuser).await.expect("named");
        let page = document(
            &app.reader,
            "/v1/sessions?page[size]=1000&page[number]=9&fields[sessions]=source_id",
        )
        .await;
        assert_eq!(page["data"].as_array().expect("an array").len(), 1_000);
        assert_eq!(
            (&page["meta"]["total"], &page["meta"]["has_more_than_total"]),
            (&json!(total), &has_more)
        );
        assert_eq!(page["links"].get("last").is_some(), has_more.is_null());
    }
    let deeper = app
        .reader
        .get("/v1/sessions?page[size]=1000&page[number]=10")
        .await;
    assert_eq!(
        complaint(&deeper),
        (400, "page_too_deep".into(), Some("page[number]".into()))
    );
    assert!(deeper.text().contains("page[after]"), "{}", deeper.text());
}

#[sqlx::test(migrations = "../migrations")]
async fn whatever_the_size_and_sort_pages_are_the_list(pool: PgPool) {
    let app = TestApp::start(pool).await;
    fill(&app, 17).await;
    let sorts = prop::sample::select(vec![
        "started",
        "-started",
        "updated",
        "-updated",
        "source_id",
        "-source_id",
        "id",
        "-id",
    ]);
    for_all(24, (sorts, 1..20_usize), async move |(sort, size)| {
        let all = names(&document(&app.reader, &format!("/v1/sessions?sort={sort}")).await);
        let pages = walk(
            &app.reader,
            &format!("/v1/sessions?sort={sort}&page[size]={size}"),
            "next",
        )
        .await;
        let expected: Vec<Vec<String>> = all.chunks(size).map(<[String]>::to_vec).collect();
        assert_eq!(pages, expected);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_of_large_sessions_has_fewer(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let large = "x".repeat(5 << 20);
    for name in ["a", "b", "c", "d"] {
        create(
            &app,
            app.project,
            json!({ "uuid": name, "unit_id": "x", "data": { "a": large } }),
        )
        .await;
    }
    let pages = walk(&app.reader, "/v1/sessions?sort=source_id", "next").await;
    assert_eq!(
        pages,
        [["a", "b"], ["c", "d"]],
        "a page is full by bytes too"
    );
    let back = document(
        &app.reader,
        "/v1/sessions?sort=source_id&fields[sessions]=source_id",
    )
    .await;
    assert_eq!(names(&back), ["a", "b"]);
}
