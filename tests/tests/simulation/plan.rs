//! What a seed has in store.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// How a seed's world is, from its beginning to its end.
#[derive(Debug)]
pub struct Plan {
    /// Between box and relay nothing goes wrong, and both stay up: only the cloud fails.
    pub is_calm: bool,
    /// How many things happen, and how far apart at most.
    pub happenings: u32,
    pub pace: Duration,
    /// How many of them before the relay is first started.
    pub before: u32,
    pub max_history: usize,
    pub auto_page: bool,
    /// Where the box's sequence begins: some come round.
    pub sequence: u16,
    /// Bytes that events may take in the spool.
    pub max_bytes: u64,
    /// Whether boxes are replaced, and for how long the cloud may be away.
    pub is_replaced: bool,
    pub longest_silence: Duration,
}

/// What happens next.
#[derive(Debug)]
pub enum Happening {
    AtHostStand,
    /// So many at once.
    Rush(u32),
    Clock,
    Weather,
    Cut,
    Fair,
    Reboot,
    Replace,
    Kill,
    CloudAway,
    CloudPoor,
    Disk,
    /// Nothing, for long.
    Pause,
}

impl Plan {
    pub fn of(rng: &mut StdRng) -> Self {
        let pick = |rng: &mut StdRng, of: &[u64]| of[rng.random_range(0..of.len())];
        let is_calm = rng.random_bool(0.15);
        let is_busy = !is_calm && rng.random_bool(0.02);
        let is_long = rng.random_bool(0.05);
        Self {
            is_calm,
            happenings: if is_busy {
                900
            } else {
                rng.random_range(10..90)
            },
            pace: Duration::from_millis(match (is_busy, is_calm) {
                (true, _) => 500,
                // No faster than the relay writes: the box keeps so many notifications, and no more.
                (_, true) => pick(rng, &[20_000, 120_000]),
                _ => pick(rng, &[300, 3_000, 30_000, 120_000]),
            }),
            before: if rng.random_bool(0.5) {
                0
            } else {
                rng.random_range(0..30)
            },
            max_history: usize::try_from(pick(rng, &[0, 3, 12, 1_000])).expect("small"),
            auto_page: rng.random_bool(0.2),
            sequence: if rng.random_bool(0.2) {
                rng.random_range(65_490..65_535)
            } else {
                0
            },
            max_bytes: if rng.random_bool(0.1) {
                pick(rng, &[3_000, 30_000])
            } else {
                64 << 20
            },
            is_replaced: !is_calm && rng.random_bool(0.05),
            longest_silence: Duration::from_secs(if is_long { 3 * 86_400 } else { 3_600 }),
        }
    }

    pub fn next(&self, rng: &mut StdRng) -> Happening {
        let dice = rng.random_range(0..100);
        let of_all = match dice {
            0..66 => Happening::AtHostStand,
            66..69 => Happening::Rush(rng.random_range(2..40)),
            69..71 => Happening::Clock,
            71..77 => Happening::CloudPoor,
            77..81 => Happening::CloudAway,
            81..83 => Happening::Pause,
            83..88 => Happening::Weather,
            88..90 => Happening::Cut,
            90..92 => Happening::Fair,
            92..94 => Happening::Reboot,
            94..97 => Happening::Kill,
            97..99 => Happening::Disk,
            _ if self.is_replaced => Happening::Replace,
            _ => Happening::Reboot,
        };
        match of_all {
            Happening::Rush(_) if self.is_calm => Happening::AtHostStand,
            _ if self.is_calm && dice >= 83 => Happening::AtHostStand,
            happening => happening,
        }
    }
}
