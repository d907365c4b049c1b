//! A block while it is written: groups in turn, in each the series in order of labels.
//!
//! Memory: the index, and one chunk. What is given is written at once.

mod rollups;

use std::io;
use std::path::{Path, PathBuf};

use stoa_model::TimestampMs;
use stoa_model::histogram::Histogram;
use stoa_wal::Disk;

use super::chunks::ChunksWriter;
use super::index::{Lane, Window};
use super::index_writer::{Encoded, IndexBuilder};
use super::symbols::SymbolsBuilder;
use super::{Block, BlockError, CHUNKS, INDEX, META, Meta, SPARE, spare};
use crate::chunk::{Effort, encode_histograms, encode_times, encode_values_with};
use crate::recovery::Covered;

/// Entries of one chunk in a block cut from the head: enough that its directory entry weighs little,
/// few enough that a query for a quarter of an hour at one a second decodes little more than it needs.
const FRESH_CHUNK_TICKS: usize = 1024;

/// Entries of one chunk in a merged block, whose queries span more time.
const MERGED_CHUNK_TICKS: usize = 4096;

/// The most numbers of histograms in one chunk: a reader decodes 2 MiB of them at once, and what up to
/// [`MERGED_CHUNK_TICKS`] histograms take themselves.
const CHUNK_CELLS_MAX: usize = 1 << 18;

/// How many histograms of up to so many numbers stand in one chunk at most.
pub(super) fn histograms_per_chunk(cells: usize) -> usize {
    // A power of two, so that series of about one size share their timestamps.
    let most = (CHUNK_CELLS_MAX / cells.max(1)).max(2);
    1 << most.ilog2()
}

/// What a block is to be.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) now_ms: TimestampMs,
    pub(crate) level: u8,
    pub(crate) sequence: u64,
    pub(crate) rank: u64,
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) covered: Vec<Covered>,
    pub(crate) parents: Vec<u64>,
}

impl Plan {
    fn chunk_ticks(&self) -> usize {
        if self.level == super::LEVEL_HEAD { FRESH_CHUNK_TICKS } else { MERGED_CHUNK_TICKS }
    }

    /// The one place where it is decided how hard values are compressed.
    fn effort(&self) -> Effort {
        if self.level == super::LEVEL_HEAD { Effort::Fresh } else { Effort::Compacted }
    }
}

/// A block being written under a temporary name.
pub(crate) struct Sink<'a> {
    disk: &'a dyn Disk,
    blocks_dir: &'a Path,
    name: String,
    tmp: PathBuf,
    meta: Meta,
    chunk_ticks: usize,
    effort: Effort,
    index: IndexBuilder,
    chunks: ChunksWriter,
    /// Those of the group that ends next.
    lanes: Vec<Lane>,
    scratch: Vec<u8>,
}

