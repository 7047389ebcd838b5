//! Subscriptions of sessions, which FluxMQ tells one session at a time: what was told before is kept until it may be wrong.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::Result;
use rollcall_model::ingest::{ConnectionSession, Subscription};
use tokio::task::JoinSet;

use super::rows::SessionRow;
use crate::sources::http::{Http, Refused};

/// Sessions that are asked for at once.
const AT_ONCE: usize = 8;

#[derive(Debug)]
pub struct Details {
    http: Http,
    /// Pictures after which subscriptions are asked for again.
    every: u32,
    /// Sessions that are asked for in a picture.
    most: usize,
    held: HashMap<String, Held>,
}

/// What was told of one session.
#[derive(Debug)]
struct Held {
    /// Of what else was told of it then.
    digest: u64,
    /// Pictures since.
    age: u32,
    subscriptions: Vec<Subscription>,
}

/// What a session's subscriptions are known to be.
enum Answer {
    Told(Vec<Subscription>),
    /// It went, or its id cannot be asked for.
    Unknown,
}

impl Details {
    pub fn new(http: Http, every: u32, most: usize) -> Self {
        Self {
            http,
            every,
            most,
            held: HashMap::new(),
        }
    }

    /// The sessions, with their subscriptions as far as those are known.
    pub async fn complete(
        &mut self,
        rows: Vec<SessionRow>,
        node: Option<&str>,
    ) -> Result<Vec<ConnectionSession>> {
        let mut held = std::mem::take(&mut self.held);
        let told = self.ask(self.wanted(&rows, &held)).await;
        // What is known stays known though this picture failed.
        let told = match told {
            Ok(told) => told,
            Err(error) => {
                self.held = held;
                return Err(error);
            }
        };
        let mut told: HashMap<String, Answer> = told.into_iter().collect();
        let mut sessions = Vec::with_capacity(rows.len());
        for row in rows {
            let digest = digest(&row);
            let before = held.remove(&row.client_id);
            let now = match told.remove(&row.client_id) {
                Some(Answer::Told(subscriptions)) => Some(Held {
                    digest,
                    age: 0,
                    subscriptions,
                }),
                Some(Answer::Unknown) => None,
                None => before
                    .filter(|held| held.digest == digest)
                    .map(|held| Held {
                        age: held.age + 1,
                        ..held
                    }),
            };
            let mut subscriptions = now.as_ref().map(|held| held.subscriptions.clone());
            if let Some(now) = now {
                self.held.insert(row.client_id.clone(), now);
            } else if row.subscription_count == 0 {
                subscriptions = Some(Vec::new());
            }
            sessions.push(row.session(node, subscriptions));
        }
        Ok(sessions)
    }

    /// Who is to be asked for: the changed first, then those who were not asked for longest.
    fn wanted(&self, rows: &[SessionRow], held: &HashMap<String, Held>) -> Vec<String> {
        let mut wanted = Vec::new();
        for row in rows.iter().filter(|row| row.subscription_count > 0) {
            match held.get(&row.client_id) {
                Some(held) if held.digest == digest(row) && held.age + 1 < self.every => {}
                Some(held) if held.digest == digest(row) => wanted.push((held.age, row)),
                _ => wanted.push((u32::MAX, row)),
            }
        }
        wanted.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        let first = wanted.into_iter().take(self.most);
        first.map(|(_, row)| row.client_id.clone()).collect()
    }

    async fn ask(&self, ids: Vec<String>) -> Result<Vec<(String, Answer)>> {
        let mut told = Vec::with_capacity(ids.len());
        let mut asked = JoinSet::new();
        for id in ids {
            if asked.len() >= AT_ONCE
                && let Some(answer) = asked.join_next().await
            {
                told.push(answer??);
            }
            let http = self.http.clone();
            asked
                .spawn(async move { Ok::<_, anyhow::Error>((id.clone(), ask(&http, &id).await?)) });
        }
        while let Some(answer) = asked.join_next().await {
            told.push(answer??);
        }
        Ok(told)
    }
}

async fn ask(http: &Http, id: &str) -> Result<Answer> {
    let Ok(url) = http.url(&["api", "v1", "sessions", id], &[]) else {
        return Ok(Answer::Unknown);
    };
    match http.get::<SessionRow>(&url).await {
        Ok(row) if row.client_id == id => Ok(Answer::Told(row.subscriptions())),
        Ok(_) => Ok(Answer::Unknown),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == 404 => Ok(Answer::Unknown),
            _ => Err(error),
        },
    }
}

/// Of what moves only where the session does: subscriptions change with a client that does something.
fn digest(row: &SessionRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        row.connected,
        &row.connected_at,
        &row.state,
        row.subscription_count,
    )
        .hash(&mut hasher);
    hasher.finish()
}
