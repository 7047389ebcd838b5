//! `admin`: organizations, projects, keys and roles.

use rollcall_tests::program::{ended, rollcall_api, run_on};
use rollcall_tests::{Credential, TestApp, owner_url};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

const NAMES: [&str; 2] = ["organization", "project"];

/// Runs `admin` with these arguments; gives what it printed as JSON.
async fn admin(app: &TestApp, arguments: &[&str]) -> Value {
    let arguments = [&["admin", "--json"], arguments].concat();
    let printed = run_on(app.database_url(), &arguments).await.printed();
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Runs `admin` with these arguments; gives its text.
async fn words(app: &TestApp, arguments: &[&str]) -> String {
    let arguments = [&["admin"], arguments].concat();
    run_on(app.database_url(), &arguments).await.printed()
}

async fn complaint(app: &TestApp, arguments: &[&str]) -> String {
    let arguments = [&["admin"], arguments].concat();
    run_on(app.database_url(), &arguments).await.complaint()
}

const CREATE_KEY: [&str; 7] = [
    "key",
    "create",
    "--organization",
    "demo",
    "--name",
    "tablets",
    "--permission",
];

#[sqlx::test(migrations = "../migrations")]
async fn what_is_made_at_the_command_line_opens_the_api_until_it_is_revoked(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let made = admin(&app, &["organization", "create", "Acme, Inc."]).await;
    let id = made["id"].clone();
    assert_eq!(made["name"], "Acme, Inc.");
    let project = admin(
        &app,
        &[
            "project",
            "create",
            "--organization",
            "Acme, Inc.",
            "visits",
        ],
    )
    .await;
    let project = project["project_id"]
        .as_i64()
        .expect("a number")
        .to_string();
    let key = admin(
        &app,
        &[
            "key",
            "create",
            "--organization",
            "Acme, Inc.",
            "--project",
            &project,
            "--name",
            "tablets",
            "--permission",
            "sessions:read",
            "--permission",
            "sessions:write",
            "--expires-in-days",
            "1",
        ],
    )
    .await;
    let text = |name: &str| key[name].as_str().expect("a text").to_owned();
    let client = app.anonymous().with(Credential::Basic {
        id: text("id"),
        secret: text("secret"),
    });
    let sessions = format!("/api/v1/projects/{project}/sessions");
    let form = json!({ "session": { "unit_id": "x" } });
    client.post(&sessions, &form).await.result();
    assert_eq!(client.get(&app.sessions()).await.status, 404);

    let all = admin(&app, &["organization", "list"]).await;
    assert!(
        all.as_array()
            .expect("a list")
            .iter()
            .any(|one| one["id"] == id)
    );
    let keys = admin(&app, &["key", "list", "--organization", "Acme, Inc."]).await;
    assert_eq!(
        (
            &keys[0]["id"],
            &keys[0]["permissions"],
            &keys[0]["revoked_at"]
        ),
        (
            &key["id"],
            &json!(["sessions:read", "sessions:write"]),
            &Value::Null
        )
    );
    assert!(keys[0]["expires_at"].is_string());

    admin(&app, &["key", "revoke", &text("id")]).await;
    assert_eq!(
        client.get(&sessions).await.error(),
        (401, "key_revoked".into())
    );
    let keys = admin(&app, &["key", "list", "--organization", "Acme, Inc."]).await;
    assert!(keys[0]["revoked_at"].is_string());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_secret_is_shown_this_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let made = words(&app, &[&CREATE_KEY[..], &["admin"]].concat()).await;
    let secret = made
        .lines()
        .find_map(|line| line.strip_prefix("secret"))
        .expect("a secret")
        .trim();
    assert_eq!(made.matches(secret).count(), 1);
    assert!(made.contains("this once"), "{made}");
    let list = ["key", "list", "--organization", "demo"];
    for shown in [
        words(&app, &list).await,
        admin(&app, &list).await.to_string(),
    ] {
        assert!(shown.contains("tablets"));
        assert!(!shown.contains(secret), "{shown}");
        assert!(
            !shown.contains("hash") && !shown.contains("salt"),
            "{shown}"
        );
    }
    let stored: i64 = sqlx::query_scalar(
        "select count(*) from api_keys k where strpos(k::text, $1) > 0 or strpos(k::text, encode($1::bytea, 'hex')) > 0",
    )
    .bind(secret)
    .fetch_one(&app.superuser)
    .await
    .expect("a count");
    assert_eq!(stored, 0, "the secret itself is stored");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_be_made_is_refused_in_a_sentence(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let strange = app.strange_project.to_string();
    for (arguments, sentence) in [
        (
            vec!["organization", "create", "demo"],
            "there is an organization named demo already".to_owned(),
        ),
        (
            vec!["organization", "create", " "],
            "an organization needs a name".to_owned(),
        ),
        (
            vec!["project", "create", "--organization", "nobody", "x"],
            "there is no organization named nobody; `admin organization list` shows them"
                .to_owned(),
        ),
        (
            vec!["key", "list", "--organization", "nobody"],
            "there is no organization named nobody; `admin organization list` shows them"
                .to_owned(),
        ),
        (
            [&CREATE_KEY[..], &["admin", "--project", &strange]].concat(),
            format!("the organization has no project {strange}; `admin project list` shows them"),
        ),
        (
            vec!["key", "revoke", "rk_x"],
            "rk_x is not a key's id; `admin key list` shows them".to_owned(),
        ),
    ] {
        assert_eq!(complaint(&app, &arguments).await, sentence);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_that_is_not_there_cannot_be_revoked(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let Credential::Basic { id, .. } = &app.reader.credential else {
        panic!("a key")
    };
    let last = if id.ends_with('q') { 'a' } else { 'q' };
    let other = format!("{}{last}a", &id[..id.len() - 2]);
    let told = complaint(&app, &["key", "revoke", &other]).await;
    assert!(told.contains(&other) && told.contains("key list"), "{told}");
    assert_eq!(app.reader.get(&app.sessions()).await.status, 200);
}

#[sqlx::test(migrations = "../migrations")]
async fn arguments_that_make_no_sense_are_explained(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (arguments, part) in [
        (
            [&CREATE_KEY[..], &["everything"]].concat(),
            "use sessions:read, sessions:write, commands:write, events:write or admin",
        ),
        (
            [&CREATE_KEY[..], &["admin", "--project", "0"]].concat(),
            "--project",
        ),
        (
            [&CREATE_KEY[..], &["admin", "--signed"]].concat(),
            "--signed-keys-secret",
        ),
        (CREATE_KEY[..6].to_vec(), "--permission"),
    ] {
        let arguments = [&["admin"][..], &arguments].concat();
        let refused = run_on(app.database_url(), &arguments).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    for name in NAMES {
        let refused = run_on(app.database_url(), &["admin", name]).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_told_without_the_password() {
    for (url, admin, migrate) in [
        (
            "postgres://rollcall:hush-hush@127.0.0.1:1/rollcall",
            "is Postgres there",
            "Connection refused",
        ),
        (
            "mysql://rollcall:hush-hush@127.0.0.1:1/rollcall",
            "--database-url is not a postgres:// URL",
            "Connection refused",
        ),
        (
            "hush-hush",
            "--database-url is not a postgres:// URL",
            "relative URL without a base",
        ),
    ] {
        for (arguments, part) in [
            (&["admin", "organization", "list"][..], admin),
            (&["migrate"], migrate),
        ] {
            let mut command = rollcall_api(arguments);
            command
                .env("ROLLCALL_DATABASE_URL", url)
                .env("ROLLCALL_DATABASE_WAIT_MS", "500");
            let told = ended(command).await.complaint();
            assert!(!told.contains("hush-hush"), "{told}");
            assert!(told.contains(part), "{told}");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_login_that_is_made_may_serve(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let login = "rollcall_cli \"test\"";
    let owner = owner_url(&pool);
    let make = async |password: &str| {
        let mut command = rollcall_api(&["admin", "roles", "--login", login]);
        command
            .env("ROLLCALL_DATABASE_URL", &owner)
            .env("ROLLCALL_LOGIN_PASSWORD", password);
        let said = ended(command).await.printed();
        assert!(said.contains(login) && !said.contains(password), "{said}");
    };
    make("it's \\ first").await;
    make("second").await;
    let mut url = reqwest::Url::parse(app.database_url()).expect("a URL");
    url.set_username("rollcall_cli%20%22test%22")
        .expect("a name");
    url.set_password(Some("second")).expect("a password");
    let listed = run_on(url.as_str(), &["admin", "organization", "list"]).await;
    assert!(listed.printed().contains("demo"));
    let mut conn = PgConnection::connect(&owner).await.expect("the owner");
    let drop = format!("drop role \"{}\"", login.replace('"', "\"\""));
    sqlx::query(AssertSqlSafe(drop))
        .execute(&mut conn)
        .await
        .expect("the role goes");
}

#[tokio::test]
async fn a_signing_key_is_made_without_a_database() {
    let pem = ended(rollcall_api(&["admin", "jwt-key"])).await.printed();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(pem.ends_with("-----END PRIVATE KEY-----\n"));
    let other = ended(rollcall_api(&["admin", "jwt-key"])).await.printed();
    assert_ne!(pem, other);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_is_made_with_its_key_or_not_at_all(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let project = app.project.to_string();
    let create = [
        "relay",
        "create",
        "--organization",
        "demo",
        "--project",
        &project,
        "--name",
        "front desk",
    ];
    let made = admin(&app, &create).await;
    let relay = app.admin.with(Credential::Basic {
        id: made["id"].as_str().expect("an id").to_owned(),
        secret: made["secret"].as_str().expect("a secret").to_owned(),
    });
    let batch = json!({ "relay": { "version": "1.2.3", "spool": { "events": 4, "bytes": 1 } } });
    assert_eq!(relay.post("/v1/ingest", &batch).await.status, 200);
    let list = admin(&app, &["relay", "list", "--organization", "demo"]).await;
    let own = &list[0];
    assert_eq!(own["relay_id"], made["relay_id"]);
    assert_eq!(own["key_id"], made["id"]);
    assert_eq!(
        (&own["name"], &own["version"]),
        (&json!("front desk"), &json!("1.2.3"))
    );
    assert!(own["last_seen_at"].is_string());
    let list = words(&app, &["relay", "list", "--organization", "demo"]).await;
    assert!(
        list.contains("front desk") && list.contains("waiting 4"),
        "{list}"
    );
    let keys = admin(&app, &["key", "list", "--organization", "demo"]).await;
    let keys = keys.as_array().expect("keys").len();
    for (at, value, said) in [
        (7, "front desk", "a relay named front desk already"),
        (7, " ", "a relay needs a name"),
        (5, "999999", "the organization has no project 999999"),
        (3, "nobody", "there is no organization named nobody"),
    ] {
        let mut arguments = create;
        arguments[at] = value;
        let complaint = complaint(&app, &arguments).await;
        assert!(complaint.contains(said), "{complaint}");
    }
    let after = admin(&app, &["key", "list", "--organization", "demo"]).await;
    assert_eq!(
        after.as_array().map(Vec::len),
        Some(keys),
        "no key without its relay"
    );
    let mut second = create;
    second[7] = "back";
    let text = words(&app, &second).await;
    for word in [
        "relay   back (",
        "id      rk_",
        "secret  rk_",
        "shown this once",
    ] {
        assert!(text.contains(word), "{text}");
    }
    let events = [
        "key",
        "create",
        "--organization",
        "demo",
        "--name",
        "x",
        "--permission",
        "events:write",
    ];
    assert!(admin(&app, &events).await["secret"].is_string());
}
