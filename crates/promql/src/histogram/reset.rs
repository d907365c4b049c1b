//! Whether a counter started anew between two histograms.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::arithmetic::{common_layout, same_bounds};
use super::{Histogram, ResetHint};

impl Histogram {
    /// Whether a counter was reset between `previous` and this.
    #[must_use]
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        self.shrank_since(previous)
    }

    /// The hint it has when read back from where it is stored after `before`, which has its own
    /// already; `None` where a series begins. As Prometheus reads chunks: whatever begins one says
    /// nothing, since the sample before may be gone by then, and a reset begins one.
    #[must_use]
    pub fn hint_after(&self, before: Option<&Self>) -> ResetHint {
        if self.reset_hint == ResetHint::Gauge {
            return ResetHint::Gauge;
        }
        let goes_on = before.is_some_and(|before| {
            before.reset_hint != ResetHint::Gauge
                && !before.is_stale()
                && self.reset_hint != ResetHint::Reset
                && before.schema == self.schema
                && before.zero_threshold.total_cmp(&self.zero_threshold).is_eq()
                && before.custom_bounds == self.custom_bounds
                && !self.shrank_since(before)
        });
        if goes_on { ResetHint::NotReset } else { ResetHint::Unknown }
    }

    /// Whether one of the two is a gauge and the other a counter.
    pub(crate) fn changed_flavor_since(&self, previous: &Self) -> bool {
        (self.reset_hint == ResetHint::Gauge) != (previous.reset_hint == ResetHint::Gauge)
    }

    /// Whether a counter was reset between `previous` and this, whatever the hint says.
    pub(crate) fn shrank_since(&self, previous: &Self) -> bool {
        if self.count < previous.count || self.has_custom_bounds() != previous.has_custom_bounds() {
            return true;
        }
        if self.has_custom_bounds() {
            if same_bounds(&self.custom_bounds, &previous.custom_bounds) {
                return any_decrease(&self.positive, &previous.positive);
            }
            let (now, before, _) = common_layout(self.clone(), previous.clone());
            return any_decrease(&now.positive, &before.positive);
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (zero_before, threshold) = previous.zero_count_within(self.zero_threshold);
        if threshold.total_cmp(&self.zero_threshold).is_ne() || self.zero_count < zero_before {
            return true;
        }
        let before =
            previous.clone().with_zero_threshold(self.zero_threshold).at_schema(self.schema);
        any_decrease(&self.positive, &before.positive)
            || any_decrease(&self.negative, &before.negative)
    }
}

/// Says of each histogram of a series whether there was a reset before it where that is not known
/// yet; the first one, and one after a float, stay as they are.
pub(crate) fn detect_resets(
    samples: &mut [(TimestampMs, Arc<Histogram>)],
    float_times: &[TimestampMs],
) {
    let mut before: Option<(TimestampMs, Arc<Histogram>)> = None;
    for (t, histogram) in samples.iter_mut().filter(|(_, histogram)| !histogram.is_stale()) {
        let floats_up_to = |t: TimestampMs| float_times.partition_point(|time| *time <= t);
        if let (ResetHint::Unknown, Some((previous_time, previous))) =
            (histogram.reset_hint, &before)
            && floats_up_to(*previous_time) == floats_up_to(*t)
        {
            let reset = histogram.shrank_since(previous);
            let reset_hint = if reset { ResetHint::Reset } else { ResetHint::NotReset };
            *histogram = Arc::new(Histogram { reset_hint, ..Histogram::clone(histogram) });
        }
        before = Some((*t, Arc::clone(histogram)));
    }
}

/// Whether any bucket of `before` counts less in `now`; a bucket that is not there counts nothing.
fn any_decrease(now: &[(i32, f64)], before: &[(i32, f64)]) -> bool {
    before.iter().any(|(index, count)| {
        let current = now
            .binary_search_by_key(index, |(i, _)| *i)
            .ok()
            .and_then(|at| now.get(at))
            .map_or(0.0, |(_, count)| *count);
        current < *count
    })
}
