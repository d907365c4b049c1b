//! Where series begin to count: a zero of each, as a batch of its own that goes ahead of the samples.
//!
//! Bounds: those of the samples they stand ahead of, one each at most.

use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_model::histogram::{BucketCounts, Counts, Histogram, ResetHint};
use stoa_tsdb::{GroupId, HistogramSample};

use super::rows::{self, Flat, Rows};
use super::senders::Place;

/// The zeroes of a message so far.
#[derive(Debug, Default)]
pub(super) struct Zeroes {
    samples: Vec<Flat>,
    histograms: Vec<(GroupId, HistogramSample)>,
}

/// The zeroes of a message, for the store.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) batches: Vec<Rows>,
    pub(super) histograms: Vec<(GroupId, Vec<HistogramSample>)>,
}

impl Zeroes {
    /// A zero of a series, as its histogram is where it has one.
    pub(super) fn add(&mut self, place: Place, t_ms: TimestampMs, like: Option<&Histogram>) {
        let Place { group, series } = place;
        match like {
            None => self.samples.push(Flat { group, t_ms, series, value: 0.0, stands: false }),
            Some(like) => {
                let sample = HistogramSample { t_ms, series, histogram: Arc::new(zero(like)) };
                if sample.is_storable() {
                    self.histograms.push((group, sample));
                }
            }
        }
    }

    /// Each once, however many samples count from it.
    pub(super) fn finish(mut self) -> Starts {
        let place =
            |(group, sample): &(GroupId, HistogramSample)| (*group, sample.t_ms, sample.series);
        self.histograms.sort_by_key(place);
        self.histograms.dedup_by(|later, first| place(later) == place(first));
        let (batches, _twice) = rows::batches(self.samples);
        Starts { batches, histograms: rows::histogram_batches(self.histograms) }
    }
}

/// A histogram of nothing with the same bounds, which says that it was reset.
fn zero(like: &Histogram) -> Histogram {
    let counts = match like.counts {
        Counts::Integer(_) => Counts::Integer(BucketCounts::default()),
        Counts::Float(_) => Counts::Float(BucketCounts::default()),
    };
    Histogram {
        schema: like.schema,
        zero_threshold: like.zero_threshold,
        sum: 0.0,
        positive_spans: Vec::new(),
        negative_spans: Vec::new(),
        custom_values: like.custom_values.clone(),
        counts,
        reset: ResetHint::Reset,
    }
}
