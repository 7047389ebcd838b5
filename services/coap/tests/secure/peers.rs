//! Who may connect, who may not, and who has to go.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rollcall_coap::dtls::{Config, Keys, Own};
use rollcall_coap::message::Message;
use rollcall_coap::{Call, Code, Endpoint, Event, Failure, Kind, Response};

use crate::sim::{FAIR, Host, SERVER, Sim, address, keys};

const SECOND: Duration = Duration::from_secs(1);

fn observing() -> Call {
    Call {
        observe: true,
        ..Call::new(Code::GET, "/thing")
    }
}

#[test]
fn a_wrong_key_and_an_unknown_name_fail_alone() {
    let mut sim = Sim::new(2, FAIR);
    let good = sim.add(1);
    let wrong_key = sim.add_with(2, "d2", 99);
    let unknown = sim.add_with(3, "nobody", 3);
    let calls = [good, wrong_key, unknown].map(|at| sim.get(at));
    sim.run_for(SECOND);
    // The server says at once that it will not do: nobody waits.
    assert_eq!(sim.code(calls[0]), Ok(Code::CONTENT));
    assert_eq!(sim.code(calls[1]), Err(Failure::Refused));
    assert_eq!(sim.code(calls[2]), Err(Failure::Refused));
    assert_eq!(sim.server.layer.sessions(), 1);
    assert_eq!(sim.server.layer.handshakes(), 0);
    let again = sim.get(good);
    sim.run_for(SECOND);
    assert_eq!(sim.code(again), Ok(Code::CONTENT));
    assert!(sim.asked.iter().all(|(peer, ..)| *peer == good));
}

#[test]
fn what_is_plain_reaches_nothing() {
    let mut sim = Sim::new(3, FAIR);
    let ping = [0x40, 0, 0x12, 0x34];
    sim.send(address(9), SERVER, &ping);
    sim.send(address(9), SERVER, &[0x40, 1, 0x12, 0x35, 0xB1, b'x']);
    sim.run_for(SECOND);
    assert_eq!(sim.wire.len(), 2);
    assert_eq!(sim.asked.len(), 0);
}

/// A ClientHello that a client sends first.
fn hello(seed: u64) -> Vec<u8> {
    let mut host = Host::client("d1", 1, seed);
    host.endpoint
        .call(SECOND, SERVER, Call::new(Code::GET, "/thing"));
    host.push(SECOND);
    let (_, bytes) = host.layer.poll_transmit().expect("a hello");
    bytes.to_vec()
}

#[test]
fn strangers_cost_nothing_and_keep_nobody_out() {
    let mut sim = Sim::new(4, FAIR);
    let first = hello(1);
    for n in 0..20_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let from = SocketAddr::from(([198, a, b, c], 1_024 + (n % 60_000) as u16));
        sim.server.receive(sim.now, from, &first);
        let (to, answer) = sim.server.layer.poll_transmit().unwrap();
        assert_eq!(to, from);
        assert!(answer.len() < first.len(), "what is answered is no more");
        assert!(sim.server.layer.poll_transmit().is_none());
    }
    assert_eq!(sim.server.layer.handshakes(), 0);
    assert_eq!(sim.server.layer.sessions(), 0);
    assert_eq!(sim.server.layer.poll_timeout(), None);
    let at = sim.add(1);
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
}

/// Brings a handshake to where the server has answered, and leaves it there.
fn stall(sim: &mut Sim, from: SocketAddr, seed: u64) {
    let mut host = Host::client("d1", 1, seed);
    host.endpoint
        .call(sim.now, SERVER, Call::new(Code::GET, "/thing"));
    host.push(sim.now);
    for _ in 0..2 {
        let (_, bytes) = host.layer.poll_transmit().expect("a hello");
        sim.server.receive(sim.now, from, &bytes);
        while let Some((_, bytes)) = sim.server.layer.poll_transmit() {
            host.receive(sim.now, SERVER, &bytes);
        }
    }
}

#[test]
fn handshakes_that_stall_are_counted_and_end() {
    let mut sim = Sim::new(5, FAIR);
    for n in 0..20 {
        stall(&mut sim, SocketAddr::from(([203, 0, 113, n], 5_000)), 5);
    }
    assert_eq!(sim.server.layer.handshakes(), 8, "of one network");
    for n in 0..1_200_u16 {
        stall(&mut sim, address(n), u64::from(n));
    }
    assert_eq!(sim.server.layer.handshakes(), 1_000, "of all");
    // They had their time: who comes now comes in, of the crowded network too.
    sim.run_for(Duration::from_millis(1_500));
    let at = SocketAddr::from(([203, 0, 113, 200], 5_000));
    sim.clients.insert(at, Host::client("d1", 1, 77));
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
    sim.run_for(6 * SECOND);
    assert_eq!(sim.server.layer.handshakes(), 0);
    assert_eq!(sim.server.layer.sessions(), 1);
}

