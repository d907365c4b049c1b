//! Tiers when something of what they were made of is gone, and samples that are there or come then.

use std::path::Path;

use stoa_model::Matcher;
use stoa_tsdb::{Db, Options, Resolution, Rollups, Tier};
use stoa_wal::Disk as _;
use stoa_wal::disk::{Fault, SimDisk};

use crate::sectors::BadDisk;
use crate::tiers::{
    HOUR_MS, Windows, blocks, check, check_all, expected, fill, hour, rolled_up, tiered, work,
};
use crate::{DIR, MINUTE_MS, append, files, open_with, series};

pub(crate) const SEED: u64 = 3;

/// Samples go after five hours; those that come late are taken.
pub(crate) fn short() -> Options {
    Options { retention_ms: 5 * HOUR_MS, out_of_order_ms: 48 * HOUR_MS, ..tiered() }
}

/// Three hours, rolled up, and then gone; what is appended is as late as can be.
fn aged(disk: &SimDisk) -> Db {
    let (db, _) = open_with(disk, Options { retention_ms: 5 * HOUR_MS, ..tiered() });
    fill(&db, SEED, hour(0), hour(3));
    work(&db, hour(4));
    append(&db, 7, hour(12), &[(series(&db, 7, "__name__=now"), 1.0)]);
    work(&db, hour(12));
    assert!(db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty());
    db.close().unwrap();
    open_with(disk, short()).0
}

/// The same with all samples kept.
pub(crate) fn model(change: impl Fn(&Db)) -> (Windows, Windows) {
    let disk = SimDisk::new(2);
    let options = Options { minute_retention_ms: 0, hour_retention_ms: 0, ..short() };
    let (db, _) = open_with(&disk, Options { retention_ms: 400 * 24 * HOUR_MS, ..options });
    fill(&db, SEED, hour(0), hour(3));
    change(&db);
    (expected(&db, Tier::Minute), expected(&db, Tier::Hour))
}

pub(crate) fn without_now(mut windows: Windows) -> Windows {
    windows.retain(|(key, _), _| !key.contains("now"));
    windows
}

#[track_caller]
pub(crate) fn check_both(db: &Db, (minutes, hours): &(Windows, Windows), case: &str) {
    check(&without_now(rolled_up(db, Tier::Minute)), minutes, case);
    check(&without_now(rolled_up(db, Tier::Hour)), hours, case);
}

fn finest(db: &Db, name: &str, from: i64, to: i64) -> Rollups {
    let matchers = [Matcher::equal("__name__", name)];
    let read = db.select_rollups(&matchers, (from, to), Resolution::Finest, 99, 1 << 30);
    read.unwrap().unwrap_or_default()
}

/// A series of its own; one more behind the last of an hour, and one where nothing was.
pub(crate) fn late(db: &Db) {
    late_series(db);
    let load = series(db, 0, "__name__=load,host=a");
    for t in [hour(1) - 3, hour(1) + 5 * MINUTE_MS] {
        append(db, 0, t, &[(load, 9.0)]);
    }
}

pub(crate) fn late_series(db: &Db) {
    let late = series(db, 0, "__name__=late,host=a");
    for t in (hour(0) + 7_000..hour(2)).step_by(30_000) {
        append(db, 0, t, &[(late, (t % 7_001) as f64)]);
    }
}

#[test]
fn samples_that_come_when_the_others_are_gone_are_seen_and_stay() {
    let disk = SimDisk::new(1);
    let db = aged(&disk);
    check_both(&db, &model(|_| {}), "before");
    late(&db);
    let all = model(late);
    check_both(&db, &all, "in the head");
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, _) = open_with(&disk, short());
    db.maintain(hour(12)).unwrap();
    check_both(&db, &all, "in a block");
    assert!(blocks(&db)[0].1 > 0 && blocks(&db)[1].1 > 0, "stale: {:?}", blocks(&db));
    // What is there is answered as it is.
    let read = finest(&db, "late", hour(0) + 1, hour(3));
    let [series] = read.series.as_slice() else { panic!("{read:?}") };
    assert_eq!((series.timestamps.len(), series.rollups.len()), (240, 0));
    assert_eq!(series.values[0], ((hour(0) + 7_000) % 7_001) as f64);
    for n in 0..3 {
        db.maintain(hour(12) + n * MINUTE_MS).unwrap();
        assert!(!db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty(), "it waits");
    }
    drop(db);
    disk.crash();
    let (db, recovery) = open_with(&disk, short());
    assert_eq!(recovery.damaged, 0);
    work(&db, hour(12));
    assert!(blocks(&db).iter().all(|(_, stale)| *stale == 0), "{:?}", blocks(&db));
    check_both(&db, &all, "made again");
    db.maintain(hour(12)).unwrap();
    assert!(db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty(), "it has gone");
    check_both(&db, &all, "gone");
    let stats = db.stats();
    assert_eq!((stats.blocks_not_rolled_up, stats.tier_samples_left_out), (0, 0));
}

