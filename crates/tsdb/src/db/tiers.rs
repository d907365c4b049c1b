//! Tiers: made beside compaction, kept in step with what happens to samples.
//!
//! What changes a span marks its blocks of tiers stale before it does so, durably; what deletes samples
//! seals them over the time these had. A block gets its name, and with it counts after a start, only if what
//! it was made of is still all there is: what came meanwhile makes it be made again. Both are looked at and
//! changed with `maintenance` held.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::{Matcher, TimestampMs};
use stoa_wal::disk::create_dir_durable;

use super::compact::{Compaction, Retries};
use super::maintain::Upkeep;
use super::{Db, Deletion};
use crate::DbError;
use crate::block::{Block, BlockError, BlockQuery, Draft, Plan, TierMeta, TombstonesState};
use crate::bytes::Malformed;
use crate::damage::Cost;
use crate::tier::{
    self, Job, Marks, Old, Samples, Source, Tier, TierBlock, Tiers, Unread, World, due,
    is_rolled_up, remake,
};

/// Level of a tier's blocks: compressed as hard as merged ones.
const LEVEL: u8 = 2;

/// So much is made in one call, at most, and of so many bytes but for the last: what else waits for
/// `compaction` gets a turn.
const JOBS_MAX: u64 = 16;
const BYTES_MAX: u64 = 256 << 20;

/// What is to be known to plan.
pub(super) struct Seen {
    samples: Vec<Samples>,
    tiers: Tiers,
    now_ms: TimestampMs,
    newest: TimestampMs,
}

impl Db {
    /// Whether rollups are kept.
    #[must_use]
    pub fn has_tiers(&self) -> bool {
        Tier::ALL.iter().any(|tier| tier.retention_ms(&self.options).is_some())
    }

    pub(super) fn seen(&self, now_ms: TimestampMs) -> Seen {
        let newest = self.newest(now_ms);
        let state = self.state();
        let samples = state.blocks.iter().filter(|block| !block.is_damaged()).map(|block| {
            let meta = &block.meta;
            Samples { first_t: meta.first_t, last_t: meta.last_t, sequence: meta.sequence }
        });
        Seen { samples: samples.collect(), tiers: state.tiers.clone(), now_ms, newest }
    }

    /// Whether the coarser has all of a block's samples or rollups, so that it may go.
    pub(super) fn is_kept_in(&self, seen: &Seen, coarser: Source, block: &Block) -> bool {
        let (first, last) = match block.meta.tier {
            None => (block.meta.first_t, block.meta.last_t),
            Some(_) => (block.meta.start.saturating_add(1), block.meta.end),
        };
        let world = seen.world(self);
        match coarser {
            Source::Samples => true,
            Source::Tier(tier) => is_rolled_up(world, tier, first, last),
        }
    }

    /// Makes the blocks of tiers that are due, one after the other and so many at most; one that fails keeps
    /// none of the others from it. The first error.
    pub(super) fn make_tiers(
        &self,
        now_ms: TimestampMs,
        retries: &mut Retries,
        done: &mut Compaction,
    ) -> Result<(), DbError> {
        if !self.has_tiers() {
            return Ok(());
        }
        let mut all = Ok(());
        let (mut jobs_done, bytes_before) = (0, done.tier_bytes_in);
        // While something cannot be read all is put off.
        let mut is_over = !self.has_all_there_is();
        while !is_over && !self.interrupted.load(Relaxed) {
            let seen = self.seen(now_ms);
            let jobs = due(seen.world(self));
            let key = |job: &Job| (job.tier, job.start, job.end);
            let is_free = |job: &&Job| !retries.tiers_not_before.contains_key(&key(job));
            let Some(job) = jobs.iter().find(is_free) else {
                is_over = true;
                break;
            };
            if jobs_done >= JOBS_MAX || done.tier_bytes_in - bytes_before >= BYTES_MAX {
                done.is_partial = true;
                break;
            }
            jobs_done += 1;
            let made = self.make_tier(now_ms, job, done);
            if !matches!(made, Ok(true)) {
                let retry = now_ms.saturating_add(self.options.block_ms() / 12);
                retries.tiers_not_before.insert(key(job), retry);
            }
            if let Err(error) = made {
                all = all.and(Err(error));
                // What it left must be gone before another is written.
                if self.settle(&mut self.upkeep()).is_err() {
                    break;
                }
            }
        }
        if is_over {
            self.tier_passes.fetch_add(1, Relaxed);
        }
        all
    }

