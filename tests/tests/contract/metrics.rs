//! Every metric that the code names is served, and no label grows with what strangers send.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use rollcall_api::work::Work;
use rollcall_tests::{Credential, TestApp, file, send};
use sqlx::PgPool;
use time::OffsetDateTime;

async fn text(app: &TestApp) -> String {
    let answer = app.anonymous().get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.text()
}

/// The name of every series served, as a query spells it; a histogram's without its suffixes.
fn served(text: &str) -> BTreeSet<String> {
    let histograms: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let name = line.split(['{', ' ']).next().expect("a name");
            let histogram = histograms.iter().find(|family| {
                name.strip_prefix(**family)
                    .is_some_and(|rest| ["_bucket", "_count", "_sum"].contains(&rest))
            });
            (*histogram.unwrap_or(&name)).to_owned()
        })
        .collect()
}

/// The values of a label over all series.
fn values(text: &str, label: &str) -> BTreeSet<String> {
    let start = format!("{label}=\"");
    text.lines()
        .filter_map(|line| line.split(start.as_str()).nth(1)?.split('"').next())
        .map(str::to_owned)
        .collect()
}

async fn touch_everything(app: &TestApp) {
    let form = reqwest::multipart::Form::new()
        .text("session[uuid]", "a-guest")
        .text("session[unit_id]", "x")
        .part("session[data][photo]", file("a.jpg", "image/jpeg", "bytes"));
    app.admin
        .post_multipart(&app.sessions(), form)
        .await
        .result();
    let photo = format!("{}/a-guest/attachments/photo", app.sessions());
    assert_eq!(app.reader.get(&photo).await.bytes, b"bytes");
    app.admin.delete(&photo).await.result();
    assert_eq!(app.anonymous().get(&app.sessions()).await.status, 401);
    let (db, shared) = (app.db.clone(), app.app());
    let work = Work {
        db: &db,
        objects: &shared.objects,
        metrics: &shared.metrics,
        orphans_before: OffsetDateTime::now_utc(),
        keep_replaced: Duration::ZERO,
    };
    work.once().await.expect("a round of work");
}

#[sqlx::test(migrations = "../migrations")]
async fn every_metric_is_served_under_its_name_and_no_other_is(pool: PgPool) {
    let app = TestApp::start(pool).await;
    touch_everything(&app).await;
    // What is counted of a scrape is in the next.
    text(&app).await;
    let text = text(&app).await;
    let names: BTreeSet<String> = app
        .app()
        .metrics
        .names()
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    assert_eq!(served(&text).difference(&names).count(), 0, "{text}");
    let missing: Vec<_> = names.difference(&served(&text)).cloned().collect();
    assert_eq!(missing, [""; 0], "never served:\n{text}");
    for name in &names {
        assert!(name.starts_with("rollcall_"), "{name}");
        let family = ["_total", "_info"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let help = format!("# HELP {family} ");
        assert!(text.contains(&help), "{name} is not described");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn routes_are_patterns_and_strangers_make_no_series(pool: PgPool) {
    let app = TestApp::start(pool).await;
    touch_everything(&app).await;
    let nobody = app.admin.with(Credential::Bearer("nobody".into()));
    let brew: Method = "BREW".parse().expect("a token");
    let ask = async |at: u32| {
        for client in [&app.admin, &nobody] {
            for path in [
                format!("/nowhere-{at}"),
                format!("/v1/nowhere-{at}"),
                format!("/api/v1/nowhere-{at}/x"),
                format!("/api/v1/projects/{at}/sessions/guest-{at}"),
                format!("/api/v1/project/x{at}/sessions"),
            ] {
                for method in [Method::GET, Method::PATCH, brew.clone()] {
                    send(client.request(method, &path)).await;
                }
            }
        }
    };
    ask(1_000_001).await;
    let before = text(&app).await.lines().count();
    for at in 1_000_002..1_000_005 {
        ask(at).await;
    }
    let text = text(&app).await;
    // The first scrape made its own series.
    let own = text
        .lines()
        .filter(|line| line.contains(r#"route="/metrics""#));
    assert_eq!(text.lines().count(), before + own.count());
    let mut allowed: BTreeSet<String> = crate::openapi::operations()
        .into_iter()
        .map(|(path, ..)| path)
        .collect();
    allowed.insert("unmatched".to_owned());
    let strange: Vec<_> = values(&text, "route")
        .difference(&allowed)
        .cloned()
        .collect();
    assert_eq!(strange, [""; 0]);
    for part in ["guest", "nowhere", "100000", "BREW", "nobody"] {
        let labels = text.lines().filter_map(|line| line.rsplit_once(' '));
        for (series, _) in labels.filter(|(series, _)| !series.starts_with('#')) {
            assert!(!series.contains(part), "{part} is in {series}");
        }
    }
}