#[test]
fn what_is_sent_again_counts_once_and_what_cannot_be_told_is_counted() {
    let disk = SimDisk::new(1);
    let db = aged(&disk);
    // All of one series and a third of another, as they were.
    let again = |db: &Db| {
        let source = SimDisk::new(3);
        let (whole, _) =
            open_with(&source, Options { retention_ms: 400 * 24 * HOUR_MS, ..short() });
        fill(&whole, SEED, hour(0), hour(3));
        for (name, keep) in [("load", 1), ("bytes_total", 3)] {
            let matchers = [Matcher::equal("__name__", name), Matcher::equal("host", "b")];
            let found = whole.select(&matchers, 0, hour(4), 9, 1 << 30).unwrap();
            let target = series(db, 1, &format!("__name__={name},host=b"));
            let samples = found[0].timestamps.iter().zip(&found[0].values).step_by(keep);
            for (t, v) in samples {
                append(db, 1, *t, &[(target, *v)]);
            }
        }
        db.sync().unwrap();
    };
    again(&db);
    let all = model(|_| {});
    for case in ["in the head", "in blocks", "made again", "once more"] {
        check_both(&db, &all, case);
        if case == "once more" {
            again(&db);
        }
        db.maintain(hour(12)).unwrap();
        if case != "in the head" {
            work(&db, hour(12) + 20 * MINUTE_MS);
        }
    }
    // What waited for what was in the head.
    db.maintain(hour(12) + 20 * MINUTE_MS).unwrap();
    assert!(db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty());
    check_both(&db, &all, "gone");
    // Between samples that are gone.
    let before = db.stats().tier_samples_left_out;
    append(&db, 0, hour(2) - 25_003, &[(series(&db, 0, "__name__=constant,host=a"), 7.5)]);
    work(&db, hour(12) + 40 * MINUTE_MS);
    check_both(&db, &all, "left out");
    db.maintain(hour(13)).unwrap();
    assert_eq!(db.stats().tier_samples_left_out, before + 1);
    assert_eq!(db.stats().blocks_not_rolled_up, 0);
}

/// Eleven hours, a part of which is damaged before it is merged with the rest; what there was.
fn one_damaged(disk: &SimDisk, damage: impl FnOnce(&Path)) -> (Db, (Windows, Windows), usize) {
    let (db, _) = open_with(disk, tiered());
    for t in (hour(0) + 10_000..=hour(11)).step_by(10_000) {
        append(&db, 1, t, &[(series(&db, 1, "__name__=a"), (t % 7_000_000) as f64)]);
        if t % (10 * MINUTE_MS) == 0 && t < hour(11) {
            work(&db, t);
        }
    }
    let windows = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
    let samples = db.select(&[], 0, i64::MAX, 9, 1 << 30).unwrap()[0].values.len();
    db.close().unwrap();
    let names = disk.list(&Path::new(DIR).join("blocks")).unwrap();
    assert!(names.len() > 10, "{names:?}");
    damage(&Path::new(DIR).join("blocks").join(&names[4]));
    (open_with(disk, tiered()).0, windows, samples)
}

