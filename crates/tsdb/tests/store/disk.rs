use std::path::Path;

use stoa_tsdb::{AppendError, Batch, DbError, GroupId, Mark, Options};
use stoa_wal::Disk as _;
use stoa_wal::disk::{Fault, SimDisk};

use crate::{DIR, MINUTE_MS, START, all, fill, open, series};

#[test]
fn a_full_disk_takes_nothing_answers_everything_and_comes_back_by_itself() {
    let disk = SimDisk::new(3);
    let (db, _) = open(&disk);
    fill(&db, START, 90);
    db.sync().unwrap();
    let before = all(&db);
    disk.set_capacity(Some(disk.used_bytes()));
    let a = series(&db, 9, "__name__=a");
    let batch = |t: i64| Batch {
        group: GroupId(9),
        rows: vec![stoa_tsdb::Row { t_ms: START + t, samples: vec![(a, 1.0)] }],
        marks: vec![Mark { key: b"m".to_vec(), value: t.to_le_bytes().to_vec() }],
    };
    // Taken, because it fits in memory; not acknowledged, because it cannot be made durable.
    db.append(&batch(90_000)).unwrap();
    for _ in 0..3 {
        assert!(matches!(db.sync(), Err(DbError::DiskFull(_))));
    }
    assert!(matches!(db.append(&batch(91_000)), Err(AppendError::DiskFull(_))));
    assert!(matches!(db.maintain(START + MINUTE_MS), Err(DbError::DiskFull(_))));
    assert_eq!(all(&db).len(), before.len() + 1);
    disk.set_capacity(None);
    db.sync().unwrap();
    db.append(&batch(91_000)).unwrap();
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, recovery) = open(&disk);
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    assert_eq!(all(&db).len(), before.len() + 2);
    assert_eq!(db.mark(b"m"), Some(91_000i64.to_le_bytes().to_vec()));
    assert_eq!(db.maintain(START + MINUTE_MS).unwrap().blocks_written, 1);
}

#[test]
fn a_disk_that_stays_full_is_not_filled_with_what_was_begun() {
    let disk = SimDisk::new(3);
    let (db, _) = open(&disk);
    let a = series(&db, 9, "__name__=a");
    let append = |t: i64| {
        let marks = vec![Mark { key: b"m".to_vec(), value: vec![7; 4096] }];
        let rows = vec![stoa_tsdb::Row { t_ms: START + t, samples: vec![(a, 1.0)] }];
        db.append(&Batch { group: GroupId(9), rows, marks })
    };
    for t in 0..100 {
        append(t).unwrap();
    }
    let wal = || crate::files(&disk, &Path::new(DIR).join("wal")).len();
    let before = wal();
    for room in [1000, 300_000] {
        // Room to begin a segment, for some of what waits, and not for all.
        disk.set_capacity(Some(disk.used_bytes() + room));
        for _ in 0..20 {
            assert!(matches!(db.sync(), Err(DbError::DiskFull(_))));
        }
        assert!(wal() <= before + 1, "{} files with {room} bytes free", wal());
    }
    disk.set_capacity(None);
    append(100).unwrap();
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, recovery) = open(&disk);
    assert_eq!((recovery.damaged, all(&db).len()), (0, 101), "{:?}", recovery.damage);
}

#[test]
fn a_database_opens_on_a_full_disk() {
    let disk = SimDisk::new(3);
    let (db, _) = open(&disk);
    fill(&db, START, 30);
    db.close().unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    let (db, _) = open(&disk);
    assert_eq!(all(&db).len(), 240);
    assert!(matches!(db.sync(), Err(DbError::DiskFull(_))));
    disk.set_capacity(None);
    fill(&db, START + 30_000, 30);
    db.sync().unwrap();
    assert_eq!(all(&db).len(), 480);
}

