//! One block from several: series by series, in order of group and labels, each instant once.
//!
//! Memory: the parents' indexes and the new one, one series' floats, its histograms chunk by chunk, and
//! the timestamps of the group at hand up to [`TIMES_MAX`] entries. Where two parents hold an instant the one of lower rank
//! wins, be it a float and the other a histogram. What tombstones hide is left out.

mod histograms;

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use roaring::RoaringBitmap;
use stoa_model::TimestampMs;
use stoa_wal::Disk;

use self::histograms::{Histograms, Lanes as HistogramLanes};
use super::chunks::{CRC_BYTES, Span};
use super::index::{Index, Lane, SeriesEntry, Window};
use super::reader::offsets;
use super::sink::{Draft, Plan, Sink};
use super::symbols::SymbolsBuilder;
use super::tombstones::{Stretch, hides, hides_all};
use super::{Block, BlockError};
use crate::bytes::Malformed;
use crate::chunk::{decode_times, decode_values};
use crate::hints::Gaps;

/// Beyond this many places the disk did not give, and more than it gave, a merge fails: it is a disk
/// that is gone and may come back, not a sector.
const UNREAD_MAX: u64 = 256;

/// Timestamps kept decoded; more are decoded again.
const TIMES_MAX: usize = 4 << 20;

/// A place in a file of chunks that did not hold what the index says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DamagedChunk {
    /// Which of the parents.
    pub(crate) parent: usize,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// The first and last sample it had.
    pub(crate) times: (TimestampMs, TimestampMs),
}

/// What a merge came to.
#[derive(Debug)]
pub(crate) struct Merged {
    /// `None` when nothing is left of the parents.
    pub(crate) draft: Option<Draft>,
    /// Left out, in order, each once.
    pub(crate) damaged: Vec<DamagedChunk>,
    /// Samples read that are not in the block: hidden by tombstones, or there twice.
    pub(crate) samples_dropped: u64,
}

