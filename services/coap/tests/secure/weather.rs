//! Handshakes and data while datagrams are lost, doubled and reordered.

use std::time::Duration;

use proptest::prelude::*;
use rollcall_coap::{Call, Code, Failure};

use crate::sim::{FAIR, Sim, Weather};

#[test]
fn in_fair_weather_devices_are_served_under_their_names() {
    let mut sim = Sim::new(1, FAIR);
    let clients: Vec<_> = (1..=20).map(|n| sim.add(n)).collect();
    let calls: Vec<_> = clients.iter().map(|at| sim.get(*at)).collect();
    sim.run_for(Duration::from_secs(1));
    for call in calls {
        assert_eq!(sim.code(call), Ok(Code::CONTENT));
        // Large though it is, and trusted though nobody is: no Echo was asked for.
        assert_eq!(sim.ended[&call].as_ref().unwrap().payload.len(), 3_000);
    }
    assert_eq!(sim.server.layer.sessions(), 20);
    assert_eq!(sim.server.layer.handshakes(), 0);
    for (n, at) in (1..).zip(clients) {
        let mut of_peer = sim.asked.iter().filter(|(peer, ..)| *peer == at);
        let name = format!("d{n}");
        assert!(of_peer.all(|(_, identity, _)| identity.as_deref() == Some(&name[..])));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn in_bad_weather_each_change_is_made_once(
        seed: u64, lost in 0.0..0.3_f64, doubled in 0.0..0.5_f64, delay in 0_u64..400
    ) {
        let weather = Weather { lost, doubled, delay: Duration::from_millis(delay) };
        let mut sim = Sim::new(seed, weather);
        let at = sim.add(1);
        let mut changed = 0;
        for n in 0..6 {
            let call = Call {
                payload: format!("change {n}").into(),
                ..Call::new(Code::POST, "/thing")
            };
            let call = sim.call(at, call);
            sim.run_for(Duration::from_secs(180));
            match sim.code(call) {
                Ok(code) => {
                    prop_assert_eq!(code, Code::CHANGED);
                    changed += 1;
                    let made = sim.asked.iter().filter(|asked| asked.2 == format!("change {n}"));
                    prop_assert_eq!(made.count(), 1);
                }
                // The weather may win, but what is said then is true.
                Err(failure) => prop_assert!(!matches!(failure, Failure::NoKey | Failure::Blocks | Failure::Reset)),
            }
        }
        prop_assert!(changed >= 3, "{} changes came through", changed);
        prop_assert!(sim.server.layer.sessions() <= 1);
        sim.run_for(Duration::from_secs(10));
        prop_assert_eq!(sim.server.layer.handshakes(), 0);
    }
}
