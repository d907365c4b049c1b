//! Which samples of a batch sealed windows have already, found before the head is locked for writing.
//!
//! A sender that comes back repeats rows of windows that were sealed long ago and whose chunks are in a
//! file. What has to be looked up is collected under the lock; each window is read and each chunk
//! decoded once per batch, with no lock held: a slow disk keeps neither queries nor other senders.
//! What is found goes by series and not by slot, which may be another series' by the time it is used.
//! Memory: a window, and an entry per sample of the batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::window::{TimesCache, Window};
use crate::SeriesRef;
use crate::select::{Samples, WholeTimes};

/// A window of which at least one chunk in so many is wanted is read whole.
const WHOLE_FROM: usize = 8;

/// What is to be looked up.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// The number of the last window there is.
    pub(crate) upto: u64,
    /// Those that may hold something.
    pub(crate) windows: Vec<Arc<Window>>,
    /// Of each slot its series and the instants.
    pub(crate) wanted: BTreeMap<u32, (SeriesRef, Vec<TimestampMs>)>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The number of the last window that was looked at.
    pub(crate) upto: u64,
    values: HashMap<(SeriesRef, TimestampMs), f64>,
    histograms: HashMap<(SeriesRef, TimestampMs), Histogram>,
}

impl Known {
    pub(crate) fn get(&self, series: SeriesRef, t: TimestampMs) -> Option<f64> {
        self.values.get(&(series, t)).copied()
    }

    pub(crate) fn histogram(&self, series: SeriesRef, t: TimestampMs) -> Option<&Histogram> {
        self.histograms.get(&(series, t))
    }
}

impl Repeats {
    /// Reads it. A chunk that cannot be read gives nothing to compare with.
    pub(crate) fn read(&self) -> Known {
        let all = self.wanted.values().flat_map(|(_, instants)| instants);
        let instants: BTreeSet<TimestampMs> = all.copied().collect();
        let mut known = Known { upto: self.upto, ..Known::default() };
        for window in &self.windows {
            let ticks = window.times();
            let mut hit = ticks.iter().filter(|t| instants.contains(*t));
            let Some(first) = hit.next().copied() else { continue };
            let last = hit.next_back().copied().unwrap_or(first);
            let is_whole = self.wanted.len() >= window.lens().len() / WHOLE_FROM;
            let mut cache =
                if is_whole { TimesCache::with_chunks() } else { TimesCache::default() };
            let mut whole = WholeTimes::default();
            let mut histograms = Vec::new();
            for (slot, (series, wanted)) in &self.wanted {
                if !wanted.iter().any(|t| first <= *t && *t <= last) {
                    continue;
                }
                let Some(sealed) = window.sealed(*slot) else { continue };
                if window.has_histograms() {
                    histograms.clear();
                    let read = sealed.decode_histograms(first, last, &mut cache, &mut histograms);
                    if read.is_ok() {
                        let found = histograms.drain(..).filter(|(t, _)| wanted.contains(t));
                        known.histograms.extend(found.map(|(t, found)| ((*series, t), found)));
                    }
                    continue;
                }
                let mut samples = Samples::default();
                if sealed.decode(first, last, &mut cache, &mut samples).is_err() {
                    continue;
                }
                let (times, values) = samples.into_columns(&mut whole);
                for t in wanted {
                    let at = times.binary_search(t).ok();
                    if let Some(v) = at.and_then(|at| values.get(at)) {
                        known.values.entry((*series, *t)).or_insert(*v);
                    }
                }
            }
        }
        known
    }
}
