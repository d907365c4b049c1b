//! The blocks of all tiers as a database holds them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stoa_model::TimestampMs;
use stoa_wal::Disk;

use super::{Gone, Tier, Unread, ceil, floor};
use crate::block::{Block, BlockError, TombstonesState};
use crate::bytes::Malformed;

/// Names of the files that say so of a block.
pub(super) const STALE: &str = "stale";
pub(super) const SEALED: &str = "sealed";

/// What is said of a block beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Its span has been changed since, and it is to be made again.
    pub(crate) is_stale: bool,
    /// Where what it was made of is gone.
    pub(crate) gone: Gone,
}

impl Marks {
    /// The files that say so of the block with this sequence number.
    pub(crate) fn files(&self, sequence: u64) -> Vec<(&'static str, Vec<u8>)> {
        let stale = self.is_stale.then(|| (STALE, Vec::new()));
        let sealed = (!self.gone.is_empty()).then(|| (SEALED, self.gone.encode(sequence)));
        stale.into_iter().chain(sealed).collect()
    }
}

/// A block of a tier.
#[derive(Debug)]
pub(crate) struct TierBlock {
    pub(crate) tier: Tier,
    pub(crate) block: Arc<Block>,
    marks: Mutex<Marks>,
}

impl TierBlock {
    /// Opens a block of a tier's directory.
    ///
    /// [`BlockError::Malformed`] says that it is damaged; [`BlockError::Io`] that nobody knows.
    pub(crate) fn open(disk: &dyn Disk, tier: Tier, dir: &Path) -> Result<Self, BlockError> {
        let block = Block::open(disk, dir)?;
        let meta = block.meta.tier.filter(|meta| meta.window_ms == tier.window_ms());
        let meta = meta.ok_or(Malformed("not a block of this tier"))?;
        let span = (block.meta.start, block.meta.end);
        let sealed = dir.join(SEALED);
        let mut gone = Gone::default();
        if meta.is_sealed {
            gone.add(span.0, span.1);
        } else if disk.exists(&sealed)? {
            gone = Gone::decode(&disk.read(&sealed)?, block.meta.sequence, span);
        }
        // What was deleted is not in it once it is made again.
        let is_lossy = block.tombstones_state == TombstonesState::Lossy;
        let is_stale = is_lossy || disk.exists(&dir.join(STALE))?;
        Ok(Self { tier, marks: Mutex::new(Marks { is_stale, gone }), block: Arc::new(block) })
    }

    /// The span it has: `start < t ≤ end`.
    pub(crate) fn span(&self) -> (TimestampMs, TimestampMs) {
        (self.block.meta.start, self.block.meta.end)
    }

    /// Whether samples from `first` to `last`, both included, lie in its span.
    pub(crate) fn overlaps(&self, first: TimestampMs, last: TimestampMs) -> bool {
        let (start, end) = self.span();
        start < last && end >= first
    }

    pub(crate) fn marks(&self) -> Marks {
        self.lock().clone()
    }

    /// Whether its span has been changed since, and it is to be made again.
    pub(crate) fn is_stale(&self) -> bool {
        self.lock().is_stale
    }

    /// Where what it was made of is gone.
    pub(crate) fn gone(&self) -> Gone {
        self.lock().gone.clone()
    }

    /// Whether something it was made of is gone of the time from `first` to `last`.
    pub(crate) fn is_sealed_in(&self, first: TimestampMs, last: TimestampMs) -> bool {
        self.lock().gone.within(first.saturating_sub(1), last).next().is_some()
    }

    /// Durable when this returns.
    pub(crate) fn set_stale(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut marks = self.lock();
        if !marks.is_stale {
            self.keep_stale(disk)?;
            marks.is_stale = true;
        }
        Ok(())
    }

    /// The same where it is taken to be stale for what it is, and that is not durable.
    pub(crate) fn keep_stale(&self, disk: &dyn Disk) -> io::Result<()> {
        disk.replace(&self.block.dir.join(STALE), &[])
    }

