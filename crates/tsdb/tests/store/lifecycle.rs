use stoa_model::Matcher;
use stoa_tsdb::{AppendError, Batch, GroupId, Mark, Near, Options, Row, SelectError, SeriesRef};
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

use crate::{DIR, MINUTE_MS, START, all, append, fill, labels, open, open_with, options, series};

#[test]
fn samples_are_counted_as_what_became_of_them() {
    let (db, _) = open(&SimDisk::new(1));
    let a = series(&db, 1, "__name__=a");
    let counts = |t, v| {
        let done = append(&db, 1, START + t, &[(a, v)]);
        (done.stored, done.duplicate, done.conflicting, done.too_old)
    };
    assert_eq!(counts(0, 1.0), (1, 0, 0, 0));
    assert_eq!(counts(0, 1.0), (0, 1, 0, 0));
    assert_eq!(counts(0, 2.0), (0, 0, 1, 0));
    assert_eq!(counts(0, -0.0), (0, 0, 1, 0));
    // Late, in the late window, again, and otherwise.
    assert_eq!(counts(-5000, 1.0), (1, 0, 0, 0));
    assert_eq!(counts(-5000, 1.0), (0, 1, 0, 0));
    assert_eq!(counts(-5000, 3.0), (0, 0, 1, 0));
    // After the windows are sealed (16 samples) the same.
    (1..40).for_each(|n| assert_eq!(counts(n * 1000, 5.0), (1, 0, 0, 0)));
    (6..40).for_each(|n| assert_eq!(counts(-n * 1000, 5.0), (1, 0, 0, 0)));
    assert_eq!(counts(0, 1.0), (0, 1, 0, 0));
    assert_eq!(counts(1000, 6.0), (0, 0, 1, 0));
    assert_eq!(counts(-7000, 5.0), (0, 1, 0, 0));
    assert_eq!(counts(-5000, 3.0), (0, 0, 1, 0));
    let oldest = START + 39_000 - options().out_of_order_ms;
    assert_eq!(append(&db, 1, oldest, &[(a, 1.0)]).stored, 1);
    assert_eq!(append(&db, 1, oldest - 1, &[(a, 1.0)]).too_old, 1);
    let found = all(&db);
    assert_eq!(found.len(), 1 + 1 + 39 + 34 + 1);
    assert_eq!(found[&("a".to_owned(), START)], 1.0f64.to_bits());
    let stats = db.stats();
    assert_eq!((stats.samples_appended, stats.samples_too_old), (found.len() as u64, 1));
    assert_eq!((stats.samples_duplicate, stats.samples_conflicting), (4, 5));
}

#[test]
fn what_is_refused_is_refused_whole() {
    let (db, _) = open_with(&SimDisk::new(1), Options { series_max: 2, ..options() });
    let a = series(&db, 1, "__name__=a");
    let b = series(&db, 2, "__name__=a");
    assert_ne!(a, b, "one label set in two groups is two series");
    assert_eq!(series(&db, 1, "__name__=a"), a);
    let refused = db.resolve(GroupId(1), &labels("__name__=c"));
    assert!(matches!(refused, Err(AppendError::TooManySeries { max: 2 })));
    let check = |samples: &[SeriesRef], key_bytes: usize| {
        let samples = samples.iter().map(|series| (*series, 1.0)).collect();
        let rows = vec![Row { t_ms: START, samples }];
        let marks = vec![Mark { key: vec![0; key_bytes], value: vec![] }];
        db.append(&Batch { group: GroupId(1), rows, marks }).unwrap_err()
    };
    assert!(matches!(check(&[a, b], 1), AppendError::OtherGroup { series, .. } if series == b));
    let unknown = SeriesRef(99);
    assert!(
        matches!(check(&[a, unknown], 1), AppendError::UnknownSeries { series } if series == unknown)
    );
    assert!(matches!(check(&[a], 1025), AppendError::MarkTooLong { key_bytes: 1025, .. }));
    assert!(matches!(check(&vec![a; 600_000], 1), AppendError::TooManySamples { .. }));
    assert!(all(&db).is_empty() && db.marks_with_prefix(b"").is_empty());
}

