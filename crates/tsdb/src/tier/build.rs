//! Making a block of a tier: series by series, in order of group and labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use stoa_model::{Rollup, TimestampMs};
use stoa_wal::Disk;

use super::{Found, Gone, roll};
use crate::block::{
    Block, BlockError, BlockQuery, BlockSeries, Draft, Index, MergeError, Plan, Sink,
    SymbolsBuilder, TierMeta,
};
use crate::bytes::Malformed;
use crate::select::{Samples, WholeTimes};

/// Distinct sets of windows remembered per group, so that further series share them.
const SHARED_LANES_MAX: usize = 64;

/// After so many series what a block's reader remembers is let go.
const SERIES_PER_READER: u32 = 1024;

/// What was made.
#[derive(Debug)]
pub(crate) struct Built {
    /// `None` when there is nothing in the span.
    pub(crate) draft: Option<Draft>,
    /// Chunks left out because they could not be read.
    pub(crate) damaged: u64,
    /// Series of histograms, which are left out, counted once per block they are in.
    pub(crate) histograms: u64,
    /// Samples that are new and lie between others that are gone: nobody knows whether they are of these,
    /// and they are left out.
    pub(crate) left_out: u64,
}

/// The block that is made again, the last of the sources: where what it was made of is gone it has what is
/// left of that.
#[derive(Clone, Debug)]
pub(crate) struct Old {
    pub(crate) gone: Gone,
    pub(crate) sequence: u64,
}

/// A group's part of a source.
struct Stream {
    source: usize,
    rest: Range<u32>,
    head: Option<(u32, BlockSeries)>,
    /// Series of histograms passed over.
    histograms: u64,
}

