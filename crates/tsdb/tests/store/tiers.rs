use std::collections::BTreeMap;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use stoa_model::{Matcher, Rollup, RollupFold, stale_nan};
use stoa_tsdb::{Db, Options, Resolution, Tier, fsck};
use stoa_wal::Disk as _;
use stoa_wal::disk::{Fault, SimDisk};

use crate::formats::{copy_in, golden_dir};
use crate::histograms::{self, histogram};
use crate::{DIR, MINUTE_MS, START, append, files, labels, open_with, series, try_append};

pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
/// A multiple of a day.
const ROUND: i64 = START.div_euclid(24 * HOUR_MS) * 24 * HOUR_MS;

/// Blocks of ten minutes, minutes made of half an hour, hours of one.
pub(crate) fn tiered() -> Options {
    Options {
        block_ms: 10 * MINUTE_MS,
        grace_ms: 0,
        compaction_ms: vec![30 * MINUTE_MS, 630 * MINUTE_MS],
        out_of_order_ms: 30 * MINUTE_MS,
        head_chunk_samples: 16,
        minute_retention_ms: 90 * 24 * HOUR_MS,
        hour_retention_ms: 730 * 24 * HOUR_MS,
        ..Options::default()
    }
}

pub(crate) fn hour(n: i64) -> i64 {
    ROUND + n * HOUR_MS
}

/// Counters with resets, gauges with NaN, series that end and come back, seldom ones, windows with
/// nothing, instants at the very ends of windows.
pub(crate) fn fill(db: &Db, seed: u64, from: i64, to: i64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut counters = [0.0f64; 2];
    let mut gone_until = 0;
    let offset = [0, -1, -250][rng.random_range(0..3)];
    for (tick, t) in (from + 10_000..=to).step_by(10_000).enumerate() {
        let names =
            ["requests_total", "bytes_total", "load", "often_nan", "constant", "comes", "seldom"];
        for (group, host) in ["a", "b"].iter().enumerate() {
            let group = group as u64;
            let named = |name: &str| series(db, group, &format!("__name__={name},host={host}"));
            let mut samples = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let value = match at {
                    0 | 1 => {
                        let counter = &mut counters[at];
                        *counter += f64::from(rng.random_range(0..5u8)) * [1.0, 0.1][at];
                        if rng.random_bool(0.005) {
                            *counter = 0.0;
                        }
                        *counter
                    }
                    2 => rng.random_range(-1.0..3.0),
                    3 if rng.random_bool(0.3) => f64::NAN,
                    5 if t < gone_until => continue,
                    5 if rng.random_bool(0.01) => {
                        gone_until = t + rng.random_range(0..20) * MINUTE_MS;
                        stale_nan()
                    }
                    6 if tick % 17 != 0 => continue,
                    _ => f64::from(rng.random_range(0..3u8)),
                };
                if rng.random_bool(0.95) {
                    samples.push((named(name), value));
                }
            }
            // A gap of a quarter of an hour, in which nothing comes.
            let is_gap = (from + HOUR_MS..from + HOUR_MS + HOUR_MS / 4).contains(&t);
            if !samples.is_empty() && !is_gap {
                append(db, group, t + offset, &samples);
            }
        }
    }
    db.sync().unwrap();
}

pub(crate) type Windows = BTreeMap<(String, i64), Rollup>;

fn ceil(t: i64, window_ms: i64) -> i64 {
    (t - 1).div_euclid(window_ms) * window_ms + window_ms
}

/// What windows must be, from the samples.
pub(crate) fn expected(db: &Db, tier: Tier) -> Windows {
    let mut folds: BTreeMap<(String, i64), RollupFold> = BTreeMap::new();
    for series in db.select(&[], i64::MIN, i64::MAX, 1000, 10_000_000).unwrap() {
        for (t, v) in series.timestamps.iter().zip(&series.values) {
            let key = (series.labels.to_string(), ceil(*t, tier.window_ms()));
            folds.entry(key).or_default().push(&Rollup::of(*t, *v));
        }
    }
    folds.into_iter().map(|(key, fold)| (key, fold.finish().unwrap())).collect()
}

