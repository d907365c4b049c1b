//! What goes wrong in a seed's life, and when.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Milliseconds of virtual time in which ticks are produced.
pub(crate) const LIFE_MS: i64 = 60_000;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The connection breaks; both ends learn of it, or one, or none. No new one for a while.
    Cut { away_ms: i64 },
    /// The agent's process ends without warning.
    KillAgent { power: bool },
    /// The agent's process ends in good order, and another begins.
    RestartAgent,
    /// The collector's process ends without warning.
    KillCollector { power: bool, away_ms: i64 },
    /// The collector's disk goes back to what it was at the last snapshot.
    RollBackCollector { away_ms: i64 },
    /// The agent's disk goes back to what it was at the last snapshot.
    RollBackAgent,
    /// A disk operation fails.
    FaultyDisk { agent: bool, after_ops: u64, full: bool },
    /// The collector's disk refuses everything for a while.
    FullDisk { away_ms: i64 },
}

/// A seed's life.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) series: u32,
    pub(crate) tick_ms: i64,
    pub(crate) latency_ms: i64,
    pub(crate) mishaps: Vec<(i64, Mishap)>,
    pub(crate) snapshot_agent_at: i64,
    pub(crate) snapshot_collector_at: i64,
    pub(crate) spool_bytes_max: u64,
    pub(crate) spool_age_max_ms: i64,
    /// One tick in so many is ten minutes ahead; 0: none.
    pub(crate) future_every: u64,
    /// The agent's host's clock is set at these times, to be so many milliseconds off.
    pub(crate) clock_set: Vec<(i64, i64)>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x51ab);
        let mut mishaps = Vec::new();
        for _ in 0..rng.random_range(0..6) {
            let at = rng.random_range(0..LIFE_MS);
            let away_ms = [50, 2_000, 8_000, 25_000][rng.random_range(0..4)];
            let power = rng.random();
            mishaps.push((
                at,
                match rng.random_range(0..16) {
                    0..=4 => Mishap::Cut { away_ms },
                    5 | 6 => Mishap::KillAgent { power },
                    7 => Mishap::RestartAgent,
                    8..=10 => Mishap::KillCollector { power, away_ms },
                    11 => Mishap::RollBackCollector { away_ms },
                    12 => Mishap::RollBackAgent,
                    13 | 14 => Mishap::FaultyDisk {
                        agent: rng.random(),
                        after_ops: rng.random_range(0..30),
                        full: rng.random(),
                    },
                    _ => Mishap::FullDisk { away_ms },
                },
            ));
        }
        // A sync that fails and a cut of what it left that fails too leave bytes that the next
        // process reads and a later power cut takes (docs/formats/wal.md, "as far as the disk lets
        // us"): known, and not looked for here. So the collector's disk fails once in a life.
        let mut faults = 0;
        mishaps.retain(|(_, mishap)| {
            faults += u32::from(matches!(mishap, Mishap::FaultyDisk { agent: false, .. }));
            faults <= 1 || !matches!(mishap, Mishap::FaultyDisk { agent: false, .. })
        });
        mishaps.sort_by_key(|(at, _)| *at);
        Self {
            series: rng.random_range(1..5),
            tick_ms: [500, 1_000, 2_000][rng.random_range(0..3)],
            latency_ms: [0, 5, 40, 400][rng.random_range(0..4)],
            mishaps,
            snapshot_agent_at: rng.random_range(0..LIFE_MS),
            snapshot_collector_at: rng.random_range(0..LIFE_MS),
            spool_bytes_max: if rng.random_ratio(1, 8) { 24 << 10 } else { 8 << 20 },
            spool_age_max_ms: if rng.random_ratio(1, 8) { 15_000 } else { 86_400_000 },
            future_every: if rng.random_ratio(1, 4) { 7 } else { 0 },
            clock_set: clock_set(seed),
        }
    }

    /// Whether what the spool keeps can be lost, so that a rollback of the collector may cost
    /// what it acknowledged.
    pub(crate) fn spares_the_agent(&self) -> bool {
        self.spool_bytes_max > 1 << 20
            && self.mishaps.iter().all(|(_, mishap)| {
                !matches!(
                    mishap,
                    Mishap::KillAgent { .. }
                        | Mishap::RollBackAgent
                        | Mishap::FaultyDisk { agent: true, .. }
                )
            })
    }

    pub(crate) fn rolls_back_collector(&self) -> bool {
        self.mishaps.iter().any(|(_, mishap)| matches!(mishap, Mishap::RollBackCollector { .. }))
    }

    pub(crate) fn rolls_back_agent(&self) -> bool {
        self.mishaps.iter().any(|(_, mishap)| matches!(mishap, Mishap::RollBackAgent))
    }
}

/// In every fourth life. Forward by less than the spool keeps what was acknowledged.
fn clock_set(seed: u64) -> Vec<(i64, i64)> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xc10c);
    if !rng.random_ratio(1, 4) {
        return Vec::new();
    }
    let offs_ms = [-3_600_000, -600_000, 0, 1_200_000];
    (0..rng.random_range(1..4))
        .map(|_| (rng.random_range(0..LIFE_MS), offs_ms[rng.random_range(0..offs_ms.len())]))
        .collect()
}
