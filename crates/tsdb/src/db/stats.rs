//! What the database says of itself.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::TimestampMs;

use super::Db;
use crate::Appended;
use crate::tier::{Tier, TierBlock, Tiers};

/// Figures of a database at one moment. Counts are since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series in the head.
    pub series: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Chunks of single series in the head: a series has one for each window it has samples in, open ones
    /// included.
    pub head_chunks: u64,
    /// Bytes of sample data in the head, in memory and in its files, without labels and index.
    pub head_bytes: u64,
    /// Bytes of the head's files of chunks on disk.
    pub head_file_bytes: u64,
    /// How often chunks could not be written to a file of the head; they stay in memory and in the log.
    pub head_file_failures: u64,
    /// The oldest sample of head and blocks, ms; `None` when there is none.
    pub min_t: Option<i64>,
    /// The newest timestamp taken, ms; `None` before the first sample.
    pub max_t: Option<i64>,
    /// Marks held.
    pub marks: u64,
    /// Samples stored.
    pub samples_appended: u64,
    /// Samples that were there already.
    pub samples_duplicate: u64,
    /// Samples that contradicted one that was there; left out.
    pub samples_conflicting: u64,
    /// Samples before the out-of-order window; left out.
    pub samples_too_old: u64,
    /// How often what was appended was made durable.
    pub syncs: u64,
    /// Blocks.
    pub blocks: u64,
    /// Samples in blocks.
    pub block_samples: u64,
    /// Bytes of blocks on disk.
    pub block_bytes: u64,
    /// Bytes of the log on disk; 0 while the disk is full.
    pub log_bytes: u64,
    /// Whether the log has failed for good.
    pub log_stopped: bool,
    /// Chunks met at the start, in queries or maintenance that were damaged; their samples are missing
    /// from answers.
    pub chunks_damaged: u64,
    /// Blocks set aside because of damage, at the start or since.
    pub blocks_quarantined: u64,
    /// Damaged files of blocks written anew, as another file of the block had all.
    pub block_files_mended: u64,
    /// Damaged or missing places of log and checkpoint the start met.
    pub log_damaged: u64,
    /// Bytes and entries under `quarantine/` at the last maintenance.
    pub quarantine_bytes: u64,
    /// The entries: files and directories.
    pub quarantine_entries: u64,
    /// Entries removed there because of its bounds.
    pub quarantine_removed: u64,
    /// Blocks that are there and cannot be read: missing from answers until they can.
    pub blocks_unread: u64,
    /// Series removed because their samples are all in blocks.
    pub series_removed: u64,
    /// Samples of the log dropped before a follower came to them, once per follower.
    pub follow_samples_lost: u64,
    /// Stretches of series marked as deleted and still on the disk.
    pub tombstones: u64,
    /// Merges of blocks that were done.
    pub compactions: u64,
    /// Merges that failed; tried again.
    pub compactions_failed: u64,
    /// Blocks deleted for their age or size before a tier had what they had: what they had is gone.
    pub blocks_not_rolled_up: u64,
    /// Series of native histograms met when blocks of tiers were made, counted once per block of
    /// samples: they have no rollups.
    pub tier_histograms: u64,
    /// Samples that came when others of their window were gone already and lie between those: nobody can
    /// tell whether they are of these, and tiers leave them out. At most so many.
    pub tier_samples_left_out: u64,
    /// What there is of each tier, those that are empty too, the finest first.
    pub tiers: Vec<TierStats>,
    /// Bytes of the blocks that were merged.
    pub compaction_bytes_in: u64,
    /// Bytes of the blocks they were merged into.
    pub compaction_bytes_out: u64,
}

/// A block of samples, as whoever asks what there is may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFigures {
    /// The name of its directory: a ULID of when it was written.
    pub name: String,
    /// 1 when it was cut from the head, more when it was merged.
    pub level: u8,
    /// How many blocks it was merged from, as far as it knows.
    pub parents: usize,
    /// Its first sample.
    pub first_t: TimestampMs,
    /// Its last sample.
    pub last_t: TimestampMs,
    /// Samples, native histograms included.
    pub samples: u64,
    /// Series.
    pub series: u64,
    /// Stretches of its series marked as deleted.
    pub tombstones: u64,
}

/// Figures of a tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierStats {
    /// Which.
    pub tier: Tier,
    /// Its blocks.
    pub blocks: u64,
    /// Those to be made again because their span was changed.
    pub blocks_stale: u64,
    /// Series in them, counted once per block.
    pub series: u64,
    /// Windows of all series.
    pub windows: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

