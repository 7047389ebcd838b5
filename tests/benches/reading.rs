//! Lists and single sessions under 32 connections, against the same rows read by pgbench; and the first page against one
//! a million rows deep.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::system::System;

const CONNECTIONS: usize = 32;
const ROWS: u32 = 1_001_000;
const PAGE: u32 = 100;
/// Times that each of the two pages is read, in turn.
const ROUNDS: usize = 200;

pub async fn run(system: &System, seconds: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    fill(system)?;
    println!(
        "{ROWS} sessions made in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    println!(
        "\nreading over HTTP with a key under {CONNECTIONS} connections, against pgbench reading the same rows; {seconds} s each\n"
    );
    println!("              --------- reading ----------   ---------- selects ---------");
    println!(
        "                rate/s     p50 ms     p99 ms     rate/s     p50 ms     p99 ms   reading/selects"
    );
    let list = format!("{}/v1/sessions?page[size]={PAGE}", system.url);
    let one = format!("{}/v1/sessions/bench-500000", system.url);
    let columns = "id, project_id, service, kind, source_id, unit_id, created_at, saved_at, received_at, points, revision";
    let org = "(select org_id from organizations where name = 'demo')";
    for (name, url, script) in [
        (
            "list of 100",
            list.clone(),
            format!(
                "select {columns} from sessions where org_id = {org} order by created_at desc, id desc limit {PAGE};\n"
            ),
        ),
        (
            "detail",
            one,
            format!(
                "select {columns} from sessions where org_id = {org} and source_id collate \"C\" = 'bench-500000';\n"
            ),
        ),
    ] {
        let selects = system.pgbench(&name.replace(' ', "-"), &script, CONNECTIONS, seconds)?;
        let reads = system
            .hammer(CONNECTIONS, seconds, move |http| http.get(&url))
            .await?;
        println!(
            "{name:>11} {:>10.0} {:>10.2} {:>10.2} {:>10.0} {:>10.2} {:>10.2} {:>17.2}",
            reads.rate,
            reads.p50_ms,
            reads.p99_ms,
            selects.rate,
            selects.p50_ms,
            selects.p99_ms,
            reads.rate / selects.rate
        );
    }
    depth(system, &list).await
}

/// Rows by `insert .. select`, as Postgres's owner.
fn fill(system: &System) -> anyhow::Result<()> {
    let project = &system.ready["project_id"];
    let rows = format!(
        "insert into sessions (org_id, id, project_id, service, kind, source_id, unit_id, created_at, saved_at, received_at,
                               received_from, deleted, points, revision, state, active, footprint)
         select org_id, gen_random_uuid(), {project}, 'forms-{project}', 'form', 'bench-' || n, 'unit-' || n % 1000,
                now() - n * interval '1 second', now(), now() - n * interval '1 second', 'bench', false,
                jsonb_build_object('inspector', 'A. Example', 'remarks', repeat('tested ', 30)), 1, 'saved', true, 1024
         from organizations, generate_series(1, {ROWS}) n where name = 'demo'"
    );
    system.sql(&rows)?;
    system.sql("analyze sessions")
}

/// Walks a million rows down, then reads the first page and the last reached in turn.
async fn depth(system: &System, first: &str) -> anyhow::Result<()> {
    let mut next = format!(
        "{}/v1/sessions?page[size]=1000&fields[sessions]=kind",
        system.url
    );
    let started = Instant::now();
    let mut depth = 0;
    while depth < 1_000_000 {
        let answer = system
            .http
            .get(&next)
            .bearer_auth(system.secret())
            .send()
            .await?;
        ensure!(answer.status().is_success(), "{}", answer.text().await?);
        let page: Value = answer.json().await?;
        depth += page["data"].as_array().map_or(0, Vec::len);
        next = page["links"]["next"]
            .as_str()
            .context("a next page")?
            .to_owned();
    }
    let walked = started.elapsed();
    // The size of a page is not bound to its cursor, nor are its members.
    let url: reqwest::Url = next.parse()?;
    let cursor = url
        .query_pairs()
        .find(|(name, _)| name == "page[after]")
        .context("a cursor")?
        .1
        .into_owned();
    let deep = format!("{first}&page[after]={cursor}");
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (at, url) in [first, &deep].into_iter().enumerate() {
            let sent = Instant::now();
            let answer = system
                .http
                .get(url)
                .bearer_auth(system.secret())
                .send()
                .await?;
            ensure!(answer.status().is_success(), "{}", answer.text().await?);
            ensure!(answer.bytes().await?.len() > 10_000, "a whole page");
            latencies[at].push(sent.elapsed());
        }
    }
    let [first, deep] = latencies.map(median);
    println!(
        "\nfirst page of {PAGE}: {:.2} ms; the page {depth} rows deep: {:.2} ms (medians of {ROUNDS}); ratio {:.2} (goal: at most 1.2)\n\
         walked there by {} pages of 1,000 in {:.1} s",
        millis(first),
        millis(deep),
        deep.as_secs_f64() / first.as_secs_f64(),
        depth / 1_000,
        walked.as_secs_f64()
    );
    Ok(())
}

fn median(mut latencies: Vec<Duration>) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() / 2]
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