pub(crate) fn rolled_up(db: &Db, tier: Tier) -> Windows {
    let range = (i64::MIN, i64::MAX);
    let read = db.select_rollups(&[], range, Resolution::Window(tier), 1000, 10_000_000).unwrap();
    let mut windows = Windows::new();
    let Some(read) = read else { return expected(db, tier) };
    for series in read.series {
        assert!(series.timestamps.is_empty() && series.values.is_empty());
        for rollup in series.rollups {
            let key = (series.labels.to_string(), ceil(rollup.last_t, tier.window_ms()));
            assert_eq!(windows.insert(key, rollup), None);
        }
    }
    windows
}

/// The same but for the rounding of sums that were added up in another order.
#[track_caller]
pub(crate) fn check(read: &Windows, expected: &Windows, case: &str) {
    let lacks = |a: &Windows, b: &Windows| a.keys().find(|key| !b.contains_key(*key)).cloned();
    assert_eq!((lacks(read, expected), lacks(expected, read)), (None, None), "{case}");
    for (key, rollup) in read {
        let other = &expected[key];
        let near = |a: f64, b: f64| {
            (a - b).abs() <= 1e-12 * (a.abs() + b.abs())
                || a.to_bits() == b.to_bits()
                || (a.is_nan() && b.is_nan())
        };
        let is_near =
            rollup.count == 0 || (near(rollup.sum, other.sum) && near(rollup.lost, other.lost));
        let same = Rollup { sum: rollup.sum, lost: rollup.lost, ..*other };
        assert!(is_near && same == *rollup, "{case}: {key:?}: {rollup:?} is not {other:?}");
    }
}

#[track_caller]
pub(crate) fn check_all(db: &Db, minutes: &Windows, hours: &Windows, case: &str) {
    check(&rolled_up(db, Tier::Minute), minutes, case);
    check(&rolled_up(db, Tier::Hour), hours, case);
}

pub(crate) fn work(db: &Db, now: i64) {
    db.maintain(now).unwrap();
    while db.compact(now).unwrap().is_partial {}
}

pub(crate) fn blocks(db: &Db) -> Vec<(u64, u64)> {
    db.stats().tiers.iter().map(|tier| (tier.blocks, tier.blocks_stale)).collect()
}

#[test]
fn windows_are_those_of_the_samples_and_stay_when_these_are_gone() {
    for seed in 0..6 {
        let disk = SimDisk::new(seed);
        let options = Options { retention_ms: 5 * HOUR_MS, ..tiered() };
        let (db, _) = open_with(&disk, options.clone());
        fill(&db, seed, hour(0), hour(4));
        let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
        work(&db, hour(4) + 20 * MINUTE_MS);
        let case = format!("seed {seed}");
        // Hours wait until nothing late can come.
        assert_eq!(blocks(&db), [(8, 0), (3, 0)], "{case}");
        check_all(&db, &minutes, &hours, &case);
        work(&db, hour(5));
        assert_eq!(blocks(&db), [(8, 0), (4, 0)], "{case}");
        check_all(&db, &minutes, &hours, &case);
        // Then the samples go, and a start comes between.
        let now = series(&db, 7, "__name__=now");
        append(&db, 7, hour(11), &[(now, 1.0)]);
        work(&db, hour(11));
        let is_now = |(key, _): &(String, i64), _: &mut Rollup| !key.contains("now");
        drop(db);
        disk.crash();
        let (db, recovery) = open_with(&disk, options);
        assert_eq!(recovery.damaged, 0, "{case}");
        let left = db.select(&[], i64::MIN, i64::MAX, 100, 10_000_000).unwrap();
        assert!(left.iter().all(|series| series.labels == labels("__name__=now")), "{case}");
        assert_eq!(db.stats().blocks_not_rolled_up, 0);
        let (mut read_minutes, mut read_hours) =
            (rolled_up(&db, Tier::Minute), rolled_up(&db, Tier::Hour));
        read_minutes.retain(is_now);
        read_hours.retain(is_now);
        check(&read_minutes, &minutes, &case);
        check(&read_hours, &hours, &case);
    }
}

