//! Followers of the log against a list of what was appended, on a disk that crashes, fills up and fails,
//! by seed: everything durable arrives at least once, in order, and nothing else does.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test: what goes wrong is to fail it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use stoa_model::histogram::{BucketCounts, Counts, Histogram, Span};
use stoa_model::{Labels, TimestampMs};
use stoa_tsdb::{
    AppendError, Batch, Db, DbError, Followed, Follower, GroupId, HistogramSample, Options, Row,
    SeriesRef,
};
use stoa_wal::disk::{Fault, SimDisk};

const MINUTE_MS: i64 = 60_000;
const START: i64 = 1_700_000_040_000;
const DIR: &str = "/db";
const ALL: usize = usize::MAX;

fn options() -> Options {
    Options {
        block_ms: MINUTE_MS,
        grace_ms: 5_000,
        head_chunk_samples: 16,
        log_bytes_max: 4_000,
        ..Options::default()
    }
}

fn open(disk: &SimDisk, options: Options) -> Db {
    let opened = Db::open(Arc::new(disk.clone()), Path::new(DIR), options, START);
    let (db, recovery) = opened.unwrap();
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    db
}

fn labels(n: u64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", &n.to_string())]).unwrap()
}

/// Appends one row: of each series named a value.
fn append(db: &Db, group: u64, t_ms: TimestampMs, samples: &[(u64, f64)]) {
    let series = |n| db.resolve(GroupId(group), &labels(n)).unwrap();
    let samples: Vec<(SeriesRef, f64)> = samples.iter().map(|(n, v)| (series(*n), *v)).collect();
    let rows = vec![Row { t_ms, samples }];
    db.append(&Batch { group: GroupId(group), rows, marks: vec![] }).unwrap();
}

fn values(followed: &Followed) -> Vec<u64> {
    let samples = followed.series.iter().flat_map(|series| &series.samples);
    let mut values: Vec<u64> = samples.map(|(_, v)| *v as u64).collect();
    values.sort_unstable();
    values
}

/// Reads all there is and acknowledges it.
fn drain(db: &Db, follower: &mut Follower) -> Vec<u64> {
    let followed = db.read_on(follower, ALL);
    assert!(followed.is_all);
    assert_eq!((followed.orphaned, followed.damaged), (0, 0));
    db.acknowledge(follower.name(), followed.cursor);
    values(&followed)
}

#[test]
fn a_follower_gets_what_is_durable_from_its_beginning_on_and_goes_on_after_a_restart() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options());
    append(&db, 1, START, &[(0, 1.0)]);
    db.sync().unwrap();
    let mut follower = db.follow("a").unwrap();
    append(&db, 1, START + 1000, &[(0, 2.0), (1, 3.0)]);
    append(&db, 2, START + 1000, &[(7, 4.0)]);
    assert_eq!(drain(&db, &mut follower), [], "nothing of it is durable");
    db.sync().unwrap();
    let followed = db.read_on(&mut follower, ALL);
    let found: Vec<_> = followed.series.iter().map(|s| (&s.labels, &s.samples)).collect();
    let (t, of) = (START + 1000, labels);
    assert_eq!(
        found,
        [(&of(0), &vec![(t, 2.0)]), (&of(1), &vec![(t, 3.0)]), (&of(7), &vec![(t, 4.0)])]
    );
    assert_eq!((followed.samples, followed.max_t), (3, Some(t)));
    // Delivered, but that is not known any more after the crash.
    db.acknowledge("a", followed.cursor);
    drop(db);
    disk.crash();
    let db = open(&disk, options());
    assert_eq!(drain(&db, &mut db.follow("a").unwrap()), [2, 3, 4]);
    db.save_followers().unwrap();
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let db = open(&disk, options());
    let mut follower = db.follow("a").unwrap();
    assert_eq!(drain(&db, &mut follower), []);
    append(&db, 1, START + 2000, &[(0, 5.0)]);
    db.sync().unwrap();
    assert_eq!(drain(&db, &mut follower), [5]);
    assert_eq!(db.followers()[0].pending_bytes, 0);
    assert!(db.unfollow("a").unwrap() && !db.unfollow("a").unwrap());
    assert_eq!(db.followers(), []);
}

