use std::path::Path;

use stoa_model::{MatchOp, Matcher};
use stoa_tsdb::{Db, Options};
use stoa_wal::Disk as _;
use stoa_wal::disk::{Fault, SimDisk};

use crate::{
    DIR, MINUTE_MS, START, Samples, all, append, files, fill, open, open_with, options, series,
};

fn merging() -> Options {
    Options {
        compaction_ms: vec![3 * MINUTE_MS, 6 * MINUTE_MS, 12 * MINUTE_MS],
        out_of_order_ms: 12 * MINUTE_MS,
        ..options()
    }
}

/// A multiple of twelve minutes.
const ROUND: i64 = START.div_euclid(12 * MINUTE_MS) * 12 * MINUTE_MS;

fn minute(n: i64) -> i64 {
    ROUND + n * MINUTE_MS
}

/// Blocks of a minute each, some late ones over them, and a deletion.
fn image(disk: &SimDisk, minutes: i64) -> Samples {
    let (db, _) = open_with(disk, merging());
    fill(&db, minute(0), minutes * 60);
    db.maintain(minute(minutes)).unwrap();
    let late = series(&db, 0, "__name__=m0,g=0");
    let other = series(&db, 1, "__name__=late");
    for second in 0..50 {
        let t = minute(minutes - 2) + second * 1000;
        // The first is there with another value, which stays.
        append(&db, 0, t, &[(late, -1.0)]);
        append(&db, 1, t + 500, &[(other, 1.5)]);
    }
    db.maintain(minute(minutes + 1)).unwrap();
    delete(&db, "m1", minute(0) + 20_000, minute(1) + 20_000);
    db.sync().unwrap();
    all(&db)
}

fn delete(db: &Db, name: &str, from: i64, to: i64) -> u64 {
    let matchers = [Matcher::equal("__name__", name)];
    db.delete_series(&matchers, from, to, minute(30)).unwrap().series
}

#[test]
fn a_merge_that_meets_a_damaged_index_is_no_error_and_goes_on_without_the_block() {
    let disk = SimDisk::new(29);
    image(&disk, 5);
    let blocks = files(&disk, &Path::new(DIR).join("blocks"));
    let index = blocks.iter().find(|path| path.ends_with("index")).unwrap();
    for path in [index, &index.with_file_name("spare")] {
        disk.corrupt(path, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 1)).unwrap();
    }
    let (db, _) = open_with(&disk, merging());
    // The others are merged all the same.
    assert!(db.compact(minute(30)).unwrap().merges > 0);
    assert!(db.stats().compactions_failed > 0);
    db.maintain(minute(30)).unwrap();
    let (told, _) = db.take_damage();
    let told = told.iter().find(|one| one.path == *index).unwrap();
    assert!(told.kept.as_ref().is_some_and(|kept| disk.exists(kept).unwrap()), "{told}");
    assert_eq!(db.stats().blocks_quarantined, 1);
}

#[test]
fn what_only_deleted_series_were_called_leaves_the_disk_with_them() {
    let disk = SimDisk::new(23);
    let (db, _) = open(&disk);
    fill(&db, START, 60);
    let gone = series(&db, 1, "__name__=m0,owner=zz_somebody");
    let kept = series(&db, 1, "__name__=m0,owner=zz_nobody");
    for second in 0..60 {
        append(&db, 1, START + 60_000 + second * 1000, &[(gone, 1.0), (kept, 2.0)]);
    }
    db.maintain(START + 10 * MINUTE_MS).unwrap();
    let matchers = [Matcher::equal("owner", "zz_somebody")];
    assert_eq!(db.delete_series(&matchers, START, i64::MAX, START).unwrap().series, 1);
    let expected = all(&db);
    let holds = |text: &str| {
        let files = files(&disk, &Path::new(DIR).join("blocks"));
        let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        files.iter().any(|path| has(disk.read(path).unwrap()))
    };
    // Front-coded: the rest of it.
    assert!(holds("somebody"));
    let done = db.clean_tombstones(START).unwrap();
    assert_eq!((done.merges, done.samples_dropped, done.skipped), (1, 60, 0));
    assert!(!holds("somebody") && holds("nobody"));
    assert_eq!(all(&db), expected);
    // What cannot be cleaned is said.
    let matchers = [Matcher::equal("owner", "zz_nobody")];
    db.delete_series(&matchers, START, START + 70_000, START).unwrap();
    disk.set_capacity(Some(disk.used_bytes() + 100));
    let done = db.clean_tombstones(START).unwrap();
    assert_eq!((done.merges, done.skipped), (0, 1));
}

