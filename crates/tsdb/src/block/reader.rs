//! Reading series from a block.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs};

use super::Block;
use super::chunks::{CRC_BYTES, Span};
use super::index::{Index, Lane, SeriesEntry, Window};
use super::tombstones::{hides, hides_all};
use crate::bytes::Malformed;
use crate::chunk::decode_values;
use crate::matching;

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

/// Reads series of one block for one query; remembers what they share.
pub(crate) struct BlockQuery<'a> {
    block: &'a Block,
    index: &'a Index,
    start: TimestampMs,
    end: TimestampMs,
    lanes: HashMap<u32, Arc<Vec<Lane>>>,
    times: HashMap<(u32, u32, usize), Arc<Vec<TimestampMs>>>,
    texts: HashMap<u32, Arc<str>>,
    /// Single chunks the disk did not give, since one it gave.
    unread: u32,
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

impl<'a> BlockQuery<'a> {
    pub(crate) fn new(
        block: &'a Block,
        index: &'a Index,
        start: TimestampMs,
        end: TimestampMs,
    ) -> Self {
        Self {
            block,
            index,
            start,
            end,
            lanes: HashMap::new(),
            times: HashMap::new(),
            texts: HashMap::new(),
            unread: 0,
        }
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
        let labels = self.index.labels(&entry.pairs, &mut self.texts)?;
        Ok(Some(BlockSeries { labels, place: Place { number, entry, lanes } }))
    }

    /// The labels of every series that has windows in the range.
    pub(crate) fn each_label_set(&mut self, mut each: impl FnMut(Labels)) -> Result<(), Malformed> {
        for number in self.find(&[])? {
            if let Some(series) = self.series(number)? {
                each(series.labels);
            }
        }
        Ok(())
    }

    /// Appends a series' samples in the range, and says how many chunks could not be read.
    pub(crate) fn samples(&mut self, series: &Place, out: &mut Vec<(TimestampMs, f64)>) -> u64 {
        let Some(lane) = series.lanes.get(series.entry.lane as usize) else { return 0 };
        let in_range = |at: &usize| {
            let window = lane.windows.get(*at);
            window.is_some_and(|w| w.first_t <= self.end && w.last_t >= self.start)
        };
        let wanted: Vec<usize> = (0..lane.windows.len()).filter(in_range).collect();
        let offsets = offsets(series.entry.offset, &series.entry.chunk_bytes);
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return 0 };
        let (Some(from), Some(to)) = (offsets.get(*first), offsets.get(last + 1)) else { return 0 };
        // Where one sector is bad each chunk is read for itself: it costs those that lie in it.
        let all = self.block.span(*from, to.saturating_sub(*from)).ok();
        let mut damaged = 0;
        for at in wanted {
            let before = out.len();
            let offset = offsets.get(at).copied().unwrap_or_default();
            let bytes = series.entry.chunk_bytes.get(at).copied().unwrap_or_default();
            let read = match &all {
                Some(span) => span
                    .chunk(offset, bytes)
                    .and_then(|chunk| self.decode(series, lane, at, chunk, out)),
                None => self.one(offset, bytes).and_then(|span| {
                    self.decode(series, lane, at, span.chunk(offset, bytes)?, out)
                }),
            };
            if read.is_err() {
                out.truncate(before);
                damaged += 1;
            }
        }
        damaged
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

    fn decode(
        &mut self,
        series: &Place,
        lane: &Lane,
        at: usize,
        chunk: &[u8],
        out: &mut Vec<(TimestampMs, f64)>,
    ) -> Result<(), Malformed> {
        let times = self.times(&series.entry, lane, at)?;
        let mut values = Vec::new();
        decode_values(chunk, times.len(), &mut values)?;
        let (start, end) = (self.start, self.end);
        let hidden = self.block.tombstones.of(series.number);
        let samples = times.iter().copied().zip(values);
        out.extend(samples.filter(|(t, _)| start <= *t && *t <= end && !hides(hidden, *t)));
        Ok(())
    }

    fn times(
        &mut self,
        entry: &SeriesEntry,
        lane: &Lane,
        at: usize,
    ) -> Result<Arc<Vec<TimestampMs>>, Malformed> {
        let key = (entry.group, entry.lane, at);
        if let Some(times) = self.times.get(&key) {
            return Ok(Arc::clone(times));
        }
        let unread = Malformed("timestamps unread");
        let (offset, bytes) = lane.place(at).ok().ok_or(unread)?;
        let span = self.block.span(offset, bytes).ok().ok_or(unread)?;
        let times = lane.decode(&span, at)?;
        let times = Arc::new(times);
        self.times.insert(key, Arc::clone(&times));
        Ok(times)
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