#[test]
fn good_days_beside_a_damaged_one_are_seen_as_they_are() {
    let disk = SimDisk::new(4);
    let (db, windows, samples) = one_damaged(&disk, |block| {
        let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(40).for_each(|byte| *byte ^= 4);
        disk.corrupt(&block.join("index"), flip).unwrap();
        disk.corrupt(&block.join("spare"), flip).unwrap();
    });
    drop(db.compact(hour(22)));
    db.maintain(hour(22)).unwrap();
    for n in 1..4 {
        work(&db, hour(22) + n * 20 * MINUTE_MS);
    }
    assert_eq!(db.stats().blocks_quarantined, 1);
    assert!(blocks(&db)[0].0 < 5, "one of all: {:?}", blocks(&db));
    check_both(&db, &windows, "all of it");
    let read = finest(&db, "a", 0, hour(12));
    let [series] = read.series.as_slice() else { panic!("{read:?}") };
    // Half an hour, at most, is minutes: blocks end just before a window does.
    assert!((1..=31).contains(&series.rollups.len()), "{}", series.rollups.len());
    let rolled_up: u64 = series.rollups.iter().map(|rollup| rollup.count).sum();
    assert_eq!(series.timestamps.len() + usize::try_from(rolled_up).unwrap(), samples);
    let [stretch] = read.stretches.as_slice() else { panic!("{:?}", read.stretches) };
    assert!(stretch.end_ms - stretch.start_ms <= 31 * MINUTE_MS, "{stretch:?}");
    // It costs what the samples cost, with those of two windows of which some are gone.
    let cost = series.timestamps.len() + 5 * series.rollups.len();
    assert!((cost..=cost + 12).contains(&read.samples), "{} {cost}", read.samples);
}

/// Late samples come while their block is made, and the power goes at every step after that.
#[test]
fn a_block_counts_only_when_it_has_all_there_is() {
    let disk = BadDisk::new();
    let without = Options { minute_retention_ms: 0, hour_retention_ms: 0, ..short() };
    let (db, _) = disk.open_db(without);
    fill(&db, 5, hour(0), hour(1));
    // Nothing but tiers is left to make.
    work(&db, hour(2));
    append(&db, 0, hour(0) + 5_003, &[(series(&db, 0, "__name__=load,host=a"), 9.0)]);
    db.close().unwrap();
    let image = disk.disk.snapshot();
    let mut steps = 0;
    for step in 0.. {
        let case = format!("cut at {step}");
        disk.disk.restore(&image);
        let (db, _) = disk.open_db(short());
        let mut before = 0;
        let compact = || drop(db.compact(hour(2) + 20 * MINUTE_MS));
        disk.meanwhile("/blocks/", compact, || {
            assert_eq!(db.maintain(hour(2) + 20 * MINUTE_MS).unwrap().blocks_written, 1);
            before = disk.disk.ops();
            disk.disk.fail_at(step, Fault::Halt);
        });
        let is_over = disk.disk.ops() - before <= step;
        drop(db);
        disk.disk.crash();
        let (db, recovery) = disk.open_db(short());
        assert_eq!(recovery.damaged, 0, "{case}: {:?}", recovery.damage);
        let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
        check_all(&db, &minutes, &hours, &case);
        work(&db, hour(3));
        check_all(&db, &minutes, &hours, &case);
        steps += 1;
        if is_over {
            break;
        }
    }
    assert!(steps > 10, "{steps}");
}

/// Minutes go while the hours made of them are made one.
#[test]
fn what_is_said_of_a_block_while_it_is_merged_is_said_of_the_merged_one() {
    let disk = BadDisk::new();
    let options =
        Options { retention_ms: 5 * HOUR_MS, minute_retention_ms: 6 * HOUR_MS, ..tiered() };
    let (db, _) = disk.open_db(options.clone());
    fill(&db, 5, hour(0), hour(3));
    let hours = expected(&db, Tier::Hour);
    work(&db, hour(4));
    assert_eq!(blocks(&db), [(6, 0), (3, 0)]);
    append(&db, 7, hour(40), &[(series(&db, 7, "__name__=now"), 1.0)]);
    db.close().unwrap();
    let (db, _) = disk.open_db(options.clone());
    let compact = || drop(db.compact(hour(40)));
    disk.meanwhile("/tiers/1h", compact, || {
        assert!(db.maintain(hour(40)).unwrap().blocks_deleted > 6);
    });
    drop(db);
    disk.disk.crash();
    let (db, _) = disk.open_db(options);
    assert!(blocks(&db)[0].0 == 0 && blocks(&db)[1].0 < 3, "{:?}", blocks(&db));
    check(&without_now(rolled_up(&db, Tier::Hour)), &hours, "hours");
    let read = finest(&db, "load", 0, hour(4));
    assert_eq!(read.series.len(), 2, "of two hosts: {:?}", read.stretches);
    assert!(read.series.iter().all(|series| series.rollups.len() == 3));
}

