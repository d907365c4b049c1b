//! Reading series from a block.

mod rollups;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs};

use super::Block;
use super::chunks::{CRC_BYTES, Span};
use super::index::{Index, Lane, SeriesEntry, Window};
use super::tombstones::{hides, hides_all};
use crate::bytes::Malformed;
use crate::chunk::{decode_histograms, decode_values};
use crate::damage::Lost;
use crate::matching;
use crate::select::{Samples, Value, Weighed, within};
use crate::weight::Weight;

/// After so many chunks in a row that the disk did not give, a query asks it for no more single ones.
const UNREAD_MAX: u32 = 64;

/// Why a block, or a part of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    #[error("cannot read the block")]
    Io(#[from] io::Error),
    #[error("the block is damaged")]
    Malformed(#[from] Malformed),
}

impl BlockError {
    /// What is wrong, in plain words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Io(error) => format!("cannot be read: {error}"),
            Self::Malformed(malformed) => malformed.0.to_owned(),
        }
    }
}

/// Reads series of one block for one query; remembers what they share.
pub(crate) struct BlockQuery<'a> {
    block: &'a Block,
    index: &'a Index,
    start: TimestampMs,
    end: TimestampMs,
    lanes: HashMap<u32, Arc<Vec<Lane>>>,
    /// By group and lane.
    times: HashMap<(u32, u32), Arc<LaneTimes>>,
    /// Timestamps in them, and how many there may be before they are read anew.
    ticks: usize,
    ticks_max: usize,
    /// Single chunks the disk did not give, since one it gave.
    unread: u32,
    /// What could not be read so far.
    pub(crate) lost: Lost,
}

/// A series with chunks in the range.
#[derive(Debug)]
pub(crate) struct BlockSeries {
    pub(crate) labels: Labels,
    pub(crate) place: Place,
}

/// Where a series' samples are.
#[derive(Debug)]
pub(crate) struct Place {
    number: u32,
    entry: SeriesEntry,
    lanes: Arc<Vec<Lane>>,
}

impl Place {
    /// How many samples are in windows that lie in the range as a whole, what was deleted of them
    /// included.
    pub(crate) fn ticks_within(&self, start: TimestampMs, end: TimestampMs) -> usize {
        let windows = self.lanes.get(self.entry.lane as usize).map(|lane| lane.windows.iter());
        let within = |window: &&Window| start <= window.first_t && window.last_t <= end;
        windows.into_iter().flatten().filter(within).map(|window| window.ticks as usize).sum()
    }
}

impl<'a> BlockQuery<'a> {
    pub(crate) fn new(
        block: &'a Block,
        index: &'a Index,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Self {
        let (lanes, times, lost) = (HashMap::new(), HashMap::new(), Lost::default());
        let (ticks, ticks_max) = (0, usize::MAX);
        Self { block, index, start, end, lanes, times, ticks, ticks_max, unread: 0, lost }
    }

    /// The same that remembers so many timestamps at most, and those of one series: for series that come in
    /// no order of groups.
    pub(crate) fn remembering(self, ticks_max: usize) -> Self {
        Self { ticks_max, ..self }
    }

    /// The series all matchers hold for, as numbers of the index.
    pub(crate) fn find(&self, matchers: &[Matcher]) -> Result<Vec<u32>, Malformed> {
        Ok(matching::find(self.index, matchers)?.into_iter().collect())
    }

    /// A series, if one of its windows overlaps the range.
    pub(crate) fn series(&mut self, number: u32) -> Result<Option<BlockSeries>, Malformed> {
        let entry = self.index.series(number)?;
        let lanes = match self.lanes.get(&entry.group) {
            Some(lanes) => Arc::clone(lanes),
            None => {
                let lanes = Arc::new(self.index.lanes(entry.group)?);
                self.lanes.insert(entry.group, Arc::clone(&lanes));
                lanes
            }
        };
        let lane = lanes.get(entry.lane as usize).ok_or(Malformed("no lane of that number"))?;
        if lane.windows.len() != entry.chunk_bytes.len() {
            return Err(Malformed("series has more or fewer chunks than its lane"));
        }
        let hidden = self.block.tombstones.of(number);
        let (start, end) = (self.start, self.end);
        let is_wanted = |w: &Window| {
            let overlaps = w.first_t <= end && w.last_t >= start;
            overlaps && !hides_all(hidden, w.first_t.max(start), w.last_t.min(end))
        };
        if !lane.windows.iter().any(is_wanted) {
            return Ok(None);
        }
        let labels = self.index.labels(&entry.pairs)?;
        Ok(Some(BlockSeries { labels, place: Place { number, entry, lanes } }))
    }

