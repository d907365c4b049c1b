//! The database against a map, on a disk that crashes, fills up and fails, by seed.
//!
//! Each batch carries a mark with its number, so that after a crash the mark says which batches
//! there must be: exactly those up to it, at least those that were synced. Blocks are merged and
//! samples deleted in between; a deletion that failed is repeated until it is done. Some samples are
//! native histograms, of series that have floats at other instants.
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

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span,
};
use stoa_model::{Labels, Matcher, stale_nan};
use stoa_tsdb::{
    AppendError, Batch, Db, DbError, GroupId, HistogramSample, Mark, Options, Row, SeriesRef,
};
use stoa_wal::disk::{Fault, SimDisk};

const MINUTE_MS: i64 = 60_000;
const LAST_BATCH: &[u8] = b"last batch";

fn options() -> Options {
    Options {
        block_ms: MINUTE_MS,
        grace_ms: 5_000,
        out_of_order_ms: 5 * MINUTE_MS,
        head_chunk_samples: 16,
        log_bytes_max: 4_000,
        compaction_ms: vec![3 * MINUTE_MS, 6 * MINUTE_MS, 12 * MINUTE_MS],
        ..Options::default()
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// A float's bits or a histogram.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Float(u64),
    Histogram(Arc<Histogram>),
}

/// Samples of one instant.
type Instant = (i64, Vec<(Labels, Value)>);

/// What must be stored, after a number of batches.
#[derive(Clone, Default)]
struct Model {
    samples: BTreeMap<(Labels, i64), Value>,
    /// The first instant of a series that was ever deleted: what came after one says nothing of resets.
    deleted_from: BTreeMap<Labels, i64>,
    max_t: Option<i64>,
    batches: u64,
}

impl Model {
    /// Floats in order of rows, then histograms one by one. The database was told last that it is
    /// `told`: what is further ahead of that than five minutes makes nothing older.
    fn apply(&mut self, rows: &[Instant], told: i64) {
        let window = options().out_of_order_ms;
        for histograms in [false, true] {
            for (t, samples) in rows {
                for (labels, value) in samples {
                    if matches!(value, Value::Histogram(_)) != histograms {
                        continue;
                    }
                    let newest = self.max_t.unwrap_or(i64::MIN).min(told + 5 * MINUTE_MS);
                    if *t < newest.saturating_sub(window) {
                        continue;
                    }
                    self.max_t = self.max_t.max(Some(*t));
                    self.samples.entry((labels.clone(), *t)).or_insert(value.clone());
                }
            }
        }
        self.batches += 1;
    }
}

struct World {
    seed: u64,
    dice: Dice,
    disk: SimDisk,
    db: Option<Db>,
    refs: BTreeMap<(u64, Labels), SeriesRef>,
    now: i64,
    /// What the database was told last that the time is.
    told: i64,
    /// The state after each batch from the last one known to be durable.
    states: Vec<Model>,
    blocks_written: u64,
    checkpoints: u64,
    series_removed: u64,
    merges: u64,
    dropped: u64,
    deleted: u64,
    histograms: u64,
    /// Hints of those that were forgotten.
    forgotten: u64,
    /// Power cuts, and those of them that hit a start after another.
    images: u64,
    images_again: u64,
    /// A deletion that failed: a part of it may have been done.
    deleting: Option<(String, i64, i64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            seed,
            dice: Dice(seed),
            disk: SimDisk::new(seed),
            db: None,
            refs: BTreeMap::new(),
            now: 1_700_000_000_000,
            told: 0,
            states: vec![Model::default()],
            blocks_written: 0,
            checkpoints: 0,
            series_removed: 0,
            merges: 0,
            dropped: 0,
            deleted: 0,
            histograms: 0,
            forgotten: 0,
            images: 0,
            images_again: 0,
            deleting: None,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        let (db, recovery) = Db::open(disk, Path::new("/db"), options(), self.now)
            .unwrap_or_else(|error| panic!("seed {}: {error:?}", self.seed));
        assert_eq!(recovery.damaged, 0, "seed {}: {:?}", self.seed, recovery.damage);
        assert_eq!(recovery.samples_orphaned, 0, "seed {}", self.seed);
        self.db = Some(db);
        self.told = self.now;
        self.refs.clear();
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// The database holds exactly what one of the possible states says.
    fn check(&mut self) {
        self.finish_deletion();
        let marked = self
            .db()
            .mark(LAST_BATCH)
            .map_or(0, |value| u64::from_le_bytes(value.try_into().unwrap()));
        let state = self.states.iter().find(|state| state.batches == marked);
        let state = state.unwrap_or_else(|| {
            let known: Vec<u64> = self.states.iter().map(|state| state.batches).collect();
            panic!("seed {}: the mark says {marked}, possible are {known:?}", self.seed)
        });
        let mut found = BTreeMap::new();
        for series in self.db().select(&[], i64::MIN, i64::MAX, 100, 1_000_000).unwrap() {
            for (t, v) in series.timestamps.iter().zip(&series.values) {
                let twice = found.insert((series.labels.clone(), *t), Value::Float(v.to_bits()));
                assert_eq!(twice, None, "seed {}: {} at {t} twice", self.seed, series.labels);
            }
        }
        for series in
            self.db().select_histograms(&[], i64::MIN, i64::MAX, 100, 100_000_000).unwrap()
        {
            for (t, histogram) in series.samples {
                let value = Value::Histogram(Arc::new(histogram));
                let twice = found.insert((series.labels.clone(), t), value);
                assert_eq!(twice, None, "seed {}: {} at {t} twice", self.seed, series.labels);
                self.histograms += 1;
            }
        }
        for ((labels, t), value) in &mut found {
            let sent = state.samples.get(&(labels.clone(), *t));
            let is_after = state.deleted_from.get(labels).is_some_and(|first| first < t);
            if let (Value::Histogram(found), Some(Value::Histogram(sent)), true) =
                (value, sent, is_after)
                && found.reset == ResetHint::Unknown
                && [ResetHint::Reset, ResetHint::NotReset].contains(&sent.reset)
            {
                Arc::make_mut(found).reset = sent.reset;
                self.forgotten += 1;
            }
        }
        if found != state.samples {
            let missing: Vec<_> =
                state.samples.iter().filter(|(k, v)| found.get(k) != Some(v)).collect();
            let extra: Vec<_> =
                found.iter().filter(|(k, v)| state.samples.get(k) != Some(v)).collect();
            panic!(
                "seed {}, batch {marked}: missing {:?}, extra {:?}",
                self.seed,
                &missing[..missing.len().min(5)],
                &extra[..extra.len().min(5)],
            );
        }
        self.states = vec![state.clone()];
    }

    fn crash(&mut self) {
        self.db = None;
        self.disk.crash();
        self.images += 1;
        while self.dice.below(4) == 0 {
            // Another crash while coming back.
            self.disk.fail_at(self.dice.below(12), Fault::Halt);
            let disk = Arc::new(self.disk.clone());
            drop(Db::open(disk, Path::new("/db"), options(), self.now));
            self.disk.crash();
            self.images += 1;
            self.images_again += 1;
        }
        self.open();
        self.check();
    }

    /// A failure after which only a restart helps.
    fn restart_if_stopped(&mut self, stopped: bool) {
        if stopped {
            self.crash();
        }
    }

    fn rows(&mut self, group: u64) -> Vec<Instant> {
        let late = match self.dice.below(8) {
            0 => self.dice.below(400_000),
            1 => self.dice.below(30_000),
            _ => 0,
        };
        // Half of the late ones repeat instants that are there.
        let late = if self.dice.below(2) == 0 { late - late % 1000 } else { late };
        let start = self.now - late.cast_signed();
        let count = self.dice.below(6);
        let mut rows = Vec::new();
        for row in 0..count {
            let mut samples = Vec::new();
            for n in 0..4u64 {
                // The first series is mostly of histograms, the others hardly ever.
                let of_histograms = self.dice.below(if n == 0 { 2 } else { 20 }) == 0;
                let v = match self.dice.below(12) {
                    0 => continue,
                    _ if of_histograms => f64::NAN,
                    1 => stale_nan(),
                    2 => f64::from_bits(self.dice.below(u64::MAX)),
                    3 | 4 => self.dice.below(1000) as f64 / 10.0,
                    _ => 7.0,
                };
                let (group, n) = (group.to_string(), n.to_string());
                let pairs = [("__name__", "m"), ("group", &group), ("n", &n)];
                let value = if of_histograms {
                    Value::Histogram(Arc::new(self.histogram()))
                } else {
                    Value::Float(v.to_bits())
                };
                samples.push((Labels::from_pairs(pairs).unwrap(), value));
            }
            rows.push((start + row.cast_signed() * 1000, samples));
        }
        if rows.len() > 1 && self.dice.below(5) == 0 {
            rows.reverse();
        }
        rows
    }

    /// A valid one of a few layouts, some of them large.
    fn histogram(&mut self) -> Histogram {
        if self.dice.below(12) == 0 {
            return Histogram::stale();
        }
        let buckets = match self.dice.below(30) {
            0 => 700,
            n => 1 + n as usize % 4,
        };
        let counts: Vec<u64> = (0..buckets).map(|_| self.dice.below(1 << 20)).collect();
        let is_custom = self.dice.below(4) == 0;
        // Custom buckets go without these.
        let of_zero = if is_custom { 0 } else { self.dice.below(3) };
        let negative: Vec<u64> = (0..of_zero).map(|_| self.dice.below(9)).collect();
        let zero_count = of_zero * self.dice.below(5);
        let count = counts.iter().chain(&negative).sum::<u64>() + zero_count;
        let gap = if is_custom { 0 } else { self.dice.below(5) as i32 - 2 };
        let sum = match self.dice.below(8) {
            0 => -0.0,
            1 => f64::from_bits(0x7ff8_0000_0000_0123),
            2 => f64::NEG_INFINITY,
            _ => f64::from_bits(self.dice.below(u64::MAX / 4)),
        };
        let bounds = if is_custom { buckets } else { 0 };
        let is_float = self.dice.below(3) == 0;
        let float = |n: u64| n as f64 / 3.0;
        Histogram {
            schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { self.dice.below(3) as i32 },
            zero_threshold: [0.0, 1e-128, 0.25][of_zero as usize],
            sum,
            positive_spans: vec![Span { offset: gap, length: buckets as u32 }],
            negative_spans: negative.iter().map(|_| Span { offset: 1, length: 1 }).collect(),
            custom_values: (0..bounds).map(|n| n as f64).collect(),
            counts: if is_float {
                let [positive, negative] =
                    [&counts, &negative].map(|counts| counts.iter().map(|n| float(*n)).collect());
                let (count, zero_count) = (float(count), float(zero_count));
                Counts::Float(BucketCounts { count, zero_count, positive, negative })
            } else {
                let positive = counts;
                Counts::Integer(BucketCounts { count, zero_count, positive, negative })
            },
            reset: [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge]
                [self.dice.below(4) as usize],
        }
    }

    fn append(&mut self) {
        // What is stored after a deletion is kept: it has to be done first.
        self.finish_deletion();
        let group = self.dice.below(2);
        let rows = self.rows(group);
        self.now += 1000 * (1 + self.dice.below(8).cast_signed());
        let mut next = self.states.last().unwrap().clone();
        next.apply(&rows, self.told);
        for _attempt in 0..2 {
            let (batch, histograms) = self.batch(group, &rows, next.batches);
            match self.db().append_with(&batch, &histograms) {
                Ok(appended) => {
                    let given: usize = rows.iter().map(|(_, samples)| samples.len()).sum();
                    assert_eq!(appended.total(), given as u64, "seed {}", self.seed);
                    self.states.push(next);
                    return;
                }
                Err(AppendError::UnknownSeries { .. }) => self.refs.clear(),
                Err(AppendError::DiskFull(_)) => return,
                Err(AppendError::Stopped(_)) => return self.restart_if_stopped(true),
                Err(error) => panic!("seed {}: {error:?}", self.seed),
            }
        }
        panic!("seed {}: series unknown after being resolved", self.seed);
    }

    fn batch(
        &mut self,
        group: u64,
        rows: &[Instant],
        number: u64,
    ) -> (Batch, Vec<HistogramSample>) {
        let mut histograms = Vec::new();
        let mut batch = Batch { group: GroupId(group), rows: vec![], marks: vec![] };
        for (t_ms, samples) in rows {
            let mut row = Row { t_ms: *t_ms, samples: vec![] };
            for (labels, v) in samples {
                let known = self.refs.get(&(group, labels.clone())).copied();
                let series = known.unwrap_or_else(|| {
                    let series = self.db().resolve(GroupId(group), labels).unwrap();
                    self.refs.insert((group, labels.clone()), series);
                    series
                });
                match v {
                    Value::Float(bits) => row.samples.push((series, f64::from_bits(*bits))),
                    Value::Histogram(histogram) => {
                        let histogram = Arc::clone(histogram);
                        histograms.push(HistogramSample { t_ms: *t_ms, series, histogram });
                    }
                }
            }
            batch.rows.push(row);
        }
        let value = number.to_le_bytes().to_vec();
        batch.marks.push(Mark { key: LAST_BATCH.to_vec(), value });
        (batch, histograms)
    }

    fn sync(&mut self) {
        match self.db().sync() {
            Ok(()) => self.states = self.states.split_off(self.states.len() - 1),
            Err(DbError::DiskFull(_)) => {}
            Err(DbError::Stopped(_)) => self.restart_if_stopped(true),
            Err(error) => panic!("seed {}: {error:?}", self.seed),
        }
    }

    fn maintain(&mut self) {
        // Anything else is tried again next time and has changed nothing.
        self.told = self.now;
        let done = self.db().maintain(self.now);
        let stopped = matches!(done, Err(DbError::Stopped(_)));
        if let Ok(done) = done {
            self.blocks_written += done.blocks_written;
            self.checkpoints += u64::from(done.checkpointed);
            self.series_removed += done.series_removed;
        }
        self.restart_if_stopped(stopped);
    }

    fn step(&mut self, faults: bool) {
        match self.dice.below(40) {
            0 => self.crash(),
            1 if faults => {
                let fault = [Fault::Enospc, Fault::Eio, Fault::ShortWrite, Fault::Halt]
                    [self.dice.below(4) as usize];
                self.disk.fail_at(self.dice.below(30), fault);
            }
            2 if faults => {
                let room = self.dice.below(3000);
                self.disk.set_capacity(Some(self.disk.used_bytes() + room));
            }
            3..=5 => self.disk.set_capacity(None),
            6 | 7 => {
                self.finish_deletion();
                let all = self.states.clone();
                self.check();
                // Looking makes nothing durable.
                self.states = all;
            }
            8..=11 => self.maintain(),
            12..=16 => self.sync(),
            17 => self.compact(),
            18 => self.delete(),
            19 => {
                // A long pause.
                self.now += 90_000;
            }
            _ => self.append(),
        }
        if self.disk.halted() {
            self.crash();
        }
    }

    /// Deletes a stretch of one or all series. What is deleted is deleted in every state that may
    /// come back.
    fn delete(&mut self) {
        let n = ["0", "1", "2", "3", ".*"][self.dice.below(5) as usize].to_owned();
        let start = self.now - self.dice.below(900_000).cast_signed();
        let end = start + self.dice.below(300_000).cast_signed();
        self.finish_deletion();
        // Nothing may be deleted that could come back because it was not durable.
        self.sync();
        if self.disk.halted() || self.states.len() != 1 {
            return;
        }
        self.deleting = Some((n, start, end));
        self.try_deletion();
    }

    fn try_deletion(&mut self) -> bool {
        let Some((n, start, end)) = self.deleting.clone() else { return true };
        let matcher = Matcher::new("n", stoa_model::MatchOp::Regex, &n).unwrap();
        let Ok(done) = self.db().delete_series(&[matcher], start, end, self.now) else {
            return false;
        };
        self.deleted += done.series;
        self.deleting = None;
        for state in &mut self.states {
            let Model { samples, deleted_from, .. } = state;
            samples.retain(|(labels, t), _| {
                let is_series = n == ".*" || labels.get("n") == Some(n.as_str());
                let is_kept = !is_series || *t < start || *t > end;
                if !is_kept {
                    let first = deleted_from.entry(labels.clone()).or_insert(*t);
                    *first = *t.min(first);
                }
                is_kept
            });
        }
        true
    }

    fn finish_deletion(&mut self) {
        if self.deleting.is_some() && !self.disk.halted() {
            self.disk.set_capacity(None);
            self.disk.clear_faults();
            while !self.try_deletion() {
                assert!(!self.disk.halted(), "seed {}: a deletion failed for nothing", self.seed);
                self.db = None;
                self.disk.crash();
                self.images += 1;
                self.open();
            }
        }
    }

    fn compact(&mut self) {
        let done = self.db().compact(self.now);
        if let Ok(done) = done {
            self.merges += done.merges;
            self.dropped += done.samples_dropped;
            assert_eq!(done.chunks_damaged, 0, "seed {}", self.seed);
        }
        if self.dice.below(6) == 0 {
            drop(self.db().clean_tombstones(self.now));
        }
    }
}

const THREADS: usize = 2;
/// Crash images each test makes at least.
const IMAGES: u64 = 500;

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
    let worlds: Vec<[u64; 10]> = std::thread::scope(|scope| {
        let work = || {
            let _end_all = EndAll(&next);
            let mut sums = [0; 10];
            loop {
                let seed = next.fetch_add(1, Relaxed);
                let is_enough = only.is_some() || images.load(Relaxed) >= wanted;
                if seed >= u64::MAX / 2 || seed >= end && is_enough {
                    return sums;
                }
                let world = live(seed, faults);
                images.fetch_add(world.images, Relaxed);
                let counts = [
                    world.images,
                    world.images_again,
                    world.blocks_written,
                    world.checkpoints,
                    world.series_removed,
                    world.merges,
                    world.dropped,
                    world.deleted,
                    world.histograms,
                    world.forgotten,
                ];
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sums = [0; 10];
    worlds.iter().for_each(|world| sums.iter_mut().zip(world).for_each(|(sum, n)| *sum += n));
    let [
        images,
        again,
        blocks,
        checkpoints,
        removed,
        merges,
        dropped,
        deleted,
        histograms,
        rest @ ..,
    ] = sums;
    let [forgotten] = rest;
    let last = next.load(Relaxed).saturating_sub(THREADS as u64 + 1);
    println!(
        "crashes: {images} images, {again} of them while coming back from one, seeds {} to {last}{}",
        seeds.start,
        if faults { ", on a disk that fails and fills up" } else { "" }
    );
    if only.is_some() {
        return;
    }
    assert!(images >= wanted && again > images / 10, "{images} {again}");
    // The runs are long enough for everything to happen.
    assert!(blocks > 100 && checkpoints > 100 && removed > 10, "{blocks} {checkpoints} {removed}");
    assert!(histograms > 1000 && forgotten > 10, "{histograms} {forgotten}");
    assert!(merges > 100 && dropped > 100 && deleted > 100, "{merges} {dropped} {deleted}");
}

fn live(seed: u64, faults: bool) -> World {
    let mut world = World::new(seed);
    for _ in 0..160 {
        world.step(faults);
    }
    world.disk.set_capacity(None);
    world.crash();
    world
}

/// Where the seeds of disks that fail begin.
const FAULTY_FROM: u64 = 1 << 32;

#[test]
fn what_was_synced_survives_any_crash_exactly() {
    run(0..100, false);
}

#[test]
fn a_disk_that_fills_up_and_fails_loses_nothing_that_was_synced() {
    run(FAULTY_FROM..FAULTY_FROM + 160, true);
}
