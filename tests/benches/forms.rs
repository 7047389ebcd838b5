//! Forms of 1 kB created over HTTP with a key, against bare single-row inserts; a 1 GiB upload and the api's memory.

use std::time::Instant;

use anyhow::ensure;
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::system::System;

const CONNECTIONS: [usize; 3] = [1, 32, 64];
const UPLOAD_BYTES: usize = 1 << 30;

pub async fn run(system: &System, seconds: u64) -> anyhow::Result<()> {
    println!(
        "forms of 1 kB over HTTP with a key, against bare single-row inserts of 1 kB by pgbench; {seconds} s each\n"
    );
    println!("              ----------- forms ----------   ---------- inserts ---------");
    println!(
        "connections     rate/s     p50 ms     p99 ms     rate/s     p50 ms     p99 ms   forms/inserts"
    );
    system
        .sql("create table if not exists bench_rows (id uuid primary key, data jsonb not null)")?;
    let data = form()["session"].to_string();
    let script =
        format!("insert into bench_rows values (gen_random_uuid(), '{data}') returning id;\n");
    for connections in CONNECTIONS {
        let inserts = system.pgbench("insert", &script, connections, seconds)?;
        let url = system.sessions();
        let post = move |http: &reqwest::Client| http.post(&url).json(&form());
        let forms = system.hammer(connections, seconds, post).await?;
        let ratio = forms.rate / inserts.rate;
        println!(
            "{connections:>11} {:>10.0} {:>10.2} {:>10.2} {:>10.0} {:>10.2} {:>10.2} {ratio:>15.2}",
            forms.rate, forms.p50_ms, forms.p99_ms, inserts.rate, inserts.p50_ms, inserts.p99_ms
        );
    }
    let upload = upload(system).await?;
    println!(
        "\nupload of 1 GiB to a point: {:.1} s, {:.0} MiB/s; the api's peak memory {:.1} MiB, {:.1} MiB more than before",
        upload.seconds,
        1_024.0 / upload.seconds,
        upload.peak_mib,
        upload.peak_mib - upload.before_mib
    );
    Ok(())
}

struct Upload {
    seconds: f64,
    before_mib: f64,
    peak_mib: f64,
}

/// One file of 1 GiB, streamed.
async fn upload(system: &System) -> anyhow::Result<Upload> {
    let session = json!({ "session": { "uuid": "upload", "unit_id": "bench" } });
    let created = system
        .http
        .post(system.sessions())
        .bearer_auth(system.secret())
        .json(&session)
        .send()
        .await?;
    ensure!(created.status().is_success(), "{}", created.text().await?);
    let chunk = bytes::Bytes::from(vec![0x5a_u8; 64 << 10]);
    let count = UPLOAD_BYTES / chunk.len();
    let body =
        futures_util::stream::iter(0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    let before_mib = system.memory("VmRSS:")?;
    let started = Instant::now();
    let answer = system
        .http
        .put(format!("{}/upload/attachments/file", system.sessions()))
        .bearer_auth(system.secret())
        .header("content-type", "application/octet-stream")
        .body(reqwest::Body::wrap_stream(body))
        .send()
        .await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    let seconds = started.elapsed().as_secs_f64();
    Ok(Upload {
        seconds,
        before_mib,
        peak_mib: system.memory("VmHWM:")?,
    })
}

/// A form of about 1 kB with a name of its own.
pub fn form() -> Value {
    let text =
        "The valve on the north side was replaced and tested at full pressure for ten minutes. ";
    json!({ "session": {
        "uuid": uuid::Uuid::new_v4().to_string(),
        "unit_id": "bench-device",
        "created": 1_234_567_890,
        "saved": 1_234_567_890,
        "data": {
            "inspector": "A. Example",
            "result": "passed",
            "reading": "12.75",
            "remarks": text.repeat(9),
            "__timezone__": "36000"
        }
    } })
}
