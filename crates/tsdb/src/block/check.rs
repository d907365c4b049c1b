//! Reading a block whole, to find what is wrong with it.
//!
//! Every byte is looked at: each chunk decodes and agrees with the index, no byte of the file of chunks
//! belongs to none, the postings are those the series make, the sums are those of the meta.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::chunks::{CRC_BYTES, HEADER};
use super::index::Index;
use super::reader::offsets;
use super::{Block, CHUNKS, Copies, INDEX, META, SPARE, TOMBSTONES, TombstonesState};
use crate::bytes::Malformed;
use crate::chunk::{decode_histograms, decode_rollups, decode_values};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockFault {
    /// The file's name within the block.
    pub(crate) file: &'static str,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) what: String,
    pub(crate) loss: Loss,
}

/// What a fault costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing: the bytes are not needed to read.
    Nothing,
    /// Nothing: another file of the block has the same.
    Mendable,
    /// So many samples at most.
    Samples(u64),
    /// The block.
    All,
    /// Some of what was deleted is seen again.
    Deletions,
}

/// What was read of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) chunks: u64,
    pub(crate) samples: u64,
}

struct Check<'a> {
    block: &'a Block,
    index: Index,
    faults: Vec<BlockFault>,
    checked: Checked,
    /// Bytes of the file of chunks that belong to something: where, how many.
    used: BTreeMap<u64, u64>,
    postings: BTreeMap<(u32, u32), RoaringBitmap>,
    first_t: i64,
    last_t: i64,
}

/// Reads all of a block.
pub(crate) fn check(block: &Block) -> (Checked, Vec<BlockFault>) {
    let mut faults = Vec::new();
    let [tombstones, _] = TOMBSTONES;
    match block.tombstones_state {
        TombstonesState::Whole => {}
        TombstonesState::Mendable => {
            let what = "one of its two copies is damaged or missing";
            faults.push(fault(tombstones, 0, 0, what, Loss::Nothing));
        }
        TombstonesState::Lossy => {
            faults.push(fault(tombstones, 0, 0, "both copies are damaged", Loss::Deletions));
        }
    }
    block.compare_copies();
    let index = match Index::load(block) {
        Ok(index) => index,
        Err(error) => {
            let bytes = block.meta.index_bytes;
            faults.push(fault(INDEX, 0, bytes, error.text(), Loss::All));
            return (Checked::default(), faults);
        }
    };
    let mut check = Check {
        block,
        index,
        faults,
        checked: Checked::default(),
        used: BTreeMap::new(),
        postings: BTreeMap::new(),
        first_t: i64::MAX,
        last_t: i64::MIN,
    };
    check.copies();
    check.headers();
    if let Err(malformed) = check.series() {
        check.fault(INDEX, 0, block.meta.index_bytes, malformed.0, Loss::All);
    } else {
        check.sums();
    }
    (check.checked, check.faults)
}

fn fault(
    file: &'static str,
    offset: u64,
    bytes: u64,
    what: impl Into<String>,
    loss: Loss,
) -> BlockFault {
    BlockFault { file, offset, bytes, what: what.into(), loss }
}

