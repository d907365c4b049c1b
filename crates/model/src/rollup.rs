//! A window of samples in a few numbers, so that windows side by side can be told as one.
//!
//! What is kept is what `rate`, `increase`, `delta` and the sums, extremes, counts and ends over time
//! need to be answered as from the samples themselves. It knows no window length: that is whoever
//! made the rollup's to know.

use crate::{TimestampMs, is_stale, stale_nan};

/// The samples of one window of one series.
#[derive(Clone, Copy, Debug)]
pub struct Rollup {
    /// When the first sample was read; of a stale marker when there is no sample.
    pub first_t: TimestampMs,
    /// When the last sample was read; of a stale marker when there is no sample.
    pub last_t: TimestampMs,
    /// Samples that are no stale markers. When it is 0 the numbers below say nothing.
    pub count: u64,
    /// Their sum; exact but for one rounding as long as it is finite.
    pub sum: f64,
    /// The smallest; NaN only if all are.
    pub min: f64,
    /// The largest; NaN only if all are.
    pub max: f64,
    /// The first.
    pub first: f64,
    /// The last.
    pub last: f64,
    /// What a counter would have lost in resets: the sum of each value that a smaller one follows.
    /// The increase from the first sample to the last is `last - first + lost`.
    pub lost: f64,
    /// Whether a stale marker comes after the last sample.
    pub is_ended: bool,
}

impl Rollup {
    /// One sample, or one stale marker.
    #[must_use]
    pub fn of(t: TimestampMs, v: f64) -> Self {
        let is_ended = is_stale(v);
        let count = u64::from(!is_ended);
        Self {
            first_t: t,
            last_t: t,
            count,
            sum: v,
            min: v,
            max: v,
            first: v,
            last: v,
            lost: 0.0,
            is_ended,
        }
    }

    /// The value that a query sees last: a stale marker when the series has ended.
    #[must_use]
    pub fn newest(&self) -> f64 {
        if self.is_ended { stale_nan() } else { self.last }
    }
}

impl PartialEq for Rollup {
    /// Bit equality, so that a NaN equals itself. Without samples only times count.
    fn eq(&self, other: &Self) -> bool {
        let numbers = |r: &Self| [r.sum, r.min, r.max, r.first, r.last, r.lost].map(f64::to_bits);
        let frame = |r: &Self| (r.first_t, r.last_t, r.count, r.is_ended);
        frame(self) == frame(other) && (self.count == 0 || numbers(self) == numbers(other))
    }
}

/// Rollups side by side, told as one; pushed in order of time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RollupFold {
    folded: Option<Rollup>,
    /// What the sum lost to rounding (Neumaier).
    carry: f64,
}

impl RollupFold {
    /// Adds what comes next in time.
    pub fn push(&mut self, next: &Rollup) {
        let Some(folded) = &mut self.folded else {
            self.folded = Some(*next);
            return;
        };
        if next.count == 0 {
            folded.is_ended = true;
            if folded.count == 0 {
                folded.last_t = next.last_t;
            }
            return;
        }
        if folded.count == 0 {
            *folded = *next;
            return;
        }
        if next.first < folded.last {
            folded.lost += folded.last;
        }
        folded.lost += next.lost;
        let sum = folded.sum + next.sum;
        self.carry += if folded.sum.abs() >= next.sum.abs() {
            (folded.sum - sum) + next.sum
        } else {
            (next.sum - sum) + folded.sum
        };
        folded.sum = sum;
        if next.min < folded.min || folded.min.is_nan() {
            folded.min = next.min;
        }
        if next.max > folded.max || folded.max.is_nan() {
            folded.max = next.max;
        }
        folded.count += next.count;
        folded.last = next.last;
        folded.last_t = next.last_t;
        folded.is_ended = next.is_ended;
    }

    /// All of it as one; `None` when nothing was pushed.
    #[must_use]
    pub fn finish(self) -> Option<Rollup> {
        let mut folded = self.folded?;
        let sum = folded.sum + self.carry;
        // Of infinities the carry is NaN and says nothing.
        if sum.is_finite() {
            folded.sum = sum;
        }
        Some(folded)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rollup, RollupFold};
    use crate::stale_nan;

    fn folded(samples: &[(i64, f64)]) -> Rollup {
        let mut fold = RollupFold::default();
        for (t, v) in samples {
            fold.push(&Rollup::of(*t, *v));
        }
        fold.finish().unwrap()
    }

    #[test]
    fn windows_side_by_side_are_one() {
        let samples = [(1, 5.0), (2, 9.0), (3, 2.0), (4, 4.0), (5, 1.0), (6, stale_nan())];
        let whole = folded(&samples);
        assert_eq!((whole.count, whole.sum, whole.min, whole.max), (5, 21.0, 1.0, 9.0));
        assert_eq!((whole.first_t, whole.last_t, whole.lost), (1, 5, 13.0));
        assert!(whole.is_ended && whole.newest().to_bits() == stale_nan().to_bits());
        for cut in 1..samples.len() {
            let (left, right) = samples.split_at(cut);
            let mut fold = RollupFold::default();
            fold.push(&folded(left));
            fold.push(&folded(right));
            assert_eq!(fold.finish(), Some(whole), "cut at {cut}");
        }
    }

    #[test]
    fn markers_and_nan_are_not_numbers() {
        let marker = folded(&[(1, stale_nan()), (2, stale_nan())]);
        assert_eq!((marker.count, marker.first_t, marker.last_t), (0, 1, 2));
        let back = folded(&[(1, stale_nan()), (2, 3.0)]);
        assert_eq!((back.count, back.sum, back.is_ended, back.first_t), (1, 3.0, false, 2));
        let nan = folded(&[(1, f64::NAN), (2, 3.0), (3, f64::NAN)]);
        assert!(nan.sum.is_nan() && nan.count == 3);
        assert_eq!((nan.min, nan.max), (3.0, 3.0));
        let infinite = folded(&[(1, f64::INFINITY), (2, 1.0)]);
        assert_eq!(infinite.sum, f64::INFINITY);
        assert_eq!(folded(&[(1, 1e16), (2, 1.0), (3, -1e16)]).sum, 1.0);
    }
}