    /// Appends a series' samples in the range, and says how many chunks could not be read.
    pub(crate) fn samples(&mut self, series: &Place, out: &mut Samples) -> u64 {
        let mark = out.mark();
        let damaged = self.each_chunk(series, |shared, window, chunk| {
            out.extend(&shared.times, window.part.clone(), window.skip, |values| {
                decode_values(chunk, window.ticks, values)
            })
        });
        let hidden = self.block.tombstones.of(series.number);
        if !hidden.is_empty() {
            out.retain(mark, |t| !hides(hidden, t));
        }
        damaged
    }

    /// The same for a series of histograms, chunk by chunk, and no more than are taken.
    pub(crate) fn histograms<V: Value>(&mut self, series: &Place, out: &mut Weighed<V>) -> u64 {
        let hidden = self.block.tombstones.of(series.number);
        let damaged = self.each_chunk(series, |shared, window, chunk| {
            if out.is_over() {
                return Ok(());
            }
            let mut histograms = Vec::new();
            decode_histograms(chunk, window.ticks, &mut histograms)?;
            let times = shared.times.get(window.part.clone()).unwrap_or_default();
            let samples = times.iter().copied().zip(histograms.into_iter().skip(window.skip));
            for (t, histogram) in samples {
                let is_deleted = hides(hidden, t);
                out.gaps.note(t, is_deleted);
                if !is_deleted {
                    out.extend([(t, V::from(histogram))]);
                }
            }
            Ok(())
        });
        out.gaps.end_place();
        damaged
    }

    /// How much a series has in the range, by the index alone.
    pub(crate) fn weight(&self, series: &Place) -> Weight {
        let mut weight = Weight::default();
        let Some(lane) = series.lanes.get(series.entry.lane as usize) else { return weight };
        let range = (self.start, self.end);
        for (window, bytes) in lane.windows.iter().zip(&series.entry.chunk_bytes) {
            if window.first_t <= self.end && window.last_t >= self.start {
                let span = (window.first_t, window.last_t);
                let ticks = u64::from(window.ticks);
                weight.add(Weight::chunk(u64::from(*bytes), ticks, span, range));
            }
        }
        weight
    }

    /// Hands the chunks of a series in the range to `decode`, and says how many could not be read.
    fn each_chunk(
        &mut self,
        series: &Place,
        mut decode: impl FnMut(&LaneTimes, &WantedWindow, &[u8]) -> Result<(), Malformed>,
    ) -> u64 {
        let Some(lane) = series.lanes.get(series.entry.lane as usize) else { return 0 };
        let shared = self.lane_times(&series.entry, lane);
        let (Some(first), Some(last)) = (shared.windows.first(), shared.windows.last()) else {
            self.lost.join(shared.lost);
            return shared.lost.chunks;
        };
        let offsets = offsets(series.entry.offset, &series.entry.chunk_bytes);
        let (from, to) = (offsets.get(first.number), offsets.get(last.number + 1));
        let mut lost = shared.lost;
        let (Some(from), Some(to)) = (from, to) else { return lost.chunks };
        // Where one sector is bad each chunk is read for itself: it costs those that lie in it.
        let all = self.block.span(*from, to.saturating_sub(*from)).ok();
        for window in &shared.windows {
            let offset = offsets.get(window.number).copied().unwrap_or_default();
            let bytes = series.entry.chunk_bytes.get(window.number).copied().unwrap_or_default();
            let mut decode = |span: &Span| decode(&shared, window, span.chunk(offset, bytes)?);
            let read = match &all {
                Some(span) => decode(span),
                None => self.one(offset, bytes).and_then(|span| decode(&span)),
            };
            if read.is_err() {
                lost.add(window.ticks as u64, shared.ends(window));
            }
        }
        self.lost.join(lost);
        lost.chunks
    }

