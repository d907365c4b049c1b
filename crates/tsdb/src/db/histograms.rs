//! Reading native histograms, and floats beside them.
//!
//! Within a group an instant of a series is a float or a histogram. Two groups or two places may
//! disagree, and then one of the two wins as between two floats (`super::gather`): a series that has
//! both kinds near the range is read once more, both kinds together. All others do not pay for that.

use std::collections::HashSet;

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, Matcher, TimestampMs};

use super::Db;
use super::gather::{Kinds, Wanted, overlapping};
use crate::SelectError;
use crate::head::{FoundHistograms, TimesCache};
use crate::select::{
    Either, Gather, HistogramData, Samples, SeriesData, Value, Weighed, series_of,
};

/// A series with samples of both kinds.
type Mixed = (Labels, Vec<(TimestampMs, Either)>);

impl Db {
    /// The series all matchers hold for that have a native histogram from `start_ms` to `end_ms`,
    /// both included, with those; in order of labels. At one instant a series has a histogram here
    /// or a float in [`Self::select`]. A histogram counts as so many samples as it takes 16 bytes.
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
        let never = || false;
        self.select_histograms_until(matchers, start_ms, end_ms, series_max, samples_max, &never)
    }

    /// The same, and ended early once `stop` says so, which is asked for each series.
    ///
    /// # Errors
    /// As [`Self::select_histograms`]; [`SelectError::Stopped`].
    pub fn select_histograms_until(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        samples_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<HistogramData>, SelectError> {
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, samples_max, stop);
        self.selected_histograms(&wanted)
    }

    pub(super) fn selected_histograms(
        &self,
        wanted: &Wanted<'_>,
    ) -> Result<Vec<HistogramData>, SelectError> {
        let Wanted { matchers, start_ms, end_ms, series_max, samples_max, .. } = *wanted;
        let (mut found, blocks) = {
            let state = self.state();
            let found = state.head.select_histograms(matchers, start_ms, end_ms);
            (wanted.bounded(found)?, overlapping(&state, start_ms, end_ms))
        };
        found.sort_by_key(|series| series.group);
        let mut gather = Gather::<Weighed<Histogram>>::new(series_max, samples_max);
        self.each_in_blocks(&blocks, wanted, Kinds::Histograms, |query, series, _| {
            gather.add(series.labels, |samples| {
                self.counters.damaged_chunks(query.histograms(&series.place, samples));
            })
        })?;
        let mut times = TimesCache::default();
        for mut series in found {
            wanted.go_on()?;
            series.wanted_beside(wanted);
            gather.add(series.labels.clone(), |samples| {
                self.head_histograms(&series, wanted, &mut times, samples);
            })?;
        }
        if gather.is_empty() {
            return Ok(Vec::new());
        }
        let mut both = HashSet::new();
        let blocks = {
            let state = self.state();
            let floats = state.head.labels_of_floats(matchers, start_ms, end_ms);
            both.extend(floats.filter(|labels| gather.has(labels)));
            overlapping(&state, start_ms, end_ms)
        };
        self.each_in_blocks(&blocks, wanted, Kinds::Floats, |_, series, _| {
            both.extend(Some(series.labels).filter(|labels| gather.has(labels)));
            Ok(())
        })?;
        both.iter().for_each(|labels| gather.forget(labels));
        let data = |(labels, samples)| HistogramData { labels, samples };
        if both.is_empty() {
            return Ok(gather.finish_pairs().map(data).collect());
        }
        let again = Wanted { counted: Some(Kinds::Histograms), newest: false, ..*wanted };
        let mixed = self.select_mixed(&again, &both)?.filter_map(histograms_of);
        let mut series: Vec<_> = gather.finish_pairs().map(data).chain(mixed).collect();
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(series)
    }

    /// Series of some labels with floats and histograms, of one instant the one that wins.
    pub(super) fn select_mixed(
        &self,
        wanted: &Wanted<'_>,
        only: &HashSet<Labels>,
    ) -> Result<impl Iterator<Item = Mixed> + use<>, SelectError> {
        let Wanted { matchers, start_ms, end_ms, .. } = *wanted;
        let (mut floats, mut histograms, blocks) = {
            let state = self.state();
            let floats = state.head.select(matchers, start_ms, end_ms);
            let floats: Vec<_> = floats.filter(|series| only.contains(&series.labels)).collect();
            let histograms = state.head.select_histograms(matchers, start_ms, end_ms);
            let histograms = histograms.filter(|series| only.contains(&series.labels));
            (floats, histograms.collect::<Vec<_>>(), overlapping(&state, start_ms, end_ms))
        };
        floats.sort_by_key(|series| series.group);
        histograms.sort_by_key(|series| series.group);
        let mut gather = Gather::<Weighed<Either>>::new(wanted.series_max, wanted.samples_max);
        self.each_in_blocks(&blocks, wanted, Kinds::Both, |query, series, are_histograms| {
            if !only.contains(&series.labels) {
                return Ok(());
            }
            gather.add(series.labels, |samples| {
                if are_histograms {
                    let damaged = query.histograms(&series.place, samples);
                    wanted.count(self, Kinds::Histograms, damaged);
                } else {
                    let mut read = Samples::default();
                    let damaged = query.samples(&series.place, &mut read);
                    wanted.count(self, Kinds::Floats, damaged);
                    samples.extend(read.pairs().map(|(t, v)| (t, Either::Float(v))));
                }
            })
        })?;
        let mut times = TimesCache::default();
        let mut histograms = histograms.into_iter().peekable();
        let add = |gather: &mut Gather<_>, times: &mut _, series: FoundHistograms| {
            gather.add(series.labels.clone(), |samples| {
                self.head_histograms(&series, wanted, times, samples);
            })
        };
        for series in floats {
            wanted.go_on()?;
            while let Some(before) = histograms.next_if(|before| before.group < series.group) {
                add(&mut gather, &mut times, before)?;
            }
            gather.add(series.labels, |samples| {
                let mut read = Samples::default();
                self.head_floats(&series.sealed, wanted, &mut times, &mut read);
                read.append(&series.open);
                samples.extend(read.pairs().map(|(t, v)| (t, Either::Float(v))));
            })?;
        }
        for series in histograms {
            wanted.go_on()?;
            add(&mut gather, &mut times, series)?;
        }
        Ok(gather.finish_pairs())
    }

    /// Appends what the head has of a series' histograms, and no more than are taken.
    pub(super) fn head_histograms<V: Value>(
        &self,
        series: &FoundHistograms,
        wanted: &Wanted<'_>,
        times: &mut TimesCache,
        out: &mut Weighed<V>,
    ) {
        let (start, end) = (wanted.start_ms, wanted.end_ms);
        for sealed in &series.sealed {
            if out.is_over() {
                return;
            }
            let mut read = Vec::new();
            match sealed.decode_histograms(start, end, times, &mut read) {
                Ok(()) => out.extend(read.into_iter().map(|(t, found)| (t, V::from(found)))),
                Err(_unread) => {
                    wanted.count(self, Kinds::Histograms, 1);
                    self.missed_in_head(&sealed.window);
                }
            }
        }
        let open = series.open.iter();
        out.extend(open.map(|(t, open)| (*t, V::from(Histogram::clone(open)))));
    }
}

impl FoundHistograms {
    /// Leaves what is wanted beside the newest that is open.
    fn wanted_beside(&mut self, wanted: &Wanted<'_>) {
        let newest = self.open.last().map(|(t, _)| *t).filter(|_| wanted.newest);
        if let Some(newest) = newest {
            // Of one instant the one that was sealed counts.
            self.sealed.retain(|sealed| sealed.window.last_t() >= newest);
            self.open.drain(..self.open.len().saturating_sub(1));
        }
    }
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