/// Why a merge did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    #[error("interrupted")]
    Interrupted,
    /// The index of a parent, by its place.
    #[error("the index of a block is damaged")]
    Parent(usize, #[source] Malformed),
    #[error("cannot merge the blocks")]
    Block(#[from] BlockError),
}

impl From<std::io::Error> for MergeError {
    fn from(error: std::io::Error) -> Self {
        Self::Block(error.into())
    }
}

/// Writes one block of all parents, which stand in order of rank; durable under its temporary name when
/// this returns. After an
/// error the plan's [`leftovers`](super::leftovers) are to be removed.
pub(crate) fn merge(
    disk: &dyn Disk,
    blocks_dir: &Path,
    plan: &Plan,
    parents: &[Arc<Block>],
    is_interrupted: &dyn Fn() -> bool,
) -> Result<Merged, MergeError> {
    let mut sources = Vec::with_capacity(parents.len());
    for (at, block) in parents.iter().enumerate() {
        sources.push(Source::open(block).map_err(|error| at_parent(at, error))?);
    }
    let symbols = merge_symbols(&mut sources)?;
    let mut sink = Sink::create(disk, blocks_dir, plan, symbols)?;
    let damaged = Damaged::default();
    let samples_dropped = sources.iter().map(|source| source.gone_samples).sum();
    let mut merge = Merge { sources, damaged, samples_dropped };
    let mut groups: BTreeMap<u64, Vec<(usize, u32, Range<u32>)>> = BTreeMap::new();
    for (at, source) in merge.sources.iter().enumerate() {
        let own = source.index.groups().map_err(|malformed| MergeError::Parent(at, malformed))?;
        for (place, (id, series)) in (0u32..).zip(own) {
            groups.entry(id).or_default().push((at, place, series));
        }
    }
    for (id, parts) in groups {
        merge.group(&parts, &mut sink, is_interrupted)?;
        sink.end_group(id);
    }
    let Merge { damaged, samples_dropped, .. } = merge;
    let damaged = damaged
        .places
        .into_iter()
        .map(|((parent, offset), (bytes, times))| DamagedChunk { parent, offset, bytes, times })
        .collect();
    Ok(Merged { draft: sink.draft()?, damaged, samples_dropped })
}

fn at_parent(at: usize, error: BlockError) -> MergeError {
    match error {
        BlockError::Malformed(malformed) => MergeError::Parent(at, malformed),
        error @ BlockError::Io(_) => MergeError::Block(error),
    }
}

/// Each text that series of the parents have, once; the parents learn what its number is now.
fn merge_symbols(sources: &mut [Source<'_>]) -> Result<SymbolsBuilder, MergeError> {
    let mut merged = SymbolsBuilder::default();
    let mut numbers: Vec<Vec<u32>> = sources.iter().map(|_| Vec::new()).collect();
    let mut texts: Vec<_> =
        sources.iter().map(|source| source.index.symbol_table().each().peekable()).collect();
    loop {
        let mut least: Option<Vec<u8>> = None;
        for (at, texts) in texts.iter_mut().enumerate() {
            match texts.peek() {
                Some(Ok(text)) if least.as_ref().is_none_or(|least| text < least) => {
                    least = Some(text.clone());
                }
                Some(Err(malformed)) => return Err(MergeError::Parent(at, *malformed)),
                Some(Ok(_)) | None => {}
            }
        }
        let Some(least) = least else { break };
        let is_here =
            |texts: &mut Peekable<_>| matches!(texts.peek(), Some(Ok(text)) if *text == least);
        let mut is_used = false;
        for ((texts, numbers), source) in texts.iter_mut().zip(&numbers).zip(&*sources) {
            let number = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            is_used |=
                is_here(texts) && source.used.as_ref().is_none_or(|used| used.contains(number));
        }
        // Of what only deleted series had nobody asks for the number.
        let number =
            if is_used { merged.push(&least).map_err(BlockError::from)? } else { u32::MAX };
        for (texts, numbers) in texts.iter_mut().zip(&mut numbers) {
            if is_here(texts) {
                texts.next();
                numbers.push(number);
            }
        }
    }
    drop(texts);
    for (source, numbers) in sources.iter_mut().zip(numbers) {
        source.numbers = numbers;
    }
    Ok(merged)
}

/// One parent.
struct Source<'a> {
    block: &'a Block,
    index: Index,
    /// The merged number of each of its symbols.
    numbers: Vec<u32>,
    /// Series of which everything is deleted, and their samples.
    gone: RoaringBitmap,
    gone_samples: u64,
    /// The symbols of the others; all where none is gone.
    used: Option<RoaringBitmap>,
    /// Of the group at hand.
    lanes: Vec<Lane>,
}

impl<'a> Source<'a> {
    fn open(block: &'a Block) -> Result<Self, BlockError> {
        let index = Index::load(block)?;
        let mut source = Self {
            block,
            index,
            numbers: Vec::new(),
            gone: RoaringBitmap::new(),
            gone_samples: 0,
            used: None,
            lanes: Vec::new(),
        };
        if !block.tombstones.is_empty() {
            source.find_gone()?;
        }
        Ok(source)
    }

    /// Finds the series of which nothing is left, and what texts the others have.
    fn find_gone(&mut self) -> Result<(), Malformed> {
        let mut used = RoaringBitmap::new();
        for (place, (_, numbers)) in (0u32..).zip(self.index.groups()?) {
            let lanes = self.index.lanes(place)?;
            for number in numbers {
                let entry = self.index.series(number)?;
                let hidden = self.block.tombstones.of(number);
                let windows = lanes.get(entry.lane as usize).map(|lane| lane.windows.as_slice());
                let windows = windows.unwrap_or_default();
                if !hidden.is_empty()
                    && windows.iter().all(|window| hides_all(hidden, window.first_t, window.last_t))
                {
                    self.gone.insert(number);
                    self.gone_samples += windows.iter().map(|w| u64::from(w.ticks)).sum::<u64>();
                    continue;
                }
                for (name, value) in &entry.pairs {
                    used.insert(*name);
                    used.insert(*value);
                }
            }
        }
        self.used = (!self.gone.is_empty()).then_some(used);
        Ok(())
    }

    /// The next of some series of which anything is left.
    fn next(&self, numbers: &mut Range<u32>) -> Result<Option<Head>, Malformed> {
        let number = numbers.find(|number| !self.gone.contains(*number));
        number.map(|number| self.entry(number)).transpose()
    }

    fn entry(&self, number: u32) -> Result<Head, Malformed> {
        let entry = self.index.series(number)?;
        let map = |n: u32| self.numbers.get(n as usize).copied();
        let pairs: Option<Vec<_>> =
            entry.pairs.iter().map(|(n, v)| Some((map(*n)?, map(*v)?))).collect();
        let pairs = pairs.ok_or(Malformed("no symbol of that number"))?;
        let lane = self.lanes.get(entry.lane as usize);
        if lane.is_none_or(|lane| lane.windows.len() != entry.chunk_bytes.len()) {
            return Err(Malformed("series has more or fewer chunks than its lane"));
        }
        let has_histograms = self.index.has_histograms(number);
        Ok(Head { number, entry, pairs, has_histograms })
    }
}

/// The next series of a parent.
struct Head {
    number: u32,
    entry: SeriesEntry,
    pairs: Vec<(u32, u32)>,
    has_histograms: bool,
}

/// What makes two series of a group have the same timestamps for sure: the same lanes of the same
/// parents, with the same stretches deleted.
type LaneKey = Vec<(usize, u32, Vec<Stretch>)>;

struct Merge<'a> {
    sources: Vec<Source<'a>>,
    damaged: Damaged,
    samples_dropped: u64,
}

