//! The blocks of all tiers as a database holds them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::TimestampMs;
use stoa_wal::Disk;

use super::Tier;
use crate::block::{Block, BlockError, Meta, TombstonesState};
use crate::bytes::Malformed;
use crate::quarantine::set_aside;
use crate::recovery::Recovery;

/// Names of the empty files that say so of a block.
const STALE: &str = "stale";
const SEALED: &str = "sealed";

/// A block of a tier.
#[derive(Debug)]
pub(crate) struct TierBlock {
    pub(crate) tier: Tier,
    pub(crate) block: Arc<Block>,
    stale: AtomicBool,
    sealed: AtomicBool,
}

impl TierBlock {
    /// Opens a block of a tier's directory.
    ///
    /// [`BlockError::Malformed`] says that it is damaged; [`BlockError::Io`] that nobody knows.
    pub(crate) fn open(disk: &dyn Disk, tier: Tier, dir: &Path) -> Result<Self, BlockError> {
        let block = Block::open(disk, dir)?;
        let meta = block.meta.tier.filter(|meta| meta.window_ms == tier.window_ms());
        let meta = meta.ok_or(Malformed("not a block of this tier"))?;
        let is_there = |name: &str| disk.exists(&dir.join(name));
        let is_sealed = meta.is_sealed || is_there(SEALED)?;
        // What was deleted is not in it once it is made again.
        let is_lossy = block.tombstones_state == TombstonesState::Lossy;
        let is_stale = is_lossy || is_there(STALE)?;
        Ok(Self {
            tier,
            stale: AtomicBool::new(is_stale),
            sealed: AtomicBool::new(is_sealed),
            block: Arc::new(block),
        })
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

    /// Whether its span has been changed since, and it is to be made again.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Relaxed) && !self.is_sealed()
    }

    /// Whether it is marked sealed, and stale, as its files say.
    pub(crate) fn marks(&self) -> (bool, bool) {
        (self.sealed.load(Relaxed), self.stale.load(Relaxed))
    }

    /// Whether something it was made of is gone.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Relaxed)
    }

    /// Durable when this returns.
    pub(crate) fn set_stale(&self, disk: &dyn Disk) -> io::Result<()> {
        if !self.stale.load(Relaxed) && !self.is_sealed() {
            disk.replace(&self.block.dir.join(STALE), &[])?;
            self.stale.store(true, Relaxed);
        }
        Ok(())
    }

    /// Durable when this returns.
    pub(crate) fn set_sealed(&self, disk: &dyn Disk) -> io::Result<()> {
        if !self.is_sealed() {
            disk.replace(&self.block.dir.join(SEALED), &[])?;
            self.sealed.store(true, Relaxed);
        }
        Ok(())
    }
}

/// What a database holds of all tiers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tiers {
    /// By tier, then span.
    pub(crate) blocks: Arc<[Arc<TierBlock>]>,
    /// Spans, by tier and start, in which there was nothing, and the blocks that was found in.
    pub(crate) empty: BTreeMap<(Tier, TimestampMs), Vec<u64>>,
    /// Directories of blocks that cannot be opened now. Until they can no other is made.
    pub(crate) unread: Vec<(Tier, PathBuf)>,
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

/// Opens the blocks of all tiers: what was left unfinished or has been replaced is removed, what is
/// damaged is set aside, what cannot be read now is left. Says the highest sequence number met, too.
pub(crate) fn open_tiers(
    disk: &dyn Disk,
    db: &Path,
    recovery: &mut Recovery,
) -> io::Result<(Tiers, u64)> {
    let mut tiers = Tiers::default();
    let mut sequence = 0;
    for tier in Tier::ALL {
        let dir = tier.dir(db);
        if !disk.exists(&dir)? {
            continue;
        }
        let mut opened = Vec::new();
        for name in disk.list(&dir)? {
            let path = dir.join(&name);
            if name.ends_with(".tmp") {
                recovery.unfinished_removed += u64::from(disk.remove_dir_all(&path).is_ok());
                continue;
            }
            match TierBlock::open(disk, tier, &path) {
                Ok(held) => opened.push(held),
                Err(BlockError::Io(_)) => {
                    sequence = sequence.max(Meta::sequence_of_name(&name).unwrap_or(0));
                    tiers.unread.push((tier, path));
                }
                Err(BlockError::Malformed(error)) => {
                    recovery.damage(format!("block {name} of tier {}: {error}", tier.name()));
                    let to = set_aside(disk, db, &path, &format!("tier-{}-{name}", tier.name()));
                    recovery.quarantined.extend(to);
                }
            }
        }
        let replaced: BTreeSet<u64> =
            opened.iter().flat_map(|held| held.block.meta.parents.iter().copied()).collect();
        for held in opened {
            let own = held.block.meta.sequence;
            sequence = sequence.max(own);
            if replaced.contains(&own) {
                let removed = disk.remove_dir_all(&held.block.dir);
                recovery.unfinished_removed += u64::from(removed.is_ok());
            } else {
                tiers.replace(&[own], Some(Arc::new(held)));
            }
        }
    }
    Ok((tiers, sequence))
}
