//! Native histograms of a merge, one series at a time and chunk by chunk.
//!
//! Timestamps stand in front of the chunks they are of, so every chunk is decoded twice: once for the
//! instants it has, how large its histograms are and whether it can be read at all, and once to be
//! written. Memory: 24 bytes an instant, a chunk of each parent, and the chunk that is written.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::vec;

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;

use super::super::reader::offsets;
use super::super::sink::{Sink, histograms_per_chunk};
use super::{CRC_BYTES, Damaged, Head, LaneKey, Merge, MergeError, Parts, Source, Times};
use crate::batch::histogram_cells;
use crate::block::BlockError;
use crate::bytes::Malformed;
use crate::chunk::decode_histograms;
use crate::hints::Gaps;

/// What the parents have of a series' histograms.
#[derive(Default)]
pub(super) struct Histograms {
    /// When, each with whose it is: a place among the heads.
    pub(super) instants: Parts<u32>,
    /// The series in the parents that have it, with these.
    heads: Vec<(usize, Head)>,
    gaps: Gaps,
    /// The numbers of the largest.
    cells: usize,
}

/// By the parents' lanes and how many entries a chunk has.
pub(super) type Lanes = HashMap<(LaneKey, usize), u32>;

impl Histograms {
    pub(super) fn clear(&mut self) {
        self.instants.clear();
        self.heads.clear();
        self.gaps.clear();
        self.cells = 0;
    }
}

impl Merge<'_> {
    /// Adds the instants of a series of one parent.
    pub(super) fn read_instants(
        &mut self,
        at: usize,
        head: Head,
        times: &mut Times,
        histograms: &mut Histograms,
    ) -> Result<(), MergeError> {
        let Histograms { instants, heads, gaps, cells } = histograms;
        let own = u32::try_from(heads.len()).unwrap_or(u32::MAX);
        let decode = |chunk: &[u8], n: usize, out: &mut Vec<u32>| -> Result<(), Malformed> {
            let mut decoded = Vec::new();
            decode_histograms(chunk, n, &mut decoded)?;
            *cells = decoded.iter().map(histogram_cells).fold(*cells, usize::max);
            out.extend(std::iter::repeat_n(own, n));
            Ok(())
        };
        self.read(at, &head, decode, times, instants, gaps)?;
        heads.push((at, head));
        Ok(())
    }

    /// Writes the series, at timestamps it shares if others have them.
    pub(super) fn put_histograms(
        &mut self,
        sink: &mut Sink<'_>,
        pairs: &[(u32, u32)],
        histograms: &mut Histograms,
        times: &mut Times,
        lanes: &mut Lanes,
    ) -> Result<(), MergeError> {
        let Histograms { instants, heads, gaps, cells } = histograms;
        let ticks = histograms_per_chunk(*cells);
        let key = (instants.key.clone(), ticks);
        let lane = match lanes.get(&key).filter(|_| instants.is_whole) {
            Some(lane) => *lane,
            None => {
                let own: Vec<TimestampMs> = instants.samples.iter().map(|(t, _)| *t).collect();
                let lane = sink.histogram_lane(&own, ticks)?;
                if instants.is_whole {
                    lanes.insert(key, lane);
                }
                lane
            }
        };
        let Self { sources, damaged, .. } = self;
        let mut readers: Vec<Reader<'_>> =
            heads.iter().map(|(at, head)| Reader::new(*at, head)).collect();
        let mut hints = gaps.hints();
        let mut rest = instants.samples.iter();
        sink.histograms(pairs, lane, |ticks| {
            let next = |(t, own): &(TimestampMs, u32)| {
                let reader = readers.get_mut(*own as usize).ok_or_else(read_once_only)?;
                let mut histogram = reader.take(*t, sources, times, damaged)?;
                hints.check(*t, &mut histogram);
                Ok(histogram)
            };
            rest.by_ref().take(ticks).map(next).collect()
        })
    }
}

/// Reads the histograms of a series of one parent again, in order of time.
struct Reader<'a> {
    at: usize,
    head: &'a Head,
    offsets: Vec<u64>,
    /// The next window to be decoded.
    window: usize,
    /// What is left of the one before.
    times: Arc<Vec<TimestampMs>>,
    chunk: vec::IntoIter<Histogram>,
}

impl<'a> Reader<'a> {
    fn new(at: usize, head: &'a Head) -> Self {
        let offsets = offsets(head.entry.offset, &head.entry.chunk_bytes);
        Self { at, head, offsets, window: 0, times: Arc::default(), chunk: Vec::new().into_iter() }
    }

    /// The histogram at an instant, which was there the first time and is later than the last.
    fn take(
        &mut self,
        t: TimestampMs,
        sources: &[Source<'_>],
        times: &mut Times,
        damaged: &mut Damaged,
    ) -> Result<Histogram, MergeError> {
        loop {
            let first = self.times.len() - self.chunk.len();
            let left = self.times.get(first..).unwrap_or_default();
            if let Ok(skipped) = left.binary_search(&t) {
                return self.chunk.nth(skipped).ok_or_else(read_once_only);
            }
            self.open_next(t, sources, times, damaged)?;
        }
    }

    /// Decodes the next window that reaches to an instant, but for those that are left out.
    fn open_next(
        &mut self,
        t: TimestampMs,
        sources: &[Source<'_>],
        times: &mut Times,
        damaged: &mut Damaged,
    ) -> Result<(), MergeError> {
        let source = sources.get(self.at).ok_or_else(read_once_only)?;
        let lane_number = self.head.entry.lane;
        let lane = source.lanes.get(lane_number as usize).ok_or_else(read_once_only)?;
        loop {
            let window = self.window;
            self.window += 1;
            let bytes = *self.head.entry.chunk_bytes.get(window).ok_or_else(read_once_only)?;
            let offset = *self.offsets.get(window).ok_or_else(read_once_only)?;
            if damaged.places.contains_key(&(self.at, offset)) {
                continue;
            }
            let read = times.get(self.at, source.block, lane, (lane_number, window), damaged)?;
            let Some(window_times) = read.filter(|own| own.last() >= Some(&t)) else { continue };
            let span = source.block.span(offset, CRC_BYTES + u64::from(bytes))?;
            let chunk = span.chunk(offset, bytes).map_err(BlockError::from)?;
            let mut decoded = Vec::new();
            decode_histograms(chunk, window_times.len(), &mut decoded).map_err(BlockError::from)?;
            self.times = window_times;
            self.chunk = decoded.into_iter();
            return Ok(());
        }
    }
}

/// The disk gave something once and not again: the merge is tried again later.
fn read_once_only() -> MergeError {
    io::Error::other("a chunk could be read once, and not a second time").into()
}
