//! The database: one head, its log, its blocks, behind one handle.
//!
//! One thread appends; any number read at the same time. Locks are taken in this order and no other:
//! `compaction`, `maintenance`, `files`, `writer`, `state`, `followers`, `past`. No lock but the first is held while blocks are
//! merged; neither `writer` nor `state` while blocks, checkpoints or files of the head are written, and
//! `state` not while chunks of a query are decoded.
//! There is one `state` and not one per group: an append holds it for the microseconds of one batch,
//! and the log in front of it lets through one batch at a time anyway.
//!
//! An append writes the log first and the head after, so the head never knows what the log does not.
//! What was appended is durable when [`Db::sync`] has returned; nothing may be acknowledged before.

mod bulk;
mod compact;
mod delete;
mod follow;
mod gather;
mod histograms;
mod listing;
mod maintain;
mod mend;
mod names;
mod newest;
mod open;
mod past;
mod query;
mod rollups;
mod stats;
mod survey;
mod tiers;
mod whole;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use stoa_model::{Labels, TimestampMs};
use stoa_wal::Disk;

pub use self::compact::Compaction;
use self::compact::Retries;
pub use self::delete::Deletion;
pub use self::listing::{Listing, Reader, Whole};
use self::maintain::Upkeep;
pub use self::maintain::{Deleted, Maintenance};
pub use self::names::Near;
use self::past::Past;
pub use self::past::Revision;
pub use self::rollups::{Resolution, RollupSeries, Rollups, Stretch};
use self::stats::Counters;
pub use self::stats::{BlockFigures, Stats, TierStats};
pub use self::survey::{Survey, Surveyed, Where};
use crate::batch::{
    BATCH_HISTOGRAM_BYTES_MAX, BATCH_SAMPLES_MAX, MARK_KEY_BYTES_MAX, MARK_VALUE_BYTES_MAX,
    MARKS_MAX, SERIES_LABEL_BYTES_MAX,
};
use crate::block::{Block, IndexCache};
use crate::damage::Notes;
use crate::follow::Followers;
use crate::head::{Head, Refused, Young};
use crate::head_file::HeadFiles;
use crate::log::{Log, LogError};
use crate::quarantine::set_aside;
use crate::record::{self, KIND_BATCH, KIND_HISTOGRAMS, KIND_SERIES};
use crate::tier::Tiers;
use crate::{
    AppendError, Appended, Batch, DbError, GroupId, HistogramSample, Mark, Options, Row, SeriesRef,
};

/// Beyond this many bytes of chunks in memory an append writes them to a file of the head itself and
/// does not wait for maintenance.
const UNSAVED_BYTES_MAX: u64 = 32 << 20;

/// A time series database in one directory.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
/// use stoa_model::{Labels, Matcher};
/// use stoa_tsdb::{Batch, Db, GroupId, Options, Row};
/// use stoa_wal::disk::SimDisk;
///
/// let disk = Arc::new(SimDisk::new(1));
/// let (db, _recovery) = Db::open(disk, Path::new("/db"), Options::default(), 0)?;
/// let group = GroupId(1);
/// let up = db.resolve(group, &Labels::from_pairs([("__name__", "up")])?)?;
/// let row = Row { t_ms: 1000, samples: vec![(up, 1.0)] };
/// let appended = db.append(&Batch { group, rows: vec![row], marks: vec![] })?;
/// assert_eq!(appended.stored, 1);
/// db.sync()?; // now it may be acknowledged
/// let found = db.select(&[Matcher::equal("__name__", "up")], 0, 2000, 10, 10)?;
/// assert_eq!(found[0].values, [1.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Db {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    /// Held over one compaction or deletion.
    compaction: Mutex<Retries>,
    /// What the time was when it was told last: when the database was opened, by maintenance.
    clock_ms: AtomicI64,
    /// Compactions are to end.
    interrupted: AtomicBool,
    /// How often, since the start, all that was due of tiers has been made, put off or has failed.
    tier_passes: AtomicU64,
    /// The sequence number given to a block last.
    sequences: AtomicU64,
    /// See [`Self::whole_since`].
    whole_since: AtomicI64,
    /// It could not be written down.
    whole_since_due: AtomicBool,
    /// Held over one maintenance, so that there is one at a time.
    maintenance: Mutex<Upkeep>,
    files: Mutex<HeadFiles>,
    writer: Mutex<Writer>,
    state: RwLock<State>,
    past: Past,
    followers: Mutex<Followers>,
    indexes: IndexCache,
    counters: Counters,
    notes: Notes,
    /// How often the disk did not give an index.
    unread_indexes: AtomicU64,
}

/// What appends and what they need to remember.
#[derive(Debug)]
struct Writer {
    log: Log,
    /// Counts checkpoints: the log since the last one must define every series it names.
    since: u64,
    /// The body of the record being made.
    body: Vec<u8>,
}

/// What queries see. Changed in one step when samples move from the head to blocks.
#[derive(Debug)]
struct State {
    head: Head,
    /// In order of rank.
    blocks: Arc<[Arc<Block>]>,
    tiers: Tiers,
}