#[test]
fn queries_refuse_more_than_was_asked_for() {
    let (db, _) = open(&SimDisk::new(1));
    fill(&db, START, 90);
    db.maintain(START + MINUTE_MS).unwrap();
    let select = |series_max, samples_max| {
        db.select(&[], i64::MIN, i64::MAX, series_max, samples_max).map(|found| found.len())
    };
    assert_eq!(select(8, 720), Ok(8));
    assert_eq!(select(usize::MAX, usize::MAX), Ok(8));
    assert_eq!(select(7, 720), Err(SelectError::TooManySeries { max: 7 }));
    assert_eq!(select(8, 719), Err(SelectError::TooManySamples { max: 719 }));
    // Each series is a chance to stop, of blocks as of the head.
    for stop_at in 0..8 {
        let asked = std::cell::Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= stop_at;
        let found = db.select_until(&[], i64::MIN, i64::MAX, 8, 720, &stop);
        assert_eq!(found.unwrap_err(), SelectError::Stopped);
        assert_eq!(asked.get(), stop_at + 1);
    }
}

#[test]
fn names_and_lists_are_given_up_in_the_middle() {
    let (db, _) = open(&SimDisk::new(1));
    fill(&db, START, 90);
    db.maintain(START + MINUTE_MS).unwrap();
    let all = [Matcher::new("__name__", stoa_model::MatchOp::Regex, ".+").unwrap()];
    fn near(bytes_max: usize, stop: &dyn Fn() -> bool) -> Near<'_> {
        Near { start_ms: i64::MIN, end_ms: i64::MAX, limit: 100, bytes_max, stop }
    }
    let asked = std::cell::Cell::new(0);
    type Ask<'a> = &'a dyn Fn(&Near<'_>) -> Result<usize, SelectError>;
    let asks: [Ask<'_>; 4] = [
        &|near| db.series_until(&[&all], near).map(|found| found.len()),
        &|near| db.label_names_until(&all, near).map(|found| found.len()),
        &|near| db.label_values_until("__name__", &all, near).map(|found| found.len()),
        &|near| {
            let Near { start_ms, end_ms, bytes_max, stop, .. } = *near;
            let found = db.list_until(&all, start_ms, end_ms, 100, bytes_max, stop);
            found.map(|listing| listing.labels().len())
        },
    ];
    for (number, ask) in asks.iter().enumerate() {
        let whole = ask(&near(usize::MAX, &|| false)).unwrap();
        assert!(whole > 0);
        // Each series is a chance to stop, of blocks as of the head.
        for stop_at in 0..8 {
            asked.set(0);
            let stop = || asked.replace(asked.get() + 1) >= stop_at;
            assert_eq!(ask(&near(usize::MAX, &stop)), Err(SelectError::Stopped), "{number}");
            assert_eq!(asked.get(), stop_at + 1);
        }
        let refused = ask(&near(60, &|| false));
        assert_eq!(refused, Err(SelectError::TooManyBytes { max: 60 }), "{number}");
    }
    let list = db.list_until(&all, i64::MIN, i64::MAX, 7, usize::MAX, &|| false);
    assert_eq!(list.unwrap_err(), SelectError::TooManySeries { max: 7 });
    let list = db.list_until(&all, i64::MIN, i64::MAX, 8, usize::MAX, &|| false).unwrap();
    assert_eq!((list.labels().len(), list.samples_min()), (8, 720));
}

/// What was listed is read as it was then, whatever becomes of where it was.
#[test]
fn a_list_outlives_what_it_lists() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    fill(&db, START, 150);
    db.maintain(START + MINUTE_MS).unwrap();
    let before = all(&db);
    let list = db.list_until(&[], i64::MIN, i64::MAX, 100, usize::MAX, &|| false).unwrap();
    fill(&db, START + 150_000, 120);
    db.maintain(START + 4 * MINUTE_MS).unwrap();
    let far = START + Options::default().retention_ms * 2;
    append(&db, 9, far, &[(series(&db, 9, "__name__=far"), 1.0)]);
    db.maintain(far).unwrap();
    db.maintain(far + MINUTE_MS).unwrap();
    let gone = all(&db);
    assert!(
        gone.len() < before.len(),
        "what was listed is gone: {} of {}",
        gone.len(),
        before.len()
    );
    let mut reader = db.reader(&list);
    let labels = list.labels().enumerate();
    let read = labels.flat_map(|(at, labels)| {
        let whole = reader.read(at, usize::MAX).unwrap();
        whole.floats.into_iter().map(move |(t, v)| (labels.to_string(), t, v))
    });
    assert_eq!(read.count(), before.len());
}

