//! Reading series one after another: for answers that are written as they are read.
//!
//! [`Db::list_until`] finds which series there are and where, without reading them. What it holds is an
//! entry a series and a few words for each place it has samples in; those of open windows are copied. A
//! [`Reader`] then reads one series at a time, floats and native histograms together, in memory for that
//! one. It reads what was there when the series were found: blocks and windows that go meanwhile stay
//! open as long as the [`Listing`] is held.

use std::collections::HashMap;
use std::sync::Arc;

use stoa_model::histogram::Histogram;
use stoa_model::{Labels, Matcher, TimestampMs};

use super::Db;
use super::gather::{Kinds, Wanted, overlapping};
use super::names::{ENTRY_BYTES, LABEL_BYTES};
use crate::SelectError;
use crate::block::{Block, BlockQuery, BlockSeries, Index};
use crate::head::{Found, FoundHistograms, TimesCache};
use crate::select::{Either, Part as _, Samples, Weighed};

/// What a place takes, about, and a chunk of the head.
const PLACE_BYTES: usize = 24;

/// Timestamps of blocks that a reader remembers in all: 32 MiB.
const TICKS_REMEMBERED: usize = 4 << 20;

/// Series that have samples near a range, and where.
#[derive(Debug)]
pub struct Listing {
    start_ms: TimestampMs,
    end_ms: TimestampMs,
    blocks: Vec<(Arc<Block>, Arc<Index>)>,
    /// In order of labels; the places in the order in which they win.
    series: Vec<(Labels, Vec<Place>)>,
    bytes: usize,
    samples_min: usize,
}

/// Where some samples of a series are.
#[derive(Debug)]
enum Place {
    Block { block: usize, number: u32, are_histograms: bool },
    Floats(Box<Found>),
    Histograms(Box<FoundHistograms>),
}

impl Place {
    fn has_histograms(&self) -> bool {
        match self {
            Self::Block { are_histograms, .. } => *are_histograms,
            Self::Floats(_) => false,
            Self::Histograms(_) => true,
        }
    }

    fn bytes(&self) -> usize {
        PLACE_BYTES
            + match self {
                Self::Block { .. } => 0,
                Self::Floats(found) => {
                    ENTRY_BYTES + found.sealed.len() * PLACE_BYTES + found.open.len() * 16
                }
                Self::Histograms(found) => {
                    ENTRY_BYTES + (found.sealed.len() + found.open.len()) * PLACE_BYTES
                }
            }
    }
}

/// All samples of a series in the range asked for, in order of time; at one instant there is a float or
/// a histogram. Stale markers are among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole {
    /// Its floats.
    pub floats: Vec<(TimestampMs, f64)>,
    /// Its native histograms.
    pub histograms: Vec<(TimestampMs, Histogram)>,
    /// As how many samples they count: a histogram as one for each 16 bytes.
    pub weight: usize,
}

impl Listing {
    /// The labels of the series, in order. Some may turn out to have no sample in the range.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Labels> {
        self.series.iter().map(|(labels, _)| labels)
    }

    /// How many bytes the listing takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many samples there are in the range as far as that is seen without reading; those of an
    /// instant that two places have are counted twice.
    #[must_use]
    pub fn samples_min(&self) -> usize {
        self.samples_min
    }

    fn add(
        &mut self,
        places: &mut HashMap<Labels, usize>,
        labels: Labels,
        place: Place,
        bounds: (usize, usize),
    ) -> Result<(), SelectError> {
        let (series_max, bytes_max) = bounds;
        self.bytes += place.bytes();
        match places.get(&labels).and_then(|at| self.series.get_mut(*at)) {
            Some((_, known)) => known.push(place),
            None => {
                self.bytes += ENTRY_BYTES + labels.text_bytes() + labels.len() * LABEL_BYTES;
                places.insert(labels.clone(), self.series.len());
                self.series.push((labels, vec![place]));
            }
        }
        if self.series.len() > series_max {
            return Err(SelectError::TooManySeries { max: series_max });
        }
        if self.bytes > bytes_max {
            return Err(SelectError::TooManyBytes { max: bytes_max });
        }
        Ok(())
    }
}