/// Three hours, all rolled up; what windows must be.
fn image(disk: &SimDisk, options: Options) -> (Windows, Windows) {
    let (db, _) = open_with(disk, options);
    fill(&db, 3, hour(0), hour(3));
    let windows = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
    work(&db, hour(4));
    assert_eq!(blocks(&db), [(6, 0), (3, 0)]);
    db.close().unwrap();
    windows
}

#[test]
fn what_comes_late_and_what_is_deleted_changes_the_windows() {
    let disk = SimDisk::new(1);
    image(&disk, tiered());
    let (db, _) = open_with(&disk, tiered());
    let late = series(&db, 0, "__name__=late,host=a");
    let load = series(&db, 0, "__name__=load,host=a");
    // Into the last half hour that is taken, at the very end of the one before, and over a gap.
    for t in [hour(3) - 31 * MINUTE_MS, hour(3) - 30 * MINUTE_MS, hour(3) - 1] {
        append(&db, 0, t - 3, &[(load, 99.0)]);
        append(&db, 0, t, &[(late, 5.0)]);
    }
    let with_late = |db: &Db| (expected(db, Tier::Minute), expected(db, Tier::Hour));
    let (minutes, hours) = with_late(&db);
    check_all(&db, &minutes, &hours, "while they are in the head");
    db.maintain(hour(3) + 10 * MINUTE_MS).unwrap();
    assert_eq!(blocks(&db), [(6, 2), (3, 1)]);
    check_all(&db, &minutes, &hours, "stale");
    drop(db);
    disk.crash();
    let (db, _) = open_with(&disk, tiered());
    assert_eq!(blocks(&db), [(6, 2), (3, 1)], "known after a start");
    work(&db, hour(4));
    assert_eq!(blocks(&db), [(6, 0), (3, 0)]);
    check_all(&db, &minutes, &hours, "made again");

    let deleted = [Matcher::equal("__name__", "bytes_total")];
    let (start, end) = (hour(0) + 90_000, hour(1) + 90_000);
    assert!(db.delete_series(&deleted, start, end, hour(4)).unwrap().series > 4);
    let (minutes, hours) = with_late(&db);
    assert!(blocks(&db)[0].1 > 0);
    check_all(&db, &minutes, &hours, "deleted");
    db.clean_tombstones(hour(4)).unwrap();
    check_all(&db, &minutes, &hours, "cleaned");
    work(&db, hour(5));
    assert_eq!(blocks(&db), [(6, 0), (3, 0)]);
    check_all(&db, &minutes, &hours, "deleted and made again");
}

#[test]
fn what_is_deleted_when_the_samples_are_gone_is_gone_too() {
    let disk = SimDisk::new(1);
    let options = Options { retention_ms: 5 * HOUR_MS, ..tiered() };
    image(&disk, options.clone());
    let (db, _) = open_with(&disk, options.clone());
    let now = series(&db, 7, "__name__=now");
    append(&db, 7, hour(12), &[(now, 1.0)]);
    work(&db, hour(12));
    let of_host = [Matcher::equal("host", "a")];
    let names = |db: &Db| db.label_values("__name__", &of_host, hour(0), hour(3), 99);
    assert_eq!(names(&db).len(), 7, "those of tiers");
    let (mut minutes, mut hours) = (rolled_up(&db, Tier::Minute), rolled_up(&db, Tier::Hour));
    db.delete_series(&[Matcher::equal("__name__", "load")], i64::MIN, i64::MAX, hour(12)).unwrap();
    let part = [Matcher::equal("__name__", "constant")];
    db.delete_series(&part, hour(1) - 1, hour(1), hour(12)).unwrap();
    minutes
        .retain(|(key, t), _| !(key.contains("load") || key.contains("constant") && *t == hour(1)));
    for clean in [false, true] {
        // Hours are kept apart from the minutes they were made of.
        let read = db.select_rollups(&[], (hour(0) + 1, hour(3)), Resolution::Finest, 99, 1 << 30);
        let read = read.unwrap().unwrap();
        assert!(read.stretches.iter().all(|stretch| stretch.tier == Tier::Minute));
        check(&rolled_up(&db, Tier::Minute), &minutes, &format!("clean: {clean}"));
        let left = rolled_up(&db, Tier::Hour);
        hours.retain(|key, _| left.contains_key(key));
        assert!(left.keys().all(|(key, _)| !key.contains("load")));
        assert!(!names(&db).contains(&"load".to_owned()));
        if clean {
            break;
        }
        db.clean_tombstones(hour(12)).unwrap();
        work(&db, hour(12));
        assert_eq!(blocks(&db)[0].1, 0, "what is sealed is never made again");
    }
}