#[test]
fn a_failed_sync_is_final() {
    for fault in [Fault::Eio, Fault::Enospc] {
        let disk = SimDisk::new(5);
        let (db, _) = open(&disk);
        fill(&db, START, 5);
        db.sync().unwrap();
        fill(&db, START + 5000, 5);
        // The write, then the sync.
        disk.fail_at(1, fault);
        assert!(matches!(db.sync(), Err(DbError::Stopped(_))), "{fault:?}");
        assert!(matches!(db.sync(), Err(DbError::Stopped(_))), "never tried again");
        assert!(db.stats().log_stopped);
        let batch = Batch { group: GroupId(1), rows: vec![], marks: vec![] };
        assert!(matches!(db.append(&batch), Err(AppendError::Stopped(_))));
        assert_eq!(all(&db).len(), 80, "queries go on");
        drop(db);
        disk.crash();
        let found = all(&open(&disk).0).len();
        assert!((40..=80).contains(&found), "{found}");
    }
}

#[test]
fn maintenance_that_fails_at_any_step_loses_nothing_and_doubles_nothing() {
    let disk = SimDisk::new(7);
    let (db, _) = open(&disk);
    fill(&db, START, 200);
    db.sync().unwrap();
    let expected = all(&db);
    drop(db);
    let image = disk.snapshot();
    for fault in [Fault::Enospc, Fault::Eio, Fault::Halt] {
        for step in 0.. {
            disk.restore(&image);
            let (db, _) = open(&disk);
            let before = disk.ops();
            disk.fail_at(step, fault);
            let failed = db.maintain(START + 3 * MINUTE_MS).is_err();
            let reached = disk.ops() - before > step;
            if !disk.halted() {
                assert_eq!(all(&db), expected, "{fault:?} at {step}");
            }
            drop(db);
            disk.crash();
            let (db, recovery) = open(&disk);
            assert_eq!(recovery.damaged, 0, "{fault:?} at {step}: {:?}", recovery.damage);
            assert_eq!(all(&db), expected, "{fault:?} at {step}");
            let stats = db.stats();
            let stored = stats.head_samples + stats.block_samples;
            assert_eq!(stored, expected.len() as u64, "{fault:?} at {step}: each stored once");
            db.maintain(START + 3 * MINUTE_MS).unwrap();
            assert_eq!(all(&db), expected, "{fault:?} at {step}");
            assert_eq!(db.stats().blocks, 3);
            if !failed && !reached {
                assert!(step > 20, "maintenance takes more steps than {step}");
                break;
            }
        }
    }
}

#[test]
fn a_log_that_was_taken_away_does_not_hide_what_comes_after() {
    let disk = SimDisk::new(9);
    let (db, _) = open(&disk);
    fill(&db, START, 200);
    db.maintain(START + 2 * MINUTE_MS).unwrap();
    db.close().unwrap();
    disk.remove_dir_all(&Path::new(DIR).join("wal")).unwrap();
    let (db, _) = open(&disk);
    let kept = all(&db);
    // Late samples in the span of a block, in a log that has lost its numbers.
    let a = series(&db, 1, "__name__=late");
    for second in 0..10 {
        crate::append(&db, 1, START + 500 + second * 1000, &[(a, 1.0)]);
    }
    db.sync().unwrap();
    drop(db);
    assert_eq!(all(&open(&disk).0).len(), kept.len() + 10);
}

#[test]
fn a_log_of_before_that_was_put_back_is_read_on_a_full_disk_too() {
    let disk = SimDisk::new(9);
    let wal = Path::new(DIR).join("wal");
    let (db, _) = open(&disk);
    fill(&db, START, 100);
    db.sync().unwrap();
    let expected = all(&db);
    let log: Vec<_> = crate::files(&disk, &wal)
        .into_iter()
        .map(|at| (at.clone(), disk.read(&at).unwrap()))
        .collect();
    db.maintain(START + MINUTE_MS).unwrap();
    db.close().unwrap();
    disk.remove_dir_all(&wal).unwrap();
    for name in disk.list(Path::new(DIR)).unwrap() {
        if name.starts_with("checkpoint-") {
            disk.remove_dir_all(&Path::new(DIR).join(name)).unwrap();
        }
    }
    disk.create_dir_all(&wal).unwrap();
    for (path, bytes) in &log {
        disk.replace(path, bytes).unwrap();
    }
    for is_full in [false, true] {
        disk.set_capacity(is_full.then(|| disk.used_bytes()));
        let (db, _) = open(&disk);
        // The second minute is in the log only.
        assert_eq!(all(&db), expected, "full: {is_full}");
        drop(db);
        disk.set_capacity(None);
        if !is_full {
            for path in crate::files(&disk, &wal) {
                disk.remove_file(&path).unwrap();
            }
            for (path, bytes) in &log {
                disk.replace(path, bytes).unwrap();
            }
        }
    }
    assert_eq!(all(&open(&disk).0), expected, "nor is it gone after it");
}