/// Places that are left out.
#[derive(Default)]
struct Damaged {
    /// Their bytes, and the first and last sample they had, by parent and offset.
    places: BTreeMap<(usize, u64), (u64, (TimestampMs, TimestampMs))>,
    /// Places the disk did not give, and all others.
    unread: u64,
    read: u64,
}

impl Damaged {
    /// Takes what was read of a place; `None` when it is to be left out.
    fn read<T>(
        &mut self,
        (at, offset, bytes): (usize, u64, u64),
        window: &Window,
        read: Result<T, BlockError>,
    ) -> Result<Option<T>, BlockError> {
        let error = match read {
            Ok(read) => {
                self.read += 1;
                return Ok(Some(read));
            }
            Err(error) => error,
        };
        self.places.insert((at, offset), (bytes, (window.first_t, window.last_t)));
        if matches!(error, BlockError::Io(_)) {
            self.unread += 1;
            if self.unread > UNREAD_MAX && self.unread > self.read {
                return Err(error);
            }
        }
        Ok(None)
    }
}

/// Timestamps of the group at hand.
#[derive(Default)]
struct Times {
    /// By parent, lane and window; `None` when they are damaged.
    known: HashMap<(usize, u32, usize), WindowTimes>,
    count: usize,
}

type WindowTimes = Option<Arc<Vec<TimestampMs>>>;

