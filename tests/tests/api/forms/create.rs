//! Creating sessions: the seed as it stands, in its three content types, and what is made of it.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use rollcall_tests::{Credential, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use super::multipart::Body;
use super::steps::{create, path_of, post, post_body, show};

/// The seed's form, line by line.
const SEED: [(&str, &str); 8] = [
    ("session[uuid]", "12341234-12341234-1234-1234-123412341234"),
    ("session[unit_id]", "mydevice"),
    ("session[created]", "1234567890"),
    ("session[saved]", "1234567890"),
    ("session[data][point1]", "value1"),
    ("session[data][point2]", "value2"),
    (
        "session[data][sketch1][rawData]",
        "base-64-data-goes-here==",
    ),
    ("session[data][__timezone__]", "36000"),
];

#[sqlx::test(migrations = "../migrations")]
async fn the_seeds_json_is_taken_and_shown(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let session = json!({ "session": {
        "uuid": "12341234-12341234-1234-1234-123412341234",
        "unit_id": "mydevice",
        "created": 1_234_567_890,
        "saved": 1_234_567_890,
        "data": {
            "point1": "value1",
            "point2": "value2",
            "sketch1": { "rawData": "base-64-data-goes-here" }
        }
    } });
    let created = app.admin.post(&app.sessions(), &session).await;
    insta::assert_json_snapshot!(created.json(), {
        ".result.received" => "[date]",
        ".result.received_timestamp" => "[seconds]",
        ".result.received_from" => "[key]",
    }, @r#"
    {
      "message": "success",
      "result": {
        "created": "2009-02-13 23:31:30",
        "created_timestamp": 1234567890,
        "data": {
          "point1": "value1",
          "point2": "value2",
          "sketch1": {
            "rawData": "base-64-data-goes-here"
          }
        },
        "is_deleted": false,
        "received": "[date]",
        "received_from": "[key]",
        "received_timestamp": "[seconds]",
        "saved": "2009-02-13 23:31:30",
        "saved_timestamp": 1234567890,
        "unit_id": "mydevice",
        "uuid": "12341234-12341234-1234-1234-123412341234"
      },
      "status": "success"
    }
    "#);
    let shown = show(&app, "12341234-12341234-1234-1234-123412341234").await;
    assert_eq!(shown, created.result());
}

#[sqlx::test(migrations = "../migrations")]
async fn the_seeds_form_is_taken_urlencoded_and_as_multipart_alike(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let urlencoded = app.admin.post_form(&app.sessions(), &SEED).await.result();
    assert_eq!(
        urlencoded["data"],
        json!({
            "point1": "value1",
            "point2": "value2",
            "sketch1": { "rawData": "base-64-data-goes-here==" },
            "__timezone__": "36000"
        })
    );
    assert_eq!(urlencoded["created_timestamp"], 1_234_567_890);
    assert_eq!(urlencoded["saved_timestamp"], 1_234_567_890);
    assert_eq!(urlencoded["unit_id"], "mydevice");
    // Under another name, so that it is not a repeat of the first.
    let parts = SEED.iter().fold(Body::new(), |body, (name, value)| {
        let value = value.replace("12341234-", "43214321-");
        body.text(name, &value)
    });
    let mut multipart = post_body(&app, parts).await.result();
    assert_eq!(
        multipart["uuid"],
        "43214321-43214321-1234-1234-123412341234"
    );
    for key in ["uuid", "received", "received_timestamp"] {
        multipart[key] = urlencoded[key].clone();
    }
    assert_eq!(multipart, urlencoded);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_seeds_form_is_taken_as_curl_types_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    // Brackets as they are, with what must be escaped in a form escaped.
    let body = "session[uuid]=typed&session[unit_id]=my+device%21&session[data][sketch1][rawData]=AAEC%2BA%3D%3D\
                &session%5Bdata%5D%5Bnote%5D=a%26b%3Dc%0D%0A%C3%A9&&submit=Send";
    let created = app
        .admin
        .post_raw(&app.sessions(), "application/x-www-form-urlencoded", body)
        .await
        .result();
    assert_eq!(created["unit_id"], "my device!");
    assert_eq!(
        created["data"],
        json!({ "sketch1": { "rawData": "AAEC+A==" }, "note": "a&b=c\r\né" })
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_file_by_urlencoded_form_is_a_plain_text(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let fields = [
        ("session[unit_id]", "u"),
        ("session[data][photo]", "photo.jpg"),
    ];
    let created = app.admin.post_form(&app.sessions(), &fields).await.result();
    assert_eq!(created["data"], json!({ "photo": "photo.jpg" }));
    assert!(app.s3.keys().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn created_and_saved_default_to_the_arrival(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let none = create(&app, json!({ "unit_id": "u" })).await;
    assert_eq!(none["created_timestamp"], none["received_timestamp"]);
    assert_eq!(none["saved_timestamp"], none["received_timestamp"]);
    assert_eq!(none["created"], none["received"]);
    assert_eq!(none["saved"], none["received"]);
    assert_eq!(none["data"], json!({}));
    let created = create(&app, json!({ "unit_id": "u", "created": 0 })).await;
    assert_eq!(created["created"], "1970-01-01 00:00:00");
    assert_eq!(created["saved_timestamp"], created["received_timestamp"]);
    let saved = create(&app, json!({ "unit_id": "u", "saved": "253402300799" })).await;
    assert_eq!(saved["saved"], "9999-12-31 23:59:59");
    assert_eq!(saved["saved_timestamp"], 253_402_300_799_i64);
    assert_eq!(saved["created_timestamp"], saved["received_timestamp"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_random_uuid_is_made_where_none_is_named(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut made = BTreeSet::new();
    for _ in 0..3 {
        let created = create(&app, json!({ "unit_id": "u", "data": { "a": "1" } })).await;
        let uuid = created["uuid"].as_str().expect("a text").to_owned();
        let parsed = Uuid::try_parse(&uuid).expect("a UUID");
        assert_eq!(parsed.get_version_num(), 4);
        assert_eq!(parsed.hyphenated().to_string(), uuid);
        assert_eq!(show(&app, &uuid).await, created);
        made.insert(uuid);
    }
    assert_eq!(made.len(), 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_receiver_is_the_key_that_wrote(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let created = create(&app, json!({ "unit_id": "u" })).await;
    let Credential::Basic { id, .. } = &app.admin.credential else {
        panic!("a key");
    };
    assert_eq!(created["received_from"], id.as_str());
}

#[sqlx::test(migrations = "../migrations")]
async fn scalars_that_are_no_text_are_kept_as_they_were_printed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = r#"{"session":{"uuid":"m7","unit_id":"u","data":{
        "int":1,"zeros":1.500,"minus":-0,"exponent":1E+400,"big":123456789012345678901234567890,
        "yes":true,"no":false,"nothing":null,"empty":"","text":"null",
        "escaped":"\u00e9\n\"\\\ud83d\ude00"}}}"#;
    let created = app
        .admin
        .post_raw(&app.sessions(), "application/json", body)
        .await
        .result();
    let expected = json!({
        "int": "1", "zeros": "1.500", "minus": "-0", "exponent": "1E+400",
        "big": "123456789012345678901234567890", "yes": "true", "no": "false", "nothing": "", "empty": "",
        "text": "null", "escaped": "é\n\"\\😀"
    });
    assert_eq!(created["data"], expected);
    assert_eq!(show(&app, "m7").await["data"], expected);
}

#[sqlx::test(migrations = "../migrations")]
async fn points_names_are_folded_to_lower_case(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let data = json!({ "Point1": "a", "ÄÖÜ": "b", "with space": "c", "ТОЧКА": "d", "a.b": "e" });
    let created = create(&app, json!({ "uuid": "m8", "unit_id": "u", "data": data })).await;
    let folded = json!({ "point1": "a", "äöü": "b", "with space": "c", "точка": "d", "a.b": "e" });
    assert_eq!(created["data"], folded);
    let twice = json!({ "unit_id": "u", "data": { "A": "1", "a": "2" } });
    let refused = post(&app, twice).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert!(refused.text().contains("the point a stands twice"));
}

#[sqlx::test(migrations = "../migrations")]
async fn content_types_may_carry_parameters_and_any_case(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let answer = app
            .admin
            .post_raw(
                &app.sessions(),
                content_type,
                r#"{"session":{"unit_id":"u"}}"#,
            )
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{content_type}");
    }
    let form = "application/x-www-form-urlencoded; charset=UTF-8";
    let answer = app
        .admin
        .post_raw(&app.sessions(), form, "session[unit_id]=u")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[sqlx::test(migrations = "../migrations")]
async fn keys_beside_the_session_mean_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = json!({ "project_id": 77, "session": { "unit_id": "u" }, "commit": [1, 2] });
    let created = app.admin.post(&app.sessions(), &body).await.result();
    assert_eq!(created["unit_id"], "u");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_session_shows_may_be_sent_along(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let session = json!({
        "uuid": "shown", "unit_id": "u", "created": 5, "saved": 6, "created_timestamp": 1, "saved_timestamp": 2,
        "received": "2000-01-01 00:00:00", "received_timestamp": 3, "received_from": "me", "is_deleted": false,
        "sub_project_sessions": {}
    });
    let created = create(&app, session).await;
    assert_eq!(created["created_timestamp"], 5);
    assert_eq!(created["saved_timestamp"], 6);
    assert_ne!(created["received_from"], "me");
    assert_eq!(created.get("sub_project_sessions"), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn null_is_as_good_as_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let session: Value = json!({
        "uuid": null, "unit_id": "u", "created": null, "saved": null, "data": null, "is_deleted": null
    });
    let created = create(&app, session).await;
    assert_eq!(created["created_timestamp"], created["received_timestamp"]);
    assert_eq!(created["data"], json!({}));
    let missing = post(&app, json!({ "unit_id": null })).await;
    assert_eq!(missing.error(), (400, "unit_id_missing".to_owned()));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_singular_path_is_an_alias(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let singular = app.sessions().replace("/projects/", "/project/");
    let body = json!({ "session": { "uuid": "alias", "unit_id": "u" } });
    let created = app.admin.post(&singular, &body).await.result();
    assert_eq!(
        app.reader.get(&format!("{singular}/alias")).await.result(),
        created
    );
    assert_eq!(
        app.reader
            .get(&format!("{}/", path_of(&app, "alias")))
            .await
            .result(),
        created
    );
    assert_eq!(show(&app, "alias").await, created);
}
