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
mod spare;
mod symbols;
mod tombstones;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock, PoisonError};

use stoa_model::TimestampMs;
use stoa_wal::{Disk, DiskRead};

use crate::bytes::Malformed;
use crate::damage::Cost;
use crate::head_file::read_twice;

pub(crate) use self::check::{BlockFault, Loss, check};
use self::chunks::Span;
pub(crate) use self::index::{Index, IndexCache};
pub(crate) use self::merge::{DamagedChunk, MergeError, Merged, merge};
pub(crate) use self::meta::{LEVEL_HEAD, Meta, TierMeta};
pub(crate) use self::reader::{BlockError, BlockQuery, BlockSeries};
pub(crate) use self::sink::{Draft, Plan, Sink, leftovers};
use self::spare::Spare;
pub(crate) use self::symbols::SymbolsBuilder;
use self::tombstones::Kept;
pub(crate) use self::tombstones::{State as TombstonesState, TOMBSTONES, Tombstones};
pub(crate) use self::writer::write;

/// The file names within a block's directory.
pub(crate) const META: &str = "meta";
pub(crate) const INDEX: &str = "index";
pub(crate) const SPARE: &str = "spare";
pub(crate) const CHUNKS: &str = "chunks";

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
    /// `None` when the file is missing.
    index: Option<Box<dyn DiskRead>>,
    chunks: Box<dyn DiskRead>,
    /// `None` in a block that never had one, and when the file is missing or cannot be read now.
    spare: Option<Spare>,
    /// The spare is there and cannot be read now: nobody knows what it could make again.
    is_spare_unread: bool,
    /// Its files that are damaged and can be made again of the others.
    mendable: Mutex<Copies>,
    /// Its index does not hold what it promises: to be set aside.
    damaged: AtomicBool,
    /// Whether it has series of native histograms, once its index was read.
    has_histograms: OnceLock<bool>,
}

/// Files of which another has all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) meta: bool,
    pub(crate) index: bool,
    pub(crate) spare: bool,
}

impl Copies {
    pub(crate) fn is_any(self) -> bool {
        self.meta || self.index || self.spare
    }
}

