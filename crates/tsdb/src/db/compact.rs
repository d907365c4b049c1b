//! Merging blocks: what [`crate::compact`] says is due, written, put in place, the old ones removed.
//!
//! The merged block is durable before any of those it replaces is removed, and names them, so that a
//! start after a crash counts either it or them. Neither appends nor queries nor other maintenance
//! wait while it is written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use stoa_model::TimestampMs;

use super::maintain::{Maintenance, Upkeep};
use super::{Db, blocks_dir, set_block_aside};
use crate::block::{
    self, Block, BlockError, CHUNKS, DamagedChunk, Draft, MergeError, Merged, Plan,
};
use crate::compact::{Candidate, Job, due};
use crate::damage::{Cost, Damage};
use crate::fsck::Repairs;
use crate::recovery::Covered;
use crate::{DbError, Tier, snapshot};

/// What one compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Merges that were done.
    pub merges: u64,
    /// Blocks they replaced.
    pub blocks_merged: u64,
    /// Bytes of these.
    pub bytes_in: u64,
    /// Bytes of the blocks written.
    pub bytes_out: u64,
    /// Samples left out because they were deleted or there twice.
    pub samples_dropped: u64,
    /// Chunks left out because of damage; the block they were in is kept under `quarantine/`.
    pub chunks_damaged: u64,
    /// Merges, and blocks of tiers, put off because the disk has no room for them.
    pub put_off: u64,
    /// Blocks of tiers written.
    pub tier_blocks: u64,
    /// Bytes of the blocks that were read for these.
    pub tier_bytes_in: u64,
    /// Whether more blocks of tiers are due than one call makes: the next one may come soon.
    pub is_partial: bool,
    /// Blocks with deleted samples that [`Db::clean_tombstones`] left as they are: damaged, without
    /// room for a new one, or because the process is about to end.
    pub skipped: u64,
}

/// What compaction remembers from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Retries {
    /// Spans whose merge failed, and when it may be tried again.
    not_before: BTreeMap<(TimestampMs, TimestampMs), TimestampMs>,
    /// The same of tiers.
    pub(super) tiers_not_before: BTreeMap<(Tier, TimestampMs, TimestampMs), TimestampMs>,
}

impl Db {
    /// Merges the blocks that are due, one merge after the other, then makes the blocks of tiers that are
    /// due, so many at most; call it every few minutes, and again soon after one that was partial, best
    /// from a thread of its own. Only deletions and snapshots wait for it. One at a time: a second call
    /// waits.
    ///
    /// # Errors
    /// [`DbError::Block`] when a merged block could not be written, [`DbError::Remove`] when what it
    /// replaces could not be removed. Nothing is lost; a later call tries again.
    pub fn compact(&self, now_ms: TimestampMs) -> Result<Compaction, DbError> {
        let mut retries = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Compaction::default();
        self.settle(&mut self.upkeep())?;
        retries.not_before.retain(|_, at| *at > now_ms);
        retries.tiers_not_before.retain(|_, at| *at > now_ms);
        let merged = self.merge_due(now_ms, &mut retries, &mut done);
        // Samples must not wait for tiers because other blocks cannot be merged.
        let made = self.make_tiers(now_ms, &mut retries, &mut done);
        merged.and(made).map(|()| done)
    }

    fn merge_due(
        &self,
        now_ms: TimestampMs,
        retries: &mut Retries,
        done: &mut Compaction,
    ) -> Result<(), DbError> {
        while !self.interrupted.load(Relaxed) {
            let blocks = self.live_blocks();
            let candidates: Vec<Candidate> = blocks.iter().map(|block| (&**block).into()).collect();
            let jobs = due(&candidates, &self.options, now_ms);
            let is_free = |job: &&Job| !retries.not_before.contains_key(&(job.start, job.end));
            let Some(job) = jobs.iter().find(is_free) else { break };
            let parents: Vec<Arc<Block>> = blocks
                .iter()
                .filter(|block| job.ranks.contains(&block.meta.rank))
                .cloned()
                .collect();
            let merged = self.merge(now_ms, job.level, &parents, done);
            if !matches!(merged, Ok(true)) {
                let pause_ms = self.options.block_ms() / 12;
                let retry = now_ms.saturating_add(pause_ms);
                retries.not_before.insert((job.start, job.end), retry);
                merged?;
            }
        }
        Ok(())
    }