#[test]
fn blocks_are_merged_into_longer_ones_and_answers_stay() {
    let disk = SimDisk::new(1);
    let expected = image(&disk, 12);
    let (db, _) = open_with(&disk, merging());
    let before = db.stats();
    assert!(before.blocks > 12 && before.tombstones == 4, "{before:?}");
    let done = db.compact(minute(13)).unwrap();
    assert_eq!(all(&db), expected);
    // Four of three minutes; the longer ones wait for late samples.
    assert_eq!((done.merges, db.stats().blocks), (4, 4), "{done:?}");
    assert_eq!(done.samples_dropped, 122 + 50, "deleted, and there twice");
    assert_eq!(db.compact(minute(13)).unwrap().merges, 0, "nothing is written twice");
    let done = db.compact(minute(24)).unwrap();
    assert_eq!((done.merges, db.stats().blocks), (3, 1), "{done:?}");
    let stats = db.stats();
    assert_eq!(stats.block_samples, expected.len() as u64);
    assert_eq!((stats.tombstones, stats.compactions, stats.compactions_failed), (0, 7, 0));
    assert_eq!(all(&db), expected);
    drop(db);
    disk.crash();
    let (db, recovery) = open_with(&disk, merging());
    assert_eq!((recovery.damaged, recovery.blocks), (0, 1));
    assert_eq!(all(&db), expected);
    assert_eq!(disk.list(&Path::new(DIR).join("blocks")).unwrap().len(), 1);
}

#[test]
fn a_compaction_that_fails_at_any_step_loses_nothing_and_doubles_nothing() {
    let disk = SimDisk::new(7);
    let expected = image(&disk, 4);
    let image = disk.snapshot();
    for fault in [Fault::Enospc, Fault::Eio, Fault::ShortWrite, Fault::Halt] {
        for step in 0.. {
            let case = format!("{fault:?} at {step}");
            disk.restore(&image);
            let (db, _) = open_with(&disk, merging());
            let before = disk.ops();
            disk.fail_at(step, fault);
            let failed = db.compact(minute(5)).is_err();
            let reached = disk.ops() - before > step;
            if !disk.halted() {
                assert_eq!(all(&db), expected, "{case}");
            }
            if step % 3 == 0 && !disk.halted() {
                // What is deleted now is not brought back by what the failed one left.
                delete(&db, "m2", i64::MIN, i64::MAX);
            }
            let expected =
                if step % 3 == 0 && !disk.halted() { all(&db) } else { expected.clone() };
            drop(db);
            disk.crash();
            let (db, recovery) = open_with(&disk, merging());
            assert_eq!(recovery.damaged, 0, "{case}: {:?}", recovery.damage);
            assert_eq!(all(&db), expected, "{case}");
            db.compact(minute(6)).unwrap();
            assert_eq!(all(&db), expected, "{case}");
            db.clean_tombstones(minute(6)).unwrap();
            let stats = db.stats();
            let stored = stats.head_samples + stats.block_samples;
            assert_eq!(stored, expected.len() as u64, "{case}: each stored once");
            assert_eq!(stats.chunks_damaged, 0, "{case}");
            if !failed && !reached {
                assert!(step > 12, "a compaction takes more steps than {step}");
                break;
            }
        }
    }
}

