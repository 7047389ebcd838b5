//! Bytes that nobody meant: into sessions, into handshakes, and transcripts that were tampered with.

use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall_coap::Code;

use crate::sim::{FAIR, SERVER, Sim};

const SECOND: Duration = Duration::from_secs(1);

/// Changes bytes, cuts, repeats or lengthens.
fn spoil(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 => bytes[at] ^= 1 << rng.random_range(0..8),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend_from_slice(&tail);
            }
            // Types, epochs and lengths are in the headers.
            4 if bytes.len() > 25 => bytes[rng.random_range(0..25)] = rng.random(),
            _ => bytes[at] = rng.random(),
        }
    }
}

#[test]
fn rubbish_in_a_sessions_place_ends_nothing() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut sim = Sim::new(20, FAIR);
    let at = sim.add(1);
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
    let wire = sim.wire.clone();
    for n in 0..20_000 {
        let mut bytes = vec![0; rng.random_range(0..200)];
        rng.fill(&mut bytes[..]);
        if n % 2 == 0 {
            // Of records, and of alerts above all.
            let header = [
                21,
                0xFE,
                0xFD,
                0,
                (n / 2 % 3) as u8,
                0,
                0,
                0,
                0,
                1,
                0,
                0,
                2,
                2,
                0,
            ];
            bytes.splice(0..0, header);
        }
        if n % 5 == 0 {
            bytes = wire[rng.random_range(0..wire.len())].2.clone();
            spoil(&mut rng, &mut bytes);
        }
        sim.server.receive(sim.now, at, &bytes);
        let client = sim.clients.get_mut(&at).unwrap();
        client.receive(sim.now, SERVER, &bytes);
    }
    sim.run_for(SECOND);
    assert_eq!(sim.server.layer.sessions(), 1);
    let call = sim.get(at);
    sim.run_for(SECOND);
    assert_eq!(sim.code(call), Ok(Code::CONTENT));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Somebody between the two changes what passes: nobody falls over, nothing is carried out that was not asked for, and once
    /// they are left alone all is well.
    #[test]
    fn tampering_is_survived(seed: u64, share in 0.0..0.6_f64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sim = Sim::new(seed, FAIR);
        let at = sim.add(1);
        let first = sim.get(at);
        let mut seen = 0;
        for _ in 0..400 {
            sim.run_for(Duration::from_millis(20));
            while seen < sim.wire.len() {
                let (from, to, mut bytes) = sim.wire[seen].clone();
                seen += 1;
                if rng.random_bool(share) {
                    spoil(&mut rng, &mut bytes);
                    let now = sim.now;
                    if to == SERVER {
                        sim.server.receive(now, from, &bytes);
                    } else if let Some(client) = sim.clients.get_mut(&to) {
                        client.receive(now, from, &bytes);
                    }
                }
            }
        }
        sim.run_for(Duration::from_secs(200));
        prop_assert!(sim.ended.contains_key(&first));
        prop_assert!(sim.asked.iter().all(|(_, who, body)| who.as_deref() == Some("d1") && body.is_empty()));
        prop_assert!(sim.server.layer.sessions() <= 1);
        let call = sim.get(at);
        sim.run_for(Duration::from_secs(100));
        prop_assert!(sim.ended.contains_key(&call));
        let call = sim.get(at);
        sim.run_for(Duration::from_secs(100));
        prop_assert_eq!(sim.code(call), Ok(Code::CONTENT));
    }
}
