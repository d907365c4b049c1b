//! Whether a counter started anew between two histograms.

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

    /// The hint it has where it is stored after `before`, which has its own already; `None` where a
    /// series begins.
    #[must_use]
    pub fn hint_after(&self, before: Option<&Self>) -> ResetHint {
        if matches!(self.reset_hint, ResetHint::Gauge | ResetHint::Reset) {
            return self.reset_hint;
        }
        match before {
            Some(before) if before.reset_hint != ResetHint::Gauge && !before.is_stale() => {
                let same_layout = before.schema == self.schema
                    && before.zero_threshold.total_cmp(&self.zero_threshold).is_eq()
                    && before.custom_bounds == self.custom_bounds;
                if self.count < before.count {
                    ResetHint::Reset
                } else if !same_layout {
                    ResetHint::Unknown
                } else if self.shrank_since(before) {
                    ResetHint::Reset
                } else {
                    ResetHint::NotReset
                }
            }
            _ => ResetHint::Unknown,
        }
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
