//! Histograms, and floats beside them, while they are gathered: counted by what they take.

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, TimestampMs};

use super::{Gather, Part};
use crate::batch::histogram_cells;
use crate::hints::Gaps;

/// A float or a histogram.
#[derive(Clone, Debug)]
pub(crate) enum Either {
    Float(f64),
    Histogram(Box<Histogram>),
}

/// One of the kinds of values that [`Weighed`] holds.
pub(crate) trait Value: From<Histogram> {
    /// How many samples of 16 bytes it counts as.
    fn weight(&self) -> usize;

    fn histogram_mut(&mut self) -> Option<&mut Histogram>;
}

/// What a histogram takes beside its spans, bounds and buckets, in bytes; with these, as many samples
/// as in Prometheus (`HPoint.size`, `FloatHistogram.Size`).
const HISTOGRAM_BYTES: usize = 168;

impl Value for Histogram {
    fn weight(&self) -> usize {
        (HISTOGRAM_BYTES + 8 + histogram_cells(self) * 8) / 16
    }

    fn histogram_mut(&mut self) -> Option<&mut Histogram> {
        Some(self)
    }
}

impl From<Histogram> for Either {
    fn from(histogram: Histogram) -> Self {
        Self::Histogram(Box::new(histogram))
    }
}

impl Value for Either {
    fn weight(&self) -> usize {
        match self {
            Self::Float(_) => 1,
            Self::Histogram(histogram) => histogram.weight(),
        }
    }

    fn histogram_mut(&mut self) -> Option<&mut Histogram> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(histogram) => Some(histogram),
        }
    }
}

/// The samples of one series as they are found, part after part; of parts that hold the same instant
/// the first one wins.
#[derive(Clone, Debug)]
pub(crate) struct Weighed<V> {
    samples: Vec<(TimestampMs, V)>,
    weight: usize,
    weight_max: usize,
    /// Where samples were found that are deleted.
    pub(crate) gaps: Gaps,
}

impl<V> Default for Weighed<V> {
    fn default() -> Self {
        Self { samples: Vec::new(), weight: 0, weight_max: usize::MAX, gaps: Gaps::default() }
    }
}

impl<V: Value> Part for Weighed<V> {
    fn weight(&self) -> usize {
        self.weight
    }

    fn allow(&mut self, weight_max: usize) {
        self.weight_max = weight_max;
    }
}

impl<V: Value> Weighed<V> {
    /// Whether it holds more than it may: nothing need be read any more.
    pub(crate) fn is_over(&self) -> bool {
        self.weight > self.weight_max
    }

    /// Appends samples, as long as it may hold them and one more.
    pub(crate) fn extend(&mut self, samples: impl IntoIterator<Item = (TimestampMs, V)>) {
        for (t, v) in samples {
            if self.is_over() {
                return;
            }
            self.weight += v.weight();
            self.samples.push((t, v));
        }
    }

    /// In order of time, each instant once.
    pub(crate) fn into_pairs(self) -> Vec<(TimestampMs, V)> {
        let Self { mut samples, mut gaps, .. } = self;
        if !samples.is_sorted_by(|(a, _), (b, _)| a < b) {
            // Stable: of one instant the part that was added first stays first.
            samples.sort_by_key(|(t, _)| *t);
            samples.dedup_by_key(|(t, _)| *t);
        }
        let mut hints = gaps.hints();
        for (t, v) in &mut samples {
            match v.histogram_mut() {
                Some(histogram) => hints.check(*t, histogram),
                None => drop(hints.pass(*t)),
            }
        }
        samples
    }
}

impl<V: Value> Gather<Weighed<V>> {
    /// The series in order of their labels, each with its samples in order of time.
    pub(crate) fn finish_pairs(self) -> impl Iterator<Item = (Labels, Vec<(TimestampMs, V)>)> {
        let mut parts = self.parts;
        parts.retain(|(_, samples)| samples.weight > 0);
        parts.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        parts.into_iter().map(|(labels, samples)| (labels, samples.into_pairs()))
    }
}
