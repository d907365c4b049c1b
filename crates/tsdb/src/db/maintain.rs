//! What has to be done from time to time: blocks cut, the head written down, old things deleted,
//! damaged ones set aside.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::TimestampMs;
use stoa_wal::disk::create_dir_durable;

use super::tiers::Seen;
use super::{Db, blocks_dir, set_block_aside};
use crate::block::{self, Block, Plan};
use crate::checkpoint::{self, GroupSnapshot, Snapshot, segment_of_name};
use crate::damage::{Cost, Damage};
use crate::head::Window;
use crate::head_file::head_dir;
use crate::quarantine::{self, set_aside};
use crate::recovery::Covered;
use crate::retention::{Candidate, Room, Waiting};
use crate::tier::Source;
use crate::{DbError, GroupId, Tier};

/// What one maintenance did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Blocks written.
    pub blocks_written: u64,
    /// Blocks deleted because of age or size.
    pub blocks_deleted: u64,
    /// These blocks.
    pub deleted: Vec<Deleted>,
    /// Blocks set aside because of damage.
    pub blocks_quarantined: u64,
    /// Series removed from the head because all they had is in blocks.
    pub series_removed: u64,
    /// Whether the head was written down and the log before it removed.
    pub checkpointed: bool,
}

/// A block that was deleted because of age or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Of which tier; `None` for one of samples.
    pub tier: Option<Tier>,
    /// Its first sample, ms.
    pub first_t: TimestampMs,
    /// Its last sample, ms.
    pub last_t: TimestampMs,
    /// Its samples, or aggregates.
    pub samples: u64,
    /// Bytes it took on disk.
    pub bytes: u64,
}

impl Deleted {
    fn new(block: &Block, tier: Option<Tier>) -> Self {
        let (bytes, meta) = (block.bytes(), &block.meta);
        let (first_t, last_t, samples) = (meta.first_t, meta.last_t, meta.samples);
        Self { tier, first_t, last_t, samples, bytes }
    }
}

/// What maintenance remembers from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// The boundary up to which blocks were cut last: each is cut once, so that late samples that
    /// trickle in make one block and not one per call.
    pub(super) cut_to: Option<TimestampMs>,
    /// The head has changed by more than appends since it was written down.
    pub(super) checkpoint_due: bool,
    /// When the last checkpoint failed, if it did: the next waits for a while.
    pub(super) checkpoint_failed_at: Option<TimestampMs>,
    /// Something of the last checkpoint could not be read: it is set aside by the next one.
    pub(super) checkpoint_damaged: bool,
    /// Segments of the log of which the start could read nothing: set aside by the next checkpoint,
    /// as they may only be unreadable today.
    pub(super) log_unread: BTreeSet<u64>,
    /// The segment of the log from which the last checkpoint that is durable goes on.
    pub(super) checkpoint_segment: u64,
    /// Directories of blocks that do not count and must be gone before another is written.
    pub(super) unsettled: Vec<PathBuf>,
    /// Directories of blocks that could not be read when they were to be opened.
    pub(super) unread: Vec<PathBuf>,
    /// Blocks that are to go and wait to be rolled up.
    pub(super) waiting: Waiting,
}

impl Db {
    /// Does what is due; call it every minute or so: chunks that were sealed stay in memory until
    /// then. Appends wait while what is left of a span is sealed and series are counted out, not while
    /// blocks, checkpoints and chunks are written; queries never wait for the disk.
    ///
    /// # Errors
    /// The first [`DbError`]; the other tasks are done all the same. Nothing is lost by any of them
    /// but [`DbError::Stopped`], and what was not done is done by a later call.
    pub fn maintain(&self, now_ms: TimestampMs) -> Result<Maintenance, DbError> {
        self.clock_ms.store(now_ms, Relaxed);
        let mut upkeep = self.upkeep();
        let mut done = Maintenance::default();
        self.open_unread(&mut upkeep);
        // First what makes room.
        let settled = self.settle(&mut upkeep);
        let retained = self.retain(now_ms, &mut upkeep, &mut done);
        self.mend_blocks(&mut upkeep);
        let set_aside = self.set_damaged_aside(&mut done);
        let cut = settled.and_then(|()| self.cut_blocks(now_ms, &mut upkeep, &mut done));
        let saved = self
            .save_windows()
            .map_err(|source| DbError::HeadFile { path: head_dir(&self.dir), source });
        let checkpointed = self.checkpoint_if_due(&mut upkeep, &mut done);
        self.keep_whole_since_if_due();
        self.bound_quarantine();
        let bounded = self.bound_followers(now_ms, upkeep.checkpoint_segment);
        retained.and(set_aside).and(cut).and(saved).and(checkpointed).and(bounded).map(|()| done)
    }

