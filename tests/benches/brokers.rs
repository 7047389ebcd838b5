//! 100,000 sessions on a broker as broker tools read them: the first page and the last, against the same rows by pgbench; and
//! all of them in one answer, with the memory that it takes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::system::{Figures, System};

const ROWS: usize = 100_000;
const PAGE: usize = 100;
/// Times that each page is read, in turn.
const ROUNDS: usize = 500;
/// Clients that read everything at once.
const READERS: usize = 8;

pub async fn run(system: &System, seconds: u64) -> anyhow::Result<()> {
    fill(system)?;
    let list = format!("{}/api/v1/sessions", system.url);
    let (long, last) = (
        format!("{list}?limit={}", ROWS - PAGE),
        format!("{list}?limit={PAGE}"),
    );
    let page: Value = system.get(&long).send().await?.json().await?;
    let token = page["next_page_token"].as_str().context("a token")?;
    let pages = [last.clone(), format!("{last}&page_token={token}")];
    println!(
        "{ROWS} sessions on a broker; pages of {PAGE}, one connection, against pgbench reading the same rows\n"
    );
    println!("              ------ reading -------   ------- select -------");
    println!("                p50 ms     p99 ms       p50 ms     p99 ms   reading/select");
    let mut latencies = [Vec::new(), Vec::new()];
    let started = Instant::now();
    for _ in 0..ROUNDS {
        for (at, url) in pages.iter().enumerate() {
            let sent = Instant::now();
            let answer = system.get(url).send().await?;
            ensure!(answer.status().is_success(), "{}", answer.text().await?);
            ensure!(answer.bytes().await?.len() > 10_000, "a whole page");
            latencies[at].push(sent.elapsed());
        }
    }
    let elapsed = started.elapsed();
    let [first, deep] = latencies;
    let mut medians = Vec::new();
    for (name, latencies, after) in [
        ("first page", first, ""),
        ("last page", deep, "client-099900"),
    ] {
        let read = Figures::of(latencies, elapsed)?;
        let select = system.pgbench(&name.replace(' ', "-"), &script(after), 1, seconds)?;
        println!(
            "{name:>11} {:>10.2} {:>10.2}   {:>10.2} {:>10.2} {:>16.2}",
            read.p50_ms,
            read.p99_ms,
            select.p50_ms,
            select.p99_ms,
            read.p50_ms / select.p50_ms
        );
        medians.push(read.p50_ms);
    }
    println!(
        "last page / first page: {:.2} (goal: at most 1.2)",
        medians[1] / medians[0]
    );
    narrowed(system, &last).await?;
    whole(system, "sessions", &format!("{list}?limit=0")).await?;
    let subscriptions = format!("{}/api/v1/subscriptions", system.url);
    whole(system, "subscriptions", &subscriptions).await?;
    let clients = format!("{subscriptions}/all/clients");
    whole(system, "clients of one filter", &clients).await
}

/// The page's rows as bare SQL.
fn script(after: &str) -> String {
    format!(
        "select distinct on (client_id collate \"C\") client_id, kind, label, connected, facts from sessions \
         where org_id = (select org_id from organizations where name = 'demo') and client_id is not null and active \
         and kind in ('mqtt', 'amqp') and client_id collate \"C\" > '{after}' \
         order by client_id collate \"C\", connected desc, created_at desc, id limit {};\n",
        PAGE + 1
    )
}

