//! One answer from many places: the parts of each series put in order, each instant once.
//!
//! Where two places hold the same instant, the one stored first wins: blocks in the order they were
//! written, then the head.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::{Labels, TimestampMs};

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

/// Collects the parts of series, and refuses to collect more than was asked for.
pub(crate) struct Gather {
    series_max: usize,
    samples_max: usize,
    samples: usize,
    places: HashMap<Labels, usize>,
    parts: Vec<(Labels, Vec<(TimestampMs, f64)>)>,
}

impl Gather {
    pub(crate) fn new(series_max: usize, samples_max: usize) -> Self {
        Self { series_max, samples_max, samples: 0, places: HashMap::new(), parts: Vec::new() }
    }

    /// Adds samples to a series: `decode` appends them. Sources are added in the order in which
    /// they win.
    pub(crate) fn add(
        &mut self,
        labels: Labels,
        decode: impl FnOnce(&mut Vec<(TimestampMs, f64)>),
    ) -> Result<(), SelectError> {
        let place = match self.places.get(&labels) {
            Some(place) => *place,
            None => {
                self.parts.push((labels.clone(), Vec::new()));
                self.places.insert(labels, self.parts.len() - 1);
                self.parts.len() - 1
            }
        };
        let Some((_, samples)) = self.parts.get_mut(place) else { return Ok(()) };
        let before = samples.len();
        decode(samples);
        self.samples += samples.len() - before;
        if samples.is_empty() {
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

    /// The series in order of their labels.
    pub(crate) fn finish(self) -> Vec<SeriesData> {
        let mut parts = self.parts;
        parts.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut shared: Arc<[TimestampMs]> = Arc::default();
        let ordered = parts.into_iter().map(|(labels, mut samples)| {
            if !samples.is_sorted_by(|(a, _), (b, _)| a < b) {
                // Stable: of one instant the part that was added first stays first.
                samples.sort_by_key(|(t, _)| *t);
                samples.dedup_by_key(|(t, _)| *t);
            }
            if !samples.iter().map(|(t, _)| t).eq(shared.iter()) {
                shared = samples.iter().map(|(t, _)| *t).collect();
            }
            let values = samples.into_iter().map(|(_, v)| v).collect();
            SeriesData { labels, timestamps: Arc::clone(&shared), values }
        });
        ordered.collect()
    }
}