    /// Whether all blocks can be read: what is made while one cannot would lack what it has.
    fn has_all_there_is(&self) -> bool {
        let mut upkeep = self.upkeep();
        self.reopen_tiers(&mut upkeep);
        upkeep.unread.is_empty() && self.state().tiers.unread.is_empty()
    }

    /// Opens blocks of tiers that could not be read before.
    pub(super) fn reopen_tiers(&self, upkeep: &mut Upkeep) {
        let unread = self.state().tiers.unread.clone();
        for Unread { tier, dir } in unread {
            let is_there = match TierBlock::open(&*self.disk, tier, &dir) {
                Ok(held) => self.adopt_tier_block(held, upkeep),
                Err(BlockError::Malformed(malformed)) => {
                    let cost = Cost::Aggregates { most: None, times: None };
                    self.set_found_aside(Some(tier), &dir, malformed.0, cost)
                }
                Err(BlockError::Io(_)) => false,
            };
            if is_there {
                self.state_mut().tiers.unread.retain(|unread| unread.dir != dir);
            }
        }
        let unread = upkeep.unread.len() + self.state().tiers.unread.len();
        self.counters.blocks_unread.store(unread as u64, Relaxed);
    }

    /// Lets a block count that was found late, as the start would have, or sets it aside; false when its
    /// index cannot be read now.
    fn adopt_tier_block(&self, held: TierBlock, upkeep: &mut Upkeep) -> bool {
        let (tier, block) = (held.tier, Arc::clone(&held.block));
        let tiers = self.state().tiers.clone();
        let known = || tiers.blocks.iter().filter(|known| known.tier == tier);
        if known().any(|known| known.block.meta.sequence == block.meta.sequence) {
            let what = "a copy of another block";
            return self.set_found_aside(Some(tier), &block.dir, what, Cost::Nothing);
        }
        let stands_for_it = |known: &Arc<TierBlock>| {
            known.block.meta.parents.contains(&block.meta.sequence) && !known.block.is_damaged()
        };
        if known().any(stands_for_it) {
            self.notes.found(&block.dir);
            upkeep.unsettled.push(block.dir.clone());
            return true;
        }
        let is_parent =
            |known: &&Arc<TierBlock>| block.meta.parents.contains(&known.block.meta.sequence);
        let parents: Vec<&Arc<TierBlock>> = known().filter(is_parent).collect();
        if !parents.is_empty() {
            match block.check_index() {
                Ok(()) => {}
                Err(BlockError::Malformed(malformed)) => {
                    let is_all = parents.len() == block.meta.parents.len();
                    let cost = if is_all { Cost::Nothing } else { block.cost() };
                    return self.set_found_aside(Some(tier), &block.dir, malformed.0, cost);
                }
                Err(BlockError::Io(_)) => return false,
            }
        }
        let replaced: Vec<u64> = parents.iter().map(|known| known.block.meta.sequence).collect();
        self.notes.found(&block.dir);
        self.change_state().tiers.replace(&replaced, Some(Arc::new(held)));
        for parent in parents {
            self.indexes.forget(parent.block.meta.sequence);
            upkeep.unsettled.push(parent.block.dir.clone());
        }
        true
    }

    /// Makes the blocks anew of which something was deleted, so that it is off the disk.
    pub(super) fn clean_tiers(
        &self,
        now_ms: TimestampMs,
        done: &mut Compaction,
    ) -> Result<(), DbError> {
        let is_readable = self.has_all_there_is();
        let tiers = self.state().tiers.clone();
        for held in tiers.blocks.iter().filter(|held| !held.block.tombstones.is_empty()) {
            if !is_readable {
                done.skipped += 1;
                continue;
            }
            let source = tier::source(held.tier, &self.options);
            let is_clean = self.make_tier(now_ms, &remake(held.tier, source, held), done)?;
            done.skipped += u64::from(!is_clean);
        }
        Ok(())
    }

