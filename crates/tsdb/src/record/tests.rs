use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, proptest};
use proptest::strategy::Strategy;
use stoa_model::Labels;

use stoa_model::histogram::{BucketCounts, Counts, Histogram, Span};

use super::{
    BatchRecord, HistogramsRecord, get_marks_part, get_series, marks_bodies, put_batch,
    put_histograms, put_series,
};
use crate::bytes::Cursor;
use crate::{GroupId, HISTOGRAM_NUMBERS_MAX, HistogramSample, Mark, Row, SeriesRef};

fn histogram(count: u64, buckets: u32) -> Histogram {
    let counts = BucketCounts {
        count: count * u64::from(buckets),
        positive: vec![count; buckets as usize],
        ..BucketCounts::default()
    };
    Histogram {
        sum: 1.0,
        schema: 3,
        positive_spans: vec![Span { offset: 2, length: buckets }],
        counts: Counts::Integer(counts),
        ..Histogram::stale()
    }
}

fn histogram_sample() -> impl Strategy<Value = HistogramSample> {
    (any::<i64>(), any::<u32>(), 0..1u64 << 40, 0u32..9).prop_map(
        |(t_ms, series, count, buckets)| {
            let histogram = Arc::new(histogram(count, buckets));
            HistogramSample { t_ms, series: SeriesRef(series), histogram }
        },
    )
}

fn row() -> impl Strategy<Value = Row> {
    let sample = (0u32..12, any::<u8>()).prop_map(|(s, v)| (SeriesRef(s), f64::from(v % 3)));
    (any::<i64>(), proptest::collection::vec(sample, 0..20))
        .prop_map(|(t_ms, samples)| Row { t_ms, samples })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn batches_round_trip(
        mut rows in proptest::collection::vec(row(), 0..6), again: bool, group: u64,
        key in proptest::collection::vec(any::<u8>(), 0..9),
    ) {
        if again && let Some(last) = rows.last().cloned() {
            rows.push(last);
        }
        let marks = vec![Mark { key: key.clone(), value: b"v".to_vec() }];
        let mut out = Vec::new();
        put_batch(&mut out, GroupId(group), &rows, &marks, &[&key]);
        let mut cursor = Cursor::new(&out);
        let back = BatchRecord::get(&mut cursor).unwrap();
        cursor.end().unwrap();
        let marks = vec![(key.clone(), b"v".to_vec())];
        assert_eq!(back, BatchRecord { group: GroupId(group), rows, marks, removed: vec![key] });
    }

    #[test]
    fn histograms_round_trip_with_their_batch(
        rows in proptest::collection::vec(row(), 0..3), group: u64,
        histograms in proptest::collection::vec(histogram_sample(), 0..9),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut out = Vec::new();
        put_histograms(&mut out, &histograms, |body| {
            put_batch(body, GroupId(group), &rows, &[], &[]);
        });
        let mut cursor = Cursor::new(&out);
        let back = HistogramsRecord::get(&mut cursor).unwrap();
        cursor.end().unwrap();
        let batch = BatchRecord { group: GroupId(group), rows, marks: vec![], removed: vec![] };
        assert_eq!(back, HistogramsRecord { batch, histograms });
        assert!(HistogramsRecord::get(&mut Cursor::new(&out[..cut.index(out.len())])).is_err());
    }

    #[test]
    fn any_bytes_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
        if let Ok(batch) = BatchRecord::get(&mut Cursor::new(&bytes)) {
            assert!(batch.rows.len() + batch.marks.len() <= bytes.len());
        }
        if let Ok(record) = HistogramsRecord::get(&mut Cursor::new(&bytes)) {
            assert!(record.histograms.len() <= bytes.len());
        }
        if let Ok((_, series)) = get_series(&mut Cursor::new(&bytes)) {
            assert!(series.len() <= bytes.len());
        }
        if let Ok(part) = get_marks_part(&mut Cursor::new(&bytes)) {
            assert!(part.marks.len() <= bytes.len());
        }
    }
}

