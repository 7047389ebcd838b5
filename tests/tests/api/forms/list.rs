//! Listing a project's sessions: newest save first, page by page, while rows change (M16).

use std::collections::{BTreeMap, BTreeSet};

use rollcall_tests::{Client, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::steps::{batch, create, path_of, second_project, update};

/// One page: its uuids and the next page's token.
async fn page(client: &Client, path: &str) -> (Vec<String>, Option<String>) {
    let answer = client.get(path).await;
    let uuids = answer
        .result()
        .as_array()
        .expect("a list")
        .iter()
        .map(uuid)
        .collect();
    let token = answer
        .json()
        .get("next_page_token")
        .map(|token| token.as_str().expect("a text").to_owned());
    (uuids, token)
}

fn uuid(session: &Value) -> String {
    session["uuid"].as_str().expect("a text").to_owned()
}

/// Adds `count` sessions whose saves have many ties; gives them in the order of their saves.
async fn add(app: &TestApp, count: usize) -> BTreeMap<String, i64> {
    let saves: BTreeMap<String, i64> = (0..count)
        .map(|at| {
            (
                format!("s{at:03}"),
                1_000 + i64::try_from(at * 7 % 40).expect("small"),
            )
        })
        .collect();
    let items: Vec<Value> = saves
        .iter()
        .map(|(uuid, saved)| json!({ "uuid": uuid, "unit_id": "u", "saved": saved }))
        .collect();
    batch(
        app,
        &json!({ "sessionsToAdd": { app.project.to_string(): items } }),
    )
    .await;
    saves
}

/// Every page from the first on.
async fn walk(app: &TestApp, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut token = None;
    loop {
        let after = token
            .map(|token| format!("&page_token={token}"))
            .unwrap_or_default();
        let path = format!("{}?{query}{after}", app.sessions());
        let (uuids, next) = page(&app.reader, &path).await;
        pages.push(uuids);
        match next {
            None => return pages,
            next => token = next,
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn sessions_are_listed_newest_save_first_and_whole(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let empty = app.reader.get(&app.sessions()).await;
    assert_eq!(
        empty.json(),
        json!({ "status": "success", "message": "success", "result": [] })
    );
    let mut made = Vec::new();
    for (uuid, saved) in [("mid", 20), ("new", 30), ("old", 10)] {
        made.push(
            create(
                &app,
                json!({ "uuid": uuid, "unit_id": "u", "saved": saved, "data": { "a": uuid } }),
            )
            .await,
        );
    }
    let listed = app.reader.get(&app.sessions()).await.result();
    assert_eq!(listed, json!([made[1], made[0], made[2]]));
    // An update moves a session to the front.
    update(&app, "old", json!({ "saved": 40 })).await.result();
    assert_eq!(walk(&app, "limit=10").await, [["old", "new", "mid"]]);
}

#[sqlx::test(migrations = "../migrations")]
async fn deleted_sessions_are_listed_apart(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (uuid, saved) in [("a", 1), ("b", 2), ("c", 3)] {
        create(
            &app,
            json!({ "uuid": uuid, "unit_id": "u", "saved": saved }),
        )
        .await;
    }
    app.admin.delete(&path_of(&app, "b")).await.result();
    assert_eq!(walk(&app, "").await, [["c", "a"]]);
    assert_eq!(walk(&app, "deleted=false").await, [["c", "a"]]);
    assert_eq!(walk(&app, "deleted=true").await, [["b"]]);
    let listed = app
        .reader
        .get(&format!("{}?deleted=1", app.sessions()))
        .await
        .result();
    assert_eq!(listed[0]["is_deleted"], true);
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_of_any_size_make_the_same_list(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let saves = add(&app, 250).await;
    let whole = walk(&app, "limit=1000").await.concat();
    assert_eq!(whole.iter().collect::<BTreeSet<_>>().len(), 250);
    for pair in whole.windows(2) {
        assert!(saves[&pair[0]] >= saves[&pair[1]], "{pair:?}");
    }
    for limit in [1, 7, 50, 125, 249, 250, 251, 999] {
        let pages = walk(&app, &format!("limit={limit}")).await;
        assert_eq!(pages.concat(), whole, "{limit}");
        let (last, full) = pages.split_last().expect("a page");
        assert!(full.iter().all(|page| page.len() == limit));
        assert!(
            !last.is_empty() && last.len() <= limit,
            "no empty page at the end"
        );
    }
    let by_default = walk(&app, "").await;
    assert_eq!(
        by_default.iter().map(Vec::len).collect::<Vec<_>>(),
        [100, 100, 50]
    );
    assert_eq!(by_default.concat(), whole);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_walk_misses_and_repeats_no_session_that_did_not_change(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let saves = add(&app, 250).await;
    let mut touched = BTreeSet::new();
    let (mut seen, mut token, mut round) = (Vec::new(), None::<String>, 0);
    loop {
        let after = token
            .map(|token| format!("&page_token={token}"))
            .unwrap_or_default();
        let path = format!("{}?limit=7{after}", app.sessions());
        let (uuids, next) = page(&app.reader, &path).await;
        seen.extend(uuids);
        token = next;
        if token.is_none() {
            break;
        }
        // As many rounds as there are sessions to change.
        if round < 41 {
            let known = seen.iter().rev().find_map(|uuid| saves.get(uuid));
            touched.extend(disturb(&app, round, *known.expect("one of the first")).await);
        }
        round += 1;
    }
    assert!(round > 30, "{round} pages");
    let once = |uuid: &String| seen.iter().filter(|seen| *seen == uuid).count() == 1;
    for uuid in saves.keys().chain(&seen) {
        assert!(touched.contains(uuid) || once(uuid), "{uuid}");
    }
    assert!(touched.len() < 200, "enough were left alone");
}

/// Changes the listing around a save: new sessions before it, on it and behind it, one session that moves to the front,
/// one that moves to the end, one that goes away. Names those three.
async fn disturb(app: &TestApp, round: usize, save: i64) -> [String; 3] {
    for (at, saved) in [save + 1, save, save - 1].into_iter().enumerate() {
        let session =
            json!({ "uuid": format!("new-{round}-{at}"), "unit_id": "u", "saved": saved });
        create(app, session).await;
    }
    let [forward, backward, gone] = [0, 2, 4].map(|at| format!("s{:03}", round * 6 + at));
    for (uuid, saved) in [(&forward, 9_000 + round), (&backward, 1 + round)] {
        update(app, uuid, json!({ "saved": saved })).await.result();
    }
    app.admin.delete(&path_of(app, &gone)).await.result();
    [forward, backward, gone]
}

#[sqlx::test(migrations = "../migrations")]
async fn a_limit_is_from_1_to_1000(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for bad in ["0", "1001", "-1", "ten", "1.5", "", "99999999999999999999"] {
        let answer = app
            .reader
            .get(&format!("{}?limit={bad}", app.sessions()))
            .await;
        assert_eq!(answer.error(), (400, "limit_invalid".to_owned()), "{bad}");
        assert!(answer.text().contains("from 1 to 1000"));
    }
    for good in [1, 1_000] {
        app.reader
            .get(&format!("{}?limit={good}", app.sessions()))
            .await
            .result();
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_token_is_good_for_its_own_listing_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    add(&app, 3).await;
    let second = second_project(&app).await;
    let (_, token) = page(&app.reader, &format!("{}?limit=1", app.sessions())).await;
    let token = token.expect("more");
    // Pages may be of another size, though.
    let (rest, none) = page(
        &app.reader,
        &format!("{}?limit=5&page_token={token}", app.sessions()),
    )
    .await;
    assert_eq!((rest.len(), none), (2, None));
    let mut altered = token.clone();
    altered.replace_range(0..2, "zz");
    let refused = [
        (
            &app.reader,
            format!("{}?deleted=true&page_token={token}", app.sessions()),
        ),
        (
            &app.reader,
            format!("/api/v1/projects/{second}/sessions?page_token={token}"),
        ),
        (
            &app.stranger,
            format!(
                "/api/v1/projects/{}/sessions?page_token={token}",
                app.strange_project
            ),
        ),
        (
            &app.reader,
            format!("{}/revisions?page_token={token}", path_of(&app, "s000")),
        ),
        (
            &app.reader,
            format!("{}?page_token={altered}", app.sessions()),
        ),
        (
            &app.reader,
            format!("{}?page_token={token}A", app.sessions()),
        ),
        (
            &app.reader,
            format!("{}?page_token={}", app.sessions(), &token[1..]),
        ),
        (&app.reader, format!("{}?page_token=", app.sessions())),
        (&app.reader, format!("{}?page_token=2", app.sessions())),
    ];
    for (client, path) in refused {
        assert_eq!(
            client.get(&path).await.error(),
            (400, "page_token_invalid".to_owned()),
            "{path}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_holds_its_own_project_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    create(&app, json!({ "uuid": "mine", "unit_id": "u" })).await;
    let theirs = format!("/api/v1/projects/{}/sessions", app.strange_project);
    app.stranger
        .post(
            &theirs,
            &json!({ "session": { "uuid": "theirs", "unit_id": "u" } }),
        )
        .await
        .result();
    let (uuids, _) = page(&app.stranger, &theirs).await;
    assert_eq!(uuids, ["theirs"]);
    assert_eq!(walk(&app, "").await, [["mine"]]);
    for (client, path) in [
        (&app.reader, theirs.clone()),
        (&app.stranger, app.sessions()),
    ] {
        assert_eq!(
            client.get(&path).await.error(),
            (404, "project_not_found".to_owned())
        );
    }
    let nowhere = app.reader.get("/api/v1/projects/999999/sessions").await;
    assert_eq!(nowhere.error(), (404, "project_not_found".to_owned()));
}
