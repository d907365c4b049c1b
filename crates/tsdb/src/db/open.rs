//! Opening: what an earlier process left, made whole.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use stoa_wal::Disk;

use super::compact::Retries;
use super::maintain::Upkeep;
use super::past::Past;
use super::stats::Counters;
use super::{Db, State, Writer, blocks_dir, set_block_aside, whole};
use crate::block::{Block, BlockError, INDEX, IndexCache, Meta, TOMBSTONES, TombstonesState};
use crate::checkpoint::segment_of_name;
use crate::damage::{Cost, Damage, End, Notes};
use crate::follow::Followers;
use crate::head_file::HeadFiles;
use crate::log::{Log, LogError};
use crate::quarantine;
use crate::record::{self, KIND_MARKS};
use crate::recovery::{Covered, Replay};
use crate::retention::Waiting;
use crate::tier::{self, OpenedTiers, TierBlock, Tiers, Unopened, open_tiers};
use crate::{DbError, Options, Recovery, Tier};

impl Db {
    /// Opens the database in a directory, made if need be; one process at a time. Damage is set
    /// aside and reported, never an error. `now_ms` is what the clock says; [`Self::maintain`] tells
    /// it again.
    ///
    /// # Errors
    /// [`DbError::Open`], [`DbError::OpenLog`] when the disk does not let the directory be made,
    /// listed, or the log be begun. A full disk is no error: the database opens and takes nothing
    /// until there is room.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        now_ms: i64,
    ) -> Result<(Self, Recovery), DbError> {
        let open_error = |source| DbError::Open { path: dir.to_owned(), source };
        let log_dir = dir.join("wal");
        let mut recovery = Recovery::default();
        let names = list(&*disk, dir).map_err(open_error)?;
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            recovery.unfinished_removed += u64::from(remove(&*disk, &dir.join(name)));
        }
        // First: what comes after it can be done without, should there be too few file descriptors.
        let mut log = Log::open(Arc::clone(&disk), &log_dir).map_err(DbError::OpenLog)?;
        let mut found = Found::default();
        let blocks = open_blocks(&*disk, dir, &mut recovery, &mut found).map_err(open_error)?;
        let OpenedTiers { mut tiers, sequence: tier_sequence, damaged, replaced } =
            open_tiers(&*disk, dir, &mut recovery).map_err(open_error)?;
        found.damaged.extend(damaged);
        for dir in &replaced {
            remove_replaced(&*disk, dir, &mut recovery, &mut found.unsettled);
        }
        mend_tiers(&*disk, dir, &mut tiers, &mut recovery);
        let covered: Vec<Covered> =
            blocks.iter().flat_map(|block| block.meta.covered.iter().copied()).collect();
        let checkpoints = names.iter().filter_map(|name| segment_of_name(name));
        let segments = covered.iter().map(|covered| covered.log_before).chain(checkpoints);
        if let Some(segment) = segments.max()
            && skip_numbers(&*disk, &log_dir, &log, segment).map_err(open_error)?
        {
            log = Log::open(Arc::clone(&disk), &log_dir).map_err(DbError::OpenLog)?;
        }
        let mut replay = Replay::new(&disk, dir, &options, &covered, recovery);
        let from_segment = replay.checkpoint(&names);
        replay.log(&log_dir, from_segment);
        // Until the log ends where the blocks say they have all of it, none of them may go.
        let checkpoint_due = covered.iter().any(|covered| covered.log_before > from_segment);
        let named = replay.files_named();
        let mut files = HeadFiles::open(Arc::clone(&disk), dir).map_err(open_error)?;
        if replay.checkpoint_damaged {
            // What names them may only be unreadable today: the next start may still find them.
            files.spare_all_but(&replay.head.files());
        } else {
            // What cannot be removed is removed by the next start or checkpoint.
            drop(files.keep_only(&named));
        }
        let Replay { mut head, mut recovery, sequence, checkpoint_damaged, log_unread, .. } =
            replay;
        head.renew_floor();
        let whole_since = whole::of_mark(head.marks.get(whole::KEY))
            .unwrap_or_else(|| whole::of_blocks(&covered, options.block_ms(), now_ms));
        log.continue_after(sequence, recovery.damaged + recovery.torn > 0);
        if recovery.damaged > 0 {
            // From here on marks are believed again.
            for body in record::marks_bodies(head.marks.iter()) {
                match log.append_later(KIND_MARKS, &body) {
                    Ok(()) | Err(LogError::Full(_)) => {}
                    Err(LogError::Stopped(error) | LogError::TooLong(error)) => {
                        return Err(DbError::OpenLog(error));
                    }
                }
            }
        }
        let first_segment = log.segments().first().map_or(0, |(first, _)| *first);
        let followers = Followers::load(&head.marks, first_segment, from_segment, log.durable());
        // Also those of blocks that are there and could not be read.
        let unread = found.unread.iter().chain(found.damaged.iter().map(|one| &one.dir));
        let unread = unread.filter_map(|dir| Meta::sequence_of_name(&name_of(dir)));
        let sequences = blocks.iter().map(|block| block.meta.sequence).chain(unread);
        let sequence = sequences.max().unwrap_or(0).max(tier_sequence);
        let notes = Notes::of_start(&recovery.damage, End { now_ms, whole_since_ms: whole_since });
        let tiers_unread = tiers.unread.iter().map(|unread| &unread.dir);
        for dir in found.unread.iter().chain(tiers_unread) {
            notes.unread(dir, "the block cannot be read now");
        }
        let counters = Counters::default();
        counters.blocks_unread.store((found.unread.len() + tiers.unread.len()) as u64, Relaxed);
        counters.damaged_chunks(recovery.chunks_damaged);
        counters.blocks_quarantined.store(recovery.blocks_quarantined, Relaxed);
        counters.log_damaged.store(recovery.log_damaged, Relaxed);
        let db = Self {
            disk,
            compaction: Mutex::new(Retries::default()),
            clock_ms: AtomicI64::new(now_ms),
            interrupted: AtomicBool::new(false),
            tier_passes: AtomicU64::new(0),
            sequences: AtomicU64::new(sequence),
            whole_since: AtomicI64::new(whole_since),
            whole_since_due: AtomicBool::new(false),
            dir: dir.to_owned(),
            indexes: IndexCache::new(options.index_cache_bytes),
            options,
            maintenance: Mutex::new(Upkeep {
                // What was damaged is not to be met again by the next start.
                checkpoint_due: checkpoint_due || recovery.damaged > 0,
                checkpoint_failed_at: None,
                checkpoint_damaged,
                log_unread,
                checkpoint_segment: from_segment,
                unsettled: found.unsettled,
                unread: found.unread,
                cut_to: None,
                waiting: Waiting::default(),
            }),
            // One more than any group's: each is defined again with its first batch.
            files: Mutex::new(files),
            writer: Mutex::new(Writer { log, since: 1, body: Vec::new() }),
            state: RwLock::new(State { head, blocks: blocks.into(), tiers }),
            past: Past::default(),
            followers: Mutex::new(followers),
            counters,
            notes,
            unread_indexes: AtomicU64::new(0),
        };
        for Unopened { own, dir, cost } in found.damaged {
            if let Some(kept) = db.put_aside(own, &dir, cost) {
                recovery.set_aside(&dir, kept);
            }
        }
        Ok((db, recovery))
    }

    /// Opens the blocks that could not be read before, of samples and of tiers.
    pub(super) fn open_unread(&self, upkeep: &mut Upkeep) {
        for dir in std::mem::take(&mut upkeep.unread) {
            let is_settled = match Block::open(&*self.disk, &dir) {
                Ok(block) => self.adopt(Arc::new(block), upkeep),
                Err(BlockError::Malformed(malformed)) => {
                    self.set_found_aside(None, &dir, malformed.0, Cost::Block)
                }
                Err(BlockError::Io(_)) => false,
            };
            if !is_settled {
                upkeep.unread.push(dir);
            }
        }
        self.reopen_tiers(upkeep);
    }

    /// Sets a block aside that was found late; of what it was, and whether anything is lost with it, says
    /// `cost`. False when it stays where it is.
    pub(super) fn set_found_aside(
        &self,
        own: Option<Tier>,
        dir: &Path,
        what: &str,
        cost: Cost,
    ) -> bool {
        let kept = self.put_aside(own, dir, cost);
        let is_aside = kept.is_some();
        if is_aside {
            let damage = Damage::new(dir, what, cost).kept(kept);
            let end = End {
                now_ms: self.clock_ms.load(Relaxed),
                whole_since_ms: self.whole_since.load(Relaxed),
            };
            self.notes.found_damaged(damage, end);
        }
        is_aside
    }

    /// Sets a block aside that does not count, of a tier or of samples: where to. What it was the last to
    /// have is gone then, which is durable before. If that fails it stays, and is met again.
    fn put_aside(&self, own: Option<Tier>, dir: &Path, cost: Cost) -> Option<PathBuf> {
        if cost != Cost::Nothing {
            let tiers = self.state().tiers.clone();
            let span = tier::span_of(&*self.disk, dir);
            tier::seal(&*self.disk, &tiers, own, span.unwrap_or(tier::ALWAYS)).ok()?;
            // One that does not say has none newer than any, and none of a time that is yet to come.
            let newest = self.clock_ms.load(Relaxed).max(self.state().head.max_t());
            if own.is_none() && !self.lacks(span.map_or(newest, |(_, last_t)| last_t)) {
                return None;
            }
        }
        let kind = own.map_or("block".to_owned(), |tier| format!("tier-{}", tier.name()));
        let name = format!("{kind}-{}", name_of(dir));
        let kept = quarantine::set_aside(&*self.disk, &self.dir, dir, &name).ok()?;
        self.counters.blocks_quarantined.fetch_add(1, Relaxed);
        Some(kept)
    }

    /// Lets a block count that was found late, as the start would have, or sets it aside; false when
    /// its index cannot be read now.
    fn adopt(&self, block: Arc<Block>, upkeep: &mut Upkeep) -> bool {
        let blocks = Arc::clone(&self.state().blocks);
        let sequence = block.meta.sequence;
        if blocks.iter().any(|known| known.meta.sequence == sequence) {
            let what = "a copy of another block";
            return self.set_found_aside(None, &block.dir, what, Cost::Nothing);
        }
        if blocks.iter().any(|known| known.meta.parents.contains(&sequence)) {
            self.notes.found(&block.dir);
            upkeep.unsettled.push(block.dir.clone());
            return true;
        }
        let is_parent = |known: &&Arc<Block>| block.meta.parents.contains(&known.meta.sequence);
        let parents: Vec<Arc<Block>> = blocks.iter().filter(is_parent).cloned().collect();
        if !parents.is_empty() {
            match block.check_index() {
                Ok(()) => {}
                Err(BlockError::Malformed(malformed)) => {
                    // They still have everything, if all are there.
                    let is_all = parents.len() == block.meta.parents.len();
                    let cost = if is_all { Cost::Nothing } else { block.cost() };
                    return self.set_found_aside(None, &block.dir, malformed.0, cost);
                }
                Err(BlockError::Io(_)) => return false,
            }
        }
        let dir = block.dir.clone();
        let is_in = self.replace_blocks(&parents, Some(block));
        if is_in {
            self.notes.found(&dir);
            for parent in parents {
                self.indexes.forget(parent.meta.sequence);
                upkeep.unsettled.push(parent.dir.clone());
            }
        }
        is_in
    }
}