#[test]
fn a_block_that_does_not_say_what_time_it_had_takes_none_with_it() {
    let disk = SimDisk::new(4);
    let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().skip(10).for_each(|byte| *byte ^= 4);
    let (db, windows, samples) = one_damaged(&disk, |block| {
        for file in ["meta", "spare"] {
            disk.corrupt(&block.join(file), flip).unwrap();
        }
    });
    drop(db);
    disk.crash();
    let (db, _) = open_with(&disk, tiered());
    for n in 0..3 {
        check_both(&db, &windows, "all of it");
        let read = finest(&db, "a", 0, hour(12));
        let [series] = read.series.as_slice() else { panic!("{read:?}") };
        assert!((1..=31).contains(&series.rollups.len()), "{}", series.rollups.len());
        let rolled_up: u64 = series.rollups.iter().map(|rollup| rollup.count).sum();
        assert_eq!(series.timestamps.len() + usize::try_from(rolled_up).unwrap(), samples);
        let [stretch] = read.stretches.as_slice() else { panic!("{:?}", read.stretches) };
        assert!(stretch.end_ms - stretch.start_ms <= 31 * MINUTE_MS, "{stretch:?}");
        work(&db, hour(22) + n * 20 * MINUTE_MS);
    }
}

#[test]
fn damaged_marks_of_what_was_deleted_are_mended_by_a_start() {
    let disk = SimDisk::new(4);
    {
        let (db, _) = open_with(&disk, tiered());
        fill(&db, SEED, hour(0), hour(3));
        work(&db, hour(4));
        let deleted = [Matcher::equal("__name__", "constant")];
        db.delete_series(&deleted, hour(1) - 1, hour(1), hour(4)).unwrap();
        db.close().unwrap();
    }
    let image = disk.snapshot();
    let marks = files(&disk, &Path::new(DIR).join("tiers"));
    let marks: Vec<_> = marks
        .into_iter()
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("tombstones"))
        .collect();
    assert!(marks.len() >= 4, "{marks:?}");
    for both in [false, true] {
        disk.restore(&image);
        for path in marks.iter().skip(usize::from(!both)).step_by(if both { 1 } else { 2 }) {
            disk.corrupt(path, |bytes| {
                let at = bytes.len() - 5;
                bytes[at] ^= 4;
            })
            .unwrap();
        }
        // So that only what a start finds of the marks says that they are to be made again.
        for path in files(&disk, &Path::new(DIR).join("tiers")) {
            if path.ends_with("stale") {
                disk.remove_file(&path).unwrap();
            }
        }
        disk.sync_dir(marks[0].parent().unwrap()).unwrap();
        let (db, recovery) = open_with(&disk, tiered());
        assert!(recovery.damaged > 0);
        drop(db);
        disk.crash();
        let (db, recovery) = open_with(&disk, tiered());
        assert_eq!(recovery.damaged, 0, "{both}: {:?}", recovery.damage);
        assert_eq!(blocks(&db)[0].1 > 0, both, "to be made again");
        work(&db, hour(5));
        if both {
            let (minutes, hours) = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
            check_all(&db, &minutes, &hours, "made again");
        }
    }
}

#[test]
fn long_history_is_made_in_turns_and_waits_for_all_of_them() {
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
    let (db, _) = open_with(&disk, Options { retention_ms: 4 * HOUR_MS, ..tiered() });
    db.maintain(hour(100)).unwrap();
    for _ in 0..3 {
        let done = db.compact(hour(100)).unwrap();
        assert!(done.is_partial && done.tier_blocks <= 16, "{done:?}");
        db.maintain(hour(100)).unwrap();
    }
    // A day passes, and not all has been tried.
    append(&db, 7, hour(126), &[(series(&db, 7, "__name__=now"), 1.0)]);
    db.maintain(hour(126)).unwrap();
    append(&db, 7, hour(152), &[(series(&db, 7, "__name__=now"), 1.0)]);
    db.maintain(hour(152)).unwrap();
    assert_eq!(db.stats().blocks_not_rolled_up, 0);
    work(&db, hour(152));
    db.maintain(hour(152)).unwrap();
    assert!(db.select(&[], 0, hour(30), 9, 1 << 30).unwrap().is_empty());
    check(&without_now(rolled_up(&db, Tier::Hour)), &hours, "all of it");
    assert_eq!(db.stats().blocks_not_rolled_up, 0);
}