    /// What cannot be looked at or removed there is by a later call.
    fn bound_quarantine(&self) {
        let bytes_max = self.options.quarantine_bytes_max;
        if let Ok(figures) = quarantine::bound(&*self.disk, &self.dir, bytes_max) {
            self.counters.quarantine_bytes.store(figures.bytes, Relaxed);
            self.counters.quarantine_entries.store(figures.entries, Relaxed);
            self.counters.quarantine_removed.fetch_add(figures.removed, Relaxed);
        }
    }

    /// Writes a block for each span that is over and has samples in the head.
    fn cut_blocks(
        &self,
        now_ms: TimestampMs,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), DbError> {
        let boundary = self.options.block_start(now_ms.saturating_sub(self.options.grace_ms));
        let is_due = self.state().head.first_t().is_some_and(|first| first < boundary);
        if upkeep.cut_to == Some(boundary) || !is_due {
            return Ok(());
        }
        done.blocks_written += self.cut(now_ms, boundary, |_| true, upkeep)?;
        upkeep.cut_to = Some(boundary);
        Ok(())
    }

    /// Writes a block for each span that begins before a boundary, has samples in the head, and is
    /// wanted; says how many.
    pub(super) fn cut(
        &self,
        now_ms: TimestampMs,
        boundary: TimestampMs,
        is_wanted: impl Fn(TimestampMs) -> bool,
        upkeep: &mut Upkeep,
    ) -> Result<u64, DbError> {
        let mut written = 0;
        let (log_before, serial, groups, starts) = {
            let mut writer = self.writer();
            let segment = writer.log.cut()?;
            let mut state = self.change_state();
            let in_wanted = |t| is_wanted(self.options.block_start(t));
            let serial = state.head.seal_before(boundary, in_wanted);
            let windows = state.head.windows().filter(|window| window.last_t() < boundary);
            let starts: BTreeSet<TimestampMs> = windows
                .map(|window| self.options.block_start(window.first_t()))
                .filter(|start| is_wanted(*start))
                .collect();
            (segment, serial, state.head.group_ids(), starts)
        };
        for start in starts {
            let in_span = |t: TimestampMs| self.options.block_start(t) == start;
            let (sequence, end) =
                (self.next_sequence(), start.saturating_add(self.options.block_ms()));
            let plan = Plan {
                now_ms,
                level: block::LEVEL_HEAD,
                sequence,
                rank: sequence,
                start,
                end,
                covered: vec![Covered { start, end, log_before }],
                parents: Vec::new(),
            };
            // What is sealed in this span from here on came after the segment began.
            let is_in_block = |window: &Window| {
                window.serial <= serial && window.last_t() < boundary && in_span(window.first_t())
            };
            let snapshot = |id| self.state().head.snapshot(id, is_in_block);
            let block = self.write_block(&plan, &groups, snapshot, upkeep)?;
            let mut state = self.change_state();
            if let Some(block) = block {
                written += 1;
                let mut blocks = state.blocks.to_vec();
                blocks.push(Arc::new(block));
                state.blocks = blocks.into();
            }
            state.head.drop_sealed(is_in_block);
            upkeep.checkpoint_due = true;
        }
        Ok(written)
    }

    fn write_block(
        &self,
        plan: &Plan,
        groups: &[GroupId],
        snapshot: impl Fn(GroupId) -> Option<GroupSnapshot>,
        upkeep: &mut Upkeep,
    ) -> Result<Option<Block>, DbError> {
        let dir = blocks_dir(&self.dir);
        let error = |source| DbError::Block { path: dir.clone(), source };
        self.set_tiers_stale(plan.start, plan.end.saturating_sub(1))?;
        create_dir_durable(&*self.disk, &dir).map_err(error)?;
        let written = block::write(&*self.disk, &dir, plan, groups, snapshot);
        if written.is_err() {
            // The head still has the samples.
            self.discard(upkeep, &dir, plan);
        }
        match written {
            Ok(written) => {
                self.counters.damaged_chunks(written.damaged);
                if written.damaged > 0 {
                    let times = Some((plan.start, plan.end.saturating_sub(1)));
                    let what = "chunks could not be read when their block was written";
                    let cost = Cost::Chunks { chunks: written.damaged, times };
                    self.notes.tell(Damage::new(head_dir(&self.dir), what, cost));
                }
                self.files().spare(written.files_unread);
                Ok(written.block)
            }
            Err(block::BlockError::Io(source)) => Err(error(source)),
            Err(malformed) => Err(error(io::Error::other(malformed))),
        }
    }

