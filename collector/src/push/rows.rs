//! Samples become rows: those of one group and one instant stand together.

use stoa_model::TimestampMs;
use stoa_tsdb::{BATCH_HISTOGRAM_BYTES_MAX, Batch, GroupId, HistogramSample, Row, SeriesRef};

use crate::store::Stored;

/// Most samples of one batch: what the store writes to its log in one go.
const BATCH_SAMPLES_MAX: usize = 1 << 15;

/// One sample and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flat {
    pub(super) group: GroupId,
    pub(super) t_ms: TimestampMs,
    pub(super) series: SeriesRef,
    pub(super) value: f64,
}

/// Sorts samples into batches by group, time and series. A sample that stands twice is left out and
/// counted: the first one stays, as in the store.
pub(super) fn batches(mut samples: Vec<Flat>) -> (Vec<Batch>, Stored) {
    // Stable, so that the first of equals is the first sent.
    samples.sort_by_key(|sample| (sample.group, sample.t_ms, sample.series));
    let mut same = Stored::default();
    samples.dedup_by(|later, first| {
        let twice =
            (later.group, later.t_ms, later.series) == (first.group, first.t_ms, first.series);
        if twice && later.value.to_bits() == first.value.to_bits() {
            same.duplicate += 1;
        } else if twice {
            same.conflicting += 1;
        }
        twice
    });
    let mut batches = Vec::new();
    for group in samples.chunk_by(|a, b| a.group == b.group) {
        for part in group.chunks(BATCH_SAMPLES_MAX) {
            let rows = part.chunk_by(|a, b| a.t_ms == b.t_ms).filter_map(|row| {
                let t_ms = row.first()?.t_ms;
                Some(Row { t_ms, samples: row.iter().map(|s| (s.series, s.value)).collect() })
            });
            let rows = rows.collect();
            let Some(first) = part.first() else { continue };
            batches.push(Batch { group: first.group, rows, marks: Vec::new() });
        }
    }
    (batches, same)
}

/// Sorts native histograms into batches by group. What stands twice is the store's to tell.
pub(super) fn histogram_batches(
    mut histograms: Vec<(GroupId, HistogramSample)>,
) -> Vec<(GroupId, Vec<HistogramSample>)> {
    // Stable, so that the first of equals is the first sent.
    histograms.sort_by_key(|(group, sample)| (*group, sample.t_ms, sample.series));
    let mut batches: Vec<(GroupId, Vec<HistogramSample>)> = Vec::new();
    let mut bytes = 0;
    for (group, sample) in histograms {
        let own = sample.bytes();
        match batches.last_mut() {
            Some((last, batch)) if *last == group && bytes + own <= BATCH_HISTOGRAM_BYTES_MAX => {
                bytes += own;
                batch.push(sample);
            }
            _ => {
                bytes = own;
                batches.push((group, vec![sample]));
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stoa_model::histogram::{BucketCounts, Counts, Histogram};

    use super::*;

    fn flat(group: u64, t_ms: i64, series: u32, value: f64) -> Flat {
        Flat { group: GroupId(group), t_ms, series: SeriesRef(series), value }
    }

    #[test]
    fn samples_of_one_instant_make_a_row() {
        let (batches, same) = batches(vec![
            flat(2, 10, 5, 1.0),
            flat(1, 20, 1, 2.0),
            flat(1, 10, 2, 3.0),
            flat(1, 10, 1, 4.0),
            flat(1, 10, 1, 4.0),
            flat(1, 20, 1, 9.0),
            flat(1, 10, 2, -3.0),
        ]);
        let row = |t_ms, samples: &[(u32, f64)]| Row {
            t_ms,
            samples: samples.iter().map(|(series, v)| (SeriesRef(*series), *v)).collect(),
        };
        let batch = |group, rows| Batch { group: GroupId(group), rows, marks: Vec::new() };
        assert_eq!(
            batches,
            [
                batch(1, vec![row(10, &[(1, 4.0), (2, 3.0)]), row(20, &[(1, 2.0)])]),
                batch(2, vec![row(10, &[(5, 1.0)])]),
            ]
        );
        assert_eq!((same.duplicate, same.conflicting), (1, 2));
    }

    #[test]
    fn a_large_group_makes_several_batches() {
        let count = u32::try_from(BATCH_SAMPLES_MAX).unwrap() + 1;
        let (batches, _) = batches((0..count).map(|series| flat(1, 10, series, 0.0)).collect());
        let sizes: Vec<usize> = batches.iter().map(|batch| batch.rows[0].samples.len()).collect();
        assert_eq!(sizes, [BATCH_SAMPLES_MAX, 1]);
    }

    #[test]
    fn histograms_of_a_group_stand_together_as_many_as_a_record_takes() {
        let histogram = |buckets: usize| {
            let positive = vec![0; buckets];
            let counts = BucketCounts { positive, ..BucketCounts::default() };
            Arc::new(Histogram { counts: Counts::Integer(counts), ..Histogram::stale() })
        };
        let sample = |group, t_ms, buckets| {
            let histogram = histogram(buckets);
            (GroupId(group), HistogramSample { t_ms, series: SeriesRef(1), histogram })
        };
        let half = (BATCH_HISTOGRAM_BYTES_MAX / 2 - sample(1, 1, 0).1.bytes()) / 8;
        let given =
            vec![sample(2, 1, 0), sample(1, 30, half), sample(1, 20, half), sample(1, 10, 0)];
        let batches = histogram_batches(given);
        let times = |(group, batch): &(GroupId, Vec<HistogramSample>)| {
            (group.0, batch.iter().map(|sample| sample.t_ms).collect::<Vec<_>>())
        };
        let found: Vec<_> = batches.iter().map(times).collect();
        assert_eq!(found, [(1, vec![10, 20]), (1, vec![30]), (2, vec![1])]);
    }
}
