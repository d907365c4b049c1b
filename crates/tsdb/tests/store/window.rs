use stoa_tsdb::{Db, Options};
use stoa_wal::disk::SimDisk;

use crate::{MINUTE_MS, START, all, append, open, open_with, options, series};

const YEAR_MS: i64 = 365 * 24 * 60 * MINUTE_MS;

fn is_there(db: &Db, t: i64) -> bool {
    all(db).contains_key(&("a".to_owned(), t))
}

#[test]
fn samples_of_a_clock_that_was_ahead_bar_none_once_it_is_right() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let ahead = START + 5 * YEAR_MS;
    append(&db, 1, START, &[(series(&db, 1, "__name__=a"), 1.0)]);
    db.maintain(ahead).unwrap();
    append(&db, 1, ahead, &[(series(&db, 1, "__name__=a"), 2.0)]);
    let taken = |db: &Db, t| append(db, 1, t, &[(series(db, 1, "__name__=a"), 3.0)]).stored;
    assert_eq!(taken(&db, START + 1000), 0, "too old by that clock");
    // Set right while it runs.
    db.maintain(START + MINUTE_MS).unwrap();
    assert_eq!(taken(&db, START + 2000), 1);
    assert_eq!(taken(&db, START + MINUTE_MS - 55 * MINUTE_MS), 1);
    assert_eq!(taken(&db, START + MINUTE_MS - 56 * MINUTE_MS), 0, "too old still is");
    db.close().unwrap();
    // And by a start, from the log; then from a checkpoint.
    for n in 0..2 {
        let (db, _) = open(&disk);
        assert_eq!(taken(&db, START + 3000 + n), 1);
        db.maintain(START + (2 + n) * MINUTE_MS).unwrap();
        assert!(db.stats().max_t == Some(ahead) && is_there(&db, START + 3000 + n));
        db.close().unwrap();
    }
    let (db, _) = open(&disk);
    assert!([START, START + 2000, ahead].iter().all(|t| is_there(&db, *t)));
    assert!(!is_there(&db, START + 1000));
}

#[test]
fn what_was_taken_stays_when_less_may_come_late_and_what_was_not_does_not_come() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    append(&db, 1, START, &[(a, 1.0)]);
    assert_eq!(append(&db, 1, START - 50 * MINUTE_MS, &[(a, 2.0)]).stored, 1);
    let refused = append(&db, 1, START - 61 * MINUTE_MS, &[(a, 3.0)]);
    assert_eq!((refused.stored, refused.too_old), (0, 1));
    db.close().unwrap();
    for out_of_order_ms in [MINUTE_MS, i64::MAX] {
        let (db, recovery) = open_with(&disk, Options { out_of_order_ms, ..options() });
        assert_eq!((recovery.damaged, recovery.samples), (0, 2));
        assert!(is_there(&db, START) && is_there(&db, START - 50 * MINUTE_MS));
    }
}
