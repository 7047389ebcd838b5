use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use rollcall_model::ingest::{
    ConnectionFacts, ConnectionKind, ConnectionSession, Happening, IngestEvent, Presence,
};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::sources::SeenService;
use crate::sources::state::About;
use crate::spool::{Delivery, Fate, Lane, Writer, path_in, recover};

/// A relay's spool and one poller that is handed its pictures.
struct Bench {
    folder: TempDir,
    max_bytes: u64,
}

struct Running {
    feed: mpsc::Sender<Result<Snapshot>>,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
    writer: JoinHandle<()>,
}

impl Bench {
    fn new(max_bytes: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            max_bytes,
        }
    }

    fn start(&self) -> Running {
        let path = path_in(self.folder.path());
        let spool = Spool::open(&path, self.max_bytes, 1).unwrap();
        let known = spool.watched().unwrap();
        let queue = Arc::new(Queue::open(&path).unwrap());
        let about = About {
            name: "bus".to_owned(),
            what: "rabbitmq",
            address: String::new(),
            knows: &["user"],
            is_broker: false,
        };
        let (jobs, work) = sync_channel(64);
        let shared = Shared {
            watching: Arc::new(Watching::new(vec![about], vec!["desk".to_owned()], &known)),
            queue: queue.clone(),
            jobs,
            news: Arc::default(),
            metrics: Arc::default(),
            every: time::Duration::seconds(30),
        };
        let (feed, pictures) = mpsc::channel(1);
        let poller = Poller {
            place: 0,
            name: "bus".to_owned(),
            source: Source::Feed(pictures),
            poll_every: Duration::from_millis(1),
            timeout: Duration::from_secs(3_600),
            services: Services::restore(&spool, "bus", &known).unwrap(),
            shared: shared.clone(),
        };
        let writer = Writer {
            spool,
            path,
            hosts: Vec::new(),
            boxes: Default::default(),
            reports: Default::default(),
            queue,
            jobs: work,
            clock: Clock::start(),
            max_bytes: self.max_bytes,
            is_disk_low: false,
            min_free_bytes: 0,
            news: shared.news.clone(),
            metrics: shared.metrics.clone(),
        };
        Running {
            feed,
            shared,
            task: tokio::spawn(poller.run()),
            writer: std::thread::spawn(|| writer.run()),
        }
    }

    fn open(&self) -> Connection {
        Connection::open(path_in(self.folder.path())).unwrap()
    }
}

impl Running {
    /// Hands a picture in, and waits until it is told.
    async fn show(&self, picture: Result<Snapshot>) {
        self.asked(1).await;
        let before = self.polls();
        self.feed.send(picture).await.unwrap();
        self.asked(before + 1).await;
    }

    fn polls(&self) -> u64 {
        let source = "bus".to_owned();
        let polls = &self.shared.metrics.sources.polls_total;
        polls.get_or_create(&SourceLabels { source }).get()
    }

