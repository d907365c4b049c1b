//! Reading little: the newest samples for a question about one time, and what can be had at once.

use std::sync::atomic::Ordering::Relaxed;

use stoa_model::{MatchOp, Matcher, TimestampMs};

use super::Db;
use super::gather::Wanted;
use crate::SelectError;
use crate::SeriesRef;
use crate::head::{Found, TimesCache};
use crate::select::{Gather, HistogramData, SeriesData};

impl Db {
    /// Whether a sample of `t_ms` would come after all that there are of a series, or be its first, and not
    /// be too old. Decodes nothing: where what is sealed or in blocks reaches beyond `t_ms`, it is taken for
    /// the series' own, and the answer is no.
    #[must_use]
    pub fn is_after_all(&self, series: SeriesRef, t_ms: TimestampMs) -> bool {
        let now_ms = self.clock_ms.load(Relaxed);
        let state = self.state();
        let mut blocks = state.blocks.iter();
        state.head.is_after_all(series, t_ms, now_ms)
            && !blocks.any(|block| block.overlaps(t_ms, TimestampMs::MAX))
    }

    /// As [`Self::select_until`], but of each series its newest sample in the range, and maybe some
    /// before it: sealed windows that are older than what is open are not read.
    ///
    /// # Errors
    /// As [`Self::select_until`].
    pub fn select_newest_until(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<SeriesData>, SelectError> {
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, samples_max, stop);
        self.selected(&Wanted { newest: true, ..wanted })
    }

    /// The same for native histograms: as [`Self::select_histograms_until`].
    ///
    /// # Errors
    /// As [`Self::select_histograms_until`].
    pub fn select_newest_histograms_until(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<HistogramData>, SelectError> {
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, samples_max, stop);
        self.selected_histograms(&Wanted { newest: true, ..wanted })
    }

    /// The same series as [`Self::select`], or with `newest` as [`Self::select_newest_until`], if that
    /// takes little: `None` when a lock is not free, something of it is on disk or a native histogram,
    /// a matcher is no equality, many series have each of the labels (whether they have samples or not), or
    /// there is more than the caller takes. Waits neither for the lock of the state nor for a file, unless a
    /// window is moved to one meanwhile.
    #[must_use]
    pub fn select_at_once(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
        newest: bool,
    ) -> Option<Vec<SeriesData>> {
        // Others may be tried on each value of a label.
        let is_equality = |m: &Matcher| m.op() == MatchOp::Equal && !m.value().is_empty();
        if !matchers.iter().all(is_equality) {
            return None;
        }
        let never = || false;
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, samples_max, &never);
        let wanted = Wanted { newest, ..wanted };
        let mut found: Vec<Found> = {
            let state = self.state.try_read().ok()?;
            let is_elsewhere = state.head.has_histograms()
                || state.blocks.iter().any(|block| block.overlaps(start_ms, end_ms))
                || state.tiers.blocks.iter().any(|held| held.overlaps(start_ms, end_ms));
            if is_elsewhere {
                return None;
            }
            let found = state.head.select_few(matchers, start_ms, end_ms)?;
            found.take(series_max + 1).collect()
        };
        if found.len() > series_max {
            return None;
        }
        for series in &mut found {
            Self::wanted_beside(&wanted, &series.open, &mut series.sealed);
            if series.sealed.iter().any(|sealed| sealed.window.place().file().is_some()) {
                return None;
            }
        }
        found.sort_by_key(|series| series.group);
        let mut gather = Gather::new(series_max, samples_max);
        let mut times = TimesCache::default();
        for series in found {
            let added = gather.add(series.labels, |samples| {
                self.head_floats(&series.sealed, &wanted, &mut times, samples);
                samples.append(&series.open);
            });
            added.ok()?;
        }
        Some(gather.finish())
    }
}
