//! What a block's meta and index are made again from when they are damaged: a copy of the one, and of
//! the other what cannot be derived.
//!
//! Offsets follow from lengths, labels and postings from the series; of a series only what differs from
//! the one before it is named. That is a tenth of an index. What it makes is the index byte by byte, and
//! a checksum says so. `docs/formats/block.md` has every byte.

use std::io;
use std::path::Path;

use stoa_wal::{Disk, DiskRead};

use super::chunks::{CRC_BYTES, HEADER};
use super::index::{Index, Lane, Window};
use super::index_writer::IndexBuilder;
use super::symbols::{Symbols, SymbolsBuilder};
use super::{BlockError, Meta, SPARE, bound_crc, unread};
use crate::bytes::{Cursor, Malformed, put_bytes, put_varint, put_zigzag};
use crate::head_file::read_twice;

const MAGIC: [u8; 8] = *b"STOASPR\0";
const VERSION: u16 = 1;
/// Magic, version, six bytes of nothing, length of the meta, checksum of the index, length and checksum
/// of the parts, checksum of this.
const HEADER_BYTES: usize = 40;
/// No meta is longer: some ten thousand parents.
const META_BYTES_MAX: usize = 1 << 20;

/// Its labels have the names of those of the series before; which values differ follows.
const SAME_NAMES: u8 = 1;
/// Its lane is that of the series before.
const SAME_LANE: u8 = 2;
/// It holds native histograms.
const HISTOGRAMS: u8 = 4;

/// The parts of an index while it grows.
#[derive(Default)]
pub(super) struct Parts {
    groups: Vec<u8>,
    group_count: u64,
    series: Vec<u8>,
    /// Where the flags of the series added last stand.
    last_flags: usize,
    /// Of the group that ends next.
    series_count: u64,
    last: Last,
}

/// What a series is told apart from.
#[derive(Default)]
struct Last {
    pairs: Vec<(u32, u32)>,
    lane: u32,
}

impl Last {
    /// Which values differ, if names do not.
    fn mask(&self, pairs: &[(u32, u32)]) -> Option<u64> {
        let is_like = pairs.len() == self.pairs.len()
            && pairs.len() <= u64::BITS as usize
            && pairs.iter().zip(&self.pairs).all(|((a, _), (b, _))| a == b);
        let differ = pairs.iter().zip(&self.pairs).map(|((_, a), (_, b))| u64::from(a != b));
        is_like.then(|| differ.enumerate().fold(0, |mask, (at, differs)| mask | differs << at))
    }
}

impl Parts {
    pub(super) fn add_series(&mut self, pairs: &[(u32, u32)], lane: u32, chunk_bytes: &[u64]) {
        self.series_count += 1;
        self.last_flags = self.series.len();
        let mask = self.last.mask(pairs);
        let same_lane = if lane == self.last.lane { SAME_LANE } else { 0 };
        let same_names = if mask.is_some() { SAME_NAMES } else { 0 };
        let out = &mut self.series;
        out.push(same_lane | same_names);
        if let Some(mask) = mask {
            put_varint(out, mask);
            for ((_, value), (_, last)) in pairs.iter().zip(&self.last.pairs) {
                if value != last {
                    put_zigzag(out, i64::from(*value) - i64::from(*last));
                }
            }
        } else {
            put_varint(out, pairs.len() as u64);
            for (name, value) in pairs {
                put_varint(out, u64::from(*name));
                put_varint(out, u64::from(*value));
            }
        }
        if same_lane == 0 {
            put_varint(out, u64::from(lane));
        }
        chunk_bytes.iter().for_each(|bytes| put_varint(out, *bytes));
        self.last.lane = lane;
        self.last.pairs.clear();
        self.last.pairs.extend_from_slice(pairs);
    }

    /// Notes that the series added last holds native histograms.
    pub(super) fn set_histograms(&mut self) {
        if let Some(flags) = self.series.get_mut(self.last_flags) {
            *flags |= HISTOGRAMS;
        }
    }

    pub(super) fn end_group(&mut self, id: u64, lanes: &[Lane]) {
        self.group_count += 1;
        let out = &mut self.groups;
        put_varint(out, id);
        put_varint(out, std::mem::take(&mut self.series_count));
        put_varint(out, lanes.len() as u64);
        let (mut ticks, mut t) = (0, 0);
        for lane in lanes {
            put_varint(out, lane.windows.len() as u64);
            for window in &lane.windows {
                put_zigzag(out, i64::from(window.ticks) - i64::from(ticks));
                put_zigzag(out, window.first_t.wrapping_sub(t));
                put_varint(out, window.last_t.wrapping_sub(window.first_t).cast_unsigned());
                put_varint(out, u64::from(window.bytes));
                (ticks, t) = (window.ticks, window.last_t);
            }
        }
        self.last.lane = 0;
    }

    /// All of them, with the symbols they are of.
    pub(super) fn encode(self, symbols: &[u8], symbol_count: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(symbols.len() + self.groups.len() + self.series.len());
        put_varint(&mut out, u64::from(symbol_count));
        put_bytes(&mut out, symbols);
        put_varint(&mut out, self.group_count);
        put_bytes(&mut out, &self.groups);
        out.extend_from_slice(&self.series);
        out
    }

