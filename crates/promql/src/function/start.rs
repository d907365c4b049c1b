//! Start timestamps: since when a counter has been counting what a sample says.
//!
//! A start that is 0 or later than its sample is unknown. A sample and the one before it tell of a reset
//! when the later one began after the earlier one was taken, or just then and the earlier one knows its
//! own start: that is how deltas follow each other. Where the samples of two writers are mixed, starts
//! lie before the sample before them and differ from its start.

use stoa_model::TimestampMs;

/// The start timestamps of one series' samples; most series have none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts(Vec<(TimestampMs, TimestampMs)>);

/// A sample by its times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) t: TimestampMs,
    /// 0: unknown.
    pub(crate) start: TimestampMs,
}

impl Starts {
    /// Pairs of a sample's time and its start, in order of the samples' times.
    pub(crate) fn new(starts: Vec<(TimestampMs, TimestampMs)>) -> Self {
        Self(starts)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sample at that time.
    pub(crate) fn taken(&self, t: TimestampMs) -> Taken {
        let at = self.0.binary_search_by_key(&t, |(time, _)| *time).ok();
        let start = at.and_then(|at| self.0.get(at)).map_or(0, |(_, start)| *start);
        Taken { t, start }
    }
}

impl Taken {
    /// Whether the counter began anew since the sample before.
    pub(crate) fn is_reset_after(self, before: Self) -> bool {
        if self.start == 0 || self.start >= self.t || self.start < before.t {
            return false;
        }
        self.start > before.t || (before.start != 0 && before.start < before.t)
    }

    /// Whether it was counted by another than the sample before: its start lies before that one and is
    /// not that one's.
    pub(crate) fn overlaps(self, before: Self) -> bool {
        self.start != 0 && self.start < before.t && self.start != before.start
    }

    /// The start, if it lies after `start` and before the sample.
    pub(crate) fn start_after(self, start: TimestampMs) -> Option<TimestampMs> {
        Some(self.start).filter(|began| *began != 0 && *began > start && *began < self.t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_tell_of_resets() {
        let taken = |start, t| Taken { t, start };
        for (before, now, is_reset, overlaps) in [
            // Cumulative: from one start on.
            (taken(10, 20), taken(10, 30), false, false),
            (taken(10, 20), taken(25, 30), true, false),
            // Deltas follow each other.
            (taken(10, 20), taken(20, 30), true, false),
            // The first one of a cumulative series whose start is unknown.
            (taken(0, 20), taken(20, 30), false, false),
            (taken(20, 20), taken(20, 30), false, false),
            (taken(25, 20), taken(20, 30), false, false),
            // Unknown or no start at all.
            (taken(10, 20), taken(0, 30), false, false),
            (taken(10, 20), taken(30, 30), false, false),
            (taken(10, 20), taken(40, 30), false, false),
            // Two writers.
            (taken(10, 20), taken(15, 30), false, true),
            (taken(0, 20), taken(15, 30), false, true),
        ] {
            assert_eq!(now.is_reset_after(before), is_reset, "{before:?} {now:?}");
            assert_eq!(now.overlaps(before), overlaps, "{before:?} {now:?}");
        }
        let starts = Starts::new(vec![(20, 10), (40, 30)]);
        assert_eq!([10, 20, 40].map(|t| starts.taken(t).start), [0, 10, 30]);
        assert_eq!(starts.taken(20).start_after(9), Some(10));
        assert_eq!(starts.taken(20).start_after(10), None);
    }
}
