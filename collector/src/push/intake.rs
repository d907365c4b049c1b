//! Series and their samples become batches for the store, and a tally of what cannot become one.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};

use stoa_exchange::remote_write::RawLabel;
use stoa_model::histogram::Histogram;
use stoa_model::{Labels, MetricKind, TimestampMs};
use stoa_tsdb::{GroupId, HISTOGRAM_NUMBERS_MAX, HistogramSample};

use super::Way;
use super::places;
use super::rows::{self, Flat, Rows};
use super::senders::{Cache, Place, Sender, Unplaced};
use super::starts::{Starts, Zeroes};
use super::tally::Tally;
use crate::config::PushConfig;
use crate::ingest::FUTURE_MAX_MS;
use crate::store::exemplars::LABEL_CHARS_MAX;
use crate::store::{Exemplar, Store};

/// What an exemplar takes beside the text of its labels and of its series' labels.
const EXEMPLAR_BYTES: usize = 256;

/// What a label takes beside its text.
const LABEL_BYTES: usize = 64;

/// Exemplars of one message in memory, in bytes; further ones are left out and counted.
const EXEMPLARS_BYTES_MAX: usize = 16 << 20;

/// What a message gives.
pub(crate) struct Taken {
    pub(super) starts: Starts,
    pub(super) batches: Vec<Rows>,
    pub(super) histograms: Vec<(GroupId, Vec<HistogramSample>)>,
    /// Each with the labels of its series.
    pub(super) exemplars: Vec<(Labels, Exemplar)>,
    exemplar_bytes: usize,
    pub(super) tally: Tally,
}

impl Taken {
    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        let Starts { ahead, behind } = &self.starts;
        let rows = self.batches.iter().chain(&ahead.samples).chain(&behind.samples);
        let rows = rows.flat_map(|rows| &rows.batch.rows);
        let exemplars = self.exemplar_bytes;
        let samples: usize =
            rows.map(|row| size_of_val(row) + size_of_val(row.samples.as_slice())).sum();
        let histograms = self.histograms.iter().chain(&ahead.histograms).chain(&behind.histograms);
        let histograms = histograms.flat_map(|(_, histograms)| histograms);
        exemplars
            + samples
            + histograms.map(|sample| size_of_val(sample) + sample.bytes()).sum::<usize>()
    }
}

/// Who sends a message, and when it came; on a thread that may block.
pub(crate) struct Source {
    pub(super) store: Store,
    pub(super) way: Way,
    pub(super) sender: Arc<Sender>,
    pub(super) now_ms: TimestampMs,
    pub(super) config: PushConfig,
}

impl Source {
    /// The sender's name.
    pub(crate) fn sender(&self) -> &str {
        &self.sender.name
    }

    /// When the message came.
    pub(crate) fn now_ms(&self) -> TimestampMs {
        self.now_ms
    }

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
            zeroes: self.config.start_times.then(Zeroes::default),
            asked: None,
            point: None,
            exemplars: Vec::new(),
            exemplar_bytes: 0,
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
    /// Where series begin to count, if that is kept.
    zeroes: Option<Zeroes>,
    /// Of what and from when on it was asked last whether that is new, and the answer.
    asked: Option<((Place, TimestampMs), bool)>,
    /// The point that what comes now is of, where samples are made of points.
    point: Option<Point>,
    exemplars: Vec<(Labels, Exemplar)>,
    exemplar_bytes: usize,
    pub(crate) tally: Tally,
}

/// A point so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// Nothing of it has a place yet.
    Begun,
    /// So many samples stand before its first.
    Placed(usize),
    /// Something of it was refused, and so it counts as refused.
    Refused,
}