#[test]
fn a_cursor_is_saved_only_when_samples_were_delivered() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options());
    let mut follower = db.follow("a").unwrap();
    append(&db, 1, START, &[(0, 1.0)]);
    let mut log_bytes = Vec::new();
    for _ in 0..4 {
        db.sync().unwrap();
        drain(&db, &mut follower);
        db.save_followers().unwrap();
        log_bytes.push(db.stats().log_bytes);
    }
    assert_eq!(log_bytes[0], log_bytes[3], "a cursor that moves only over itself is not saved");
}

#[test]
fn the_log_is_kept_for_those_who_lag_with_the_names_of_series_that_are_gone() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options());
    let mut follower = db.follow("slow").unwrap();
    let mut fast = db.follow("fast").unwrap();
    let (mut value, mut sent) = (0.0, Vec::new());
    for minute in 0..10 {
        for second in 0..60 {
            value += 1.0;
            // Each series lives for a minute.
            append(&db, 1, START + minute * MINUTE_MS + second * 1000, &[(minute as u64, value)]);
            sent.push(value as u64);
        }
        db.sync().unwrap();
        db.maintain(START + (minute + 1) * MINUTE_MS).unwrap();
        drain(&db, &mut fast);
    }
    assert!(db.stats().series_removed > 5, "{:?}", db.stats());
    let figures = db.followers();
    assert_eq!((figures[0].name.as_str(), figures[0].pending_bytes), ("fast", 0));
    assert!(figures[1].pending_bytes > 8_000, "{figures:?}");
    let mut received = Vec::new();
    loop {
        let followed = db.read_on(&mut follower, 7);
        assert!(followed.samples <= 7, "rows of one sample");
        assert_eq!((followed.orphaned, followed.damaged), (0, 0));
        received.extend(values(&followed));
        db.acknowledge("slow", followed.cursor);
        if followed.is_all {
            break;
        }
    }
    assert_eq!(received, sent);
    let before = db.stats().log_bytes;
    db.maintain(START + 12 * MINUTE_MS).unwrap();
    assert!(db.stats().log_bytes < before / 2, "{} {before}", db.stats().log_bytes);
}

/// What a follower that reads nothing loses within bounds, of 600 samples, and what it gets.
fn lagging(options: Options, low_space: bool) -> (u64, Vec<u64>) {
    let disk = SimDisk::new(1);
    let db = open(&disk, options);
    let mut follower = db.follow("a").unwrap();
    for second in 0..600 {
        append(&db, 1, START + second * 1000, &[(0, second as f64)]);
        if second % 10 == 9 {
            db.sync().unwrap();
            if low_space {
                disk.set_capacity(Some(disk.used_bytes() + 5_000));
            }
            db.maintain(START + second * 1000).unwrap();
            disk.set_capacity(None);
        }
    }
    let received = drain(&db, &mut follower);
    let lost = db.followers()[0].samples_lost;
    assert_eq!(db.stats().follow_samples_lost, lost);
    (lost, received)
}

#[test]
fn what_is_dropped_beyond_the_bounds_is_counted_and_the_rest_arrives() {
    let check = |options: Options, low_space, least: u64, most: u64| {
        let (lost, received) = lagging(options, low_space);
        assert_eq!(received, (lost..600).collect::<Vec<_>>());
        assert!((least..=most).contains(&lost), "{lost} of 600 are lost");
    };
    check(options(), false, 0, 0);
    check(Options { follow_bytes_max: 6_000, ..options() }, false, 100, 500);
    check(Options { follow_ms: 3 * MINUTE_MS, ..options() }, false, 200, 400);
    check(Options { free_bytes_min: 10_000, ..options() }, true, 400, 599);
}