impl Db {
    /// The series all matchers hold for that have samples near the range from `start_ms` to `end_ms`,
    /// both included (to the chunk, where it is not open), to be read one by one. Ended early once `stop`
    /// says so, which is asked for each series.
    ///
    /// # Errors
    /// [`SelectError::TooManySeries`] and [`SelectError::TooManyBytes`] when there are more than that
    /// or the listing takes more; [`SelectError::Stopped`].
    pub fn list_until(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        series_max: usize,
        bytes_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Listing, SelectError> {
        let wanted = Wanted::new(matchers, start_ms, end_ms, series_max, usize::MAX, stop);
        // Taken in one step, so that samples on their way to a block are in one of the two.
        let (floats, histograms, blocks) = {
            let state = self.state();
            let floats = wanted.bounded(state.head.select(matchers, start_ms, end_ms))?;
            let histograms =
                wanted.bounded(state.head.select_histograms(matchers, start_ms, end_ms))?;
            (floats, histograms, overlapping(&state, start_ms, end_ms))
        };
        let (series, bytes, samples_min) = (Vec::new(), 0, 0);
        let mut listing =
            Listing { start_ms, end_ms, blocks: Vec::new(), series, bytes, samples_min };
        let mut places = HashMap::new();
        let bounds = (series_max, bytes_max);
        for block in blocks {
            let Some(index) = self.index(&block) else { continue };
            let at = listing.blocks.len();
            let mut query = BlockQuery::new(&block, &index, start_ms, end_ms);
            for number in self.whole(&block, query.find(matchers)).into_iter().flatten() {
                wanted.go_on()?;
                let Some(series) = self.whole(&block, query.series(number)) else { break };
                let Some(series) = series else { continue };
                if block.tombstones.is_empty() {
                    listing.samples_min += series.place.ticks_within(start_ms, end_ms);
                }
                let are_histograms = index.has_histograms(number);
                let place = Place::Block { block: at, number, are_histograms };
                listing.add(&mut places, series.labels, place, bounds)?;
            }
            listing.blocks.push((block, index));
        }
        let has_floats = |found: &Found| !found.sealed.is_empty() || !found.open.is_empty();
        let floats = floats.into_iter().filter(has_floats);
        let floats = floats.map(|found| (found.group, Place::Floats(Box::new(found))));
        let histograms = histograms.into_iter();
        let histograms = histograms.map(|found| (found.group, Place::Histograms(Box::new(found))));
        let mut head: Vec<_> = floats.chain(histograms).collect();
        // Stable: of one group the floats stay first.
        head.sort_by_key(|(group, _)| *group);
        for (_, place) in head {
            wanted.go_on()?;
            let labels = match &place {
                Place::Floats(found) => {
                    let sealed = found.sealed.iter();
                    let sealed = sealed.map(|sealed| sealed.samples_within(start_ms, end_ms));
                    listing.samples_min += found.open.len() + sealed.sum::<usize>();
                    found.labels.clone()
                }
                Place::Histograms(found) => found.labels.clone(),
                Place::Block { .. } => continue,
            };
            listing.add(&mut places, labels, place, bounds)?;
        }
        drop(places);
        listing.series.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(listing)
    }

    /// Reads the series of a listing.
    #[must_use]
    pub fn reader<'a>(&'a self, listing: &'a Listing) -> Reader<'a> {
        let Listing { start_ms, end_ms, .. } = *listing;
        let ticks_max = TICKS_REMEMBERED / listing.blocks.len().max(1);
        let query = |(block, index): &'a (Arc<Block>, Arc<Index>)| {
            BlockQuery::new(block, index, start_ms, end_ms).remembering(ticks_max)
        };
        let queries = listing.blocks.iter().map(query).collect();
        Reader { db: self, listing, queries, times: TimesCache::default() }
    }
}