#[test]
fn a_block_is_made_whole_or_not_at_all_whatever_fails() {
    let disk = SimDisk::new(5);
    let options = tiered();
    let (db, _) = open_with(&disk, options.clone());
    fill(&db, 5, hour(0), hour(1));
    let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
    db.maintain(hour(2)).unwrap();
    // Nothing but tiers is left to make.
    db.compact(hour(1) + 10 * MINUTE_MS - 1).unwrap();
    db.close().unwrap();
    let image = disk.snapshot();
    let mut images = 0;
    for fault in [Fault::Enospc, Fault::Eio, Fault::ShortWrite, Fault::Halt] {
        for step in 0.. {
            let case = format!("{fault:?} at {step}");
            disk.restore(&image);
            let (db, _) = open_with(&disk, options.clone());
            let before = disk.ops();
            disk.fail_at(step, fault);
            let failed = db.compact(hour(2)).is_err();
            let reached = disk.ops() - before > step;
            if !disk.halted() {
                check_all(&db, &minutes, &hours, &case);
            }
            drop(db);
            disk.crash();
            let (db, recovery) = open_with(&disk, options.clone());
            assert_eq!(recovery.damaged, 0, "{case}: {:?}", recovery.damage);
            check_all(&db, &minutes, &hours, &case);
            db.compact(hour(2) + 5 * MINUTE_MS).unwrap();
            assert_eq!(blocks(&db), [(2, 0), (1, 0)], "{case}");
            check_all(&db, &minutes, &hours, &case);
            let tier_files = files(&disk, &Path::new(DIR).join("tiers"));
            assert_eq!(tier_files.len(), 3 * 4, "{case}: nothing is left over: {tier_files:?}");
            images += 1;
            if !failed && !reached {
                break;
            }
        }
    }
    assert!(images > 100, "{images}");
}

/// Late samples and deletions with a power cut at every step: a window is that of the samples, or its
/// block is known to be stale.
#[test]
fn a_change_that_is_cut_off_leaves_no_window_that_is_wrong() {
    let disk = SimDisk::new(9);
    image(&disk, tiered());
    {
        let (db, _) = open_with(&disk, tiered());
        let load = series(&db, 0, "__name__=load,host=a");
        append(&db, 0, hour(3) - 20 * MINUTE_MS + 3, &[(load, 99.0)]);
        db.close().unwrap();
    }
    let image = disk.snapshot();
    let all = |db: &Db| (expected(db, Tier::Minute), expected(db, Tier::Hour));
    let change = |db: &Db, deletes: bool| {
        if deletes {
            let matchers = [Matcher::equal("host", "b")];
            db.delete_series(&matchers, hour(1), hour(2), hour(4)).is_ok()
        } else {
            db.maintain(hour(3) + 10 * MINUTE_MS).is_ok() && db.compact(hour(4)).is_ok()
        }
    };
    for deletes in [false, true] {
        for step in 0.. {
            let case = format!("deletes: {deletes}, cut at {step}");
            disk.restore(&image);
            let (db, _) = open_with(&disk, tiered());
            let before = disk.ops();
            disk.fail_at(step, Fault::Halt);
            change(&db, deletes);
            let reached = disk.ops() - before > step;
            drop(db);
            disk.crash();
            let (db, recovery) = open_with(&disk, tiered());
            assert_eq!(recovery.damaged, 0, "{case}: {:?}", recovery.damage);
            assert!(change(&db, deletes), "{case}");
            let (minutes, hours) = all(&db);
            check_all(&db, &minutes, &hours, &case);
            work(&db, hour(5));
            assert!(blocks(&db).iter().all(|(_, stale)| *stale == 0), "{case}");
            check_all(&db, &minutes, &hours, &case);
            if !reached {
                break;
            }
        }
    }
}