#[test]
fn a_device_that_was_restarted_connects_anew_from_its_old_address() {
    let mut sim = Sim::new(6, FAIR);
    let at = sim.add(1);
    sim.call(at, observing());
    sim.run_for(SECOND);
    assert_eq!(sim.observers.len(), 1);
    // The power goes; what observed is not told that it is gone.
    sim.add(1);
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
    assert_eq!((sim.server.layer.sessions(), sim.gone), (1, 1));
    assert_eq!(sim.server.layer.handshakes(), 0);
}

#[test]
fn who_claims_the_address_of_another_without_its_key_ends_nothing() {
    let mut sim = Sim::new(7, FAIR);
    let at = sim.add(1);
    sim.call(at, observing());
    sim.run_for(SECOND);
    // It even receives there, so the cookie comes back.
    let honest = sim.clients.remove(&at).unwrap();
    sim.add_with(1, "d1", 99);
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Err(Failure::Refused));
    assert_eq!((sim.server.layer.sessions(), sim.gone), (1, 0));
    sim.clients.insert(at, honest);
    sim.publish("news");
    sim.run_for(SECOND);
    let last = sim.notified.last().unwrap();
    assert_eq!(&last.1.payload[..], b"news");
}

#[test]
fn a_late_hello_changes_nothing() {
    let mut sim = Sim::new(8, FAIR);
    let at = sim.add(1);
    sim.call(at, observing());
    sim.run_for(SECOND);
    let handshake: Vec<_> = sim
        .wire
        .iter()
        .filter(|sent| sent.0 == at)
        .cloned()
        .collect();
    for (from, to, bytes) in handshake {
        sim.send(from, to, &bytes);
    }
    sim.run_for(10 * SECOND);
    assert_eq!((sim.server.layer.sessions(), sim.gone), (1, 0));
    assert_eq!(sim.server.layer.handshakes(), 0);
    assert_eq!(sim.asked.len(), 1, "repeats are nothing new");
    sim.publish("news");
    sim.run_for(SECOND);
    assert_eq!(&sim.notified.last().unwrap().1.payload[..], b"news");
}

#[test]
fn a_goodbye_ends_what_was_of_the_session() {
    let mut sim = Sim::new(9, FAIR);
    let at = sim.add(1);
    sim.call(at, observing());
    sim.run_for(SECOND);
    sim.clients.get_mut(&at).unwrap().layer.close();
    sim.run_for(SECOND);
    assert_eq!((sim.server.layer.sessions(), sim.gone), (0, 1));
    // And the other way round: the server's goodbye ends calls.
    let at = sim.add(2);
    let call = sim.call(at, observing());
    sim.run_for(SECOND);
    sim.server.layer.close();
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Err(Failure::Session));
    let again = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(again), Ok(Code::CONTENT));
}

