//! Uplink and ingest together, over a link and disks that fail by seed.
//!
//! Each seed is a small life of one agent and one collector – the real machines, spool, database
//! and codec – in virtual time: cuts, silences, kills, power cuts, disk faults, and disks set back
//! to an earlier state. In every step the agent's books balance; at the end, when all has healed,
//! everything has drained, what was acknowledged is stored, once, bit by bit, and
//! `produced = stored + dropped + in spool`, but for what a killed agent had in memory.
//!
//! `STOA_SEED=n` runs one seed and prints its story; `STOA_SEEDS=n` runs so many instead of
//! [`SEEDS`].

mod agent;
mod collector;
mod plan;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::world::World;

const SEEDS: u64 = 10_000;

#[test]
fn whatever_fails_nothing_acknowledged_is_lost_and_everything_is_accounted_for() {
    if let Some(seed) = number("STOA_SEED") {
        World::new(seed, true).run();
        return;
    }
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let seeds = number("STOA_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let run = AssertUnwindSafe(|| World::new(seed, false).run());
                    if catch_unwind(run).is_err() {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("seed {seed} failed; again with STOA_SEED={seed}");
                    }
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "a seed failed, see above");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
