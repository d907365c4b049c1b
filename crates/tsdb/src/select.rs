//! One answer from many places: the parts of each series put in order, each instant once.
//!
//! Samples are columns: values of their own, timestamps that all series of a group share as long as
//! they were read at the same times. Where two places hold the same instant, the one stored first
//! wins: blocks in the order they were written, then the head.

mod weighed;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, TimestampMs};

pub(crate) use self::weighed::{Either, Value, Weighed};
use crate::SelectError;

/// One series in the range asked for. Both columns have one length, at least 1; timestamps ascend
/// strictly. Stale markers are among the values.
#[derive(Clone, Debug)]
pub struct SeriesData {
    /// The series' labels.
    pub labels: Labels,
    /// When, milliseconds since the epoch. Series that were read at the same times may share them.
    pub timestamps: Arc<[TimestampMs]>,
    /// What.
    pub values: Vec<f64>,
}

/// One series of native histograms in the range asked for, at least one; timestamps ascend strictly.
/// Stale markers are among them.
#[derive(Clone, Debug)]
pub struct HistogramData {
    /// The series' labels.
    pub labels: Labels,
    /// When and what.
    pub samples: Vec<(TimestampMs, Histogram)>,
}

impl HistogramData {
    /// As how many samples it counts: one for each 16 bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let each = self.samples.iter();
        each.map(|(_, histogram)| crate::batch::histogram_weight(histogram).div_ceil(2)).sum()
    }
}

/// A series of samples in order of time.
pub(crate) fn series_of(labels: Labels, samples: Vec<(TimestampMs, f64)>) -> SeriesData {
    let timestamps = samples.iter().map(|(t, _)| *t).collect();
    SeriesData { labels, timestamps, values: samples.into_iter().map(|(_, v)| v).collect() }
}

/// The samples of one series as they are found, part after part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// Whose timestamps, one after the other, are those of the values.
    runs: Vec<Run>,
    values: Vec<f64>,
}

/// A part of some timestamps. Those of a run ascend.
#[derive(Clone, Debug)]
struct Run {
    times: Arc<[TimestampMs]>,
    part: Range<usize>,
}

/// A place between two parts of [`Samples`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    runs: usize,
    values: usize,
}

/// Where in ascending timestamps a stretch of time lies, both ends included.
pub(crate) fn within(times: &[TimestampMs], start: TimestampMs, end: TimestampMs) -> Range<usize> {
    let from = times.partition_point(|t| *t < start);
    from..times.partition_point(|t| *t <= end).max(from)
}

impl Samples {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The time of the sample that was appended last.
    pub(crate) fn last_t(&self) -> Option<TimestampMs> {
        self.runs.last().and_then(|run| run.times().last()).copied()
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { runs: self.runs.len(), values: self.values.len() }
    }

