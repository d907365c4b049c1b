//! Since when a database has everything that was appended.

#![expect(clippy::unwrap_used, reason = "a test: what goes wrong is to fail it")]

use std::path::Path;
use std::sync::Arc;

use stoa_model::Labels;
use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const START: i64 = 1_700_000_040_000;
const DIR: &str = "/db";

fn options() -> Options {
    Options {
        block_ms: MINUTE_MS,
        grace_ms: 5_000,
        head_chunk_samples: 16,
        compaction_ms: vec![],
        ..Options::default()
    }
}

fn open(disk: &SimDisk, options: Options, now_ms: i64) -> Db {
    let (db, _) = Db::open(Arc::new(disk.clone()), Path::new(DIR), options, now_ms).unwrap();
    db.keep_whole_since().unwrap();
    db
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)]).unwrap()
}

/// A sample a second, maintained each minute; the time after the last.
fn fill(db: &Db, start: i64, minutes: i64) -> i64 {
    let group = GroupId(1);
    for second in 0..minutes * 60 {
        let t_ms = start + second * 1000;
        let series = db.resolve(group, &labels("m")).unwrap();
        let row = Row { t_ms, samples: vec![(series, second as f64)] };
        db.append(&Batch { group, rows: vec![row], marks: vec![] }).unwrap();
        if second % 60 == 59 {
            db.sync().unwrap();
            db.maintain(t_ms).unwrap();
        }
    }
    start + minutes * MINUTE_MS
}

#[test]
fn it_begins_with_the_database_and_no_old_sample_moves_it() {
    let disk = SimDisk::new(1);
    let db = open(&disk, options(), START);
    assert_eq!(db.whole_since(), START);
    let now = fill(&db, START, 5);
    // One that came late, and one that was imported.
    let group = GroupId(2);
    let late = db.resolve(group, &labels("late")).unwrap();
    let row = Row { t_ms: START - DAY_MS / 2, samples: vec![(late, 1.0)] };
    let appended = db.append(&Batch { group, rows: vec![row], marks: vec![] }).unwrap();
    assert_eq!(appended.stored, 1);
    let mut bulk = db.bulk(now, 0);
    let series = bulk.series(&labels("imported")).unwrap();
    bulk.push(series, START - 5 * DAY_MS, 1.0).unwrap();
    assert_eq!(db.write_bulk(bulk, now, |_, _| {}).unwrap().written, 1);
    db.sync().unwrap();
    db.maintain(now).unwrap();
    assert_eq!(db.stats().min_t, Some(START - 5 * DAY_MS));
    assert_eq!(db.whole_since(), START);
    drop(db);
    disk.crash();
    assert_eq!(open(&disk, options(), now).whole_since(), START, "it is kept");
}

#[test]
fn what_is_deleted_for_size_moves_it_for_good() {
    let disk = SimDisk::new(2);
    let bounded = Options { retention_bytes: Some(12_000), ..options() };
    let db = open(&disk, bounded.clone(), START);
    let now = fill(&db, START, 30);
    let since = db.whole_since();
    let oldest = db.stats().min_t.unwrap();
    assert!(START < since && since <= oldest && oldest - since < 2000, "{since} {oldest}");
    drop(db);
    disk.crash();
    // Nor does it come back when more may be kept.
    assert_eq!(open(&disk, options(), now).whole_since(), since);
}

#[test]
fn what_a_full_disk_did_not_take_is_written_down_once_there_is_room() {
    let disk = SimDisk::new(2);
    let db = open(&disk, options(), START);
    let now = fill(&db, START, 30);
    db.close().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let db = open(&disk, Options { retention_bytes: Some(12_000), ..options() }, now);
    drop(db.maintain(now));
    let since = db.whole_since();
    assert!(START < since && since <= db.stats().min_t.unwrap());
    disk.set_capacity(None);
    db.maintain(now).unwrap();
    drop(db);
    disk.crash();
    assert_eq!(open(&disk, options(), now).whole_since(), since);
    // Nor is the first of all forgotten.
    let disk = SimDisk::new(2);
    disk.set_capacity(Some(0));
    let (db, _) = Db::open(Arc::new(disk.clone()), Path::new(DIR), options(), START).unwrap();
    db.keep_whole_since().unwrap_err();
    disk.set_capacity(None);
    db.maintain(START).unwrap();
    drop(db);
    disk.crash();
    assert_eq!(open(&disk, options(), now).whole_since(), START);
}