    /// Those of an index that is there.
    fn of(index: &Index) -> Result<Vec<u8>, Malformed> {
        let mut parts = Self::default();
        for (place, (id, numbers)) in (0u32..).zip(index.groups()?) {
            for number in numbers {
                let entry = index.series(number)?;
                let bytes: Vec<u64> = entry.chunk_bytes.iter().map(|n| u64::from(*n)).collect();
                parts.add_series(&entry.pairs, entry.lane, &bytes);
                if index.has_histograms(number) {
                    parts.set_histograms();
                }
            }
            parts.end_group(id, &index.lanes(place)?);
        }
        let symbols = index.symbol_table();
        Ok(parts.encode(symbols.bytes, symbols.count))
    }
}

/// The file's bytes.
pub(super) fn encode(meta: &Meta, index: &[u8], parts: &[u8]) -> io::Result<Vec<u8>> {
    let meta_bytes = meta.encode();
    let meta_len = u32::try_from(meta_bytes.len()).map_err(io::Error::other)?;
    let at = (HEADER_BYTES + meta_bytes.len()) as u64;
    let mut out = Vec::with_capacity(HEADER_BYTES + meta_bytes.len() + parts.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&meta_len.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(index).to_le_bytes());
    out.extend_from_slice(&(parts.len() as u64).to_le_bytes());
    out.extend_from_slice(&bound_crc(meta.sequence, at, parts).to_le_bytes());
    let crc = bound_crc(meta.sequence, 0, &out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&meta_bytes);
    out.extend_from_slice(parts);
    Ok(out)
}

/// The file of a block that is whole.
pub(super) fn of(meta: &Meta, index: &Index) -> Result<Vec<u8>, BlockError> {
    Ok(encode(meta, index.bytes(), &Parts::of(index)?)?)
}

/// An open file.
#[derive(Debug)]
pub(super) struct Spare {
    file: Box<dyn DiskRead>,
    pub(super) bytes: u64,
    /// What stands in front, if that is whole.
    front: Option<Front>,
}

#[derive(Debug)]
struct Front {
    meta: Meta,
    meta_len: usize,
    index_crc: u32,
    parts_len: u64,
    parts_crc: u32,
}

impl Spare {
    /// Opens that of a block; `None` when there is none.
    ///
    /// # Errors
    /// [`BlockError::Io`] when it is there and cannot be read now; damage is none.
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, BlockError> {
        let file = match disk.open(&dir.join(SPARE)).map_err(unread) {
            Ok(file) => file,
            Err(BlockError::Malformed(_)) => return Ok(None),
            Err(error @ BlockError::Io(_)) => return Err(error),
        };
        let bytes = file.size()?;
        let front = match Front::read(&*file, bytes) {
            Ok(front) => Some(front),
            Err(BlockError::Malformed(_)) => None,
            Err(error @ BlockError::Io(_)) => return Err(error),
        };
        Ok(Some(Self { file, bytes, front }))
    }

    /// The copy of the meta.
    pub(super) fn meta(&self) -> Option<&Meta> {
        self.front.as_ref().map(|front| &front.meta)
    }

    /// Whether these are the bytes of the index it is of.
    pub(super) fn is_of(&self, index: &[u8]) -> bool {
        self.front.as_ref().is_some_and(|front| crc32c::crc32c(index) == front.index_crc)
    }

    /// Makes the index of a block, byte by byte as it was.
    pub(super) fn index(&self, meta: &Meta) -> Result<Vec<u8>, BlockError> {
        let front = self.front.as_ref().filter(|front| front.meta == *meta);
        let front = front.ok_or(Malformed("spare of another block"))?;
        let at = (HEADER_BYTES + front.meta_len) as u64;
        if at.checked_add(front.parts_len) != Some(self.bytes) {
            return Err(Malformed("spare is too short or too long").into());
        }
        let mut parts = vec![0; usize::try_from(front.parts_len).unwrap_or(0)];
        read_twice(&*self.file, &mut parts, at)?;
        if bound_crc(meta.sequence, at, &parts) != front.parts_crc {
            return Err(Malformed("spare fails its checksum").into());
        }
        let index = make(&parts, meta.sequence)?;
        if !self.is_of(&index) || index.len() as u64 != meta.index_bytes {
            return Err(Malformed("spare does not make its index").into());
        }
        Ok(index)
    }
}

