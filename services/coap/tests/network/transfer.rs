//! Requests and bodies.

use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_coap::{Call, Code, Config, TEXT};

use crate::sim::{CLIENT, SERVER, Sim, Weather};

/// All calls have ended by then: a request is given up after 93 s, an awaited answer some time later.
const LATER: Duration = Duration::from_secs(600);

pub fn weather() -> impl Strategy<Value = Weather> {
    (0.0..0.3, 0.0..0.3, 0u64..3_000).prop_map(|(lost, doubled, delay)| Weather {
        lost,
        doubled,
        delay: Duration::from_millis(delay),
    })
}

const CALM: Weather = Weather {
    lost: 0.0,
    doubled: 0.0,
    delay: Duration::from_millis(10),
};

fn post(body: &[u8]) -> Call {
    Call {
        payload: body.to_vec().into(),
        content_format: Some(TEXT),
        ..Call::new(Code::POST, "/box")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What succeeds happened once; what fails happened at most once; and requests are carried out in their order.
    #[test]
    fn a_post_is_carried_out_once(
        seed: u64,
        weather in weather(),
        thinks in 0u64..6_000,
        is_confirmable: bool,
    ) {
        let mut sim = Sim::new(seed, weather);
        sim.server.thinks = Duration::from_millis(thinks);
        let calls: Vec<_> = (0..20u8).map(|n| {
            sim.call(Call { confirmable: is_confirmable, ..post(&[n]) })
        }).collect();
        sim.run(Duration::from_secs(1) + LATER * 5);
        let mut carried_out: Vec<u8> = sim.server.posts.iter().map(|body| body[0]).collect();
        if is_confirmable && weather.lost == 0.0 {
            prop_assert!(carried_out.is_sorted());
        }
        carried_out.sort_unstable();
        let all = carried_out.len();
        carried_out.dedup();
        prop_assert_eq!(carried_out.len(), all, "one was carried out twice");
        for (n, call) in (0u8..).zip(calls) {
            let outcome = sim.ended.get(&call).expect("every call ends");
            if outcome.is_ok() {
                prop_assert!(carried_out.contains(&n));
            }
        }
    }

    /// A body is the same at the other end, whatever its size, whatever the blocks'.
    #[test]
    fn bodies_arrive_whole(
        seed: u64,
        weather in weather(),
        body in proptest::collection::vec(any::<u8>(), 0..9_000),
        size_exponent in 2u8..=6,
    ) {
        let weather = Weather { lost: weather.lost / 4.0, ..weather };
        let mut sim = Sim::new(seed, weather);
        let put = sim.call(Call {
            payload: body.clone().into(),
            size_exponent,
            ..Call::new(Code::PUT, "/box")
        });
        sim.run(Duration::from_secs(100_000));
        if sim.ended[&put].as_ref().is_ok_and(|response| response.code == Code::CHANGED) {
            prop_assert_eq!(&sim.server.stored, &body);
        } else {
            prop_assert!(sim.server.stored.is_empty() || sim.server.stored == body);
            sim.server.stored.clone_from(&body);
        }
        let get = sim.call(Call { size_exponent, ..Call::new(Code::GET, "/box") });
        sim.run(Duration::from_secs(200_000));
        if let Ok(response) = &sim.ended[&get] {
            prop_assert_eq!(&response.payload[..], &body[..]);
        }
    }

    /// Whatever a stranger makes of real datagrams: nothing panics, and the next good request is answered.
    #[test]
    fn spoiled_datagrams_do_no_harm(seed: u64, rubbish in proptest::collection::vec(any::<u8>(), 0..1_400)) {
        let mut sim = Sim::new(seed, CALM);
        sim.server.stored = vec![7; 3_000];
        sim.call(Call { observe: true, ..Call::new(Code::GET, "/box") });
        sim.call(post(&[1; 2_500]));
        sim.run(Duration::from_secs(20));
        let mut rng = StdRng::seed_from_u64(seed);
        let recorded = sim.wire.clone();
        for _ in 0..200 {
            let mut datagram = recorded[rng.random_range(0..recorded.len())].clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..datagram.len());
                datagram[at] = rng.random();
            }
            if rng.random_bool(0.3) {
                datagram.truncate(rng.random_range(0..=datagram.len()));
            }
            if rng.random_bool(0.2) {
                datagram.extend_from_slice(&rubbish);
            }
            let from = if rng.random_bool(0.5) { CLIENT } else { "127.0.0.1:999".parse().unwrap() };
            sim.at_server.receive(sim.now, from, &datagram);
            sim.at_client.receive(sim.now, SERVER, &datagram);
        }
        sim.at_server.receive(sim.now, CLIENT, &rubbish);
        sim.run(sim.now + LATER);
        let get = sim.call(Call::new(Code::GET, "/echo"));
        sim.run(sim.now + LATER);
        prop_assert!(sim.ended[&get].is_ok());
    }
}

#[test]
fn queries_are_different_resources_in_blocks_too() {
    let mut sim = Sim::new(7, CALM);
    let long = |n: u8| Call {
        query: vec![format!("{}{}", n, "x".repeat(200)); 12],
        ..Call::new(Code::GET, "/echo")
    };
    let (one, two) = (sim.call(long(1)), sim.call(long(2)));
    sim.run(LATER);
    for (call, first) in [(one, b'1'), (two, b'2')] {
        let response = sim.ended[&call].as_ref().unwrap();
        assert_eq!(
            (response.payload.len(), response.payload[0]),
            (12 * 201 + 11, first)
        );
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let mut sim = Sim::new(1, CALM);
    let call = sim.call(post(&vec![1; 70_000]));
    sim.run(LATER);
    assert_eq!(sim.ended[&call].as_ref().unwrap().code, Code::TOO_LARGE);
    assert_eq!(sim.wire.len(), 1, "the announced size is enough");
}

#[test]
fn strangers_fill_no_table() {
    let config = Config::default();
    let mut sim = Sim::with(1, CALM, config.clone());
    sim.call(post(&[1; 2_500]));
    sim.run(Duration::from_secs(5));
    let recorded = sim.wire.clone();
    for n in 0..50_000u32 {
        let from = format!("10.{}.{}.1:{}", n >> 8 & 0xFF, n & 0xFF, 1_000 + (n >> 16))
            .parse()
            .unwrap();
        for datagram in &recorded {
            sim.at_server.receive(sim.now, from, datagram);
        }
        while sim.at_server.poll_transmit().is_some() {}
    }
    let call = sim.call(Call::new(Code::GET, "/box"));
    sim.run(sim.now + LATER);
    assert!(sim.ended[&call].is_ok());
}

/// The further blocks of the answer are asked for with what the request said of its body (RFC 7959, section 2.7; aiocoap insists).
#[test]
fn a_large_post_may_have_a_large_answer() {
    let mut sim = Sim::new(1, CALM);
    let body = vec![b'm'; 5_000];
    let call = sim.call(Call {
        path: vec!["mirror".to_owned()],
        ..post(&body)
    });
    sim.run(LATER);
    let response = sim.ended[&call].as_ref().expect("the call succeeds");
    assert_eq!(
        (response.code, &response.payload[..]),
        (Code::CHANGED, &body[..])
    );
}
