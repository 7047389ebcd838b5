//! The disk: full, bounded, damaged.

use std::process::Command;

use rollcall_coap::Code;
use rollcall_tests::{Edge, TestApp};
use serde_json::Value;
use sqlx::PgPool;

use crate::{eventually, list, sessions};

/// Changes one guest again and again, until it is refused; answers how many of the changes were acknowledged.
async fn fill(edge: &Edge, changes: u32) -> u32 {
    let mut stand = edge.client(0).await;
    let label = "x".repeat(900);
    for size in 1..=changes {
        let body = format!(r#"{{"number":1,"partySize":{size},"label":"{label}"}}"#);
        let answer = stand
            .ask(Code::POST, "/v1/sessions", &body)
            .await
            .expect("an answer");
        if !answer.code.is_success() {
            assert_eq!(answer.code, Code::UNAVAILABLE, "{answer:?}");
            return size - 1;
        }
    }
    changes
}

async fn gaps(app: &TestApp) -> Vec<Value> {
    eventually("a gap record", async || {
        let service = app.reader.get("/v1/services/desk").await.json();
        service["data"]["attributes"]["gaps"].as_array().cloned()
    })
    .await
}

#[sqlx::test(migrations = "../migrations")]
async fn a_full_spool_drops_the_oldest_and_says_exactly_what(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.set("[spool]\nmax_mib = 1");
    edge.start(None).await;
    let acknowledged = fill(&edge, 1_500).await;
    assert_eq!(
        acknowledged, 1_500,
        "a full spool is no reason to refuse a guest"
    );
    let bytes = edge.status().await["bytes"].as_u64().unwrap();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
    edge.stop();
    edge.start(Some(&app.url)).await;
    edge.drained().await;
    let session = sessions(&app, "desk").await.remove(0);
    assert_eq!(
        session["attributes"]["party_size"], 1_500,
        "the newest stays"
    );
    let gaps = gaps(&app).await;
    let missing: u64 = gaps.iter().filter_map(|gap| gap["events"].as_u64()).sum();
    let arrived = list(&app.reader, "/v1/events?filter[service]=desk")
        .await
        .len() as u64;
    assert_eq!(missing + arrived, 1_500, "{gaps:?}");
    assert!(missing > 0 && gaps[0]["since"].is_string() && gaps[0]["until"].is_string());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_full_disk_refuses_and_undoes_and_goes_on_when_there_is_room(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    // A file that may not grow beyond 1 MiB is a disk that is full at 1 MiB.
    let run = edge.command("run", None);
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(r#"trap '' XFSZ; ulimit -f 2048; exec "$0" "$@""#);
    limited.arg(run.get_program()).args(run.get_args());
    edge.start_as(limited).await;
    let acknowledged = fill(&edge, 5_000).await;
    assert!((10..5_000).contains(&acknowledged), "{acknowledged}");
    let mut stand = edge.client(0).await;
    let shown = stand.get("/v1/sessions?number=1").await.json();
    assert_eq!(
        shown["sessions"][0]["partySize"], acknowledged,
        "what was not written is not shown"
    );
    assert!(edge.log().contains("nothing was changed"), "{}", edge.log());
    edge.kill();
    edge.start(Some(&app.url)).await;
    let shown = stand.get("/v1/sessions?number=1").await.json();
    assert_eq!(shown["sessions"][0]["partySize"], acknowledged);
    stand
        .put("/v1/sessions?number=1", r#"{"action":"page"}"#)
        .await;
    edge.drained().await;
    let session = sessions(&app, "desk").await.remove(0);
    assert_eq!(
        session["attributes"]["revision"],
        acknowledged + 1,
        "all that was acknowledged, once"
    );
    assert_eq!(session["attributes"]["state"], "paged");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_damaged_spool_is_refused_and_recovered_knowingly(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut edge = Edge::of(&app, &["desk"]).await;
    edge.start(None).await;
    fill(&edge, 300).await;
    // A clean end folds the log into the file.
    edge.stop();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(edge.spool())
        .unwrap();
    file.set_len(file.metadata().unwrap().len() * 2 / 3)
        .unwrap();
    drop(file);
    let refused = edge.command("run", None).output().unwrap();
    assert!(!refused.status.success());
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(
        complaint.contains("is damaged") && complaint.contains("recover"),
        "{complaint}"
    );
    let recovered = edge.command("recover", None).output().unwrap();
    assert!(recovered.status.success(), "{recovered:?}");
    let said = String::from_utf8(recovered.stdout).unwrap();
    assert!(said.contains("spool.damaged-"), "{said}");
    edge.start(Some(&app.url)).await;
    edge.drained().await;
    let gaps = gaps(&app).await;
    assert!(
        gaps[0]["reason"].as_str().unwrap().contains("damaged"),
        "{gaps:?}"
    );
    assert_eq!(gaps[0]["events"], Value::Null, "nobody knows how many");
    edge.stop();
    let again = edge.command("recover", None).output().unwrap();
    assert!(!again.status.success(), "one that is whole is left alone");
}
