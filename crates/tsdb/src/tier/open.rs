//! What a start finds of tiers.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_wal::Disk;

use super::{Tier, TierBlock, Tiers, Unread};
use crate::block::{BlockError, Meta};
use crate::damage::{Cost, Damage};
use crate::recovery::Recovery;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct OpenedTiers {
    pub(crate) tiers: Tiers,
    /// The highest sequence number met.
    pub(crate) sequence: u64,
    /// To be set aside.
    pub(crate) damaged: Vec<Unopened>,
    /// Directories of blocks that others stand for: to be gone before another is written.
    pub(crate) replaced: Vec<PathBuf>,
}

/// A block that does not open for what it is.
#[derive(Clone, Debug)]
pub(crate) struct Unopened {
    /// Of which tier; `None` for one of samples.
    pub(crate) own: Option<Tier>,
    pub(crate) dir: PathBuf,
    pub(crate) cost: Cost,
}

/// Opens the blocks of all tiers: what was left unfinished is removed, what is damaged, has been replaced
/// or cannot be read now is left.
pub(crate) fn open_tiers(
    disk: &dyn Disk,
    db: &Path,
    recovery: &mut Recovery,
) -> io::Result<OpenedTiers> {
    let mut found = OpenedTiers::default();
    for tier in Tier::ALL {
        let dir = tier.dir(db);
        if disk.exists(&dir)? {
            found.tier(disk, tier, &dir, recovery)?;
        }
    }
    Ok(found)
}

impl OpenedTiers {
    fn tier(
        &mut self,
        disk: &dyn Disk,
        tier: Tier,
        dir: &Path,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        let (mut opened, mut unopened) = (Vec::new(), Vec::new());
        for name in disk.list(dir)? {
            let path = dir.join(&name);
            if name.ends_with(".tmp") {
                recovery.unfinished_removed += u64::from(disk.remove_dir_all(&path).is_ok());
                continue;
            }
            let named = Meta::sequence_of_name(&name);
            self.sequence = self.sequence.max(named.unwrap_or(0));
            match TierBlock::open(disk, tier, &path) {
                Ok(held) => {
                    self.sequence = self.sequence.max(held.block.meta.sequence);
                    opened.push(held);
                }
                Err(error) => unopened.push((path, named, error)),
            }
        }
        // From the newest on: what stands for others may have been replaced itself.
        opened.sort_by_key(|held| std::cmp::Reverse(held.block.meta.sequence));
        let there: BTreeSet<u64> = opened.iter().map(|held| held.block.meta.sequence).collect();
        let mut replaced = BTreeSet::new();
        for held in opened {
            let meta = &held.block.meta;
            if replaced.contains(&meta.sequence) {
                self.replaced.push(held.block.dir.clone());
                continue;
            }
            // Only what holds what it promises stands for others.
            let is_last = !meta.parents.iter().any(|parent| there.contains(parent));
            match if is_last { Ok(()) } else { held.block.check_index() } {
                Ok(()) => replaced.extend(meta.parents.iter().copied()),
                Err(error @ BlockError::Malformed(_)) => {
                    let is_all = meta.parents.iter().all(|parent| there.contains(parent));
                    let cost = if is_all { Cost::Nothing } else { held.block.cost() };
                    self.damaged(tier, &held.block.dir, (&error, cost), recovery);
                    continue;
                }
                Err(error @ BlockError::Io(_)) => {
                    self.unread(tier, held.block.dir.clone(), &error, recovery);
                    continue;
                }
            }
            self.tiers.replace(&[meta.sequence], Some(Arc::new(held)));
        }
        for (path, named, error) in unopened {
            // Half removed, or of no use any more.
            if named.is_some_and(|sequence| replaced.contains(&sequence)) {
                self.replaced.push(path);
                continue;
            }
            match &error {
                BlockError::Io(_) => self.unread(tier, path, &error, recovery),
                BlockError::Malformed(_) => {
                    let cost = Cost::Aggregates { most: None, times: None };
                    self.damaged(tier, &path, (&error, cost), recovery);
                }
            }
        }
        Ok(())
    }

    fn unread(&mut self, tier: Tier, dir: PathBuf, error: &BlockError, recovery: &mut Recovery) {
        recovery.unread.push(format!("{}: {}", dir.display(), error.text()));
        self.tiers.unread.push(Unread { tier, dir });
    }

    fn damaged(
        &mut self,
        tier: Tier,
        dir: &Path,
        (error, cost): (&BlockError, Cost),
        recovery: &mut Recovery,
    ) {
        let what = format!("the block does not open: {}", error.text());
        recovery.damage(Damage::new(dir, what, cost));
        self.damaged.push(Unopened { own: Some(tier), dir: dir.to_owned(), cost });
    }
}
