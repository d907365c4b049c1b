//! Native histograms of a bulk: columns of their own, compressed as those of floats are.
//!
//! Memory: [`OPEN_CELLS_MAX`] numbers in open columns.

use std::collections::HashMap;

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::{Bulk, BulkError, BulkSeries};
use crate::batch::{HISTOGRAM_CELLS, HISTOGRAM_NUMBERS_MAX, histogram_cells};
use crate::chunk::{Effort, encode_histograms, encode_times};

/// Numbers of histograms in open columns together, and what each takes itself: 64 MiB.
const OPEN_CELLS_MAX: usize = 8 << 20;

/// The open columns.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    columns: HashMap<u32, Column>,
    cells: usize,
}

/// The histograms of one series and span that are not compressed yet: of as many numbers as one may
/// have, so that their chunk is not too long.
#[derive(Debug, Default)]
struct Column {
    start: TimestampMs,
    samples: Vec<(TimestampMs, Histogram)>,
    cells: usize,
}

impl Bulk {
    /// Takes a native histogram, in whatever order they come; one out of the range that is kept is
    /// counted and left out. One that is not valid, or of more than
    /// [`HISTOGRAM_NUMBERS_MAX`] numbers, is not taken: false.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_histogram(
        &mut self,
        series: BulkSeries,
        t: TimestampMs,
        histogram: Histogram,
    ) -> Result<bool, BulkError> {
        let numbers = histogram_cells(&histogram);
        if numbers > HISTOGRAM_NUMBERS_MAX || histogram.validate().is_err() {
            return Ok(false);
        }
        let cells = numbers + HISTOGRAM_CELLS;
        if !self.is_kept(t) {
            return Ok(true);
        }
        let start = t.div_euclid(self.span_ms).saturating_mul(self.span_ms);
        let is_due = self.histograms.columns.get(&series.0).is_some_and(|column| {
            column.start != start || column.cells + cells > HISTOGRAM_NUMBERS_MAX
        });
        if is_due {
            self.seal_histograms(series.0);
        }
        let column = self.histograms.columns.entry(series.0).or_default();
        column.start = start;
        column.cells += cells;
        column.samples.push((t, histogram));
        self.histograms.cells += cells;
        self.count(t);
        if self.histograms.cells >= OPEN_CELLS_MAX {
            self.seal_all_histograms();
        }
        if self.held_bytes >= self.held_bytes_max {
            self.spill()?;
        }
        Ok(true)
    }

    pub(super) fn seal_all_histograms(&mut self) {
        let open: Vec<u32> = self.histograms.columns.keys().copied().collect();
        open.into_iter().for_each(|number| self.seal_histograms(number));
    }

    fn seal_histograms(&mut self, number: u32) {
        let Some(Column { start, mut samples, cells }) = self.histograms.columns.remove(&number)
        else {
            return;
        };
        self.histograms.cells -= cells;
        if !samples.is_sorted_by(|(a, _), (b, _)| a < b) {
            samples.sort_by_key(|(t, _)| *t);
            samples.dedup_by_key(|(t, _)| *t);
        }
        let times: Vec<TimestampMs> = samples.iter().map(|(t, _)| *t).collect();
        let histograms: Vec<&Histogram> = samples.iter().map(|(_, histogram)| histogram).collect();
        self.times.clear();
        self.values.clear();
        encode_times(&times, &mut self.times);
        // They are valid and few enough: they have this form.
        let _encoded = encode_histograms(&histograms, Effort::Fresh, &mut self.values);
        self.hold(start, number, times.len());
    }
}
