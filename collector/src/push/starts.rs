//! Where series begin to count: a zero of each, in batches of their own. A zero from before all samples of
//! its message and group goes ahead of these; one from between them goes after them, because ahead it would be in
//! the place of a sample of that time, and could make those before it too old.
//!
//! Bounds: those of the samples they stand for, one each at most.

use std::collections::HashMap;
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
    /// Before the samples.
    pub(super) ahead: Batches,
    /// After them.
    pub(super) behind: Batches,
}

/// Zeroes as the store takes them.
#[derive(Debug, Default)]
pub(super) struct Batches {
    pub(super) samples: Vec<Rows>,
    pub(super) histograms: Vec<(GroupId, Vec<HistogramSample>)>,
}

impl Zeroes {
    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }

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

    /// Each once, however many samples count from it; `oldest_ms` are the times of the message's first samples
    /// by group.
    pub(super) fn finish(self, oldest_ms: &HashMap<GroupId, TimestampMs>) -> Starts {
        let is_ahead = |group: GroupId, t_ms: TimestampMs| {
            oldest_ms.get(&group).is_none_or(|oldest| t_ms < *oldest)
        };
        let (ahead, behind) =
            self.samples.into_iter().partition(|zero| is_ahead(zero.group, zero.t_ms));
        let (histograms_ahead, histograms_behind) =
            self.histograms.into_iter().partition(|(group, zero)| is_ahead(*group, zero.t_ms));
        Starts {
            ahead: Batches::of(ahead, histograms_ahead),
            behind: Batches::of(behind, histograms_behind),
        }
    }
}

impl Batches {
    fn of(samples: Vec<Flat>, mut histograms: Vec<(GroupId, HistogramSample)>) -> Self {
        let place =
            |(group, sample): &(GroupId, HistogramSample)| (*group, sample.t_ms, sample.series);
        histograms.sort_by_key(place);
        histograms.dedup_by(|later, first| place(later) == place(first));
        let (samples, _twice) = rows::batches(samples);
        Self { samples, histograms: rows::histogram_batches(histograms) }
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
