//! Looking at every byte of a database that nobody has open, and setting aside what is damaged.
//!
//! Looking changes nothing. Repairing is what the start does, and more: blocks with damaged chunks are
//! written anew without them. Whatever is taken out is kept under `quarantine/`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_wal::{Disk, DiskFile, DiskRead, Entry, Reader};

use crate::block::{Block, BlockError, BlockFault, Loss, META, check};
use crate::checkpoint::{checkpoint_dir, segment_of_name};
use crate::damage::{Cost, Damage};
use crate::head_file::{self, HEADER_BYTES};
use crate::recovery::{Covered, Recovery, Replay};
use crate::tier::TierBlock;
use crate::{Db, DbError, Options, Tier};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Blocks read, damaged ones included.
    pub blocks: u64,
    /// Chunks of blocks read.
    pub chunks: u64,
    /// Samples of blocks, by their indexes.
    pub samples: u64,
    /// Samples of the head: those that checkpoint and log have and no block.
    pub head_samples: u64,
    /// Records of checkpoint and log read.
    pub records: u64,
    /// Places where a crash cut off what was not durable: no damage, nothing of it was promised.
    pub torn: u64,
    /// Files and directories an unfinished write left; removed by the next start.
    pub unfinished: u64,
    /// What is not as it was written.
    pub damage: Vec<Damage>,
    /// Damaged places of checkpoint, log and head beyond those in the list.
    pub unlisted: u64,
}

/// Blocks to be repaired, by sequence number.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// To be set aside.
    pub(crate) lost: BTreeSet<u64>,
    /// To be written anew without what is damaged.
    pub(crate) partly: BTreeSet<u64>,
    /// With files to be made again of others.
    pub(crate) mendable: BTreeSet<u64>,
}

impl Repairs {
    fn take(&mut self, sequence: u64, loss: Loss) {
        let names = match loss {
            Loss::All => &mut self.lost,
            Loss::Mendable => &mut self.mendable,
            Loss::Nothing | Loss::Samples(_) | Loss::Deletions => &mut self.partly,
        };
        names.insert(sequence);
    }
}

/// Checks the database in `dir`, which no process may have open: every section and chunk of every
/// block against its checksum, its index and its sums, every record of checkpoint and log. With
/// `repair`, the time now and the database's options, damaged blocks are set aside, blocks with damaged
/// chunks are written anew without them, damaged records are copied aside and the head is written down
/// without them. Of the options only how time is cut counts: repairing drops nothing that is whole.
///
/// # Errors
/// [`DbError::Open`] when the directory cannot be read; what is damaged is in the report. When
/// repairing any [`DbError`]; nothing is lost by it, call again.
pub fn fsck(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    repair: Option<(TimestampMs, &Options)>,
) -> Result<Report, DbError> {
    let open_error = |source| DbError::Open { path: dir.to_owned(), source };
    let mut report = Report::default();
    let names = disk.list(dir).map_err(open_error)?;
    report.unfinished += names.iter().filter(|name| name.ends_with(".tmp")).count() as u64;
    let blocks_dir = dir.join("blocks");
    let mut covered = Vec::new();
    // What the start does not find by itself.
    let mut found = Repairs::default();
    if disk.exists(&blocks_dir).map_err(open_error)? {
        let mut opened = Vec::new();
        for name in disk.list(&blocks_dir).map_err(open_error)? {
            let path = blocks_dir.join(&name);
            if name.ends_with(".tmp") {
                report.unfinished += 1;
                continue;
            }
            report.blocks += 1;
            match Block::open(&**disk, &path) {
                Ok(block) => opened.push(block),
                Err(error) => report.damage.push(unopened(&path, &error, Cost::Block)),
            }
        }
        let replaced: BTreeSet<u64> =
            opened.iter().flat_map(|block| block.meta.parents.iter().copied()).collect();
        let mut known = BTreeMap::new();
        for block in &opened {
            if let Some(other) = known.insert(block.meta.sequence, &block.dir) {
                let what = format!("the same block as {}", other.display());
                let damage = Damage::new(&block.dir, what, Cost::Nothing);
                report.damage.push(damage.at(0, block.bytes()));
            }
        }
        for block in opened {
            let sequence = block.meta.sequence;
            if replaced.contains(&sequence) {
                report.unfinished += 1;
                continue;
            }
            let (checked, faults) = check(&block);
            report.chunks += checked.chunks;
            report.samples += checked.samples;
            for fault in faults {
                found.take(sequence, fault.loss);
                report.damage.push(damage(&block, fault));
            }
            covered.extend(block.meta.covered.iter().copied());
        }
    }
    read_tiers(&**disk, dir, &mut found, &mut report).map_err(open_error)?;
    let headers = read_log(disk, dir, &names, &covered, &mut report);
    if let Some((now_ms, options)) = repair.filter(|_| !report.damage.is_empty()) {
        let options =
            Options { out_of_order_ms: i64::MAX, series_max: usize::MAX, ..options.clone() };
        for number in headers {
            head_file::mend_header(&**disk, dir, number).map_err(open_error)?;
        }
        let (db, recovery) = Db::open(Arc::clone(disk), dir, options, now_ms)?;
        db.repair(now_ms, &found)?;
        db.close()?;
        for damage in &mut report.damage {
            let is_same = |one: &&Damage| one.path == damage.path && one.offset == damage.offset;
            damage.kept = recovery.damage.iter().find(is_same).and_then(|one| one.kept.clone());
            damage.repaired = true;
        }
    }
    Ok(report)
}

