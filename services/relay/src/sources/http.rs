//! Asks a source over HTTP for JSON: with time-outs and a bound on what is read, and never sent elsewhere by the server.
//!
//! Invariant: an error names the address without credentials, and where in the answer the trouble is; never the answer's text
//! beyond what the server says for people.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;

/// How long a connection may take to come about, where the whole request may take longer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer of failure that are looked at for the reason.
const MAX_REASON_BYTES: usize = 4 << 10;
/// Characters of a server's own words that are passed on.
const MAX_REASON_CHARS: usize = 200;

/// A picture takes no more than so many of the largest answers, however many pages a server has.
const ANSWERS: usize = 8;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Login {
    Nobody,
    Basic {
        user: String,
        password: SecretString,
    },
    Bearer(SecretString),
}

/// How a source is asked.
#[derive(Debug)]
pub struct Settings<'a> {
    /// `http://10.0.0.5:15672`, with a path in front of the API's where a proxy asks for one.
    pub url: &'a str,
    pub login: Login,
    /// Authorities beside the machine's own: PEM, one or several.
    pub ca_file: Option<&'a Path>,
    /// For a request, from connecting to the last byte.
    pub timeout: Duration,
    /// What one answer may have.
    pub max_body_bytes: usize,
}

/// A source's HTTP server. Clones share what is left to be read of a picture.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    base: Url,
    login: Login,
    max_body_bytes: usize,
    /// Bytes that the picture may take yet.
    left: Arc<AtomicUsize>,
}

/// The server answered, but not with what was asked for.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    url: String,
    /// What the server says of it, shortened; empty where it says nothing that people could read.
    pub reason: String,
    /// The server repeats what it was asked with: not for logs.
    is_secret: bool,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = StatusCode::from_u16(self.status).ok();
        let name = status.and_then(|status| status.canonical_reason());
        write!(f, "{} answers {}", self.url, self.status)?;
        name.map_or(Ok(()), |name| write!(f, " {name}"))?;
        if !self.reason.is_empty() && !self.is_secret {
            write!(f, " ({})", self.reason)?;
        }
        f.write_str(match self.status {
            300..=399 => {
                ": it points elsewhere, which is not followed; set `url` to where the API is"
            }
            401 => ": check the user and the password or token",
            403 => ": the user may not read this; give it the right to",
            404 => ": is `url` the API's own address, and does this version have it?",
            429 => ": it is asked too often; raise `poll_seconds`",
            500.. => ": see the server's log",
            _ => "",
        })
    }
}