#[test]
fn samples_move_to_blocks_and_series_go_with_them() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let gone = series(&db, 0, "__name__=gone,g=0");
    append(&db, 0, START - 1000, &[(gone, 1.0)]);
    fill(&db, START, 150);
    let before = all(&db);
    assert_eq!(db.maintain(START).unwrap().blocks_written, 1, "the minute before is over");
    assert_eq!(db.maintain(START + 59_999).unwrap().blocks_written, 0, "this one is not");
    let done = db.maintain(START + 2 * MINUTE_MS).unwrap();
    // A series without samples in the head is known until the second collection.
    assert_eq!((done.blocks_written, done.checkpointed, done.series_removed), (2, true, 1));
    assert_eq!(db.maintain(START + 2 * MINUTE_MS).unwrap(), Default::default());
    let stats = db.stats();
    assert_eq!((stats.blocks, stats.block_samples, stats.head_samples), (3, 961, 240));
    assert_eq!((stats.min_t, stats.max_t), (Some(START - 1000), Some(START + 149_000)));
    assert_eq!(all(&db), before);
    fill(&db, START + 150_000, 120);
    assert_eq!(db.maintain(START + 4 * MINUTE_MS).unwrap().series_removed, 0);
    let row = Row { t_ms: START + 300_000, samples: vec![(gone, 2.0)] };
    let batch = Batch { group: GroupId(0), rows: vec![row], marks: vec![] };
    let refused = db.append(&batch).unwrap_err();
    assert!(matches!(refused, AppendError::UnknownSeries { series } if series == gone));
    let again = series(&db, 0, "__name__=gone,g=0");
    assert_ne!(again, gone, "a reference never comes back");
    append(&db, 0, START + 300_000, &[(again, 2.0)]);
    let matcher = [Matcher::equal("__name__", "gone")];
    let found = db.select(&matcher, i64::MIN, i64::MAX, 9, 9).unwrap();
    assert_eq!(*found[0].timestamps, [START - 1000, START + 300_000]);
    let before = all(&db);
    db.close().unwrap();
    let (db, recovery) = open(&disk);
    assert_eq!((recovery.damaged, recovery.samples_orphaned), (0, 0));
    assert_eq!(all(&db), before);
}

#[test]
fn late_samples_after_their_block_was_cut_make_another() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    append(&db, 1, START, &[(a, 1.0)]);
    append(&db, 1, START + 60_000, &[(a, 3.0)]);
    db.maintain(START + MINUTE_MS).unwrap();
    assert_eq!(append(&db, 1, START + 1000, &[(a, 2.0)]).stored, 1);
    // What a block holds is not looked up; the first value wins where both are read.
    assert_eq!(append(&db, 1, START, &[(a, 9.0)]).stored, 1);
    let expected = [1.0, 2.0, 3.0];
    let values =
        |db: &stoa_tsdb::Db| db.select(&[], i64::MIN, i64::MAX, 9, 9).unwrap()[0].values.clone();
    assert_eq!(values(&db), expected);
    assert_eq!(db.maintain(START + 2 * MINUTE_MS).unwrap().blocks_written, 2);
    assert_eq!(values(&db), expected);
    drop(db);
    assert_eq!(values(&open(&disk).0), expected);
}

