//! What brokers say of themselves, put together over all in reach: counters are summed where every one of them tells them,
//! for a sum of some would be wrong.

use actix_web::http::header::AGE;
use actix_web::{HttpRequest, HttpResponse, get, web};
use rollcall_model::ingest::BrokerReport;
use rollcall_store::TenantConn;
use rollcall_store::brokers::{self, Broker, Counts};

use super::asked::{Asked, OneBroker};
use super::reach::{self, Reach};
use super::wire::{
    BrokerStats, Cluster, ConnectionStats, ErrorStats, Node, OneProtocol, Overview,
    OverviewCluster, ProtocolStats, SessionCounts, TrafficStats,
};
use crate::App;
use crate::auth::{Allow, perm};
use crate::error::ApiError;
use crate::surfaces::forms::ProjectPath;

/// Show brokers' counters
///
/// Summed over the brokers in reach. What one of them does not tell is left out.
#[utoipa::path(
    tag = "broker",
    params(OneBroker),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "The counters.", body = BrokerStats,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/stats")]
pub async fn show_broker_stats(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let picture = Picture::take(Reach::of(allow.who), &req, &app).await?;
    Ok(picture.answer().json(picture.stats()))
}

/// Show the counters of a project's brokers
#[utoipa::path(
    tag = "broker",
    params(("project_id" = i64, Path, description = "The project's number.", example = 1), OneBroker),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "The counters.", body = BrokerStats,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/stats")]
pub async fn show_project_broker_stats(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let picture = Picture::take(Reach::of_project(allow.who, &path)?, &req, &app).await?;
    Ok(picture.answer().json(picture.stats()))
}

/// Show brokers at a glance
///
/// Sessions, counters and nodes in one answer.
#[utoipa::path(
    tag = "broker",
    params(OneBroker),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "All of it.", body = Overview,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/overview")]
pub async fn show_broker_overview(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let picture = Picture::take(Reach::of(allow.who), &req, &app).await?;
    Ok(picture.answer().json(picture.overview()))
}

/// Show a project's brokers at a glance
#[utoipa::path(
    tag = "broker",
    params(("project_id" = i64, Path, description = "The project's number.", example = 1), OneBroker),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "All of it.", body = Overview,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/overview")]
pub async fn show_project_broker_overview(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let picture = Picture::take(Reach::of_project(allow.who, &path)?, &req, &app).await?;
    Ok(picture.answer().json(picture.overview()))
}

/// Show brokers' nodes
#[utoipa::path(
    tag = "broker",
    params(OneBroker),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "The nodes; none where every broker is one alone.", body = Cluster,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/cluster")]
pub async fn show_broker_cluster(
    allow: Allow<perm::SessionsRead>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let picture = Picture::take(Reach::of(allow.who), &req, &app).await?;
    Ok(picture.answer().json(picture.cluster()))
}

/// Show the nodes of a project's brokers
#[utoipa::path(
    tag = "broker",
    params(("project_id" = i64, Path, description = "The project's number.", example = 1), OneBroker),
    security(("basic" = []), ("bearer" = [])),
    responses((
        status = 200, description = "The nodes; none where every broker is one alone.", body = Cluster,
        headers(("Age" = i64, description = "Seconds since the oldest picture of a broker in it was taken.")),
    )),
)]
#[get("/projects/{project_id}/broker/cluster")]
pub async fn show_project_broker_cluster(
    allow: Allow<perm::SessionsRead>,
    path: web::Path<ProjectPath>,
    req: HttpRequest,
    app: web::Data<App>,
) -> Result<HttpResponse, ApiError> {
    let picture = Picture::take(Reach::of_project(allow.who, &path)?, &req, &app).await?;
    Ok(picture.answer().json(picture.cluster()))
}

/// What there is to tell of the brokers.
struct Picture {
    brokers: Vec<Broker>,
    counts: Counts,
}

