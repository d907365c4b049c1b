//! `</` and `>/`: what a histogram observed below or above a value.
//!
//! What is left of a bucket the value lies in is interpolated as for quantiles. As soon as anything
//! is taken away, the sum is that of the middles of what is left. A custom bucket may lack an end:
//! the highest counts as observed at infinity, the lowest from zero on when it reaches above zero
//! and else at minus infinity. In the sum such a bucket is worth the end it has.

use super::quantile::fraction_below;
use super::{Bucket, Histogram};

/// Which side is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Below,
    Above,
}

/// How observations lie within a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    Linear,
    Exponential,
}

/// How many observations of a bucket are kept, and where their middle is.
struct Kept {
    count: f64,
    middle: f64,
}

impl Histogram {
    pub(crate) fn trimmed(mut self, at: f64, keep: Keep) -> Self {
        let spread = if self.has_custom_bounds() { Spread::Linear } else { Spread::Exponential };
        let (mut count, mut sum) = (0.0, 0.0);
        let mut trimmed = false;
        let mut cut = |bucket: &Bucket, spread: Spread| {
            let kept = cut_bucket(bucket, at, keep, spread);
            if kept.count != 0.0 {
                count += kept.count;
                sum += kept.count * kept.middle;
            }
            trimmed |= kept.count != bucket.count;
            kept.count
        };
        let is_populated = |buckets: &[(i32, f64)]| buckets.iter().any(|(_, n)| *n != 0.0);
        let (above, below) = (is_populated(&self.positive), is_populated(&self.negative));
        let positive =
            self.positive.iter().map(|(i, n)| (*i, cut(&self.positive_bucket(*i, *n), spread)));
        let positive = positive.collect();
        let negative =
            self.negative.iter().map(|(i, n)| (*i, cut(&self.negative_bucket(*i, *n), spread)));
        let negative = negative.collect();
        let mut zero = self.zero_bucket();
        // With observations on one side of zero only, those near zero are taken to be there too.
        match (above, below) {
            (true, false) => zero.lower = 0.0,
            (false, true) => zero.upper = 0.0,
            _ => {}
        }
        let zero_count = cut(&zero, Spread::Linear);
        if !trimmed {
            return self;
        }
        (self.positive, self.negative, self.zero_count) = (positive, negative, zero_count);
        (self.count, self.sum) = (count, sum);
        self.compact()
    }
}

fn cut_bucket(bucket: &Bucket, at: f64, keep: Keep, spread: Spread) -> Kept {
    let nothing = Kept { count: 0.0, middle: 0.0 };
    if bucket.count == 0.0 {
        return nothing;
    }
    let wholly_kept = match keep {
        Keep::Below => bucket.upper <= at,
        Keep::Above => bucket.lower >= at,
    };
    if wholly_kept {
        return Kept { count: bucket.count, middle: middle(bucket.lower, bucket.upper, spread) };
    }
    // Nothing lies below or above NaN.
    if !(bucket.lower < at && at < bucket.upper) {
        return nothing;
    }
    let below = count_below(bucket, at, spread);
    match keep {
        Keep::Below => Kept { count: below, middle: middle(bucket.lower, at, spread) },
        Keep::Above => {
            let from = if bucket.lower == f64::NEG_INFINITY { at.max(0.0) } else { at };
            Kept { count: bucket.count - below, middle: middle(from, bucket.upper, spread) }
        }
    }
}

/// How many observations of a bucket lie below a value within it.
fn count_below(bucket: &Bucket, at: f64, spread: Spread) -> f64 {
    if bucket.upper == f64::INFINITY {
        0.0
    } else if bucket.lower > f64::NEG_INFINITY {
        bucket.count * fraction_below(bucket, at, spread == Spread::Linear)
    } else if bucket.upper > 0.0 {
        bucket.count * (at / bucket.upper).max(0.0)
    } else {
        bucket.count
    }
}

/// The middle of an interval.
fn middle(low: f64, high: f64, spread: Spread) -> f64 {
    match (low == f64::NEG_INFINITY, high == f64::INFINITY) {
        (true, true) => 0.0,
        (true, false) if high > 0.0 => high / 2.0,
        (true, false) => high,
        (false, true) => low,
        (false, false) => match spread {
            Spread::Linear => f64::midpoint(low, high),
            Spread::Exponential => (low * high).sqrt().copysign(low),
        },
    }
}
