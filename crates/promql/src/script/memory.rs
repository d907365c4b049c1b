//! A storage of what scripts load.

use std::collections::BTreeMap;
use std::sync::Arc;

use stoa_model::{Label, Labels, METRIC_NAME, TimestampMs, is_stale};

use super::command::{Load, parse_load};
use super::series::{Item, Sequence};
use crate::histogram::{CUSTOM_SCHEMA, Histogram};
use crate::number::index;
use crate::storage::{HistogramSeries, Select, Series, StartSeries, Storage, StorageError};

/// Series in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    series: BTreeMap<Labels, BTreeMap<TimestampMs, Sample>>,
    starts: BTreeMap<Labels, BTreeMap<TimestampMs, TimestampMs>>,
}

#[derive(Clone, Debug)]
enum Sample {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl Memory {
    /// What one `load` command loads: its line, and one line per series.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the text.
    pub fn load(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.next().ok_or("expected a load command")?;
        let body: Vec<&str> = lines.collect();
        let mut memory = Self::default();
        memory.add(&parse_load(line, &body)?);
        Ok(memory)
    }

    /// How many series and samples there are.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.series.len(), self.series.values().map(BTreeMap::len).sum())
    }

    pub(super) fn add(&mut self, load: &Load) {
        // A series that stands twice in one command is the later one.
        let latest: BTreeMap<&Labels, &Sequence> =
            load.series.iter().map(|series| (&series.labels, &series.items)).collect();
        self.add_starts(load);
        for (labels, items) in &latest {
            let samples = self.series.entry(Labels::clone(labels)).or_default();
            for (at, item) in (0..).zip(items.iter()) {
                let sample = match item {
                    Item::Gap => continue,
                    Item::Float(v) => Sample::Float(*v),
                    Item::Histogram(item) => Sample::Histogram(Arc::clone(&item.histogram)),
                };
                samples.insert(load.step_ms * at, sample);
            }
            store_hints(samples);
        }
        if load.with_nhcb {
            for (labels, converted) in native(&latest) {
                let samples = self.series.entry(labels).or_default();
                for (at, histogram) in converted {
                    samples.insert(load.step_ms * at, Sample::Histogram(Arc::new(histogram)));
                }
                store_hints(samples);
            }
        }
    }

    fn add_starts(&mut self, load: &Load) {
        for series in &load.series {
            let known = series.starts.iter().any(Option::is_some);
            if !known && !self.starts.contains_key(&series.labels) {
                continue;
            }
            let starts = self.starts.entry(series.labels.clone()).or_default();
            for (at, item) in (0..).zip(&series.items) {
                let (t, offset) =
                    (load.step_ms * at, series.starts.get(index(at)).copied().flatten());
                match (item, offset) {
                    (Item::Gap, _) => {}
                    (_, Some(offset)) => {
                        starts.insert(t, t.saturating_add(offset));
                    }
                    (_, None) => {
                        starts.remove(&t);
                    }
                }
            }
        }
    }

    fn selected<'a>(
        &'a self,
        select: &'a Select<'_>,
    ) -> impl Iterator<Item = (&'a Labels, Vec<(TimestampMs, &'a Sample)>)> {
        self.series.iter().filter_map(|(labels, samples)| {
            let matches = select
                .matchers
                .iter()
                .all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")));
            if !matches || select.start_ms > select.end_ms {
                return None;
            }
            let range = samples.range(select.start_ms..=select.end_ms);
            Some((labels, range.map(|(t, sample)| (*t, sample)).collect()))
        })
    }
}