/// Writes a block of a tier of the span `plan.start < t ≤ plan.end`, from blocks in order of rank: of
/// samples, or of a tier with windows that fit into these. Durable under its temporary name when this
/// returns; after an error the plan's [`leftovers`](crate::block::leftovers) are to be removed.
pub(crate) fn build(
    disk: &dyn Disk,
    dir: &Path,
    plan: &Plan,
    tier: TierMeta,
    sources: &[Arc<Block>],
    old: Option<&Old>,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Built, MergeError> {
    let mut indexes = Vec::with_capacity(sources.len());
    for (at, block) in sources.iter().enumerate() {
        indexes.push(Index::load(block).map_err(|error| match error {
            BlockError::Malformed(malformed) => MergeError::Parent(at, malformed),
            error @ BlockError::Io(_) => MergeError::Block(error),
        })?);
    }
    let (symbols, numbers) = symbols(&indexes)?;
    let mut groups: BTreeMap<u64, Vec<(usize, Range<u32>)>> = BTreeMap::new();
    for (at, index) in indexes.iter().enumerate() {
        let own = index.groups().map_err(|malformed| MergeError::Parent(at, malformed))?;
        for (id, series) in own {
            groups.entry(id).or_default().push((at, series));
        }
    }
    let sink = Sink::create_tier(disk, dir, plan, tier, symbols)?;
    let mut build = Build {
        plan,
        tier,
        sources,
        indexes: &indexes,
        numbers: &numbers,
        old: old.map(|old| (sources.len().saturating_sub(1), old)),
        sink,
        damaged: 0,
        histograms: 0,
        left_out: 0,
    };
    for (id, parts) in groups {
        build.group(parts, is_interrupted)?;
        build.sink.end_group(id);
    }
    let Build { sink, damaged, histograms, left_out, .. } = build;
    Ok(Built { draft: sink.draft()?, damaged, histograms, left_out })
}

/// Each text of all sources once; and per source the number each of its texts has now.
fn symbols(indexes: &[Index]) -> Result<(SymbolsBuilder, Vec<Vec<u32>>), MergeError> {
    let mut texts: BTreeSet<Vec<u8>> = BTreeSet::new();
    for (at, index) in indexes.iter().enumerate() {
        for text in index.symbol_table().each() {
            texts.insert(text.map_err(|malformed| MergeError::Parent(at, malformed))?);
        }
    }
    let mut symbols = SymbolsBuilder::default();
    let mut known: HashMap<&[u8], u32> = HashMap::with_capacity(texts.len());
    for text in &texts {
        known.insert(text, symbols.push(text).map_err(BlockError::from)?);
    }
    let mut numbers = Vec::with_capacity(indexes.len());
    for (at, index) in indexes.iter().enumerate() {
        let number = |text: Result<Vec<u8>, Malformed>| {
            let number = known.get(text?.as_slice()).copied();
            number.ok_or(Malformed("a symbol that was not there before"))
        };
        let own: Result<Vec<u32>, Malformed> = index.symbol_table().each().map(number).collect();
        numbers.push(own.map_err(|malformed| MergeError::Parent(at, malformed))?);
    }
    Ok((symbols, numbers))
}

struct Build<'a> {
    plan: &'a Plan,
    tier: TierMeta,
    sources: &'a [Arc<Block>],
    indexes: &'a [Index],
    numbers: &'a [Vec<u32>],
    /// With its place among the sources.
    old: Option<(usize, &'a Old)>,
    sink: Sink<'a>,
    damaged: u64,
    histograms: u64,
    left_out: u64,
}

impl<'a> Build<'a> {
    fn readers(&self) -> Vec<BlockQuery<'a>> {
        // Ends of windows and samples alike lie after the span's start.
        let (start, end) = (self.plan.start.saturating_add(1), self.plan.end);
        let pairs = self.sources.iter().zip(self.indexes);
        pairs.map(|(block, index)| BlockQuery::new(block, index, start, end)).collect()
    }

    fn group(
        &mut self,
        parts: Vec<(usize, Range<u32>)>,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MergeError> {
        let mut readers = self.readers();
        let mut streams = Vec::with_capacity(parts.len());
        for (source, rest) in parts {
            let mut stream = Stream { source, rest, head: None, histograms: 0 };
            stream.advance(&mut readers, self.indexes)?;
            streams.push(stream);
        }
        let mut shared: Vec<(Vec<TimestampMs>, u32)> = Vec::new();
        let mut windows = Vec::new();
        let mut whole = WholeTimes::default();
        let mut series = 0u32;
        loop {
            let heads = streams.iter().filter_map(|stream| stream.head.as_ref());
            let least = heads.map(|(_, series)| &series.labels).min();
            let Some(labels) = least.cloned() else {
                self.histograms += streams.iter().map(|stream| stream.histograms).sum::<u64>();
                return Ok(());
            };
            if is_interrupted() {
                return Err(MergeError::Interrupted);
            }
            series += 1;
            if series.is_multiple_of(SERIES_PER_READER) {
                readers = self.readers();
            }
            let mut pairs = None;
            let (mut samples, mut rollups) = (Samples::default(), Vec::new());
            let mut kept = Vec::new();
            // What the old block cannot have seen.
            let mut fresh = BTreeSet::new();
            for stream in &mut streams {
                let Some((number, series)) =
                    stream.head.take_if(|(_, series)| series.labels == labels)
                else {
                    continue;
                };
                if pairs.is_none() {
                    pairs = Some(self.pairs(stream.source, number)?);
                }
                let pair = readers.get_mut(stream.source).zip(self.sources.get(stream.source));
                if let Some((reader, source)) = pair {
                    let old = self.old.filter(|(at, _)| *at == stream.source);
                    self.damaged += if let Some((_, old)) = old {
                        let damaged = reader.rollups(&series.place, &mut kept);
                        kept.retain(|(end, _)| self.is_gone(&old.gone, *end));
                        damaged
                    } else {
                        let marks = (samples.len(), rollups.len());
                        let damaged = if source.meta.tier.is_some() {
                            reader.rollups(&series.place, &mut rollups)
                        } else {
                            reader.samples(&series.place, &mut samples)
                        };
                        if self.old.is_some_and(|(_, old)| is_new(source, old)) {
                            fresh.extend(samples.pairs().skip(marks.0).map(|(t, _)| t));
                            let rollups = rollups.iter().skip(marks.1);
                            fresh.extend(rollups.map(|(_, rollup)| rollup.first_t));
                        }
                        damaged
                    };
                }
                stream.advance(&mut readers, self.indexes)?;
            }
            rollups.sort_by_key(|(end, _)| *end);
            // Of one instant the one of lower rank counts.
            let (times, values) = samples.into_columns(&mut whole);
            let rollups = rollups.into_iter().map(|(_, rollup)| rollup).collect();
            let mut found = Found { times, values, rollups };
            kept.sort_by_key(|(end, _)| *end);
            let kept: Vec<Rollup> = kept.into_iter().map(|(_, rollup)| rollup).collect();
            let left_out = found.unite(&kept, self.tier.window_ms, |_| {});
            let times = left_out.times.iter().map(|t| (*t, 1));
            let each = times.chain(left_out.rollups.iter().map(|r| (r.first_t, r.count)));
            let new = each.filter(|(t, _)| fresh.contains(t)).map(|(_, samples)| samples);
            self.left_out += new.sum::<u64>();
            windows.clear();
            roll(found.pieces(), self.tier.window_ms, &mut windows);
            let Some(pairs) = pairs.filter(|_| !windows.is_empty()) else { continue };
            let ends: Vec<TimestampMs> = windows.iter().map(|(end, _)| *end).collect();
            let lane = match shared.iter().find(|(known, _)| *known == ends) {
                Some((_, lane)) => *lane,
                None => {
                    let lane = self.sink.lane(&ends)?;
                    if shared.len() < SHARED_LANES_MAX {
                        shared.push((ends, lane));
                    }
                    lane
                }
            };
            self.sink.rollups(&pairs, lane, &windows)?;
        }
    }

    fn is_gone(&self, gone: &Gone, end: TimestampMs) -> bool {
        gone.within(end.saturating_sub(self.tier.window_ms), end).next().is_some()
    }

    /// The labels of a source's series as symbols of the new block.
    fn pairs(&self, source: usize, number: u32) -> Result<Vec<(u32, u32)>, MergeError> {
        let missing = || MergeError::Parent(source, Malformed("no symbol of that number"));
        let index = self.indexes.get(source).ok_or_else(missing)?;
        let entry = index.series(number);
        let entry = entry.map_err(|malformed| MergeError::Parent(source, malformed))?;
        let numbers = self.numbers.get(source).ok_or_else(missing)?;
        let map = |n: u32| numbers.get(n as usize).copied();
        let pairs: Option<Vec<_>> =
            entry.pairs.iter().map(|(name, value)| Some((map(*name)?, map(*value)?))).collect();
        pairs.ok_or_else(missing)
    }
}

/// Whether a block of samples may have some that the old block was not made of.
fn is_new(source: &Block, old: &Old) -> bool {
    let parents = &source.meta.parents;
    let is_known = |sequence: &u64| *sequence < old.sequence;
    !is_known(&source.meta.sequence) && (parents.is_empty() || !parents.iter().all(is_known))
}

impl Stream {
    /// Goes to the next series of floats that has something in the span.
    fn advance(
        &mut self,
        readers: &mut [BlockQuery<'_>],
        indexes: &[Index],
    ) -> Result<(), MergeError> {
        let pair = readers.get_mut(self.source).zip(indexes.get(self.source));
        let Some((reader, index)) = pair else { return Ok(()) };
        for number in self.rest.by_ref() {
            // These have no rollups.
            if index.has_histograms(number) {
                self.histograms += 1;
                continue;
            }
            let series = reader.series(number);
            if let Some(series) =
                series.map_err(|malformed| MergeError::Parent(self.source, malformed))?
            {
                self.head = Some((number, series));
                return Ok(());
            }
        }
        Ok(())
    }
}