    /// Writes every block that has deleted samples anew without them, whatever its age; what
    /// [`Self::delete_series`] deleted is off the disk then, but for what [`Compaction::skipped`] says.
    ///
    /// # Errors
    /// As [`Self::compact`].
    pub fn clean_tombstones(&self, now_ms: TimestampMs) -> Result<Compaction, DbError> {
        let _one = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Compaction::default();
        {
            let mut upkeep = self.upkeep();
            self.settle(&mut upkeep)?;
            // A block with nothing left goes only when the log it had is gone.
            upkeep.checkpoint_failed_at = None;
            self.checkpoint_if_due(&mut upkeep, &mut Maintenance::default())?;
        }
        let blocks = Arc::clone(&self.state().blocks);
        for block in blocks.iter().filter(|block| !block.tombstones.is_empty()) {
            let is_clean = !block.is_damaged()
                && self.merge(now_ms, block.meta.level, &[Arc::clone(block)], &mut done)?;
            done.skipped += u64::from(!is_clean);
        }
        self.clean_tiers(now_ms, &mut done)?;
        Ok(done)
    }

    /// Makes a compaction that is under way end soon, with nothing done, and later ones at once: for
    /// a process that is about to end.
    pub fn interrupt_compaction(&self) {
        self.interrupted.store(true, Relaxed);
    }

    /// Sets blocks aside, mends others, and writes others anew without their damaged chunks; and writes
    /// the head down if the start met damage.
    pub(crate) fn repair(&self, now_ms: TimestampMs, found: &Repairs) -> Result<(), DbError> {
        let Repairs { lost, partly, mendable } = found;
        let (blocks, tiers) = {
            let state = self.state();
            (Arc::clone(&state.blocks), Arc::clone(&state.tiers.blocks))
        };
        for block in blocks.iter().chain(tiers.iter().map(|held| &held.block)) {
            if mendable.contains(&block.meta.sequence) {
                block.compare_copies();
            }
        }
        self.mend_blocks(&mut self.upkeep());
        for block in self.change_state().blocks.iter() {
            if lost.contains(&block.meta.sequence) {
                block.set_damaged();
            }
        }
        self.set_tiers_damaged(lost);
        self.set_damaged_aside(&mut Maintenance::default())?;
        // What was damaged of log and checkpoint is not to be met again.
        self.checkpoint_if_due(&mut self.upkeep(), &mut Maintenance::default())?;
        let _one = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        for block in self.live_blocks().iter() {
            if partly.contains(&block.meta.sequence) {
                let level = block.meta.level;
                self.merge(now_ms, level, &[Arc::clone(block)], &mut Compaction::default())?;
            }
        }
        self.repair_tiers(now_ms, partly)
    }

    /// Copies the database to a directory that is not there yet, which then opens as one with
    /// everything that was appended before this call. On the same file system blocks are linked, not
    /// copied. Appends wait while the log is cut; maintenance waits to the end.
    ///
    /// # Errors
    /// [`DbError::Snapshot`]; [`DbError::DiskFull`] and [`DbError::Stopped`] when the log could not be
    /// made durable. The database is as it was.
    pub fn snapshot(&self, to: &Path) -> Result<(), DbError> {
        let _no_compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut upkeep = self.upkeep();
        self.settle(&mut upkeep)?;
        let segment = self.writer().log.cut()?;
        self.files().end();
        snapshot::copy(&*self.disk, &self.dir, to, segment)
            .map_err(|source| DbError::Snapshot { path: to.to_owned(), source })
    }

