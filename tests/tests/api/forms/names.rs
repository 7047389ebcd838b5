//! Sessions' names: any text is a uuid, compared without regard to case (M5), also in paths.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::strategy::Strategy;
use reqwest::StatusCode;
use rollcall_tests::{TestApp, for_all};
use serde_json::json;
use sqlx::PgPool;

use super::steps::{count, create, path_of, post, second_project};

/// A session's path, with everything escaped.
fn escaped(app: &TestApp, uuid: &str) -> String {
    // The WHATWG's URLs resolve dots even where they are escaped.
    assert!(!matches!(uuid, "." | ".."), "no client can send this path");
    path_of(
        app,
        &utf8_percent_encode(uuid, NON_ALPHANUMERIC).to_string(),
    )
}

#[sqlx::test(migrations = "../migrations")]
async fn any_text_names_a_session_in_bodies_and_in_paths(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let names = [
        "1",
        "batch",
        "revisions",
        "a/b",
        "/a//b/",
        "../../etc/passwd",
        "100%",
        "%41",
        "%2F",
        "%252F",
        "a b",
        " a ",
        "a+b",
        "a?b=c#d",
        "a;b=c&d",
        "{a}",
        "[a]",
        "\"quoted\" 'quoted'",
        "back\\slash",
        "ключ-ё",
        "日本語",
        "😀",
        "e\u{301}",
        "null",
        "--",
    ];
    for name in names {
        let session = json!({ "uuid": name, "unit_id": "u", "data": { "name": name } });
        let created = create(&app, session).await;
        assert_eq!(created["uuid"], name);
        let path = escaped(&app, name);
        assert_eq!(app.reader.get(&path).await.result(), created, "{path}");
        let update = json!({ "session": { "data": { "updated": "yes" } } });
        let updated = app.admin.put(&path, &update).await.result();
        assert_eq!(updated["data"], json!({ "name": name, "updated": "yes" }));
        let revisions = app.reader.get(&format!("{path}/revisions")).await.result();
        assert_eq!(revisions.as_array().map(Vec::len), Some(2), "{path}");
    }
    // None was taken for another.
    assert_eq!(
        count(&app, "select count(*) from sessions").await,
        i64::try_from(names.len()).expect("few")
    );
    for name in names {
        let deleted = app.admin.delete(&escaped(&app, name)).await.result();
        assert_eq!(deleted["data"]["name"], name);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn case_does_not_tell_two_sessions_apart(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let names = [
        ("ABC", "abc"),
        ("12341234-ABCD", "12341234-abcd"),
        ("ÄÖ/Ж", "äö/ж"),
    ];
    for (upper, lower) in names {
        let created = create(&app, json!({ "uuid": upper, "unit_id": "u" })).await;
        let shown = app.reader.get(&escaped(&app, lower)).await.result();
        assert_eq!(shown, created);
        assert_eq!(shown["uuid"], upper, "shown as it was written");
        let replaced = create(&app, json!({ "uuid": lower, "unit_id": "v" })).await;
        assert_eq!(replaced["uuid"], lower, "as it was last written");
        let updated = app
            .admin
            .put(
                &escaped(&app, upper),
                &json!({ "session": { "unit_id": "w" } }),
            )
            .await;
        assert_eq!(updated.result()["uuid"], lower, "an update names nothing");
    }
    assert_eq!(count(&app, "select count(*) from sessions").await, 3);
    assert_eq!(count(&app, "select count(*) from events").await, 9);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_uuid_has_1_to_255_bytes(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let longest = "é".repeat(127) + "x";
    let created = create(&app, json!({ "uuid": longest, "unit_id": longest })).await;
    let shown = app.reader.get(&escaped(&app, &longest)).await.result();
    assert_eq!(shown, created);
    let too_long = "x".repeat(256);
    for (key, text) in [
        ("uuid", too_long.as_str()),
        ("uuid", ""),
        ("uuid", "a\nb"),
        ("unit_id", too_long.as_str()),
    ] {
        let mut session = json!({ "uuid": "u", "unit_id": "u" });
        session[key] = text.into();
        assert_eq!(
            post(&app, session).await.status,
            StatusCode::BAD_REQUEST,
            "{key}"
        );
        let field = [
            ("session[uuid]", "u"),
            ("session[unit_id]", "u"),
            ("session[saved]", "1"),
        ];
        let field = field.map(|(name, value)| {
            let is_it = name == format!("session[{key}]");
            (name, if is_it { text } else { value })
        });
        let refused = app.admin.post_form(&app.sessions(), &field).await;
        assert_eq!(refused.error(), (400, "name_invalid".to_owned()), "{key}");
    }
    assert_eq!(count(&app, "select count(*) from sessions").await, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn projects_do_not_share_names(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let other = second_project(&app).await;
    let paths = [
        (&app.admin, app.sessions()),
        (&app.admin, format!("/api/v1/projects/{other}/sessions")),
        (
            &app.stranger,
            format!("/api/v1/projects/{}/sessions", app.strange_project),
        ),
    ];
    for (client, path) in &paths {
        let body = json!({ "session": { "uuid": "same", "unit_id": path } });
        client.post(path, &body).await.result();
    }
    for (client, path) in &paths {
        let shown = client.get(&format!("{path}/same")).await.result();
        assert_eq!(shown["unit_id"], path.as_str());
    }
    let types = "select count(*) from events where type = 'created' and revision = 1";
    assert_eq!(count(&app, types).await, 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_is_found_by_whatever_name_it_was_given(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let check = async move |name: String| {
        let session = json!({ "uuid": name, "unit_id": name, "saved": 1 });
        let created = create(&app, session).await;
        let upper = name.to_uppercase();
        // Some letters have no way back from upper case.
        let swapped = if upper.to_lowercase() == name.to_lowercase() {
            upper
        } else {
            name
        };
        let shown = app.reader.get(&escaped(&app, &swapped)).await.result();
        assert_eq!(shown["unit_id"], created["unit_id"]);
    };
    for_all(
        64,
        "\\PC{1,40}".prop_filter("no dots", |name| !matches!(name.as_str(), "." | "..")),
        check,
    )
    .await;
}