#[test]
fn each_tier_has_its_time_and_samples_wait_for_theirs() {
    let disk = SimDisk::new(2);
    let options = Options {
        retention_ms: 4 * HOUR_MS,
        minute_retention_ms: 12 * HOUR_MS,
        hour_retention_ms: 40 * HOUR_MS,
        ..tiered()
    };
    let (db, _) = open_with(&disk, options);
    let oldest = |db: &Db| {
        let samples = db.select(&[], i64::MIN, i64::MAX, 9, 1 << 30).unwrap();
        let samples = samples.first().and_then(|series| series.timestamps.first().copied());
        let read = db.select_rollups(&[], (0, i64::MAX), Resolution::Finest, 9, 1 << 30).unwrap();
        let tiers = [Tier::Minute, Tier::Hour].map(|tier| {
            let stretches = read.iter().flat_map(|read| &read.stretches);
            stretches.filter(|s| s.tier == tier).map(|s| s.start_ms).min()
        });
        (samples, tiers)
    };
    let mut t = hour(0);
    while t <= hour(60) {
        append(&db, 1, t, &[(series(&db, 1, "__name__=a"), 1.0)]);
        t += 5 * MINUTE_MS;
        if t % (30 * MINUTE_MS) == 0 {
            work(&db, t);
            let (samples, [minutes, hours]) = oldest(&db);
            let age = |from: Option<i64>| from.map_or(0, |from| (t - from) / MINUTE_MS);
            // A block goes as a whole, so a little longer than each has.
            assert!(age(samples) <= 4 * 60 + 150, "samples: {}", age(samples));
            assert!(age(minutes) <= 12 * 60 + 11 * 60, "minutes: {}", age(minutes));
            assert!(age(hours) <= 40 * 60 + 30 * 60, "hours: {}", age(hours));
            let all = [(samples, 4), (minutes, 12), (hours, 40)];
            for (from, kept) in
                all.into_iter().filter(|(_, kept)| t - hour(0) > (kept + 24) * HOUR_MS)
            {
                assert!(age(from) >= kept * 60 - 5, "{kept} h: {}", age(from));
            }
        }
    }
    let stats = db.stats();
    assert_eq!(stats.blocks_not_rolled_up, 0);
    let spans: Vec<u64> = stats.tiers.iter().map(|tier| tier.blocks).collect();
    assert!(spans[0] < 30 && spans[1] < 45, "{spans:?}");
}

#[test]
fn spans_side_by_side_are_made_one_and_windows_stay() {
    let disk = SimDisk::new(2);
    let (db, _) = open_with(&disk, tiered());
    for t in (hour(0) + 30_000..hour(30)).step_by(90_000) {
        append(&db, 1, t, &[(series(&db, 1, "__name__=a"), (t % 7_000_000) as f64)]);
    }
    let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
    work(&db, hour(32));
    let merged: Vec<u64> = blocks(&db).iter().map(|(blocks, _)| *blocks).collect();
    // Of 60 and 30 base spans; merged ones have ten and a half hours, and 28.
    assert!(merged[0] < 20 && merged[1] < 20, "{merged:?}");
    check_all(&db, &minutes, &hours, "merged");
    drop(db);
    disk.crash();
    let (db, recovery) = open_with(&disk, tiered());
    assert_eq!(recovery.damaged, 0);
    check_all(&db, &minutes, &hours, "after a start");
}

/// Three hours of long ago in a database without tiers; what hours must be.
pub(crate) fn old_image(disk: &SimDisk) -> Windows {
    let options = Options { minute_retention_ms: 0, hour_retention_ms: 0, ..tiered() };
    let (db, _) = open_with(disk, Options { retention_ms: 400 * 24 * HOUR_MS, ..options });
    fill(&db, 4, hour(0), hour(3));
    let hours = expected(&db, Tier::Hour);
    append(&db, 7, hour(100), &[(series(&db, 7, "__name__=now"), 1.0)]);
    work(&db, hour(100));
    db.close().unwrap();
    hours
}

