//! The times an expression is evaluated at.

use stoa_model::TimestampMs;

/// `count` times, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) start: TimestampMs,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Steps {
    /// From `start` every `step` up to `end`; none when `end` is before `start`.
    pub(crate) fn new(start: TimestampMs, end: TimestampMs, step: i64) -> Self {
        let step = step.max(1);
        let count = if end < start {
            0
        } else {
            crate::number::index(end.saturating_sub(start) / step).saturating_add(1)
        };
        Self { start, step, count }
    }

    pub(crate) fn time(&self, step: usize) -> TimestampMs {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.start.saturating_add(step.saturating_mul(self.step))
    }

    pub(crate) fn times(&self) -> impl Iterator<Item = TimestampMs> + use<> {
        let steps = *self;
        (0..steps.count).map(move |step| steps.time(step))
    }

    pub(crate) fn last(&self) -> TimestampMs {
        self.time(self.count.saturating_sub(1))
    }

    /// The first step only.
    pub(crate) fn first(&self) -> Self {
        Self { count: self.count.min(1), ..*self }
    }
}
