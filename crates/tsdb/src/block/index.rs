//! The index of a block: which series it holds, their labels, and where their chunks are.
//!
//! Five sections, each with a checksum, and a footer that says where they are; a sixth where series
//! hold native histograms. Numbers within are
//! of fixed width where they are searched, so that an index is used as it lies in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use roaring::RoaringBitmap;
use stoa_model::{Label, Labels};

use super::reader::BlockError;
use super::symbols::Symbols;
use super::{Block, Copies, bound_crc};
use crate::bytes::{Cursor, Malformed};
use crate::matching;

pub(super) const MAGIC: [u8; 8] = *b"STOAIDX\0";
/// All series hold floats.
pub(super) const VERSION: u16 = 1;
/// A sixth section says which series hold native histograms.
pub(super) const VERSION_HISTOGRAMS: u16 = 2;
/// Magic, version, six bytes of nothing.
pub(super) const HEADER_BYTES: usize = 16;
pub(super) const SECTIONS: usize = 5;

/// Per section offset, length, checksum; four counts; checksum; magic.
pub(super) const fn footer_bytes(sections: usize) -> usize {
    sections * 20 + 16 + 4 + 8
}

/// A label's name, value, and where its postings are.
pub(super) const LABEL_BYTES: usize = 16;

/// An index in memory, every section checked.
#[derive(Debug)]
pub(crate) struct Index {
    bytes: Vec<u8>,
    symbols: Range<usize>,
    groups: Range<usize>,
    series: Range<usize>,
    labels: Range<usize>,
    postings: Range<usize>,
    /// The series that hold native histograms.
    histograms: RoaringBitmap,
    symbol_count: u32,
    group_count: u32,
    series_count: u32,
    label_count: u32,
    /// Texts of labels that were asked for, by their numbers; at most [`TEXTS_MAX`]. Locked for the
    /// labels of one series.
    texts: Mutex<HashMap<u32, Arc<str>, BuildHasherDefault<NumberHasher>>>,
}

/// Texts of an index that are kept ready: some hundred KiB. The same few make up most labels.
const TEXTS_MAX: usize = 4096;

/// Spreads numbers of symbols, which nobody chooses to collide.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Where a series' chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeriesEntry {
    pub(crate) group: u32,
    pub(crate) lane: u32,
    /// Where its first chunk's checksum stands in the file of chunks.
    pub(crate) offset: u64,
    /// The length of each of its chunks, one per window of its lane.
    pub(crate) chunk_bytes: Vec<u32>,
    /// Symbols of its labels' names and values.
    pub(crate) pairs: Vec<(u32, u32)>,
}

/// Timestamps that series of a group share, in windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Where its first window's checksum stands in the file of chunks.
    pub(crate) offset: u64,
    pub(crate) windows: Vec<Window>,
}

/// One chunk of timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) ticks: u32,
    pub(crate) first_t: i64,
    pub(crate) last_t: i64,
    pub(crate) bytes: u32,
}

impl Index {
    /// Reads an index whole; where that does not work, makes it of the block's spare.
    pub(crate) fn load(block: &Block) -> Result<Self, BlockError> {
        let read =
            block.index_bytes().and_then(|bytes| Ok(Self::parse(bytes, block.meta.sequence)?));
        let index = read.or_else(|error| {
            let bytes = match block.spare.as_ref().map(|spare| spare.index(&block.meta)) {
                Some(Ok(bytes)) => bytes,
                // It may be whole: that it cannot be read now is not that the block is damaged.
                Some(Err(unread @ BlockError::Io(_))) => return Err(unread),
                None if block.is_spare_unread() => {
                    return Err(io::Error::other("the spare cannot be read").into());
                }
                Some(Err(BlockError::Malformed(_))) | None => return Err(error),
            };
            let index = Self::parse(bytes, block.meta.sequence)?;
            block.set_mendable(Copies { index: true, ..Copies::default() });
            Ok(index)
        })?;
        block.has_histograms.get_or_init(|| index.has_any_histograms());
        Ok(index)
    }

