//! Native histograms beside floats: what is taken, what is refused, where they are found.

use std::path::Path;
use std::sync::Arc;

use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};
use stoa_model::{Matcher, stale_nan};
use stoa_tsdb::{
    AppendError, Appended, BATCH_HISTOGRAM_BYTES_MAX, Batch, Db, GroupId, HISTOGRAM_NUMBERS_MAX,
    HistogramData, HistogramSample, Options, Row, SelectError, SeriesRef,
};
use stoa_wal::Disk as _;
use stoa_wal::disk::SimDisk;

use crate::{DIR, MINUTE_MS, START, all, append, files, labels, open, open_with, options, series};

/// A counter of `n` observations in as many buckets as given.
pub(crate) fn histogram(n: i64, buckets: i64) -> Histogram {
    let positive: Vec<u64> = (n..n + buckets).map(i64::cast_unsigned).collect();
    Histogram {
        schema: 2,
        zero_threshold: 1e-128,
        sum: n as f64 / 4.0,
        positive_spans: vec![Span { offset: -1, length: u32::try_from(buckets).unwrap() }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        counts: Counts::Integer(BucketCounts {
            count: positive.iter().sum(),
            positive,
            ..BucketCounts::default()
        }),
        reset: ResetHint::Unknown,
    }
}

pub(crate) fn put(
    db: &Db,
    t_ms: i64,
    floats: &[(SeriesRef, f64)],
    histograms: &[(SeriesRef, Histogram)],
) -> Result<Appended, AppendError> {
    let rows = vec![Row { t_ms, samples: floats.to_vec() }];
    let sample = |(series, histogram): &(SeriesRef, Histogram)| HistogramSample {
        t_ms,
        series: *series,
        histogram: Arc::new(histogram.clone()),
    };
    let histograms: Vec<_> = histograms.iter().map(sample).collect();
    db.append_with(&Batch { group: GroupId(1), rows, marks: vec![] }, &histograms)
}

pub(crate) fn all_histograms(db: &Db) -> Vec<(String, i64, Histogram)> {
    let found = db.select_histograms(&[], i64::MIN, i64::MAX, 1000, 100_000_000).unwrap();
    let flat = |HistogramData { labels, samples }: HistogramData| {
        samples.into_iter().map(move |(t, histogram)| (labels.to_string(), t, histogram))
    };
    found.into_iter().flat_map(flat).collect()
}

/// What became of a sample, as a letter.
fn outcome(appended: Appended) -> char {
    match appended {
        Appended { stored: 1, duplicate: 0, conflicting: 0, too_old: 0 } => 's',
        Appended { stored: 0, duplicate: 1, conflicting: 0, too_old: 0 } => 'd',
        Appended { stored: 0, duplicate: 0, conflicting: 1, too_old: 0 } => 'c',
        Appended { stored: 0, duplicate: 0, conflicting: 0, too_old: 1 } => 'o',
        _ => '?',
    }
}

#[test]
fn an_instant_is_a_float_or_a_histogram_and_the_first_stays() {
    // Where what came first is when the second comes.
    for place in ["open", "sealed", "file", "restarted"] {
        let disk = SimDisk::new(1);
        let options = Options { block_ms: 60 * MINUTE_MS, log_bytes_max: 0, ..options() };
        let (mut db, _) = open_with(&disk, options.clone());
        let (mut a, mut b) = (series(&db, 1, "__name__=a"), series(&db, 1, "__name__=b"));
        put(&db, START, &[(a, 1.0)], &[(b, histogram(1, 3))]).unwrap();
        if place != "open" {
            for second in 1..40 {
                put(&db, START + second * 1000, &[(a, 1.0)], &[(b, histogram(9, 3))]).unwrap();
            }
        }
        if place == "file" || place == "restarted" {
            assert!(db.maintain(START).unwrap().checkpointed);
        }
        if place == "restarted" {
            drop(db);
            db = open_with(&disk, options).0;
            (a, b) = (series(&db, 1, "__name__=a"), series(&db, 1, "__name__=b"));
        }
        let before = (all(&db), all_histograms(&db));
        let float = |series, v| outcome(put(&db, START, &[(series, v)], &[]).unwrap());
        let of_histogram = |series, h| outcome(put(&db, START, &[], &[(series, h)]).unwrap());
        let outcomes: String = [
            float(a, 1.0),
            float(a, 2.0),
            float(b, 1.0),
            of_histogram(b, histogram(1, 3)),
            of_histogram(b, histogram(2, 3)),
            of_histogram(b, histogram(1, 4)),
            of_histogram(a, histogram(1, 3)),
        ]
        .into_iter()
        .collect();
        assert_eq!(outcomes, "dccdccc", "{place}");
        assert_eq!((all(&db), all_histograms(&db)), before, "{place}");
    }
}

#[test]
fn a_series_changes_between_floats_and_histograms_and_each_is_found() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    let mut expected = Vec::new();
    for second in 0..120i64 {
        let t = START + second * 1000;
        if second / 10 % 2 == 0 {
            put(&db, t, &[(a, 1.0)], &[]).unwrap();
        } else {
            // Layouts come and go, and the series ends now and then.
            let given = match second % 10 {
                9 => Histogram::stale(),
                n => histogram(second, 1 + n / 3),
            };
            put(&db, t, &[], &[(a, given.clone())]).unwrap();
            expected.push(("{__name__=\"a\"}".to_owned(), t, given));
        }
    }
    let check = |db: &Db| {
        let found: Vec<_> = all_histograms(db);
        assert_eq!(found.len(), expected.len());
        for ((_, t, found), (_, at, expected)) in found.iter().zip(&expected) {
            assert_eq!((t, found), (at, expected));
        }
        assert_eq!(all(db).len(), 60);
    };
    check(&db);
    db.maintain(START + MINUTE_MS).unwrap();
    check(&db);
    db.maintain(START + 4 * MINUTE_MS).unwrap();
    assert!(db.stats().blocks >= 2);
    check(&db);
    db.close().unwrap();
    let compaction_ms = vec![4 * MINUTE_MS];
    let (db, recovery) = open_with(&disk, Options { compaction_ms, ..options() });
    assert_eq!(recovery.damaged, 0);
    assert!(db.compact(START + 60 * MINUTE_MS).unwrap().merges > 0);
    check(&db);
    assert_eq!(db.series(&[&[]], i64::MIN, i64::MAX, 10), [labels("__name__=a")]);
    let gone = db.delete_series(&[Matcher::equal("__name__", "a")], START, START + 15_000, START);
    assert_eq!(gone.unwrap().series, 2, "floats and histograms");
    assert_eq!((all(&db).len(), all_histograms(&db).len()), (50, expected.len() - 6));
    db.clean_tombstones(START).unwrap();
    assert_eq!((all(&db).len(), all_histograms(&db).len()), (50, expected.len() - 6));
}