#[test]
fn a_real_disk_does_as_the_simulated_one() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let disk = std::sync::Arc::new(stoa_wal::disk::RealDisk);
        let dir = dir.path().join("new/db");
        stoa_tsdb::Db::open(disk, &dir, crate::options(), START).unwrap()
    };
    let (db, _) = open();
    fill(&db, START, 200);
    let expected = all(&db);
    assert_eq!(db.maintain(START + 3 * MINUTE_MS).unwrap().blocks_written, 3);
    assert_eq!(all(&db), expected);
    db.close().unwrap();
    let (db, recovery) = open();
    assert_eq!((recovery.damaged, recovery.blocks, recovery.samples), (0, 3, 160));
    assert_eq!(all(&db), expected);
}

#[test]
fn reading_goes_on_while_samples_are_appended_and_moved() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    std::thread::scope(|scope| {
        // Closed when the appends are over, or have failed: then the reader ends.
        let (appending, is_over) = std::sync::mpsc::sync_channel::<()>(0);
        let db = &db;
        let reader = scope.spawn(move || {
            let mut seen = 0;
            loop {
                // Rows of four series are applied whole, and never go missing again.
                let count = all(db).len();
                assert!(count >= seen && count.is_multiple_of(4), "{count} after {seen}");
                seen = count;
                if is_over.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                    break;
                }
            }
        });
        for minute in 0..10 {
            fill(db, START + minute * MINUTE_MS, 60);
            db.maintain(START + minute * MINUTE_MS).unwrap();
        }
        drop(appending);
        reader.join().unwrap();
    });
    assert_eq!(all(&db).len(), 10 * 60 * 8);
}

#[test]
fn a_torn_tail_leaves_the_batches_before_it_and_their_marks() {
    let mut torn = 0;
    for seed in 0..80 {
        let disk = SimDisk::new(seed);
        let (db, _) = open(&disk);
        fill(&db, START, 3);
        db.sync().unwrap();
        fill(&db, START + 3000, 60);
        // The write happens, the power goes before it is durable.
        disk.fail_at(1, Fault::Halt);
        drop(db.sync());
        drop(db);
        disk.crash();
        let (db, recovery) = open(&disk);
        assert_eq!(recovery.damaged, 0, "seed {seed}: {:?}", recovery.damage);
        torn += recovery.torn;
        // All batches of the first group were appended before those of the second.
        let upto = |group: u8| {
            let mark = db.mark(&[b'g', group]).unwrap();
            (i64::from_le_bytes(mark.try_into().unwrap()) - START) / 1000
        };
        let (first, second) = (upto(0), upto(1));
        assert!((2..63).contains(&first) && (second == 2 || first == 62), "seed {seed}");
        let expected = 4 * (first + 1 + second + 1);
        assert_eq!(all(&db).len(), usize::try_from(expected).unwrap(), "seed {seed}");
    }
    assert!(torn > 40, "{torn}");
}

#[test]
fn what_was_written_again_after_a_full_disk_is_applied_once() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    let append = |second: i64| {
        let rows = vec![stoa_tsdb::Row { t_ms: START + second * 1000, samples: vec![(a, 1.0)] }];
        let marks = vec![Mark { key: b"m".to_vec(), value: vec![7; 4096] }];
        db.append(&Batch { group: GroupId(1), rows, marks })
    };
    // The log hands some of it to the disk by itself; the rest finds no room.
    for second in 0..100 {
        append(second).unwrap();
    }
    let written = disk.used_bytes();
    assert!(written > 100_000, "{written}");
    disk.set_capacity(Some(written));
    assert!(matches!(db.sync(), Err(DbError::DiskFull(_))));
    disk.set_capacity(None);
    append(100).unwrap();
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, recovery) = open(&disk);
    // A definition, 101 batches.
    assert_eq!((recovery.records, recovery.samples, recovery.damaged), (102, 101, 0));
    assert_eq!(all(&db).len(), 101);
}

