use stoa_model::Labels;
use stoa_tsdb::{AppendError, Db, GroupId, Options, SERIES_LABEL_BYTES_MAX, SeriesRef};
use stoa_wal::disk::SimDisk;

use crate::{MINUTE_MS, START, append, open, open_with, options, series};

/// Labels of so many values of a kilobyte, each of its own.
fn long(number: usize, labels: usize) -> Labels {
    let value = |n: usize| format!("{number}/{n}/{}", "x".repeat(1000));
    let pairs = (0..labels).map(|n| (format!("label{n}"), value(n)));
    Labels::from_pairs(pairs.chain([("__name__".to_owned(), "long".to_owned())])).unwrap()
}

#[test]
fn a_group_whose_labels_are_longer_than_a_record_is_logged_and_written_down() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    // Over 18 MB, where the log takes 16 MiB at once.
    let resolve = |db: &Db| -> Vec<SeriesRef> {
        (0..300).map(|n| db.resolve(GroupId(1), &long(n, 62)).unwrap()).collect()
    };
    let samples = |refs: &[SeriesRef]| refs.iter().map(|r| (*r, 1.0)).collect::<Vec<_>>();
    let refs = resolve(&db);
    assert_eq!(append(&db, 1, START, &samples(&refs)).stored, 300);
    let other = series(&db, 2, "__name__=a");
    append(&db, 2, START + 2 * MINUTE_MS, &[(other, 1.0)]);
    // From the log, then from the checkpoint.
    db.close().unwrap();
    let (db, recovery) = open(&disk);
    assert_eq!((recovery.damaged, recovery.series, recovery.samples), (0, 301, 301));
    let refs = resolve(&db);
    append(&db, 1, START + 3 * MINUTE_MS, &samples(&refs));
    assert!(db.maintain(START + 2 * MINUTE_MS).unwrap().checkpointed);
    db.close().unwrap();
    let (db, recovery) = open(&disk);
    assert_eq!((recovery.damaged, recovery.series, recovery.samples), (0, 301, 301));
    let stats = db.stats();
    assert_eq!((stats.blocks, stats.block_samples), (1, 300));
}

#[test]
fn labels_are_bounded_by_series_and_over_all() {
    let (db, _) = open_with(&SimDisk::new(1), Options { label_bytes_max: 100_000, ..options() });
    let try_long = |number, labels| db.resolve(GroupId(1), &long(number, labels)).map(drop);
    let refused = try_long(0, 260);
    assert!(
        matches!(refused, Err(AppendError::LabelsTooLong { bytes, max })
            if bytes > SERIES_LABEL_BYTES_MAX && max == SERIES_LABEL_BYTES_MAX),
        "{refused:?}"
    );
    try_long(1, 60).unwrap();
    let refused = try_long(2, 60);
    assert!(matches!(refused, Err(AppendError::TooManyLabelBytes { max: 100_000 })), "{refused:?}");
    // Texts that are there already cost nothing, and those that are gone neither.
    try_long(1, 59).unwrap();
    let maintain = |minute| db.maintain(START + minute * MINUTE_MS).map(|_done| ()).unwrap();
    [0, 0].into_iter().for_each(maintain);
    let names = ["a", "b"].map(|name| series(&db, 3, &format!("__name__={name}")));
    append(&db, 3, START, &names.map(|name| (name, 1.0)));
    [2, 3].into_iter().for_each(maintain);
    append(&db, 3, START + 3 * MINUTE_MS, &[(series(&db, 3, "__name__=a"), 1.0)]);
    [4, 5].into_iter().for_each(maintain);
    try_long(2, 60).unwrap();
}