#[test]
fn places_that_disagree_give_what_was_stored_first_before_and_after_a_merge() {
    let disk = SimDisk::new(1);
    let compaction_ms = vec![4 * MINUTE_MS];
    let (db, _) = open_with(&disk, Options { compaction_ms, ..options() });
    let (a, b) = (series(&db, 1, "__name__=a"), series(&db, 1, "__name__=b"));
    put(&db, START, &[(a, 1.0)], &[(b, histogram(1, 3))]).unwrap();
    db.maintain(START + MINUTE_MS).unwrap();
    // The block is not compared with: it is the head's again.
    let (a, b) = (series(&db, 1, "__name__=a"), series(&db, 1, "__name__=b"));
    put(&db, START, &[(b, 2.0)], &[(a, histogram(2, 3))]).unwrap();
    put(&db, START + 1, &[(b, 2.0)], &[(a, histogram(2, 3))]).unwrap();
    let check = |db: &Db| {
        let floats: Vec<_> = all(db).into_keys().map(|(_, t)| t - START).collect();
        let histograms: Vec<_> =
            all_histograms(db).into_iter().map(|(_, t, _)| t - START).collect();
        assert_eq!((floats, histograms), (vec![0, 1], vec![1, 0]));
    };
    check(&db);
    db.maintain(START + 2 * MINUTE_MS).unwrap();
    assert_eq!(db.stats().blocks, 2);
    check(&db);
    assert_eq!(db.compact(START + 60 * MINUTE_MS).unwrap().merges, 1);
    check(&db);
}

