//! The database against a map, on a disk that crashes, fills up and fails, by seed.
//!
//! Each batch carries a mark with its number, so that after a crash the mark says which batches
//! there must be: exactly those up to it, at least those that were synced. Blocks are merged, samples
//! deleted and history imported in between; a deletion or an import that failed is repeated until it is
//! done. Some samples are native histograms, of series that have floats at other instants. Copies are made
//! of the running database, and must be what it was then, whatever becomes of it. In every other world
//! samples go when they are old enough, in every fourth they are rolled up before: windows must be those
//! of all samples there ever were.
//!
//! Every crash is an image: the disk as a power cut leaves it, a random part of what was not durable
//! lost, from which the database has to come back, a quarter of the times through another crash on
//! the way. `STOA_CRASH_IMAGES` says how many each test makes at least, two threads make them, and a
//! failure names its seed: `STOA_SEED` repeats one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test: what goes wrong is to fail it"
)]

#[path = "model/copies.rs"]
mod copies;
#[path = "model/data.rs"]
mod data;
#[path = "model/import.rs"]
mod import;
#[path = "model/windows.rs"]
mod windows;
#[path = "model/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use stoa_tsdb::Options;

use crate::world::World;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const OUT_OF_ORDER_MS: i64 = 5 * MINUTE_MS;
const THREADS: usize = 2;
/// Crash images each test makes at least.
const IMAGES: u64 = 500;
/// Where the seeds of disks that fail begin.
const FAULTY_FROM: u64 = 1 << 32;

/// What a world is like beside its disk.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// Samples go when they are old enough.
    ages: bool,
    /// They are rolled up before.
    has_tiers: bool,
}

impl Kind {
    fn of(seed: u64) -> Self {
        Self { ages: seed % 4 >= 2, has_tiers: seed % 4 == 3 }
    }

    fn options(self) -> Options {
        // Rollups are made of whole hours, and of samples that stay for longer than they take.
        let (block, spans, kept): (i64, &[i64], i64) = match self {
            Self { has_tiers: true, .. } => (5, &[60], 120),
            Self { ages: true, .. } => (1, &[3, 6], 20),
            Self { .. } => (1, &[3, 6, 12], 14 * 24 * 60),
        };
        let tier_ms = if self.has_tiers { 90 * DAY_MS } else { 0 };
        Options {
            block_ms: block * MINUTE_MS,
            grace_ms: 5_000,
            out_of_order_ms: OUT_OF_ORDER_MS,
            head_chunk_samples: 16,
            log_bytes_max: 4_000,
            compaction_ms: spans.iter().map(|n| n * MINUTE_MS).collect(),
            retention_ms: kept * MINUTE_MS,
            minute_retention_ms: tier_ms,
            hour_retention_ms: tier_ms,
            ..Options::default()
        }
    }
}

/// How often what happened.
type Figures = BTreeMap<&'static str, u64>;

/// Ends the other threads when one fails.
struct EndAll<'a>(&'a AtomicU64);

impl Drop for EndAll<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(u64::MAX / 2, Relaxed);
        }
    }
}

/// Runs at least these seeds, and more until there are images enough.
fn run(seeds: std::ops::Range<u64>, faults: bool) {
    let only = std::env::var("STOA_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    if only.is_some_and(|seed| seed < seeds.start || faults != (seed >= FAULTY_FROM)) {
        return;
    }
    let wanted = std::env::var("STOA_CRASH_IMAGES").map_or(IMAGES, |n| n.parse().unwrap());
    let next = AtomicU64::new(only.unwrap_or(seeds.start));
    let end = only.map_or(seeds.end, |seed| seed + 1);
    let images = AtomicU64::new(0);
    let worlds: Vec<Figures> = std::thread::scope(|scope| {
        let work = || {
            let _end_all = EndAll(&next);
            let mut sums = Figures::new();
            loop {
                let seed = next.fetch_add(1, Relaxed);
                let is_enough = only.is_some() || images.load(Relaxed) >= wanted;
                if seed >= u64::MAX / 2 || seed >= end && is_enough {
                    return sums;
                }
                let figures = live(seed, faults);
                images.fetch_add(figures["images"], Relaxed);
                add(&mut sums, &figures);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sums = Figures::new();
    worlds.iter().for_each(|world| add(&mut sums, world));
    let of = |name: &str| sums.get(name).copied().unwrap_or(0);
    let last = next.load(Relaxed).saturating_sub(THREADS as u64 + 1);
    println!(
        "crashes: {} images, {} of them while coming back from one, seeds {} to {last}{}",
        of("images"),
        of("images again"),
        seeds.start,
        if faults { ", on a disk that fails and fills up" } else { "" }
    );
    println!("{sums:?}");
    if only.is_some() {
        return;
    }
    assert!(of("images") >= wanted && of("images again") > of("images") / 10, "{sums:?}");
    // The runs are long enough for everything to happen.
    let all = [
        ("blocks", 100),
        ("checkpoints", 100),
        ("series removed", 10),
        ("histograms", 1000),
        ("hints forgotten", 10),
        ("merges", 100),
        ("samples dropped", 100),
        ("series deleted", 100),
        ("samples imported", 1000),
        ("copies", 100),
        ("samples aged", 100),
        ("windows", 1000),
        ("windows of what is gone", 100),
    ];
    for (name, least) in all {
        assert!(of(name) >= least, "{name}: {sums:?}");
    }
}

fn add(sums: &mut Figures, figures: &Figures) {
    for (name, count) in figures {
        *sums.entry(name).or_default() += count;
    }
}

fn live(seed: u64, faults: bool) -> Figures {
    let mut world = World::new(seed);
    for _ in 0..160 {
        world.step(faults);
    }
    world.disk.set_capacity(None);
    world.crash();
    world.figures
}

#[test]
fn what_was_synced_survives_any_crash_exactly() {
    run(0..100, false);
}

#[test]
fn a_disk_that_fills_up_and_fails_loses_nothing_that_was_synced() {
    run(FAULTY_FROM..FAULTY_FROM + 100, true);
}
