//! Writing a block from sealed chunks of the head.
//!
//! Memory: the labels of all series, the index, one series' samples, and the timestamps of up to
//! [`SHARED_LANES_MAX`] lanes of one group.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use roaring::RoaringBitmap;
use stoa_model::{Labels, TimestampMs};
use stoa_wal::Disk;

use super::chunks::ChunksWriter;
use super::index::{self, Lane, Window};
use super::meta::LEVEL_HEAD;
use super::symbols::SymbolsBuilder;
use super::{Block, BlockError, CHUNKS, INDEX, META, Meta, bound_crc};
use crate::bytes::{put_varint, put_zigzag};
use crate::checkpoint::GroupSnapshot;
use crate::chunk::{encode_times, encode_values};

/// Samples of one chunk: enough that its directory entry weighs little, few enough that a query for
/// a quarter of an hour at one a second decodes little more than it needs.
const WINDOW_TICKS: usize = 1024;

/// Distinct sets of timestamps remembered per group, so that further series share them. Series
/// that come and go have their own; these are not worth remembering.
const SHARED_LANES_MAX: usize = 64;

/// What a block is to be.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) now_ms: TimestampMs,
    pub(crate) sequence: u64,
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) log_before: u64,
}

/// Writes a block of the chunks given, durable when this returns. Says also how many chunks
/// could not be decoded. `None` when there is no sample.
///
/// After an error nothing of it is left, as far as the disk allows: the head still has the samples,
/// and a block nobody knows of would hold them a second time.
pub(crate) fn write(
    disk: &dyn Disk,
    blocks_dir: &Path,
    plan: &Plan,
    groups: &[GroupSnapshot],
) -> Result<(Option<Block>, u64), BlockError> {
    let written = write_whole(disk, blocks_dir, plan, groups);
    if written.is_err() {
        let dir = blocks_dir.join(Meta::name(plan.sequence, plan.now_ms));
        for left in [dir.with_extension("tmp"), dir] {
            if disk.exists(&left).is_ok_and(|exists| exists) {
                let removed = disk.remove_dir_all(&left).and_then(|()| disk.sync_dir(blocks_dir));
                drop(removed);
            }
        }
    }
    written
}