#[test]
fn what_is_no_histogram_or_too_large_is_refused_whole() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    let mut wrong = histogram(1, 3);
    wrong.positive_spans[0].length = 4;
    let most = i64::try_from(HISTOGRAM_NUMBERS_MAX).unwrap();
    for refused in [wrong, histogram(1, most)] {
        let error = put(&db, START, &[(a, 1.0)], &[(a, refused)]).unwrap_err();
        assert!(matches!(error, AppendError::Histogram { .. }), "{error}");
    }
    assert_eq!(db.stats().head_samples, 0);
    // The largest there may be, of numbers that do not compress, one after the other.
    let mut large = histogram(1, most - 1);
    for second in 0..20i64 {
        let Counts::Integer(counts) = &mut large.counts else { unreachable!() };
        for (at, count) in (0u64..).zip(&mut counts.positive) {
            *count = (at + 1)
                .wrapping_mul(second.cast_unsigned() + 7)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                >> 13;
        }
        counts.count = counts.positive.iter().sum();
        put(&db, START + second * 1000, &[], &[(a, large.clone())]).unwrap();
    }
    db.maintain(START + MINUTE_MS).unwrap();
    let found = all_histograms(&db);
    assert_eq!(found.len(), 20);
    assert_eq!(found[19].2, large);
}

#[test]
fn a_stale_marker_is_nothing_but_that() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    let marker = Histogram { sum: stale_nan(), ..histogram(5, 2) };
    assert_eq!(outcome(put(&db, START, &[], &[(a, marker)]).unwrap()), 's');
    assert_eq!(outcome(put(&db, START, &[], &[(a, Histogram::stale())]).unwrap()), 'd');
    assert_eq!(all_histograms(&db)[0].2, Histogram::stale());
}

#[test]
fn history_comes_in_bulk_as_histograms_too() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let mut bulk = db.bulk(START, 0);
    let a = bulk.series(&labels("__name__=a")).unwrap();
    for second in 0..1000i64 {
        let given = histogram(second, 20);
        assert!(bulk.push_histogram(a, START - second * 1000, given).unwrap());
    }
    bulk.push(a, START - 500, 1.0).unwrap();
    assert!(!bulk.push_histogram(a, START, histogram(1, 5000)).unwrap());
    let written = db.write_bulk(bulk, START, |_, _| ()).unwrap();
    assert_eq!((written.written, written.duplicate), (1001, 0));
    let found = all_histograms(&db);
    assert_eq!(found.len(), 1000);
    assert!(found.iter().all(|(_, t, h)| *h == histogram((START - t) / 1000, 20)));
}

/// `n` groups' worth of histograms at so many instants, each of so many buckets; all must come back, and
/// until they do take no more than so many bytes.
fn check_held(groups: u64, series_each: u64, instants: i64, buckets: i64, bytes_max: u64) {
    let disk = SimDisk::new(1);
    let (db, _) = open_with(&disk, Options { block_ms: 60 * MINUTE_MS, ..options() });
    let (mut given, mut most) = (0, 0);
    for t in (0..instants).map(|second| START + second * 1000) {
        for group in 0..groups {
            let sample = |number: u64| HistogramSample {
                t_ms: t,
                series: series(&db, group, &format!("__name__=a,group={group},n={number}")),
                histogram: Arc::new(histogram(t - START, buckets)),
            };
            let histograms: Vec<_> = (0..series_each).map(sample).collect();
            let batch = Batch { group: GroupId(group), rows: vec![], marks: vec![] };
            given += db.append_with(&batch, &histograms).unwrap().stored;
        }
        most = most.max(db.stats().head_bytes);
    }
    assert_eq!(given, groups * series_each * instants.cast_unsigned());
    assert!(most <= bytes_max, "{} MiB", most >> 20);
    let found = db.select_histograms(&[], i64::MIN, i64::MAX, 100_000, usize::MAX).unwrap();
    let found = found.iter().flat_map(|series| &series.samples);
    assert_eq!(found.clone().count() as u64, given);
    for (t, found) in found {
        assert_eq!(*found, histogram(t - START, buckets));
    }
}

#[test]
fn open_histograms_are_bounded_by_what_they_take_not_by_their_buckets() {
    // Of no buckets at all, as a histogram nobody has observed anything in has none.
    check_held(1, 5000, 15, 0, 8 << 20);
}

#[test]
fn many_groups_share_one_bound_for_open_histograms() {
    check_held(60, 1, 30, 4000, 40 << 20);
}