/// What was found of blocks that do not count.
#[derive(Debug, Default)]
struct Found {
    /// Directories that are to be gone before another block is written.
    unsettled: Vec<PathBuf>,
    /// Directories of blocks that could not be read.
    unread: Vec<PathBuf>,
    /// To be set aside.
    damaged: Vec<Unopened>,
}

/// The names in a directory; none when it is not there.
fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    if disk.exists(dir)? { disk.list(dir) } else { Ok(Vec::new()) }
}

fn remove(disk: &dyn Disk, path: &Path) -> bool {
    disk.remove_dir_all(path).or_else(|_not_a_directory| disk.remove_file(path)).is_ok()
}

/// Opens all blocks, in the order they were written; what is no block is to be set aside, what cannot be
/// read today is not.
fn open_blocks(
    disk: &dyn Disk,
    dir: &Path,
    recovery: &mut Recovery,
    found: &mut Found,
) -> io::Result<Vec<Arc<Block>>> {
    let blocks_dir = blocks_dir(dir);
    let mut blocks = Vec::new();
    for name in list(disk, &blocks_dir)? {
        let path = blocks_dir.join(&name);
        if name.ends_with(".tmp") {
            recovery.unfinished_removed += u64::from(remove(disk, &path));
            continue;
        }
        match Block::open(disk, &path) {
            Ok(block) => {
                // Mended by the first maintenance.
                if block.mendable().is_any() {
                    let what = "meta, index or spare is damaged; another file has all";
                    recovery.damage(Damage::new(&path, what, Cost::Nothing));
                }
                blocks.push(Arc::new(block));
            }
            Err(BlockError::Io(error)) => {
                recovery.unread.push(format!("{}: {error}", path.display()));
                found.unread.push(path);
            }
            Err(BlockError::Malformed(malformed)) => {
                let what = format!("the block does not open: {}", malformed.0);
                recovery.damage(Damage::new(&path, what, Cost::Block));
                found.damaged.push(Unopened { own: None, dir: path, cost: Cost::Block });
            }
        }
    }
    let blocks = without_copies(disk, dir, blocks, recovery);
    let mut blocks = without_parents(disk, dir, blocks, recovery, &mut found.unsettled);
    blocks.sort_by_key(|block| (block.meta.rank, block.meta.sequence));
    for block in &mut blocks {
        if block.tombstones_state != TombstonesState::Whole {
            mend_tombstones(disk, dir, block, recovery);
        }
    }
    recovery.blocks = blocks.len() as u64;
    Ok(blocks)
}

