//! What a sender said of counter resets, where samples were deleted.
//!
//! A histogram's hint says what happened since the one before it. Once that one is deleted nobody
//! knows, but that a gauge is none: every other hint is forgotten, and who asks compares.

use std::iter::Peekable;
use std::slice;

use stoa_model::TimestampMs;
use stoa_model::histogram::{Histogram, ResetHint};

/// Where a series' deleted samples were found, place by place: runs of them without a kept one between.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    runs: Vec<(TimestampMs, TimestampMs)>,
    is_open: bool,
}

impl Gaps {
    /// Takes note of the next sample of a place, in order of time.
    pub(crate) fn note(&mut self, t: TimestampMs, is_deleted: bool) {
        match self.runs.last_mut() {
            Some((_, last)) if is_deleted && self.is_open => *last = t,
            _ if is_deleted => self.runs.push((t, t)),
            _ => {}
        }
        self.is_open = is_deleted;
    }

    /// What follows is of another place.
    pub(crate) fn end_place(&mut self) {
        self.is_open = false;
    }

    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.is_open = false;
    }

    /// What looks at the samples that are kept, all places together.
    pub(crate) fn hints(&mut self) -> Hints<'_> {
        self.runs.sort_unstable();
        let runs = self.runs.iter().peekable();
        Hints { runs, deleted_upto: None, before: TimestampMs::MIN }
    }
}

/// Looks at one sample after the other.
pub(crate) struct Hints<'a> {
    runs: Peekable<slice::Iter<'a, (TimestampMs, TimestampMs)>>,
    deleted_upto: Option<TimestampMs>,
    before: TimestampMs,
}

impl Hints<'_> {
    /// Forgets the hint of the next sample in order of time if one was deleted since the last.
    pub(crate) fn check(&mut self, t: TimestampMs, histogram: &mut Histogram) {
        if self.pass(t) && histogram.reset != ResetHint::Gauge {
            histogram.reset = ResetHint::Unknown;
        }
    }

    /// Goes on to the next sample; says whether one was deleted since the last.
    pub(crate) fn pass(&mut self, t: TimestampMs) -> bool {
        while let Some((_, last)) = self.runs.next_if(|(first, _)| *first < t) {
            self.deleted_upto = self.deleted_upto.max(Some(*last));
        }
        let is_gap = self.deleted_upto.is_some_and(|last| last >= self.before);
        self.before = t;
        is_gap
    }
}

#[cfg(test)]
mod tests {
    use stoa_model::histogram::{Histogram, ResetHint};

    use super::Gaps;

    #[test]
    fn the_sample_after_a_deleted_one_says_nothing_of_it() {
        // Samples of one place at each letter's place: `x` deleted, `.` none, others kept.
        let check = |places: &[&str], hint, expected: &str| {
            let mut gaps = Gaps::default();
            let mut kept: Vec<i64> = Vec::new();
            for place in places {
                for (t, letter) in (0..).zip(place.chars()).filter(|(_, letter)| *letter != '.') {
                    gaps.note(t, letter == 'x');
                    kept.extend((letter != 'x').then_some(t));
                }
                gaps.end_place();
            }
            kept.sort_unstable();
            kept.dedup();
            let mut hints = gaps.hints();
            let found: String = kept
                .iter()
                .map(|t| {
                    let mut histogram = Histogram { reset: hint, ..Histogram::stale() };
                    hints.check(*t, &mut histogram);
                    if histogram.reset == hint { 'k' } else { 'f' }
                })
                .collect();
            assert_eq!(found, expected, "{places:?}");
        };
        for hint in [ResetHint::Reset, ResetHint::NotReset] {
            check(&["aaaa"], hint, "kkkk");
            check(&["axaa"], hint, "kfk");
            check(&["xxaa"], hint, "fk");
            check(&["axxaxa", "......aa"], hint, "kffkk");
            // In a place, and what follows it in another.
            check(&["aax", "...aa"], hint, "kkfk");
            // Stored again; the one after followed what was deleted.
            check(&["axaa", ".b.."], hint, "kkfk");
        }
        check(&["axaa"], ResetHint::Gauge, "kkk");
    }
}
