use std::collections::BTreeMap;

use proptest::prelude::*;
use stoa_model::Matcher;
use stoa_wal::disk::{Disk as _, SimDisk};

use super::*;
use crate::{Batch, Db, DbError, Options, Row};

const DIR: &str = "/db";
const NOW: TimestampMs = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn open(disk: &SimDisk) -> Db {
    let options = Options { retention_ms: 400 * DAY_MS, ..Options::default() };
    Db::open(Arc::new(disk.clone()), Path::new(DIR), options, NOW).unwrap().0
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "old")]).unwrap()
}

/// Everything there is, by metric name and instant.
fn all(db: &Db) -> BTreeMap<(String, TimestampMs), u64> {
    let matchers = [Matcher::equal("job", "old")];
    let found = db.select(&matchers, i64::MIN, i64::MAX, 1000, 10_000_000).unwrap();
    let mut samples = BTreeMap::new();
    for series in found {
        let name = series.labels.metric_name().unwrap().to_owned();
        for (t, v) in series.timestamps.iter().zip(&series.values) {
            assert!(samples.insert((name.clone(), *t), v.to_bits()).is_none());
        }
    }
    samples
}

/// Pushes samples, writes, and compares what the database then holds, before and after a restart.
fn check(samples: &[(usize, TimestampMs, f64)], limits: (usize, usize, u64)) -> BulkWritten {
    let disk = SimDisk::new(1);
    let db = open(&disk);
    let mut bulk = db.bulk(NOW, 0);
    (bulk.open_samples_max, bulk.held_bytes_max, bulk.block_bytes_max) = limits;
    let mut expected = BTreeMap::new();
    for (name, t, v) in samples {
        let name = format!("m{name}");
        let series = bulk.series(&labels(&name)).unwrap();
        bulk.push(series, *t, *v).unwrap();
        expected.entry((name, *t)).or_insert(v.to_bits());
    }
    let dir = bulk.dir.clone();
    let written = db.write_bulk(bulk, NOW, |_, _| {}).unwrap();
    assert_eq!(all(&db), expected);
    assert!(!disk.exists(&dir).unwrap(), "what was spilled is removed");
    drop(db);
    assert_eq!(all(&open(&disk)), expected);
    written
}

const LARGE: (usize, usize, u64) = (OPEN_SAMPLES_MAX, HELD_BYTES_MAX, BLOCK_BYTES_MAX);

#[test]
fn a_year_becomes_a_block_a_day() {
    let samples: Vec<_> = (0..365 * 4)
        .flat_map(|n: i64| (0..3).map(move |m| (m, NOW - n * DAY_MS / 4, n as f64)))
        .collect();
    let written = check(&samples, LARGE);
    assert_eq!(written.written, 3 * 4 * 365);
    assert!((365..=366).contains(&written.blocks), "{written:?}");
    // The same when hardly anything fits memory, and when a span is more than a block.
    assert_eq!(check(&samples, (10, 50, 4000)).written, written.written);
    assert!(check(&samples, (10, 50, 600)).blocks > written.blocks);
}

#[test]
fn timestamps_that_are_all_different_are_counted_as_they_are_decoded() {
    const LIMIT: u64 = 64 << 10;
    let disk = SimDisk::new(1);
    let db = open(&disk);
    let mut bulk = db.bulk(NOW, 0);
    bulk.block_bytes_max = LIMIT;
    for name in 0..100i64 {
        let series = bulk.series(&labels(&format!("m{name}"))).unwrap();
        for n in 0..600 {
            // Some milliseconds early or late, each series in its own way.
            let jitter = n * (name + 7) % 13;
            bulk.push(series, NOW - DAY_MS + n * 1000 + jitter, 1.0).unwrap();
        }
    }
    let (mut columns, mut groups) = (0, 0);
    for (start, _) in bulk.spans() {
        let take = |group: GroupSnapshot, compressed: u64| -> io::Result<()> {
            let sealed = group.members.iter().flat_map(|member| &member.sealed);
            let ticks: usize = sealed.map(|sealed| sealed.window.times().len()).sum();
            assert!(ticks as u64 * 8 <= LIMIT + 600 * 8, "{ticks}");
            assert!(compressed < LIMIT / 2, "{compressed}");
            columns += group.members.len();
            groups += 1;
            Ok(())
        };
        bulk.take_span(start, take).unwrap();
    }
    assert!(columns >= 100 && groups > 5, "{columns} {groups}");
}

#[test]
fn of_one_instant_the_first_sample_stays() {
    let written = check(&[(0, NOW, 1.0), (0, NOW, 2.0), (0, NOW - 1, 3.0)], LARGE);
    assert_eq!((written.counts.taken, written.written, written.duplicate), (3, 2, 1));
}

#[test]
fn what_is_out_of_range_is_refused_and_counted() {
    let db = open(&SimDisk::new(1));
    let mut bulk = db.bulk(NOW, 0);
    let series = bulk.series(&labels("m")).unwrap();
    let oldest = NOW - 400 * DAY_MS;
    for t in [i64::MIN, oldest - 1, oldest, NOW + 300_000, NOW + 300_001, i64::MAX] {
        bulk.push(series, t, 1.0).unwrap();
    }
    let counts = bulk.counts();
    assert_eq!((counts.taken, counts.too_old, counts.too_new), (2, 2, 2));
    assert_eq!((counts.first_t, counts.last_t), (oldest, NOW + 300_000));
}

