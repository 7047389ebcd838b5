//! The cloud: the real api, asked over HTTP, which is away when the simulation says so; and what it stores, read past row-level
//! security.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use rollcall_api::admin;
use rollcall_model::Pager;
use rollcall_relay::forward::{Answer, Body, Forwarder};
use rollcall_tests::TestApp;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// One thread's way to the cloud.
pub struct Cloud {
    app: Arc<TestApp>,
    runtime: Runtime,
    pub http: reqwest::Client,
    superuser: RefCell<PgConnection>,
}

/// A relay's account.
pub struct Account {
    pub url: String,
    pub id: String,
    pub secret: String,
}

/// A session as the cloud has it.
#[derive(sqlx::FromRow)]
pub struct Stored {
    pub id: Uuid,
    pub source_id: String,
    pub label: Option<String>,
    pub active: bool,
    pub revision: i64,
    pub facts: Json<Pager>,
}

/// A gap record.
#[derive(sqlx::FromRow, Debug)]
pub struct Gap {
    pub events: Option<i64>,
    #[expect(dead_code, reason = "shown where a check fails")]
    pub since: Option<OffsetDateTime>,
    pub reason: String,
}

/// All that the cloud has of a service.
pub struct Known {
    pub sessions: Vec<Stored>,
    /// Of each session, the types of its events in their order.
    pub events: Vec<(Uuid, String)>,
    pub gaps: Vec<Gap>,
}

impl Cloud {
    pub fn connect(app: &Arc<TestApp>) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let options = app.superuser.connect_options();
        let superuser = runtime.block_on(PgConnection::connect_with(&options));
        Self {
            app: app.clone(),
            runtime,
            http: Forwarder::client().expect("a client"),
            superuser: RefCell::new(superuser.expect("a connection")),
        }
    }

    /// A new relay.
    pub fn account(&self, name: &str) -> Account {
        let (db, org, project, name) = (
            self.app.db.clone(),
            self.app.org,
            self.app.project,
            name.to_owned(),
        );
        let made = self.app.on_its_threads(async move {
            admin::create_relay(&db, org, project, &name)
                .await
                .expect("a relay")
        });
        let (_, key) = self.runtime.block_on(made);
        Account {
            url: self.app.url.clone(),
            id: key.id,
            secret: key.secret,
        }
    }

    /// Hands a batch over; the answer, as a relay understands it.
    pub fn post(&self, account: &Account, body: &Body) -> Answer {
        // A connection that was kept may have ended meanwhile: no time passes here while the simulation thinks.
        let answer = (0..3).find_map(|_| self.try_post(account, body).ok());
        let (status, bytes) = answer.expect("the api is there");
        Answer::of(status, None, &bytes)
    }

    fn try_post(&self, account: &Account, body: &Body) -> reqwest::Result<(StatusCode, Bytes)> {
        let request = self
            .http
            .post(format!("{}/v1/ingest", account.url))
            .basic_auth(&account.id, Some(&account.secret))
            .header(CONTENT_TYPE, "application/json");
        let request = match body.is_packed {
            true => request.header(CONTENT_ENCODING, "zstd"),
            false => request,
        };
        self.runtime.block_on(async {
            let response = request.body(body.bytes.clone()).send().await?;
            let status = response.status();
            Ok((status, response.bytes().await?))
        })
    }

    /// What is stored of a service.
    pub fn known(&self, service: &str) -> Known {
        let connection = &mut *self.superuser.borrow_mut();
        self.runtime.block_on(async {
            let sessions = sqlx::query_as(
                "select id, source_id, label, active, revision, facts from sessions where service = $1",
            );
            let events = sqlx::query_as(
                "select session_id, type from events where service = $1 order by session_id, revision",
            );
            let gaps = sqlx::query_as("select events, since, reason from gaps where service = $1");
            Known {
                sessions: sessions.bind(service).fetch_all(&mut *connection).await.expect("sessions"),
                events: events.bind(service).fetch_all(&mut *connection).await.expect("events"),
                gaps: gaps.bind(service).fetch_all(&mut *connection).await.expect("gaps"),
            }
        })
    }

    /// Forgets a service's sessions: those of thousands of seeds would fill the disk.
    pub fn forget(&self, service: &str) {
        let connection = &mut *self.superuser.borrow_mut();
        self.runtime.block_on(async {
            for forget in [
                "delete from events where service = $1",
                "delete from sessions where service = $1",
            ] {
                let done = sqlx::query(forget).bind(service).execute(&mut *connection);
                done.await.expect("deleted");
            }
        });
    }
}