impl Intake<'_> {
    /// A point begins: what comes next is of it.
    pub(crate) fn begin_point(&mut self) {
        self.point = Some(Point::Begun);
    }

    /// What comes next is of no point.
    pub(crate) fn end_point(&mut self) {
        self.point = None;
    }

    /// The point cannot be kept for what it is.
    pub(crate) fn unfit(&mut self, why: impl FnOnce() -> String) {
        self.tally.unfit(why);
        self.refuse_point();
    }

    /// A sample too far in the future.
    pub(crate) fn ahead(&mut self) {
        self.tally.ahead += 1;
        self.refuse_point();
    }

    fn refuse_point(&mut self) {
        match self.point {
            None | Some(Point::Refused) => return,
            Some(Point::Begun) => {}
            Some(Point::Placed(before)) => {
                if let Some(first) = self.samples.get_mut(before) {
                    first.stands = false;
                }
            }
        }
        self.tally.rejected += 1;
        self.point = Some(Point::Refused);
    }

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
                self.refuse_point();
                None
            }
            Err(Unplaced::Limit(why)) => {
                self.tally.over_limit(count, || why);
                self.refuse_point();
                None
            }
        }
    }

    /// Whether it is of use to say from when on a series counts.
    pub(crate) fn has_starts(&self) -> bool {
        self.zeroes.is_some()
    }

    /// The sample or, if there is one, the histogram of `t_ms` counts from `start_ms` on: the series has a
    /// zero then, if that is before the sample and after all that there are of the series. For what has been
    /// taken and is no stale marker.
    pub(crate) fn starts(
        &mut self,
        place: Place,
        start_ms: TimestampMs,
        t_ms: TimestampMs,
        histogram: Option<&Histogram>,
    ) {
        let is_known = start_ms > 0 && start_ms < t_ms && t_ms <= self.horizon_ms;
        let Some(zeroes) = self.zeroes.as_mut().filter(|_| is_known) else { return };
        let (what, store) = ((place, start_ms), self.store);
        let is_new = match self.asked {
            // The samples of one series follow one another, and mostly count from one time.
            Some((asked, answer)) if asked == what => answer,
            _ => store.is_after_all(place.series, start_ms),
        };
        self.asked = Some((what, is_new));
        if is_new {
            zeroes.add(place, start_ms, histogram);
        }
    }

    /// A sample of a series that has a place.
    pub(crate) fn sample(&mut self, place: Place, t_ms: TimestampMs, value: f64) {
        if t_ms > self.horizon_ms {
            return self.ahead();
        }
        let stands = self.point == Some(Point::Begun);
        if stands {
            self.point = Some(Point::Placed(self.samples.len()));
        }
        let Place { group, series } = place;
        self.samples.push(Flat { group, t_ms, series, value, stands });
    }

    /// A native histogram of a series that has a place. Says whether it is taken.
    pub(crate) fn histogram(
        &mut self,
        place: Place,
        t_ms: TimestampMs,
        histogram: Arc<Histogram>,
    ) -> bool {
        if t_ms > self.horizon_ms {
            self.ahead();
            return false;
        }
        let Place { group, series } = place;
        let sample = HistogramSample { t_ms, series, histogram };
        let is_storable = sample.is_storable();
        if is_storable {
            self.histograms.push((group, sample));
        } else {
            self.tally.histograms += 1;
            self.tally.say(|| match sample.histogram.validate() {
                Err(error) => error.to_string(),
                Ok(()) => format!("{} buckets, over {HISTOGRAM_NUMBERS_MAX}", sample.numbers()),
            });
            self.refuse_point();
        }
        is_storable
    }

    /// Exemplars of the series of these labels, each with its own labels, value and time. They are taken
    /// once the samples of the message are stored.
    pub(crate) fn exemplars<'r>(
        &mut self,
        series: &[RawLabel<'_>],
        exemplars: impl IntoIterator<Item = (&'r [RawLabel<'r>], f64, TimestampMs)>,
    ) {
        let series = places::checked(series).ok();
        for (labels, value, t_ms) in exemplars {
            // No copy is made of what would not be kept.
            let labels = places::pairs(labels).ok().filter(|pairs| {
                let chars = pairs.iter().map(|(n, v)| n.chars().count() + v.chars().count());
                chars.sum::<usize>() <= LABEL_CHARS_MAX
            });
            let labels = labels.and_then(|pairs| Labels::from_pairs(pairs).ok());
            let bytes = |labels: &Labels| labels.text_bytes() + labels.len() * LABEL_BYTES;
            match (&series, labels) {
                // No more could be kept of one message.
                (Some(series), Some(labels))
                    if t_ms <= self.horizon_ms
                        && self.exemplars.len() < self.store.exemplars().count_max()
                        && self.exemplar_bytes < EXEMPLARS_BYTES_MAX =>
                {
                    self.exemplar_bytes += EXEMPLAR_BYTES + bytes(series) + bytes(&labels);
                    self.exemplars.push((series.clone(), Exemplar { labels, value, t_ms }));
                }
                _ => self.tally.exemplars_ignored += 1,
            }
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
        let Self {
            samples, histograms, zeroes, exemplars, exemplar_bytes, mut tally, cache, ..
        } = self;
        drop(cache);
        let zeroes = zeroes.unwrap_or_default();
        let mut oldest_ms = HashMap::new();
        if !zeroes.is_empty() {
            let times = samples.iter().map(|sample| (sample.group, sample.t_ms));
            let histograms = histograms.iter().map(|(group, sample)| (*group, sample.t_ms));
            for (group, t_ms) in times.chain(histograms) {
                let oldest = oldest_ms.entry(group).or_insert(t_ms);
                *oldest = t_ms.min(*oldest);
            }
        }
        let (batches, same) = rows::batches(samples);
        tally.stored(same.samples);
        tally.rejected += same.points;
        let histograms = rows::histogram_batches(histograms);
        let starts = zeroes.finish(&oldest_ms);
        Taken { starts, batches, histograms, exemplars, exemplar_bytes, tally }
    }
}