impl Merge<'_> {
    fn group(
        &mut self,
        parts: &[(usize, u32, Range<u32>)],
        sink: &mut Sink<'_>,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(), MergeError> {
        let damaged_at = |at: usize| move |malformed| MergeError::Parent(at, malformed);
        let mut heads: Vec<(usize, Range<u32>, Option<Head>)> = Vec::new();
        for (at, place, series) in parts {
            let Some(source) = self.sources.get_mut(*at) else { continue };
            source.lanes = source.index.lanes(*place).map_err(damaged_at(*at))?;
            let mut series = series.clone();
            let head = source.next(&mut series).map_err(damaged_at(*at))?;
            heads.push((*at, series, head));
        }
        let mut times = Times::default();
        let mut lanes: HashMap<LaneKey, u32> = HashMap::new();
        let mut histogram_lanes = HistogramLanes::new();
        let (mut floats, mut histograms) = (Parts::default(), Histograms::default());
        loop {
            let least = heads.iter().filter_map(|(_, _, head)| Some(&head.as_ref()?.pairs)).min();
            let Some(pairs) = least.cloned() else { return Ok(()) };
            if is_interrupted() {
                return Err(MergeError::Interrupted);
            }
            floats.clear();
            histograms.clear();
            for (at, rest, slot) in &mut heads {
                // A parent has a series that has both kinds twice.
                while let Some(head) = slot.take_if(|head| head.pairs == pairs) {
                    let Some(source) = self.sources.get(*at) else { break };
                    *slot = source.next(rest).map_err(damaged_at(*at))?;
                    if head.has_histograms {
                        self.read_instants(*at, head, &mut times, &mut histograms)?;
                    } else {
                        let gaps = &mut Gaps::default();
                        self.read(*at, &head, decode_values, &mut times, &mut floats, gaps)?;
                    }
                }
            }
            let instants = &mut histograms.instants;
            if !floats.samples.is_empty() && !instants.samples.is_empty() {
                self.samples_dropped += first_stays(&mut floats, instants);
            }
            self.samples_dropped += floats.put_in_order();
            self.samples_dropped += instants.put_in_order();
            if !floats.samples.is_empty() {
                let (own_times, values): (Vec<TimestampMs>, Vec<f64>) =
                    floats.samples.iter().copied().unzip();
                let known = lanes.get(&floats.key).filter(|_| floats.is_whole);
                let lane = match known {
                    Some(lane) => *lane,
                    None => {
                        let lane = sink.lane(&own_times)?;
                        if floats.is_whole {
                            lanes.insert(floats.key.clone(), lane);
                        }
                        lane
                    }
                };
                sink.series(&pairs, lane, &values)?;
            }
            if !histograms.instants.samples.is_empty() {
                let lanes = &mut histogram_lanes;
                self.put_histograms(sink, &pairs, &mut histograms, &mut times, lanes)?;
            }
        }
    }

    /// Adds a series' samples of one parent; `decode_chunk` appends the entries of a chunk of so many.
    fn read<V>(
        &mut self,
        at: usize,
        head: &Head,
        mut decode_chunk: impl FnMut(&[u8], usize, &mut Vec<V>) -> Result<(), Malformed>,
        times: &mut Times,
        parts: &mut Parts<V>,
        gaps: &mut Gaps,
    ) -> Result<(), MergeError> {
        let Self { sources, damaged, samples_dropped } = self;
        let Some(Source { block, lanes, .. }) = sources.get(at) else { return Ok(()) };
        let Some(lane) = lanes.get(head.entry.lane as usize) else { return Ok(()) };
        let offsets = offsets(head.entry.offset, &head.entry.chunk_bytes);
        let (Some(from), Some(to)) = (offsets.first(), offsets.last()) else { return Ok(()) };
        let hidden = block.tombstones.of(head.number);
        let Parts { samples, ends, key, is_whole } = parts;
        key.push((at, head.entry.lane, hidden.to_vec()));
        // Where one sector is bad each chunk is read for itself: it costs those that lie in it. So are
        // histograms, whose chunks are long.
        let all = (!head.has_histograms).then(|| block.span(*from, to.saturating_sub(*from)).ok());
        let all = all.flatten();
        let chunks = offsets.iter().zip(&head.entry.chunk_bytes).enumerate();
        for (window, (offset, bytes)) in chunks {
            let read = times.get(at, block, lane, (head.entry.lane, window), damaged)?;
            let Some(window_times) = read else {
                *is_whole = false;
                continue;
            };
            let mut values = Vec::new();
            let stored_bytes = CRC_BYTES + u64::from(*bytes);
            let mut decode = |span: &Span| {
                let chunk = span.chunk(*offset, *bytes)?;
                Ok(decode_chunk(chunk, window_times.len(), &mut values)?)
            };
            let decoded = match &all {
                Some(span) => decode(span),
                None => block.span(*offset, stored_bytes).and_then(|span| decode(&span)),
            };
            let own = lane.window(window)?;
            if damaged.read((at, *offset, stored_bytes), own, decoded)?.is_none() {
                *is_whole = false;
                continue;
            }
            let before = samples.len();
            let there = window_times.iter().copied().zip(values);
            samples.extend(there.filter(|(t, _)| {
                let is_deleted = hides(hidden, *t);
                gaps.note(*t, is_deleted);
                !is_deleted
            }));
            *samples_dropped += (window_times.len() - (samples.len() - before)) as u64;
        }
        ends.push((at, samples.len()));
        gaps.end_place();
        Ok(())
    }
}

/// What the parents have of one kind of a series.
struct Parts<V> {
    samples: Vec<(TimestampMs, V)>,
    /// Parents, in order of rank, and where what is theirs ends.
    ends: Vec<(usize, usize)>,
    key: LaneKey,
    /// All could be read, and nothing was left out that depends on the series.
    is_whole: bool,
}