impl Db {
    /// The reference of a series of a group, by which samples name it. A series that is new is
    /// defined in the log with the first batch that names it. Hold on to the reference: this hashes
    /// the labels, [`Self::append`] does not.
    ///
    /// # Errors
    /// [`AppendError::TooManySeries`], [`AppendError::LabelsTooLong`],
    /// [`AppendError::TooManyLabelBytes`].
    pub fn resolve(&self, group: GroupId, labels: &Labels) -> Result<SeriesRef, AppendError> {
        self.state_mut().head.resolve(group, labels).map_err(|refused| self.refusal(group, refused))
    }

    /// Stores a batch: all of its samples and marks or, on error, nothing. Samples that are already
    /// there, contradict one that is, or are older than the out-of-order window are counted and left
    /// out; the marks are kept all the same. Not durable before [`Self::sync`].
    ///
    /// # Errors
    /// [`AppendError::UnknownSeries`] when a series was removed for lack of samples since it was
    /// resolved: resolve again and repeat. [`AppendError::DiskFull`]: repeat later. Others are
    /// limits, or the end of the log.
    pub fn append(&self, batch: &Batch) -> Result<Appended, AppendError> {
        self.append_with(batch, &[])
    }

    /// The same with native histograms of the batch's group beside its floats: stored whole with it or
    /// not at all. At one instant a series has a float or a histogram; the first one stays.
    ///
    /// # Errors
    /// As [`Self::append`], and [`AppendError::Histogram`], [`AppendError::HistogramBytes`].
    pub fn append_with(
        &self,
        batch: &Batch,
        histograms: &[HistogramSample],
    ) -> Result<Appended, AppendError> {
        let floats: usize = batch.rows.iter().map(|row| row.samples.len()).sum();
        let given = floats + histograms.len();
        if given > BATCH_SAMPLES_MAX {
            return Err(AppendError::TooManySamples { given, max: BATCH_SAMPLES_MAX });
        }
        let given = histograms.iter().map(HistogramSample::bytes).sum();
        if given > BATCH_HISTOGRAM_BYTES_MAX {
            return Err(AppendError::HistogramBytes { given, max: BATCH_HISTOGRAM_BYTES_MAX });
        }
        if let Some(HistogramSample { series, .. }) = histograms.iter().find(|h| !h.is_storable()) {
            return Err(AppendError::Histogram { series: *series });
        }
        for mark in &batch.marks {
            check_mark(mark)?;
        }
        // From files, and decoded: neither queries nor other appends wait for it.
        let now_ms = self.clock_ms.load(Relaxed);
        let repeats = self.state().head.repeats(batch.group, &batch.rows, histograms, Some(now_ms));
        let known = repeats.read();
        let put = |body: &mut Vec<u8>| {
            record::put_batch(body, batch.group, &batch.rows, &batch.marks, &[]);
        };
        // Nobody waits for their encoding either.
        let with_histograms = (!histograms.is_empty()).then(|| {
            let mut body = Vec::new();
            record::put_histograms(&mut body, histograms, put);
            body
        });
        let mut writer = self.writer();
        let (young, undefined, fresh_count) = {
            let state = self.state();
            let refused = state.head.check(batch.group, &batch.rows, histograms);
            refused.map_err(|refused| self.refusal(batch.group, refused))?;
            if state.head.marks.len() + batch.marks.len() > MARKS_MAX {
                return Err(AppendError::TooManyMarks { max: MARKS_MAX });
            }
            // What is refused now is not in the log: all that a start finds there was taken.
            let young = state.head.young(&batch.rows, histograms, now_ms);
            let (undefined, fresh_count) = state.head.undefined(batch.group, writer.since);
            (young, undefined, fresh_count)
        };
        let Young { rows, histograms, too_old } = young;
        if !undefined.is_empty() {
            let mut rest = undefined.as_slice();
            while !rest.is_empty() {
                let put = |body: &mut Vec<u8>| rest = record::put_series(body, batch.group, rest);
                writer.append(KIND_SERIES, put)?;
            }
            self.state_mut().head.set_defined(batch.group, writer.since, fresh_count);
        }
        let put = |body: &mut Vec<u8>| {
            record::put_batch(body, batch.group, &rows, &batch.marks, &[]);
        };
        match with_histograms {
            _ if histograms.is_empty() => writer.append(KIND_BATCH, put)?,
            Some(body) if too_old == 0 => writer.log.append(KIND_HISTOGRAMS, &body)?,
            _ => writer
                .append(KIND_HISTOGRAMS, |body| record::put_histograms(body, &histograms, put))?,
        }
        let mut state = self.state_mut();
        // Before, so that what was stored is told of even if the rest of it was not.
        self.past.appended(oldest(&rows, &histograms));
        let (mut appended, _foreign) = state.head.apply(batch.group, &rows, &histograms, known);
        appended.too_old = too_old;
        for mark in &batch.marks {
            state.head.marks.insert(mark.key.clone(), mark.value.clone());
        }
        let is_due = state.head.unsaved_bytes() > UNSAVED_BYTES_MAX;
        drop(state);
        drop(writer);
        self.counters.count(appended);
        if is_due {
            // What cannot be written stays in memory, is counted, and is written by a later call.
            drop(self.save_windows());
        }
        Ok(appended)
    }