    /// Appends values at `part` of `times`, which ascend: of those that `decode` appends all but
    /// the first `skip` and what is over. After an error nothing was appended.
    pub(crate) fn extend<E>(
        &mut self,
        times: &Arc<[TimestampMs]>,
        part: Range<usize>,
        skip: usize,
        decode: impl FnOnce(&mut Vec<f64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.values.len();
        if let Err(error) = decode(&mut self.values) {
            self.values.truncate(before);
            return Err(error);
        }
        self.values.truncate(before + skip + part.len());
        let skipped = (before + skip).min(self.values.len());
        self.values.drain(before..skipped);
        let added = self.values.len() - before;
        self.push_run(Run { times: Arc::clone(times), part: part.start..part.start + added });
        Ok(())
    }

    /// Appends samples in order of time.
    pub(crate) fn extend_own(&mut self, samples: impl Iterator<Item = (TimestampMs, f64)>) {
        let (times, values): (Vec<TimestampMs>, Vec<f64>) = samples.unzip();
        let part = 0..times.len();
        self.values.extend_from_slice(&values);
        self.push_run(Run { times: times.into(), part });
    }

    /// Appends another's.
    pub(crate) fn append(&mut self, other: &Self) {
        self.values.extend_from_slice(&other.values);
        other.runs.iter().for_each(|run| self.push_run(run.clone()));
    }

    fn push_run(&mut self, run: Run) {
        if run.part.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last)
                if Arc::ptr_eq(&last.times, &run.times) && last.part.end == run.part.start =>
            {
                last.part.end = run.part.end;
            }
            _ => self.runs.push(run),
        }
    }

    /// Of the samples appended since a mark, leaves those at times that `keep` says yes to.
    pub(crate) fn retain(&mut self, since: Mark, keep: impl Fn(TimestampMs) -> bool) {
        let runs = self.runs.split_off(since.runs.min(self.runs.len()));
        let values = self.values.split_off(since.values.min(self.values.len()));
        let mut values = values.as_slice();
        for run in runs {
            let times = run.times();
            let (own, rest) = values.split_at_checked(times.len()).unwrap_or((values, &[]));
            values = rest;
            if times.iter().all(|t| keep(*t)) {
                self.values.extend_from_slice(own);
                self.push_run(run);
            } else {
                let own = times.iter().copied().zip(own.iter().copied());
                self.extend_own(own.filter(|(t, _)| keep(*t)));
            }
        }
    }

    /// The samples as they were appended.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (TimestampMs, f64)> {
        self.runs.iter().flat_map(Run::times).copied().zip(self.values.iter().copied())
    }

    /// Whether every run begins after the one before it has ended.
    fn is_in_order(&self) -> bool {
        self.runs.is_sorted_by(|a, b| a.times().last() < b.times().first())
    }

    /// Both columns, in order of time. Of one instant the sample that was appended first is left.
    pub(crate) fn into_columns(self, whole: &mut WholeTimes) -> (Arc<[TimestampMs]>, Vec<f64>) {
        if self.is_in_order() {
            return (whole.of(&self.runs), self.values);
        }
        let times = self.runs.iter().flat_map(Run::times).copied();
        let mut samples: Vec<(TimestampMs, f64)> = times.zip(self.values).collect();
        samples.sort_by_key(|(t, _)| *t);
        samples.dedup_by_key(|(t, _)| *t);
        let times = samples.iter().map(|(t, _)| *t).collect();
        (times, samples.into_iter().map(|(_, v)| v).collect())
    }
}

impl Run {
    fn times(&self) -> &[TimestampMs] {
        self.times.get(self.part.clone()).unwrap_or_default()
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.times, &other.times) && self.part == other.part
    }
}

/// Timestamps put together of several runs, so that series of the same runs share those too. The
/// last few: what is remembered stays in memory.
#[derive(Debug, Default)]
pub(crate) struct WholeTimes {
    known: Vec<(Vec<Run>, Arc<[TimestampMs]>)>,
}

/// How many are remembered: series of a group come one after the other and have few kinds.
const WHOLE_TIMES_MAX: usize = 8;

impl WholeTimes {
    fn of(&mut self, runs: &[Run]) -> Arc<[TimestampMs]> {
        if let [run] = runs
            && run.part == (0..run.times.len())
        {
            return Arc::clone(&run.times);
        }
        let is_same = |known: &[Run]| {
            known.len() == runs.len() && known.iter().zip(runs).all(|(a, b)| a.is_same(b))
        };
        if let Some((_, times)) = self.known.iter().find(|(known, _)| is_same(known)) {
            return Arc::clone(times);
        }
        let mut times = Vec::with_capacity(runs.iter().map(|run| run.part.len()).sum());
        runs.iter().for_each(|run| times.extend_from_slice(run.times()));
        let times: Arc<[TimestampMs]> = times.into();
        if self.known.len() >= WHOLE_TIMES_MAX {
            self.known.remove(0);
        }
        self.known.push((runs.to_vec(), Arc::clone(&times)));
        times
    }
}

/// The samples of a series while they are gathered.
pub(crate) trait Part: Default {
    /// How much there is, in samples.
    fn weight(&self) -> usize;

    /// Takes no more than this much in all, and little of what is over.
    fn allow(&mut self, weight_max: usize);
}

impl Part for Samples {
    fn weight(&self) -> usize {
        self.len()
    }

    fn allow(&mut self, _weight_max: usize) {}
}

/// Collects the parts of series, and refuses to collect more than was asked for.
pub(crate) struct Gather<P = Samples> {
    series_max: usize,
    samples_max: usize,
    samples: usize,
    places: HashMap<Labels, usize>,
    parts: Vec<(Labels, P)>,
}

impl<P: Part> Gather<P> {
    pub(crate) fn new(series_max: usize, samples_max: usize) -> Self {
        Self { series_max, samples_max, samples: 0, places: HashMap::new(), parts: Vec::new() }
    }

