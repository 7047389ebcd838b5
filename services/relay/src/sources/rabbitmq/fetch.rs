//! Reads the broker's lists, and whether the reader may see them. Rows are folded in page by page.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rollcall_model::ingest::{BrokerNode, BrokerReport};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kept::Kept;
use super::memory::Taken;
use super::rows::{
    BINDING_COLUMNS, BindingRow, CONNECTION_COLUMNS, CONSUMER_COLUMNS, ConnectionRow, ConsumerRow,
    NodeRow, Overview, Page, QUEUE_COLUMNS, QueueRow, VhostRow, Whoami,
};
use crate::sources::http::{Http, Refused};

/// The most that the API gives (proxy contract, 3.1).
const PAGE_SIZE: usize = 500;
/// Pages of a list: 5 million rows.
const MAX_PAGES: usize = 10_000;
/// Tags that see what is others'.
const TAGS: [&str; 2] = ["monitoring", "administrator"];

#[derive(Debug)]
pub struct Reader {
    pub http: Http,
    /// All where absent.
    pub vhost: Option<String>,
    /// The MQTT plugin's.
    pub exchange: String,
}

/// What the broker says of itself.
pub struct About {
    pub version: Option<String>,
    pub broker: BrokerReport,
    pub trouble: Option<String>,
}

/// What the broker says of its clients.
pub struct Lists {
    /// Each on its own, so that it makes room as its session is made of it.
    pub connections: HashMap<String, Box<ConnectionRow>>,
    pub kept: Kept,
    pub taken: Taken,
}

/// A list that was read page by page.
struct Paged<T> {
    /// By name; a table of boxes is small while it grows.
    rows: HashMap<String, Box<T>>,
    is_whole: bool,
}

impl Reader {
    /// The broker itself; an error where the reader may not see its clients.
    pub async fn about(&self) -> Result<About> {
        let who: Whoami = self.get(&["api", "whoami"], &[]).await?;
        ensure!(
            who.tags.has(&TAGS),
            "user `{}` has no tag `monitoring`, so RabbitMQ shows it nobody else's connections: run \
             `rabbitmqctl set_user_tags {} monitoring`",
            who.name,
            who.name
        );
        let overview: Overview = self.get(&["api", "overview"], &[]).await?;
        ensure!(
            !overview.disable_stats,
            "RabbitMQ collects no statistics, so it lists no connections: take management.disable_stats out of its configuration"
        );
        let columns = [("columns", "name,running,uptime")];
        let nodes: Vec<NodeRow> = self.get(&["api", "nodes"], &columns).await?;
        Ok(about(overview, nodes))
    }

    /// Everything, in an order in which what is read later is no older: connections, queues, bindings, consumers.
    pub async fn lists(&self) -> Result<Lists> {
        let at = Instant::now();
        self.http.begin();
        let columns = [("columns", CONNECTION_COLUMNS), ("sort", "name")];
        let listed = self.paged(&["api", "connections"], &columns, |row: &ConnectionRow| {
            &row.name
        });
        let Paged {
            rows: connections,
            is_whole,
        } = listed.await?;
        let mut is_shaky = !is_whole;
        let vhosts = match &self.vhost {
            Some(vhost) => vec![vhost.clone()],
            None => self.vhosts().await?,
        };
        let mut kept = Kept::default();
        for vhost in &vhosts {
            let columns = [("columns", QUEUE_COLUMNS), ("sort", "name")];
            let path = ["api", "queues", vhost];
            let listed = self.paged(&path, &columns, |row: &QueueRow| &row.name);
            let listed = listed.await.map_err(|error| in_vhost(error, vhost))?;
            is_shaky |= !listed.is_whole;
            for row in listed.rows.values() {
                kept.add_queue(vhost, row);
            }
        }
        for vhost in &vhosts {
            let path = [
                "api",
                "exchanges",
                vhost,
                &self.exchange,
                "bindings",
                "source",
            ];
            let columns = [("columns", BINDING_COLUMNS)];
            let rows: Result<Vec<BindingRow>> = self.get(&path, &columns).await;
            let rows = rows.map_err(|error| in_vhost(error, vhost))?;
            if rows.is_empty() {
                self.find_exchange(vhost).await?;
            }
            for row in &rows {
                kept.add_binding(vhost, row);
            }
        }
        let columns = [("columns", CONSUMER_COLUMNS)];
        let rows: Vec<ConsumerRow> = self.get(&["api", "consumers"], &columns).await?;
        for row in rows {
            kept.add_consumer(row);
        }
        let taken = Taken { at, is_shaky };
        Ok(Lists {
            connections,
            kept,
            taken,
        })
    }

    async fn vhosts(&self) -> Result<Vec<String>> {
        let columns = [("columns", "name")];
        let rows: Vec<VhostRow> = self.get(&["api", "vhosts"], &columns).await?;
        Ok(rows.into_iter().map(|row| row.name).collect())
    }