#[test]
fn a_merge_leaves_out_the_histograms_it_cannot_read_and_no_others() {
    const COUNT: i64 = 700;
    // So large that some 128 make a chunk.
    let buckets = |second: i64| 2000 - second % 2;
    let disk = SimDisk::new(1);
    let compaction_ms = vec![60 * MINUTE_MS];
    let options = Options { block_ms: 5 * MINUTE_MS, compaction_ms, ..options() };
    let start = START - START.rem_euclid(60 * MINUTE_MS);
    let (db, _) = open_with(&disk, options.clone());
    for half in 0..2 {
        let mut bulk = db.bulk(start + 60 * MINUTE_MS, 0);
        let a = bulk.series(&labels("__name__=a")).unwrap();
        for second in (0..COUNT).filter(|second| second % 2 == half) {
            let given = histogram(second, buckets(second));
            assert!(bulk.push_histogram(a, start + second * 1000, given).unwrap());
        }
        db.write_bulk(bulk, start + 60 * MINUTE_MS, |_, _| ()).unwrap();
    }
    db.close().unwrap();
    let chunks = files(&disk, Path::new(DIR)).into_iter().filter(|path| path.ends_with("chunks"));
    let chunks: Vec<_> = chunks.collect();
    assert_eq!(chunks.len(), 2);
    disk.corrupt(&chunks[0], |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })
    .unwrap();
    let (db, _) = open_with(&disk, options);
    let done = db.compact(start + 24 * 60 * MINUTE_MS).unwrap();
    assert_eq!((done.blocks_merged, done.chunks_damaged), (2, 1), "{done:?}");
    let found = all_histograms(&db);
    assert!((COUNT - 128..COUNT).contains(&(found.len() as i64)), "{}", found.len());
    for (_, t, found) in found {
        let second = (t - start) / 1000;
        assert_eq!(found, histogram(second, buckets(second)));
    }
    assert_eq!(db.stats().chunks_damaged, 1);
}

#[test]
fn histograms_count_as_what_they_take() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let (a, b) = (series(&db, 1, "__name__=a"), series(&db, 1, "__name__=b"));
    // 168 bytes each, a span and as many buckets, half a sample more to round: of 16 bytes each.
    let one = (168 + 8 * 1001 + 8) / 16;
    for second in 0..4 {
        let floats = if second == 3 { vec![(a, 1.0)] } else { vec![] };
        let given = if second < 3 { vec![(a, histogram(second, 1000))] } else { vec![] };
        put(&db, START + second * 1000, &floats, &given).unwrap();
    }
    put(&db, START, &[], &[(b, histogram(1, 1000))]).unwrap();
    let check = |db: &Db| {
        let select = |matchers: &[Matcher], end, series_max, samples_max| {
            let found = db.select_histograms(matchers, START, end, series_max, samples_max)?;
            Ok(found.iter().map(|series| series.samples.len()).sum::<usize>())
        };
        let of_b = [Matcher::equal("__name__", "b")];
        let too_many = |max| Err(SelectError::TooManySamples { max });
        assert_eq!(select(&of_b, START, 1, one), Ok(1));
        assert_eq!(select(&of_b, START, 1, one - 1), too_many(one - 1));
        // With floats beside them these count too, as one each.
        assert_eq!(select(&[], START + 3000, 2, 4 * one + 1), Ok(4));
        assert_eq!(select(&[], START + 3000, 2, 4 * one - 1), too_many(4 * one - 1));
        let of_a = [Matcher::equal("__name__", "a")];
        assert_eq!(select(&of_a, START + 3000, 2, 3 * one + 1), Ok(3));
        assert_eq!(select(&of_a, START + 3000, 2, 3 * one), too_many(3 * one));
        assert_eq!(select(&[], START, 1, 9999), Err(SelectError::TooManySeries { max: 1 }));
    };
    check(&db);
    db.maintain(START + MINUTE_MS).unwrap();
    assert_eq!(db.stats().blocks, 1);
    check(&db);
}

