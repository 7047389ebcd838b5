//! What the commands print of themselves.

use rollcall_tests::program::{ended, rollcall_api};

#[tokio::test]
async fn every_command_explains_itself() {
    for (arguments, part) in [
        (&["--help"][..], "serve"),
        (&["serve", "--help"], "ROLLCALL_DATABASE_URL"),
        (&["work", "--help"], "ROLLCALL_KEEP_REPLACED_SECONDS"),
        (&["migrate", "--help"], "schema's owner"),
        (&["openapi", "--help"], "OpenAPI"),
        (&["admin", "--help"], "organization"),
        (&["admin", "roles", "--help"], "ROLLCALL_LOGIN_PASSWORD"),
        (&["admin", "jwt-key", "--help"], "PKCS#8"),
        (&["admin", "organization", "create", "--help"], "<NAME>"),
        (&["admin", "project", "create", "--help"], "--organization"),
        (
            &["admin", "key", "create", "--help"],
            "sessions:read, sessions:write, commands:write, events:write, admin",
        ),
        (&["admin", "key", "revoke", "--help"], "<ID>"),
        (
            &["admin", "relay", "create", "--help"],
            "relay create --organization demo --project 1 --name front-desk",
        ),
        (
            &["admin", "relay", "list", "--help"],
            "relay list --organization demo",
        ),
    ] {
        let printed = ended(rollcall_api(arguments)).await.printed();
        assert!(printed.contains(part), "{arguments:?}: {printed}");
    }
    let version = ended(rollcall_api(&["--version"])).await.printed();
    assert_eq!(
        version,
        format!("rollcall-api {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn help_never_shows_a_secret_of_the_environment() {
    for arguments in [
        &["serve", "--help"][..],
        &["work", "--help"],
        &["migrate", "--help"],
        &["admin", "roles", "--help"],
        &["admin", "key", "create", "--help"],
    ] {
        let mut command = rollcall_api(arguments);
        for name in [
            "ROLLCALL_DATABASE_URL",
            "ROLLCALL_SIGNED_KEYS_SECRET",
            "ROLLCALL_LOGIN_PASSWORD",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ] {
            command.env(name, "hush-hush");
        }
        let printed = ended(command).await.printed();
        assert!(!printed.contains("hush-hush"), "{printed}");
    }
}

#[tokio::test]
async fn the_document_is_printed_as_it_is_committed() {
    let printed = ended(rollcall_api(&["openapi"])).await.printed();
    assert!(printed == rollcall_api::openapi::json().expect("a document"));
}

#[tokio::test]
async fn a_command_that_is_none_is_refused() {
    for arguments in [&[][..], &["sreve"], &["serve", "--no-such-flag"]] {
        let refused = ended(rollcall_api(arguments)).await;
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("Usage"), "{}", refused.stderr);
    }
}