#[test]
fn the_bytes_of_each_record_stay_as_written_down() {
    let a = Labels::from_pairs([("__name__", "up"), ("job", "a")]).unwrap();
    let b = Labels::from_pairs([("__name__", "up"), ("job", "b")]).unwrap();
    let series = [(SeriesRef(0), a), (SeriesRef(5), b)];
    let mut out = Vec::new();
    assert!(put_series(&mut out, GroupId(1), &series).is_empty());
    let expected = b"\x01\0\0\0\0\0\0\0\x05\x08__name__\x02up\x03job\x01a\x01b\x02\
        \x00\x02\x00\x01\x02\x03\x08\x02\x00\x01\x02\x04";
    assert_eq!(out, expected);
    assert_eq!(get_series(&mut Cursor::new(&out)).unwrap(), (GroupId(1), series.to_vec()));

    let sample = |series, v| (SeriesRef(series), v);
    let rows = [
        Row { t_ms: 1000, samples: vec![sample(3, 1.0), sample(4, 0.5), sample(9, 2.0)] },
        Row { t_ms: 2000, samples: vec![sample(3, 1.0), sample(4, 0.5), sample(9, 3.0)] },
    ];
    out.clear();
    put_batch(&mut out, GroupId(2), &rows, &[Mark { key: vec![7], value: vec![8, 9] }], &[]);
    let expected = b"\x02\0\0\0\0\0\0\0\x01\x01\x07\x02\x08\x09\0\x02\
        \xd0\x0f\x00\x03\x06\x02\x08\x01\x10\x51\x20\xd0\x0f\x03\x04\x30";
    assert_eq!(out, expected);

    let sample = |t_ms, series, histogram: Histogram| HistogramSample {
        t_ms,
        series: SeriesRef(series),
        histogram: Arc::new(histogram),
    };
    let histograms = [sample(1000, 3, histogram(1, 1)), sample(2000, 1, Histogram::stale())];
    out.clear();
    put_histograms(&mut out, &histograms, |body| put_batch(body, GroupId(2), &[], &[], &[]));
    let expected = b"\x0b\x02\0\0\0\0\0\0\0\0\0\0\x02\x06\xd0\x0f\
        \x18\x06\x01\0\0\x01\0\x06\0\x01\x04\x01\0\0\x01\0\0\x01\x02\0\x01\0\0\0\x10\x03\xd0\x0f\x02\x86\x01";
    assert_eq!(out, expected);
}

#[test]
fn a_histogram_that_is_none_or_too_large_is_not_read() {
    let most = u32::try_from(HISTOGRAM_NUMBERS_MAX).unwrap();
    let Counts::Integer(counts) = histogram(1, 2).counts else { unreachable!() };
    let counts = Counts::Integer(BucketCounts { count: 7, ..counts });
    let refused = [
        (histogram(1, most - 1), true),
        (histogram(1, most), false),
        (Histogram { counts, ..histogram(1, 2) }, false),
        (Histogram { schema: 9, ..histogram(1, 2) }, false),
    ];
    for (given, is_read) in refused {
        let sample = HistogramSample { t_ms: 1, series: SeriesRef(1), histogram: given.into() };
        let mut out = Vec::new();
        put_histograms(&mut out, &[sample], |body| put_batch(body, GroupId(1), &[], &[], &[]));
        assert_eq!(HistogramsRecord::get(&mut Cursor::new(&out)).is_ok(), is_read);
    }
}

#[test]
fn marks_split_into_records_and_come_together() {
    for count in [0u32, 1, 1000, 1001, 2500] {
        let marks: BTreeMap<Vec<u8>, Vec<u8>> =
            (0..count).map(|n| (n.to_le_bytes().to_vec(), vec![1])).collect();
        let bodies = marks_bodies(marks.iter());
        let mut back = BTreeMap::new();
        for (at, body) in bodies.iter().enumerate() {
            let part = get_marks_part(&mut Cursor::new(body)).unwrap();
            assert_eq!((part.is_first, part.is_last), (at == 0, at + 1 == bodies.len()));
            back.extend(part.marks);
        }
        assert_eq!(back, marks);
    }
}