/// Reads the series of a [`Listing`]; remembers what they share. What it met of damage is told when it is
/// dropped.
pub struct Reader<'a> {
    db: &'a Db,
    listing: &'a Listing,
    queries: Vec<BlockQuery<'a>>,
    times: TimesCache,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("listing", self.listing).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    /// The samples of the series of a number, as [`Listing::labels`] counts them.
    ///
    /// # Errors
    /// [`SelectError::TooManySamples`] when they count as more than `samples_max`.
    pub fn read(&mut self, at: usize, samples_max: usize) -> Result<Whole, SelectError> {
        let places = self.listing.series.get(at).map_or(&[][..], |(_, places)| places);
        let too_many = SelectError::TooManySamples { max: samples_max };
        let Listing { start_ms, end_ms, .. } = *self.listing;
        let wanted = Wanted::new(&[], start_ms, end_ms, usize::MAX, samples_max, &|| false);
        if !places.iter().any(Place::has_histograms) {
            let mut samples = Samples::default();
            for place in places {
                self.floats(place, &wanted, &mut samples);
                if samples.len() > samples_max {
                    return Err(too_many);
                }
            }
            let mut floats: Vec<(TimestampMs, f64)> = samples.pairs().collect();
            if !floats.is_sorted_by(|(a, _), (b, _)| a < b) {
                // Stable: of one instant the place that wins stays first.
                floats.sort_by_key(|(t, _)| *t);
                floats.dedup_by_key(|(t, _)| *t);
            }
            return Ok(Whole { weight: floats.len(), floats, histograms: Vec::new() });
        }
        let mut samples = Weighed::<Either>::default();
        samples.allow(samples_max);
        for place in places {
            self.both(place, &wanted, &mut samples);
            if samples.is_over() {
                return Err(too_many);
            }
        }
        let mut whole = Whole { weight: samples.weight(), ..Whole::default() };
        for (t, sample) in samples.into_pairs() {
            match sample {
                Either::Float(v) => whole.floats.push((t, v)),
                Either::Histogram(histogram) => whole.histograms.push((t, *histogram)),
            }
        }
        Ok(whole)
    }

    /// Appends the floats of a place.
    fn floats(&mut self, place: &Place, wanted: &Wanted<'_>, out: &mut Samples) {
        match place {
            Place::Block { block, number, .. } => {
                let Some((query, series)) = self.in_block(*block, *number) else { return };
                let damaged = query.samples(&series.place, out);
                wanted.count(self.db, Kinds::Floats, damaged);
            }
            Place::Floats(found) => {
                self.db.head_floats(&found.sealed, wanted, &mut self.times, out);
                out.append(&found.open);
            }
            Place::Histograms(_) => {}
        }
    }

    /// Appends what a place has.
    fn both(&mut self, place: &Place, wanted: &Wanted<'_>, out: &mut Weighed<Either>) {
        match place {
            Place::Block { block, number, are_histograms: true } => {
                let Some((query, series)) = self.in_block(*block, *number) else { return };
                let damaged = query.histograms(&series.place, out);
                wanted.count(self.db, Kinds::Histograms, damaged);
            }
            Place::Histograms(found) => {
                self.db.head_histograms(found, wanted, &mut self.times, out);
            }
            Place::Block { .. } | Place::Floats(_) => {
                let mut read = Samples::default();
                self.floats(place, wanted, &mut read);
                out.extend(read.pairs().map(|(t, v)| (t, Either::Float(v))));
            }
        }
    }

    fn in_block(
        &mut self,
        block: usize,
        number: u32,
    ) -> Option<(&mut BlockQuery<'a>, BlockSeries)> {
        let (db, (held, _)) = (self.db, self.listing.blocks.get(block)?);
        let query = self.queries.get_mut(block)?;
        let series = db.whole(held, query.series(number))??;
        Some((query, series))
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        for ((block, _), query) in self.listing.blocks.iter().zip(&self.queries) {
            self.db.missed(block, &query.lost);
        }
    }
}
