//! What histograms take of memory while they are merged and read, seen from outside: a process of its own, and nothing beside it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::cast_precision_loss, reason = "a test")]

use std::path::Path;
use std::sync::Arc;

use stoa_model::Labels;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint, Span};
use stoa_tsdb::{Db, Options, SelectError};
use stoa_wal::disk::SimDisk;

const MINUTE_MS: i64 = 60_000;
const START: i64 = 1_700_000_040_000;
const BUCKETS: u32 = 500;
const BLOCKS: i64 = 20;
/// Two of the spans that imports make blocks of.
const SPAN_MS: i64 = 24 * MINUTE_MS;
const PER_BLOCK: i64 = 1000;

/// Of as many buckets, all of which grow.
fn histogram(n: i64) -> Histogram {
    let positive: Vec<u64> = (0..u64::from(BUCKETS)).map(|at| n.cast_unsigned() + at).collect();
    Histogram {
        schema: 3,
        zero_threshold: 0.0,
        sum: n as f64,
        positive_spans: vec![Span { offset: 0, length: BUCKETS }],
        negative_spans: vec![],
        custom_values: vec![],
        counts: Counts::Integer(BucketCounts {
            count: positive.iter().sum(),
            positive,
            ..BucketCounts::default()
        }),
        reset: ResetHint::Unknown,
    }
}

/// The peak is to be that of what follows.
fn forget_peak() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak_kib()
}

/// The most memory since it was asked to forget, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn neither_a_merge_nor_a_query_that_is_refused_holds_a_series_of_histograms_whole() {
    let disk = SimDisk::new(1);
    let options = Options {
        block_ms: MINUTE_MS,
        grace_ms: 0,
        out_of_order_ms: 60 * MINUTE_MS,
        compaction_ms: vec![SPAN_MS],
        ..Options::default()
    };
    let start = START - START.rem_euclid(SPAN_MS);
    let end = start + BLOCKS * MINUTE_MS;
    let (db, _) = Db::open(Arc::new(disk), Path::new("/db"), options, start).unwrap();
    for block in 0..BLOCKS {
        let mut bulk = db.bulk(end, 0);
        let series = bulk.series(&Labels::from_pairs([("__name__", "a")]).unwrap()).unwrap();
        for n in 0..PER_BLOCK {
            let (t, n) = (start + block * MINUTE_MS + n * 50, block * PER_BLOCK + n);
            assert!(bulk.push_histogram(series, t, histogram(n)).unwrap());
        }
        db.write_bulk(bulk, end, |_, _| ()).unwrap();
    }
    let before = forget_peak();
    let now = end + 3 * 60 * MINUTE_MS;
    assert_eq!(db.compact(now).unwrap().blocks_merged, BLOCKS.cast_unsigned());
    let taken_mib = (peak_kib() - before) >> 10;
    let whole_mib = (BLOCKS * PER_BLOCK * i64::from(BUCKETS) * 8) >> 20;
    assert!(taken_mib < whole_mib.cast_unsigned() / 3, "{taken_mib} of {whole_mib} MiB");
    let before = forget_peak();
    let refused = db.select_histograms(&[], i64::MIN, i64::MAX, 10, 100_000);
    assert_eq!(refused.unwrap_err(), SelectError::TooManySamples { max: 100_000 });
    let taken_mib = (peak_kib() - before) >> 10;
    assert!(taken_mib < whole_mib.cast_unsigned() / 3, "{taken_mib} of {whole_mib} MiB");
    let found = db.select_histograms(&[], i64::MIN, i64::MAX, 10, usize::MAX).unwrap();
    let found = &found.first().unwrap().samples;
    assert_eq!(found.len() as i64, BLOCKS * PER_BLOCK);
    assert!((0..).zip(found).all(|(n, (_, found))| *found == histogram(n)));
}
