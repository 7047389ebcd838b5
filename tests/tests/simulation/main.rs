//! A box, a relay and the cloud on simulated time, over a network that loses, doubles and reorders, through reboots, kills and days
//! of silence: afterwards the cloud has what the box did, nothing twice, and nothing is missing that no gap record names.
//!
//! The box's transmitter, the CoAP endpoints, the relay's mirrors, its spool (SQLite, without waiting for the disk), its lanes and
//! the api with its Postgres are the real ones; simulated are the clock, the network, and who fails when. A seed decides all of it.

mod check;
mod cloud;
mod device;
mod edge;
mod network;
mod plan;
mod seeds;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rollcall_tests::TestApp;
use sqlx::PgPool;

use crate::check::Summary;
use crate::cloud::Cloud;
use crate::world::World;

/// How many seeds `make test` runs.
const SEEDS: u64 = 1_000;

#[sqlx::test(migrations = "../migrations")]
async fn afterwards_the_cloud_has_what_the_box_did(pool: PgPool) {
    let app = Arc::new(TestApp::start(pool).await);
    let (first, count) = seeds::asked(SEEDS);
    let next = Arc::new(AtomicU64::new(first));
    let failed: Arc<Mutex<Vec<String>>> = Arc::default();
    let total: Arc<Mutex<Summary>> = Arc::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut workers = Vec::new();
    for _ in 0..threads {
        let (app, next, failed, total) = (app.clone(), next.clone(), failed.clone(), total.clone());
        workers.push(tokio::task::spawn_blocking(move || {
            let cloud = Cloud::connect(&app);
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let is_over = !failed.lock().expect("no panic holds it").is_empty();
                if seed >= first + count || is_over {
                    return;
                }
                match catch_unwind(AssertUnwindSafe(|| World::live(seed, &cloud, count == 1))) {
                    Ok(summary) => total.lock().expect("no panic holds it").add(&summary),
                    Err(panic) => failed
                        .lock()
                        .expect("no panic holds it")
                        .push(seeds::failure(seed, &*panic)),
                }
            }
        }));
    }
    for worker in workers {
        worker.await.expect("its panics are caught");
    }
    let failed = failed.lock().expect("no panic holds it");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let total = total.lock().expect("no panic holds it");
    println!("{count} seeds from {first}: {total:?}");
    if count >= SEEDS {
        total.is_worth_its_while();
    }
}