    /// Writes chunks that are sealed and in memory to a file of the head.
    fn save_windows(&self) -> io::Result<()> {
        let mut files = self.files();
        let windows = self.state_mut().head.unsaved();
        let stored = files.store(&windows);
        if stored.is_err() {
            self.counters.head_file_failures.fetch_add(1, Relaxed);
        }
        stored
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`DbError::DiskFull`]: nothing is lost, repeat later. [`DbError::Stopped`]: the log has
    /// ended for good and what was not durable may be lost.
    pub fn sync(&self) -> Result<(), DbError> {
        let done = self.writer().log.sync();
        self.counters.syncs.fetch_add(1, Relaxed);
        done.map_err(DbError::from)
    }

    /// The value of a mark.
    #[must_use]
    pub fn mark(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state().head.marks.get(key).cloned()
    }

    /// The marks whose keys begin with `prefix`, in order of their keys.
    #[must_use]
    pub fn marks_with_prefix(&self, prefix: &[u8]) -> Vec<Mark> {
        let state = self.state();
        let from = state
            .head
            .marks
            .range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| Mark { key: key.clone(), value: value.clone() })
            .collect()
    }

    /// Removes a mark; says whether there was one. Not durable before [`Self::sync`].
    ///
    /// # Errors
    /// [`AppendError::DiskFull`], [`AppendError::Stopped`].
    pub fn remove_mark(&self, key: &[u8]) -> Result<bool, AppendError> {
        let mut writer = self.writer();
        if !self.state().head.marks.contains_key(key) {
            return Ok(false);
        }
        writer.append(KIND_BATCH, |body| {
            record::put_batch(body, GroupId(0), &[], &[], &[key]);
        })?;
        Ok(self.state_mut().head.marks.remove(key).is_some())
    }

    /// Makes everything durable and ends. Dropping a database instead loses nothing that was
    /// synced.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn close(self) -> Result<(), DbError> {
        self.sync()
    }

    fn refusal(&self, group: GroupId, refused: Refused) -> AppendError {
        match refused {
            Refused::SeriesMax => AppendError::TooManySeries { max: self.options.series_max },
            Refused::LabelsTooLong(bytes) => {
                AppendError::LabelsTooLong { bytes, max: SERIES_LABEL_BYTES_MAX }
            }
            Refused::LabelBytesMax => {
                AppendError::TooManyLabelBytes { max: self.options.label_bytes_max }
            }
            Refused::Unknown(series) => AppendError::UnknownSeries { series },
            Refused::OtherGroup(series) => AppendError::OtherGroup { series, group },
        }
    }

    // A thread that panicked while it held one of these left it between two steps at worst; what
    // it holds is still what queries and the log can go on with.

    fn upkeep(&self) -> MutexGuard<'_, Upkeep> {
        self.maintenance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, HeadFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followers_mut(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down something of the database's own, as a mark.
    fn put_mark(&self, writer: &mut Writer, mark: Mark) -> Result<(), AppendError> {
        writer.append(KIND_BATCH, |body| {
            record::put_batch(body, GroupId(0), &[], std::slice::from_ref(&mark), &[]);
        })?;
        self.state_mut().head.marks.insert(mark.key, mark.value);
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn append(&mut self, kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), AppendError> {
        self.body.clear();
        put(&mut self.body);
        self.log.append(kind, &self.body).map_err(AppendError::from)
    }
}

/// The time of the oldest sample of a batch.
fn oldest(rows: &[Row], histograms: &[HistogramSample]) -> TimestampMs {
    let times = rows.iter().map(|row| row.t_ms).chain(histograms.iter().map(|h| h.t_ms));
    times.min().unwrap_or(TimestampMs::MAX)
}

fn blocks_dir(dir: &Path) -> PathBuf {
    dir.join("blocks")
}

/// Moves a block's directory to `quarantine/`; says where to.
fn set_block_aside(disk: &dyn Disk, dir: &Path, block: &Path) -> io::Result<PathBuf> {
    let name = block.file_name().unwrap_or_default().to_string_lossy();
    set_aside(disk, dir, block, &format!("block-{name}"))
}

fn check_mark(mark: &Mark) -> Result<(), AppendError> {
    let (key_bytes, value_bytes) = (mark.key.len(), mark.value.len());
    if key_bytes > MARK_KEY_BYTES_MAX || value_bytes > MARK_VALUE_BYTES_MAX {
        return Err(AppendError::MarkTooLong { key_bytes, value_bytes });
    }
    Ok(())
}

impl From<LogError> for AppendError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(error) => Self::DiskFull(error),
            LogError::Stopped(error) => Self::Stopped(error),
            LogError::TooLong(error) => Self::TooLong(error),
        }
    }
}

impl From<LogError> for DbError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(error) => Self::DiskFull(error),
            LogError::Stopped(error) | LogError::TooLong(error) => Self::Stopped(error),
        }
    }
}
