//! An [`Endpoint`] on UDP sockets, plain or with DTLS: what comes in is read before anything is answered, a socket's errors
//! end nothing.
//!
//! Invariant: of a socket, all peers are plain or all are secure.

use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rand::Rng;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::dtls::{self, Layer};
use crate::endpoint::Endpoint;
use crate::types::{Event, Time};

/// Datagrams that are read before the first of them is answered.
const BATCH: usize = 64;
/// A UDP datagram has no more.
const MAX_DATAGRAM: usize = 65_535;
/// What the kernel may keep of datagrams that were not read yet, in bytes: the default overflows on the first burst.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What is mounted on an endpoint.
pub trait App: Send {
    /// What reaches the app from elsewhere in the program.
    type Command: Send;

    /// Something came from the network. Requests may be answered now or later.
    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event);

    /// Something came from the program.
    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: Self::Command);
}

/// Binds a socket that others may share, each getting its part of the peers.
pub fn bind(address: SocketAddr, is_shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    // The kernel may give less; that is no error.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// An endpoint with its socket and its app.
pub struct Driver<A: App> {
    socket: UdpSocket,
    /// What is between the socket and the endpoint; nothing where CoAP is plain.
    layer: Option<Layer>,
    endpoint: Endpoint,
    app: A,
    commands: mpsc::Receiver<A::Command>,
    started: Instant,
    buffer: Vec<u8>,
}

impl<A: App> Driver<A> {
    /// Must be called within a tokio runtime.
    pub fn new(
        socket: std::net::UdpSocket,
        config: Config,
        app: A,
        commands: mpsc::Receiver<A::Command>,
    ) -> io::Result<Self> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let epoch_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            layer: None,
            endpoint: Endpoint::new(config, seed, epoch_ms),
            app,
            commands,
            started: Instant::now(),
            buffer: vec![0; MAX_DATAGRAM],
        })
    }

    /// The same with DTLS: who is not connected reaches nothing of the endpoint.
    pub fn secure(mut self, config: dtls::Config) -> io::Result<Self> {
        let mut secret = [0; 32];
        rand::rng().fill_bytes(&mut secret);
        self.layer = Some(Layer::new(config, secret).map_err(io::Error::other)?);
        Ok(self)
    }

    /// Runs until the senders of commands are gone.
    pub async fn run(mut self) {
        loop {
            let of_layer = self.layer.as_ref().and_then(Layer::poll_timeout);
            let due = self.endpoint.poll_timeout().into_iter().chain(of_layer);
            let due = due.min().map(|due| self.started + due);
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.socket.readable() => match ready {
                    Ok(()) => {
                        // What the program said comes before what the network says after it.
                        self.take_commands();
                        self.receive();
                    }
                    Err(error) => tracing::warn!(%error, "cannot wait for the socket; going on"),
                },
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return self.close().await,
                },
                () = timer => {}
            }
            let now = self.started.elapsed();
            self.endpoint.handle_timeout(now);
            if let Some(layer) = &mut self.layer {
                layer.handle_timeout(now);
                hand_up(layer, &mut self.endpoint, now);
            }
            self.drain(now).await;
        }
    }

    async fn close(&mut self) {
        if let Some(layer) = &mut self.layer {
            layer.close();
            self.transmit().await;
        }
    }

    fn receive(&mut self) {
        let now = self.started.elapsed();
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((length, from)) => match &mut self.layer {
                    None => self.endpoint.receive(now, from, &self.buffer[..length]),
                    Some(layer) => {
                        layer.receive(now, from, &self.buffer[..length]);
                        hand_up(layer, &mut self.endpoint, now);
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // What one peer's address brings about (such as ICMP's refusals) is no reason to stop listening to others.
                Err(error) => tracing::debug!(%error, "a datagram could not be received"),
            }
        }
    }

    fn command(&mut self, command: A::Command) {
        let now = self.started.elapsed();
        self.app.command(&mut self.endpoint, now, command);
        self.take_commands();
    }

    fn take_commands(&mut self) {
        let now = self.started.elapsed();
        for _ in 0..BATCH {
            let Ok(command) = self.commands.try_recv() else {
                return;
            };
            self.app.command(&mut self.endpoint, now, command);
        }
    }

    async fn drain(&mut self, now: Time) {
        loop {
            while let Some(event) = self.endpoint.poll_event() {
                self.app.event(&mut self.endpoint, now, event);
            }
            let Some(layer) = &mut self.layer else {
                // Where nothing is secure, there is nothing to end.
                while self.endpoint.poll_disconnect().is_some() {}
                break;
            };
            while let Some((to, bytes)) = self.endpoint.poll_transmit() {
                layer.send(now, to, &bytes);
            }
            while let Some(peer) = self.endpoint.poll_disconnect() {
                layer.disconnect(peer);
            }
            // To send may be to learn that there is nobody.
            if !hand_up(layer, &mut self.endpoint, now) {
                break;
            }
        }
        self.transmit().await;
    }

    /// Sends what is to be sent.
    async fn transmit(&mut self) {
        loop {
            let next = match &mut self.layer {
                None => self.endpoint.poll_transmit(),
                Some(layer) => layer.poll_transmit(),
            };
            let Some((to, bytes)) = next else {
                return;
            };
            let sent = match self.socket.try_send_to(&bytes, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.send_to(&bytes, to).await
                }
                sent => sent,
            };
            if let Err(error) = sent {
                tracing::debug!(%error, %to, "a datagram could not be sent");
            }
        }
    }
}

/// Tells an endpoint what happened below it; says whether anything did.
pub fn hand_up(layer: &mut Layer, endpoint: &mut Endpoint, now: Time) -> bool {
    let mut is_any = false;
    while let Some(event) = layer.poll_event() {
        is_any = true;
        match event {
            dtls::Event::Connected(peer, identity) => endpoint.connect(peer, identity),
            dtls::Event::Data(peer, bytes) => endpoint.receive(now, peer, &bytes),
            dtls::Event::Ended(peer, end) => endpoint.forget(peer, end.into()),
        }
    }
    is_any
}
