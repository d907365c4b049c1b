//! Adding, subtracting, scaling.

use super::bucket::merged;
use super::{Combined, Histogram, Incompatible, ResetHint};

impl Histogram {
    /// The observations of both.
    ///
    /// # Errors
    /// [`Incompatible`] when one has custom bounds and the other has not.
    pub fn plus(&self, other: &Self) -> Result<(Self, Combined), Incompatible> {
        self.combine(other, 1.0)
    }

    /// The observations of this less those of `other`.
    ///
    /// # Errors
    /// [`Incompatible`] when one has custom bounds and the other has not.
    pub fn minus(&self, other: &Self) -> Result<(Self, Combined), Incompatible> {
        self.combine(other, -1.0)
    }

    fn combine(&self, other: &Self, sign: f64) -> Result<(Self, Combined), Incompatible> {
        if self.has_custom_bounds() != other.has_custom_bounds() {
            return Err(Incompatible);
        }
        let (mut left, right, bounds_reconciled) = common_layout(self.clone(), other.clone());
        let (hint, reset_collision) = combined_hint(self.reset_hint, other.reset_hint);
        left.reset_hint = hint;
        left.zero_count += sign * right.zero_count;
        left.count += sign * right.count;
        left.sum += sign * right.sum;
        let signed =
            |buckets: Vec<(i32, f64)>| buckets.into_iter().map(move |(i, c)| (i, sign * c));
        left.positive = merged(left.positive.into_iter().chain(signed(right.positive)).collect());
        left.negative = merged(left.negative.into_iter().chain(signed(right.negative)).collect());
        Ok((left, Combined { reset_collision, bounds_reconciled }))
    }

    /// All counts and the sum times a factor; a negative factor makes it a gauge.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        self.scale(|v| v * factor);
        if factor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
        self
    }

    /// All counts and the sum divided; by zero, no bucket is left.
    #[must_use]
    pub fn divided_by(mut self, divisor: f64) -> Self {
        self.scale(|v| v / divisor);
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
        if divisor < 0.0 {
            self.reset_hint = ResetHint::Gauge;
        }
        self
    }

    pub(super) fn scale(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count = f(self.zero_count);
        self.count = f(self.count);
        self.sum = f(self.sum);
        for (_, count) in self.positive.iter_mut().chain(&mut self.negative) {
            *count = f(*count);
        }
    }

    /// Whether a count or the sum has overflowed.
    pub(crate) fn has_overflow(&self) -> bool {
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive.iter().chain(&self.negative).any(|(_, count)| count.is_infinite())
    }

    /// Equal but for empty buckets and hints.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let bits = f64::to_bits;
        let compact = |buckets: &[(i32, f64)]| -> Vec<(i32, u64)> {
            buckets.iter().filter(|(_, c)| *c != 0.0).map(|(i, c)| (*i, bits(*c))).collect()
        };
        self.schema == other.schema
            && bits(self.count) == bits(other.count)
            && bits(self.sum) == bits(other.sum)
            && self.zero_threshold.total_cmp(&other.zero_threshold).is_eq()
            && bits(self.zero_count) == bits(other.zero_count)
            && compact(&self.positive) == compact(&other.positive)
            && compact(&self.negative) == compact(&other.negative)
            && same_bounds(&self.custom_bounds, &other.custom_bounds)
    }
}

pub(super) fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
}

/// Both at the layout they have in common, and whether custom bounds were cut for it. Both must be
/// of one kind.
pub(super) fn common_layout(left: Histogram, right: Histogram) -> (Histogram, Histogram, bool) {
    if left.has_custom_bounds() {
        if same_bounds(&left.custom_bounds, &right.custom_bounds) {
            return (left, right, false);
        }
        let common: Vec<f64> = left
            .custom_bounds
            .iter()
            .filter(|bound| right.custom_bounds.iter().any(|b| b.to_bits() == bound.to_bits()))
            .copied()
            .collect();
        return (left.with_bounds(&common), right.with_bounds(&common), true);
    }
    let (mut left, mut right) = (left, right);
    while left.zero_threshold.total_cmp(&right.zero_threshold).is_ne() {
        if left.zero_threshold < right.zero_threshold {
            let threshold = right.zero_threshold;
            left = left.with_zero_threshold(threshold);
        } else {
            let threshold = left.zero_threshold;
            right = right.with_zero_threshold(threshold);
        }
    }
    let schema = left.schema.min(right.schema);
    (left.at_schema(schema), right.at_schema(schema), false)
}

/// The hint of a sum, and whether the two contradict each other.
pub(super) fn combined_hint(a: ResetHint, b: ResetHint) -> (ResetHint, bool) {
    match (a, b) {
        (a, b) if a == b => (a, false),
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
        (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
        _ => (ResetHint::Unknown, true),
    }
}