    /// Of an exchange that is not there, RabbitMQ answers with no bindings.
    async fn find_exchange(&self, vhost: &str) -> Result<()> {
        let path = ["api", "exchanges", vhost, &self.exchange];
        let found = self.get::<Value>(&path, &[("columns", "name")]).await;
        found.map(drop).with_context(|| {
            let exchange = &self.exchange;
            format!("find exchange `{exchange}` in vhost `{vhost}`; `exchange` is the broker's mqtt.exchange")
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T> {
        let url = self.http.url(path, query)?;
        self.http.get(&url).await
    }

    /// A list, read again where it moved meanwhile; where it moved again, both readings together.
    async fn paged<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        name: fn(&T) -> &str,
    ) -> Result<Paged<T>> {
        let first = self.pages(path, query, name).await?;
        if first.is_whole {
            return Ok(first);
        }
        let mut second = self.pages(path, query, name).await?;
        if !second.is_whole {
            for (name, row) in first.rows {
                second.rows.entry(name).or_insert(row);
            }
        }
        Ok(second)
    }

    /// A list, read once. It is whole where every page tells of the same count, and there are so many rows.
    async fn pages<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        name: fn(&T) -> &str,
    ) -> Result<Paged<T>> {
        let mut rows = HashMap::new();
        let (mut least, mut most, mut read) = (usize::MAX, 0, 0);
        for number in 1..=MAX_PAGES {
            let page = self.page(path, query, number).await?;
            // The list became shorter than the pages before.
            let Some(page) = page else { break };
            least = least.min(page.total_count);
            most = most.max(page.total_count);
            ensure!(
                page.items.len() <= PAGE_SIZE,
                "{}: a page has more rows than were asked for",
                path.join("/")
            );
            read += page.items.len();
            let is_empty = page.items.is_empty();
            rows.extend(
                page.items
                    .into_iter()
                    .map(|row| (name(&row).to_owned(), Box::new(row))),
            );
            if number >= page.page_count || is_empty {
                break;
            }
            ensure!(
                number < MAX_PAGES,
                "{}: more than {MAX_PAGES} pages",
                path.join("/")
            );
        }
        let least = least.min(most);
        let is_whole = least == most && rows.len() == most && read == most;
        // A list in motion lacks a few. One that lacks many is no list.
        if rows.len() < least - least / 10 {
            let path = path.join("/");
            bail!(
                "{path}: the pages have {} rows, where RabbitMQ says that there are {least}",
                rows.len()
            );
        }
        Ok(Paged { rows, is_whole })
    }

    async fn page<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        number: usize,
    ) -> Result<Option<Page<T>>> {
        let (number_text, size) = (number.to_string(), PAGE_SIZE.to_string());
        let mut query = query.to_vec();
        query.extend([("page", &*number_text), ("page_size", &*size)]);
        match self.get(path, &query).await {
            Ok(page) => Ok(Some(page)),
            Err(error) if number > 1 && is_past_the_end(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_past_the_end(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.status == 400 && refused.reason.contains("out of range"))
}

/// Of a vhost that the reader may not see, RabbitMQ says 401.
fn in_vhost(error: anyhow::Error, vhost: &str) -> anyhow::Error {
    match error.downcast_ref::<Refused>().map(|refused| refused.status) {
        Some(401 | 403) => error.context(format!(
            "the user has no permission in vhost `{vhost}`, so RabbitMQ shows it none of its queues: run `rabbitmqctl \
             set_permissions -p '{vhost}' <user> '^$' '^$' '^$'`, or watch one vhost alone with `vhost`"
        )),
        Some(404) => error.context(format!("there is no vhost `{vhost}`")),
        _ => error,
    }
}

fn about(overview: Overview, nodes: Vec<NodeRow>) -> About {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let own = overview.node.as_deref();
    let own = nodes.iter().find(|node| Some(&*node.name) == own);
    let down: Vec<_> = nodes.iter().filter(|node| !node.running).collect();
    let down: Vec<_> = down.iter().map(|node| node.name.as_str()).collect();
    let churn = overview.churn_rates.unwrap_or_default();
    let messages = overview.message_stats.unwrap_or_default();
    About {
        version: overview.rabbitmq_version,
        trouble: (!down.is_empty()).then(|| {
            format!(
                "nodes that do not run: {}; who was connected there is not seen",
                down.join(", ")
            )
        }),
        broker: BrokerReport {
            uptime_seconds: own.and_then(|node| node.uptime).map(seconds),
            connections: churn.connection_created,
            disconnections: churn.connection_closed,
            messages_received: messages.publish,
            messages_sent: messages.deliver_get,
            nodes: nodes
                .iter()
                .map(|node| BrokerNode {
                    id: node.name.clone(),
                    address: None,
                    healthy: node.running,
                    leader: None,
                    uptime_seconds: node.uptime.map(seconds),
                })
                .collect(),
            ..BrokerReport::default()
        },
    }
}