fn write_whole(
    disk: &dyn Disk,
    blocks_dir: &Path,
    plan: &Plan,
    groups: &[GroupSnapshot],
) -> Result<(Option<Block>, u64), BlockError> {
    let mut meta = Meta {
        level: LEVEL_HEAD,
        sequence: plan.sequence,
        start: plan.start,
        end: plan.end,
        first_t: TimestampMs::MAX,
        last_t: TimestampMs::MIN,
        log_before: plan.log_before,
        samples: 0,
        chunks_bytes: 0,
        index_bytes: 0,
        series: 0,
    };
    let name = Meta::name(plan.sequence, plan.now_ms);
    let tmp = blocks_dir.join(format!("{name}.tmp"));
    if disk.exists(&tmp)? {
        disk.remove_dir_all(&tmp)?;
    }
    disk.create_dir_all(&tmp)?;
    let mut index = IndexBuilder::new(groups);
    let mut chunks = ChunksWriter::new(disk.create(&tmp.join(CHUNKS))?, plan.sequence);
    let mut damaged = 0;
    for group in groups {
        damaged += write_group(group, &mut meta, &mut index, &mut chunks)?;
    }
    meta.chunks_bytes = chunks.finish()?;
    if meta.samples == 0 {
        disk.remove_dir_all(&tmp)?;
        return Ok((None, damaged));
    }
    let index = index.encode(plan.sequence)?;
    meta.index_bytes = index.len() as u64;
    for (name, bytes) in [(INDEX, index), (META, meta.encode())] {
        let mut file = disk.create(&tmp.join(name))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    disk.sync_dir(&tmp)?;
    let dir = blocks_dir.join(&name);
    disk.rename(&tmp, &dir)?;
    disk.sync_dir(blocks_dir)?;
    Ok((Some(Block::open(disk, &dir)?), damaged))
}

fn write_group(
    group: &GroupSnapshot,
    meta: &mut Meta,
    index: &mut IndexBuilder,
    chunks: &mut ChunksWriter,
) -> io::Result<u64> {
    let mut members: Vec<_> = group.members.iter().collect();
    members.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut lanes = Lanes::default();
    let (mut samples, mut scratch) = (Vec::new(), Vec::new());
    let mut damaged = 0;
    for member in members {
        samples.clear();
        for sealed in &member.sealed {
            let before = samples.len();
            if sealed.decode(TimestampMs::MIN, TimestampMs::MAX, &mut samples).is_err() {
                samples.truncate(before);
                damaged += 1;
            }
        }
        if !samples.is_sorted_by(|(a, _), (b, _)| a < b) {
            samples.sort_by_key(|(t, _)| *t);
            samples.dedup_by_key(|(t, _)| *t);
        }
        let (Some((first, _)), Some((last, _))) = (samples.first(), samples.last()) else {
            continue;
        };
        meta.first_t = meta.first_t.min(*first);
        meta.last_t = meta.last_t.max(*last);
        meta.samples += samples.len() as u64;
        meta.series += 1;
        let (times, values): (Vec<TimestampMs>, Vec<f64>) = samples.iter().copied().unzip();
        let lane = lanes.place(times, chunks, &mut scratch)?;
        let offset = chunks.offset();
        let mut chunk_bytes = Vec::new();
        for window in values.chunks(WINDOW_TICKS) {
            scratch.clear();
            encode_values(window, &mut scratch);
            chunk_bytes.push(scratch.len() as u64);
            chunks.put(&scratch)?;
        }
        index.add_series(&member.labels, lane, offset, &chunk_bytes);
    }
    index.end_group(group.id.0, &lanes.lanes);
    Ok(damaged)
}

/// The sets of timestamps of one group.
#[derive(Default)]
struct Lanes {
    lanes: Vec<Lane>,
    /// Compared one by one: unlike ones mostly differ in length or at once.
    shared: Vec<(Vec<TimestampMs>, u32)>,
}

impl Lanes {
    /// The lane with exactly these timestamps, written if there is none.
    fn place(
        &mut self,
        times: Vec<TimestampMs>,
        chunks: &mut ChunksWriter,
        scratch: &mut Vec<u8>,
    ) -> io::Result<u32> {
        if let Some((_, lane)) = self.shared.iter().find(|(shared, _)| *shared == times) {
            return Ok(*lane);
        }
        let offset = chunks.offset();
        let mut windows = Vec::new();
        for window in times.chunks(WINDOW_TICKS) {
            scratch.clear();
            encode_times(window, scratch);
            chunks.put(scratch)?;
            windows.push(Window {
                ticks: u32::try_from(window.len()).unwrap_or(u32::MAX),
                first_t: window.first().copied().unwrap_or_default(),
                last_t: window.last().copied().unwrap_or_default(),
                bytes: u32::try_from(scratch.len()).unwrap_or(u32::MAX),
            });
        }
        let number = u32::try_from(self.lanes.len()).map_err(io::Error::other)?;
        self.lanes.push(Lane { offset, windows });
        if self.shared.len() < SHARED_LANES_MAX {
            self.shared.push((times, number));
        }
        Ok(number)
    }
}

/// The sections of an index while they grow.
struct IndexBuilder {
    symbols: SymbolsBuilder,
    groups: Table,
    series: Table,
    postings: BTreeMap<(u32, u32), RoaringBitmap>,
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
    fn new(groups: &[GroupSnapshot]) -> Self {
        let labels = groups.iter().flat_map(|group| &group.members).flat_map(|m| &m.labels);
        let mut texts: Vec<Arc<str>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for text in labels.flat_map(|label| [&label.name, &label.value]) {
            if seen.insert(text.as_ref()) {
                texts.push(Arc::clone(text));
            }
        }
        Self {
            symbols: SymbolsBuilder::new(texts),
            groups: Table::default(),
            series: Table::default(),
            postings: BTreeMap::new(),
        }
    }

    /// Adds a series to the group that ends next.
    fn add_series(&mut self, labels: &Labels, lane: u32, offset: u64, chunk_bytes: &[u64]) {
        let number = u32::try_from(self.series.offsets.len()).unwrap_or(u32::MAX);
        let group = self.groups.offsets.len() as u64;
        let out = self.series.entry();
        put_varint(out, group);
        put_varint(out, u64::from(lane));
        put_varint(out, offset);
        put_varint(out, chunk_bytes.len() as u64);
        chunk_bytes.iter().for_each(|bytes| put_varint(out, *bytes));
        put_varint(out, labels.len() as u64);
        for label in labels {
            let pair = (self.symbols.number(&label.name), self.symbols.number(&label.value));
            put_varint(out, u64::from(pair.0));
            put_varint(out, u64::from(pair.1));
            self.postings.entry(pair).or_default().insert(number);
        }
    }

    fn end_group(&mut self, id: u64, lanes: &[Lane]) {
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

    fn encode(self, sequence: u64) -> Result<Vec<u8>, BlockError> {
        let mut labels = Vec::with_capacity(self.postings.len() * index::LABEL_BYTES);
        let mut postings = Vec::new();
        for ((name, value), bitmap) in &self.postings {
            let offset = u32::try_from(postings.len()).map_err(io::Error::other)?;
            bitmap.serialize_into(&mut postings)?;
            let bytes = u32::try_from(postings.len()).map_err(io::Error::other)? - offset;
            for number in [*name, *value, offset, bytes] {
                labels.extend_from_slice(&number.to_le_bytes());
            }
        }
        let counts = [
            self.symbols.len(),
            self.groups.offsets.len(),
            self.series.offsets.len(),
            self.postings.len(),
        ];
        let sections: [Vec<u8>; index::SECTIONS] = [
            self.symbols.encode()?,
            self.groups.encode()?,
            self.series.encode()?,
            labels,
            postings,
        ];
        let mut out = Vec::new();
        out.extend_from_slice(&index::MAGIC);
        out.extend_from_slice(&index::VERSION.to_le_bytes());
        out.resize(index::HEADER_BYTES, 0);
        let mut footer = Vec::with_capacity(index::FOOTER_BYTES);
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
        Ok(out)
    }
}
