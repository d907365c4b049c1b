//! What can be read at once: open windows, and sealed ones as long as they are in memory.

use std::slice::from_ref;

use stoa_model::Matcher;
use stoa_tsdb::{Db, SeriesData};
use stoa_wal::disk::SimDisk;

use crate::{START, append, fill, open, series};

/// What is had of one series up to a second, all of it or the newest.
fn at_once(db: &Db, second: i64, newest: bool) -> Option<Vec<SeriesData>> {
    let matchers = [Matcher::equal("__name__", "m1"), Matcher::equal("g", "0")];
    db.select_at_once(&matchers, START, START + second * 1000, 4, 1000, newest)
}

fn times(found: &[SeriesData]) -> Vec<i64> {
    found.iter().flat_map(|series| series.timestamps.iter().map(|t| (t - START) / 1000)).collect()
}

#[test]
fn what_is_on_disk_is_not_had_at_once() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    // Windows are sealed every 16 samples.
    fill(&db, START, 40);
    let all: Vec<i64> = (0..40).collect();
    assert_eq!(times(&at_once(&db, 100, false).unwrap()), all);
    // Of those before the open one nothing is read.
    assert_eq!(times(&at_once(&db, 100, true).unwrap()), (32..40).collect::<Vec<_>>());
    // Here only a sealed one has anything.
    assert_eq!(times(&at_once(&db, 20, true).unwrap()), (0..=20).collect::<Vec<_>>());
    // In a file of the head, and in memory no more.
    db.maintain(START + 41_000).unwrap();
    assert!(at_once(&db, 100, false).is_none());
    assert!(at_once(&db, 20, true).is_none());
    assert_eq!(times(&at_once(&db, 100, true).unwrap()), (32..40).collect::<Vec<_>>());
}

#[test]
fn what_may_be_much_is_not_had_at_once() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    fill(&db, START, 10);
    let ask = |matchers: &[Matcher], series_max, samples_max| {
        db.select_at_once(matchers, START, START + 9000, series_max, samples_max, false)
    };
    let name = Matcher::equal("__name__", "m1");
    assert_eq!(ask(from_ref(&name), 2, 20).map(|found| found.len()), Some(2));
    assert!(ask(from_ref(&name), 1, 20).is_none());
    assert!(ask(from_ref(&name), 2, 19).is_none());
    assert!(ask(&[name, Matcher::equal("g", "")], 2, 20).is_none());
    let pattern = Matcher::new("__name__", stoa_model::MatchOp::Regex, "m1".to_owned()).unwrap();
    assert!(ask(&[pattern], 2, 20).is_none());
    // Late samples are the newest where no others are.
    let late = series(&db, 5, "__name__=late");
    append(&db, 5, START + 8000, &[(series(&db, 5, "__name__=other"), 1.0)]);
    append(&db, 5, START + 3000, &[(late, 2.0)]);
    let named = [Matcher::equal("__name__", "late")];
    let found = db.select_at_once(&named, START, START + 9000, 1, 1, true).unwrap();
    assert_eq!((times(&found), found[0].values.clone()), (vec![3], vec![2.0]));
}

#[test]
fn what_is_looked_for_among_many_is_not_had_at_once() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let of = |name: &str, count: usize| -> Vec<_> {
        (0..count).map(|n| series(&db, 7, &format!("__name__={name},job=kube,n={n}"))).collect()
    };
    let (some, many) = (of("some", 257), of("many", 4000));
    let all: Vec<_> = some.iter().chain(&many).map(|series| (*series, 1.0)).collect();
    append(&db, 7, START, &all);
    append(&db, 7, START + 20_000, &[(some[3], 2.0)]);
    let ask = |matchers: &[(&str, &str)]| {
        let matchers: Vec<_> = matchers.iter().map(|(n, v)| Matcher::equal(*n, *v)).collect();
        let end = START + 30_000;
        let found = db.select_at_once(&matchers, START + 10_000, end, 4, 1000, false)?;
        Some(times(&found))
    };
    // One of them has samples; that takes a look at all.
    assert_eq!(ask(&[("__name__", "some")]), None);
    assert_eq!(ask(&[("__name__", "some"), ("job", "kube")]), None);
    assert_eq!(ask(&[("job", "kube")]), None);
    assert_eq!(ask(&[("n", "3"), ("job", "kube")]), Some(vec![20]));
    assert_eq!(ask(&[("__name__", "some"), ("n", "3"), ("job", "kube")]), Some(vec![20]));
    assert_eq!(ask(&[("__name__", "none"), ("job", "kube")]), Some(vec![]));
}