/// Long blocks, and a checkpoint with each maintenance.
fn long_blocks() -> Options {
    Options { block_ms: 60 * MINUTE_MS, log_bytes_max: 0, ..crate::options() }
}

#[test]
fn sealed_chunks_wait_in_files_that_go_with_their_block() {
    let disk = SimDisk::new(1);
    let (db, _) = crate::open_with(&disk, long_blocks());
    let head_files = || disk.list(&Path::new(DIR).join("head")).unwrap().len();
    for part in 0..3 {
        fill(&db, START + part * 40_000, 40);
        assert!(db.maintain(START).unwrap().checkpointed);
    }
    let expected = all(&db);
    assert_eq!((head_files(), db.stats().head_file_failures), (3, 0));
    assert!(db.stats().head_file_bytes > 0);
    fill(&db, START + 120_000, 3);
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, recovery) = crate::open_with(&disk, long_blocks());
    assert_eq!(recovery.damaged, 0, "{:?}", recovery.damage);
    // Two groups: what is open and the places of what is sealed; of the log no more than its tail.
    assert!(recovery.records < 30, "{}", recovery.records);
    assert_eq!((all(&db).len(), head_files()), (expected.len() + 24, 3));
    assert_eq!(recovery.samples, 123 * 8);
    // Sent again: what is in a file is known.
    let a = series(&db, 0, "__name__=m0,g=0");
    let again = crate::append(&db, 0, START + 5000, &[(a, 7.0)]);
    let other = crate::append(&db, 0, START + 6000, &[(a, 8.0)]);
    assert_eq!((again.duplicate, other.conflicting), (1, 1));
    assert_eq!(db.maintain(START + 70 * MINUTE_MS).unwrap().blocks_written, 1);
    assert_eq!((all(&db).len(), head_files()), (expected.len() + 24, 0));
    assert_eq!(db.stats().head_file_bytes, 0);
}

#[test]
fn a_file_of_the_head_that_fails_is_left_and_loses_nothing() {
    for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
        let disk = SimDisk::new(1);
        let options = Options { log_bytes_max: 1 << 30, ..long_blocks() };
        let (db, _) = crate::open_with(&disk, options.clone());
        for step in 0..7 {
            fill(&db, START + step * 20_000, 20);
            let before = db.stats().head_file_failures;
            disk.fail_at(step.cast_unsigned(), fault);
            let failed = db.maintain(START).is_err();
            assert_eq!(failed, db.stats().head_file_failures > before, "{fault:?} at {step}");
            disk.clear_faults();
            let given = usize::try_from(step + 1).unwrap() * 160;
            assert_eq!(all(&db).len(), given, "{fault:?} at {step}");
        }
        assert!(db.stats().head_file_failures > 2, "{fault:?}");
        db.maintain(START).unwrap();
        db.sync().unwrap();
        let expected = all(&db);
        drop(db);
        disk.crash();
        let (db, recovery) = crate::open_with(&disk, options);
        assert_eq!((recovery.damaged, all(&db)), (0, expected), "{fault:?}");
    }
}

#[test]
fn appends_go_on_while_the_head_is_written_down() {
    const PARTS: i64 = 20;
    let disk = SimDisk::new(1);
    let (db, _) = crate::open_with(&disk, long_blocks());
    let checkpoints = std::thread::scope(|scope| {
        // Dropped when the appends are over, or have failed: then the other thread ends.
        let (due, dues) = std::sync::mpsc::sync_channel(1);
        let upkeep = scope.spawn(|| {
            dues.into_iter().filter(|()| db.maintain(START).unwrap().checkpointed).count()
        });
        for part in 0..PARTS {
            due.send(()).unwrap();
            fill(&db, START + part * 10_000, 10);
            db.sync().unwrap();
        }
        drop(due);
        upkeep.join().unwrap()
    });
    assert!(checkpoints >= 19, "{checkpoints}");
    let expected = all(&db);
    assert_eq!(expected.len() as i64, PARTS * 80);
    drop(db);
    disk.crash();
    let (db, recovery) = crate::open_with(&disk, long_blocks());
    let samples = PARTS.cast_unsigned() * 80;
    assert_eq!((recovery.damaged, recovery.samples, all(&db)), (0, samples, expected));
}

