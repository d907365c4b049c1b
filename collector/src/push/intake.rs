//! Series and their samples become batches for the store, and a tally of what cannot become one.

use std::sync::{Arc, MutexGuard};

use stoa_exchange::remote_write::RawLabel;
use stoa_model::histogram::Histogram;
use stoa_model::{MetricKind, TimestampMs};
use stoa_tsdb::{Batch, GroupId, HISTOGRAM_NUMBERS_MAX, HistogramSample};

use super::Way;
use super::places;
use super::rows::{self, Flat};
use super::senders::{Cache, Place, Sender, Unplaced};
use super::tally::Tally;
use crate::ingest::FUTURE_MAX_MS;
use crate::store::Store;

/// What a message gives.
pub(crate) struct Taken {
    pub(super) batches: Vec<Batch>,
    pub(super) histograms: Vec<(GroupId, Vec<HistogramSample>)>,
    pub(super) tally: Tally,
}

/// Who sends a message, and when it came; on a thread that may block.
pub(crate) struct Source {
    pub(super) store: Store,
    pub(super) way: Way,
    pub(super) sender: Arc<Sender>,
    pub(super) now_ms: TimestampMs,
}

impl Source {
    /// A message begins. Other messages of the sender wait until the intake is dropped.
    pub(crate) fn begin(&self) -> Intake<'_> {
        let mut cache = self.sender.cache();
        cache.begin(self.now_ms);
        Intake {
            store: &self.store,
            way: self.way,
            sender: &self.sender.name,
            cache,
            horizon_ms: self.now_ms.saturating_add(FUTURE_MAX_MS),
            samples: Vec::new(),
            histograms: Vec::new(),
            tally: Tally::default(),
        }
    }
}

/// What has been taken of a message so far; blocks on the store's locks for series that are new.
pub(crate) struct Intake<'s> {
    store: &'s Store,
    way: Way,
    sender: &'s str,
    cache: MutexGuard<'s, Cache>,
    /// The latest time taken.
    horizon_ms: TimestampMs,
    samples: Vec<Flat>,
    histograms: Vec<(GroupId, HistogramSample)>,
    pub(crate) tally: Tally,
}

impl Intake<'_> {
    /// Where the series of these labels goes, and whether it came for the first time; `None`, and its
    /// `count` samples counted, when it goes nowhere.
    pub(crate) fn place(&mut self, labels: &[RawLabel<'_>], count: u64) -> Option<(Place, bool)> {
        let (store, way, sender) = (self.store, self.way, self.sender);
        let mut is_new = false;
        let place = self.cache.place(labels, || {
            is_new = true;
            let labels = places::checked(labels).map_err(Unplaced::Labels)?;
            let group = places::group_of(way, sender, &labels);
            let series = store
                .resolve(group, &labels)
                .map_err(|error| Unplaced::Limit(stoa_daemon::error_chain(&error)))?;
            Ok(Place { group, series })
        });
        match place {
            Ok(place) => Some((place, is_new)),
            Err(Unplaced::Labels(why)) => {
                self.tally.mislabelled(count, || why);
                None
            }
            Err(Unplaced::Limit(why)) => {
                self.tally.over_limit(count, || why);
                None
            }
        }
    }

    /// A sample of a series that has a place.
    pub(crate) fn sample(&mut self, place: Place, t_ms: TimestampMs, value: f64) {
        if t_ms > self.horizon_ms {
            self.tally.ahead += 1;
            return;
        }
        let Place { group, series } = place;
        self.samples.push(Flat { group, t_ms, series, value });
    }

    /// A native histogram of a series that has a place.
    pub(crate) fn histogram(&mut self, place: Place, t_ms: TimestampMs, histogram: Histogram) {
        if t_ms > self.horizon_ms {
            self.tally.ahead += 1;
            return;
        }
        let Place { group, series } = place;
        let sample = HistogramSample { t_ms, series, histogram: Arc::new(histogram) };
        if sample.is_storable() {
            self.histograms.push((group, sample));
        } else {
            self.tally.histograms += 1;
            self.tally.say(|| match sample.histogram.validate() {
                Err(error) => error.to_string(),
                Ok(()) => format!("{} buckets, over {HISTOGRAM_NUMBERS_MAX}", sample.numbers()),
            });
        }
    }

    /// What is said about a family of metrics.
    pub(crate) fn describe(&self, family: &str, kind: MetricKind, help: &str, unit: &str) {
        if !family.is_empty() {
            self.store.metadata().describe(family, kind, help, unit);
        }
    }

    /// The message is at its end.
    pub(crate) fn finish(self) -> Taken {
        let Self { samples, histograms, mut tally, cache, .. } = self;
        drop(cache);
        let (batches, same) = rows::batches(samples);
        tally.stored(same);
        let histograms = rows::histogram_batches(histograms);
        Taken { batches, histograms, tally }
    }
}