#[test]
fn of_two_groups_that_have_one_instant_the_lower_number_wins_wherever_it_is() {
    // In whatever order they came.
    for groups in [[1, 2], [2, 1]] {
        let disk = SimDisk::new(1);
        let compaction_ms = vec![4 * MINUTE_MS];
        let (db, _) = open_with(&disk, Options { compaction_ms, ..options() });
        for (at, group) in (0..).zip(groups) {
            let (a, b, c) = ("__name__=a", "__name__=b", "__name__=c");
            let [a, b, c] = [a, b, c].map(|text| series(&db, group, text));
            let (float, of_histograms) = if group == 1 { (a, b) } else { (b, a) };
            let given = |series, t_ms| HistogramSample {
                t_ms,
                series,
                histogram: Arc::new(histogram(at, 2)),
            };
            let samples = vec![(float, 1.0), (c, group as f64)];
            let rows = vec![Row { t_ms: START, samples }];
            let given = [given(of_histograms, START), given(of_histograms, START + 1)];
            let batch = Batch { group: GroupId(group), rows, marks: vec![] };
            assert_eq!(db.append_with(&batch, &given).unwrap().stored, 4);
        }
        let check = |db: &Db, place: &str| {
            let mut floats = all(db);
            floats.retain(|(name, _), _| name != "d");
            let names: Vec<_> = floats.keys().map(|(name, t)| (name.as_str(), t - START)).collect();
            assert_eq!(names, [("a", 0), ("c", 0)], "{place}");
            assert_eq!(floats[&("c".to_owned(), START)], 1f64.to_bits(), "{place}");
            let histograms: Vec<_> =
                all_histograms(db).into_iter().map(|(name, t, _)| (name, t - START)).collect();
            let expected = [("a", 1), ("b", 0), ("b", 1)];
            assert_eq!(histograms, expected.map(|(name, t)| (name.to_owned(), t)), "{place}");
        };
        check(&db, "head");
        db.maintain(START + MINUTE_MS).unwrap();
        assert_eq!(db.stats().blocks, 1);
        check(&db, "block");
        let d = series(&db, 1, "__name__=d");
        put(&db, START + MINUTE_MS, &[(d, 1.0)], &[]).unwrap();
        db.maintain(START + 2 * MINUTE_MS).unwrap();
        assert_eq!(db.compact(START + 60 * MINUTE_MS).unwrap().merges, 1);
        check(&db, "merged");
    }
}

#[test]
fn floats_beside_histograms_are_read_as_if_there_were_none() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let names = ["__name__=a", "__name__=b", "__name__=h"];
    // A block, one that overlaps it, and a head that overlaps both.
    for part in 0..3i64 {
        let [a, b, h] = names.map(|text| series(&db, 1, text));
        for second in (part..50).step_by(3) {
            let t = START + second * 1000;
            put(&db, t, &[(a, 1.0), (b, 2.0)], &[(h, histogram(second, 3))]).unwrap();
        }
        if part < 2 {
            db.maintain(START + (2 + part) * MINUTE_MS).unwrap();
        }
    }
    assert_eq!((db.stats().blocks, db.stats().head_samples), (2, 48));
    assert_eq!(all_histograms(&db).len(), 50);
    let found = db.select(&[], i64::MIN, i64::MAX, 10, 1000).unwrap();
    assert_eq!(found.iter().map(|series| series.values.len()).collect::<Vec<_>>(), [50, 50]);
    // A series that is read together with histograms has timestamps of its own.
    let last = db.select(&[], START + 47_000, START + 47_000, 10, 1000).unwrap();
    assert!(Arc::ptr_eq(&last[0].timestamps, &last[1].timestamps));
}

#[test]
fn what_the_histograms_of_a_batch_take_is_bounded_and_refused_before_anybody_waits() {
    let disk = SimDisk::new(1);
    let (db, _) = open(&disk);
    let a = series(&db, 1, "__name__=a");
    let large = Arc::new(histogram(1, 4000));
    let batch = Batch { group: GroupId(1), rows: vec![], marks: vec![] };
    let append = |count: i64| {
        let given = (0..count).map(|n| HistogramSample {
            t_ms: START + n,
            series: a,
            histogram: Arc::clone(&large),
        });
        db.append_with(&batch, &given.collect::<Vec<_>>())
    };
    let sample = HistogramSample { t_ms: START, series: a, histogram: Arc::clone(&large) };
    let most = i64::try_from(BATCH_HISTOGRAM_BYTES_MAX / sample.bytes()).unwrap();
    let error = append(most + 1).unwrap_err();
    assert!(matches!(error, AppendError::HistogramBytes { .. }), "{error}");
    assert_eq!(db.stats().head_samples, 0);
    assert_eq!(append(most).unwrap().stored, most.cast_unsigned());
}

