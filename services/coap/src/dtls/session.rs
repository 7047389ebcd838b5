//! One peer's connection, from its first message to its last.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{ConfigBuilder, Dtls, Error, Output, PskResolver};

use crate::dtls::cookie;
use crate::dtls::{Config, Credential};

/// What a connection has to say.
pub enum Said<'a> {
    Packet(&'a [u8]),
    Connected,
    Data(&'a [u8]),
    /// The peer says goodbye.
    Closed,
}

pub struct Session {
    dtls: Dtls,
}

/// What dimpl must know of us as server.
pub fn server(config: &Config, keys: Arc<dyn PskResolver>) -> Result<Arc<dimpl::Config>, Error> {
    builder(config)
        .with_psk_server(None, keys)
        .build()
        .map(Arc::new)
}

/// What dimpl must know of us as client.
pub fn client(config: &Config, credential: &Credential) -> Result<Arc<dimpl::Config>, Error> {
    let identity = credential.identity.as_bytes().to_vec();
    builder(config)
        .with_psk_client(identity, Arc::new(credential.clone()))
        .build()
        .map(Arc::new)
}

fn builder(config: &Config) -> ConfigBuilder {
    dimpl::Config::builder()
        .with_crypto_provider(cookie::provider())
        .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
        .handshake_timeout(config.handshake_for * 2)
        .max_queue_rx(16)
}

impl Session {
    pub fn server(config: &Arc<dimpl::Config>, now: Instant) -> Self {
        Self {
            dtls: Dtls::new_12_psk(config.clone(), now),
        }
    }

    pub fn client(config: &Arc<dimpl::Config>, now: Instant) -> Self {
        let mut dtls = Dtls::new_12_psk(config.clone(), now);
        dtls.set_active(true);
        Self { dtls }
    }

    /// Takes a datagram. An error is the connection's end.
    pub fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<(), Error> {
        self.dtls.handle_timeout(now)?;
        self.dtls.handle_packet(datagram)
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.dtls.handle_timeout(now)
    }

    pub fn send(&mut self, data: &[u8]) -> Result<(), Error> {
        self.dtls.send_application_data(data).map(|_| ())
    }

    /// Says goodbye.
    pub fn close(&mut self) {
        // Where it cannot be said it goes unsaid: the session is over either way.
        let _ = self.dtls.close();
    }

    /// Tells all that there is to tell; answers when it has to be looked after.
    pub fn drain(&mut self, scratch: &mut Vec<u8>, mut tell: impl FnMut(Said)) -> Instant {
        loop {
            match self.dtls.poll_output(scratch) {
                Output::Packet(bytes) => tell(Said::Packet(bytes)),
                Output::ApplicationData(bytes) => tell(Said::Data(bytes)),
                Output::Connected => tell(Said::Connected),
                Output::CloseNotify => tell(Said::Closed),
                Output::BufferTooSmall { needed } => scratch.resize(needed, 0),
                Output::Timeout(due) => return due,
                _ => {}
            }
        }
    }
}

/// A datagram that waits to be sent.
pub fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
