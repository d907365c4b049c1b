//! Quantiles and fractions of native histograms. Within an exponential bucket observations are
//! taken to lie as in a histogram of higher resolution, elsewhere evenly.

use super::{Bucket, Histogram};
use crate::number::Kahan;

impl Histogram {
    /// The value below which a share `q` of the observations lies.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        if q < 0.0 {
            return f64::NEG_INFINITY;
        }
        if q > 1.0 {
            return f64::INFINITY;
        }
        if self.count == 0.0 || q.is_nan() {
            return f64::NAN;
        }
        // Observations of NaN are counted but in no bucket, so ranks are then taken from below.
        let ascending = self.sum.is_nan() || q < 0.5;
        let mut buckets = self.buckets();
        let rank = if ascending {
            q * self.count
        } else {
            buckets.reverse();
            (1.0 - q) * self.count
        };
        let mut count = 0.0;
        let mut found = Bucket {
            lower: 0.0,
            upper: 0.0,
            count: 0.0,
            lower_inclusive: false,
            upper_inclusive: false,
        };
        for bucket in buckets {
            found = bucket;
            if bucket.count == 0.0 {
                continue;
            }
            count += bucket.count;
            if count >= rank {
                break;
            }
        }
        if self.has_custom_bounds() {
            if found.lower == f64::NEG_INFINITY {
                if found.upper <= 0.0 {
                    return found.upper;
                }
                found.lower = 0.0;
            } else if found.upper == f64::INFINITY {
                return found.lower;
            }
        } else if found.lower < 0.0 && found.upper > 0.0 {
            self.clip_zero_bucket(&mut found);
        }
        count = count.min(self.count);
        if count < rank {
            // The rank lies among the observations of NaN.
            return if self.sum.is_nan() { f64::NAN } else { found.upper };
        }
        let into = if ascending { rank - (count - found.count) } else { count - rank };
        let fraction = into / found.count;
        if self.has_custom_bounds() || (found.lower <= 0.0 && found.upper >= 0.0) {
            return found.lower + (found.upper - found.lower) * fraction;
        }
        let (low, high) = (found.lower.abs().log2(), found.upper.abs().log2());
        if found.lower > 0.0 {
            (low + (high - low) * fraction).exp2()
        } else {
            -(high + (low - high) * (1.0 - fraction)).exp2()
        }
    }

    /// The share of the observations between two values.
    #[must_use]
    pub fn fraction(&self, lower: f64, upper: f64) -> f64 {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        let mut total = self.count;
        if self.sum.is_nan() {
            total = self.buckets().iter().map(|bucket| bucket.count).sum();
        }
        let share = (self.rank(upper).min(total) - self.rank(lower).min(total)) / self.count;
        if share.is_nan() { 0.0 } else { share }
    }

    /// The estimated variance of the observations, each at the middle of its bucket.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let mut sum = Kahan::default();
        for bucket in self.buckets() {
            if bucket.count == 0.0 {
                continue;
            }
            let middle = if self.has_custom_bounds() {
                f64::midpoint(bucket.upper, bucket.lower)
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            sum = sum.add(bucket.count * delta * delta);
        }
        (sum.sum + sum.compensation) / self.count
    }

    /// How many observations lie below a value; infinite when all do.
    fn rank(&self, value: f64) -> f64 {
        let mut rank = 0.0;
        for bucket in self.buckets() {
            let mut bucket = bucket;
            let around_zero =
                !self.has_custom_bounds() && bucket.lower <= 0.0 && bucket.upper >= 0.0;
            if around_zero {
                self.clip_zero_bucket(&mut bucket);
            }
            if bucket.lower >= value {
                return rank;
            }
            if bucket.upper > value {
                return rank + self.share_below(&bucket, value, around_zero);
            }
            rank += bucket.count;
        }
        f64::INFINITY
    }

    fn share_below(&self, bucket: &Bucket, value: f64, around_zero: bool) -> f64 {
        if bucket.lower == f64::NEG_INFINITY {
            // Zero stands for the missing end when it lies within.
            return if bucket.upper <= 0.0 {
                bucket.count
            } else {
                bucket.count * (value / bucket.upper).max(0.0)
            };
        }
        bucket.count * fraction_below(bucket, value, self.has_custom_bounds() || around_zero)
    }

    /// A histogram with buckets on one side of zero only has none of the zero bucket on the other.
    fn clip_zero_bucket(&self, bucket: &mut Bucket) {
        if self.negative.is_empty() && !self.positive.is_empty() {
            bucket.lower = 0.0;
        } else if self.positive.is_empty() && !self.negative.is_empty() {
            bucket.upper = 0.0;
        }
    }
}

/// The share of a bucket that lies below a value within it.
pub(super) fn fraction_below(bucket: &Bucket, value: f64, linear: bool) -> f64 {
    if linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (low, high) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    let at = value.abs().log2();
    if value > 0.0 { (at - low) / (high - low) } else { 1.0 - (at - high) / (low - high) }
}
