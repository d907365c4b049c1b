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

pub(crate) use self::check::{BlockFault, Loss, check};
use self::chunks::Span;
pub(crate) use self::index::{Index, IndexCache};
pub(crate) use self::merge::{MergeError, merge};
pub(crate) use self::meta::{LEVEL_HEAD, Meta};
pub(crate) use self::reader::{BlockError, BlockQuery, BlockSeries};
pub(crate) use self::sink::{Plan, leftovers};
pub(crate) use self::tombstones::Tombstones;
pub(crate) use self::writer::write;

/// The file names within a block's directory.
pub(crate) const META: &str = "meta";
pub(crate) const INDEX: &str = "index";
const CHUNKS: &str = "chunks";
pub(crate) const TOMBSTONES: &str = "tombstones";

/// An open block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) dir: PathBuf,
    pub(crate) meta: Meta,
    /// What was deleted of it.
    pub(crate) tombstones: Tombstones,
    /// The file of tombstones cannot be read: what it hid is seen again.
    pub(crate) tombstones_damaged: bool,
    meta_bytes: u64,
    index: Box<dyn DiskRead>,
    chunks: Box<dyn DiskRead>,
    /// Its index does not hold what it promises: to be set aside.
    damaged: AtomicBool,
    /// Whether it has series of native histograms, once its index was read.
    has_histograms: OnceLock<bool>,
}

impl Block {
    /// Opens a block: its meta must be whole, its files as long as that says. Sections and chunks
    /// are checked when they are read.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, BlockError> {
        let meta = disk.read(&dir.join(META))?;
        let meta_bytes = meta.len() as u64;
        let meta = Meta::decode(&meta)?;
        let index = disk.open(&dir.join(INDEX))?;
        let chunks = disk.open(&dir.join(CHUNKS))?;
        if index.size()? != meta.index_bytes || chunks.size()? != meta.chunks_bytes {
            return Err(BlockError::Io(io::Error::new(
                io::ErrorKind::InvalidData,
                "a file is not as long as it was written",
            )));
        }
        let path = dir.join(TOMBSTONES);
        let read = || -> Result<Tombstones, BlockError> {
            if disk.exists(&path)? {
                Ok(Tombstones::decode(&disk.read(&path)?, meta.sequence)?)
            } else {
                Ok(Tombstones::default())
            }
        };
        // The block has its samples whatever becomes of what was deleted.
        let tombstones = read().or_else(|_once_more| read()).ok();
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            tombstones_damaged: tombstones.is_none(),
            tombstones: tombstones.unwrap_or_default(),
            meta_bytes,
            index,
            chunks,
            damaged: AtomicBool::new(false),
            has_histograms: OnceLock::new(),
        })
    }

    /// Neighbouring chunks.
    fn span(&self, offset: u64, bytes: u64) -> Result<Span, BlockError> {
        Span::read(&*self.chunks, self.meta.sequence, offset, bytes)
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

/// The checksum of `bytes` that stand at `offset` of a file of the block with this sequence number.
fn bound_crc(sequence: u64, offset: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&sequence.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
    crc32c::crc32c_append(crc, bytes)
}