#[test]
fn what_is_set_aside_moves_it() {
    let disk = SimDisk::new(3);
    let db = open(&disk, options(), START);
    let now = fill(&db, START, 6);
    drop(db);
    let blocks = disk.list(&Path::new(DIR).join("blocks")).unwrap();
    for file in ["index", "spare"] {
        let path = Path::new(DIR).join("blocks").join(&blocks[1]).join(file);
        disk.corrupt(&path, |bytes| bytes.fill(0)).unwrap();
    }
    let db = open(&disk, options(), now);
    assert_eq!(db.whole_since(), START, "nobody has seen it yet");
    let found = db.select(&[], START, now, 10, 10_000).unwrap();
    assert!(found.iter().map(|series| series.values.len()).sum::<usize>() < 360);
    db.maintain(now).unwrap();
    assert_eq!(db.stats().blocks_quarantined, 1);
    let since = db.whole_since();
    assert!((START + MINUTE_MS..START + 3 * MINUTE_MS).contains(&since), "{}", since - START);
}

#[test]
fn a_directory_that_never_said_is_whole_since_its_blocks() {
    let disk = SimDisk::new(4);
    let db = open(&disk, options(), START);
    let now = fill(&db, START, 6);
    db.remove_mark(b"whole_since").unwrap();
    db.close().unwrap();
    let since = open(&disk, options(), now).whole_since();
    assert!((START..START + 2 * MINUTE_MS).contains(&since), "{}", since - START);
    // And one without blocks since now.
    let disk = SimDisk::new(5);
    let db = open(&disk, Options::default(), START);
    let now = fill(&db, START, 2);
    db.remove_mark(b"whole_since").unwrap();
    db.close().unwrap();
    assert_eq!(open(&disk, options(), now).whole_since(), now);
}

#[test]
fn what_does_not_open_at_start_moves_it() {
    for (files, is_said) in [(&["chunks"][..], true), (&["meta", "spare"], false)] {
        let disk = SimDisk::new(3);
        let db = open(&disk, options(), START);
        let now = fill(&db, START, 6);
        drop(db);
        let blocks = Path::new(DIR).join("blocks");
        let block = blocks.join(&disk.list(&blocks).unwrap()[1]);
        for file in files {
            disk.remove_file(&block.join(file)).unwrap();
        }
        disk.sync_dir(&block).unwrap();
        let (db, recovery) =
            Db::open(Arc::new(disk.clone()), Path::new(DIR), options(), now).unwrap();
        assert_eq!((recovery.blocks_quarantined, recovery.quarantined.len()), (1, 1));
        assert!(recovery.damage[0].kept.is_some() && !disk.exists(&block).unwrap());
        let since = db.whole_since();
        let expected =
            if is_said { START + MINUTE_MS..START + 3 * MINUTE_MS } else { now..now + 2 };
        assert!(expected.contains(&since), "{}", since - START);
        drop(db);
        // Else it might be back, to be set aside once more.
        disk.sync_dir(&blocks).unwrap();
        disk.crash();
        assert_eq!(open(&disk, options(), now + DAY_MS).whole_since(), since, "it is kept");
    }
}

#[test]
fn what_a_merge_leaves_out_moves_it() {
    let disk = SimDisk::new(3);
    let merged = Options { compaction_ms: vec![3 * MINUTE_MS], ..options() };
    let db = open(&disk, options(), START);
    let now = fill(&db, START, 9);
    drop(db);
    let blocks = Path::new(DIR).join("blocks");
    let chunks = blocks.join(&disk.list(&blocks).unwrap()[1]).join("chunks");
    disk.corrupt(&chunks, |bytes| *bytes.last_mut().unwrap() ^= 4).unwrap();
    let db = open(&disk, merged.clone(), now);
    assert_eq!(db.whole_since(), START, "nobody has seen it yet");
    assert_eq!(db.compact(now + DAY_MS).unwrap().chunks_damaged, 1);
    let since = db.whole_since();
    assert!((START + MINUTE_MS..START + 3 * MINUTE_MS).contains(&since), "{}", since - START);
    drop(db);
    disk.crash();
    assert_eq!(open(&disk, merged, now).whole_since(), since, "it is kept");
}