/// The same of the blocks of tiers. One that lost some is made again, which is known before that is not
/// any more.
fn mend_tiers(disk: &dyn Disk, dir: &Path, tiers: &mut Tiers, recovery: &mut Recovery) {
    let all = Arc::clone(&tiers.blocks);
    let damaged = |held: &&Arc<TierBlock>| held.block.tombstones_state != TombstonesState::Whole;
    for held in all.iter().filter(damaged) {
        let is_lossy = held.block.tombstones_state == TombstonesState::Lossy;
        if is_lossy && held.keep_stale(disk).is_err() {
            continue;
        }
        let mut block = Arc::clone(&held.block);
        mend_tombstones(disk, dir, &mut block, recovery);
        if let Ok(mended) = TierBlock::open(disk, held.tier, &block.dir) {
            tiers.replace(&[block.meta.sequence], Some(Arc::new(mended)));
        }
    }
}

/// Keeps damaged files of tombstones aside and writes both anew.
fn mend_tombstones(disk: &dyn Disk, dir: &Path, block: &mut Arc<Block>, recovery: &mut Recovery) {
    let name = name_of(&block.dir);
    let (what, cost) = match block.tombstones_state {
        TombstonesState::Lossy => ("both copies of the tombstones are damaged", Cost::Deletions),
        TombstonesState::Whole | TombstonesState::Mendable => {
            ("one copy of the tombstones is damaged or missing", Cost::Nothing)
        }
    };
    let mut kept = None;
    for file in TOMBSTONES {
        let (path, name) = (block.dir.join(file), format!("block-{name}-{file}"));
        if disk.exists(&path).unwrap_or(false)
            && let Ok(to) = quarantine::keep_file(disk, dir, &path, &name)
        {
            recovery.quarantined.extend(kept.replace(to));
        }
    }
    let [file, _] = TOMBSTONES;
    recovery.damage(Damage::new(block.dir.join(file), what, cost).kept(kept));
    let generation = block.tombstones_generation.saturating_add(1);
    let (sequence, tombstones) = (block.meta.sequence, &block.tombstones);
    // Where this fails the next start meets the same.
    if tombstones.write(disk, &block.dir, sequence, generation).is_ok()
        && let Ok(mended) = Block::open(disk, &block.dir)
    {
        *block = Arc::new(mended);
    }
}