/// Reads the blocks of all tiers.
fn read_tiers(
    disk: &dyn Disk,
    dir: &Path,
    found: &mut Repairs,
    report: &mut Report,
) -> io::Result<()> {
    for tier in Tier::ALL {
        let tier_dir = tier.dir(dir);
        if !disk.exists(&tier_dir)? {
            continue;
        }
        let mut opened = Vec::new();
        for name in disk.list(&tier_dir)? {
            let path = tier_dir.join(&name);
            if name.ends_with(".tmp") {
                report.unfinished += 1;
                continue;
            }
            report.blocks += 1;
            match TierBlock::open(disk, tier, &path) {
                Ok(held) => opened.push(held),
                Err(error) => {
                    let cost = Cost::Aggregates { most: None, times: None };
                    report.damage.push(unopened(&path, &error, cost));
                }
            }
        }
        let replaced: BTreeSet<u64> =
            opened.iter().flat_map(|held| held.block.meta.parents.iter().copied()).collect();
        for held in opened {
            let sequence = held.block.meta.sequence;
            if replaced.contains(&sequence) {
                report.unfinished += 1;
                continue;
            }
            let (checked, faults) = check(&held.block);
            report.chunks += checked.chunks;
            for fault in faults {
                found.take(sequence, fault.loss);
                report.damage.push(damage(&held.block, fault));
            }
        }
    }
    Ok(())
}

/// A block that cannot be opened.
fn unopened(dir: &Path, error: &BlockError, cost: Cost) -> Damage {
    match error {
        // Named by its directory: which of its files it was is not known.
        BlockError::Io(error) => {
            Damage::new(dir, format!("the block cannot be read now: {error}"), Cost::Unread)
        }
        BlockError::Malformed(malformed) => {
            let what = format!("the block does not open: {}", malformed.0);
            Damage::new(dir.join(META), what, cost)
        }
    }
}

fn damage(block: &Block, fault: BlockFault) -> Damage {
    let times = Some((block.meta.first_t, block.meta.last_t));
    let cost = match fault.loss {
        Loss::Nothing | Loss::Mendable => Cost::Nothing,
        Loss::Samples(most) if block.meta.tier.is_none() => Cost::Samples { most, times },
        Loss::Samples(most) => Cost::Aggregates { most: Some(most), times },
        Loss::All => block.cost(),
        Loss::Deletions => Cost::Deletions,
    };
    Damage::new(block.dir.join(fault.file), fault.what, cost).at(fault.offset, fault.bytes)
}

/// Reads checkpoint and log as the start does, and changes nothing. Says which files of the head have
/// a damaged header.
fn read_log(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    names: &[String],
    covered: &[Covered],
    report: &mut Report,
) -> Vec<u64> {
    let disk: Arc<dyn Disk> = Arc::new(ReadOnly(Arc::clone(disk)));
    let log_dir = dir.join("wal");
    let checkpoint = names.iter().filter_map(|name| segment_of_name(name)).max();
    let from_segment = checkpoint.unwrap_or(0);
    let checkpoint = checkpoint.map(|segment| (checkpoint_dir(dir, segment), 0));
    for (log, from) in checkpoint.into_iter().chain([(log_dir.clone(), from_segment)]) {
        // What cannot be opened is said by the replay.
        let Ok(reader) = Reader::open(Arc::clone(&disk), &log, from) else { continue };
        let is_record = |entry: &Entry| matches!(entry, Entry::Record { .. });
        report.records += reader.filter(is_record).count() as u64;
    }
    let options = Options::default();
    let mut replay = Replay::new(&disk, dir, &options, covered, Recovery::default());
    let from_segment = replay.checkpoint(names);
    replay.log(&log_dir, from_segment);
    let headers: Vec<u64> = replay.headers_damaged().collect();
    for number in &headers {
        let path = head_file::path(dir, *number);
        let damage = Damage::new(path, "not the header of a file of the head", Cost::Nothing);
        report.damage.push(damage.at(0, HEADER_BYTES as u64));
    }
    let recovery = replay.recovery;
    report.torn += recovery.torn;
    report.head_samples = recovery.samples;
    report.unlisted = recovery.damaged.saturating_sub(recovery.damage.len() as u64);
    report.damage.extend(recovery.damage);
    headers
}

/// A disk that is only read.
#[derive(Debug)]
struct ReadOnly(Arc<dyn Disk>);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnly {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    fn append(&self, _path: &Path) -> io::Result<Box<dyn DiskFile>> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>> {
        self.0.open(path)
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir_all(&self, _dir: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        refused()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.free_bytes(path)
    }
}