impl Storage for Memory {
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError> {
        let mut all = Vec::new();
        let mut samples_left = select.samples_max;
        for (labels, samples) in self.selected(select) {
            let floats = samples.iter().filter_map(|(t, sample)| match sample {
                Sample::Float(v) => Some((*t, *v)),
                Sample::Histogram(_) => None,
            });
            let (timestamps, values): (Vec<TimestampMs>, Vec<f64>) = floats.unzip();
            if timestamps.is_empty() {
                continue;
            }
            samples_left = samples_left
                .checked_sub(timestamps.len())
                .ok_or(StorageError::TooManySamples { max: select.samples_max })?;
            if all.len() >= select.series_max {
                return Err(StorageError::TooManySeries { max: select.series_max });
            }
            let timestamps = timestamps.into();
            all.push(Series { labels: labels.clone(), timestamps, values });
        }
        Ok(all)
    }

    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let mut all = Vec::new();
        for (labels, samples) in self.selected(select) {
            let samples: Vec<(TimestampMs, Arc<Histogram>)> = samples
                .iter()
                .filter_map(|(t, sample)| match sample {
                    Sample::Float(_) => None,
                    Sample::Histogram(histogram) => Some((*t, Arc::clone(histogram))),
                })
                .collect();
            if !samples.is_empty() {
                all.push(HistogramSeries { labels: labels.clone(), samples });
            }
        }
        Ok(all)
    }

    fn select_starts(&self, select: &Select<'_>) -> Result<Vec<StartSeries>, StorageError> {
        let mut all = Vec::new();
        for (labels, _) in self.selected(select) {
            let Some(starts) = self.starts.get(labels) else { continue };
            let range = starts.range(select.start_ms..=select.end_ms);
            let starts: Vec<_> = range.map(|(t, start)| (*t, *start)).collect();
            if !starts.is_empty() {
                all.push(StartSeries { labels: labels.clone(), starts });
            }
        }
        Ok(all)
    }
}

/// Gives histograms the hints they have when read back from chunks.
fn store_hints(samples: &mut BTreeMap<TimestampMs, Sample>) {
    let mut before: Option<Arc<Histogram>> = None;
    for sample in samples.values_mut() {
        let Sample::Histogram(histogram) = sample else {
            before = None;
            continue;
        };
        let stored = histogram.hint_after(before.as_deref());
        before = Some(Arc::clone(histogram));
        if histogram.reset_hint != stored {
            *histogram = Arc::new(Histogram { reset_hint: stored, ..Histogram::clone(histogram) });
        }
    }
}

/// The parts of one classic histogram at one time.
#[derive(Default)]
struct Parts {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
}

/// Native histograms of the classic ones among some series.
fn native(series: &BTreeMap<&Labels, &Sequence>) -> Vec<(Labels, Vec<(i64, Histogram)>)> {
    let mut parts: BTreeMap<Labels, BTreeMap<i64, Parts>> = BTreeMap::new();
    for (labels, items) in series {
        let name = labels.metric_name().unwrap_or("");
        let (base, bound) = if let Some(base) = name.strip_suffix("_bucket") {
            let Some(Ok(bound)) = labels.get("le").map(str::parse::<f64>) else { continue };
            (base, Some(bound))
        } else if let Some(base) = name.strip_suffix("_count").or(name.strip_suffix("_sum")) {
            (base, None)
        } else {
            continue;
        };
        let key =
            labels.retain(|label: &Label| label.name.as_ref() != "le").with(METRIC_NAME, base);
        let times = parts.entry(key).or_default();
        for (at, item) in (0..).zip(items.iter()) {
            let Item::Float(v) = item else { continue };
            if is_stale(*v) {
                continue;
            }
            let parts = times.entry(at).or_default();
            match bound {
                Some(bound) => parts.buckets.push((bound, *v)),
                None if name.ends_with("_count") => parts.count = Some(*v),
                None => parts.sum = Some(*v),
            }
        }
    }
    parts
        .into_iter()
        .map(|(labels, times)| {
            let converted = times
                .into_iter()
                .filter_map(|(at, parts)| Some((at, parts.histogram()?)))
                .collect::<Vec<_>>();
            (labels, converted)
        })
        .filter(|(_, converted)| !converted.is_empty())
        .collect()
}

impl Parts {
    /// None when there are no buckets, or they do not ascend.
    fn histogram(mut self) -> Option<Histogram> {
        if self.buckets.is_empty() {
            return None;
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let highest = self.buckets.last()?.1;
        let count = self.count.unwrap_or(highest);
        if self.buckets.last()?.0 != f64::INFINITY {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let mut positive = Vec::new();
        for (at, (_, cumulative)) in (0..).zip(&self.buckets) {
            if *cumulative < before {
                return None;
            }
            positive.push((at, cumulative - before));
            before = *cumulative;
        }
        let bounds = self.buckets.iter().map(|(bound, _)| *bound);
        let custom_bounds =
            bounds.take(index(i64::try_from(self.buckets.len()).ok()? - 1)).collect();
        let histogram = Histogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum.unwrap_or(0.0),
            positive,
            custom_bounds,
            ..Histogram::default()
        };
        Some(histogram.compact())
    }
}