    /// Takes note that something it was made of is about to be gone, `start < t ≤ end`. Durable when this
    /// returns.
    pub(crate) fn seal(
        &self,
        disk: &dyn Disk,
        start: TimestampMs,
        end: TimestampMs,
    ) -> io::Result<()> {
        let (window_ms, span) = (self.tier.window_ms(), self.span());
        let start = floor(start, window_ms).max(span.0);
        let end = ceil(end, window_ms).min(span.1);
        let mut marks = self.lock();
        if marks.gone.has(start, end) {
            return Ok(());
        }
        let mut gone = marks.gone.clone();
        gone.add(start, end);
        gone.bound();
        let path = self.block.dir.join(SEALED);
        if gone.keep(disk, &path, self.block.meta.sequence)? {
            gone.add(span.0, span.1);
        }
        marks.gone = gone;
        Ok(())
    }

    /// Held for a moment, but while a mark becomes durable: then who asks waits for what is said.
    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a database holds of all tiers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tiers {
    /// By tier, then span.
    pub(crate) blocks: Arc<[Arc<TierBlock>]>,
    /// Spans, by tier and start, in which there was nothing, and the blocks that was found in.
    pub(crate) empty: BTreeMap<(Tier, TimestampMs), Vec<u64>>,
    /// Blocks that cannot be opened now. Until they can no other is made.
    pub(crate) unread: Vec<Unread>,
}

impl Tiers {
    pub(crate) fn of(&self, tier: Tier) -> impl Iterator<Item = &Arc<TierBlock>> {
        self.blocks.iter().filter(move |held| held.tier == tier && !held.block.is_damaged())
    }

    /// Takes blocks out and puts others in.
    pub(crate) fn replace(&mut self, gone: &[u64], new: Option<Arc<TierBlock>>) {
        let is_kept = |held: &&Arc<TierBlock>| !gone.contains(&held.block.meta.sequence);
        let mut blocks: Vec<_> = self.blocks.iter().filter(is_kept).cloned().collect();
        blocks.extend(new);
        blocks.sort_by_key(|held| (held.tier, held.span(), held.block.meta.sequence));
        self.blocks = blocks.into();
    }
}

/// Takes note that what a block of samples, or of a tier, had of `start < t ≤ end` is about to be gone: of
/// each coarser tier, where none between the two has it. The error, and of what.
pub(crate) fn seal(
    disk: &dyn Disk,
    tiers: &Tiers,
    own: Option<Tier>,
    (start, end): (TimestampMs, TimestampMs),
) -> Result<(), (PathBuf, io::Error)> {
    for tier in Tier::ALL.into_iter().filter(|tier| Some(*tier) > own) {
        let is_between = |other: Tier| Some(other) > own && other < tier;
        let held = tiers.blocks.iter().filter(|held| !held.block.is_damaged());
        let held = held.filter(|held| is_between(held.tier)).map(|held| held.span());
        // One that turns out to be damaged when it is read seals what it had.
        let unread = tiers.unread.iter().filter(|unread| is_between(unread.tier));
        let unread = unread.filter_map(|unread| unread.span(disk));
        let mut had = Gone::default();
        for (start, end) in held.chain(unread) {
            had.add(start, end);
        }
        for held in tiers.blocks.iter().filter(|held| held.tier == tier) {
            let span = held.span();
            for (start, end) in had.without(start.max(span.0), end.min(span.1)) {
                held.seal(disk, start, end).map_err(|error| (held.block.dir.clone(), error))?;
            }
        }
        for unread in tiers.unread.iter().filter(|unread| unread.tier == tier) {
            for stretch in had.without(start, end) {
                unread.seal(disk, stretch).map_err(|error| (unread.dir.clone(), error))?;
            }
        }
    }
    Ok(())
}

/// Takes note that what is there from `first` to `last` is about to change, of samples or of a tier: each
/// coarser tier is to be made again of that. The error, and of what.
pub(crate) fn set_stale(
    disk: &dyn Disk,
    tiers: &Tiers,
    own: Option<Tier>,
    (first, last): (TimestampMs, TimestampMs),
) -> Result<(), (PathBuf, io::Error)> {
    let held = tiers.blocks.iter().filter(|held| Some(held.tier) > own);
    for held in held.filter(|held| held.overlaps(first, last)) {
        held.set_stale(disk).map_err(|error| (held.block.dir.clone(), error))?;
    }
    for unread in tiers.unread.iter().filter(|unread| Some(unread.tier) > own) {
        let kept = unread.set_stale(disk, (first, last));
        kept.map_err(|error| (unread.dir.clone(), error))?;
    }
    Ok(())
}
