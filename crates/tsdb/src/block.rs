//! Blocks: the samples of one span of time, immutable, in a directory of their own.
//!
//! `meta` says what the block holds, `index` finds series by label and their chunks, `chunks` holds
//! timestamps once per set of series that share them, and values. A block is written under a
//! temporary name, synced, renamed; it is there whole or not at all. Every checksum takes the block's
//! sequence number in, so that a file of another block is not mistaken for this one's.
//! `docs/formats/block.md` and `index.md` have every byte.
//!
//! Blocks may overlap: late samples make a block of their own. Where two hold the same instant the
//! lower rank wins. Blocks of neighbouring spans are merged into longer ones, which name the blocks
//! they replace: while both are on disk the replaced ones do not count.
//!
//! What is deleted is marked in a small file of its own, `tombstones`, until the block is merged.

mod check;
mod chunks;
mod index;
mod index_writer;
mod merge;
mod meta;
mod reader;
mod sink;
mod symbols;
mod tombstones;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::TimestampMs;
use stoa_wal::{Disk, DiskRead};

use crate::bytes::Malformed;

pub(crate) use self::check::{BlockFault, Loss, check};
use self::chunks::Span;
pub(crate) use self::index::{Index, IndexCache};
pub(crate) use self::merge::{MergeError, merge};
pub(crate) use self::meta::{LEVEL_HEAD, Meta, TierMeta};
pub(crate) use self::reader::{BlockError, BlockQuery, BlockSeries};
pub(crate) use self::sink::{Plan, Sink, leftovers};
pub(crate) use self::symbols::SymbolsBuilder;
use self::tombstones::Kept;
pub(crate) use self::tombstones::{State as TombstonesState, TOMBSTONES, Tombstones};
pub(crate) use self::writer::write;

/// The file names within a block's directory.
pub(crate) const META: &str = "meta";
pub(crate) const INDEX: &str = "index";
const CHUNKS: &str = "chunks";

/// An open block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) dir: PathBuf,
    pub(crate) meta: Meta,
    /// What was deleted of it.
    pub(crate) tombstones: Tombstones,
    /// Counts the deletions.
    pub(crate) tombstones_generation: u64,
    pub(crate) tombstones_state: TombstonesState,
    meta_bytes: u64,
    index: Box<dyn DiskRead>,
    chunks: Box<dyn DiskRead>,
    /// Its index does not hold what it promises: to be set aside.
    damaged: AtomicBool,
    /// Whether it has series of native histograms, once its index was read.
    has_histograms: OnceLock<bool>,
}

impl Block {
    /// Opens a block: its meta must be whole, its files there. Sections and chunks are checked when
    /// they are read: a file that is too short costs what lay beyond its end.
    ///
    /// [`BlockError::Malformed`] says that it is damaged; [`BlockError::Io`] that nobody knows: too
    /// many files are open, memory is short, the disk does not answer today.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, BlockError> {
        match Self::open_once(disk, dir) {
            Err(BlockError::Io(_)) => Self::open_once(disk, dir),
            opened => opened,
        }
    }

    fn open_once(disk: &dyn Disk, dir: &Path) -> Result<Self, BlockError> {
        let meta = disk.read(&dir.join(META)).map_err(unread)?;
        let meta_bytes = meta.len() as u64;
        let meta = Meta::decode(&meta)?;
        let index = disk.open(&dir.join(INDEX)).map_err(unread)?;
        let chunks = disk.open(&dir.join(CHUNKS)).map_err(unread)?;
        // One that was cut costs its end; two that do not fit are of another block.
        if index.size()? != meta.index_bytes && chunks.size()? != meta.chunks_bytes {
            return Err(Malformed("meta of another block").into());
        }
        let Kept { tombstones, generation, state } = Kept::read(disk, dir, meta.sequence)?;
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            tombstones,
            tombstones_generation: generation,
            tombstones_state: state,
            meta_bytes,
            index,
            chunks,
            damaged: AtomicBool::new(false),
            has_histograms: OnceLock::new(),
        })
    }

    /// Neighbouring chunks.
    fn span(&self, offset: u64, bytes: u64) -> Result<Span, BlockError> {
        Span::read(&*self.chunks, &self.meta, offset, bytes)
    }

    /// Fails when the index does not hold what it promises.
    pub(crate) fn check_index(&self) -> Result<(), BlockError> {
        Index::load(self).map(drop)
    }

    pub(crate) fn overlaps(&self, start: TimestampMs, end: TimestampMs) -> bool {
        self.meta.first_t <= end && self.meta.last_t >= start
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.meta.index_bytes + self.meta.chunks_bytes + self.meta_bytes
    }

    /// Whether it has series of native histograms; `None` while its index was never read.
    pub(crate) fn has_histograms(&self) -> Option<bool> {
        self.has_histograms.get().copied()
    }

    pub(crate) fn set_damaged(&self) {
        self.damaged.store(true, Relaxed);
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Relaxed)
    }
}

/// What kept a file of a block from being read: that it is not there is damage, anything else is not.
fn unread(error: io::Error) -> BlockError {
    use io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    match error.kind() {
        NotFound | NotADirectory | IsADirectory => Malformed("a file is missing").into(),
        UnexpectedEof | InvalidData => Malformed("a file ends early").into(),
        _ => error.into(),
    }
}

/// The checksum of `bytes` that stand at `offset` of a file of the block with this sequence number.
fn bound_crc(sequence: u64, offset: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}