#[test]
fn what_is_kept_is_no_more_than_a_quarter_of_the_room() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options());
    let mut follower = db.follow("a").unwrap();
    let mut most = 0;
    for second in 0..1200 {
        append(&db, 1, START + second * 1000, &[(0, second as f64)]);
        if second % 10 == 9 {
            db.sync().unwrap();
            disk.set_capacity(Some(40_000));
            db.maintain(START + second * 1000).unwrap();
            most = most.max(db.stats().log_bytes);
            disk.set_capacity(None);
        }
    }
    // Beside what a start needs.
    assert!((8_000..20_000).contains(&most), "{most}");
    let lost = db.followers()[0].samples_lost;
    assert_eq!(drain(&db, &mut follower), (lost..1200).collect::<Vec<_>>());
    assert!((100..1100).contains(&lost), "{lost}");
}

#[test]
fn a_log_that_finds_no_room_gives_up_what_followers_hold_and_goes_on() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options());
    let mut follower = db.follow("a").unwrap();
    for second in 0..600 {
        append(&db, 1, START + second * 1000, &[(0, second as f64)]);
        if second % 10 == 9 {
            db.sync().unwrap();
            db.maintain(START + second * 1000).unwrap();
        }
    }
    assert!(db.followers()[0].pending_bytes > 15_000, "{:?}", db.followers());
    disk.set_capacity(Some(disk.used_bytes()));
    append(&db, 1, START + 600_000, &[(0, 600.0)]);
    assert!(matches!(db.sync(), Err(DbError::DiskFull(_))));
    // It is read on meanwhile, as far as it was durable.
    let followed = db.read_on(&mut follower, 50);
    assert_eq!(values(&followed), (0..50).collect::<Vec<_>>());
    db.acknowledge("a", followed.cursor);
    // A maintenance that can write nothing makes room all the same.
    drop(db.maintain(START + 600_000));
    let lost = db.followers()[0].samples_lost;
    assert!((400..550).contains(&lost), "{lost}");
    db.sync().unwrap();
    append(&db, 1, START + 601_000, &[(0, 601.0)]);
    db.sync().unwrap();
    assert_eq!(drain(&db, &mut follower), (50 + lost..602).collect::<Vec<_>>());
    drop(db);
    disk.set_capacity(None);
    disk.crash();
    // The cursor that was saved stands in what is gone.
    let db = open(&disk, options());
    let found = drain(&db, &mut db.follow("a").unwrap());
    assert_eq!(found.last(), Some(&601));
    assert!(found.len() as u64 <= 602 - 50 - lost, "{found:?}");
}