#[test]
fn history_older_than_samples_are_kept_is_rolled_up_before_it_goes() {
    let disk = SimDisk::new(2);
    let hours = old_image(&disk);
    // Older than minutes are kept, too.
    let options =
        Options { retention_ms: 4 * HOUR_MS, minute_retention_ms: 24 * HOUR_MS, ..tiered() };
    let left = |db: &Db| db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().len();
    for _ in 0..2 {
        let (db, _) = open_with(&disk, options.clone());
        for minute in 0..3 {
            db.maintain(hour(100) + minute * MINUTE_MS).unwrap();
        }
        assert!(left(&db) > 10, "nothing was rolled up");
        db.close().unwrap();
    }
    let (db, _) = open_with(&disk, options);
    work(&db, hour(100));
    db.maintain(hour(100)).unwrap();
    assert_eq!((left(&db), db.stats().blocks_not_rolled_up), (0, 0));
    let mut read = rolled_up(&db, Tier::Hour);
    read.retain(|(key, _), _| !key.contains("now"));
    check(&read, &hours, "rolled up at once");
    assert_eq!(blocks(&db)[0].0, 0, "minutes went when hours were made");
}

#[test]
fn what_is_made_of_long_history_stays_until_all_of_it_is_done() {
    let disk = SimDisk::new(2);
    let hours = {
        let options = Options { minute_retention_ms: 0, hour_retention_ms: 0, ..tiered() };
        let (db, _) = open_with(&disk, Options { retention_ms: 400 * 24 * HOUR_MS, ..options });
        for t in (hour(0) + 30_000..hour(30)).step_by(90_000) {
            append(&db, 1, t, &[(series(&db, 1, "__name__=a"), (t % 7_000_000) as f64)]);
        }
        let hours = expected(&db, Tier::Hour);
        append(&db, 7, hour(100), &[(series(&db, 7, "__name__=now"), 1.0)]);
        work(&db, hour(100));
        db.close().unwrap();
        hours
    };
    // Minutes have had their time when they are made; maintenance comes between any two turns.
    let (day_ms, image) = (24 * HOUR_MS, disk.snapshot());
    for bytes in [None, Some(1)] {
        disk.restore(&image);
        let options =
            Options { retention_ms: 4 * HOUR_MS, minute_retention_ms: day_ms, ..tiered() };
        let (db, _) = open_with(&disk, Options { retention_bytes: bytes, ..options });
        let mut turns = 0;
        loop {
            db.maintain(hour(100)).unwrap();
            let made = db.compact(hour(100)).unwrap();
            turns += 1;
            assert!(turns < 100, "it is made and goes in turns");
            if !made.is_partial {
                break;
            }
        }
        assert!(turns > 2, "one turn is no test");
        for _ in 0..3 {
            db.compact(hour(100)).unwrap();
            db.maintain(hour(100)).unwrap();
        }
        assert!(db.select(&[], 0, hour(30), 9, 1 << 30).unwrap().is_empty());
        assert_eq!(db.stats().blocks_not_rolled_up, 0);
        if bytes.is_none() {
            let mut read = rolled_up(&db, Tier::Hour);
            read.retain(|(key, _), _| !key.contains("now"));
            check(&read, &hours, "all of it");
        }
    }
}

#[test]
fn samples_do_not_wait_for_ever_for_a_tier_that_cannot_be_made() {
    let disk = SimDisk::new(2);
    old_image(&disk);
    // Room for the log, and for no block.
    let options = Options { retention_ms: 4 * HOUR_MS, free_bytes_min: 1 << 40, ..tiered() };
    disk.set_capacity(Some(disk.used_bytes() + (1 << 40) + 4000));
    let (db, _) = open_with(&disk, options);
    let left = |db: &Db| !db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty();
    db.maintain(hour(100)).unwrap();
    assert!(db.compact(hour(100)).unwrap().put_off > 0);
    db.compact(hour(100)).unwrap();
    for (now, is_there) in [(100, true), (123, true), (124, false)] {
        append(&db, 7, hour(now) + 1, &[(series(&db, 7, "__name__=now"), 1.0)]);
        db.maintain(hour(now) + MINUTE_MS).unwrap();
        assert_eq!(left(&db), is_there, "{now}");
        assert_eq!(db.stats().blocks_not_rolled_up > 0, !is_there, "{now}");
    }
}

