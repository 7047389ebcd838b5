//! A stand-in for a server that is not to be had: answers one request a connection over HTTP, as its owner says.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server that is none; it ends when this is dropped.
pub struct StandIn<T> {
    pub url: String,
    inside: Arc<Mutex<T>>,
    task: JoinHandle<()>,
}

/// The bytes of the answer to a request, or none ever.
type Answer<T> = fn(&mut T, &Request) -> Option<Vec<u8>>;

/// What is asked.
pub struct Request {
    pub target: String,
    /// The value of `Authorization`.
    pub authorization: Option<String>,
}

impl<T: Send + 'static> StandIn<T> {
    /// Answers on a free port.
    pub async fn serve(inside: T, answer: Answer<T>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inside = Arc::new(Mutex::new(inside));
        let shared = Arc::clone(&inside);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared), answer));
            }
        });
        Self {
            url: format!("http://127.0.0.1:{port}"),
            inside,
            task,
        }
    }

    /// What a test may look at and change while it runs.
    pub fn inside(&self) -> MutexGuard<'_, T> {
        self.inside.lock().expect("no test panics in here")
    }
}

impl<T> Drop for StandIn<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Request {
    fn read(head: &str) -> Self {
        let authorization = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization").then_some(value)
        });
        Self {
            target: head.split(' ').nth(1).expect("a target").to_owned(),
            authorization: authorization.map(str::to_owned),
        }
    }
}

async fn serve<T>(mut stream: TcpStream, inside: Arc<Mutex<T>>, answer: Answer<T>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let request = Request::read(&String::from_utf8(head).expect("a request in ASCII"));
    let answer = answer(
        &mut inside.lock().expect("no test panics in here"),
        &request,
    );
    match answer {
        Some(answer) => {
            // Whoever has heard enough closes.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        None => std::future::pending().await,
    }
}

/// An answer in JSON.
pub fn response(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A success that announces another length than it has.
pub fn announced(length: usize, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}
