//! Reading native histograms, and floats beside them.
//!
//! Within the head and within a block an instant of a series is a float or a histogram. Two places may
//! disagree, and then the one stored first wins, as between two floats: where places overlap and there
//! are histograms, both kinds are gathered together. Where there are none, nobody pays for that.

use std::sync::Arc;

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, Matcher, TimestampMs};

use super::query::overlapping;
use super::{Db, State};
use crate::SelectError;
use crate::block::{Block, BlockQuery, BlockSeries};
use crate::head::{FoundHistograms, TimesCache};
use crate::select::{Either, Gather, HistogramData, Samples, SeriesData, series_of};

/// A series with samples of both kinds.
type Mixed = (Labels, Vec<(TimestampMs, Either)>);

impl Db {
    /// The series all matchers hold for that have a native histogram from `start_ms` to `end_ms`,
    /// both included, with those; in order of labels. At one instant a series has a histogram here
    /// or a float in [`Self::select`].
    ///
    /// # Errors
    /// As [`Self::select`].
    pub fn select_histograms(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
    ) -> Result<Vec<HistogramData>, SelectError> {
        let (found, blocks) = {
            let state = self.state();
            let blocks = overlapping(&state, start_ms, end_ms);
            if may_clash(&state, &blocks) {
                drop(state);
                let mixed =
                    self.select_mixed(matchers, start_ms, end_ms, series_max, samples_max)?;
                return Ok(mixed.filter_map(histograms_of).collect());
            }
            let found = state.head.select_histograms(matchers, start_ms, end_ms);
            (found.collect::<Vec<_>>(), blocks)
        };
        let mut gather = Gather::new(series_max, samples_max);
        for block in blocks.iter().filter(|block| block.has_histograms() != Some(false)) {
            let Some(index) = self.index(block) else { continue };
            if !index.has_any_histograms() {
                continue;
            }
            let mut query = BlockQuery::new(block, &index, start_ms, end_ms);
            let Some(mut numbers) = self.whole(block, query.find(matchers)) else { continue };
            numbers.retain(|number| index.has_histograms(*number));
            for number in numbers {
                let Some(series) = self.whole(block, query.series(number)) else { break };
                let Some(BlockSeries { labels, place }) = series else { continue };
                gather.add(labels, |samples| {
                    self.counters.damaged_chunks(query.histograms(&place, samples));
                })?;
            }
        }
        let mut times = TimesCache::default();
        for series in found {
            gather.add(series.labels.clone(), |samples| {
                self.head_histograms(&series, (start_ms, end_ms), &mut times, samples);
            })?;
        }
        let data = |(labels, samples)| HistogramData { labels, samples };
        Ok(gather.finish_pairs().map(data).collect())
    }

    /// Series with floats and histograms, of one instant the one stored first.
    pub(super) fn select_mixed(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
    ) -> Result<impl Iterator<Item = Mixed> + use<>, SelectError> {
        let (floats, histograms, blocks) = {
            let state = self.state();
            let floats = state.head.select(matchers, start_ms, end_ms);
            let histograms = state.head.select_histograms(matchers, start_ms, end_ms);
            let (floats, histograms) = (floats.collect::<Vec<_>>(), histograms.collect::<Vec<_>>());
            (floats, histograms, overlapping(&state, start_ms, end_ms))
        };
        let mut gather: Gather<Vec<(TimestampMs, Either)>> = Gather::new(series_max, samples_max);
        for block in &blocks {
            let Some(index) = self.index(block) else { continue };
            let mut query = BlockQuery::new(block, &index, start_ms, end_ms);
            let Some(numbers) = self.whole(block, query.find(matchers)) else { continue };
            for number in numbers {
                let Some(series) = self.whole(block, query.series(number)) else { break };
                let Some(BlockSeries { labels, place }) = series else { continue };
                gather.add(labels, |samples| {
                    let damaged = if index.has_histograms(number) {
                        let mut read = Vec::new();
                        let damaged = query.histograms(&place, &mut read);
                        samples.extend(read.into_iter().map(histogram));
                        damaged
                    } else {
                        let mut read = Samples::default();
                        let damaged = query.samples(&place, &mut read);
                        samples.extend(read.pairs().map(|(t, v)| (t, Either::Float(v))));
                        damaged
                    };
                    self.counters.damaged_chunks(damaged);
                })?;
            }
        }
        let mut times = TimesCache::default();
        for series in floats {
            gather.add(series.labels, |samples| {
                let mut read = Samples::default();
                for sealed in &series.sealed {
                    if sealed.decode(start_ms, end_ms, &mut times, &mut read).is_err() {
                        self.counters.damaged_chunks(1);
                    }
                }
                read.append(&series.open);
                samples.extend(read.pairs().map(|(t, v)| (t, Either::Float(v))));
            })?;
        }
        for series in histograms {
            gather.add(series.labels.clone(), |samples| {
                let mut read = Vec::new();
                self.head_histograms(&series, (start_ms, end_ms), &mut times, &mut read);
                samples.extend(read.into_iter().map(histogram));
            })?;
        }
        Ok(gather.finish_pairs())
    }

    /// Appends what the head has of a series' histograms.
    fn head_histograms(
        &self,
        series: &FoundHistograms,
        (start, end): (TimestampMs, TimestampMs),
        times: &mut TimesCache,
        out: &mut Vec<(TimestampMs, Histogram)>,
    ) {
        for sealed in &series.sealed {
            let before = out.len();
            if sealed.decode_histograms(start, end, times, out).is_err() {
                out.truncate(before);
                self.counters.damaged_chunks(1);
            }
        }
        out.extend(series.open.iter().map(|(t, open)| (*t, Histogram::clone(open))));
    }
}

/// Whether one instant of a series may be a float in one place and a histogram in another: there are
/// histograms, or blocks not known to have none, and places overlap.
pub(super) fn may_clash(state: &State, blocks: &[Arc<Block>]) -> bool {
    let may_have = |block: &Arc<Block>| block.has_histograms() != Some(false);
    if blocks.is_empty() || !(state.head.has_histograms() || blocks.iter().any(may_have)) {
        return false;
    }
    let spans = blocks.iter().map(|block| (block.meta.first_t, block.meta.last_t));
    let head = state.head.first_t().map(|first| (first, TimestampMs::MAX));
    let mut spans: Vec<_> = spans.chain(head).collect();
    spans.sort_unstable();
    let mut end = None;
    spans.into_iter().any(|(first, last)| {
        let overlaps = end.is_some_and(|end| first <= end);
        end = end.max(Some(last));
        overlaps
    })
}

fn histogram((t, histogram): (TimestampMs, Histogram)) -> (TimestampMs, Either) {
    (t, Either::Histogram(Box::new(histogram)))
}

/// The floats of a series, if it has any.
pub(super) fn floats_of((labels, samples): Mixed) -> Option<SeriesData> {
    let float = |(t, sample)| match sample {
        Either::Float(v) => Some((t, v)),
        Either::Histogram(_) => None,
    };
    let floats: Vec<(TimestampMs, f64)> = samples.into_iter().filter_map(float).collect();
    (!floats.is_empty()).then(|| series_of(labels, floats))
}

fn histograms_of((labels, samples): Mixed) -> Option<HistogramData> {
    let histogram = |(t, sample)| match sample {
        Either::Float(_) => None,
        Either::Histogram(histogram) => Some((t, *histogram)),
    };
    let samples: Vec<(TimestampMs, Histogram)> =
        samples.into_iter().filter_map(histogram).collect();
    (!samples.is_empty()).then_some(HistogramData { labels, samples })
}