impl TierStats {
    fn of(tier: Tier, tiers: &Tiers) -> Self {
        let sum = |figure: fn(&TierBlock) -> u64| tiers.of(tier).map(|held| figure(held)).sum();
        Self {
            tier,
            blocks: sum(|_| 1),
            blocks_stale: sum(|held| u64::from(held.is_stale())),
            series: sum(|held| u64::from(held.block.meta.series)),
            windows: sum(|held| held.block.meta.samples),
            bytes: sum(|held| held.block.bytes()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    stored: AtomicU64,
    duplicate: AtomicU64,
    conflicting: AtomicU64,
    too_old: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) head_file_failures: AtomicU64,
    chunks_damaged: AtomicU64,
    pub(super) blocks_quarantined: AtomicU64,
    pub(super) log_damaged: AtomicU64,
    pub(super) blocks_unread: AtomicU64,
    pub(super) block_files_mended: AtomicU64,
    pub(super) quarantine_bytes: AtomicU64,
    pub(super) quarantine_entries: AtomicU64,
    pub(super) quarantine_removed: AtomicU64,
    pub(super) series_removed: AtomicU64,
    pub(super) follow_samples_lost: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) blocks_not_rolled_up: AtomicU64,
    pub(super) tier_histograms: AtomicU64,
    pub(super) tier_samples_left_out: AtomicU64,
    pub(super) compactions_failed: AtomicU64,
    pub(super) compaction_bytes_in: AtomicU64,
    pub(super) compaction_bytes_out: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, appended: Appended) {
        self.stored.fetch_add(appended.stored, Relaxed);
        self.duplicate.fetch_add(appended.duplicate, Relaxed);
        self.conflicting.fetch_add(appended.conflicting, Relaxed);
        self.too_old.fetch_add(appended.too_old, Relaxed);
    }

    pub(super) fn damaged_chunks(&self, n: u64) {
        self.chunks_damaged.fetch_add(n, Relaxed);
    }
}

impl Db {
    /// The blocks of samples, in the order of their first samples; those of tiers are not among them.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockFigures> {
        let state = self.state();
        let each = state.blocks.iter().map(|block| BlockFigures {
            name: block.dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            level: block.meta.level,
            parents: block.meta.parents.len(),
            first_t: block.meta.first_t,
            last_t: block.meta.last_t,
            samples: block.meta.samples,
            series: u64::from(block.meta.series),
            tombstones: block.tombstones.count(),
        });
        let mut blocks: Vec<BlockFigures> = each.collect();
        drop(state);
        blocks.sort_by(|a, b| (a.first_t, &a.name).cmp(&(b.first_t, &b.name)));
        blocks
    }

    /// Figures of this moment. Walks the head's series: fit for every few seconds, not for every
    /// request.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (log_bytes, log_stopped) = {
            let writer = self.writer();
            (writer.log.bytes().unwrap_or(0), writer.log.is_stopped())
        };
        let head_file_bytes = self.files().bytes();
        let state = self.state();
        let (head_samples, head_bytes) = state.head.footprint();
        let max_t = state.head.max_t();
        let head_min_t = state.head.first_t();
        let counters = &self.counters;
        Stats {
            series: state.head.series_count() as u64,
            head_samples,
            head_chunks: state.head.chunks(),
            head_bytes,
            head_file_bytes,
            head_file_failures: counters.head_file_failures.load(Relaxed),
            min_t: state.blocks.iter().map(|block| block.meta.first_t).chain(head_min_t).min(),
            max_t: (max_t != i64::MIN).then_some(max_t),
            marks: state.head.marks.len() as u64,
            samples_appended: counters.stored.load(Relaxed),
            samples_duplicate: counters.duplicate.load(Relaxed),
            samples_conflicting: counters.conflicting.load(Relaxed),
            samples_too_old: counters.too_old.load(Relaxed),
            syncs: counters.syncs.load(Relaxed),
            blocks: state.blocks.len() as u64,
            block_samples: state.blocks.iter().map(|block| block.meta.samples).sum(),
            block_bytes: state.blocks.iter().map(|block| block.bytes()).sum(),
            log_bytes,
            log_stopped,
            chunks_damaged: counters.chunks_damaged.load(Relaxed),
            blocks_quarantined: counters.blocks_quarantined.load(Relaxed),
            log_damaged: counters.log_damaged.load(Relaxed),
            blocks_unread: counters.blocks_unread.load(Relaxed),
            block_files_mended: counters.block_files_mended.load(Relaxed),
            quarantine_bytes: counters.quarantine_bytes.load(Relaxed),
            quarantine_entries: counters.quarantine_entries.load(Relaxed),
            quarantine_removed: counters.quarantine_removed.load(Relaxed),
            series_removed: counters.series_removed.load(Relaxed),
            tombstones: state.blocks.iter().map(|block| block.tombstones.count()).sum(),
            follow_samples_lost: counters.follow_samples_lost.load(Relaxed),
            compactions: counters.compactions.load(Relaxed),
            compactions_failed: counters.compactions_failed.load(Relaxed),
            blocks_not_rolled_up: counters.blocks_not_rolled_up.load(Relaxed),
            tier_histograms: counters.tier_histograms.load(Relaxed),
            tier_samples_left_out: counters.tier_samples_left_out.load(Relaxed),
            tiers: Tier::ALL.into_iter().map(|tier| TierStats::of(tier, &state.tiers)).collect(),
            compaction_bytes_in: counters.compaction_bytes_in.load(Relaxed),
            compaction_bytes_out: counters.compaction_bytes_out.load(Relaxed),
        }
    }
}