    /// Writes a block of samples that are neither in head nor log, and shows it to queries.
    pub(super) fn add_block(
        &self,
        plan: &Plan,
        group: &GroupSnapshot,
        upkeep: &mut Upkeep,
    ) -> Result<Option<Arc<Block>>, DbError> {
        let written = self.write_block(plan, &[group.id], |_| Some(group.clone()), upkeep)?;
        let Some(block) = written.map(Arc::new) else { return Ok(None) };
        let mut state = self.change_state();
        state.blocks = state.blocks.iter().chain([&block]).cloned().collect();
        Ok(Some(block))
    }

    /// A number no block has had while one of its parents or children was there.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequences.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn checkpoint_if_due(
        &self,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), DbError> {
        let now_ms = self.clock_ms.load(Relaxed);
        let pause_ms = self.options.block_ms() / 12;
        let waited_ms = upkeep.checkpoint_failed_at.map(|at| now_ms.saturating_sub(at));
        if waited_ms.is_some_and(|waited_ms| (0..pause_ms).contains(&waited_ms)) {
            return Ok(());
        }
        let log_bytes = self.writer().log.bytes_from(upkeep.checkpoint_segment);
        if upkeep.checkpoint_due || log_bytes.is_some_and(|n| n > self.options.log_bytes_max) {
            let since = self.writer().since;
            let written = self.checkpoint(upkeep, done);
            // Each that comes to nothing costs the log a segment, and all definitions once more.
            let is_spent = written.is_err() && self.writer().since != since;
            upkeep.checkpoint_failed_at = is_spent.then_some(now_ms);
            written?;
            upkeep.checkpoint_due = false;
            done.checkpointed = true;
        }
        Ok(())
    }

    /// Writes the head down and removes the log before.
    fn checkpoint(&self, upkeep: &mut Upkeep, done: &mut Maintenance) -> Result<(), DbError> {
        let (snapshot, groups) = {
            let mut writer = self.writer();
            let segment = writer.log.cut()?;
            // What is appended from here on defines its series anew.
            writer.since += 1;
            self.followers_mut().defined_from(segment);
            let mut state = self.state_mut();
            done.series_removed = state.head.collect_garbage();
            let snapshot = Snapshot {
                segment,
                sequence: writer.log.sequence(),
                next_ref: state.head.next_ref(),
                max_t: state.head.max_t(),
                marks: state.head.marks.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            };
            (snapshot, state.head.group_ids())
        };
        self.counters.series_removed.fetch_add(done.series_removed, Relaxed);
        let mut named = BTreeSet::new();
        let images = groups.into_iter().filter_map(|id| {
            let image = self.state().head.image(id)?;
            let files = image.windows.iter().filter_map(|(window, _)| window.place().file());
            named.extend(files);
            Some(image)
        });
        let lengths = || self.files().end_all();
        checkpoint::write(&self.disk, &self.dir, &snapshot, images, lengths)?;
        upkeep.checkpoint_segment = snapshot.segment;
        let names = self.disk.list(&self.dir).map_err(|error| remove_error(&self.dir, error))?;
        for name in names {
            if segment_of_name(&name).is_none_or(|segment| segment >= snapshot.segment) {
                continue;
            }
            let path = self.dir.join(&name);
            if upkeep.checkpoint_damaged {
                set_aside(&*self.disk, &self.dir, &path, &name)
                    .map_err(|error| remove_error(&path, error))?;
            } else {
                self.remove_dir(&path)?;
            }
        }
        upkeep.checkpoint_damaged = false;
        self.set_log_aside(upkeep)?;
        self.remove_log(snapshot.segment)?;
        let mut files = self.files();
        named.extend(self.state().head.files());
        files.end();
        files.keep_only(&named).map_err(|error| remove_error(&head_dir(&self.dir), error))
    }

    fn set_log_aside(&self, upkeep: &mut Upkeep) -> Result<(), DbError> {
        while let Some(segment) = upkeep.log_unread.first().copied() {
            let path = self.dir.join("wal").join(format!("{segment:016x}.wal"));
            match set_aside(&*self.disk, &self.dir, &path, &format!("log-{segment:016x}")) {
                Ok(kept) => {
                    let what = "the start could read nothing of it";
                    let damage = Damage::new(&path, what, Cost::Records { after: None });
                    self.notes.tell(damage.kept(Some(kept)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(remove_error(&path, error)),
            }
            upkeep.log_unread.remove(&segment);
        }
        Ok(())
    }

    /// Deletes blocks by age and by size. One that says which part of the log it has goes once a
    /// checkpoint is past that part: the log would bring its samples back.
    fn retain(
        &self,
        now_ms: TimestampMs,
        upkeep: &mut Upkeep,
        done: &mut Maintenance,
    ) -> Result<(), DbError> {
        let head_bytes = self.files().bytes();
        // What is kept of the log for followers only is bounded by itself, and costs no history.
        let log_bytes = self.writer().log.bytes_from(upkeep.checkpoint_segment).unwrap_or(0);
        let log_bytes = log_bytes + head_bytes;
        let seen = self.seen(now_ms);
        let blocks = Arc::clone(&self.state().blocks);
        let room = Room {
            bytes_max: self.options.retention_bytes,
            other_bytes: log_bytes,
            is_short: self
                .disk
                .free_bytes(&self.dir)
                .is_ok_and(|free| free < self.options.free_bytes_min),
        };
        let candidates = self.candidates(&seen, &blocks);
        let passes = self.tier_passes.load(Relaxed);
        let expired = upkeep.waiting.expired(&candidates, seen.newest(), passes, room);
        let find = |block: &Block| expired.iter().find(|one| one.sequence == block.meta.sequence);
        for held in seen.tiers().blocks.iter() {
            if let Some(one) = find(&held.block) {
                self.delete_tier_block(held)?;
                self.note_deleted(&held.block, Some(held.tier), one.is_rolled_up, done);
            }
        }
        let expired = blocks
            .iter()
            .filter_map(|block| find(block).map(|one| (Arc::clone(block), one.is_rolled_up)));
        let (needed, free): (Vec<_>, Vec<_>) = expired.partition(|(block, _)| {
            let covered = &block.meta.covered;
            covered.iter().any(|covered| covered.log_before > upkeep.checkpoint_segment)
        });
        self.delete_blocks(&free, done)?;
        if !needed.is_empty() {
            upkeep.checkpoint_due = true;
            self.checkpoint_if_due(upkeep, done)?;
            if !upkeep.checkpoint_due {
                self.delete_blocks(&needed, done)?;
            }
        }
        Ok(())
    }

    /// The newest sample. Neither a clock that is ahead nor an agent that is can age what is there by
    /// itself.
    pub(super) fn newest(&self, now_ms: TimestampMs) -> TimestampMs {
        let state = self.state();
        let newest_block = state.blocks.iter().map(|block| block.meta.last_t).max();
        let max_t = state.head.max_t();
        now_ms.min(newest_block.map_or(max_t, |t| t.max(max_t)))
    }

    /// What is asked of all blocks to tell which have had their time. Of samples the newest stays.
    fn candidates(&self, seen: &Seen, blocks: &[Arc<Block>]) -> Vec<Candidate> {
        let kept = |tier: Tier| tier.retention_ms(&self.options);
        let newest = blocks.iter().max_by_key(|block| (block.meta.last_t, block.meta.sequence));
        let is_newest =
            |block: &Block| newest.is_some_and(|one| one.meta.sequence == block.meta.sequence);
        let above = |own: Option<Tier>| {
            let is_above = |tier: &Tier| own.is_none_or(|own| *tier > own) && kept(*tier).is_some();
            Tier::ALL.into_iter().find(is_above).map_or(Source::Samples, Source::Tier)
        };
        let of_tiers = seen.tiers().blocks.iter();
        let all = blocks.iter().map(|block| (block, None));
        let all = all.chain(of_tiers.clone().map(|held| (&held.block, Some(held.tier))));
        // What came late and is not cut yet is in no tier.
        let head_from = self.state().head.first_t();
        let not_rolled_up: BTreeSet<u64> = all
            .filter(|(block, own)| {
                let above = above(*own);
                let is_cut =
                    above == Source::Samples || head_from.is_none_or(|t| block.meta.last_t < t);
                !(is_cut && self.is_kept_in(seen, above, block))
            })
            .map(|(block, _)| block.meta.sequence)
            .collect();
        let is_rolled_up = |block: &Block| !not_rolled_up.contains(&block.meta.sequence);
        let candidate = |block: &Block, last_t, kept_ms| {
            let (sequence, bytes) = (block.meta.sequence, block.bytes());
            let (stays, is_wanted) = (is_newest(block), false);
            let is_rolled_up = is_rolled_up(block);
            Candidate { last_t, sequence, bytes, kept_ms, is_rolled_up, stays, is_wanted }
        };
        let samples = blocks
            .iter()
            .map(|block| candidate(block, block.meta.last_t, self.options.retention_ms));
        let tiers = of_tiers.clone().map(|held| {
            // Of a tier that is not to be any more what there is goes with the samples.
            let kept_ms = kept(held.tier).unwrap_or(self.options.retention_ms);
            // Before what it is made of it does not go: it would be made again.
            let (start, end) = held.span();
            let finer = of_tiers.clone().filter(|other| other.tier < held.tier);
            let sources = blocks.iter().chain(finer.map(|other| &other.block));
            let sources: Vec<_> =
                sources.filter(|block| block.overlaps(start.saturating_add(1), end)).collect();
            let last_t = sources.iter().map(|block| block.meta.last_t);
            let last_t = last_t.fold(held.block.meta.last_t, TimestampMs::max);
            Candidate {
                stays: sources.iter().any(|block| is_newest(block)),
                is_wanted: !sources.iter().all(|block| is_rolled_up(block)),
                ..candidate(&held.block, last_t, kept_ms)
            }
        });
        samples.chain(tiers).collect()
    }

    /// Deletes blocks of samples; of each, whether it is rolled up.
    fn delete_blocks(
        &self,
        blocks: &[(Arc<Block>, bool)],
        done: &mut Maintenance,
    ) -> Result<(), DbError> {
        if let Some(last_t) = blocks.iter().map(|(block, _)| block.meta.last_t).max() {
            self.lacks(last_t);
        }
        for (block, is_rolled_up) in blocks {
            self.seal_tiers(block)?;
            let removed = self.remove_dir(&block.dir);
            // Until it is gone it counts, and a deletion does not pass it over. Queries that read it
            // have its files open.
            if removed.is_ok() || !self.disk.exists(&block.dir).unwrap_or(true) {
                self.forget_block(block);
                self.note_deleted(block, None, *is_rolled_up, done);
            }
            removed?;
        }
        Ok(())
    }

    fn note_deleted(
        &self,
        block: &Block,
        tier: Option<Tier>,
        is_rolled_up: bool,
        done: &mut Maintenance,
    ) {
        self.counters.blocks_not_rolled_up.fetch_add(u64::from(!is_rolled_up), Relaxed);
        done.blocks_deleted += 1;
        done.deleted.push(Deleted::new(block, tier));
    }

    /// Moves blocks that turned out to be damaged to `quarantine/`; one that cannot be moved keeps no other
    /// where it is. The first error.
    pub(super) fn set_damaged_aside(&self, done: &mut Maintenance) -> Result<(), DbError> {
        let blocks = Arc::clone(&self.state().blocks);
        let mut all = self.set_damaged_tiers_aside(&mut done.blocks_quarantined);
        for block in blocks.iter().filter(|block| block.is_damaged()) {
            all = all.and(self.set_damaged_block_aside(block, done));
        }
        all
    }

    fn set_damaged_block_aside(
        &self,
        block: &Block,
        done: &mut Maintenance,
    ) -> Result<(), DbError> {
        self.seal_tiers(block)?;
        if !self.lacks(block.meta.last_t) {
            // It stays where it is until that can be written down.
            return Ok(());
        }
        let kept = set_block_aside(&*self.disk, &self.dir, &block.dir)
            .map_err(|error| remove_error(&block.dir, error))?;
        self.notes.set_aside(&block.dir, block.cost(), kept, true);
        self.forget_block(block);
        self.counters.blocks_quarantined.fetch_add(1, Relaxed);
        done.blocks_quarantined += 1;
        Ok(())
    }

    fn forget_block(&self, block: &Block) {
        let sequence = block.meta.sequence;
        let mut state = self.change_state();
        let kept = state.blocks.iter().filter(|kept| kept.meta.sequence != sequence);
        state.blocks = kept.cloned().collect();
        drop(state);
        self.indexes.forget(sequence);
    }

    /// Removes a directory: a crash leaves all of it, or a name that the next start finishes. After
    /// an error it is there whole, or gone for good but for that name.
    pub(super) fn remove_dir(&self, dir: &Path) -> Result<(), DbError> {
        let gone = dir.with_extension("tmp");
        let remove = || {
            if gone == dir {
                return self.disk.remove_dir_all(dir);
            }
            if self.disk.exists(&gone)? {
                self.disk.remove_dir_all(&gone)?;
            }
            self.disk.rename(dir, &gone)?;
            if let Err(error) = self.disk.sync_dir(dir.parent().unwrap_or(dir)) {
                // To be renamed again: a second sync alone would make nothing durable.
                drop(self.disk.rename(&gone, dir));
                return Err(error);
            }
            self.disk.remove_dir_all(&gone)
        };
        remove().map_err(|error| remove_error(dir, error))
    }
}

pub(super) fn remove_error(path: &Path, source: io::Error) -> DbError {
    DbError::Remove { path: path.to_owned(), source }
}
