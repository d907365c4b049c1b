//! Native histograms of a group: what is there at an instant already, and what becomes of them.

use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::Group;
use crate::head::Shared;
use crate::head::window::Window;
use crate::{Appended, HistogramSample, Options, SeriesRef};

impl Group {
    /// Whether a member has a histogram at an instant.
    pub(super) fn has_histogram(
        &self,
        (slot, series): (u32, SeriesRef),
        t: TimestampMs,
        shared: &Shared,
    ) -> bool {
        if t > self.histograms_last_t {
            return false;
        }
        let is_open = self.histograms.as_ref().is_some_and(|open| open.get(slot, t).is_some());
        is_open
            || shared.known.histogram(series, t).is_some()
            || self.sealed_histogram(slot, t, shared).is_some()
    }

    /// The histogram of a member in a window that was sealed after the batch was looked up.
    fn sealed_histogram(&self, slot: u32, t: TimestampMs, shared: &Shared) -> Option<Histogram> {
        let is_new =
            |w: &&Arc<Window>| w.has_histograms() && w.serial > shared.known.upto && w.has(t);
        let mut windows = self.windows.iter().filter(is_new);
        // A chunk that cannot be read gives nothing to compare with.
        windows.find_map(|window| window.sealed(slot)?.find_histogram(t).ok()?)
    }

    /// Whether a member has a float at an instant.
    fn has_float(&self, (slot, series): (u32, SeriesRef), t: TimestampMs, shared: &Shared) -> bool {
        if t > self.last_t {
            return false;
        }
        let Some(member) = self.member(slot) else { return false };
        let live_tick = self.live.times.binary_search(&t).ok();
        let in_live = |tick| self.live.row_value(slot, tick).or_else(|| member.live.get(tick));
        let in_late = || {
            let tick = self.late.iter().position(|tick| *tick == t)?;
            member.late.as_ref()?.get(tick)
        };
        let in_sealed = || {
            let is_new =
                |w: &&Arc<Window>| !w.has_histograms() && w.serial > shared.known.upto && w.has(t);
            let mut windows = self.windows.iter().filter(is_new);
            windows.find_map(|window| window.sealed(slot)?.find(t).ok()?)
        };
        live_tick
            .and_then(in_live)
            .or_else(in_late)
            .or_else(|| shared.known.get(series, t))
            .or_else(in_sealed)
            .is_some()
    }

    /// Takes a histogram of a member.
    pub(crate) fn push_histogram(
        &mut self,
        slot: u32,
        sample: &HistogramSample,
        options: &Options,
        shared: &mut Shared,
        counts: &mut Appended,
    ) {
        let t = sample.t_ms;
        let is_repeat = t <= self.histograms_last_t;
        // Of a stale marker nothing else is kept.
        let histogram = match sample.histogram.is_stale() {
            true => Arc::new(Histogram::stale()),
            false => Arc::clone(&sample.histogram),
        };
        let is_same = |there: &Histogram| *there == *histogram;
        let there = self
            .histograms
            .as_ref()
            .and_then(|open| open.get(slot, t))
            .map(|there| is_same(there))
            .or_else(|| shared.known.histogram(sample.series, t).map(is_same))
            .or_else(|| {
                let sealed = is_repeat.then(|| self.sealed_histogram(slot, t, shared)).flatten();
                sealed.as_ref().map(is_same)
            });
        match there {
            Some(true) => return counts.duplicate += 1,
            Some(false) => return counts.conflicting += 1,
            None if self.has_float((slot, sample.series), t, shared) => {
                return counts.conflicting += 1;
            }
            None => {}
        }
        if self.histograms.as_ref().is_some_and(|open| open.is_full_for(t, options)) {
            self.seal_histograms(options, shared);
        }
        let open = self.histograms.get_or_insert_default();
        shared.open_cells += open.insert(slot, t, histogram);
        self.histograms_last_t = self.histograms_last_t.max(t);
        counts.stored += 1;
    }

    /// How many numbers of histograms it has open.
    pub(crate) fn open_cells(&self) -> usize {
        self.histograms.as_ref().map_or(0, |open| open.cells())
    }

    pub(crate) fn seal_histograms(&mut self, options: &Options, shared: &mut Shared) {
        let Some(open) = self.histograms.take() else { return };
        shared.open_cells = shared.open_cells.saturating_sub(open.cells());
        for part in open.encode(options) {
            self.add_window(part.builder, &part.times, shared);
        }
    }

    /// The open histograms of a member in a range, in order of time.
    pub(crate) fn open_histograms(
        &self,
        slot: u32,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Vec<(TimestampMs, Arc<Histogram>)> {
        let Some(open) = &self.histograms else { return Vec::new() };
        open.range(slot, start, end).map(|(t, histogram)| (t, Arc::clone(histogram))).collect()
    }

    /// Whether a member has an open histogram in a range, or a chunk of them in a window that overlaps
    /// it.
    pub(crate) fn has_histograms_near(
        &self,
        slot: u32,
        start: TimestampMs,
        end: TimestampMs,
    ) -> bool {
        if !self.has_histograms() {
            return false;
        }
        let mut windows = self.windows.iter().filter(|w| w.has_histograms());
        windows.any(|w| w.overlaps(start, end) && w.slots().has(slot))
            || self
                .histograms
                .as_ref()
                .is_some_and(|open| open.range(slot, start, end).next().is_some())
    }

    /// Whether it has or had histograms.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms_last_t != TimestampMs::MIN
    }

    /// The newest instant that one of its samples may have.
    pub(crate) fn newest_t(&self) -> TimestampMs {
        self.last_t.max(self.histograms_last_t)
    }
}