    pub(super) fn set_tiers_damaged(&self, sequences: &BTreeSet<u64>) {
        for held in self.change_state().tiers.blocks.iter() {
            if sequences.contains(&held.block.meta.sequence) {
                held.block.set_damaged();
            }
        }
    }

    /// Writes blocks of tiers anew without their damaged chunks, or sets them aside if they can be made
    /// again of what they were made of; by sequence number.
    pub(super) fn repair_tiers(
        &self,
        now_ms: TimestampMs,
        sequences: &BTreeSet<u64>,
    ) -> Result<(), DbError> {
        let tiers = self.state().tiers.clone();
        let damaged = tiers.blocks.iter();
        for held in damaged.filter(|held| sequences.contains(&held.block.meta.sequence)) {
            if held.marks().gone.is_empty() {
                let state = self.change_state();
                held.block.set_damaged();
                drop(state);
            } else if !self.has_all_there_is() {
                let source = io::Error::other("not mended while others cannot be read");
                return Err(DbError::Block { path: held.block.dir.clone(), source });
            } else {
                // What is lost of the rest is there to be made again.
                self.set_stale(held)?;
                let job = remake(held.tier, Source::Tier(held.tier), held);
                self.make_tier(now_ms, &job, &mut Compaction::default())?;
            }
        }
        self.set_damaged_tiers_aside(&mut 0)
    }

    fn tier_sources(&self, job: &Job) -> Sources {
        let state = self.state();
        let first = job.start.saturating_add(1);
        let held = state.tiers.blocks.iter().filter(|held| held.overlaps(first, job.end));
        let held: Vec<&Arc<TierBlock>> = held.collect();
        let marks = held.iter().map(|held| (held.block.meta.sequence, held.marks())).collect();
        let mut blocks: Vec<Arc<Block>> = match job.source {
            Source::Samples => {
                let blocks = state.blocks.iter().filter(|block| block.overlaps(first, job.end));
                blocks.filter(|block| !block.is_damaged()).cloned().collect()
            }
            Source::Tier(tier) => {
                let wanted = held.iter().filter(|held| held.tier == tier);
                let wanted = wanted.filter(|held| !held.block.is_damaged());
                wanted.map(|held| Arc::clone(&held.block)).collect()
            }
        };
        let is_replaced = |held: &&&Arc<TierBlock>| {
            job.replaces.contains(&held.block.meta.sequence) && !held.block.is_damaged()
        };
        let old = held.iter().find(is_replaced).filter(|_| job.source != Source::Tier(job.tier));
        let old = old.filter(|old| !old.gone().is_empty()).map(|old| {
            blocks.push(Arc::clone(&old.block));
            Old { gone: old.gone(), sequence: old.block.meta.sequence }
        });
        Sources { blocks, old, marks }
    }