#[test]
fn blocks_are_deleted_by_age_and_by_size() {
    let disk = SimDisk::new(1);
    let retention_ms = 5 * MINUTE_MS;
    let (db, _) = open_with(&disk, Options { retention_ms, ..options() });
    fill(&db, START, 600);
    let done = db.maintain(START + 10 * MINUTE_MS).unwrap();
    assert_eq!((done.blocks_written, done.blocks_deleted), (10, 0));
    // A clock that is far ahead ages nothing.
    let done = db.maintain(START + 1_000_000 * MINUTE_MS).unwrap();
    assert_eq!(done.blocks_deleted, 4);
    let first = done.deleted[0];
    assert_eq!((first.tier, first.first_t, first.last_t), (None, START, START + 59_000));
    assert!(first.samples == 480 && first.bytes > 0, "{first:?}");
    let oldest = all(&db).keys().map(|(_, t)| *t).min();
    assert_eq!(oldest, Some(START + 4 * MINUTE_MS));
    let stats = db.stats();
    assert_eq!(stats.blocks, 6);
    let third = stats.block_bytes / 3;
    drop(db);
    let retention_bytes = Some(third + stats.log_bytes + stats.head_file_bytes);
    let (db, recovery) = open_with(&disk, Options { retention_bytes, ..options() });
    assert_eq!(recovery.blocks, 6);
    let done = db.maintain(START + 10 * MINUTE_MS).unwrap();
    assert!((4..6).contains(&done.blocks_deleted), "{done:?}");
    assert_eq!(disk.list(&std::path::Path::new(DIR).join("blocks")).unwrap().len() as u64, {
        db.stats().blocks
    });
    let newest = all(&db).keys().map(|(_, t)| *t).max();
    assert_eq!(newest, Some(START + 599_000));
}

#[test]
fn marks_come_and_go_with_their_batches() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    fill(&db, START, 70);
    db.maintain(START + MINUTE_MS).unwrap();
    let mark = |key: &[u8], value: &[u8]| Mark { key: key.to_vec(), value: value.to_vec() };
    let marks = vec![mark(b"a/1", b"x"), mark(b"a/2", b"y"), mark(b"b/1", b"z")];
    db.append(&Batch { group: GroupId(7), rows: vec![], marks: marks.clone() }).unwrap();
    assert_eq!(db.marks_with_prefix(b"a/"), marks[..2]);
    assert!(db.remove_mark(b"a/1").unwrap() && !db.remove_mark(b"a/1").unwrap());
    db.sync().unwrap();
    drop(db);
    disk.crash();
    let (db, recovery) = open(&disk);
    assert_eq!(recovery.marks, 4);
    assert_eq!(db.marks_with_prefix(b"a/"), marks[1..2]);
    assert_eq!(db.mark(b"g\0"), Some((START + 69_000).to_le_bytes().to_vec()));
    assert_eq!(db.mark(b"a/1"), None);
}

#[test]
fn samples_of_a_tick_come_in_any_order_of_series() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let count = 2000u32;
    let refs: Vec<SeriesRef> =
        (0..count).map(|n| series(&db, 1, &format!("__name__=a,n={n}"))).collect();
    let samples = |from: usize, step: usize, plus: f64| {
        let numbered = refs.iter().zip(0u32..).map(|(r, n)| (*r, f64::from(n) + plus));
        numbered.skip(from).step_by(step).collect::<Vec<_>>()
    };
    let backwards = |mut samples: Vec<(SeriesRef, f64)>| {
        samples.reverse();
        samples
    };
    let counts = |samples: &[(SeriesRef, f64)]| {
        let done = append(&db, 1, START, samples);
        (done.stored, done.duplicate, done.conflicting)
    };
    assert_eq!(counts(&backwards(samples(1, 2, 0.0))), (1000, 0, 0));
    assert_eq!(counts(&backwards(samples(0, 1, 0.0))), (1000, 1000, 0));
    assert_eq!(counts(&samples(0, 1, 1.0)), (0, 0, 2000));
    // Within one batch the first value of a series counts.
    let twice = |v| samples(0, 500, v).into_iter().chain(backwards(samples(0, 500, v + 1.0)));
    let done = append(&db, 1, START + 1000, &twice(0.0).chain(twice(0.0)).collect::<Vec<_>>());
    assert_eq!((done.stored, done.duplicate, done.conflicting), (4, 4, 8));
    for found in db.select(&[], i64::MIN, i64::MAX, 5000, 5000).unwrap() {
        let n: f64 = found.labels.get("n").unwrap().parse().unwrap();
        assert!(found.values.iter().all(|v| v.to_bits() == n.to_bits()), "{:?}", found.labels);
    }
}