#[test]
fn hours_stay_when_the_minutes_they_were_made_of_are_damaged() {
    let disk = SimDisk::new(3);
    let options = Options { retention_ms: 5 * HOUR_MS, ..tiered() };
    image(&disk, options.clone());
    let (db, _) = open_with(&disk, options.clone());
    append(&db, 7, hour(12), &[(series(&db, 7, "__name__=now"), 1.0)]);
    work(&db, hour(12));
    let mut hours = rolled_up(&db, Tier::Hour);
    db.close().unwrap();
    for path in files(&disk, &Path::new(DIR).join("tiers/1m")) {
        if path.ends_with("index") {
            let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(40).for_each(|byte| *byte ^= 4);
            disk.corrupt(&path, flip).unwrap();
        }
    }
    let arc: std::sync::Arc<dyn stoa_wal::Disk> = std::sync::Arc::new(disk.clone());
    fsck(&arc, Path::new(DIR), Some((hour(12), &options))).unwrap();
    let (db, _) = open_with(&disk, Options { out_of_order_ms: 48 * HOUR_MS, ..options });
    append(&db, 0, hour(1) - 5_003, &[(series(&db, 0, "__name__=load,host=a"), 9.0)]);
    for n in 0..3 {
        work(&db, hour(12) + n * 20 * MINUTE_MS);
    }
    // What came late is added, and nothing is made again of that alone.
    let hour_of = hours.get_mut(&("load{host=\"a\"}".to_owned(), hour(1))).unwrap();
    let mut with_late = RollupFold::default();
    with_late.push(hour_of);
    with_late.push(&Rollup::of(hour(1) - 5_003, 9.0));
    *hour_of = with_late.finish().unwrap();
    check(&rolled_up(&db, Tier::Hour), &hours, "with what came late");
}

#[test]
fn damage_in_a_tier_is_found_and_costs_itself() {
    let disk = SimDisk::new(3);
    image(&disk, tiered());
    let whole = disk.snapshot();
    let arc: std::sync::Arc<dyn stoa_wal::Disk> = std::sync::Arc::new(disk.clone());
    let clean = fsck(&arc, Path::new(DIR), None).unwrap();
    assert!(clean.damage.is_empty(), "{:?}", clean.damage);
    let paths = files(&disk, &Path::new(DIR).join("tiers"));
    let mut rng = StdRng::seed_from_u64(1);
    for path in paths.iter().filter(|path| !path.to_string_lossy().contains("tombstones")) {
        for _ in 0..12 {
            disk.restore(&whole);
            disk.corrupt(path, |bytes| {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            })
            .unwrap();
            let found = fsck(&arc, Path::new(DIR), None).unwrap();
            assert!(!found.damage.is_empty(), "{}", path.display());
            let repaired = fsck(&arc, Path::new(DIR), Some((hour(4), &tiered()))).unwrap();
            assert!(repaired.damage.iter().all(|damage| damage.repaired));
            let after = fsck(&arc, Path::new(DIR), None).unwrap();
            assert!(after.damage.is_empty(), "{}: {:?}", path.display(), after.damage);
            let (db, _) = open_with(&disk, tiered());
            // The samples are there: what was lost is made again.
            let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
            work(&db, hour(4));
            check_all(&db, &minutes, &hours, &format!("{}", path.display()));
        }
    }
}