    /// False when it was put off.
    fn make_tier(
        &self,
        now_ms: TimestampMs,
        job: &Job,
        done: &mut Compaction,
    ) -> Result<bool, DbError> {
        let dir = job.tier.dir(&self.dir);
        let error = |source| DbError::Block { path: dir.clone(), source };
        let sources = self.tier_sources(job);
        let bytes_in: u64 = sources.blocks.iter().map(|block| block.bytes()).sum();
        let free = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        if free < bytes_in.saturating_add(self.options.free_bytes_min) {
            done.put_off += 1;
            return Ok(false);
        }
        done.tier_bytes_in += bytes_in;
        create_dir_durable(&*self.disk, &dir).map_err(error)?;
        let sequence = self.next_sequence();
        let plan = Plan {
            now_ms,
            level: LEVEL,
            sequence,
            rank: sequence,
            start: job.start,
            end: job.end,
            covered: Vec::new(),
            parents: job.replaces.clone(),
        };
        let meta = TierMeta { window_ms: job.tier.window_ms(), is_sealed: false };
        let is_interrupted = || self.interrupted.load(Relaxed);
        let (blocks, old) = (&sources.blocks, sources.old.as_ref());
        let made = tier::build(&*self.disk, &dir, &plan, meta, blocks, old, &is_interrupted);
        let made = made.and_then(|made| {
            if let Some(draft) = &made.draft {
                draft.open(&*self.disk)?.check_index()?;
            }
            Ok(made)
        });
        let mut upkeep = self.upkeep();
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                self.discard(&mut upkeep, &dir, &plan);
                return self.merge_failed(&dir, blocks, error);
            }
        };
        // From here on nothing comes or goes until it counts.
        let now_there = self.tier_sources(job);
        if !now_there.is_same(&sources, job) {
            self.discard(&mut upkeep, &dir, &plan);
            return Ok(false);
        }
        if made.damaged > 0 && self.seal_replaced(job)? {
            // They have what could not be read, and are read with what could next time.
            self.discard(&mut upkeep, &dir, &plan);
            return Ok(false);
        }
        if made.damaged > 0 {
            // Of what is made of it nobody knows whether it can be made again.
            self.seal(Some(job.tier), (job.start, job.end))?;
        }
        // What is made of it, if that is changed by it, is known to be stale before it is changed.
        self.settle_tiers_above(job)?;
        let mut marks = now_there.marks_of_new(job);
        // What was lost of it is made again of what it was made of, if that is there.
        marks.is_stale |= made.damaged > 0 && job.source == Source::Tier(job.tier);
        let publish = |draft: Draft| {
            let dir = draft.publish(&*self.disk, &marks.files(sequence)).map_err(error)?;
            let opened = TierBlock::open(&*self.disk, job.tier, &dir);
            opened.map(Arc::new).map_err(|what| error(io::Error::other(what)))
        };
        let new = match made.draft.map(publish).transpose() {
            Ok(new) => new,
            Err(error) => {
                self.discard(&mut upkeep, &dir, &plan);
                return Err(error);
            }
        };
        self.counters.damaged_chunks(made.damaged);
        self.counters.tier_histograms.fetch_add(made.histograms, Relaxed);
        self.counters.tier_samples_left_out.fetch_add(made.left_out, Relaxed);
        done.tier_blocks += u64::from(new.is_some());
        let gone: Vec<_> = {
            let mut state = self.change_state();
            let is_gone = |held: &&Arc<TierBlock>| job.replaces.contains(&held.block.meta.sequence);
            let gone = state.tiers.blocks.iter().filter(is_gone).cloned().collect();
            if new.is_none() {
                let (start, end) = (job.start, job.end);
                // As planning sees them: else it was due again, at once and for ever.
                let blocks = state.blocks.iter().filter(|block| !block.is_damaged());
                let blocks = blocks.filter(|block| block.overlaps(start + 1, end));
                let known = blocks.map(|block| block.meta.sequence).collect();
                state.tiers.empty.insert((job.tier, job.start), known);
            }
            state.tiers.replace(&job.replaces, new);
            gone
        };
        for held in gone {
            self.indexes.forget(held.block.meta.sequence);
            upkeep.unsettled.push(held.block.dir.clone());
        }
        self.settle(&mut upkeep)?;
        Ok(true)
    }

    /// Seals the blocks that are to be made again of what could not all be read; false when they are
    /// sealed already, or are all it is made of.
    fn seal_replaced(&self, job: &Job) -> Result<bool, DbError> {
        if job.source == Source::Tier(job.tier) {
            return Ok(false);
        }
        let tiers = self.state().tiers.clone();
        let replaced =
            tiers.of(job.tier).filter(|held| job.replaces.contains(&held.block.meta.sequence));
        let mut is_any = false;
        for held in replaced {
            let (start, end) = held.span();
            if !held.gone().has(start, end) {
                held.seal(&*self.disk, start, end)
                    .map_err(|source| DbError::Block { path: held.block.dir.clone(), source })?;
                is_any = true;
            }
        }
        Ok(is_any)
    }

    /// What is made of a block that is made anew is to be made anew, too.
    fn settle_tiers_above(&self, job: &Job) -> Result<(), DbError> {
        if job.source == Source::Tier(job.tier) {
            return Ok(());
        }
        let tiers = self.state().tiers.clone();
        let span = (job.start.saturating_add(1), job.end);
        tier::set_stale(&*self.disk, &tiers, Some(job.tier), span)
            .map_err(|(path, source)| DbError::Block { path, source })
    }

    fn set_stale(&self, held: &TierBlock) -> Result<(), DbError> {
        held.set_stale(&*self.disk)
            .map_err(|source| DbError::Block { path: held.block.dir.clone(), source })
    }

    /// To be called before samples from `first` to `last` become durable in a block.
    pub(super) fn set_tiers_stale(
        &self,
        first: TimestampMs,
        last: TimestampMs,
    ) -> Result<(), DbError> {
        let tiers = self.state().tiers.clone();
        tier::set_stale(&*self.disk, &tiers, None, (first, last))
            .map_err(|(path, source)| DbError::Block { path, source })
    }

    /// To be called before a block, of samples or of a tier, is removed for good.
    pub(super) fn seal_tiers(&self, block: &Block) -> Result<(), DbError> {
        let own = Tier::ALL
            .into_iter()
            .find(|tier| block.meta.tier.is_some_and(|meta| meta.window_ms == tier.window_ms()));
        let span = match own {
            None => (block.meta.first_t.saturating_sub(1), block.meta.last_t),
            Some(_) => (block.meta.start, block.meta.end),
        };
        self.seal(own, span)
    }

    /// The same where only what lies in `start < t ≤ end` goes, of samples or of a tier.
    pub(super) fn seal(
        &self,
        own: Option<Tier>,
        span: (TimestampMs, TimestampMs),
    ) -> Result<(), DbError> {
        let tiers = self.state().tiers.clone();
        tier::seal(&*self.disk, &tiers, own, span)
            .map_err(|(path, source)| DbError::Block { path, source })
    }

    /// Takes a block out of its tier; its directory stays.
    pub(super) fn forget_tier_block(&self, sequence: u64) {
        self.change_state().tiers.replace(&[sequence], None);
        self.indexes.forget(sequence);
    }

    /// Hides the windows that samples from `start` to `end` may lie in.
    pub(super) fn delete_from_tiers(
        &self,
        matchers: &[Matcher],
        (start, end): (TimestampMs, TimestampMs),
        done: &mut Deletion,
    ) -> Result<(), DbError> {
        let tiers = self.state().tiers.clone();
        if let Some(Unread { dir, .. }) = tiers.unread.first() {
            let source =
                io::Error::other("it cannot be read now, and may hold what is to be deleted");
            return Err(DbError::Block { path: dir.clone(), source });
        }
        for held in tiers.blocks.iter().filter(|held| held.overlaps(start, end)) {
            let block = &held.block;
            let error = |source| DbError::Block { path: block.dir.clone(), source };
            let index = match self.indexes.get(block) {
                Ok(index) => index,
                Err(BlockError::Malformed(malformed)) => {
                    self.found_damaged(block, malformed);
                    continue;
                }
                Err(BlockError::Io(source)) => return Err(error(source)),
            };
            // The end of the last window that the last of them may lie in.
            let last_end = end.saturating_add(held.tier.window_ms() - 1);
            let mut tombstones = block.tombstones.clone();
            let mut marked = BTreeSet::new();
            let mut query = BlockQuery::new(block, &index, start, last_end);
            let mut find = || -> Result<(), Malformed> {
                for number in query.find(matchers)? {
                    if query.series(number)?.is_some() && tombstones.add(number, start, last_end) {
                        marked.insert(number);
                    }
                }
                Ok(())
            };
            if let Err(malformed) = find() {
                self.found_damaged(block, malformed);
                continue;
            }
            if marked.is_empty() {
                continue;
            }
            // The rest of the windows at the ends comes back when it is made again.
            self.set_stale(held)?;
            if block.tombstones_state == TombstonesState::Lossy {
                // It is stale for those it lost, which is not known any more once they are written.
                held.keep_stale(&*self.disk).map_err(error)?;
            }
            let generation = block.tombstones_generation.saturating_add(1);
            let written =
                tombstones.write(&*self.disk, &block.dir, block.meta.sequence, generation);
            written.map_err(error)?;
            let opened = TierBlock::open(&*self.disk, held.tier, &block.dir);
            let opened = opened.map_err(|what| error(io::Error::other(what)))?;
            let sequence = block.meta.sequence;
            self.change_state().tiers.replace(&[sequence], Some(Arc::new(opened)));
            done.series += marked.len() as u64;
            done.blocks += 1;
        }
        Ok(())
    }

    /// Removes a block of a tier because of its age.
    pub(super) fn delete_tier_block(&self, held: &TierBlock) -> Result<(), DbError> {
        self.seal_tiers(&held.block)?;
        let removed = self.remove_dir(&held.block.dir);
        // As of samples: until it is gone it counts.
        if removed.is_ok() || !self.disk.exists(&held.block.dir).unwrap_or(true) {
            self.forget_tier_block(held.block.meta.sequence);
        }
        removed
    }

    /// Moves blocks of tiers that turned out to be damaged to `quarantine/`, and counts them; one that
    /// cannot be moved keeps no other where it is. The first error.
    pub(super) fn set_damaged_tiers_aside(&self, count: &mut u64) -> Result<(), DbError> {
        let tiers = self.state().tiers.clone();
        let mut all = Ok(());
        for held in tiers.blocks.iter().filter(|held| held.block.is_damaged()) {
            let aside = self.set_tier_block_aside(held);
            *count += u64::from(aside.is_ok());
            all = all.and(aside);
        }
        all
    }

    fn set_tier_block_aside(&self, held: &TierBlock) -> Result<(), DbError> {
        // What was made of it is not to be made again without it.
        self.seal_tiers(&held.block)?;
        let dir = &held.block.dir;
        let kept = super::set_block_aside(&*self.disk, &self.dir, dir)
            .map_err(|source| DbError::Remove { path: dir.clone(), source })?;
        let (first, last) = held.span();
        let is_missed = held.is_sealed_in(first, last);
        self.notes.set_aside(dir, held.block.cost(), kept, is_missed);
        self.forget_tier_block(held.block.meta.sequence);
        self.counters.blocks_quarantined.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// What a block of a tier is made of.
struct Sources {
    /// With the old one at the end.
    blocks: Vec<Arc<Block>>,
    old: Option<Old>,
    /// What is said of the blocks of all tiers in the span, by sequence number.
    marks: Vec<(u64, Marks)>,
}

impl Sources {
    /// Whether nothing came or went since another look. What is made of the blocks it replaces alone has
    /// all they have, whatever is said of them now.
    fn is_same(&self, before: &Self, job: &Job) -> bool {
        let is_same = |(a, b): (&Arc<Block>, &Arc<Block>)| Arc::ptr_eq(a, b);
        self.blocks.len() == before.blocks.len()
            && self.blocks.iter().zip(&before.blocks).all(is_same)
            && (job.source == Source::Tier(job.tier) || self.marks == before.marks)
    }

    /// What is to be said of the block made of it.
    fn marks_of_new(&self, job: &Job) -> Marks {
        let mut all = Marks::default();
        for (_, marks) in self.marks.iter().filter(|(own, _)| job.replaces.contains(own)) {
            all.gone.add_all(&marks.gone);
            all.is_stale |= marks.is_stale && job.source == Source::Tier(job.tier);
        }
        all.gone.bound();
        all
    }
}

impl Seen {
    pub(super) fn world<'a>(&'a self, db: &'a Db) -> World<'a> {
        World {
            samples: &self.samples,
            tiers: &self.tiers,
            options: &db.options,
            now_ms: self.now_ms,
            newest: self.newest,
        }
    }

    pub(super) fn newest(&self) -> TimestampMs {
        self.newest
    }

    pub(super) fn tiers(&self) -> &Tiers {
        &self.tiers
    }
}