impl Picture {
    async fn take(reach: Reach, req: &HttpRequest, app: &App) -> Result<Self, ApiError> {
        let asked = Asked::of(req);
        let read = async |tx: &mut TenantConn| {
            let seen = reach.brokers(tx).await?;
            let (brokers, selection) = reach.narrow(seen, asked.service())?;
            let counts = brokers::count(tx, &selection).await?;
            Ok::<_, ApiError>(Self { brokers, counts })
        };
        app.db.tenant(reach.org(), read).await
    }

    fn answer(&self) -> actix_web::HttpResponseBuilder {
        let mut response = HttpResponse::Ok();
        response.insert_header((AGE, reach::age(&self.brokers)));
        response
    }

    fn reports(&self) -> impl Iterator<Item = Option<&BrokerReport>> {
        self.brokers
            .iter()
            .map(|broker| broker.watch.broker.as_ref())
    }

    /// A sum that every broker knows its part of.
    fn sum(&self, part: impl Fn(&BrokerReport) -> Option<u64>) -> Option<u64> {
        self.reports()
            .map(|report| part(report?))
            .try_fold(0_u64, |sum, part| Some(sum.saturating_add(part?)))
    }

    fn stats(&self) -> BrokerStats {
        let uptimes: Option<Vec<f64>> = self
            .reports()
            .map(|report| report?.uptime_seconds)
            .collect();
        let current = |current| ConnectionStats {
            current,
            ..ConnectionStats::default()
        };
        let protocol = |count: i64| {
            (count > 0).then(|| OneProtocol {
                connections: current(count),
            })
        };
        BrokerStats {
            uptime_seconds: uptimes.and_then(|uptimes| uptimes.into_iter().reduce(f64::min)),
            connections: ConnectionStats {
                total: self.sum(|report| report.connections),
                disconnections: self.sum(|report| report.disconnections),
                ..current(self.counts.connected)
            },
            messages: TrafficStats {
                received: self.sum(|report| report.messages_received),
                sent: self.sum(|report| report.messages_sent),
            },
            bytes: TrafficStats {
                received: self.sum(|report| report.bytes_received),
                sent: self.sum(|report| report.bytes_sent),
            },
            errors: ErrorStats {
                protocol: self.sum(|report| report.protocol_errors),
            },
            by_protocol: ProtocolStats {
                mqtt: protocol(self.counts.mqtt),
                amqp: protocol(self.counts.amqp),
            },
        }
    }

    fn cluster(&self) -> Cluster {
        let is_one = self.brokers.len() == 1;
        let of_broker = |broker: &Broker| {
            let nodes = broker.watch.broker.iter().flat_map(|report| &report.nodes);
            let id = |id: &str| match is_one {
                true => id.to_owned(),
                false => format!("{}/{id}", broker.name),
            };
            nodes
                .map(|node| Node::of(node, id(&node.id)))
                .collect::<Vec<_>>()
        };
        let clusters: Vec<Vec<Node>> = self.brokers.iter().map(of_broker).collect();
        let is_cluster = clusters.iter().any(|nodes| nodes.len() > 1);
        let nodes: Vec<Node> = clusters.into_iter().flatten().collect();
        if !is_cluster {
            // One broker alone is told without nodes (§2.4).
            return Cluster {
                node_id: "single-node".to_owned(),
                cluster_mode: false,
                is_leader: true,
                nodes: if nodes.len() > 1 { nodes } else { Vec::new() },
            };
        }
        let leader = nodes.iter().find(|node| node.leader == Some(true));
        Cluster {
            node_id: leader.unwrap_or(&nodes[0]).id.clone(),
            cluster_mode: true,
            is_leader: leader.is_some(),
            nodes,
        }
    }

    fn overview(&self) -> Overview {
        let (stats, cluster) = (self.stats(), self.cluster());
        Overview {
            node_id: cluster.node_id,
            cluster_mode: cluster.cluster_mode,
            is_leader: cluster.is_leader,
            uptime_seconds: stats.uptime_seconds,
            sessions: SessionCounts {
                connected: self.counts.connected,
                total: self.counts.sessions,
            },
            stats,
            cluster: OverviewCluster {
                nodes: cluster.nodes,
            },
        }
    }
}