    fn live_blocks(&self) -> Vec<Arc<Block>> {
        let state = self.state();
        state.blocks.iter().filter(|block| !block.is_damaged()).cloned().collect()
    }

    /// Merges blocks, given in order of rank, into one of a level. False when it was put off.
    fn merge(
        &self,
        now_ms: TimestampMs,
        level: u8,
        parents: &[Arc<Block>],
        done: &mut Compaction,
    ) -> Result<bool, DbError> {
        let bytes_in: u64 = parents.iter().map(|block| block.bytes()).sum();
        let dir = blocks_dir(&self.dir);
        let free = self.disk.free_bytes(&dir).unwrap_or(u64::MAX);
        if free < bytes_in.saturating_mul(2).saturating_add(self.options.free_bytes_min) {
            // The log needs the rest more.
            done.put_off += 1;
            return Ok(false);
        }
        let metas = || parents.iter().map(|block| &block.meta);
        let plan = Plan {
            now_ms,
            level,
            sequence: self.next_sequence(),
            rank: metas().map(|meta| meta.rank).min().unwrap_or_default(),
            start: metas().map(|meta| meta.start).min().unwrap_or_default(),
            end: metas().map(|meta| meta.end).max().unwrap_or_default(),
            covered: joined(metas().flat_map(|meta| meta.covered.iter().copied())),
            parents: metas().map(|meta| meta.sequence).collect(),
        };
        let is_interrupted = || self.interrupted.load(Relaxed);
        let merged =
            block::merge(&*self.disk, &dir, &plan, parents, &is_interrupted).and_then(|merged| {
                if let Some(draft) = &merged.draft {
                    draft.open(&*self.disk)?.check_index()?;
                }
                Ok(merged)
            });
        let mut upkeep = self.upkeep();
        let merged = match merged {
            Ok(merged) => merged,
            Err(error) => {
                self.discard(&mut upkeep, &dir, &plan);
                return self.merge_failed(&dir, parents, error);
            }
        };
        let Merged { draft, damaged, samples_dropped } = merged;
        // A block with nothing left still says which part of the log it had: it goes when that is gone.
        let is_early = draft.is_none() && upkeep.checkpoint_due;
        let has_parents = has_all(&self.state().blocks, parents);
        if is_early || !has_parents || !self.lacks_chunks(&damaged)? {
            self.discard(&mut upkeep, &dir, &plan);
            return Ok(false);
        }
        let publish = |draft: Draft| {
            let error = |source| DbError::Block { path: dir.clone(), source };
            let dir = draft.publish(&*self.disk, &[]).map_err(error)?;
            let opened = Block::open(&*self.disk, &dir).map(Arc::new);
            opened.map_err(|what| error(io::Error::other(what)))
        };
        let block = match draft.map(publish).transpose() {
            Ok(block) => block,
            Err(error) => {
                self.discard(&mut upkeep, &dir, &plan);
                self.counters.compactions_failed.fetch_add(1, Relaxed);
                return Err(error);
            }
        };
        let bytes_out = block.as_ref().map_or(0, |block| block.bytes());
        self.replace_blocks(parents, block);
        self.counters.compactions.fetch_add(1, Relaxed);
        self.counters.compaction_bytes_in.fetch_add(bytes_in, Relaxed);
        self.counters.compaction_bytes_out.fetch_add(bytes_out, Relaxed);
        self.counters.damaged_chunks(damaged.len() as u64);
        done.merges += 1;
        done.blocks_merged += parents.len() as u64;
        done.bytes_in += bytes_in;
        done.bytes_out += bytes_out;
        done.samples_dropped += samples_dropped;
        done.chunks_damaged += damaged.len() as u64;
        for (at, parent) in parents.iter().enumerate() {
            self.indexes.forget(parent.meta.sequence);
            let chunks = damaged.iter().filter(|chunk| chunk.parent == at).count() as u64;
            let aside = || set_block_aside(&*self.disk, &self.dir, &parent.dir).ok();
            let kept = (chunks > 0).then(aside).flatten();
            if kept.is_some() {
                self.counters.blocks_quarantined.fetch_add(1, Relaxed);
            } else {
                upkeep.unsettled.push(parent.dir.clone());
            }
            if chunks > 0 {
                let times = Some((parent.meta.first_t, parent.meta.last_t));
                let what = "chunks are damaged; the block was written anew without them";
                let cost = Cost::Chunks { chunks, times };
                self.notes.tell(Damage::new(parent.dir.join(CHUNKS), what, cost).kept(kept));
            }
        }
        self.settle(&mut upkeep)?;
        Ok(true)
    }

