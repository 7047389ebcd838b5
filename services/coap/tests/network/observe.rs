//! Observation.

use std::time::Duration;

use proptest::prelude::*;
use rollcall_coap::{Call, Code, Config, Urgency};

use crate::sim::{Sim, Weather};
use crate::transfer::weather;

const CALM: Weather = Weather {
    lost: 0.0,
    doubled: 0.0,
    delay: Duration::from_millis(10),
};

fn observe() -> Call {
    Call {
        observe: true,
        ..Call::new(Code::GET, "/box")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What an observer knows in the end is what is; and it never goes back in time.
    #[test]
    fn an_observer_ends_with_the_last_state(
        seed: u64,
        weather in weather(),
        states in proptest::collection::vec(1u64..20_000, 1..30),
        is_large: bool,
    ) {
        let weather = Weather { lost: weather.lost / 2.0, delay: weather.delay / 2, ..weather };
        let mut sim = Sim::new(seed, weather);
        let body = |n: usize| vec![u8::try_from(n).unwrap(); if is_large { 2_000 } else { 4 }];
        sim.server.stored = body(0);
        sim.call(observe());
        sim.run(Duration::from_secs(100));
        for (n, pause) in states.iter().enumerate() {
            sim.publish(&body(n + 1), Urgency::Latest);
            sim.run(sim.now + Duration::from_millis(*pause));
        }
        sim.run(sim.now + Duration::from_secs(1_000));
        // Where everything was lost five times over, the observation has ended, and both sides may know.
        if sim.ended.is_empty() && !sim.server.observers.is_empty() {
            let seen: Vec<u8> = sim.notified.iter().map(|response| response.payload[0]).collect();
            prop_assert!(seen.is_sorted(), "{seen:?}");
            prop_assert_eq!(seen.last().copied(), u8::try_from(states.len()).ok());
            for response in &sim.notified {
                let first = response.payload[0];
                prop_assert!(response.payload.iter().all(|byte| *byte == first), "states are mixed");
            }
        }
    }

    /// Of events each arrives, once and in order.
    #[test]
    fn each_event_reaches_its_observer(seed: u64, weather in weather(), events in 1u8..40) {
        let weather = Weather { lost: weather.lost / 2.0, ..weather };
        let mut sim = Sim::new(seed, weather);
        sim.call(observe());
        sim.run(Duration::from_secs(100));
        for n in 0..events {
            sim.publish(&[n], Urgency::Each);
            sim.run(sim.now + Duration::from_millis(300));
        }
        sim.run(sim.now + Duration::from_secs(5_000));
        if sim.ended.is_empty() && sim.server.gone == 0 {
            let seen: Vec<u8> = sim.notified.iter().filter_map(|r| r.payload.first().copied()).collect();
            let mut once = seen.clone();
            once.dedup();
            // A late registration may bring the last state once more.
            prop_assert_eq!(&once[..usize::from(events)], &(0..events).collect::<Vec<_>>()[..]);
        }
    }
}

#[test]
fn an_observer_that_is_away_is_forgotten() {
    let mut sim = Sim::new(3, CALM);
    let call = sim.call(observe());
    sim.run(Duration::from_secs(10));
    assert_eq!(sim.server.observers.len(), 1);
    sim.at_client = rollcall_coap::Endpoint::new(Config::default(), [9; 32], 0);
    sim.publish(b"news", Urgency::Latest);
    sim.run(Duration::from_secs(20));
    assert!(sim.server.observers.is_empty(), "a Reset ends it");
    assert!(!sim.ended.contains_key(&call));
}

#[test]
fn cancelling_tells_the_server() {
    let mut sim = Sim::new(4, CALM);
    let call = sim.call(observe());
    sim.run(Duration::from_secs(10));
    sim.at_client.cancel(sim.now, call);
    sim.run(Duration::from_secs(20));
    assert!(sim.server.observers.is_empty());
}

#[test]
fn three_heartbeats_without_an_answer_end_it() {
    let config = Config {
        heartbeat: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    let mut sim = Sim::with(5, CALM, config);
    sim.call(observe());
    sim.run(Duration::from_secs(300));
    assert_eq!(
        sim.server.observers.len(),
        1,
        "an observer that answers stays"
    );
    let before = sim.now;
    let mut deaf = Sim::with(
        6,
        CALM,
        Config {
            heartbeat: Some(Duration::from_secs(30)),
            ..Config::default()
        },
    );
    deaf.call(observe());
    deaf.run(before);
    // From here on the client says nothing.
    deaf.at_client = rollcall_coap::Endpoint::new(Config::default(), [9; 32], 0);
    let wire = deaf.wire.len();
    deaf.at_server
        .handle_timeout(before + Duration::from_secs(29));
    for second in 0..150 {
        let now = before + Duration::from_secs(second);
        deaf.at_server.handle_timeout(now);
        while deaf.at_server.poll_transmit().is_some() {}
        while let Some(event) = deaf.at_server.poll_event() {
            match event {
                rollcall_coap::Event::Heartbeat(id) => {
                    let response = rollcall_coap::Response::content(0, "ping");
                    deaf.at_server.notify(now, id, response, Urgency::Latest);
                }
                rollcall_coap::Event::ObserverGone(_) => {
                    assert!(
                        (90..=121).contains(&second),
                        "after three pings: {second} s"
                    );
                    return;
                }
                event => panic!("{event:?}"),
            }
        }
    }
    panic!("the observer is still there; {wire} datagrams before");
}