impl<V> Default for Parts<V> {
    fn default() -> Self {
        Self { samples: Vec::new(), ends: Vec::new(), key: LaneKey::new(), is_whole: true }
    }
}

impl<V> Parts<V> {
    fn clear(&mut self) {
        self.samples.clear();
        self.ends.clear();
        self.key.clear();
        self.is_whole = true;
    }

    /// Puts them in order of time, each instant once; says how many were there twice.
    fn put_in_order(&mut self) -> u64 {
        let before = self.samples.len();
        if !self.samples.is_sorted_by(|(a, _), (b, _)| a < b) {
            // Stable: of one instant the one of lower rank stays first.
            self.samples.sort_by_key(|(t, _)| *t);
            self.samples.dedup_by_key(|(t, _)| *t);
        }
        (before - self.samples.len()) as u64
    }

    /// The first parent that has each instant.
    fn parents(&self) -> HashMap<TimestampMs, usize> {
        let mut parents = HashMap::with_capacity(self.samples.len());
        let mut from = 0;
        for (at, end) in &self.ends {
            for (t, _) in self.samples.get(from..*end).unwrap_or_default() {
                parents.entry(*t).or_insert(*at);
            }
            from = *end;
        }
        parents
    }

    /// Leaves out the instants that a parent of lower rank has as the other kind.
    fn leave_to(&mut self, others: &HashMap<TimestampMs, usize>) -> u64 {
        let before = self.samples.len();
        let mut ends = self.ends.iter().copied().peekable();
        let mut number = 0;
        self.samples.retain(|(t, _)| {
            while ends.next_if(|(_, end)| *end <= number).is_some() {}
            number += 1;
            let own = ends.peek().map_or(usize::MAX, |(at, _)| *at);
            others.get(t).is_none_or(|other| own <= *other)
        });
        let dropped = before - self.samples.len();
        self.is_whole &= dropped == 0;
        dropped as u64
    }
}

/// Of an instant that is a float in one parent and a histogram in another the one of lower rank stays;
/// says how many samples went.
fn first_stays(floats: &mut Parts<f64>, histograms: &mut Parts<u32>) -> u64 {
    let (of_floats, of_histograms) = (floats.parents(), histograms.parents());
    floats.leave_to(&of_histograms) + histograms.leave_to(&of_floats)
}

impl Times {
    /// The timestamps of a window; `None` when they are damaged.
    fn get(
        &mut self,
        at: usize,
        block: &Block,
        lane: &Lane,
        (number, window): (u32, usize),
        damaged: &mut Damaged,
    ) -> Result<WindowTimes, MergeError> {
        if let Some(known) = self.known.get(&(at, number, window)) {
            return Ok(known.clone());
        }
        let (offset, bytes) = lane.place(window)?;
        let read = block.span(offset, bytes).and_then(|span| Ok(lane.decode(&span, window)?));
        let own = lane.window(window)?;
        let times = damaged.read((at, offset, bytes), own, read)?.map(Arc::new);
        if self.count > TIMES_MAX {
            *self = Self::default();
        }
        self.count += times.as_ref().map_or(0, |times| times.len());
        self.known.insert((at, number, window), times.clone());
        Ok(times)
    }
}

impl Lane {
    fn window(&self, at: usize) -> Result<&Window, BlockError> {
        Ok(self.windows.get(at).ok_or(Malformed("no window of that number"))?)
    }

    /// Where a window's timestamps are, their checksum included.
    pub(super) fn place(&self, at: usize) -> Result<(u64, u64), BlockError> {
        let window = self.window(at)?;
        let before = self.windows.iter().take(at);
        let before = before.map(|window| CRC_BYTES + u64::from(window.bytes));
        let offset = before.fold(self.offset, u64::saturating_add);
        Ok((offset, CRC_BYTES + u64::from(window.bytes)))
    }

    /// The timestamps of a window, from bytes read at its place.
    pub(super) fn decode(&self, span: &Span, at: usize) -> Result<Vec<TimestampMs>, Malformed> {
        let window = self.windows.get(at).ok_or(Malformed("no window of that number"))?;
        let mut times = Vec::new();
        let chunk = span.chunk(span.offset(), window.bytes)?;
        decode_times(chunk, window.ticks as usize, &mut times)?;
        Ok(times)
    }
}