#[test]
fn a_checkpoint_that_fails_is_not_tried_again_at_once() {
    let disk = SimDisk::new(7);
    let image = {
        let (db, _) = open(&disk);
        fill(&db, START, 200);
        db.close().unwrap();
        disk.snapshot()
    };
    // At every step of maintenance: what fails after the log was cut costs one segment, not one each time.
    let mut failed_checkpoints = 0;
    for step in 0..80 {
        disk.restore(&image);
        let (db, _) = open(&disk);
        disk.fail_at(step, Fault::Eio);
        let now = START + 3 * MINUTE_MS;
        let failed = db.maintain(now);
        disk.clear_faults();
        let wal = || disk.list(&Path::new(DIR).join("wal")).unwrap();
        if !matches!(failed, Err(DbError::Checkpoint { .. })) {
            continue;
        }
        failed_checkpoints += 1;
        let before = wal();
        for later in 0..5000 / 1000 {
            let done = db.maintain(now + later * 1000).unwrap();
            assert_eq!((done.checkpointed, wal() == before), (false, true), "{step} {later}");
        }
        assert!(db.maintain(now + 5000).unwrap().checkpointed, "{step}");
        assert_eq!(all(&db).len(), 1600);
    }
    assert!(failed_checkpoints > 5, "{failed_checkpoints}");
}

#[test]
fn a_deletion_does_not_wait_for_a_checkpoint_that_failed() {
    let disk = SimDisk::new(7);
    let image = {
        let (db, _) = open(&disk);
        fill(&db, START, 200);
        db.close().unwrap();
        disk.snapshot()
    };
    let now = START + 3 * MINUTE_MS;
    let matchers = [stoa_model::Matcher::equal("__name__", "m1")];
    let mut failed_checkpoints = 0;
    for step in 0..80 {
        disk.restore(&image);
        let (db, _) = open(&disk);
        disk.fail_at(step, Fault::Eio);
        let failed = db.maintain(now);
        disk.clear_faults();
        if !matches!(failed, Err(DbError::Checkpoint { .. })) {
            continue;
        }
        failed_checkpoints += 1;
        assert!(!db.maintain(now).unwrap().checkpointed, "{step}: it waits");
        // At the same time: else what it deleted might come back with the log.
        assert!(db.delete_series(&matchers, START, now, now).unwrap().series > 0, "{step}");
        let names = disk.list(Path::new(DIR)).unwrap();
        let checkpoints = names.iter().filter(|name| name.starts_with("checkpoint-"));
        assert_eq!(checkpoints.filter(|name| !name.ends_with(".tmp")).count(), 1, "{step}");
        // It was written, so nothing is due and no failure is remembered.
        assert!(!db.maintain(now + 6000).unwrap().checkpointed, "{step}");
        let left = all(&db);
        drop(db);
        disk.crash();
        let (db, _) = open(&disk);
        assert!(left.len() < 1600 && all(&db) == left, "{step}: {}", left.len());
    }
    assert!(failed_checkpoints > 5, "{failed_checkpoints}");
}

#[test]
fn a_block_that_cannot_be_removed_counts_until_it_can() {
    let disk = SimDisk::new(9);
    let options = || Options { retention_ms: 5 * MINUTE_MS, ..crate::options() };
    let (db, _) = crate::open_with(&disk, Options { retention_ms: i64::MAX, ..options() });
    fill(&db, START, 600);
    let now = START + 10 * MINUTE_MS;
    db.maintain(now).unwrap();
    db.close().unwrap();
    let image = disk.snapshot();
    let mut failures = 0;
    for step in 0..40 {
        disk.restore(&image);
        let (db, _) = crate::open_with(&disk, options());
        disk.fail_at(step, Fault::Eio);
        let failed = db.maintain(now).is_err();
        disk.clear_faults();
        failures += u64::from(failed);
        // What counts is there, and what is there counts.
        let is_whole = |name: &String| !name.ends_with(".tmp");
        let names = disk.list(&Path::new(DIR).join("blocks")).unwrap();
        let there = names.iter().filter(|name| is_whole(name)).count() as u64;
        assert_eq!(db.stats().blocks, there, "{step}");
        db.maintain(now + MINUTE_MS).unwrap();
        assert_eq!(db.stats().blocks, 6, "{step}");
    }
    assert!(failures > 5, "{failures}");
}