/// Two hours of four series, the samples of the first gone.
fn write_golden(disk: &SimDisk) -> (Windows, Windows) {
    let compaction_ms = vec![30 * MINUTE_MS, 2 * HOUR_MS];
    let options = Options { retention_ms: 4 * HOUR_MS, compaction_ms, ..tiered() };
    let (db, _) = open_with(disk, options);
    for tick in 1..=720i64 {
        let t = hour(0) + tick * 10_000;
        let value = |name: &str| match name {
            "counter" => (tick % 500 * 3) as f64,
            "gauge" => 1.0 / (tick % 13 + 1) as f64,
            "ends" if tick % 180 == 179 => stale_nan(),
            _ => 1.5,
        };
        let names = ["counter", "gauge", "ends", "seldom"];
        let there = names.iter().filter(|name| **name != "seldom" || tick % 50 == 1);
        let samples = there.map(|name| (series(&db, 1, &format!("__name__={name}")), value(name)));
        append(&db, 1, t, &samples.collect::<Vec<_>>());
    }
    let windows = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
    work(&db, hour(3));
    append(&db, 1, hour(7), &[(series(&db, 1, "__name__=now"), 1.0)]);
    // The minutes are one already, and are sealed.
    work(&db, hour(7));
    assert_eq!(blocks(&db), [(1, 0), (2, 0)]);
    db.close().unwrap();
    windows
}

#[test]
fn what_is_written_is_what_was_written() {
    let disk = SimDisk::new(1);
    let (minutes, hours) = write_golden(&disk);
    let (tiers, all) = (Path::new(DIR).join("tiers"), golden_dir("tiers-v2"));
    let written = files(&disk, &tiers);
    for path in &written {
        let golden = all.join(path.strip_prefix(&tiers).unwrap());
        let bytes = disk.read(path).unwrap();
        if std::env::var_os("STOA_BLESS").is_some() {
            std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
            std::fs::write(&golden, &bytes).unwrap();
        }
        assert_eq!(bytes, std::fs::read(&golden).unwrap_or_default(), "{}", path.display());
    }
    assert_eq!(written.len(), 13, "{written:?}");
    // And it still opens; so does what says that something is gone and not of which time, beside a block
    // or in it.
    let before = ["tiers-v1", "tiers-v1-sealed", "tiers-v1-spare"].map(golden_dir);
    for golden in before.into_iter().chain([all]) {
        let disk = SimDisk::new(2);
        copy_in(&disk, &golden, &tiers);
        let (db, recovery) = open_with(&disk, tiered());
        assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
        check_all(&db, &minutes, &hours, "golden");
    }
}

#[test]
fn histograms_are_left_out_and_counted() {
    let disk = SimDisk::new(1);
    let (db, _) = open_with(&disk, tiered());
    for tick in 1..=180i64 {
        let t = hour(0) + tick * 10_000;
        let (both, only) = (series(&db, 1, "__name__=both"), series(&db, 1, "__name__=only"));
        let floats = if tick % 2 == 0 { vec![(both, 1.0)] } else { vec![] };
        let mut given = vec![(only, histogram(tick, 3))];
        given.extend((tick % 2 == 1).then(|| (both, histogram(tick, 3))));
        histograms::put(&db, t, &floats, &given).unwrap();
    }
    let minutes = expected(&db, Tier::Minute);
    assert_eq!(minutes.len(), 30, "the floats");
    work(&db, hour(1));
    let stats = db.stats();
    assert_eq!((stats.tiers[0].blocks, stats.tiers[0].series, stats.chunks_damaged), (1, 1, 0));
    assert!(stats.tier_histograms >= 2, "{}", stats.tier_histograms);
    check(&rolled_up(&db, Tier::Minute), &minutes, "floats beside histograms");
}

#[test]
fn a_copy_has_the_tiers_too() {
    let disk = SimDisk::new(4);
    let (minutes, hours) = image(&disk, tiered());
    let (db, _) = open_with(&disk, tiered());
    db.snapshot(Path::new("/copy")).unwrap();
    let copied = files(&disk, Path::new("/copy/tiers")).len();
    assert_eq!(copied, files(&disk, &Path::new(DIR).join("tiers")).len());
    check_all(&db, &minutes, &hours, "the copied");
    let arc = std::sync::Arc::new(disk.clone());
    let (copy, recovery) = Db::open(arc, Path::new("/copy"), tiered(), START).unwrap();
    assert_eq!(recovery.damaged, 0);
    check_all(&copy, &minutes, &hours, "the copy");
    assert!(disk.list(Path::new("/copy/tiers")).unwrap().contains(&"1m".to_owned()));
    assert!(try_append(&copy, 1, hour(9), &[]).is_ok());
}