#[test]
fn what_is_deleted_is_in_no_answer_and_leaves_the_disk() {
    let disk = SimDisk::new(1);
    let (db, _) = open_with(&disk, merging());
    fill(&db, minute(0), 150);
    db.maintain(minute(2)).unwrap();
    let mut expected = all(&db);
    // In two blocks and the head.
    assert!(delete(&db, "m1", minute(1) + 30_000, minute(2) + 10_000) >= 4);
    let gone = |name: &str, t: i64| {
        name.starts_with("m1") && (minute(1) + 30_000..=minute(2) + 10_000).contains(&t)
    };
    expected.retain(|(name, t), _| !gone(name, *t));
    assert_eq!(all(&db), expected);
    assert_eq!(delete(&db, "m1", minute(1) + 30_000, minute(2) + 10_000), 0);
    // All of a series, and its labels go from the lists.
    assert!(delete(&db, "m3", i64::MIN, i64::MAX) > 0);
    expected.retain(|(name, _), _| !name.starts_with("m3"));
    let names = |db: &Db| {
        let any = [Matcher::new("__name__", MatchOp::Regex, ".+").unwrap()];
        db.label_values("__name__", &any, i64::MIN, i64::MAX, 99)
    };
    let names_now = names(&db);
    assert_eq!(names_now, ["m0", "m1", "m2"]);
    drop(db);
    disk.crash();
    let (db, _) = open_with(&disk, merging());
    assert_eq!(all(&db), expected);
    assert_eq!(names(&db), ["m0", "m1", "m2"]);
    assert_eq!(db.series(&[&[Matcher::equal("__name__", "m3")]], 0, i64::MAX, 9), []);
    let done = db.clean_tombstones(minute(3)).unwrap();
    assert!(done.merges >= 2 && done.samples_dropped > 0, "{done:?}");
    assert_eq!((all(&db), db.stats().tombstones), (expected.clone(), 0));
    // What is stored after the deletion stays.
    let m3 = series(&db, 0, "__name__=m3,g=0");
    append(&db, 0, minute(2) + 45_000, &[(m3, 5.0)]);
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, _) = open_with(&disk, merging());
    assert_eq!(all(&db).len(), expected.len() + 1);
    // Everything: no block is left, and nothing comes back.
    delete(&db, "m0", i64::MIN, i64::MAX);
    db.delete_series(&[], i64::MIN, i64::MAX, minute(4)).unwrap();
    db.maintain(minute(4)).unwrap();
    db.clean_tombstones(minute(4)).unwrap();
    assert_eq!((all(&db).len(), db.stats().blocks), (0, 0));
    drop(db);
    disk.crash();
    assert_eq!(all(&open_with(&disk, merging()).0).len(), 0);
}

#[test]
fn a_long_block_is_kept_until_all_of_it_is_old() {
    let disk = SimDisk::new(1);
    let retention_ms = 25 * MINUTE_MS;
    let options = Options { retention_ms, ..merging() };
    let (db, _) = open_with(&disk, options);
    fill(&db, minute(0), 12 * 60);
    db.maintain(minute(12)).unwrap();
    db.compact(minute(24)).unwrap();
    assert_eq!(db.stats().blocks, 1);
    let a = series(&db, 9, "__name__=now");
    for (now, kept) in [(36, true), (38, false)] {
        append(&db, 9, minute(now), &[(a, 1.0)]);
        db.maintain(minute(now)).unwrap();
        let oldest = all(&db).keys().map(|(_, t)| *t).min();
        assert_eq!(oldest == Some(minute(0)), kept, "{now}");
    }
}

#[test]
fn a_damaged_chunk_is_left_out_and_its_block_kept_aside() {
    let disk = SimDisk::new(1);
    let expected = image(&disk, 3);
    let chunks = files(&disk, &Path::new(DIR).join("blocks"));
    let chunks = chunks.iter().find(|path| path.ends_with("chunks")).unwrap();
    disk.corrupt(chunks, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    })
    .unwrap();
    let (db, _) = open_with(&disk, merging());
    let done = db.compact(minute(4)).unwrap();
    assert_eq!((done.merges, done.chunks_damaged), (1, 1));
    let found = all(&db);
    assert_eq!(expected.len() - found.len(), 60, "one chunk of one series");
    assert!(found.iter().all(|(key, v)| expected.get(key) == Some(v)));
    let stats = db.stats();
    assert_eq!((stats.chunks_damaged, stats.blocks_quarantined, stats.blocks), (1, 1, 1));
    assert_eq!(disk.list(&Path::new(DIR).join("quarantine")).unwrap().len(), 1);
    drop(db);
    disk.crash();
    assert_eq!(all(&open_with(&disk, merging()).0), found);
}