    /// One chunk, of those that could not be read together.
    fn one(&mut self, offset: u64, bytes: u32) -> Result<Span, Malformed> {
        let unread = Malformed("chunk unread");
        if self.unread >= UNREAD_MAX {
            return Err(unread);
        }
        let read = self.block.span(offset, CRC_BYTES + u64::from(bytes));
        // A run of them is a disk that is gone; one that answers is not.
        self.unread = if read.is_ok() { 0 } else { self.unread + 1 };
        read.ok().ok_or(unread)
    }

    fn lane_times(&mut self, entry: &SeriesEntry, lane: &Lane) -> Arc<LaneTimes> {
        let key = (entry.group, entry.lane);
        if let Some(times) = self.times.get(&key) {
            return Arc::clone(times);
        }
        let times = Arc::new(LaneTimes::read(self.block, lane, self.start, self.end));
        self.ticks = self.ticks.saturating_add(times.times.len());
        if self.ticks > self.ticks_max {
            self.times.clear();
            self.ticks = times.times.len();
        }
        self.times.insert(key, Arc::clone(&times));
        times
    }
}

/// What a query wants of a lane.
#[derive(Debug)]
struct LaneTimes {
    /// All of its timestamps in the range.
    times: Arc<[TimestampMs]>,
    /// Those windows that have some.
    windows: Vec<WantedWindow>,
    /// Windows in the range whose timestamps cannot be read.
    lost: Lost,
}

#[derive(Debug)]
struct WantedWindow {
    /// Which of the lane's.
    number: usize,
    ticks: usize,
    /// Where in the query's timestamps those of the window are.
    part: Range<usize>,
    /// How many of its ticks come before the range.
    skip: usize,
}

impl LaneTimes {
    fn read(block: &Block, lane: &Lane, start: TimestampMs, end: TimestampMs) -> Self {
        let mut times: Vec<TimestampMs> = Vec::new();
        let (mut windows, mut lost) = (Vec::new(), Lost::default());
        let in_range = |(_, w): &(usize, &Window)| w.first_t <= end && w.last_t >= start;
        for (number, window) in lane.windows.iter().enumerate().filter(in_range) {
            let read = lane
                .place(number)
                .and_then(|(offset, bytes)| Ok(lane.decode(&block.span(offset, bytes)?, number)?));
            let Ok(ticks) = read else {
                lost.add(u64::from(window.ticks), Some((window.first_t, window.last_t)));
                continue;
            };
            let wanted = within(&ticks, start, end);
            let own = ticks.get(wanted.clone()).unwrap_or_default();
            if times.last().zip(own.first()).is_some_and(|(last, first)| first <= last) {
                lost.add(u64::from(window.ticks), Some((window.first_t, window.last_t)));
                continue;
            }
            if own.is_empty() {
                continue;
            }
            let part = times.len()..times.len() + own.len();
            times.extend_from_slice(own);
            let ticks = window.ticks as usize;
            windows.push(WantedWindow { number, ticks, part, skip: wanted.start });
        }
        Self { times: times.into(), windows, lost }
    }

    /// The first and the last timestamp of a window in the range.
    fn ends(&self, window: &WantedWindow) -> Option<(TimestampMs, TimestampMs)> {
        let times = self.times.get(window.part.clone())?;
        times.first().copied().zip(times.last().copied())
    }
}

/// Where each of some neighbouring chunks begins, and where the last one ends.
pub(super) fn offsets(first: u64, bytes: &[u32]) -> Vec<u64> {
    let mut at = first;
    let mut offsets = vec![at];
    for len in bytes {
        at = at.saturating_add(CRC_BYTES + u64::from(*len));
        offsets.push(at);
    }
    offsets
}
