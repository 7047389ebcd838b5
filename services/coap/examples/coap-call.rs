//! One request from the command line, by our endpoint: the payload goes to stdout, the code to stderr.
//!
//! Ends with 0 on a success, 1 on anything else, 2 where the arguments are no request.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use percent_encoding::percent_decode_str;
use rollcall_coap::driver::{App, Driver, bind};
use rollcall_coap::dtls::{self, Credential};
use rollcall_coap::{Call, CallId, Code, Config, Endpoint, Event, Failure, Response, Time};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Sends one CoAP request.
#[derive(Parser)]
struct Arguments {
    #[arg(short, value_enum, default_value_t = Method::Get)]
    method: Method,
    /// Observe the resource for so many seconds; every notification's payload gets a line of its own
    #[arg(short, value_name = "SECONDS")]
    observe: Option<u64>,
    /// Send non-confirmable messages
    #[arg(short = 'N')]
    non_confirmable: bool,
    /// The largest block to use: 2 to the power of this plus 4 bytes
    #[arg(short, value_name = "SZX", default_value_t = 6, value_parser = clap::value_parser!(u8).range(..=6))]
    block: u8,
    /// The payload's content format, such as 50 for JSON
    #[arg(short = 'f', value_name = "NUMBER")]
    content_format: Option<u16>,
    /// The content format to answer in
    #[arg(short = 'A', value_name = "NUMBER")]
    accept: Option<u16>,
    /// The payload
    #[arg(short = 'e', value_name = "TEXT", conflicts_with = "file")]
    payload: Option<String>,
    /// A file with the payload
    #[arg(long)]
    file: Option<PathBuf>,
    /// Who we are, of coaps: `identity:hexkey`
    #[arg(long, value_parser = psk)]
    psk: Option<Credential>,
    /// Such as coap://127.0.0.1:5683/large?first=1, or coaps://; the host is an address
    #[arg(value_parser = target)]
    uri: Target,
}

#[derive(Clone, Copy, ValueEnum)]
enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// What a URI names.
#[derive(Clone)]
struct Target {
    is_secure: bool,
    address: SocketAddr,
    path: Vec<String>,
    query: Vec<String>,
}

fn psk(text: &str) -> Result<Credential, &'static str> {
    text.parse()
}

fn target(uri: &str) -> anyhow::Result<Target> {
    let secure = uri.strip_prefix("coaps://");
    let (is_secure, port) = (secure.is_some(), if secure.is_some() { 5684 } else { 5683 });
    let rest = secure.or_else(|| uri.strip_prefix("coap://"));
    let rest = rest.context("it begins with coap:// or coaps://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = host.parse().or_else(|_| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port))
    });
    let decode = |text: &str, separator| {
        let parts = text.split(separator).filter(|_| !text.is_empty());
        let parts = parts.map(|part| percent_decode_str(part).decode_utf8());
        let parts: Result<Vec<String>, _> = parts.map(|part| part.map(Into::into)).collect();
        parts.context("path and query are UTF-8")
    };
    Ok(Target {
        is_secure,
        address: address.context("the host is an address, with or without a port")?,
        path: decode(path, '/')?,
        query: decode(query, '&')?,
    })
}

impl Arguments {
    fn call(&self) -> anyhow::Result<Call> {
        let payload = match (&self.payload, &self.file) {
            (Some(text), _) => Bytes::from(text.clone()),
            (None, Some(file)) => std::fs::read(file)
                .with_context(|| format!("read {}", file.display()))?
                .into(),
            (None, None) => Bytes::new(),
        };
        let method = match self.method {
            Method::Get => Code::GET,
            Method::Post => Code::POST,
            Method::Put => Code::PUT,
            Method::Delete => Code::DELETE,
        };
        if self.uri.is_secure != self.psk.is_some() {
            bail!("coaps:// needs --psk, and coap:// has no use for it");
        }
        if self.observe.is_some() && method != Code::GET {
            bail!("only what a GET asks for can be observed");
        }
        Ok(Call {
            path: self.uri.path.clone(),
            query: self.uri.query.clone(),
            content_format: self.content_format,
            accept: self.accept,
            payload,
            observe: self.observe.is_some(),
            confirmable: !self.non_confirmable,
            size_exponent: self.block,
            ..Call::new(method, "")
        })
    }
}