impl<'a> Sink<'a> {
    /// Begins a block whose labels are of these symbols.
    pub(crate) fn create(
        disk: &'a dyn Disk,
        blocks_dir: &'a Path,
        plan: &Plan,
        symbols: SymbolsBuilder,
    ) -> io::Result<Self> {
        let name = Meta::name(plan.sequence, plan.now_ms);
        let tmp = blocks_dir.join(format!("{name}.tmp"));
        if disk.exists(&tmp)? {
            disk.remove_dir_all(&tmp)?;
        }
        disk.create_dir_all(&tmp)?;
        let chunks = ChunksWriter::new(disk.create(&tmp.join(CHUNKS))?, plan.sequence);
        let meta = Meta {
            level: plan.level,
            sequence: plan.sequence,
            rank: plan.rank,
            start: plan.start,
            end: plan.end,
            first_t: TimestampMs::MAX,
            last_t: TimestampMs::MIN,
            covered: plan.covered.clone(),
            parents: plan.parents.clone(),
            samples: 0,
            chunks_bytes: 0,
            index_bytes: 0,
            series: 0,
            has_spare: true,
            tier: None,
        };
        Ok(Self {
            disk,
            blocks_dir,
            name,
            tmp,
            meta,
            chunk_ticks: plan.chunk_ticks(),
            effort: plan.effort(),
            index: IndexBuilder::new(symbols),
            chunks,
            lanes: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// Writes the timestamps of series that follow; says the number of the lane.
    pub(crate) fn lane(&mut self, times: &[TimestampMs]) -> io::Result<u32> {
        self.lane_of(times, self.chunk_ticks)
    }

    /// Writes the timestamps of series of histograms that follow, so many a chunk at most; says the
    /// number of the lane.
    pub(super) fn histogram_lane(
        &mut self,
        times: &[TimestampMs],
        chunk_ticks: usize,
    ) -> io::Result<u32> {
        self.lane_of(times, chunk_ticks.clamp(1, self.chunk_ticks))
    }

    fn lane_of(&mut self, times: &[TimestampMs], chunk_ticks: usize) -> io::Result<u32> {
        let offset = self.chunks.offset();
        let mut windows = Vec::new();
        for window in times.chunks(chunk_ticks) {
            self.scratch.clear();
            encode_times(window, &mut self.scratch);
            self.chunks.put(&self.scratch)?;
            windows.push(Window {
                ticks: u32::try_from(window.len()).map_err(io::Error::other)?,
                first_t: window.first().copied().unwrap_or_default(),
                last_t: window.last().copied().unwrap_or_default(),
                bytes: u32::try_from(self.scratch.len()).map_err(io::Error::other)?,
            });
        }
        let number = u32::try_from(self.lanes.len()).map_err(io::Error::other)?;
        self.lanes.push(Lane { offset, windows });
        Ok(number)
    }

    /// Writes a series whose values are at the timestamps of a lane; its labels as numbers of
    /// symbols.
    pub(crate) fn series(
        &mut self,
        pairs: &[(u32, u32)],
        lane: u32,
        values: &[f64],
    ) -> Result<(), BlockError> {
        let effort = self.effort;
        self.entry(pairs, lane, values, |values, out| {
            encode_values_with(effort, values, out);
            Ok(())
        })
    }

    /// The same for a series of histograms; `next` gives the next so many.
    pub(super) fn histograms<E: From<BlockError>>(
        &mut self,
        pairs: &[(u32, u32)],
        lane: u32,
        mut next: impl FnMut(usize) -> Result<Vec<Histogram>, E>,
    ) -> Result<(), E> {
        let effort = self.effort;
        self.chunks(pairs, lane, |ticks, out| -> Result<(), E> {
            let encoded = encode_histograms(&next(ticks)?, effort, out);
            encoded.map_err(|error| BlockError::from(io::Error::other(error)).into())
        })?;
        self.index.set_histograms();
        Ok(())
    }

    fn entry<V>(
        &mut self,
        pairs: &[(u32, u32)],
        lane: u32,
        values: &[V],
        encode: impl Fn(&[V], &mut Vec<u8>) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let mut rest = values;
        self.chunks(pairs, lane, |ticks, out| {
            let (window, behind) = rest.split_at_checked(ticks).unwrap_or((rest, &[]));
            rest = behind;
            encode(window, out)
        })
    }

    /// Writes a series chunk by chunk: `encode` appends the next so many entries.
    fn chunks<E: From<BlockError>>(
        &mut self,
        pairs: &[(u32, u32)],
        lane: u32,
        mut encode: impl FnMut(usize, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let windows = self.lanes.get(lane as usize).map(|lane| lane.windows.as_slice());
        if let Some([first, .., last] | [first @ last]) = windows {
            self.meta.first_t = self.meta.first_t.min(first.first_t);
            self.meta.last_t = self.meta.last_t.max(last.last_t);
        }
        self.meta.series += 1;
        let offset = self.chunks.offset();
        let mut chunk_bytes = Vec::new();
        let ticks: Vec<usize> =
            windows.unwrap_or_default().iter().map(|window| window.ticks as usize).collect();
        for ticks in ticks {
            self.scratch.clear();
            encode(ticks, &mut self.scratch)?;
            self.meta.samples += ticks as u64;
            chunk_bytes.push(self.scratch.len() as u64);
            self.chunks.put(&self.scratch).map_err(BlockError::from)?;
        }
        let added = self.index.add_series(pairs, lane, offset, &chunk_bytes);
        Ok(added.map_err(BlockError::from)?)
    }

    pub(crate) fn end_group(&mut self, id: u64) {
        self.index.end_group(id, &self.lanes);
        self.lanes.clear();
    }

    /// Makes it durable and gives it its name; `None`, and nothing left, when it has no sample.
    pub(crate) fn finish(self) -> Result<Option<Block>, BlockError> {
        let disk = self.disk;
        let Some(draft) = self.draft()? else { return Ok(None) };
        let dir = draft.publish(disk, &[])?;
        Ok(Some(Block::open(disk, &dir)?))
    }

    /// Makes it durable under its temporary name; `None`, and nothing left, when it has no sample.
    pub(crate) fn draft(mut self) -> Result<Option<Draft>, BlockError> {
        self.meta.chunks_bytes = self.chunks.finish()?;
        if self.meta.samples == 0 {
            self.disk.remove_dir_all(&self.tmp)?;
            return Ok(None);
        }
        let Encoded { index, parts } = self.index.encode(self.meta.sequence)?;
        self.meta.index_bytes = index.len() as u64;
        let spare = spare::encode(&self.meta, &index, &parts)?;
        for (name, bytes) in [(INDEX, index), (META, self.meta.encode()), (SPARE, spare)] {
            let mut file = self.disk.create(&self.tmp.join(name))?;
            file.write_all(&bytes)?;
            file.sync_data()?;
        }
        self.disk.sync_dir(&self.tmp)?;
        let dir = self.blocks_dir.join(&self.name);
        Ok(Some(Draft { tmp: self.tmp, dir }))
    }
}

/// A block that is whole and durable, and does not count yet: a start removes it.
#[derive(Debug)]
pub(crate) struct Draft {
    tmp: PathBuf,
    dir: PathBuf,
}

impl Draft {
    pub(crate) fn open(&self, disk: &dyn Disk) -> Result<Block, BlockError> {
        Block::open(disk, &self.tmp)
    }

    /// Gives it its name, with more files beside its own; durable when this returns. Says its directory.
    pub(crate) fn publish(
        self,
        disk: &dyn Disk,
        beside: &[(&str, Vec<u8>)],
    ) -> io::Result<PathBuf> {
        for (name, bytes) in beside {
            let mut file = disk.create(&self.tmp.join(name))?;
            file.write_all(bytes)?;
            file.sync_data()?;
        }
        if !beside.is_empty() {
            disk.sync_dir(&self.tmp)?;
        }
        disk.rename(&self.tmp, &self.dir)?;
        disk.sync_dir(self.dir.parent().unwrap_or(&self.dir))?;
        Ok(self.dir)
    }
}

/// The directories that a block of this plan may have left when it could not be written.
pub(crate) fn leftovers(blocks_dir: &Path, plan: &Plan) -> [PathBuf; 2] {
    let dir = blocks_dir.join(Meta::name(plan.sequence, plan.now_ms));
    [dir.with_extension("tmp"), dir]
}