impl Front {
    fn read(file: &dyn DiskRead, bytes: u64) -> Result<Self, BlockError> {
        let mut header = [0; HEADER_BYTES];
        read_twice(file, &mut header, 0)?;
        let mut cursor = Cursor::new(&header);
        if cursor.take(8)? != MAGIC || cursor.take(2)? != VERSION.to_le_bytes() {
            return Err(Malformed("spare of another version").into());
        }
        let _reserved = cursor.take(6)?;
        let meta_len = cursor.u32()? as usize;
        let (index_crc, parts_len) = (cursor.u32()?, cursor.u64()?);
        let (parts_crc, crc) = (cursor.u32()?, cursor.u32()?);
        let is_there = (HEADER_BYTES as u64).saturating_add(meta_len as u64) <= bytes;
        if !is_there || meta_len > META_BYTES_MAX {
            return Err(Malformed("spare ends early").into());
        }
        let mut meta = vec![0; meta_len];
        read_twice(file, &mut meta, HEADER_BYTES as u64)?;
        let meta = Meta::decode(&meta)?;
        let body = header.get(..HEADER_BYTES - 4).unwrap_or_default();
        if crc != bound_crc(meta.sequence, 0, body) {
            return Err(Malformed("spare fails its checksum").into());
        }
        Ok(Self { meta, meta_len, index_crc, parts_len, parts_crc })
    }
}

/// Reads the meta of a block.
pub(super) fn read_meta(file: &dyn DiskRead) -> Result<Meta, BlockError> {
    let len = usize::try_from(file.size()?).ok().filter(|len| *len <= META_BYTES_MAX);
    let mut bytes = vec![0; len.ok_or(Malformed("meta is too long"))?];
    read_twice(file, &mut bytes, 0)?;
    Ok(Meta::decode(&bytes)?)
}

/// Makes an index of its parts.
fn make(parts: &[u8], sequence: u64) -> Result<Vec<u8>, BlockError> {
    let mut cursor = Cursor::new(parts);
    let count = cursor.varint_u32()?;
    let symbols = Symbols { bytes: cursor.bytes()?, count };
    let mut builder = SymbolsBuilder::default();
    for text in symbols.each() {
        builder.push(&text?)?;
    }
    let mut index = IndexBuilder::new(builder);
    let group_count = cursor.varint()?;
    let mut groups = Cursor::new(cursor.bytes()?);
    let mut last = Last::default();
    let mut at = HEADER.len() as u64;
    for _ in 0..group_count {
        let (id, series_count) = (groups.varint()?, groups.varint()?);
        let mut lanes = get_lanes(&mut groups)?;
        // A lane stands before the first series that has it.
        let mut placed = 0;
        for _ in 0..series_count {
            let flags = get_series(&mut cursor, &mut last)?;
            let lane = last.lane as usize;
            while placed <= lane {
                let next = lanes.get_mut(placed).ok_or(Malformed("no such lane"))?;
                next.offset = at;
                at += next.windows.iter().map(|w| CRC_BYTES + u64::from(w.bytes)).sum::<u64>();
                placed += 1;
            }
            let windows = lanes.get(lane).map_or(0, |lane| lane.windows.len());
            let bytes: Result<Vec<u64>, Malformed> =
                (0..windows).map(|_| cursor.varint_u32().map(u64::from)).collect();
            let bytes = bytes?;
            index.add_series(&last.pairs, last.lane, at, &bytes)?;
            at += bytes.iter().map(|bytes| CRC_BYTES + bytes).sum::<u64>();
            if flags & HISTOGRAMS != 0 {
                index.set_histograms();
            }
        }
        index.end_group(id, &lanes);
        last.lane = 0;
    }
    groups.end()?;
    cursor.end()?;
    Ok(index.encode(sequence)?.index)
}

/// The lanes of a group, without their places.
fn get_lanes(cursor: &mut Cursor<'_>) -> Result<Vec<Lane>, Malformed> {
    let (mut ticks, mut t) = (0i64, 0i64);
    let mut lanes = Vec::new();
    for _ in 0..cursor.count(1)? {
        let mut windows = Vec::new();
        for _ in 0..cursor.count(4)? {
            ticks = ticks.wrapping_add(cursor.zigzag()?);
            let first_t = t.wrapping_add(cursor.zigzag()?);
            let last_t = first_t.wrapping_add(cursor.varint()?.cast_signed());
            let bytes = cursor.varint_u32()?;
            t = last_t;
            let ticks = u32::try_from(ticks).ok().ok_or(Malformed("ticks over 32 bits"))?;
            windows.push(Window { ticks, first_t, last_t, bytes });
        }
        lanes.push(Lane { offset: 0, windows });
    }
    Ok(lanes)
}

/// Reads labels and lane of a series over those of the one before; says its flags.
fn get_series(cursor: &mut Cursor<'_>, last: &mut Last) -> Result<u8, Malformed> {
    let flags = cursor.u8()?;
    if flags & SAME_NAMES != 0 {
        let mask = cursor.varint()?;
        for (at, (_, value)) in last.pairs.iter_mut().enumerate() {
            if at < u64::BITS as usize && mask >> at & 1 != 0 {
                let next = i64::from(*value).checked_add(cursor.zigzag()?);
                let next = next.and_then(|next| u32::try_from(next).ok());
                *value = next.ok_or(Malformed("symbol over 32 bits"))?;
            }
        }
    } else {
        last.pairs.clear();
        for _ in 0..cursor.count(2)? {
            last.pairs.push((cursor.varint_u32()?, cursor.varint_u32()?));
        }
    }
    if flags & SAME_LANE == 0 {
        last.lane = cursor.varint_u32()?;
    }
    Ok(flags)
}