#[test]
fn nothing_is_left_of_a_bulk_that_is_dropped() {
    let disk = SimDisk::new(1);
    let db = open(&disk);
    let mut bulk = db.bulk(NOW, 0);
    bulk.held_bytes_max = 1;
    let series = bulk.series(&labels("m")).unwrap();
    (0..3000).for_each(|n| bulk.push(series, NOW - n, 1.0).unwrap());
    let dir = bulk.dir.clone();
    assert!(disk.exists(&dir).unwrap());
    drop(bulk);
    assert!(!disk.exists(&dir).unwrap());
    assert!(all(&db).is_empty());
}

#[test]
fn what_the_log_has_survives_a_bulk_and_a_restart() {
    let disk = SimDisk::new(1);
    let db = open(&disk);
    let group = GroupId(1);
    let series = db.resolve(group, &labels("live")).unwrap();
    let rows = vec![Row { t_ms: NOW, samples: vec![(series, 1.0)] }];
    db.append(&Batch { group, rows, marks: vec![] }).unwrap();
    db.sync().unwrap();
    let mut bulk = db.bulk(NOW, 0);
    let old = bulk.series(&labels("old")).unwrap();
    bulk.push(old, NOW - 1, 2.0).unwrap();
    db.write_bulk(bulk, NOW, |_, _| {}).unwrap();
    assert_eq!(all(&db).len(), 2);
    drop(db);
    assert_eq!(all(&open(&disk)).len(), 2);
}

/// Five days of samples on a disk that has `room` bytes beside those it must keep free: what it says,
/// and how many samples are found afterwards.
fn with_room(room: u64) -> (Option<NoRoom>, usize) {
    const FLOOR: u64 = 1 << 20;
    let disk = SimDisk::new(1);
    let db = open(&disk);
    let used = disk.used_bytes();
    disk.set_capacity(Some(used + FLOOR + room));
    let mut bulk = db.bulk(NOW, FLOOR);
    bulk.held_bytes_max = 500;
    let wrote = pushed(&mut bulk).and_then(|()| match db.write_bulk(bulk, NOW, |_, _| {}) {
        Ok(_) => Ok(()),
        Err(DbError::NoRoom(full)) => Err(full),
        Err(other) => panic!("{other}"),
    });
    assert!(disk.used_bytes() <= used + room, "the floor was passed with {room}");
    if let Err(full) = wrote {
        assert_eq!(full.free_bytes_min, FLOOR);
        assert!(full.free_bytes >= FLOOR && full.free_bytes < FLOOR + full.bytes, "{full}");
    }
    (wrote.err(), all(&db).len())
}

const FIVE_DAYS: i64 = 2000;

/// Pushes samples that hardly compress.
fn pushed(bulk: &mut Bulk) -> Result<(), NoRoom> {
    let series = bulk.series(&labels("m")).unwrap();
    for n in 0..FIVE_DAYS {
        match bulk.push(series, NOW - n * 200_011, (n as f64).sin()) {
            Ok(()) => {}
            Err(BulkError::NoRoom(full)) => return Err(full),
            Err(other) => panic!("{other}"),
        }
    }
    Ok(())
}

#[test]
fn a_bulk_leaves_the_disk_the_room_it_must_keep() {
    let rooms = (0..60).map(|n| with_room(n * 1000));
    let (refused, found): (Vec<_>, Vec<_>) = rooms.unzip();
    assert_eq!((found[0], found[59]), (0, 2000));
    assert!(found.is_sorted(), "{found:?}");
    for (refused, found) in refused.iter().zip(&found) {
        assert_eq!(refused.is_none(), *found == 2000, "{refused:?}");
    }
    assert!(found.iter().any(|found| (1..2000).contains(found)), "some days at least: {found:?}");
}

#[test]
fn the_labels_of_a_bulk_are_bounded_by_their_bytes() {
    let db = open(&SimDisk::new(1));
    let mut bulk = db.bulk(NOW, 0);
    bulk.label_bytes_max = 100_000;
    let name = |n: usize| labels(&format!("m{n}{}", "x".repeat(9_000)));
    let named = (0..100).map_while(|n| bulk.series(&name(n)).ok()).count();
    assert_eq!(named, 10);
    let refused = bulk.series(&name(11)).unwrap_err();
    assert!(matches!(refused, BulkError::LabelBytes { series: 10, max: 100_000 }), "{refused}");
    assert!(bulk.series(&name(3)).is_ok(), "what is named already is known");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_samples_in_any_order_are_found(
        samples in proptest::collection::vec((0usize..4, 0i64..3 * DAY_MS, any::<f64>()), 1..300),
        open in 1usize..50, held in 1usize..300, block in 1u64..2000,
    ) {
        let samples: Vec<_> = samples.into_iter().map(|(m, t, v)| (m, NOW - t, v)).collect();
        check(&samples, (open, held, block));
    }
}
