//! What simulated lives have shown.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::sync_channel;

use rollcall_coap::JSON;
use rollcall_pager::{Config, Method, Transmitter};
use time::macros::datetime;

use super::*;

const BOX: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5683);
const OURS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);

fn now() -> Now {
    Now {
        utc: datetime!(2026-11-21 09:00 UTC),
        monotonic: Duration::from_secs(1),
    }
}

fn ask(pager: &mut Transmitter, method: Method, path: &[String], body: &str) -> Bytes {
    let request = rollcall_pager::Request {
        method,
        path,
        query: &[],
        content_format: None,
        etags: &[],
        payload: body.as_bytes(),
    };
    let reply = pager.handle(request, now(), Uuid::new_v4);
    reply.body.unwrap().into()
}

fn sessions() -> Vec<String> {
    ["v1", "sessions"].map(str::to_owned).into()
}

/// Simulated seed 4: after a start of the relay the first answer of a box told of one guest more than was known. It was taken for
/// learned and not stored, so that to the reading after it nothing was new, and the guest never came.
#[test]
fn what_a_box_tells_before_it_is_read_anew_is_not_lost() {
    let mut pager = Transmitter::new(Config::default(), now());
    let mut mirror = Mirror::new();
    let history = [&sessions()[..], &["history".to_owned()]].concat();
    let lists = [sessions(), history].map(|path| ask(&mut pager, Method::Get, &path, ""));
    mirror.read(&lists[0], &lists[1], now().utc, false).unwrap();
    ask(&mut pager, Method::Post, &sessions(), r#"{"number":7}"#);

    let (jobs, learned) = sync_channel(8);
    let health = SharedHealth::of(BOX.to_string());
    let held = MirroredBox::new(
        "terrace".to_owned(),
        BOX,
        mirror,
        (Duration::from_secs(70), health),
    );
    let mut mirrors = Mirrors::new(vec![held], jobs, Arc::default(), [1; 32]);
    let mut ours = Endpoint::new(rollcall_coap::Config::default(), [2; 32], 0);
    let mut of_box = Endpoint::new(rollcall_coap::Config::default(), [3; 32], 0);
    let at = now().monotonic;
    for _ in 0..20 {
        mirrors.obey(&mut ours, now(), Command::Tick);
        while let Some((_, bytes)) = ours.poll_transmit() {
            of_box.receive(at, OURS, &bytes);
        }
        while let Some(Event::Request(id, request)) = of_box.poll_event() {
            let is_observed = request.path == ["v1", "notify"];
            let path = if is_observed {
                sessions()
            } else {
                request.path
            };
            let body = ask(&mut pager, Method::Get, &path, "");
            of_box.respond(at, id, Response::content(JSON, body), is_observed);
        }
        while let Some((_, bytes)) = of_box.poll_transmit() {
            ours.receive(at, BOX, &bytes);
        }
        while let Some(event) = ours.poll_event() {
            mirrors.hear(&mut ours, now(), event);
        }
    }
    let events = learned.try_iter().flat_map(|job| match job {
        Job::Learnt(learnt) => learnt.events,
        _ => Vec::new(),
    });
    let events: Vec<Happening> = events.map(|(_, what)| what).collect();
    assert!(
        matches!(&events[..], [Happening::Created { session }] if session.number == 7),
        "{events:?}"
    );
}