#[test]
fn no_merge_is_begun_on_a_disk_without_room_and_one_can_be_interrupted() {
    let disk = SimDisk::new(1);
    let expected = image(&disk, 3);
    let (db, _) = open_with(&disk, merging());
    disk.set_capacity(Some(disk.used_bytes() + 500));
    let done = db.compact(minute(4)).unwrap();
    assert_eq!((done.merges, done.put_off), (0, 1));
    disk.set_capacity(None);
    db.interrupt_compaction();
    assert_eq!(db.compact(minute(5)).unwrap().merges, 0);
    assert_eq!(all(&db), expected);
}

#[test]
fn a_snapshot_opens_with_everything_appended_before_it() {
    let disk = SimDisk::new(3);
    image(&disk, 4);
    let (db, _) = open_with(&disk, merging());
    db.compact(minute(5)).unwrap();
    fill(&db, minute(5), 30);
    let expected = all(&db);
    let to = Path::new("/backup/one");
    db.snapshot(to).unwrap();
    assert!(db.snapshot(to).is_err(), "it is there already");
    // Life goes on, in other files.
    fill(&db, minute(6), 80);
    delete(&db, "m0", i64::MIN, i64::MAX);
    db.maintain(minute(9)).unwrap();
    db.compact(minute(9)).unwrap();
    let later = all(&db);
    drop(db);
    disk.crash();
    let copy = std::sync::Arc::new(disk.clone());
    let (db, recovery) = Db::open(copy, to, merging(), minute(9)).unwrap();
    assert_eq!((recovery.damaged, recovery.torn), (0, 0), "{:?}", recovery.damage);
    assert_eq!(all(&db), expected);
    assert!(db.mark(b"g\0").is_some());
    drop(db);
    let (db, _) = open_with(&disk, merging());
    assert!(all(&db).len() <= later.len());
}

#[test]
fn a_snapshot_that_fails_leaves_the_database_and_no_copy() {
    let disk = SimDisk::new(3);
    let expected = image(&disk, 3);
    let snapshot = disk.snapshot();
    for fault in [Fault::Eio, Fault::Enospc, Fault::Halt] {
        for step in 0.. {
            disk.restore(&snapshot);
            let (db, _) = open_with(&disk, merging());
            let before = disk.ops();
            disk.fail_at(step, fault);
            let failed = db.snapshot(Path::new("/backup/one")).is_err();
            if disk.ops() - before <= step {
                assert!(!failed && step > 20, "{step}");
                break;
            }
            drop(db);
            disk.crash();
            assert_eq!(all(&open_with(&disk, merging()).0), expected, "{fault:?} at {step}");
            if disk.exists(Path::new("/backup/one")).unwrap() {
                let copy = std::sync::Arc::new(disk.clone());
                let (db, _) = Db::open(copy, Path::new("/backup/one"), merging(), 0).unwrap();
                assert_eq!(all(&db), expected, "{fault:?} at {step}: whole or not there");
            }
        }
    }
}

#[test]
fn a_real_disk_links_what_it_copies() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let disk = std::sync::Arc::new(stoa_wal::disk::RealDisk);
    let (db, _) = Db::open(
        std::sync::Arc::<stoa_wal::disk::RealDisk>::clone(&disk),
        &dir.path().join("db"),
        merging(),
        0,
    )
    .unwrap();
    fill(&db, minute(0), 200);
    db.maintain(minute(3)).unwrap();
    db.compact(minute(3)).unwrap();
    let to = dir.path().join("copy");
    db.snapshot(&to).unwrap();
    let expected = all(&db);
    let block = std::fs::read_dir(to.join("blocks")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(block.join("chunks")).unwrap().nlink(), 2);
    drop(db);
    let (db, _) = Db::open(disk, &to, merging(), 0).unwrap();
    assert_eq!(all(&db), expected);
}
