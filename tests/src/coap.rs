//! CoAP for the tests: a client that sends what it is told, and a way to a server that loses datagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rollcall_coap::message::{Message, Token, decode};
use rollcall_coap::option::{self, Block};
use rollcall_coap::{Code, Kind};
use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A client with one request under way, which it repeats until there is an answer.
pub struct CoapClient {
    socket: UdpSocket,
    id: u16,
    /// The first repeat comes after this; the next after twice as long.
    pub patience: Duration,
}

/// What a server answered.
#[derive(Debug)]
pub struct CoapAnswer {
    pub code: Code,
    pub message: Message,
}

impl CoapAnswer {
    /// The body as JSON; null where there is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.message.payload).unwrap_or_default()
    }
}

impl CoapClient {
    /// A client of the server at `to`.
    pub async fn of(to: SocketAddr) -> Self {
        let here: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let socket = UdpSocket::bind((here, 0)).await.expect("a port");
        socket.connect(to).await.expect("an address");
        let id = socket.local_addr().expect("an address").port();
        Self {
            socket,
            id,
            patience: Duration::from_millis(300),
        }
    }

    /// The answer, its blocks put together; nothing where none came within some 40 s of repeating.
    pub async fn ask(&mut self, method: Code, path: &str, body: &str) -> Option<CoapAnswer> {
        let mut whole = self.ask_for(method, path, body, None).await?;
        let mut payload = whole.message.payload.to_vec();
        let mut block = block_of(&whole.message);
        while let Some(last) = block.filter(|block| block.more) {
            let next = Block {
                number: last.number + 1,
                more: false,
                ..last
            };
            let answer = self.ask_for(method, path, "", Some(next)).await?;
            payload.extend_from_slice(&answer.message.payload);
            block = block_of(&answer.message);
        }
        whole.message.payload = payload.into();
        Some(whole)
    }

    async fn ask_for(
        &mut self,
        method: Code,
        path: &str,
        body: &str,
        block: Option<Block>,
    ) -> Option<CoapAnswer> {
        self.id = self.id.wrapping_add(1);
        let mut message = request(self.id, method, path, body.as_bytes());
        if let Some(block) = block {
            message.options.push(option::BLOCK2, block.to_value());
        }
        let bytes = message.encode();
        let mut patience = self.patience;
        for _ in 0..7 {
            // Where nobody listens, the kernel says so at the next call.
            let _ = self.socket.send(&bytes).await;
            if let Ok(answer) = tokio::time::timeout(patience, self.answer(&message)).await {
                return Some(answer);
            }
            patience *= 2;
        }
        None
    }

    pub async fn get(&mut self, path: &str) -> CoapAnswer {
        self.ask(Code::GET, path, "").await.expect("an answer")
    }

    pub async fn post(&mut self, path: &str, body: &str) -> CoapAnswer {
        self.ask(Code::POST, path, body).await.expect("an answer")
    }

    pub async fn put(&mut self, path: &str, body: &str) -> CoapAnswer {
        self.ask(Code::PUT, path, body).await.expect("an answer")
    }

    pub async fn delete(&mut self, path: &str) -> CoapAnswer {
        self.ask(Code::DELETE, path, "").await.expect("an answer")
    }

    /// Sends bytes as they are.
    pub async fn send(&self, bytes: &[u8]) {
        let _ = self.socket.send(bytes).await;
    }

    /// The next message that is for nobody else, acknowledged where it asks for that.
    pub async fn receive(&self) -> Message {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let Ok(message) = decode(&buffer[..length]) else {
                continue;
            };
            if message.kind == Kind::Confirmable {
                let _ = self
                    .socket
                    .send(&Message::empty(Kind::Acknowledgement, message.id).encode())
                    .await;
            }
            return message;
        }
    }

    async fn answer(&self, to: &Message) -> CoapAnswer {
        loop {
            let message = self.receive().await;
            if message.token == to.token && message.code != Code::EMPTY {
                return CoapAnswer {
                    code: message.code,
                    message,
                };
            }
        }
    }
}

fn block_of(message: &Message) -> Option<Block> {
    message
        .options
        .first(option::BLOCK2)
        .and_then(|value| Block::from_value(value))
}

/// A confirmable request for `path`, which may have a query.
pub fn request(id: u16, method: Code, path: &str, body: &[u8]) -> Message {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut message = Message {
        code: method,
        token: Token::new(&id.to_be_bytes()).expect("two bytes are a token"),
        payload: body.to_vec().into(),
        ..Message::empty(Kind::Confirmable, id)
    };
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        message.options.push(option::URI_PATH, segment.to_owned());
    }
    for part in query.split('&').filter(|part| !part.is_empty()) {
        message.options.push(option::URI_QUERY, part.to_owned());
    }
    message
}

/// A way to a server that loses every so many-th datagram, by turns of a fixed pattern, or all.
pub struct LossyWay {
    pub address: SocketAddr,
    is_mute: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl LossyWay {
    /// Loses 20 % both ways, for one client.
    pub async fn to(server: SocketAddr) -> Self {
        Self::losing(server, true).await
    }

    /// Loses nothing until it is mute, for one client.
    pub async fn sound(server: SocketAddr) -> Self {
        Self::losing(server, false).await
    }

    /// From here on everything is lost, or no more than before.
    pub fn mute(&self, is_mute: bool) {
        self.is_mute.store(is_mute, Ordering::SeqCst);
    }

    async fn losing(server: SocketAddr, is_lossy: bool) -> Self {
        let is_mute = Arc::new(AtomicBool::new(false));
        let mute = is_mute.clone();
        let near = Arc::new(
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port"),
        );
        let address = near.local_addr().expect("an address");
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        far.connect(server).await.expect("an address");
        let task = tokio::spawn(async move {
            let (mut out, mut back) = (vec![0; 65_536], vec![0; 65_536]);
            let mut client = None;
            let mut chance = 12_345_u32;
            loop {
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let by_chance = is_lossy && (chance >> 16).is_multiple_of(5);
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut out) => {
                        let is_lost = by_chance || mute.load(Ordering::SeqCst);
                        client = Some(from);
                        if !is_lost {
                            let _ = far.send(&out[..length]).await;
                        }
                    }
                    got = far.recv(&mut back) => {
                        let is_lost = by_chance || mute.load(Ordering::SeqCst);
                        if let (Ok(length), Some(client), false) = (got, client, is_lost) {
                            let _ = near.send_to(&back[..length], client).await;
                        }
                    }
                }
            }
        });
        Self {
            address,
            is_mute,
            task,
        }
    }
}

impl Drop for LossyWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