impl Block {
    /// Opens a block: its meta must be whole, or the copy in its spare, its files there. Sections and chunks are checked when
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
        // Only one that is not there is missing.
        let (spare, unread_spare) = match Spare::open(disk, dir) {
            Ok(spare) => (spare, None),
            Err(error) => (None, Some(error)),
        };
        let is_spare_unread = unread_spare.is_some();
        // What the spare may have is not lost while it cannot be read.
        let lost = |error: BlockError| unread_spare.unwrap_or(error);
        let own = match disk.open(&dir.join(META)).map_err(unread) {
            Ok(file) => spare::read_meta(&*file),
            Err(error @ BlockError::Malformed(_)) => Err(error),
            Err(error @ BlockError::Io(_)) => return Err(error),
        };
        let (meta, mut mendable) = match choose_meta(own, spare.as_ref(), dir) {
            Ok(chosen) => chosen,
            Err(error) => return Err(lost(error)),
        };
        mendable.spare &= !is_spare_unread;
        let index = match disk.open(&dir.join(INDEX)).map_err(unread) {
            Ok(index) => Some(index),
            Err(BlockError::Malformed(_)) if spare.is_some() => None,
            Err(error) => return Err(lost(error)),
        };
        mendable.index |= index.is_none();
        let chunks = disk.open(&dir.join(CHUNKS)).map_err(unread)?;
        // One that was cut costs its end; two that do not fit are of another block.
        let index_size = index.as_ref().map(|index| index.size()).transpose()?;
        if index_size.is_some_and(|size| size != meta.index_bytes)
            && chunks.size()? != meta.chunks_bytes
        {
            return Err(Malformed("meta of another block").into());
        }
        let Kept { tombstones, generation, state } = Kept::read(disk, dir, meta.sequence)?;
        Ok(Self {
            dir: dir.to_owned(),
            meta,
            tombstones,
            tombstones_generation: generation,
            tombstones_state: state,
            index,
            chunks,
            spare,
            is_spare_unread,
            mendable: Mutex::new(mendable),
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

    /// The index's bytes as they are on the disk.
    fn index_bytes(&self) -> Result<Vec<u8>, BlockError> {
        let index = self.index.as_ref().ok_or(Malformed("a file is missing"))?;
        // What it is to have is not asked for where there is less.
        let is_there = index.size()? >= self.meta.index_bytes;
        let len = usize::try_from(self.meta.index_bytes).ok().filter(|_| is_there);
        let mut bytes = vec![0; len.ok_or(Malformed("a file ends early"))?];
        read_twice(&**index, &mut bytes, 0)?;
        Ok(bytes)
    }

    /// What of its files has to be made again of the others, as far as was seen.
    pub(crate) fn mendable(&self) -> Copies {
        *self.mendable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_mendable(&self, more: Copies) {
        let mut mendable = self.mendable.lock().unwrap_or_else(PoisonError::into_inner);
        mendable.meta |= more.meta;
        mendable.index |= more.index;
        mendable.spare |= more.spare;
    }

    /// Compares index and spare byte by byte; what it finds [`Self::mendable`] says. What cannot be read
    /// is made again too, where the other has all: it is asked for when the process is there for nothing else.
    pub(crate) fn compare_copies(&self) {
        let Some(spare) = &self.spare else {
            let spare = self.is_spare_unread && self.index_bytes().is_ok();
            return self.set_mendable(Copies { spare, ..Copies::default() });
        };
        let made = spare.index(&self.meta);
        let is_longer =
            |index: &dyn DiskRead| index.size().is_ok_and(|size| size != self.meta.index_bytes);
        let is_longer = self.index.as_deref().is_some_and(is_longer);
        let own = self.index_bytes();
        let is_same = match (&own, &made) {
            (Ok(own), Ok(made)) => own == made && !is_longer,
            (Ok(_), Err(_)) => true,
            (Err(_), _) => false,
        };
        let (index, spare) = (!is_same && made.is_ok(), made.is_err());
        self.set_mendable(Copies { meta: false, index, spare });
    }

    /// Whether it was opened without its spare because that could not be read then.
    pub(crate) fn is_spare_unread(&self) -> bool {
        self.is_spare_unread
    }

    /// The bytes of its damaged files as they should be, by name; to be written in this order.
    pub(crate) fn mended(&self) -> Result<Vec<(&'static str, Vec<u8>)>, BlockError> {
        let mendable = self.mendable();
        let mut files = Vec::new();
        if mendable.meta {
            files.push((META, self.meta.encode()));
        }
        if let Some(spare) = self.spare.as_ref().filter(|_| mendable.index) {
            files.push((INDEX, spare.index(&self.meta)?));
        }
        if mendable.spare {
            files.push((SPARE, spare::of(&self.meta, &Index::load(self)?)?));
        }
        Ok(files)
    }

    pub(crate) fn overlaps(&self, start: TimestampMs, end: TimestampMs) -> bool {
        self.meta.first_t <= end && self.meta.last_t >= start
    }

    /// What losing it costs.
    pub(crate) fn cost(&self) -> Cost {
        let times = Some((self.meta.first_t, self.meta.last_t));
        match self.meta.tier {
            None => Cost::Samples { most: self.meta.samples, times },
            Some(_) => Cost::Aggregates { most: Some(self.meta.samples), times },
        }
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let spare = self.spare.as_ref().map_or(0, |spare| spare.bytes);
        let meta = self.meta.encode().len() as u64;
        // What a meta says of itself may be anything.
        [self.meta.chunks_bytes, meta, spare]
            .into_iter()
            .fold(self.meta.index_bytes, u64::saturating_add)
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

/// Which meta counts, the file's or the copy in the spare; and what is to be made again.
fn choose_meta(
    own: Result<Meta, BlockError>,
    spare: Option<&Spare>,
    dir: &Path,
) -> Result<(Meta, Copies), BlockError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let named = Meta::sequence_of_name(&name);
    let is_named = |meta: &Meta| named == Some(meta.sequence);
    let (own, spare) = match (own, spare.and_then(Spare::meta)) {
        // One of them is of another block.
        (Ok(own), Some(copy)) if is_named(&own) || !is_named(copy) => {
            let spare = own != *copy;
            (own, spare)
        }
        (Ok(own), None) => {
            let spare = own.has_spare;
            (own, spare)
        }
        (_, Some(copy)) => {
            return Ok((copy.clone(), Copies { meta: true, ..Copies::default() }));
        }
        (Err(error), None) => return Err(error),
    };
    Ok((own, Copies { spare, ..Copies::default() }))
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
