//! Devices that speak DTLS: each with a key of its own, on the same roll as those that speak plain CoAP on the machine itself.

mod boxes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rollcall_coap::driver::{App, Driver, bind};
use rollcall_coap::dtls::{self, Credential};
use rollcall_coap::{Call, CallId, Code, Config, Endpoint, Event, Failure, JSON, Response, Time};
use rollcall_tests::{Edge, TestApp};
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{eventually, sessions};

type Outcome = Result<Response, Failure>;

/// A device: an endpoint of ours with a key.
struct Device {
    calls: mpsc::Sender<(SocketAddr, Call)>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    at: SocketAddr,
}

struct Caller(mpsc::UnboundedSender<Outcome>, Option<CallId>);

impl App for Caller {
    type Command = (SocketAddr, Call);

    fn event(&mut self, _: &mut Endpoint, _: Time, event: Event) {
        let outcome = match event {
            Event::Ended(_, outcome) => outcome,
            Event::Notified(_, response, _) => Ok(response),
            _ => return,
        };
        let _ = self.0.send(outcome);
    }

    fn command(&mut self, endpoint: &mut Endpoint, now: Time, (to, call): (SocketAddr, Call)) {
        self.1 = Some(endpoint.call(now, to, call));
    }
}

impl Device {
    fn of(at: SocketAddr, psk: &str) -> Self {
        let credential: Credential = psk.parse().expect("a credential");
        let here: IpAddr = match at {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let socket = bind((here, 0).into(), false).expect("a socket");
        let (calls, received) = mpsc::channel(4);
        let (news, outcomes) = mpsc::unbounded_channel();
        let driver = Driver::new(socket, Config::default(), Caller(news, None), received);
        let config = dtls::Config {
            credential: Some(credential),
            ..dtls::Config::default()
        };
        let driver = driver.and_then(|driver| driver.secure(config));
        tokio::spawn(driver.expect("a driver").run());
        Self {
            calls,
            outcomes,
            at,
        }
    }

    async fn call(&mut self, call: Call) -> Outcome {
        self.calls
            .send((self.at, call))
            .await
            .expect("it takes calls");
        self.next().await
    }

    async fn next(&mut self) -> Outcome {
        let next = timeout(Duration::from_secs(30), self.outcomes.recv()).await;
        next.expect("it does not take forever").expect("it runs")
    }

    async fn post(&mut self, body: &str) -> Outcome {
        let call = Call {
            content_format: Some(JSON),
            payload: body.to_owned().into(),
            ..Call::new(Code::POST, "/v1/sessions")
        };
        self.call(call).await
    }
}

fn key(digit: &str) -> String {
    digit.repeat(32)
}

/// A relay that takes the keys of two stands; answers where, too.
async fn relay(app: &TestApp) -> (Edge, SocketAddr) {
    relay_on(app, Ipv4Addr::LOCALHOST.into(), "front-desk").await
}

async fn relay_on(app: &TestApp, ip: IpAddr, name: &str) -> (Edge, SocketAddr) {
    let mut edge = Edge::of(app, &[name]).await;
    let port = UdpSocket::bind((ip, 0)).expect("a port");
    let at = port.local_addr().expect("an address");
    let keys = format!("# stands\nstand-1:{}\nstand-2:{}\n", key("1"), key("2"));
    let file = edge.folder().join("devices");
    std::fs::write(&file, keys).expect("written");
    let lines = format!("[transmitter.dtls]\nlisten = \"{at}\"\npsk_file = {file:?}\n");
    edge.set_transmitter(&lines);
    drop(port);
    edge.start(Some(&app.url)).await;
    (edge, at)
}

#[sqlx::test(migrations = "../migrations")]
async fn devices_with_keys_are_served_and_a_wrong_key_fails_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (edge, at) = relay(&app).await;
    let mut first = Device::of(at, &format!("stand-1:{}", key("1")));
    let mut second = Device::of(at, &format!("stand-2:{}", key("2")));
    let mut wrong = Device::of(at, &format!("stand-2:{}", key("1")));
    let mut unknown = Device::of(at, &format!("stand-3:{}", key("1")));

    let watched = second
        .call(Call {
            observe: true,
            ..Call::new(Code::GET, "/v1/notify")
        })
        .await;
    assert_eq!(watched.unwrap().code, Code::CONTENT);
    let created = first.post(r#"{"number":66,"label":"Sarah"}"#).await;
    assert_eq!(created.unwrap().code, Code::CREATED);
    let told = second.next().await.unwrap();
    let text = String::from_utf8_lossy(&told.payload).into_owned();
    assert!(text.contains("Sarah"), "{text}");
    assert_eq!(
        wrong.post(r#"{"number":67}"#).await.unwrap_err(),
        Failure::Refused
    );
    assert_eq!(
        unknown.post(r#"{"number":68}"#).await.unwrap_err(),
        Failure::Refused
    );
    // What the machine itself says plainly is on the same roll, and the other way round.
    let mut local = edge.client(0).await;
    local.post("/v1/sessions", r#"{"number":5}"#).await;
    let listed = first.call(Call::new(Code::GET, "/v1/sessions")).await;
    let text = String::from_utf8_lossy(&listed.unwrap().payload).into_owned();
    assert!(
        text.contains("\"number\":5") && text.contains("Sarah"),
        "{text}"
    );
    edge.drained().await;
    assert_eq!(sessions(&app, "front-desk").await.len(), 2);
    let warned = edge.log();
    assert!(warned.contains("everybody on this machine"), "{warned}");
    assert!(!warned.contains(&key("1")), "no key is in the log");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_that_is_taken_from_the_file_opens_nothing_any_more(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (mut edge, at) = relay(&app).await;
    let get = || Call::new(Code::GET, "/v1/sessions");
    let mut first = Device::of(at, &format!("stand-1:{}", key("1")));
    let mut second = Device::of(at, &format!("stand-2:{}", key("2")));
    assert_eq!(first.call(get()).await.unwrap().code, Code::CONTENT);
    assert_eq!(second.call(get()).await.unwrap().code, Code::CONTENT);
    // A mistake changes nothing.
    let file = edge.folder().join("devices");
    std::fs::write(&file, "stand-1\n").unwrap();
    eventually("the mistake is named", async || {
        edge.log().contains("stay as they were").then_some(())
    })
    .await;
    assert_eq!(second.call(get()).await.unwrap().code, Code::CONTENT);
    std::fs::write(&file, format!("stand-1:{}\n", key("1"))).unwrap();
    eventually("the keys are read anew", async || {
        edge.log().contains("read anew").then_some(())
    })
    .await;
    assert_eq!(first.call(get()).await.unwrap().code, Code::CONTENT);
    let cut_off = second.call(get()).await.unwrap_err();
    assert!(
        matches!(cut_off, Failure::Session | Failure::Refused),
        "{cut_off}"
    );
    // A relay that stops says goodbye: devices know at once that they have to connect anew.
    edge.stop();
    edge.start(Some(&app.url)).await;
    assert_eq!(first.call(get()).await.unwrap().code, Code::CONTENT);
}
