//! Classic histograms: one series per bucket, its bound in the label `le`, counts cumulative.

use crate::annotation::MonotonicFix;
use crate::number::almost_equal;

/// Counts of neighbouring buckets this close are taken to be equal but for rounding.
const SMALL_DELTA: f64 = 1e-12;

/// One cumulative bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cumulative {
    pub(crate) bound: f64,
    pub(crate) count: f64,
}

/// Sorts by bound and adds up equal bounds.
fn sorted(buckets: &mut Vec<Cumulative>) {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    buckets.dedup_by(|next, kept| {
        let same = next.bound.total_cmp(&kept.bound).is_eq();
        if same {
            kept.count += next.count;
        }
        same
    });
}

/// Makes counts ascend, and says what that took beyond rounding.
fn make_monotonic(buckets: &mut [Cumulative]) -> Option<MonotonicFix> {
    let mut fix: Option<MonotonicFix> = None;
    let mut buckets = buckets.iter_mut();
    let mut before = buckets.next()?.count;
    for bucket in buckets {
        let drop = before - bucket.count;
        if almost_equal(before, bucket.count, SMALL_DELTA) {
            bucket.count = before;
        } else if drop > 0.0 {
            let fixed = fix.get_or_insert(MonotonicFix {
                lowest_bound: bucket.bound,
                highest_bound: bucket.bound,
                largest_drop: drop,
            });
            fixed.highest_bound = bucket.bound;
            fixed.largest_drop = fixed.largest_drop.max(drop);
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    fix
}

/// The value below which a share `q` of the observations lies, on straight lines between bounds.
pub(crate) fn quantile(q: f64, mut buckets: Vec<Cumulative>) -> (f64, Option<MonotonicFix>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    sorted(&mut buckets);
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let fix = make_monotonic(&mut buckets);
    let [below @ .., highest] = buckets.as_slice() else { return (f64::NAN, None) };
    let Some(second_highest) = below.last() else { return (f64::NAN, None) };
    if highest.count == 0.0 || highest.count.is_nan() {
        return (f64::NAN, None);
    }
    let mut rank = q * highest.count;
    let at = below.partition_point(|bucket| bucket.count < rank);
    let Some(found) = below.get(at) else { return (second_highest.bound, fix) };
    if at == 0 && found.bound <= 0.0 {
        return (found.bound, fix);
    }
    let (mut start, mut count) = (0.0, found.count);
    if let Some(before) = at.checked_sub(1).and_then(|at| below.get(at)) {
        start = before.bound;
        count -= before.count;
        rank -= before.count;
    }
    (start + (found.bound - start) * (rank / count), fix)
}

/// The share of the observations between two values. Counts that fall are taken as they are, as
/// Prometheus takes them here.
pub(crate) fn fraction(lower: f64, upper: f64, mut buckets: Vec<Cumulative>) -> f64 {
    sorted(&mut buckets);
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    let total = buckets.last().map_or(0.0, |last| last.count);
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let share = |value| rank(&buckets, value).min(total);
    (share(upper) - share(lower)) / total
}

/// How many observations lie below a value. Of a bucket without an end nothing is known, so that
/// none of the highest and all of the lowest are.
fn rank(buckets: &[Cumulative], value: f64) -> f64 {
    let lowest_is_positive = buckets.first().is_some_and(|first| first.bound > 0.0);
    let mut before =
        Cumulative { bound: if lowest_is_positive { 0.0 } else { f64::NEG_INFINITY }, count: 0.0 };
    for bucket in buckets {
        if before.bound >= value {
            return before.count;
        }
        if bucket.bound > value {
            if before.bound == f64::NEG_INFINITY {
                return bucket.count;
            }
            let share = (value - before.bound) / (bucket.bound - before.bound);
            return before.count + (bucket.count - before.count) * share;
        }
        before = *bucket;
    }
    before.count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(all: &[(f64, f64)]) -> Vec<Cumulative> {
        all.iter().map(|(bound, count)| Cumulative { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_lie_on_lines_between_bounds() {
        let all = [(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)];
        for (q, expect) in [(0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)] {
            assert_eq!(quantile(q, buckets(&all)), (expect, None), "{q}");
        }
        assert!(quantile(0.5, buckets(&all[..2])).0.is_nan());
    }

    #[test]
    fn falling_counts_are_raised_and_told() {
        let all = [(1.0, 10.0), (2.0, 8.0), (3.0, 12.0), (f64::INFINITY, 12.0)];
        let (_, fix) = quantile(0.5, buckets(&all));
        assert_eq!(
            fix,
            Some(MonotonicFix { lowest_bound: 2.0, highest_bound: 2.0, largest_drop: 2.0 })
        );
    }

    #[test]
    fn fractions_invert_quantiles() {
        let all = [(1.0, 10.0), (2.0, 20.0), (f64::INFINITY, 20.0)];
        assert!((fraction(f64::NEG_INFINITY, 1.5, buckets(&all)) - 0.75).abs() < 1e-12);
        assert!((fraction(0.5, f64::INFINITY, buckets(&all)) - 0.75).abs() < 1e-12);
    }
}