    /// Waits until so many pictures were asked for: then all before are told.
    async fn asked(&self, polls: u64) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.polls() < polls {
            assert!(Instant::now() < until, "the source is not asked again");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Takes every event that waits, as the cloud does.
    async fn deliver(&self) -> Vec<(String, String, Option<Presence>)> {
        let mut told = Vec::new();
        loop {
            let mut batch = self.shared.queue.take(Lane::Live, 10_000).unwrap();
            if batch.events.is_empty() {
                batch = self.shared.queue.take(Lane::Backlog, 10_000).unwrap();
            }
            if batch.events.is_empty() {
                return told;
            }
            let fates = batch.events.iter();
            let fates = fates.map(|event| (event.position, Fate::Delivered));
            let (done, is_done) = oneshot::channel();
            let delivery = Delivery {
                fates: fates.collect(),
                at: OffsetDateTime::now_utc(),
                done,
            };
            self.shared.jobs.send(Job::Delivered(delivery)).unwrap();
            is_done.await.unwrap();
            told.extend(batch.events.iter().map(|event| read(&event.body)));
            self.shared.queue.release(&batch);
        }
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
        self.shared.jobs.send(Job::Stop).unwrap();
        self.writer.join().unwrap();
    }
}

/// The type of an event, its session, and the presence after it.
fn read(body: &str) -> (String, String, Option<Presence>) {
    let event: IngestEvent = serde_json::from_str(body).unwrap();
    let word = match &event.what {
        Happening::Connected { .. } => "connected",
        Happening::Disconnected { .. } => "disconnected",
        Happening::Updated { .. } => "updated",
        Happening::Removed { .. } => "removed",
        Happening::Gap { .. } => "gap",
        _ => "other",
    };
    let session = crate::sources::diff::session(&event.what);
    let id = session.map(|session| session.source_id.clone());
    (
        word.to_owned(),
        id.unwrap_or_default(),
        session.map(|session| session.facts.presence),
    )
}

fn client(id: &str) -> ConnectionSession {
    ConnectionSession {
        source_id: id.to_owned(),
        kind: ConnectionKind::Proxy,
        label: None,
        user: None,
        remote: None,
        facts: ConnectionFacts::default(),
    }
}

fn picture(service: &str, ids: &[&str]) -> Result<Snapshot> {
    Ok(Snapshot {
        services: vec![SeenService {
            name: service.to_owned(),
            kind: ServiceKind::Proxy,
            state: None,
            broker: None,
            connections: ids.iter().map(|id| client(id)).collect(),
        }],
        ..Snapshot::default()
    })
}

fn words(told: &[(String, String, Option<Presence>)]) -> Vec<String> {
    let words = told.iter().map(|(word, id, _)| format!("{word} {id}"));
    words.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_told_also_after_a_restart() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    running.show(picture("rw", &["a", "b"])).await;
    assert_eq!(
        words(&running.deliver().await),
        ["connected a", "connected b"]
    );
    running.show(picture("rw", &["a", "b"])).await;
    assert!(running.deliver().await.is_empty());
    running.stop().await;
    let running = bench.start();
    running.show(picture("rw", &["b", "c"])).await;
    assert_eq!(
        words(&running.deliver().await),
        ["disconnected a", "connected c"]
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_seen_is_not_gone() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    running.show(picture("rw", &["a"])).await;
    running.deliver().await;
    running
        .show(Err(anyhow::anyhow!("connection refused")))
        .await;
    assert!(running.deliver().await.is_empty());
    let (report, revision) = running.shared.watching.reports(|_, _| true).remove(0);
    let watch = report.watch.unwrap();
    assert!(watch.unreachable_since.is_some() && watch.seen.is_some());
    assert_eq!(report.kind, "proxy");
    running.show(picture("rw", &["a", "b"])).await;
    assert_eq!(words(&running.deliver().await), ["connected b"]);
    assert!(running.shared.watching.any(|_, now| now != revision));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_service_that_vanishes_are_gone_and_come_again_with_it() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    running.show(picture("rw", &["a"])).await;
    running.show(picture("ro", &["a"])).await;
    running.show(picture("rw", &["a"])).await;
    let told = running.deliver().await;
    let mut told = words(&told);
    told.sort_unstable();
    let all = [
        "connected a",
        "connected a",
        "connected a",
        "disconnected a",
        "disconnected a",
    ];
    assert_eq!(told, all);
    let reports = running.shared.watching.reports(|name, _| name == "ro");
    let trouble = reports[0].0.watch.as_ref().unwrap().trouble.as_deref();
    assert!(trouble.unwrap().contains("no longer"), "{trouble:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_with_another_ones_service_is_not_told() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    running.show(picture("desk", &["a"])).await;
    assert!(running.deliver().await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_spool_cannot_take_is_told_once_it_can() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    let away = "alter table watched_sessions rename to away";
    bench.open().execute_batch(away).unwrap();
    running.asked(1).await;
    running.feed.send(picture("rw", &["a"])).await.unwrap();
    while running.shared.metrics.spool_write_failures_total.get() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(running.deliver().await.is_empty());
    let back = "alter table away rename to watched_sessions";
    bench.open().execute_batch(back).unwrap();
    running.asked(2).await;
    assert_eq!(words(&running.deliver().await), ["connected a"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_spool_dropped_is_told_again_once_there_is_room() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    running.show(picture("rw", &["left", "stays"])).await;
    assert_eq!(running.deliver().await.len(), 2);
    // The cloud is away, and these are told in vain.
    running.show(picture("rw", &["stays", "came"])).await;
    let many: Vec<String> = (0..6_000).map(|n| format!("many {n}")).collect();
    let mut ids: Vec<&str> = many.iter().map(String::as_str).collect();
    ids.extend(["stays", "came"]);
    running.show(picture("rw", &ids)).await;
    running.show(picture("rw", &ids)).await;
    let told = words(&running.deliver().await);
    assert_eq!(told[0], "gap ");
    assert!(!told.contains(&"disconnected left".to_owned()));
    assert!(!told.contains(&"connected came".to_owned()));
    assert!(told.contains(&"connected many 5999".to_owned()));
    // There is room again, for a part at a time.
    ids.retain(|id| *id != "many 1");
    let mut told = Vec::new();
    loop {
        running.show(picture("rw", &ids)).await;
        let more = running.deliver().await;
        if more.is_empty() {
            break;
        }
        told.extend(more);
    }
    let said = words(&told);
    let times = |what: &str| said.iter().filter(|said| *said == what).count();
    assert_eq!(times("gap "), 0, "telling again drops nothing");
    assert_eq!(times("disconnected left"), 1);
    assert_eq!(times("disconnected many 1"), 1);
    for id in &ids {
        assert_eq!(times(&format!("updated {id}")), 1, "{id}");
    }
    assert_eq!(said.len(), 2 + ids.len());
    let left = told.iter().find(|(_, id, _)| id == "left").unwrap();
    assert_eq!(left.2, Some(Presence::Gone));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovered_spool_tells_everything_again_and_nobody_connects_twice() {
    let bench = Bench::new(1 << 20);
    let running = bench.start();
    running.show(picture("rw", &["a"])).await;
    assert_eq!(running.deliver().await.len(), 1);
    running.stop().await;
    let path = path_in(bench.folder.path());
    let connection = bench.open();
    // Lost without a trace, as far as sessions go; and a file that is refused.
    connection.execute_batch("delete from watched_sessions; pragma application_id = 0; pragma wal_checkpoint(truncate)").unwrap();
    drop(connection);
    assert!(Spool::open(&path, 1 << 20, 1).is_err());
    recover(bench.folder.path(), 1 << 20, &[], &[]).unwrap();
    let running = bench.start();
    running.show(picture("rw", &["a"])).await;
    let told = words(&running.deliver().await);
    assert_eq!(told, ["gap ", "updated a"]);
    running.show(picture("rw", &["a", "b"])).await;
    assert_eq!(words(&running.deliver().await), ["connected b"]);
    running.stop().await;
}

#[tokio::test]
async fn a_session_that_can_never_be_stored_holds_up_nobody_else() {
    let bench = Bench::new(64 << 20);
    let running = bench.start();
    let refuse =
        "create trigger refuse before insert on watched_sessions when new.source_id = 'bad'
                  begin select raise(abort, 'never'); end";
    bench.open().execute_batch(refuse).unwrap();
    running.show(picture("pool", &["a", "bad", "c"])).await;
    assert_eq!(
        words(&running.deliver().await),
        ["connected a", "connected c"]
    );
    running.show(picture("pool", &["a", "bad"])).await;
    assert_eq!(words(&running.deliver().await), ["disconnected c"]);
    running.stop().await;
}