impl Check<'_> {
    fn fault(
        &mut self,
        file: &'static str,
        offset: u64,
        bytes: u64,
        what: impl Into<String>,
        loss: Loss,
    ) {
        self.faults.push(fault(file, offset, bytes, what, loss));
    }

    /// What is wrong with files of which another one has all.
    fn copies(&mut self) {
        let Copies { meta, index, spare } = self.block.mendable();
        for (is_damaged, file) in [(meta, META), (index, INDEX), (spare, SPARE)] {
            if is_damaged {
                let what = "damaged or missing; another file of the block has all";
                self.fault(file, 0, 0, what, Loss::Mendable);
            }
        }
    }

    fn headers(&mut self) {
        let meta = &self.block.meta;
        let index_size = self.block.index.as_ref().map(|index| index.size());
        let index_size = index_size.filter(|_| !self.block.mendable().index);
        for (file, is, was) in [
            (CHUNKS, Some(self.block.chunks.size()), meta.chunks_bytes),
            (INDEX, index_size, meta.index_bytes),
        ] {
            let Some(is) = is else { continue };
            let is = is.unwrap_or(0);
            if is != was {
                let (from, bytes) = (is.min(was), is.abs_diff(was));
                let what = if is < was { "cut off" } else { "more than was written" };
                // What is missing is said by those that miss it.
                self.fault(file, from, bytes, what, Loss::Nothing);
            }
        }
        let mut header = [0; HEADER.len()];
        let read = self.block.chunks.read_exact_at(&mut header, 0);
        if read.is_err() || header != HEADER {
            let bytes = HEADER.len() as u64;
            self.fault(CHUNKS, 0, bytes, "not the header of a file of chunks", Loss::Nothing);
        }
        self.used.insert(0, HEADER.len() as u64);
        if !self.index.header_is_plain() && !self.block.mendable().index {
            self.fault(INDEX, 0, 16, "not the header of an index", Loss::Nothing);
        }
    }

    /// Every lane and every series of every group.
    fn series(&mut self) -> Result<(), Malformed> {
        let groups = self.index.groups()?;
        for (place, (_, numbers)) in (0u32..).zip(groups) {
            let lanes = self.index.lanes(place)?;
            for lane in &lanes {
                for (at, window) in lane.windows.iter().enumerate() {
                    let (offset, bytes) = lane.place(at).ok().ok_or(Malformed("no window"))?;
                    self.used.insert(offset, bytes);
                    self.checked.chunks += 1;
                    let read = self.block.span(offset, bytes);
                    let times = read.and_then(|span| Ok(lane.decode(&span, at)?));
                    let ends = times.as_ref().map(|t| (t.first().copied(), t.last().copied()));
                    match ends {
                        Ok(ends) if ends == (Some(window.first_t), Some(window.last_t)) => {}
                        Ok(_) => return Err(Malformed("timestamps are not those of the index")),
                        Err(error) => {
                            // Of each series that shares them.
                            let most = u64::from(window.ticks) * numbers.len() as u64;
                            let loss = Loss::Samples(most);
                            self.fault(CHUNKS, offset, bytes, error.text(), loss);
                        }
                    }
                }
            }
            for number in numbers {
                let entry = self.index.series(number)?;
                for (name, value) in &entry.pairs {
                    self.index.symbol_table().text(*name)?;
                    self.index.symbol_table().text(*value)?;
                    self.postings.entry((*name, *value)).or_default().insert(number);
                }
                let lane = lanes.get(entry.lane as usize).ok_or(Malformed("no such lane"))?;
                if lane.windows.len() != entry.chunk_bytes.len() {
                    return Err(Malformed("series has more or fewer chunks than its lane"));
                }
                let places = offsets(entry.offset, &entry.chunk_bytes);
                let chunks = places.iter().zip(&entry.chunk_bytes).zip(&lane.windows);
                for ((offset, bytes), window) in chunks {
                    self.first_t = self.first_t.min(window.first_t);
                    self.last_t = self.last_t.max(window.last_t);
                    self.values(*offset, *bytes, window.ticks, self.index.has_histograms(number));
                }
            }
        }
        Ok(())
    }

    fn values(&mut self, offset: u64, bytes: u32, ticks: u32, are_histograms: bool) {
        let len = CRC_BYTES + u64::from(bytes);
        self.used.insert(offset, len);
        self.checked.chunks += 1;
        self.checked.samples += u64::from(ticks);
        let read = self.block.span(offset, len).and_then(|span| {
            let (chunk, ticks) = (span.chunk(offset, bytes)?, ticks as usize);
            if are_histograms {
                return Ok(decode_histograms(chunk, ticks, &mut Vec::new())?);
            }
            if self.block.meta.tier.is_some() {
                return Ok(decode_rollups(chunk, ticks, &mut Vec::new())?);
            }
            Ok(decode_values(chunk, ticks, &mut Vec::new())?)
        });
        if let Err(error) = read {
            let loss = Loss::Samples(u64::from(ticks));
            self.fault(CHUNKS, offset, len, error.text(), loss);
        }
    }

    /// What all series together must come to.
    fn sums(&mut self) {
        let mut at = 0;
        let used = std::mem::take(&mut self.used);
        for (offset, bytes) in used {
            if offset != at {
                let (from, bytes) = (at.min(offset), at.abs_diff(offset));
                self.fault(CHUNKS, from, bytes, "not as the index says", Loss::Nothing);
            }
            at = offset.saturating_add(bytes);
        }
        let meta = &self.block.meta;
        let sums = (self.checked.samples, self.first_t, self.last_t);
        if at != meta.chunks_bytes || sums != (meta.samples, meta.first_t, meta.last_t) {
            self.fault(META, 0, 0, "sums are not those of the block", Loss::Nothing);
        }
        match self.index.postings_are(&self.postings) {
            Ok(true) => {}
            Ok(false) => self.postings_fault("postings are not those of the series"),
            Err(malformed) => self.postings_fault(malformed.0),
        }
    }

    fn postings_fault(&mut self, what: &str) {
        let bytes = self.block.meta.index_bytes;
        self.fault(INDEX, 0, bytes, what, Loss::All);
    }
}
