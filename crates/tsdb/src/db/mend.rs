//! Damaged files of blocks written anew where another file of the block has all that was in them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Db;
use super::maintain::Upkeep;
use crate::block::{Block, BlockError};
use crate::damage::{Cost, Damage};
use crate::quarantine;
use crate::tier::TierBlock;

impl Db {
    /// Mends every block that is known to need it, and opens again those whose spare could not be read; what does not work is tried again by the next call.
    pub(super) fn mend_blocks(&self, _no_other: &mut Upkeep) {
        let needs_it = |block: &Block| {
            (block.mendable().is_any() || block.is_spare_unread()) && !block.is_damaged()
        };
        // Where that is all that was wrong it is opened anew once it can be read.
        let is_better =
            |old: &Block, new: &Block| old.mendable().is_any() || !new.is_spare_unread();
        let blocks = Arc::clone(&self.state().blocks);
        for block in blocks.iter().filter(|block| needs_it(block)) {
            if self.mend(block).is_ok()
                && let Ok(mended) = Block::open(&*self.disk, &block.dir)
                && is_better(block, &mended)
            {
                self.replace_blocks(&[Arc::clone(block)], Some(Arc::new(mended)));
            }
        }
        let tiers = Arc::clone(&self.state().tiers.blocks);
        for held in tiers.iter().filter(|held| needs_it(&held.block)) {
            if self.mend(&held.block).is_ok()
                && let Ok(mended) = TierBlock::open(&*self.disk, held.tier, &held.block.dir)
                && is_better(&held.block, &mended.block)
            {
                let sequence = held.block.meta.sequence;
                self.change_state().tiers.replace(&[sequence], Some(Arc::new(mended)));
            }
        }
    }

    /// Keeps the damaged files of a block aside and writes them anew.
    fn mend(&self, block: &Block) -> Result<(), BlockError> {
        let (disk, dir) = (&*self.disk, &*self.dir);
        let block_name = block.dir.file_name().unwrap_or_default().to_string_lossy();
        for (file, bytes) in block.mended()? {
            let path = block.dir.join(file);
            let kept = if disk.exists(&path)? {
                let name = format!("block-{block_name}-{file}");
                Some(quarantine::keep_file(disk, dir, &path, &name)?)
            } else {
                None
            };
            let written: io::Result<()> = disk.replace(&path, &bytes);
            if let (Err(_), Some(kept)) = (&written, &kept) {
                // It is still where it was, and the next try keeps it again.
                drop(disk.remove_file(kept));
            }
            written?;
            let what = "damaged or missing; written anew, as another file of the block has all";
            self.notes.tell(Damage::new(path, what, Cost::Nothing).kept(kept));
            self.counters.block_files_mended.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}
