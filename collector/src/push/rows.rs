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
    /// It is the first sample of a point, and stands for it.
    pub(super) stands: bool,
}

/// A batch, and what its rows stand for.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) batch: Batch,
    pub(super) points: Points,
}

/// Of each row of a batch, in order of time: how many samples it has, and for how many points they stand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Points(Vec<(u64, u64)>);

impl Points {
    pub(super) fn samples(&self) -> u64 {
        self.0.iter().map(|(samples, _)| samples).sum()
    }

    pub(super) fn all(&self) -> u64 {
        self.0.iter().map(|(_, points)| points).sum()
    }

    /// How many points the store refused. What is too old are whole rows, the oldest. Which samples are
    /// in conflict is not said: they are as many points as their share of the samples, rounded up.
    pub(super) fn refused(&self, done: Stored) -> u64 {
        let (mut old, mut refused) = (done.too_old, 0);
        let (mut samples_left, mut points_left) = (0, 0);
        for (samples, points) in &self.0 {
            if old > 0 {
                old = old.saturating_sub(*samples);
                refused += points;
            } else {
                samples_left += samples;
                points_left += points;
            }
        }
        if samples_left == 0 {
            return refused;
        }
        refused + (done.conflicting * points_left).div_ceil(samples_left).min(points_left)
    }
}

/// What was sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Twice {
    pub(super) samples: Stored,
    /// Points of those in conflict.
    pub(super) points: u64,
}

/// Sorts samples into batches by group, time and series. A sample that stands twice is left out and
/// counted: the first one stays, as in the store.
pub(super) fn batches(mut samples: Vec<Flat>) -> (Vec<Rows>, Twice) {
    // Stable, so that the first of equals is the first sent.
    samples.sort_by_key(|sample| (sample.group, sample.t_ms, sample.series));
    let mut same = Twice::default();
    samples.dedup_by(|later, first| {
        let twice =
            (later.group, later.t_ms, later.series) == (first.group, first.t_ms, first.series);
        if twice && later.value.to_bits() == first.value.to_bits() {
            same.samples.duplicate += 1;
        } else if twice {
            same.samples.conflicting += 1;
            same.points += u64::from(later.stands);
        }
        twice
    });
    let mut batches = Vec::new();
    for group in samples.chunk_by(|a, b| a.group == b.group) {
        for part in group.chunks(BATCH_SAMPLES_MAX) {
            let Some(first) = part.first() else { continue };
            let (mut rows, mut points) = (Vec::new(), Points::default());
            for row in part.chunk_by(|a, b| a.t_ms == b.t_ms) {
                let Some(t_ms) = row.first().map(|sample| sample.t_ms) else { continue };
                let stand = row.iter().filter(|sample| sample.stands).count();
                points.0.push((row.len() as u64, stand as u64));
                let samples = row.iter().map(|sample| (sample.series, sample.value)).collect();
                rows.push(Row { t_ms, samples });
            }
            batches.push(Rows {
                batch: Batch { group: first.group, rows, marks: Vec::new() },
                points,
            });
        }
    }
    (batches, same)
}

/// Native histograms of a batch, each of which is a point.
pub(super) fn histogram_points(histograms: &[HistogramSample]) -> Points {
    Points(vec![(1, 1); histograms.len()])
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
        Flat { group: GroupId(group), t_ms, series: SeriesRef(series), value, stands: false }
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
        let batches: Vec<Batch> = batches.into_iter().map(|rows| rows.batch).collect();
        assert_eq!(
            batches,
            [
                batch(1, vec![row(10, &[(1, 4.0), (2, 3.0)]), row(20, &[(1, 2.0)])]),
                batch(2, vec![row(10, &[(5, 1.0)])]),
            ]
        );
        assert_eq!((same.samples.duplicate, same.samples.conflicting), (1, 2));
    }

    #[test]
    fn points_are_refused_with_what_stands_for_them() {
        // A histogram of three samples and a number; a target_info; two numbers and one sent twice.
        let stands = |t_ms, series, value| Flat { stands: true, ..flat(1, t_ms, series, value) };
        let (batches, same) = batches(vec![
            stands(10, 1, 0.0),
            flat(1, 10, 2, 0.0),
            flat(1, 10, 3, 0.0),
            stands(10, 4, 0.0),
            flat(1, 20, 9, 1.0),
            stands(30, 5, 0.0),
            stands(30, 6, 0.0),
            stands(30, 6, 1.0),
        ]);
        assert_eq!((same.samples.conflicting, same.points), (1, 1));
        let points = &batches[0].points;
        assert_eq!(*points, Points(vec![(4, 2), (1, 0), (2, 2)]));
        assert_eq!((points.samples(), points.all()), (7, 4));
        for (too_old, conflicting, expected) in
            [(0, 0, 0), (4, 0, 2), (5, 0, 2), (7, 0, 4), (4, 1, 3), (4, 3, 4), (0, 7, 4), (0, 1, 1)]
        {
            let done = Stored { too_old, conflicting, ..Stored::default() };
            assert_eq!(points.refused(done), expected, "{too_old} {conflicting}");
        }
    }

    #[test]
    fn a_large_group_makes_several_batches() {
        let count = u32::try_from(BATCH_SAMPLES_MAX).unwrap() + 1;
        let (batches, _) = batches((0..count).map(|series| flat(1, 10, series, 0.0)).collect());
        let sizes: Vec<usize> =
            batches.iter().map(|rows| rows.batch.rows[0].samples.len()).collect();
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
