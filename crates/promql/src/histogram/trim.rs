//! `</` and `>/`: what a histogram observed below or above a value.

use super::quantile::fraction_below;
use super::{Bucket, Histogram};

/// Which side is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Below,
    Above,
}

/// How much of a bucket is kept, and the mean value of what is not.
struct Cut {
    kept: f64,
    removed_at: f64,
}

impl Histogram {
    pub(crate) fn trimmed(mut self, at: f64, keep: Keep) -> Self {
        let custom = self.has_custom_bounds();
        let mut count = 0.0;
        let mut removed = 0.0;
        let (mut above_zero, mut below_zero) = (false, false);
        let mut cut = |bucket: Bucket, positive: bool| -> f64 {
            if bucket.count == 0.0 {
                return 0.0;
            }
            above_zero |= if custom { bucket.upper > 0.0 } else { positive };
            below_zero |= if custom { bucket.lower < 0.0 } else { !positive };
            let cut = cut_bucket(&bucket, at, keep, positive, custom);
            removed += (bucket.count - cut.kept)
                * if cut.kept < bucket.count { cut.removed_at } else { 0.0 };
            count += cut.kept;
            cut.kept
        };
        let positive = self
            .positive
            .iter()
            .map(|(i, n)| (*i, cut(self.positive_bucket(*i, *n), true)))
            .collect();
        let negative = self
            .negative
            .iter()
            .map(|(i, n)| (*i, cut(self.negative_bucket(*i, *n), false)))
            .collect();
        self.positive = positive;
        self.negative = negative;
        if self.zero_count > 0.0 {
            let zero = self.zero_bucket();
            let below = if at <= zero.lower {
                0.0
            } else if at >= zero.upper {
                zero.count
            } else {
                zero.count * fraction_below(&zero, at, true)
            };
            self.zero_count = match keep {
                Keep::Below => below,
                Keep::Above => zero.count - below,
            };
            count += self.zero_count;
        }
        let mut sum = if count == 0.0 { 0.0 } else { self.sum - removed };
        if (!below_zero && sum < 0.0) || (!above_zero && sum > 0.0) {
            sum = 0.0;
        }
        self.count = count;
        self.sum = sum;
        self.compact()
    }
}

fn cut_bucket(bucket: &Bucket, at: f64, keep: Keep, positive: bool, custom: bool) -> Cut {
    let wholly_kept = match keep {
        Keep::Below => bucket.upper <= at,
        Keep::Above => bucket.lower >= at,
    };
    if wholly_kept {
        return Cut { kept: bucket.count, removed_at: 0.0 };
    }
    if bucket.lower.is_infinite() || bucket.upper.is_infinite() {
        return cut_infinite(bucket, at, keep);
    }
    let wholly_removed = match keep {
        Keep::Below => bucket.lower >= at,
        Keep::Above => bucket.upper <= at,
    };
    let middle = |low: f64, high: f64| {
        if custom {
            f64::midpoint(bucket.lower, bucket.upper)
        } else if positive {
            (low.abs() * high.abs()).sqrt()
        } else {
            -(low.abs() * high.abs()).sqrt()
        }
    };
    if wholly_removed {
        // The mean of a whole negative bucket is taken without its sign upstream, too.
        let removed_at = if custom {
            middle(bucket.lower, bucket.upper)
        } else {
            (bucket.lower * bucket.upper).sqrt()
        };
        return Cut { kept: 0.0, removed_at };
    }
    let below = bucket.count * fraction_below(bucket, at, custom);
    match keep {
        Keep::Below => Cut { kept: below, removed_at: middle(bucket.lower, at) },
        Keep::Above => Cut { kept: bucket.count - below, removed_at: middle(at, bucket.upper) },
    }
}

/// A bucket without an end is kept or removed whole, unless zero can stand for its lower end.
fn cut_infinite(bucket: &Bucket, at: f64, keep: Keep) -> Cut {
    if bucket.lower.is_infinite() {
        if at >= 0.0 && bucket.upper > at && bucket.upper.is_finite() {
            let below = at / bucket.upper;
            return match keep {
                Keep::Below => {
                    Cut { kept: bucket.count * below, removed_at: f64::midpoint(at, bucket.upper) }
                }
                Keep::Above => Cut { kept: bucket.count * (1.0 - below), removed_at: at / 2.0 },
            };
        }
        return Cut { kept: 0.0, removed_at: bucket.upper };
    }
    Cut { kept: 0.0, removed_at: bucket.lower }
}