enum Command {
    Call(SocketAddr, Box<Call>),
    Cancel,
}

/// What became of the call: something it brought, or its end.
enum News {
    Notified(Response),
    Ended(Result<Response, Failure>),
}

struct Caller {
    call: Option<CallId>,
    news: mpsc::UnboundedSender<News>,
}

impl App for Caller {
    type Command = Command;

    fn event(&mut self, endpoint: &mut Endpoint, now: Time, event: Event) {
        let news = match event {
            Event::Notified(_, response, _) => News::Notified(response),
            Event::Ended(_, outcome) => News::Ended(outcome),
            Event::Request(id, _) => {
                let response = Response::error(Code::NOT_FOUND, "this is a client");
                endpoint.respond(now, id, response, false);
                return;
            }
            Event::Heartbeat(_) | Event::ObserverGone(_) => return,
        };
        let _ = self.news.send(news);
    }

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, command: Command) {
        match command {
            Command::Call(to, call) => self.call = Some(endpoint.call(now, to, *call)),
            Command::Cancel => {
                if let Some(call) = self.call.take() {
                    endpoint.cancel(now, call);
                }
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let call = match arguments.call() {
        Ok(call) => call,
        Err(error) => {
            eprintln!("coap-call: {error:#}");
            return ExitCode::from(2);
        }
    };
    match run(arguments, call).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("coap-call: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out the call; answers whether it was a success.
async fn run(arguments: Arguments, call: Call) -> anyhow::Result<bool> {
    let to = arguments.uri.address;
    let here = match to {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    };
    let here = here.parse().context("any address")?;
    let socket = bind(here, false).context("open a socket")?;
    let (commands, received) = mpsc::channel(4);
    let (news, mut told) = mpsc::unbounded_channel();
    let caller = Caller { call: None, news };
    let driver = Driver::new(socket, Config::default(), caller, received);
    let mut driver = driver.context("set up the socket")?;
    if arguments.psk.is_some() {
        let config = dtls::Config {
            credential: arguments.psk,
            ..dtls::Config::default()
        };
        driver = driver.secure(config).context("set up DTLS")?;
    }
    let driving = tokio::spawn(driver.run());
    commands.send(Command::Call(to, Box::new(call))).await?;
    let seconds = arguments.observe.unwrap_or(u64::from(u32::MAX));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut is_success = false;
    loop {
        match timeout_at(end, told.recv()).await {
            Ok(Some(News::Notified(response))) => is_success = show(&response, true)?,
            Ok(Some(News::Ended(Ok(response)))) => {
                is_success = show(&response, arguments.observe.is_some())?;
                break;
            }
            Ok(Some(News::Ended(Err(failure)))) => return Err(failure.into()),
            Ok(None) => break,
            Err(_) => {
                commands.send(Command::Cancel).await?;
                break;
            }
        }
    }
    // The driver ends when it has carried out what was commanded.
    drop(commands);
    driving.await.context("end")?;
    Ok(is_success)
}

fn show(response: &Response, on_a_line: bool) -> anyhow::Result<bool> {
    let mut location = String::new();
    for segment in &response.location_path {
        location.push('/');
        location.push_str(segment);
    }
    if !response.location_query.is_empty() {
        location.push('?');
        location.push_str(&response.location_query.join("&"));
    }
    eprintln!("{} {location}", response.code);
    let mut stdout = std::io::stdout();
    stdout.write_all(&response.payload)?;
    if on_a_line {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()?;
    Ok(response.code.is_success())
}