/// What there is of `a`, whatever else came.
fn of_a((mut minutes, mut hours): (Windows, Windows)) -> (Windows, Windows) {
    minutes.retain(|(key, _), _| key == "a");
    hours.retain(|(key, _), _| key == "a");
    (minutes, hours)
}

#[test]
fn a_chunk_that_is_left_out_takes_no_window_with_it() {
    // Met by a merge; by a block of a tier that is made again, where nothing is merged.
    let half_hours = vec![30 * MINUTE_MS];
    for (before, compaction_ms) in [(half_hours, tiered().compaction_ms), (vec![], vec![])] {
        let case = format!("{compaction_ms:?}");
        let disk = SimDisk::new(4);
        let options = Options { compaction_ms, out_of_order_ms: 48 * HOUR_MS, ..tiered() };
        let (db, _) = open_with(&disk, Options { compaction_ms: before, ..tiered() });
        for t in (hour(0) + 10_000..=hour(11)).step_by(10_000) {
            append(&db, 1, t, &[(series(&db, 1, "__name__=a"), (t % 7_000_000) as f64)]);
        }
        let windows = (expected(&db, Tier::Minute), expected(&db, Tier::Hour));
        work(&db, hour(13));
        db.close().unwrap();
        let names = disk.list(&Path::new(DIR).join("blocks")).unwrap();
        let chunks = Path::new(DIR).join("blocks").join(&names[4]).join("chunks");
        disk.corrupt(&chunks, |bytes| *bytes.last_mut().unwrap() ^= 4).unwrap();
        let (db, _) = open_with(&disk, options.clone());
        // Beside it, so that all of that time is made again.
        append(&db, 2, hour(0) + 45 * MINUTE_MS, &[(series(&db, 2, "__name__=b"), 1.0)]);
        for n in 0..4 {
            work(&db, hour(70) + n * 20 * MINUTE_MS);
        }
        assert!(db.stats().chunks_damaged > 0, "{case}");
        assert!(blocks(&db).iter().all(|(_, stale)| *stale == 0), "{case}: {:?}", blocks(&db));
        let read = || of_a((rolled_up(&db, Tier::Minute), rolled_up(&db, Tier::Hour)));
        let check_a = || {
            let (minutes, hours) = read();
            check(&minutes, &windows.0, &case);
            check(&hours, &windows.1, &case);
        };
        check_a();
        let samples =
            db.select(&[Matcher::equal("__name__", "a")], 0, i64::MAX, 9, 1 << 30).unwrap();
        assert!(samples[0].values.len() < 11 * 360, "{case}");
        let b = finest(&db, "b", 0, hour(12));
        assert_eq!(b.series.len(), 1, "{case}");
    }
}

#[test]
fn a_full_disk_seals_all_of_a_span_and_takes_nothing_with_it() {
    let disk = SimDisk::new(1);
    let (db, _) = open_with(&disk, Options { retention_ms: 5 * HOUR_MS, ..tiered() });
    fill(&db, SEED, hour(0), hour(3));
    work(&db, hour(4));
    append(&db, 7, hour(12), &[(series(&db, 7, "__name__=now"), 1.0)]);
    db.sync().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    // It makes room, and takes none for that; what else it is to do may find too little.
    drop(db.maintain(hour(12)));
    assert!(db.select(&[], 0, hour(3), 99, 1 << 30).unwrap().is_empty());
    let sealed = files(&disk, &Path::new(DIR).join("tiers/1m"));
    let sealed = sealed.iter().filter(|path| path.ends_with("sealed"));
    let sealed: Vec<_> = sealed.map(|path| disk.read(path).unwrap().len()).collect();
    assert!(sealed.len() > 3 && sealed.contains(&0), "{sealed:?}");
    check_both(&db, &model(|_| {}), "full");
    disk.set_capacity(None);
    drop(db);
    disk.crash();
    let (db, recovery) = open_with(&disk, short());
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    check_both(&db, &model(|_| {}), "after a start");
    late(&db);
    let all = model(late);
    for n in 0..2 {
        check_both(&db, &all, "with what came late");
        work(&db, hour(12) + n * 20 * MINUTE_MS);
    }
    check_both(&db, &all, "made again");
}
