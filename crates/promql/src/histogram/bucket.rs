//! Buckets with their bounds, and layouts.

use super::Histogram;

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Exclusive for positive buckets, inclusive for negative ones.
    pub lower: f64,
    /// Inclusive for positive buckets, exclusive for negative ones.
    pub upper: f64,
    /// Observations.
    pub count: f64,
    /// Whether `lower` belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether `upper` belongs to the bucket.
    pub upper_inclusive: bool,
}

/// The upper bound of the positive bucket `index`.
pub(crate) fn bound(index: i32, schema: i32, custom_bounds: &[f64]) -> f64 {
    if schema == super::CUSTOM_SCHEMA {
        return match usize::try_from(index) {
            Err(_negative) => f64::NEG_INFINITY,
            Ok(i) => custom_bounds.get(i).copied().unwrap_or(f64::INFINITY),
        };
    }
    let value = if schema <= 0 {
        (f64::from(index) * f64::from(-schema).exp2()).exp2()
    } else {
        let parts = 1_i32 << schema.clamp(0, 30);
        let whole = index.div_euclid(parts);
        let fraction = f64::from(index.rem_euclid(parts)) / f64::from(parts);
        fraction.exp2() * f64::from(whole).exp2()
    };
    // The bucket that reaches to infinity ends at the largest number instead.
    if value.is_infinite() && bound_is_finite(index.saturating_sub(1), schema) {
        f64::MAX
    } else {
        value
    }
}

fn bound_is_finite(index: i32, schema: i32) -> bool {
    f64::from(index) * f64::from(-schema).exp2() < 1024.0
}

/// The index of the bucket of a coarser schema that holds bucket `index`.
pub(super) fn coarser(index: i32, from: i32, to: i32) -> i32 {
    let shift = (from - to).clamp(0, 31);
    (index.saturating_sub(1) >> shift).saturating_add(1)
}

/// Adds up the counts of buckets with equal indexes and sorts.
pub(super) fn merged(mut buckets: Vec<(i32, f64)>) -> Vec<(i32, f64)> {
    buckets.sort_by_key(|(index, _)| *index);
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    buckets
}

impl Histogram {
    /// The zero bucket.
    #[must_use]
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            count: self.zero_count,
            lower_inclusive: true,
            upper_inclusive: true,
        }
    }

    /// The positive (or custom) bucket of an index.
    pub(super) fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        Bucket {
            lower: bound(index.saturating_sub(1), self.schema, &self.custom_bounds),
            upper: bound(index, self.schema, &self.custom_bounds),
            count,
            lower_inclusive: false,
            upper_inclusive: true,
        }
    }

    /// The negative bucket of an index.
    pub(super) fn negative_bucket(&self, index: i32, count: f64) -> Bucket {
        Bucket {
            lower: -bound(index, self.schema, &[]),
            upper: -bound(index.saturating_sub(1), self.schema, &[]),
            count,
            lower_inclusive: true,
            upper_inclusive: false,
        }
    }

    /// All buckets from the lowest value to the highest; the zero bucket only when it counts
    /// something.
    #[must_use]
    pub fn buckets(&self) -> Vec<Bucket> {
        let below = self.negative.iter().rev().map(|(i, count)| self.negative_bucket(*i, *count));
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let above = self.positive.iter().map(|(i, count)| self.positive_bucket(*i, *count));
        below.chain(zero).chain(above).collect()
    }

    /// Without empty buckets.
    #[must_use]
    pub fn compact(mut self) -> Self {
        self.positive.retain(|(_, count)| *count != 0.0);
        self.negative.retain(|(_, count)| *count != 0.0);
        self
    }

    /// At a coarser schema; a finer one or custom bounds change nothing.
    #[must_use]
    pub fn at_schema(mut self, schema: i32) -> Self {
        if self.has_custom_bounds() || schema >= self.schema {
            return self;
        }
        let from = self.schema;
        let coarsen = |buckets: Vec<(i32, f64)>| {
            merged(
                buckets.into_iter().map(|(i, count)| (coarser(i, from, schema), count)).collect(),
            )
        };
        self.positive = coarsen(self.positive);
        self.negative = coarsen(self.negative);
        self.schema = schema;
        self
    }

    /// The observations a zero bucket of at least `threshold` holds, and its threshold, which is
    /// wider when `threshold` lies within a bucket that counts something.
    pub(super) fn zero_count_within(&self, threshold: f64) -> (f64, f64) {
        let mut threshold = threshold;
        'widened: loop {
            let mut count = self.zero_count;
            for (index, in_bucket) in &self.positive {
                let bucket = self.positive_bucket(*index, *in_bucket);
                if bucket.lower >= threshold {
                    break;
                }
                count += bucket.count;
                if bucket.upper > threshold {
                    if bucket.count != 0.0 {
                        threshold = bucket.upper;
                    }
                    break;
                }
            }
            for (index, in_bucket) in &self.negative {
                let bucket = self.negative_bucket(*index, *in_bucket);
                if bucket.upper <= -threshold {
                    break;
                }
                count += bucket.count;
                if bucket.lower < -threshold {
                    if bucket.count != 0.0 {
                        threshold = -bucket.lower;
                        continue 'widened;
                    }
                    break;
                }
            }
            return (count, threshold);
        }
    }

    /// With a zero bucket of at least `threshold`.
    pub(super) fn with_zero_threshold(mut self, threshold: f64) -> Self {
        let (count, threshold) = self.zero_count_within(threshold);
        self.zero_count = count;
        self.zero_threshold = threshold;
        let schema = self.schema;
        let outside =
            |(index, _): &(i32, f64)| bound(index.saturating_sub(1), schema, &[]) >= threshold;
        self.positive.retain(outside);
        self.negative.retain(outside);
        self
    }

    /// In a layout that is no finer than its own.
    pub(super) fn in_layout_of(self, other: &Self) -> Self {
        if self.has_custom_bounds() {
            let same = super::arithmetic::same_bounds(&self.custom_bounds, &other.custom_bounds);
            return if same { self } else { self.with_bounds(&other.custom_bounds) };
        }
        let same = self.zero_threshold.total_cmp(&other.zero_threshold).is_eq();
        let widened = if same { self } else { self.with_zero_threshold(other.zero_threshold) };
        widened.at_schema(other.schema)
    }

    /// With only those custom bounds, which it must have; counts move to the next one kept.
    pub(super) fn with_bounds(mut self, bounds: &[f64]) -> Self {
        let moved = self
            .positive
            .iter()
            .map(|(index, count)| {
                let upper = bound(*index, self.schema, &self.custom_bounds);
                let at = bounds.partition_point(|b| *b < upper);
                (i32::try_from(at).unwrap_or(i32::MAX), *count)
            })
            .collect();
        self.positive = merged(moved);
        self.custom_bounds = bounds.to_vec();
        self
    }
}