/// The address in a configuration: `http` or `https`, without credentials, query and fragment.
pub fn check_url(url: &str) -> Result<Url> {
    let base = Url::parse(url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        // The text is not repeated: it may hold a password.
        .context("`url` is an address such as http://127.0.0.1:15672")?;
    ensure!(
        base.username().is_empty() && base.password().is_none(),
        "`url` holds credentials: put them into `user` and `password_file`"
    );
    ensure!(
        base.query().is_none() && base.fragment().is_none(),
        "`url` has no `?` and no `#`: it is the address that the API's paths come after"
    );
    Ok(base)
}

impl Http {
    pub fn new(settings: Settings<'_>) -> Result<Self> {
        let base = check_url(settings.url)?;
        let mut client = Client::builder()
            .timeout(settings.timeout)
            .connect_timeout(CONNECT_PATIENCE.min(settings.timeout))
            // Credentials go where the configuration says and nowhere else.
            .redirect(Policy::none())
            // A source is beside the relay: what leads out of the network is not on the way to it.
            .no_proxy()
            .user_agent(concat!("rollcall-relay/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = settings.ca_file {
            client = client.tls_certs_merge(authorities(file)?);
        }
        Ok(Self {
            client: client.build().context("set up HTTP")?,
            base,
            login: settings.login,
            max_body_bytes: settings.max_body_bytes,
            left: Arc::new(AtomicUsize::new(settings.max_body_bytes * ANSWERS)),
        })
    }

    /// Begins a picture: what was read before is not counted.
    pub fn begin(&self) {
        let most = self.max_body_bytes * ANSWERS;
        self.left.store(most, Ordering::Relaxed);
    }

    /// The address of a part of the API; every segment is encoded, whatever it holds.
    pub fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        ensure!(
            !segments.iter().any(|segment| [".", ".."].contains(segment)),
            "`.` and `..` cannot stand alone between the slashes of an address"
        );
        let mut url = self.base.clone();
        url.path_segments_mut()
            .ok()
            .context("`url` is an address such as http://127.0.0.1:15672")?
            .pop_if_empty()
            .extend(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// What the address answers, read as JSON. An answer that is not a success is a [`Refused`].
    pub async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T> {
        let body = self.bytes(url).await?;
        decode(url, &body)
    }

    /// The body of a success, whole.
    pub async fn bytes(&self, url: &Url) -> Result<Vec<u8>> {
        let request = self
            .client
            .get(url.clone())
            .header("Accept", "application/json");
        let request = match &self.login {
            Login::Nobody => request,
            Login::Basic { user, password } => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
            Login::Bearer(token) => request.bearer_auth(token.expose_secret()),
        };
        let response = request
            .send()
            .await
            .map_err(|error| unreached(url, error))?;
        if !response.status().is_success() {
            return Err(self.refused(url, response).await.into());
        }
        self.whole(url, response).await
    }

    async fn whole(&self, url: &Url, mut response: Response) -> Result<Vec<u8>> {
        let most = self.max_body_bytes;
        let promised = response.content_length().unwrap_or_default();
        let mut body = Vec::new();
        if promised <= most as u64 {
            while let Some(piece) = response
                .chunk()
                .await
                .map_err(|error| unreached(url, error))?
            {
                if body.len() + piece.len() > most {
                    bail!(too_large(url, most));
                }
                let spend = |left: usize| left.checked_sub(piece.len());
                let spent = self
                    .left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
                ensure!(
                    spent.is_ok(),
                    "{url}: the pages of a picture have more than {} MiB together, which are not read",
                    (most * ANSWERS) >> 20
                );
                body.extend_from_slice(&piece);
            }
            return Ok(body);
        }
        bail!(too_large(url, most));
    }

    async fn refused(&self, url: &Url, mut response: Response) -> Refused {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < MAX_REASON_BYTES {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                _ => break,
            }
        }
        let url = url.as_str().split('?').next();
        let said = reason(&body);
        Refused {
            status,
            url: url.unwrap_or_default().to_owned(),
            is_secret: self.login.is_in(&said),
            reason: said.chars().take(MAX_REASON_CHARS).collect(),
        }
    }
}

impl Login {
    /// Whether words of a server repeat it.
    fn is_in(&self, said: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Basic { password, .. } => {
                said.contains("Basic ") || said.contains(password.expose_secret())
            }
            Self::Bearer(token) => said.contains(token.expose_secret()),
        }
    }
}

/// Reads a body as JSON; the error tells the place in it.
pub fn decode<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T> {
    let looks_like_html = body.trim_ascii_start().starts_with(b"<");
    serde_json::from_slice(body).with_context(|| {
        if looks_like_html {
            format!("{url} answers with a page for people, not with JSON: is `url` the API's own address?")
        } else {
            format!("{url} answers with JSON that cannot be read ({} bytes)", body.len())
        }
    })
}

fn authorities(file: &Path) -> Result<Vec<Certificate>> {
    let name = || format!("read `ca_file` {}", file.display());
    let pem = std::fs::read(file).with_context(name)?;
    let held = Certificate::from_pem_bundle(&pem).with_context(name)?;
    ensure!(
        !held.is_empty(),
        "`ca_file` {} holds no certificate: it is a PEM file",
        file.display()
    );
    Ok(held)
}

fn too_large(url: &Url, most: usize) -> String {
    format!(
        "{url} answers with more than {} MiB, which is not read",
        most >> 20
    )
}

/// Why there was no answer, down to the cause; the address once.
fn unreached(url: &Url, error: reqwest::Error) -> anyhow::Error {
    let is_untrusted = error.is_connect() && format!("{error:?}").contains("InvalidCertificate");
    let what = if error.is_timeout() {
        "did not answer in time"
    } else if is_untrusted {
        "has a certificate that is not trusted; `ca_file` names the authority that made it"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke off its answer"
    };
    anyhow::Error::new(error.without_url()).context(format!("{url} {what}"))
}

/// What a server says of its refusal, in the shapes that sources have: `{"error":..,"reason":..}`, `{"error":..}`,
/// `{"errors":[{"detail":..}]}`.
fn reason(body: &[u8]) -> String {
    let Ok(told) = serde_json::from_slice::<serde_json::Value>(body) else {
        return String::new();
    };
    let places = ["/reason", "/errors/0/detail", "/error/detail", "/error"];
    let said = places
        .iter()
        .find_map(|place| told.pointer(place)?.as_str())
        .unwrap_or_default();
    said.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request of a connection with as many bytes of JSON.
    async fn generous(listener: TcpListener, bytes: usize) {
        let (mut peer, _) = listener.accept().await.unwrap();
        let body = format!("\"{}\"", "x".repeat(bytes - 2));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n{body}");
        while peer.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {
            peer.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_with_pages_without_end_fills_no_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(generous(listener, 1 << 20));
        let http = Http::new(Settings {
            url: &url,
            login: Login::Nobody,
            ca_file: None,
            timeout: Duration::from_secs(10),
            max_body_bytes: 1 << 20,
        });
        let http = http.unwrap();
        let url = http.url(&["api"], &[]).unwrap();
        for _ in 0..2 {
            http.begin();
            for _ in 0..ANSWERS {
                http.clone().get::<String>(&url).await.unwrap();
            }
        }
        let error = http.get::<String>(&url).await.unwrap_err().to_string();
        assert!(error.contains("8 MiB together"), "{error}");
    }

    /// Who is answered what `answer` makes of the request's head.
    async fn asked(login: Login, answer: fn(&str) -> String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4_096];
            let read = peer.read(&mut head).await.unwrap();
            let body = answer(&String::from_utf8_lossy(&head[..read]));
            let length = body.len();
            let head = format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {length}\r\n\r\n");
            peer.write_all(head.as_bytes()).await.unwrap();
            peer.write_all(body.as_bytes()).await.unwrap();
        });
        let http = Http::new(Settings {
            url: &url,
            login,
            ca_file: None,
            timeout: Duration::from_secs(10),
            max_body_bytes: 1 << 20,
        });
        let http = http.unwrap();
        let url = http.url(&["api"], &[]).unwrap();
        let error = http.get::<serde_json::Value>(&url).await.unwrap_err();
        format!("{error:#}")
    }

    #[tokio::test]
    async fn a_server_that_repeats_the_password_does_not_bring_it_into_the_log() {
        let repeat = |head: &str| {
            let line = head.lines().find(|line| line.starts_with("authorization"));
            format!("{{\"reason\":\"no: {}\"}}", line.unwrap_or_default())
        };
        let bearer = Login::Bearer("hunter2".into());
        let error = asked(bearer, repeat).await;
        assert!(
            error.contains("401") && !error.contains("hunter2"),
            "{error}"
        );
        let basic = || Login::Basic {
            user: "u".to_owned(),
            password: "hunter2".into(),
        };
        // As it is sent: u:hunter2.
        let error = asked(basic(), repeat).await;
        assert!(!error.contains("dTpodW50ZXIy"), "{error}");
        let error = asked(basic(), |_| {
            "{\"reason\":\"hunter2 is no good\"}".to_owned()
        })
        .await;
        assert!(!error.contains("hunter2"), "{error}");
        let error = asked(basic(), |_| "{\"reason\":\"no such user\"}".to_owned()).await;
        assert!(error.contains("(no such user)"), "{error}");
    }
}