    /// Takes note that chunks are left out of what takes the place of their blocks; false when that is not
    /// durable now.
    fn lacks_chunks(&self, damaged: &[DamagedChunk]) -> Result<bool, DbError> {
        let Some(last_t) = damaged.iter().map(|chunk| chunk.times.1).max() else { return Ok(true) };
        for (first, last) in damaged.iter().map(|chunk| chunk.times) {
            self.seal(None, (first.saturating_sub(1), last))?;
        }
        Ok(self.lacks(last_t))
    }

    pub(super) fn merge_failed(
        &self,
        dir: &Path,
        parents: &[Arc<Block>],
        error: MergeError,
    ) -> Result<bool, DbError> {
        let source = match error {
            MergeError::Interrupted => return Ok(false),
            MergeError::Parent(at, malformed) => {
                // Set aside, and told, by the next maintenance; merged without it then.
                if let Some(parent) = parents.get(at) {
                    self.found_damaged(parent, malformed);
                }
                self.counters.compactions_failed.fetch_add(1, Relaxed);
                return Ok(false);
            }
            MergeError::Block(BlockError::Io(source)) => source,
            MergeError::Block(error @ BlockError::Malformed(_)) => io::Error::other(error),
        };
        self.counters.compactions_failed.fetch_add(1, Relaxed);
        Err(DbError::Block { path: dir.to_owned(), source })
    }

    /// Removes what a block that was not to be has left. While that fails, no other is written.
    pub(super) fn discard(&self, upkeep: &mut Upkeep, dir: &Path, plan: &Plan) {
        upkeep.unsettled.extend(block::leftovers(dir, plan));
        // Tried again before it matters.
        drop(self.settle(upkeep));
    }

    /// Puts a block in the place of others; false, and nothing done, when one of those is gone.
    pub(super) fn replace_blocks(&self, gone: &[Arc<Block>], block: Option<Arc<Block>>) -> bool {
        let mut state = self.change_state();
        if !has_all(&state.blocks, gone) {
            return false;
        }
        let is_gone = |held: &Arc<Block>| gone.iter().any(|block| Arc::ptr_eq(block, held));
        let mut blocks: Vec<Arc<Block>> =
            state.blocks.iter().filter(|held| !is_gone(held)).cloned().collect();
        blocks.extend(block);
        blocks.sort_by_key(|block| (block.meta.rank, block.meta.sequence));
        state.blocks = blocks.into();
        true
    }
}

fn has_all(blocks: &[Arc<Block>], wanted: &[Arc<Block>]) -> bool {
    wanted.iter().all(|block| blocks.iter().any(|held| Arc::ptr_eq(held, block)))
}

/// The spans of time whose samples of the log are in blocks, neighbours with the same bound as one.
fn joined(covered: impl Iterator<Item = Covered>) -> Vec<Covered> {
    let mut covered: Vec<Covered> = covered.collect();
    covered.sort_by_key(|covered| (covered.log_before, covered.start, covered.end));
    let mut joined: Vec<Covered> = Vec::new();
    for next in covered {
        match joined.last_mut() {
            Some(last) if last.log_before == next.log_before && next.start <= last.end => {
                last.end = last.end.max(next.end);
            }
            _ => joined.push(next),
        }
    }
    joined
}