#[test]
fn a_histogram_after_a_deleted_one_says_nothing_of_resets() {
    let hints = [
        ResetHint::Unknown,
        ResetHint::NotReset,
        ResetHint::Reset,
        ResetHint::Reset,
        ResetHint::Gauge,
        ResetHint::Reset,
        ResetHint::NotReset,
    ];
    let letter = |hint: ResetHint| match hint {
        ResetHint::Unknown => '?',
        ResetHint::Reset => 'r',
        ResetHint::NotReset => 'n',
        ResetHint::Gauge => 'g',
    };
    // What is deleted, of as many as there are hints; the others are left as they are. The fifth and
    // those after it are in a second block.
    for (deleted, expected) in [
        ("......", "?nrrgrn"),
        (".x....", "?.?rgrn"),
        ("..xx..", "?n..grn"),
        (".....x", "?nrrg.?"),
        ("x.x.x.", ".?.?.?n"),
        ("...xx.", "?nr..?n"),
    ] {
        let disk = SimDisk::new(1);
        let compaction_ms = vec![4 * MINUTE_MS];
        let (db, _) = open_with(&disk, Options { compaction_ms, ..options() });
        let start = START - START.rem_euclid(4 * MINUTE_MS);
        let at = |n: usize| start + i64::try_from(n).unwrap() * 15_000;
        let a = series(&db, 1, "__name__=a");
        for (n, reset) in hints.into_iter().enumerate() {
            let given = Histogram { reset, ..histogram(1, 2) };
            put(&db, at(n), &[], &[(a, given)]).unwrap();
        }
        for (n, _) in deleted.chars().enumerate().filter(|(_, letter)| *letter == 'x') {
            db.delete_series(&[], at(n), at(n), start).unwrap();
        }
        let check = |place: &str| {
            let mut found = vec!['.'; hints.len()];
            for (_, t, histogram) in all_histograms(&db) {
                found[usize::try_from((t - start) / 15_000).unwrap()] = letter(histogram.reset);
            }
            assert_eq!(String::from_iter(found), expected, "{deleted} {place}");
        };
        check("marked");
        db.maintain(start + 3 * MINUTE_MS).unwrap();
        assert_eq!(db.stats().blocks, 2);
        check("in blocks");
        db.compact(start + 120 * MINUTE_MS).unwrap();
        assert_eq!(db.stats().blocks, 1);
        check("merged");
    }
}

#[test]
fn a_damaged_chunk_of_a_series_with_both_kinds_is_counted_once() {
    let disk = SimDisk::new(5);
    let (db, _) = open(&disk);
    for second in 0..20 {
        let both = series(&db, 1, "__name__=both");
        let t = START + second * 1000;
        let (float, found) = ([(both, 1.5 * second as f64)], [(both, histogram(second, 3))]);
        let (floats, histograms): (&[_], &[_]) =
            if second % 2 == 0 { (&float, &[]) } else { (&[], &found) };
        put(&db, t, floats, histograms).unwrap();
        // Of another group, so that there always are some.
        append(&db, 2, t + 1, &[(series(&db, 2, "__name__=both"), 1.0)]);
    }
    db.maintain(START + MINUTE_MS).unwrap();
    db.close().unwrap();
    let chunks = files(&disk, &Path::new(DIR).join("blocks"));
    let chunks = chunks.into_iter().find(|path| path.ends_with("chunks")).unwrap();
    let image = disk.snapshot();
    let mut counted = [0; 2];
    for at in 0..disk.read(&chunks).unwrap().len() {
        disk.restore(&image);
        disk.corrupt(&chunks, |bytes| bytes[at] ^= 1).unwrap();
        let (db, _) = open(&disk);
        db.select(&[], START, START + MINUTE_MS, 9, 9999).unwrap();
        let of_floats = db.stats().chunks_damaged;
        db.select_histograms(&[], START, START + MINUTE_MS, 9, 9999).unwrap();
        let of_both = [of_floats, db.stats().chunks_damaged - of_floats];
        assert!(of_both.iter().all(|count| *count <= 1), "{at}: {of_both:?}");
        counted = [0, 1].map(|at| counted[at] + of_both[at]);
    }
    assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
}