fn name_of(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Leaves out blocks that were copied by hand, under another name than they were written, and sets
/// them aside: they hold nothing that the one they were copied from does not, and would bring back
/// what is deleted of that later.
fn without_copies(
    disk: &dyn Disk,
    dir: &Path,
    mut blocks: Vec<Arc<Block>>,
    recovery: &mut Recovery,
) -> Vec<Arc<Block>> {
    let is_named =
        |block: &Block| Meta::sequence_of_name(&name_of(&block.dir)) == Some(block.meta.sequence);
    blocks.sort_by_key(|block| (block.meta.sequence, !is_named(block)));
    let mut kept: Vec<Arc<Block>> = Vec::with_capacity(blocks.len());
    for block in blocks {
        if kept.last().is_none_or(|last| last.meta.sequence != block.meta.sequence) {
            kept.push(block);
            continue;
        }
        let to = set_block_aside(disk, dir, &block.dir).ok();
        let damage = Damage::new(&block.dir, "a copy of another block", Cost::Nothing);
        recovery.block_damage(damage.kept(to));
    }
    kept
}

/// Removes a block that another stands for. One that cannot be removed is put with `unsettled`.
fn remove_replaced(
    disk: &dyn Disk,
    block: &Path,
    recovery: &mut Recovery,
    unsettled: &mut Vec<PathBuf>,
) {
    let gone = block.with_extension("tmp");
    let renamed = disk.rename(block, &gone).and_then(|()| {
        disk.sync_dir(block.parent().unwrap_or(block)).inspect_err(|_not_durable| {
            // To be renamed again: a second sync alone would make nothing durable.
            drop(disk.rename(&gone, block));
        })
    });
    match renamed {
        // What is left of it is met again by the next start.
        Ok(()) => recovery.unfinished_removed += u64::from(disk.remove_dir_all(&gone).is_ok()),
        Err(_not_gone) => unsettled.push(block.to_owned()),
    }
}

/// Leaves out the blocks that were merged into another one that is there, and removes them: a crash
/// came between. Those that cannot be removed are put with `unsettled`. Where the merged block does not
/// hold what it promises its parents count, if all are there; where that cannot be known now, both do,
/// and nothing is removed.
fn without_parents(
    disk: &dyn Disk,
    dir: &Path,
    mut blocks: Vec<Arc<Block>>,
    recovery: &mut Recovery,
    unsettled: &mut Vec<PathBuf>,
) -> Vec<Arc<Block>> {
    // From the newest on: what is merged again is a parent itself.
    blocks.sort_by_key(|block| std::cmp::Reverse(block.meta.sequence));
    let mut replaced = BTreeSet::new();
    let mut kept = Vec::new();
    let there: BTreeSet<u64> = blocks.iter().map(|block| block.meta.sequence).collect();
    for block in blocks {
        if replaced.contains(&block.meta.sequence) {
            remove_replaced(disk, &block.dir, recovery, unsettled);
            continue;
        }
        let parents = &block.meta.parents;
        if parents.iter().any(|parent| there.contains(parent))
            && let Err(error) = block.check_index()
        {
            let is_damaged = matches!(error, BlockError::Malformed(_));
            let index = block.dir.join(INDEX);
            if is_damaged && parents.iter().all(|parent| there.contains(parent)) {
                // They still have everything.
                let to = set_block_aside(disk, dir, &block.dir).ok();
                recovery.block_damage(Damage::new(index, error.text(), Cost::Nothing).kept(to));
            } else {
                recovery.damage(Damage::new(index, error.text(), block.cost()));
                kept.push(block);
            }
            continue;
        }
        replaced.extend(block.meta.parents.iter().copied());
        kept.push(block);
    }
    kept
}

/// Makes sure that a log goes on with numbers after `segment` when it is opened again; false when it
/// does so already. If its files were taken away it began at 1 again, and what it then holds would be
/// mistaken for what blocks and checkpoint already have.
fn skip_numbers(disk: &dyn Disk, log_dir: &Path, log: &Log, segment: u64) -> io::Result<bool> {
    let name_of = |segment: u64| format!("{segment:016x}.wal");
    let name = name_of(segment);
    let names = list(disk, log_dir).unwrap_or_default();
    if names.iter().any(|there| *there > name) {
        return Ok(false);
    }
    // The one it has begun, with nothing in it: those between would be missing. Where the disk had no
    // room for that the last one is of before.
    let begun = log.segments().last().map(|(begun, _)| *begun).filter(|_| !log.is_full());
    if let Some(begun) = begun.filter(|begun| *begun < segment) {
        // Where this fails the log cannot be opened again either, and says why.
        drop(disk.remove_file(&log_dir.join(name_of(begun))));
    }
    if !names.contains(&name) {
        disk.create_dir_all(log_dir)?;
        disk.create(&log_dir.join(name))?;
    }
    Ok(true)
}