    /// As it is on the disk.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn parse(bytes: Vec<u8>, sequence: u64) -> Result<Self, Malformed> {
        // The footer's checksum says whether there are as many sections as the header has it.
        let has_histograms = bytes.get(8..10) == Some(&VERSION_HISTOGRAMS.to_le_bytes());
        let sections = if has_histograms { SECTIONS + 1 } else { SECTIONS };
        let footer_len = footer_bytes(sections);
        let footer_at = bytes.len().checked_sub(footer_len).ok_or(Malformed("index too short"))?;
        let footer = bytes.get(footer_at..).unwrap_or_default();
        let (body, tail) =
            footer.split_at_checked(footer_len - 12).ok_or(Malformed("index too short"))?;
        let mut tail = Cursor::new(tail);
        if tail.u32()? != bound_crc(sequence, footer_at as u64, body) || tail.take(8)? != MAGIC {
            return Err(Malformed("index footer fails its checksum"));
        }
        let mut header = Cursor::new(bytes.get(..HEADER_BYTES).unwrap_or_default());
        let version = if has_histograms { VERSION_HISTOGRAMS } else { VERSION };
        if header.take(8)? != MAGIC || header.take(2)? != version.to_le_bytes() {
            return Err(Malformed("index of another version"));
        }
        if header.take(6)? != [0; 6] {
            return Err(Malformed("index with something where nothing is"));
        }
        let mut cursor = Cursor::new(body);
        let mut section = || {
            let (offset, len, crc) = (cursor.u64()?, cursor.u64()?, cursor.u32()?);
            let range = usize::try_from(offset)
                .ok()
                .zip(usize::try_from(len).ok())
                .and_then(|(offset, len)| Some(offset..offset.checked_add(len)?))
                .filter(|range| range.end <= footer_at)
                .ok_or(Malformed("section beyond the index"))?;
            let section = bytes.get(range.clone()).unwrap_or_default();
            if crc != bound_crc(sequence, offset, section) {
                return Err(Malformed("section fails its checksum"));
            }
            Ok(range)
        };
        let (symbols, groups, series) = (section()?, section()?, section()?);
        let (labels, postings) = (section()?, section()?);
        let histograms = if has_histograms { section()? } else { 0..0 };
        let (symbol_count, group_count) = (cursor.u32()?, cursor.u32()?);
        let (series_count, label_count) = (cursor.u32()?, cursor.u32()?);
        // A number of series is taken at its word where all are asked for.
        let fits = |count: u32, bytes_each: usize, section: &Range<usize>| {
            (count as usize).checked_mul(bytes_each).is_some_and(|need| need <= section.len())
        };
        if !fits(symbol_count, 1, &symbols)
            || !fits(group_count, 4, &groups)
            || !fits(series_count, 4, &series)
            || !fits(label_count, LABEL_BYTES, &labels)
        {
            return Err(Malformed("counts beyond the index"));
        }
        let histograms = match bytes.get(histograms).unwrap_or_default() {
            [] => RoaringBitmap::new(),
            bytes => RoaringBitmap::deserialize_from(bytes)
                .ok()
                .ok_or(Malformed("series of histograms are no bitmap"))?,
        };
        Ok(Self {
            bytes,
            symbols,
            groups,
            series,
            labels,
            postings,
            histograms,
            symbol_count,
            group_count,
            series_count,
            label_count,
            texts: Mutex::default(),
        })
    }

    /// Whether the chunks of a series are of native histograms.
    pub(crate) fn has_histograms(&self, number: u32) -> bool {
        !self.histograms.is_empty() && self.histograms.contains(number)
    }

    /// Whether those of any series are.
    pub(crate) fn has_any_histograms(&self) -> bool {
        !self.histograms.is_empty()
    }

    fn section(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    pub(crate) fn symbol_table(&self) -> Symbols<'_> {
        Symbols { bytes: self.section(&self.symbols), count: self.symbol_count }
    }

    /// The entry of a number in a section that begins with an offset (u32) per entry.
    fn entry(section: &[u8], count: u32, number: u32) -> Result<Cursor<'_>, Malformed> {
        let missing = Malformed("entry out of range");
        if number >= count {
            return Err(missing);
        }
        let (offsets, body) = section.split_at_checked(count as usize * 4).ok_or(missing)?;
        let offset = Cursor::new(offsets.get(number as usize * 4..).unwrap_or_default()).u32()?;
        Ok(Cursor::new(body.get(offset as usize..).ok_or(missing)?))
    }

    pub(crate) fn lanes(&self, group: u32) -> Result<Vec<Lane>, Malformed> {
        let mut cursor = Self::entry(self.section(&self.groups), self.group_count, group)?;
        let _id = cursor.u64()?;
        let count = cursor.count(2)?;
        let mut lanes = Vec::with_capacity(count);
        for _ in 0..count {
            let offset = cursor.varint()?;
            let mut windows = Vec::new();
            for _ in 0..cursor.count(4)? {
                let ticks = cursor.varint_u32()?;
                let first_t = cursor.zigzag()?;
                let last_t = first_t.wrapping_add(cursor.varint()?.cast_signed());
                windows.push(Window { ticks, first_t, last_t, bytes: cursor.varint_u32()? });
            }
            lanes.push(Lane { offset, windows });
        }
        Ok(lanes)
    }

    /// Whether the first bytes are those every index begins with.
    pub(super) fn header_is_plain(&self) -> bool {
        let mut header = MAGIC.to_vec();
        let version = if self.has_any_histograms() { VERSION_HISTOGRAMS } else { VERSION };
        header.extend_from_slice(&version.to_le_bytes());
        header.resize(HEADER_BYTES, 0);
        self.bytes.starts_with(&header)
    }

    /// Whether the labels and postings are exactly these.
    pub(super) fn postings_are(
        &self,
        expected: &BTreeMap<(u32, u32), RoaringBitmap>,
    ) -> Result<bool, Malformed> {
        if self.label_count as usize != expected.len() {
            return Ok(false);
        }
        for (at, (pair, bitmap)) in (0u32..).zip(expected) {
            let label = self.label(at)?;
            if (label.name, label.value) != *pair || self.bitmap(label)? != *bitmap {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The groups in order of their place: number outside, and the numbers of their series.
    pub(crate) fn groups(&self) -> Result<Vec<(u64, Range<u32>)>, Malformed> {
        let section = self.section(&self.groups);
        let mut groups = Vec::new();
        let mut first = 0;
        for place in 0..self.group_count {
            let id = Self::entry(section, self.group_count, place)?.u64()?;
            let mut end = first;
            while end < self.series_count {
                let mut entry = Self::entry(self.section(&self.series), self.series_count, end)?;
                if entry.varint_u32()? != place {
                    break;
                }
                end += 1;
            }
            groups.push((id, first..end));
            first = end;
        }
        if first == self.series_count {
            Ok(groups)
        } else {
            Err(Malformed("series do not stand in order of group"))
        }
    }

    pub(crate) fn series(&self, number: u32) -> Result<SeriesEntry, Malformed> {
        let mut cursor = Self::entry(self.section(&self.series), self.series_count, number)?;
        let (group, lane) = (cursor.varint_u32()?, cursor.varint_u32()?);
        let offset = cursor.varint()?;
        let mut chunk_bytes = Vec::new();
        for _ in 0..cursor.count(1)? {
            chunk_bytes.push(cursor.varint_u32()?);
        }
        let mut pairs = Vec::new();
        for _ in 0..cursor.count(2)? {
            pairs.push((cursor.varint_u32()?, cursor.varint_u32()?));
        }
        Ok(SeriesEntry { group, lane, offset, chunk_bytes, pairs })
    }

    /// The labels of a series.
    pub(crate) fn labels(&self, pairs: &[(u32, u32)]) -> Result<Labels, Malformed> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() + 2 * pairs.len() > TEXTS_MAX {
            texts.clear();
        }
        let mut text = |number: u32| -> Result<Arc<str>, Malformed> {
            if let Some(text) = texts.get(&number) {
                return Ok(Arc::clone(text));
            }
            let text: Arc<str> = self.symbol_table().text(number)?.into();
            texts.insert(number, Arc::clone(&text));
            Ok(text)
        };
        let mut labels = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            labels.push(Label { name: text(*name)?, value: text(*value)? });
        }
        drop(texts);
        Ok(Labels::from_ordered(labels))
    }

    fn label(&self, at: u32) -> Result<LabelEntry, Malformed> {
        let bytes = self.section(&self.labels).get(at as usize * LABEL_BYTES..);
        let mut cursor = Cursor::new(bytes.unwrap_or_default());
        Ok(LabelEntry {
            name: cursor.u32()?,
            value: cursor.u32()?,
            offset: cursor.u32()?,
            bytes: cursor.u32()?,
        })
    }

    /// The first label that is not before (name, value), by number.
    fn label_bound(&self, name: u32, value: u32) -> Result<u32, Malformed> {
        let (mut low, mut high) = (0, self.label_count);
        while low < high {
            let middle = low.midpoint(high);
            let label = self.label(middle)?;
            if (label.name, label.value) < (name, value) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn bitmap(&self, label: LabelEntry) -> Result<RoaringBitmap, Malformed> {
        let from = label.offset as usize;
        let bytes = self.section(&self.postings).get(from..from + label.bytes as usize);
        let bytes = bytes.ok_or(Malformed("postings out of range"))?;
        let bitmap = RoaringBitmap::deserialize_from(bytes).ok();
        let mut bitmap = bitmap.ok_or(Malformed("postings are no bitmap"))?;
        bitmap.remove_run_compression();
        Ok(bitmap)
    }
}

#[derive(Clone, Copy, Debug)]
struct LabelEntry {
    name: u32,
    value: u32,
    offset: u32,
    bytes: u32,
}

impl matching::Index for Index {
    type Error = Malformed;

    fn all(&self) -> Result<RoaringBitmap, Malformed> {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series_count);
        Ok(all)
    }

    fn equal(&self, name: &str, value: &str) -> Result<Option<RoaringBitmap>, Malformed> {
        let symbols = self.symbol_table();
        let (Some(name), Some(value)) = (symbols.find(name)?, symbols.find(value)?) else {
            return Ok(None);
        };
        let at = self.label_bound(name, value)?;
        if at >= self.label_count {
            return Ok(None);
        }
        let label = self.label(at)?;
        if (label.name, label.value) == (name, value) {
            self.bitmap(label).map(Some)
        } else {
            Ok(None)
        }
    }

    fn union(
        &self,
        name: &str,
        prefix: &str,
        keep: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, Malformed> {
        let mut union = RoaringBitmap::new();
        let symbols = self.symbol_table();
        let Some(name) = symbols.find(name)? else { return Ok(union) };
        let first = self.label_bound(name, symbols.lower_bound(prefix)?)?;
        for at in first..self.label_count {
            let label = self.label(at)?;
            if label.name != name {
                break;
            }
            let text = symbols.text(label.value)?;
            if !text.starts_with(prefix) {
                break;
            }
            if keep(&text) {
                union |= self.bitmap(label)?;
            }
        }
        Ok(union)
    }

    fn names(&self, each: &mut dyn FnMut(&str)) -> Result<(), Malformed> {
        let mut last = None;
        for at in 0..self.label_count {
            let label = self.label(at)?;
            if last.replace(label.name) != Some(label.name) {
                each(&self.symbol_table().text(label.name)?);
            }
        }
        Ok(())
    }

    fn values(&self, name: &str, each: &mut dyn FnMut(&str)) -> Result<(), Malformed> {
        let symbols = self.symbol_table();
        let Some(name) = symbols.find(name)? else { return Ok(()) };
        for at in self.label_bound(name, 0)?..self.label_count {
            let label = self.label(at)?;
            if label.name != name {
                break;
            }
            each(&symbols.text(label.value)?);
        }
        Ok(())
    }
}

/// The indexes used last, up to a number of bytes; at least one.
#[derive(Debug)]
pub(crate) struct IndexCache {
    bytes_max: usize,
    /// By sequence number of their block, the one used last at the back. The lock guards only the
    /// list; indexes are read without it.
    held: Mutex<VecDeque<(u64, Arc<Index>)>>,
}

impl IndexCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: Mutex::new(VecDeque::new()) }
    }

    pub(crate) fn get(&self, block: &Block) -> Result<Arc<Index>, BlockError> {
        let sequence = block.meta.sequence;
        if let Some(index) = self.take(sequence) {
            self.put(sequence, Arc::clone(&index));
            return Ok(index);
        }
        let index = Arc::new(Index::load(block)?);
        self.put(sequence, Arc::clone(&index));
        Ok(index)
    }

    fn take(&self, sequence: u64) -> Option<Arc<Index>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|(held, _)| *held == sequence)?;
        held.remove(at).map(|(_, index)| index)
    }

    fn put(&self, sequence: u64, index: Arc<Index>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(held, _)| *held != sequence);
        held.push_back((sequence, index));
        let mut bytes: usize = held.iter().map(|(_, index)| index.bytes.len()).sum();
        while bytes > self.bytes_max && held.len() > 1 {
            let Some((_, oldest)) = held.pop_front() else { break };
            bytes -= oldest.bytes.len();
        }
    }

    pub(crate) fn forget(&self, sequence: u64) {
        drop(self.take(sequence));
    }
}