#[test]
fn who_is_silent_for_too_long_has_to_connect_anew() {
    let config = Config {
        keys: Some(keys()),
        idle_for: Duration::from_secs(600),
        max_sessions: 3,
        ..Config::default()
    };
    let mut sim = Sim::with(10, FAIR, config);
    for n in 1..=3 {
        let at = sim.add(n);
        sim.get(at);
        sim.run_for(10 * SECOND);
    }
    // The first speaks again, so that the second was silent longest when there are too many.
    sim.get(address(1));
    sim.run_for(10 * SECOND);
    let fourth = sim.add(4);
    let call = sim.get(fourth);
    sim.run_for(10 * SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
    assert_eq!(sim.server.layer.sessions(), 3);
    assert_eq!(sim.clients[&address(2)].layer.sessions(), 0);
    assert_eq!(sim.clients[&address(1)].layer.sessions(), 1);
    sim.run_for(Duration::from_secs(601));
    assert_eq!(sim.server.layer.sessions(), 0);
    let call = sim.get(address(1));
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
}

#[test]
fn keys_may_be_exchanged_at_any_time() {
    let keys = keys();
    let config = Config {
        keys: Some(keys.clone()),
        ..Config::default()
    };
    let mut sim = Sim::with(11, FAIR, config);
    for n in [1, 2] {
        let at = sim.add(n);
        sim.call(at, observing());
    }
    sim.run_for(SECOND);
    assert_eq!(sim.server.layer.sessions(), 2);
    let mut text = format!("d1:{}\n", "01".repeat(16));
    text.push_str(&format!("d2:{}\n", "77".repeat(16)));
    keys.replace(Keys::parse(&text).unwrap());
    let first = sim.get(address(1));
    sim.run_for(SECOND);
    assert_eq!(sim.code(first), Ok(Code::CONTENT));
    assert_eq!((sim.server.layer.sessions(), sim.gone), (1, 1));
    let second = sim.get(address(2));
    sim.run_for(SECOND);
    assert_eq!(sim.code(second), Err(Failure::Refused));
    let with_new_key = sim.add_with(2, "d2", 0x77);
    let call = sim.get(with_new_key);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
}

#[test]
fn a_server_that_was_restarted_is_found_again() {
    let mut sim = Sim::new(12, FAIR);
    let at = sim.add(1);
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
    let config = Config {
        keys: Some(keys()),
        ..Config::default()
    };
    sim.server = Host::new(config, 99);
    let lost = sim.get(at);
    sim.run_for(Duration::from_secs(120));
    assert!(sim.code(lost).is_err());
    let call = sim.get(at);
    sim.run_for(Duration::from_secs(100));
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
}

#[test]
fn who_is_known_to_have_restarted_is_connected_to_at_once_with_the_key_of_the_day() {
    let mut sim = Sim::new(13, FAIR);
    let list = |text: &str| Arc::new(Keys::parse(text).unwrap());
    let keys_of_ours = list(&format!(
        "other:{}\nd1:{}\n",
        "77".repeat(16),
        "01".repeat(16)
    ));
    let own = |identity: &str| Own {
        keys: keys_of_ours.clone(),
        identity: identity.into(),
    };
    let config = |identity: &str| Config {
        peers: HashMap::from([(SERVER, own(identity))]),
        ..Config::default()
    };
    sim.clients.insert(address(1), Host::new(config("d1"), 1));
    sim.clients
        .insert(address(2), Host::new(config("other"), 2));
    let calls = [1, 2].map(|n| sim.get(address(n)));
    sim.run_for(SECOND);
    assert_eq!(sim.code(calls[0]), Ok(Code::CONTENT));
    assert_eq!(sim.code(calls[1]), Err(Failure::Refused), "its key alone");
    let config = Config {
        keys: Some(keys()),
        ..Config::default()
    };
    sim.server = Host::new(config, 98);
    let lost = sim.get(address(1));
    let client = sim.clients.get_mut(&address(1)).unwrap();
    client.endpoint.disconnect(SERVER);
    sim.run_for(SECOND);
    assert_eq!(sim.code(lost), Err(Failure::Session));
    let call = sim.get(address(1));
    sim.run_for(SECOND);
    assert_eq!(
        sim.code(call),
        Ok(Code::CONTENT),
        "without waiting for silence"
    );
    keys_of_ours.replace(Keys::parse("").unwrap());
    let client = sim.clients.get_mut(&address(1)).unwrap();
    client.endpoint.disconnect(SERVER);
    sim.run_for(SECOND);
    let call = sim.get(address(1));
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Err(Failure::NoKey));
}

#[test]
fn a_handshake_that_nobody_answers_ends() {
    let mut sim = Sim::new(14, FAIR);
    let at = sim.add(1);
    // It takes what comes, and says nothing.
    sim.server = Host::new(Config::default(), 97);
    let call = sim.get(at);
    sim.run_for(Duration::from_secs(30));
    assert_eq!(sim.code(call), Err(Failure::NoHandshake));
    assert_eq!(sim.clients[&at].layer.handshakes(), 0);
}

/// Requests that wait when a session ends are answered to nobody, and the next session's messages are not taken for repeats.
#[test]
fn nothing_goes_from_one_session_to_the_next() {
    let mut host = Host::client("d1", 1, 1);
    let endpoint = &mut host.endpoint;
    let mut message = Message {
        code: Code::PUT,
        payload: "one".into(),
        ..Message::empty(Kind::Confirmable, 77)
    };
    let asked = |endpoint: &mut Endpoint, message: &Message| {
        endpoint.receive(SECOND, SERVER, &message.encode());
        match endpoint.poll_event() {
            Some(Event::Request(id, request)) => Some((id, request)),
            _ => None,
        }
    };
    endpoint.connect(SERVER, "d1".into());
    let (waits, request) = asked(endpoint, &message).unwrap();
    assert_eq!(request.identity.as_deref(), Some("d1"));
    assert!(asked(endpoint, &message).is_none(), "a repeat");
    endpoint.forget(SERVER, Failure::Session);
    endpoint.respond(SECOND, waits, Response::new(Code::CHANGED), false);
    assert!(endpoint.poll_transmit().is_none());
    endpoint.connect(SERVER, "d2".into());
    message.payload = "two".into();
    let (id, request) = asked(endpoint, &message).unwrap();
    assert_eq!(request.identity.as_deref(), Some("d2"));
    assert_eq!(&request.payload[..], b"two");
    endpoint.respond(SECOND, id, Response::new(Code::CHANGED), false);
    assert!(endpoint.poll_transmit().is_some());
    // Without a session nobody is trusted here, so nothing is carried out.
    endpoint.forget(SERVER, Failure::Session);
    message.id = 78;
    assert!(asked(endpoint, &message).is_none());
}