#[test]
fn more_series_may_have_left_than_are_kept_in_mind() {
    let disk = SimDisk::new(1);
    let db = open(&disk, Options { follow_departed_max: 3, ..options() });
    let mut follower = db.follow("slow").unwrap();
    let mut sent = Vec::new();
    for minute in 0..20_u64 {
        for second in 0..20 {
            // Each series lives for a minute and is met again and again in between.
            let value = minute * 20 + second;
            let series = minute * 10 + value % 7;
            let t_ms = START + (minute * 60 + second).cast_signed() * 1000;
            append(&db, 1, t_ms, &[(series, value as f64)]);
            sent.push(value);
        }
        db.sync().unwrap();
        db.maintain(START + (minute.cast_signed() + 1) * MINUTE_MS).unwrap();
    }
    assert!(db.stats().series_removed > 50, "{:?}", db.stats());
    let mut received = Vec::new();
    loop {
        let followed = db.read_on(&mut follower, 5);
        assert_eq!((followed.orphaned, followed.damaged), (0, 0));
        let names = followed.series.iter().flat_map(|series| {
            let n: u64 = series.labels.get("n").unwrap().parse().unwrap();
            series.samples.iter().map(move |(_, v)| (n, *v as u64))
        });
        for (n, value) in names {
            assert_eq!(n, value / 20 * 10 + value % 7, "{value} under another's name");
        }
        received.extend(values(&followed));
        if followed.is_all {
            break;
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn what_cannot_be_opened_now_is_read_later_and_what_never_can_is_passed_over() {
    for failing in [1, 2, 3, 5, 9, u64::MAX] {
        let disk = SimDisk::new(1);
        // A segment with each maintenance.
        let db = open(&disk, Options { log_bytes_max: 0, ..options() });
        let mut follower = db.follow("a").unwrap();
        let mut sent = Vec::new();
        for second in 0..120 {
            append(&db, 1, START + second * 1000, &[(0, second as f64)]);
            sent.push(second.cast_unsigned());
            db.sync().unwrap();
            if second % 40 == 39 {
                db.maintain(START).unwrap();
            }
        }
        // One reader that comes to segments it cannot open, amid the log.
        let first = db.read_on(&mut follower, 10);
        let mut received = values(&first);
        disk.fail_opens(failing);
        let mut damaged = 0;
        for _ in 0..200 {
            let followed = db.read_on(&mut follower, ALL);
            received.extend(values(&followed));
            damaged += followed.damaged;
        }
        if failing == u64::MAX {
            assert!(damaged > 0, "said, and gone past, but for the segment that is written to");
            disk.clear_faults();
            append(&db, 1, START + 120_000, &[(0, 120.0)]);
            db.sync().unwrap();
            received.extend(drain(&db, &mut follower));
            assert_eq!(received.last(), Some(&120));
        } else {
            assert_eq!((received, damaged), (sent, 0), "{failing} openings failed");
        }
    }
}

#[test]
fn a_cursor_of_a_log_that_is_gone_begins_anew() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options());
    let mut follower = db.follow("a").unwrap();
    append(&db, 1, START, &[(0, 1.0)]);
    db.sync().unwrap();
    drain(&db, &mut follower);
    db.save_followers().unwrap();
    db.close().unwrap();
    // The log's file is taken away; its numbers go on, and so does the follower.
    let db = open(&disk, options());
    let mut follower = db.follow("a").unwrap();
    append(&db, 1, START + 1000, &[(0, 2.0)]);
    db.sync().unwrap();
    use stoa_wal::Disk as _;
    disk.remove_file(Path::new("/db/wal/0000000000000001.wal")).unwrap();
    let followed = db.read_on(&mut follower, ALL);
    assert_eq!(values(&followed), [2]);
}

#[test]
fn native_histograms_are_followed_beside_floats() {
    let disk = SimDisk::new(1);
    let db = open(&disk, Options { follow_bytes_max: 0, ..options() });
    let mut follower = db.follow("a").unwrap();
    let (group, of) = (GroupId(1), labels);
    let [a, b, c] = [0, 1, 2].map(|n| db.resolve(group, &of(n)).unwrap());
    let histogram = |n: u64| {
        Arc::new(Histogram {
            positive_spans: vec![Span { offset: 0, length: 1 }],
            counts: Counts::Integer(BucketCounts {
                count: n,
                positive: vec![n],
                ..Default::default()
            }),
            sum: n as f64,
            ..Histogram::stale()
        })
    };
    let row = |t_ms: i64, series| Row { t_ms, samples: vec![(series, 1.0)] };
    for n in 1..=3 {
        let t_ms = START + n as i64 * 1000;
        let rows = vec![row(t_ms, a), row(t_ms, c)];
        let beside = [b, c].map(|series| HistogramSample {
            // At one instant a series has one or the other.
            t_ms: t_ms + 1,
            series,
            histogram: histogram(n),
        });
        db.append_with(&Batch { group, rows, marks: vec![] }, &beside).unwrap();
    }
    db.sync().unwrap();
    let followed = db.read_on(&mut follower, ALL);
    assert_eq!((followed.samples, followed.max_t), (12, Some(START + 3001)));
    let found: Vec<_> = followed.series.iter().map(|s| (&s.labels, s.samples.len())).collect();
    assert_eq!(found, [(&of(0), 3), (&of(1), 0), (&of(2), 3)]);
    let expected: Vec<_> = (1..=3).map(|n| (START + n as i64 * 1000 + 1, histogram(n))).collect();
    let of_one: Vec<_> = followed.series.iter().map(|s| s.histograms.clone()).collect();
    assert_eq!(of_one, [vec![], expected.clone(), expected]);
    // They count when they are lost.
    db.maintain(START + 10 * MINUTE_MS).unwrap();
    assert_eq!(db.followers()[0].samples_lost, 12);
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

struct World {
    seed: u64,
    dice: Dice,
    disk: SimDisk,
    db: Option<Db>,
    follower: Option<Follower>,
    now: i64,
    /// The number of the last sample appended, and of the last known to be durable.
    last: u64,
    durable: u64,
    /// Numbers given to batches that were refused or lost.
    gone: BTreeSet<u64>,
    received: BTreeSet<u64>,
    /// The newest of each series that this life of the follower gave.
    newest: BTreeMap<Labels, u64>,
    repeated: u64,
    crashes: u64,
    options: Options,
    /// What was dropped before its turn, in the lives of the database before this one.
    lost: u64,
}

impl World {
    fn new(seed: u64, options: Options) -> Self {
        let disk = SimDisk::new(seed);
        let mut world = Self {
            options,
            lost: 0,
            seed,
            dice: Dice(seed),
            db: None,
            follower: None,
            disk,
            now: START,
            last: 0,
            durable: 0,
            gone: BTreeSet::new(),
            received: BTreeSet::new(),
            newest: BTreeMap::new(),
            repeated: 0,
            crashes: 0,
        };
        world.open();
        world.db().sync().unwrap();
        world
    }

    fn open(&mut self) {
        let db = open(&self.disk, self.options.clone());
        self.follower = Some(db.follow("a").unwrap());
        self.newest.clear();
        self.db = Some(db);
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.lost += self.db().followers()[0].samples_lost;
        (self.db, self.follower) = (None, None);
        self.disk.set_capacity(None);
        self.disk.clear_faults();
        self.disk.crash();
        self.open();
        let mut there = BTreeSet::new();
        for series in self.db().select(&[], i64::MIN, i64::MAX, 100, 1_000_000).unwrap() {
            there.extend(series.values.iter().map(|v| *v as u64));
        }
        for n in 1..=self.last {
            if there.contains(&n) {
                continue;
            }
            assert!(n > self.durable || self.gone.contains(&n), "seed {}: {n}", self.seed);
            assert!(!self.received.contains(&n), "seed {}: {n} was not durable", self.seed);
            self.gone.insert(n);
        }
        self.durable = self.last;
    }

    fn append(&mut self) {
        let group = self.dice.below(2);
        self.now += 1000;
        let mut row = Row { t_ms: self.now, samples: vec![] };
        let first = self.last + 1;
        for n in 0..3 {
            if self.dice.below(4) > 0 {
                // Series come and go.
                let n = n + 10 * group + 100 * (self.now as u64 / 200_000 % 3);
                let series = self.db().resolve(GroupId(group), &labels(n)).unwrap();
                self.last += 1;
                row.samples.push((series, self.last as f64));
            }
        }
        let batch = Batch { group: GroupId(group), rows: vec![row], marks: vec![] };
        match self.db().append(&batch) {
            Ok(_) => {}
            Err(AppendError::DiskFull(_)) => self.gone.extend(first..=self.last),
            Err(AppendError::Stopped(_)) => {
                self.gone.extend(first..=self.last);
                self.crash();
            }
            Err(error) => panic!("seed {}: {error:?}", self.seed),
        }
    }

    fn sync(&mut self) {
        match self.db().sync() {
            Ok(()) => self.durable = self.last,
            Err(DbError::DiskFull(_)) => {}
            Err(_) => self.crash(),
        }
    }

    fn read(&mut self) {
        let Some(mut follower) = self.follower.take() else { return };
        let most = 1 + self.dice.below(40) as usize;
        let followed = self.db().read_on(&mut follower, most);
        assert_eq!(followed.damaged, 0, "seed {}", self.seed);
        // What names them was dropped with what is lost.
        self.lost += followed.orphaned;
        self.follower = Some(follower);
        for series in &followed.series {
            for (_, v) in &series.samples {
                let n = *v as u64;
                let newest = self.newest.insert(series.labels.clone(), n);
                assert!(newest < Some(n), "seed {}: {n} after {newest:?}", self.seed);
                self.repeated += u64::from(!self.received.insert(n));
            }
        }
        if self.dice.below(3) > 0 {
            self.db().acknowledge("a", followed.cursor);
        }
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
            3 | 4 => self.disk.set_capacity(None),
            5..=7 => drop(self.db().maintain(self.now)),
            8..=11 => self.sync(),
            12..=16 => self.read(),
            17 | 18 => drop(self.db().save_followers()),
            19 => self.now += 90_000,
            _ => self.append(),
        }
        if self.disk.halted() || self.db().stats().log_stopped {
            self.crash();
        }
    }

    /// In the end everything that is durable has arrived.
    fn finish(&mut self) {
        self.crash();
        loop {
            let before = self.received.len();
            let follower = self.follower.as_mut().unwrap();
            let followed = self.db.as_ref().unwrap().read_on(follower, ALL);
            assert!(followed.is_all, "seed {}", self.seed);
            self.lost += followed.orphaned;
            self.received.extend(values(&followed));
            if self.received.len() == before {
                break;
            }
        }
        let missing: Vec<u64> = (1..=self.last)
            .filter(|n| !self.gone.contains(n) && !self.received.contains(n))
            .collect();
        // What was dropped is counted, at least once.
        let (seed, lost) = (self.seed, self.lost);
        assert!(
            missing.len() as u64 <= lost,
            "seed {seed}: {missing:?} did not arrive, {lost} lost"
        );
    }
}

/// How many were lost in all.
fn run(seeds: std::ops::Range<u64>, faults: bool, options: &Options) -> u64 {
    let (mut received, mut repeated, mut crashes, mut lost) = (0, 0, 0, 0);
    for seed in seeds {
        let mut world = World::new(seed, options.clone());
        for _ in 0..250 {
            world.step(faults);
        }
        world.finish();
        received += world.received.len();
        repeated += world.repeated;
        crashes += world.crashes;
        lost += world.lost;
    }
    // The runs are long enough for everything to happen.
    assert!(received > 5000 && repeated > 100 && crashes > 100, "{received} {repeated} {crashes}");
    lost
}

#[test]
fn everything_durable_arrives_whatever_crashes() {
    assert_eq!(run(0..100, false, &options()), 0);
}

#[test]
fn everything_durable_arrives_although_series_leave_faster_than_they_are_kept_in_mind() {
    let options = Options { follow_departed_max: 1, ..options() };
    assert_eq!(run(2000..2060, false, &options), 0);
}

#[test]
fn everything_durable_arrives_or_is_counted_although_the_disk_fails() {
    run(1000..1150, true, &options());
}

#[test]
fn what_is_dropped_is_counted_whatever_fails() {
    let tight = Options { follow_bytes_max: 1000, log_bytes_max: 1000, ..options() };
    let lost = run(3000..3080, true, &tight);
    assert!(lost > 500, "{lost}");
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    for n in 0..60 {
        let mut world = World::new(n, options());
        world.disk.fail_at(n, Fault::Halt);
        let mut crashed = 0;
        for _ in 0..250 {
            world.step(false);
            crashed += u64::from(world.disk.ops() > n);
        }
        assert!(crashed > 0, "operation {n} was not reached");
        world.finish();
    }
}