    /// Whether there is anything of a series.
    pub(crate) fn has(&self, labels: &Labels) -> bool {
        self.places.contains_key(labels)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Forgets what there is of a series, and that it counted.
    pub(crate) fn forget(&mut self, labels: &Labels) {
        let place = self.places.get(labels).copied();
        if let Some((_, samples)) = place.and_then(|place| self.parts.get_mut(place)) {
            self.samples -= samples.weight();
            *samples = P::default();
        }
    }

    /// Adds samples to a series: `decode` appends them. Sources are added in the order in which
    /// they win.
    pub(crate) fn add(
        &mut self,
        labels: Labels,
        decode: impl FnOnce(&mut P),
    ) -> Result<(), SelectError> {
        let place = match self.places.get(&labels) {
            Some(place) => *place,
            None => {
                self.parts.push((labels.clone(), P::default()));
                self.places.insert(labels, self.parts.len() - 1);
                self.parts.len() - 1
            }
        };
        let Some((_, samples)) = self.parts.get_mut(place) else { return Ok(()) };
        let before = samples.weight();
        samples.allow(before + self.samples_max.saturating_sub(self.samples));
        decode(samples);
        self.samples += samples.weight() - before;
        if samples.weight() == 0 {
            // It turned out to have nothing in the range: it does not count.
            if let Some((labels, _)) = self.parts.pop() {
                self.places.remove(&labels);
            }
        }
        if self.parts.len() > self.series_max {
            return Err(SelectError::TooManySeries { max: self.series_max });
        }
        if self.samples > self.samples_max {
            return Err(SelectError::TooManySamples { max: self.samples_max });
        }
        Ok(())
    }
}

impl Gather {
    /// The series in order of their labels.
    pub(crate) fn finish(self) -> Vec<SeriesData> {
        // As they were found, so that those of one group come one after the other.
        let mut whole = WholeTimes::default();
        let parts = self.parts.into_iter().filter(|(_, samples)| !samples.is_empty());
        let series = parts.map(|(labels, samples)| {
            let (timestamps, values) = samples.into_columns(&mut whole);
            SeriesData { labels, timestamps, values }
        });
        let mut series: Vec<SeriesData> = series.collect();
        series.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        series
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::sync::Arc;

    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{Samples, WholeTimes, within};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn samples_are_a_map_where_the_first_stays(
            parts in proptest::collection::vec(
                (proptest::collection::btree_set(0i64..60, 0..20), any::<bool>()), 0..6),
            start in 0i64..60, length in 0i64..60, hidden in 0i64..60,
        ) {
            let (end, mut model) = (start + length, BTreeMap::new());
            let (mut samples, mut v) = (Samples::default(), 0.0);
            for (times, hides) in parts {
                let times: Arc<[i64]> = times.into_iter().collect();
                let mark = samples.mark();
                let part = within(&times, start, end);
                let values: Vec<f64> = times.iter().map(|_| { v += 1.0; v }).collect();
                let Ok(()) = samples.extend(&times, part.clone(), part.start, |out| {
                    out.extend_from_slice(&values);
                    Ok::<(), Infallible>(())
                });
                assert!(samples.extend(&times, part, 0, |out| {
                    out.push(0.0);
                    Err(())
                }).is_err());
                if hides {
                    samples.retain(mark, |t| t != hidden);
                }
                for (t, v) in times.iter().zip(values) {
                    if (start..=end).contains(t) && !(hides && *t == hidden) {
                        model.entry(*t).or_insert(v);
                    }
                }
            }
            let (times, values) = samples.into_columns(&mut WholeTimes::default());
            assert!(times.iter().eq(model.keys()));
            assert!(values.iter().eq(model.values()));
        }
    }

    #[test]
    fn series_of_the_same_parts_share_their_timestamps() {
        let parts: Vec<Arc<[i64]>> = vec![[1, 2].into(), [3, 4, 5].into()];
        let mut whole = WholeTimes::default();
        let mut read = || {
            let mut samples = Samples::default();
            for part in &parts {
                let own = |out: &mut Vec<f64>| {
                    out.resize(out.len() + part.len(), 0.0);
                    Ok::<(), Infallible>(())
                };
                let Ok(()) = samples.extend(part, 0..part.len(), 0, own);
            }
            samples.into_columns(&mut whole).0
        };
        let (a, b) = (read(), read());
        assert_eq!(*a, [1, 2, 3, 4, 5]);
        assert!(Arc::ptr_eq(&a, &b));
    }
}
