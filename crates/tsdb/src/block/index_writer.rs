//! Writing the index of a block: entries are added in the order in which their chunks are written.
//!
//! Memory: the sections themselves, about sixty bytes a series and a bitmap per label.

use std::collections::BTreeMap;
use std::io;

use roaring::RoaringBitmap;

use super::index::{self, Lane};
use super::symbols::SymbolsBuilder;
use super::{BlockError, bound_crc, spare};
use crate::bytes::{Malformed, put_varint, put_zigzag};

/// The sections of an index while they grow.
pub(super) struct IndexBuilder {
    symbols: SymbolsBuilder,
    groups: Table,
    series: Table,
    postings: BTreeMap<(u32, u32), RoaringBitmap>,
    /// The series that hold native histograms.
    histograms: RoaringBitmap,
    /// What this can be made of again.
    parts: spare::Parts,
}

/// An index and what it can be made of again.
pub(super) struct Encoded {
    pub(super) index: Vec<u8>,
    pub(super) parts: Vec<u8>,
}

/// A section of entries found by their number.
#[derive(Default)]
struct Table {
    offsets: Vec<u64>,
    body: Vec<u8>,
}

impl Table {
    fn entry(&mut self) -> &mut Vec<u8> {
        self.offsets.push(self.body.len() as u64);
        &mut self.body
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(self.offsets.len() * 4 + self.body.len());
        for offset in &self.offsets {
            let offset = u32::try_from(*offset).map_err(io::Error::other)?;
            out.extend_from_slice(&offset.to_le_bytes());
        }
        out.extend_from_slice(&self.body);
        Ok(out)
    }
}

impl IndexBuilder {
    /// An index whose series have names and values of these symbols only.
    pub(super) fn new(symbols: SymbolsBuilder) -> Self {
        Self {
            symbols,
            groups: Table::default(),
            series: Table::default(),
            postings: BTreeMap::new(),
            histograms: RoaringBitmap::new(),
            parts: spare::Parts::default(),
        }
    }

    /// Adds a series to the group that ends next; its labels as numbers of symbols, in order.
    pub(super) fn add_series(
        &mut self,
        pairs: &[(u32, u32)],
        lane: u32,
        offset: u64,
        chunk_bytes: &[u64],
    ) -> Result<(), Malformed> {
        let number = u32::try_from(self.series.offsets.len());
        let number = number.ok().ok_or(Malformed("over 2^32 series"))?;
        self.parts.add_series(pairs, lane, chunk_bytes);
        let group = self.groups.offsets.len() as u64;
        let out = self.series.entry();
        put_varint(out, group);
        put_varint(out, u64::from(lane));
        put_varint(out, offset);
        put_varint(out, chunk_bytes.len() as u64);
        chunk_bytes.iter().for_each(|bytes| put_varint(out, *bytes));
        put_varint(out, pairs.len() as u64);
        for (name, value) in pairs {
            put_varint(out, u64::from(*name));
            put_varint(out, u64::from(*value));
            self.postings.entry((*name, *value)).or_default().insert(number);
        }
        Ok(())
    }

    /// Notes that the series added last holds native histograms.
    pub(super) fn set_histograms(&mut self) {
        self.parts.set_histograms();
        if let Ok(count) = u32::try_from(self.series.offsets.len()) {
            self.histograms.extend(count.checked_sub(1));
        }
    }

    pub(super) fn end_group(&mut self, id: u64, lanes: &[Lane]) {
        self.parts.end_group(id, lanes);
        let out = self.groups.entry();
        out.extend_from_slice(&id.to_le_bytes());
        put_varint(out, lanes.len() as u64);
        for lane in lanes {
            put_varint(out, lane.offset);
            put_varint(out, lane.windows.len() as u64);
            for window in &lane.windows {
                put_varint(out, u64::from(window.ticks));
                put_zigzag(out, window.first_t);
                put_varint(out, window.last_t.wrapping_sub(window.first_t).cast_unsigned());
                put_varint(out, u64::from(window.bytes));
            }
        }
    }

    pub(super) fn encode(mut self, sequence: u64) -> Result<Encoded, BlockError> {
        let mut labels = Vec::with_capacity(self.postings.len() * index::LABEL_BYTES);
        let mut postings = Vec::new();
        for ((name, value), bitmap) in &mut self.postings {
            // What a group's series share are runs of neighbours.
            bitmap.optimize();
            let offset = u32::try_from(postings.len()).map_err(io::Error::other)?;
            bitmap.serialize_into(&mut postings)?;
            let bytes = u32::try_from(postings.len()).map_err(io::Error::other)? - offset;
            for number in [*name, *value, offset, bytes] {
                labels.extend_from_slice(&number.to_le_bytes());
            }
        }
        let counts = [
            self.symbols.count() as usize,
            self.groups.offsets.len(),
            self.series.offsets.len(),
            self.postings.len(),
        ];
        let symbol_count = self.symbols.count();
        let mut sections: Vec<Vec<u8>> = Vec::with_capacity(index::SECTIONS + 1);
        sections.extend([self.symbols.finish(), self.groups.encode()?, self.series.encode()?]);
        sections.extend([labels, postings]);
        let symbols = sections.first().map(Vec::as_slice).unwrap_or_default();
        let parts = self.parts.encode(symbols, symbol_count);
        let mut version = index::VERSION;
        if !self.histograms.is_empty() {
            let mut histograms = Vec::new();
            self.histograms.serialize_into(&mut histograms)?;
            sections.push(histograms);
            version = index::VERSION_HISTOGRAMS;
        }
        let mut out = Vec::new();
        out.extend_from_slice(&index::MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.resize(index::HEADER_BYTES, 0);
        let mut footer = Vec::with_capacity(index::footer_bytes(sections.len()));
        for section in &sections {
            let offset = out.len() as u64;
            footer.extend_from_slice(&offset.to_le_bytes());
            footer.extend_from_slice(&(section.len() as u64).to_le_bytes());
            footer.extend_from_slice(&bound_crc(sequence, offset, section).to_le_bytes());
            out.extend_from_slice(section);
        }
        for count in counts {
            let count = u32::try_from(count).map_err(io::Error::other)?;
            footer.extend_from_slice(&count.to_le_bytes());
        }
        let crc = bound_crc(sequence, out.len() as u64, &footer);
        out.extend_from_slice(&footer);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&index::MAGIC);
        Ok(Encoded { index: out, parts })
    }
}