/// Rows by `insert .. select`, as Postgres's owner: every tenth client is away, and each has a filter of its own and one that
/// all have.
fn fill(system: &System) -> anyhow::Result<()> {
    let project = &system.ready["project_id"];
    for sql in [
        format!(
            "insert into services (org_id, name, project_id, kind, watch)
             select org_id, 'bench-broker', {project}, 'broker',
                    jsonb_build_object('source', 'rabbitmq', 'knows', '[]'::jsonb, 'seen', to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))
             from organizations where name = 'demo'"
        ),
        format!(
            "insert into sessions (org_id, id, project_id, service, kind, source_id, unit_id, created_at, saved_at, received_at,
                                   received_from, deleted, points, revision, state, active, footprint, facts, client_id,
                                   protocol, connected, username, remote)
             select o.org_id, gen_random_uuid(), {project}, 'bench-broker', 'mqtt', c.id, '', now(), now(), now(), 'bench', false,
                    '{{}}', 1, case when c.here then 'connected' else 'disconnected' end, true, 2048,
                    jsonb_build_object('presence', case when c.here then 'connected' else 'disconnected' end, 'client_id', c.id,
                        'protocol', 'mqtt3.1.1', 'connected_at', '2026-11-21T09:00:00Z', 'clean_start', false,
                        'expiry_seconds', 86400, 'inflight', 0, 'queue_depth', n % 7, 'spool', gen_random_uuid(), 'sequence', n,
                        'subscriptions', jsonb_build_array(jsonb_build_object('filter', 'all', 'qos', 1),
                            jsonb_build_object('filter', 'own/' || c.id, 'qos', 0))),
                    c.id, 'mqtt3.1.1', c.here, 'guest', '10.0.0.7'
             from organizations o, generate_series(1, {ROWS}) n,
                  lateral (values ('client-' || lpad(n::text, 6, '0'), n % 10 <> 0)) c (id, here) where o.name = 'demo'"
        ),
        "insert into subscriptions (org_id, session_id, filter, project_id, service, client_id, qos, connected)
         select org_id, id, f, project_id, service, client_id, 1, connected
         from sessions, lateral (values ('all'), ('own/' || client_id)) of (f) where service = 'bench-broker'"
            .to_owned(),
        "vacuum analyze sessions".to_owned(),
        "vacuum analyze subscriptions".to_owned(),
    ] {
        system.sql(&sql)?;
    }
    Ok(())
}

/// Pages of those who are away, and of the filters.
async fn narrowed(system: &System, page: &str) -> anyhow::Result<()> {
    let urls = [
        ("disconnected", format!("{page}&state=disconnected")),
        ("filters", page.replace("/sessions?", "/subscriptions?")),
        ("counts", page.replace("/sessions?", "/overview?")),
    ];
    for (name, url) in urls {
        let (mut latencies, started) = (Vec::new(), Instant::now());
        for _ in 0..ROUNDS / 5 {
            let sent = Instant::now();
            let answer = system.get(&url).send().await?;
            ensure!(answer.status().is_success(), "{}", answer.text().await?);
            answer.bytes().await?;
            latencies.push(sent.elapsed());
        }
        let read = Figures::of(latencies, started.elapsed())?;
        println!(
            "{name:>12}: p50 {:.2} ms, p99 {:.2} ms",
            read.p50_ms, read.p99_ms
        );
    }
    Ok(())
}

/// A list without a limit: alone, then by several clients at once.
async fn whole(system: &System, name: &str, url: &str) -> anyhow::Result<()> {
    let before = system.memory("VmRSS:")?;
    let (first, total, bytes) = read(system, url).await?;
    let after_one = system.memory("VmHWM:")?;
    let together = Instant::now();
    futures_util::future::try_join_all((0..READERS).map(|_| read(system, url))).await?;
    println!(
        "\nall {name}, {:.1} MB: first byte after {:.1} ms, all after {:.2} s; {READERS} clients at once {:.2} s\n\
         the api's memory before {before:.1} MiB, at its peak {after_one:.1} MiB, with {READERS} clients {:.1} MiB",
        bytes as f64 / 1e6,
        first.as_secs_f64() * 1_000.0,
        total.as_secs_f64(),
        together.elapsed().as_secs_f64(),
        system.memory("VmHWM:")?
    );
    Ok(())
}

/// Reads an answer to its end: when its first byte came, when its last, and how many there were.
async fn read(system: &System, url: &str) -> anyhow::Result<(Duration, Duration, usize)> {
    let sent = Instant::now();
    let mut answer = system.get(url).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    let (mut first, mut bytes, mut tail) = (None, 0, Vec::new());
    while let Some(chunk) = answer.chunk().await? {
        first.get_or_insert(sent.elapsed());
        bytes += chunk.len();
        tail.extend_from_slice(&chunk[chunk.len().saturating_sub(2)..]);
    }
    ensure!(tail.ends_with(b"]}"), "the list is whole");
    Ok((first.context("a body")?, sent.elapsed(), bytes))
}
