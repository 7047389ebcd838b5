//! A way to a server that can be cut and mended.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Forwards connections to a server on loopback, until cut.
pub struct Proxy {
    pub port: u16,
    is_cut: Arc<AtomicBool>,
    cut: Arc<Notify>,
    silenced: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A way to the server on `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let (is_cut, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let silenced = Arc::new(Notify::new());
        let (flag, signal) = (Arc::clone(&is_cut), Arc::clone(&cut));
        let silence = Arc::clone(&silenced);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if flag.load(Ordering::SeqCst) {
                    continue;
                }
                let (signal, silence) = (Arc::clone(&signal), Arc::clone(&silence));
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
                    else {
                        return;
                    };
                    let is_silent = tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => false,
                        () = signal.notified() => false,
                        () = silence.notified() => true,
                    };
                    if is_silent {
                        // Open, and never again a byte.
                        signal.notified().await;
                    }
                });
            }
        });
        Self {
            port: own,
            is_cut,
            cut,
            silenced,
            task,
        }
    }

    /// Ends every connection and takes no new one.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    /// Lets nothing more through on the connections that there are, and keeps them open; new ones go through.
    pub fn silence(&self) {
        self.silenced.notify_waiters();
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
