//! A stand-in for RabbitMQ's management API with a crowd of clients: pages of 500, bindings and consumers in one answer each, as the
//! proxy contract records it (section 3).

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const PAGE_SIZE: usize = 500;
/// Of ten clients nine speak MQTT, with a queue and a binding each; one AMQP, with a consumer.
const AMQP_EACH: usize = 10;
/// When the first connection of each began, in ms since 1970.
const CONNECTED_MS: i64 = 1_795_216_492_461;

/// A RabbitMQ that is none.
pub struct Broker {
    pub url: String,
    crowd: Arc<Mutex<Crowd>>,
}

/// How often each client connected anew, and was moved to another filter or queue.
struct Crowd {
    clients: Vec<(u16, u16)>,
    /// Changed when the next picture begins: a picture is of one state.
    next: Vec<(usize, Turn)>,
}

/// What becomes of a client between two pictures.
#[derive(Clone, Copy)]
pub enum Turn {
    Reconnects,
    SubscribesElsewhere,
}

impl Broker {
    pub async fn start(clients: usize) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let crowd = Arc::new(Mutex::new(Crowd {
            clients: vec![(0, 0); clients],
            next: Vec::new(),
        }));
        let shared = crowd.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let crowd = shared.clone();
                tokio::spawn(async move { serve(stream, &crowd).await });
            }
        });
        Ok(Self { url, crowd })
    }

    /// What the next picture will have that the last had not.
    pub fn turn(&self, turns: Vec<(usize, Turn)>) {
        lock(&self.crowd).next = turns;
    }
}

fn lock(crowd: &Mutex<Crowd>) -> MutexGuard<'_, Crowd> {
    crowd.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers on one connection until its client ends it.
async fn serve(stream: TcpStream, crowd: &Mutex<Crowd>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).context("a request line")?.to_owned();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await?;
        }
        let body = lock(crowd).answer(&target);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
    }
}

impl Crowd {
    fn answer(&mut self, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let all = self.clients.len();
        let of_mqtt = |at: &usize| !at.is_multiple_of(AMQP_EACH);
        match path {
            "/api/whoami" => {
                for (at, turn) in std::mem::take(&mut self.next) {
                    match turn {
                        Turn::Reconnects => self.clients[at].0 += 1,
                        Turn::SubscribesElsewhere => self.clients[at].1 += 1,
                    }
                }
                r#"{"name":"watcher","tags":["monitoring"]}"#.to_owned()
            }
            "/api/overview" => {
                r#"{"rabbitmq_version":"3.10.8","node":"rabbit@localhost"}"#.to_owned()
            }
            "/api/nodes" => {
                r#"[{"name":"rabbit@localhost","running":true,"uptime":60000}]"#.to_owned()
            }
            "/api/connections" => page(query, &(0..all).collect::<Vec<_>>(), |at, out| {
                self.connection(at, out)
            }),
            "/api/queues/%2F" => {
                let queues: Vec<usize> = (0..all).filter(of_mqtt).collect();
                page(query, &queues, |at, out| self.queue(at, out))
            }
            "/api/exchanges/%2F/amq.topic/bindings/source" => {
                list((0..all).filter(of_mqtt), |at, out| self.binding(at, out))
            }
            "/api/consumers" => list((0..all).step_by(AMQP_EACH), |at, out| {
                self.consumer(at, out);
            }),
            other => format!("{{\"error\":\"the stand-in has no {other}\"}}"),
        }
    }

    /// The address of a client's connection.
    fn peer(&self, at: usize) -> (String, usize) {
        let host = format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255);
        (host, 20_000 + usize::from(self.clients[at].0))
    }

    fn connection(&self, at: usize, out: &mut String) {
        let (host, port) = self.peer(at);
        let connected = CONNECTED_MS + at as i64 + i64::from(self.clients[at].0) * 1_000;
        let of_protocol = if at.is_multiple_of(AMQP_EACH) {
            format!(r#""protocol":"AMQP 0-9-1","user_provided_name":"orders-consumer-{at}""#)
        } else {
            format!(r#""protocol":"MQTT 3.1.1","variable_map":{{"client_id":"fleet/device-{at}"}}"#)
        };
        let name = self.name(at);
        let _ = write!(
            out,
            r#"{{"name":"{name}",{of_protocol},"state":"running","connected_at":{connected},"user":"fleet","vhost":"/",
            "node":"rabbit@localhost","peer_host":"{host}","peer_port":{port},"ssl_cipher":null}}"#
        );
    }

    fn name(&self, at: usize) -> String {
        let (host, port) = self.peer(at);
        format!("{host}:{port} -> 10.0.0.1:1883")
    }

    fn queue(&self, at: usize, out: &mut String) {
        let _ = write!(
            out,
            r#"{{"name":"mqtt-subscription-fleet/device-{at}qos1","durable":true,"auto_delete":false,"exclusive":false,
            "arguments":{{"x-expires":86400000}},"consumers":1,"messages_ready":0,"messages_unacknowledged":0}}"#
        );
    }

    fn binding(&self, at: usize, out: &mut String) {
        let turn = self.clients[at].1;
        let _ = write!(
            out,
            r#"{{"destination":"mqtt-subscription-fleet/device-{at}qos1","destination_type":"queue",
            "routing_key":"fleet.device-{at}.commands.{turn}"}}"#
        );
    }

    fn consumer(&self, at: usize, out: &mut String) {
        let (name, turn) = (self.name(at), self.clients[at].1);
        let _ = write!(
            out,
            r#"{{"queue":{{"name":"orders.work.{turn}","vhost":"/"}},"channel_details":{{"connection_name":"{name}"}}}}"#
        );
    }
}

/// A page of a list, in the API's envelope.
fn page(query: &str, rows: &[usize], write: impl FnMut(usize, &mut String)) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let number = pairs.find(|(name, _)| *name == "page");
    let number: usize = number.and_then(|(_, text)| text.parse().ok()).unwrap_or(1);
    let held = rows.iter().skip((number - 1) * PAGE_SIZE).take(PAGE_SIZE);
    let (all, count) = (rows.len(), held.len());
    let items = list(held.copied(), write);
    let pages = all.div_ceil(PAGE_SIZE);
    format!(
        r#"{{"total_count":{all},"item_count":{count},"filtered_count":{all},"page":{number},"page_size":{PAGE_SIZE},"page_count":{pages},"items":{items}}}"#
    )
}

fn list(rows: impl Iterator<Item = usize>, mut write: impl FnMut(usize, &mut String)) -> String {
    let mut out = String::from("[");
    for at in rows {
        if out.len() > 1 {
            out.push(',');
        }
        write(at, &mut out);
    }
    out.push(']');
    out
}
