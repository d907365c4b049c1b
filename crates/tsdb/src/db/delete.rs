//! Deleting samples of series: marked in the blocks they are in; gone with the next merge.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError};

use stoa_model::{Matcher, TimestampMs};

use super::Db;
use super::maintain::{Maintenance, Upkeep};
use crate::DbError;
use crate::block::{Block, BlockError, BlockQuery};
use crate::bytes::Malformed;

/// What one deletion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletion {
    /// Series of which something was marked, counted once per block and group.
    pub series: u64,
    /// Blocks in which something was marked.
    pub blocks: u64,
}

impl Db {
    /// Deletes the samples from `start_ms` to `end_ms`, both included, of the series all matchers
    /// hold for: no query finds them once this has returned, after any crash either. What the head
    /// has of that time is written to blocks first. The samples leave the disk when their block is
    /// merged or by [`Self::clean_tombstones`]. Samples that are stored again later are kept.
    ///
    /// Waits for a compaction under way. Appends wait as for [`Self::maintain`].
    ///
    /// # Errors
    /// [`DbError`]; a part may be deleted then. The same call repeated finishes it.
    pub fn delete_series(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        now_ms: TimestampMs,
    ) -> Result<Deletion, DbError> {
        let _no_compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut upkeep = self.upkeep();
        self.open_unread(&mut upkeep);
        if let Some(path) = upkeep.unread.first() {
            let source =
                io::Error::other("it cannot be read now, and may hold what is to be deleted");
            return Err(DbError::Block { path: path.clone(), source });
        }
        self.settle(&mut upkeep)?;
        self.cut_matching(matchers, start_ms, end_ms, now_ms, &mut upkeep)?;
        let mut done = Deletion::default();
        self.delete_from_tiers(matchers, (start_ms, end_ms), &mut done)?;
        let blocks = Arc::clone(&self.state().blocks);
        for block in blocks.iter().filter(|block| block.overlaps(start_ms, end_ms)) {
            if !block.is_damaged() {
                self.mark_deleted(block, matchers, (start_ms, end_ms), &mut done)?;
            }
        }
        // What was sent again while blocks were cut is in the log behind what these have of it, and
        // would be taken for new by the next start. That one failed a moment ago is no reason to wait.
        upkeep.checkpoint_failed_at = None;
        self.checkpoint_if_due(&mut upkeep, &mut Maintenance::default())?;
        Ok(done)
    }

    /// Writes blocks of the spans in which the head has something to delete.
    fn cut_matching(
        &self,
        matchers: &[Matcher],
        start: TimestampMs,
        end: TimestampMs,
        now_ms: TimestampMs,
        upkeep: &mut Upkeep,
    ) -> Result<(), DbError> {
        let has_any = self.state().head.select(matchers, start, end).next().is_some();
        if !has_any {
            return Ok(());
        }
        let (first, last) = (self.options.block_start(start), self.options.block_start(end));
        let in_range = |span: TimestampMs| first <= span && span <= last;
        self.cut(now_ms, TimestampMs::MAX, in_range, upkeep).map(drop)
    }

    fn mark_deleted(
        &self,
        block: &Arc<Block>,
        matchers: &[Matcher],
        (start, end): (TimestampMs, TimestampMs),
        done: &mut Deletion,
    ) -> Result<(), DbError> {
        let error = |source| DbError::Block { path: block.dir.clone(), source };
        let index = match self.indexes.get(block) {
            Ok(index) => index,
            Err(BlockError::Malformed(malformed)) => {
                self.found_damaged(block, malformed);
                return Ok(());
            }
            Err(BlockError::Io(source)) => return Err(error(source)),
        };
        let mut tombstones = block.tombstones.clone();
        let mut marked = BTreeSet::new();
        let mut query = BlockQuery::new(block, &index, start, end);
        let mut find = || -> Result<(), Malformed> {
            for number in query.find(matchers)? {
                if query.series(number)?.is_some() && tombstones.add(number, start, end) {
                    marked.insert(number);
                }
            }
            Ok(())
        };
        if let Err(malformed) = find() {
            self.found_damaged(block, malformed);
            return Ok(());
        }
        if marked.is_empty() {
            return Ok(());
        }
        let generation = block.tombstones_generation.saturating_add(1);
        let written = tombstones.write(&*self.disk, &block.dir, block.meta.sequence, generation);
        written.map_err(error)?;
        let opened = Block::open(&*self.disk, &block.dir).map_err(|source| match source {
            BlockError::Io(source) => error(source),
            malformed @ BlockError::Malformed(_) => error(io::Error::other(malformed)),
        })?;
        self.replace_blocks(&[Arc::clone(block)], Some(Arc::new(opened)));
        done.series += marked.len() as u64;
        done.blocks += 1;
        Ok(())
    }

    /// Makes sure that nothing that was to go can come back: directories that could not be removed,
    /// or whose removal may be undone by a crash.
    pub(super) fn settle(&self, upkeep: &mut Upkeep) -> Result<(), DbError> {
        if upkeep.unsettled.is_empty() {
            return Ok(());
        }
        while let Some(dir) = upkeep.unsettled.last() {
            if self.disk.exists(dir).unwrap_or(true) {
                self.remove_dir(dir)?;
            }
            upkeep.unsettled.pop();
        }
        Ok(())
    }
}
