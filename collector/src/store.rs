//! The store: the only place that appends samples.
//!
//! Constraints
//! - One thread appends. Callers hand it batches through a queue bounded by [`SAMPLES_WAITING_MAX`]
//!   samples and wait; they are answered after `fdatasync`, never before. What is answered with
//!   [`Stored`] survives a power cut.
//! - Group commit: the thread takes all that waits, writes it, syncs once. The first batch after a
//!   pause is given [`COMMIT_GATHER`] for those that come with it; under load takings are at least
//!   [`COMMIT_PACE`] apart (or [`COMMIT_BYTES_MAX`] of data), so that two hundred agents cost the disk
//!   twenty syncs a second. An answer is so at most one pace and one sync late; queries see a batch
//!   before it is synced.
//! - Below `storage.free_bytes_min` nothing is accepted ([`StoreError::DiskFull`]: senders keep it and
//!   come again); reading goes on, and accepting resumes by itself when there is room.
//! - After a failed sync nobody knows what is on disk. The writer ends for good
//!   ([`StoreError::Failed`]); a restart replays what really is there.
//!
//! Operation: [`Store::open`] recovers and starts three threads (append, maintenance, merging); [`Store::append`]
//! and [`Store::submit`] append, [`Store::view`] reads, [`Store::close`] syncs and ends.
//! The store knows series, samples and marks; it never knows who sent them or over what.

mod damage;
pub mod exemplars;
mod figures;
mod follow;
mod histogram;
pub mod metadata;
mod queue;
mod view;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stoa_daemon::error_chain;
use stoa_model::{Labels, Matcher, TimestampMs};
use stoa_tsdb::{
    AppendError, Batch, Bulk, BulkWritten, Compaction, Db, DbError, Deletion, GroupId,
    HistogramSample, Mark, Options, Recovery, Row, SeriesRef,
};
use stoa_wal::Disk;
use tokio::sync::{Semaphore, oneshot};

pub use exemplars::{Exemplar, Exemplars, Kept};
pub use figures::{COMMIT_BUCKETS_MS, StoreFigures};
pub use metadata::{Description, Metadata};
pub use view::{AtOnce, Span, StoreView};

use crate::clock::Clock;
use crate::config::StorageConfig;
use figures::Counters;
use writer::{Job, Writer};

/// Most samples in the queue and under commit together: 16 MiB of them, several seconds of a
/// thousand hosts. Callers beyond it wait, and their agents keep their frames.
pub const SAMPLES_WAITING_MAX: u32 = 1 << 20;

/// What a sample takes while it waits, in bytes: native histograms count as so many as they take.
const SAMPLE_BYTES: usize = 16;

/// What a batch counts at least, so that marks and empty rows are bounded too.
const BATCH_SAMPLES_MIN: u32 = 256;

/// Most batches in the queue; follows from the two above, so handing one over never blocks.
const BATCHES_WAITING_MAX: usize = (SAMPLES_WAITING_MAX / BATCH_SAMPLES_MIN) as usize;

/// Copies of the store, below its directory.
const SNAPSHOTS: &str = "snapshots";

/// The shortest time between two syncs while less than [`COMMIT_BYTES_MAX`] waits. Shorter than the
/// pause in which many agents' packets are gathered: what came together is committed together.
pub const COMMIT_PACE: Duration = Duration::from_millis(40);

/// How long the first batch after a pause waits for those that come with it: they were read together.
const COMMIT_GATHER: Duration = Duration::from_millis(2);

/// Data that is synced without waiting for the pace, in bytes as counted in memory.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;

/// How often blocks are cut, retention is applied and metric descriptions are saved, if due.
pub const MAINTENANCE_PACE: Duration = Duration::from_secs(15);

/// How often it is looked which blocks are to be merged.
const COMPACTION_PACE: Duration = Duration::from_secs(60);

/// How long what waits for merging has its turn where more is due.
const PARTIAL_PACE: Duration = Duration::from_millis(200);

/// How often it is looked whether the writer has ended.
const FAILED_LOOK: Duration = Duration::from_secs(1);

/// What was done with a batch's samples; the four add up to what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// New samples, durable.
    pub stored: u64,
    /// Samples that were there already, with the same value.
    pub duplicate: u64,
    /// Samples refused: there was another value at that time.
    pub conflicting: u64,
    /// Samples refused: older than is still accepted.
    pub too_old: u64,
}

/// Why nothing was stored, cut by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Too little room on disk: keep the data, come again in a while.
    #[error("the disk is full: {free_bytes} bytes are free, {free_bytes_min} must be")]
    DiskFull {
        /// Free when last looked.
        free_bytes: u64,
        /// The floor from the configuration.
        free_bytes_min: u64,
    },
    /// This series or batch cannot be stored; others can. [`AppendError::UnknownSeries`] asks the
    /// caller to resolve its series again, [`AppendError::TooManySeries`] counts over all hosts.
    #[error("the store refuses")]
    Append(#[source] AppendError),
    /// The writer has ended for good after a failed sync; restart the collector.
    #[error("the store has failed: {reason}")]
    Failed {
        /// What failed, with its cause.
        reason: String,
    },
    /// The directory cannot be used.
    #[error("open the store")]
    Open(#[source] DbError),
    /// No thread could be started.
    #[error("start a thread of the store")]
    Thread(#[source] std::io::Error),
    /// The store has been closed; come again after the restart.
    #[error("the store is closed")]
    Closed,
}

/// Whether the store accepts data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// Yes.
    #[default]
    Open,
    /// Not now: too little room on disk.
    DiskFull {
        /// Free when last looked.
        free_bytes: u64,
    },
    /// Not before a restart, for this reason.
    Failed(String),
    /// Not any more.
    Closed,
}

/// A handle on the store; clones are cheap and all the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Arc<Db>,
    metadata: Arc<Metadata>,
    exemplars: Exemplars,
    counters: Arc<Counters>,
    /// Set by the writer alone; the lock is held for a copy only.
    state: Arc<Mutex<StoreState>>,
    /// Permits are samples; a batch's return when it is answered.
    room: Arc<Semaphore>,
    queue: queue::Sender,
    maintenance: SyncSender<()>,
    compaction: SyncSender<()>,
    dir: PathBuf,
    retention: Duration,
    free_bytes_min: u64,
    /// Taken by the first to close.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Recovers what is in `dir` and starts the store's threads.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the directory cannot be used, [`StoreError::Thread`] when no thread
    /// starts; damage in the directory is no error: it is set aside and said in [`Recovery`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: &StorageConfig,
        clock: Clock,
    ) -> Result<(Self, Recovery), StoreError> {
        let options = Options {
            retention_ms: millis(config.retention),
            minute_retention_ms: millis(config.retention_1m),
            hour_retention_ms: millis(config.retention_1h),
            retention_bytes: config.retention_bytes_max,
            out_of_order_ms: millis(config.out_of_order),
            series_max: config.series_max,
            label_bytes_max: usize::try_from(config.label_bytes_max).unwrap_or(usize::MAX),
            free_bytes_min: config.free_bytes_min,
            ..Options::default()
        };
        let (db, mut recovery) =
            Db::open(Arc::clone(&disk), dir, options, clock()).map_err(StoreError::Open)?;
        recovery.unfinished_removed += remove_unfinished(&*disk, &dir.join(SNAPSHOTS));
        // On a full disk maintenance does it later.
        drop(db.keep_whole_since());
        damage::log_start(dir, &recovery);
        let db = Arc::new(db);
        let metadata = Arc::new(Metadata::open(Arc::clone(&disk), dir));
        let counters = Arc::new(Counters::default());
        let state = Arc::new(Mutex::new(StoreState::Open));
        let (queue, jobs) = queue::queue();
        let (maintenance, stop) = mpsc::sync_channel(1);
        let compaction_clock = Arc::clone(&clock);

        let writer = Writer::new(
            Arc::clone(&db),
            Arc::clone(&counters),
            Arc::clone(&state),
            Box::new({
                let dir = dir.to_owned();
                move || disk.free_bytes(&dir)
            }),
            config.free_bytes_min,
        );
        let append = thread("stoa-append", move || writer.run(&jobs))?;
        let maintain = thread("stoa-maintain", {
            let (db, metadata) = (Arc::clone(&db), Arc::clone(&metadata));
            let counters = Arc::clone(&counters);
            let dir = dir.to_owned();
            move || maintain(&db, &dir, &metadata, &counters, &clock, &stop)
        })?;
        let (compaction, stop) = mpsc::sync_channel(1);
        let compact = thread("stoa-compact", {
            let (db, counters) = (Arc::clone(&db), Arc::clone(&counters));
            let dir = dir.to_owned();
            move || compact(&db, &dir, &counters, &compaction_clock, &stop)
        })?;
        let shared = Shared {
            db,
            metadata,
            exemplars: Exemplars::of(config.exemplars_max),
            counters,
            state,
            room: Arc::new(Semaphore::new(SAMPLES_WAITING_MAX as usize)),
            queue,
            maintenance,
            compaction,
            dir: dir.to_owned(),
            retention: config.retention,
            free_bytes_min: config.free_bytes_min,
            threads: Mutex::new(vec![append, maintain, compact]),
        };
        Ok((Self(Arc::new(shared)), recovery))
    }

    /// Appends a batch and waits until it is durable.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the batch is durable then, with one exception: after
    /// [`StoreError::Failed`] it may turn out to be, at the next start.
    pub async fn append(&self, batch: Batch) -> Result<Stored, StoreError> {
        self.submit(batch).await?.stored().await
    }

    /// Hands a batch over, in the order of the calls; waits only for room in the queue. A caller that
    /// has more to send submits it all and awaits the answers afterwards.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Closed`].
    pub async fn submit(&self, batch: Batch) -> Result<Pending, StoreError> {
        self.submit_with(batch, Vec::new()).await
    }

    /// The same with native histograms of the batch's group.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_with(
        &self,
        batch: Batch,
        histograms: Vec<HistogramSample>,
    ) -> Result<Pending, StoreError> {
        let samples = writer::samples(&batch, &histograms);
        let large = histograms.iter().map(|sample| (sample.bytes() / SAMPLE_BYTES) as u64);
        let weight = samples.saturating_add(large.sum());
        let share = u32::try_from(weight).unwrap_or(u32::MAX);
        let share = share.clamp(BATCH_SAMPLES_MIN, SAMPLES_WAITING_MAX);
        let room = Arc::clone(&self.0.room).acquire_many_owned(share).await;
        let (reply, answer) = oneshot::channel();
        let handed_over = room.is_ok_and(|room| {
            let came = writer::now();
            let append = writer::Append { batch, histograms, came, reply, room };
            self.0.queue.send(Job::Append(append))
        });
        if handed_over {
            return Ok(Pending { answer, state: Arc::clone(&self.0.state) });
        }
        figures::add(&self.0.counters.unavailable_samples, samples);
        Err(self.state().refusal())
    }

    /// Appends readings of one instant by their labels: for those who write a few series now and
    /// then. Who writes the same series every second resolves them once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append_labelled(
        &self,
        group: GroupId,
        t_ms: TimestampMs,
        readings: &[(Labels, f64)],
    ) -> Result<Stored, StoreError> {
        self.submit_labelled(group, t_ms, readings.to_vec()).await?.stored().await
    }

    /// Hands such readings over, as [`Self::submit`] does a batch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn submit_labelled(
        &self,
        group: GroupId,
        t_ms: TimestampMs,
        readings: Vec<(Labels, f64)>,
    ) -> Result<Pending, StoreError> {
        let store = self.clone();
        let resolved = tokio::task::spawn_blocking(move || {
            let samples = readings.iter();
            let samples = samples.map(|(labels, value)| {
                let series = store.resolve(group, labels)?;
                Ok((series, *value))
            });
            samples.collect::<Result<Vec<_>, StoreError>>()
        });
        let samples = match resolved.await {
            Ok(samples) => samples?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => return Err(StoreError::Closed),
        };
        let rows = vec![Row { t_ms, samples }];
        self.submit(Batch { group, rows, marks: Vec::new() }).await
    }

    /// The reference of a series, which is made when it is new. Waits for the store's locks: call it
    /// from a thread that may block.
    ///
    /// # Errors
    /// [`StoreError::Append`] when it is new and there are too many.
    pub fn resolve(&self, group: GroupId, labels: &Labels) -> Result<SeriesRef, StoreError> {
        self.0.db.resolve(group, labels).map_err(|error| {
            figures::add(&self.0.counters.refused_series, 1);
            StoreError::Append(error)
        })
    }

    /// Whether a sample would come after all there are of a series: see [`Db::is_after_all`]. Waits for the
    /// store's locks: call it from a thread that may block.
    #[must_use]
    pub fn is_after_all(&self, series: SeriesRef, t_ms: TimestampMs) -> bool {
        self.0.db.is_after_all(series, t_ms)
    }

    /// A place for history, beside head and log, that keeps `storage.free_bytes_min` free: see
    /// [`Db::bulk`].
    #[must_use]
    pub fn bulk(&self, now_ms: TimestampMs) -> Bulk {
        self.0.db.bulk(now_ms, self.0.free_bytes_min)
    }

    /// Writes history to blocks and waits until it is durable; call it from a thread that may block.
    ///
    /// # Errors
    /// As [`Db::write_bulk`].
    pub fn write_bulk(&self, bulk: Bulk, now_ms: TimestampMs) -> Result<BulkWritten, DbError> {
        self.0.db.write_bulk(bulk, now_ms, |_, _| {})
    }

    /// Deletes samples: see [`Db::delete_series`]. Call it from a thread that may block.
    ///
    /// # Errors
    /// As [`Db::delete_series`].
    pub fn delete_series(
        &self,
        matchers: &[Matcher],
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        now_ms: TimestampMs,
    ) -> Result<Deletion, DbError> {
        self.0.db.delete_series(matchers, start_ms, end_ms, now_ms)
    }

    /// Takes what was deleted off the disk: see [`Db::clean_tombstones`]. Call it from a thread that
    /// may block.
    ///
    /// # Errors
    /// As [`Db::clean_tombstones`].
    pub fn clean_tombstones(&self, now_ms: TimestampMs) -> Result<Compaction, DbError> {
        self.0.db.clean_tombstones(now_ms)
    }

    /// Copies the store to `snapshots/<name>` below its directory: see [`Db::snapshot`]. Call it from
    /// a thread that may block.
    ///
    /// # Errors
    /// As [`Db::snapshot`].
    pub fn snapshot(&self, name: &str) -> Result<(), DbError> {
        self.0.db.snapshot(&self.0.dir.join(SNAPSHOTS).join(name))
    }

    /// The marks whose keys begin with `prefix`, in order of their keys. Waits for the store's locks:
    /// call it from a thread that may block.
    #[must_use]
    pub fn marks(&self, prefix: &[u8]) -> Vec<Mark> {
        self.0.db.marks_with_prefix(prefix)
    }

    /// The store as queries see it.
    #[must_use]
    pub fn view(&self) -> StoreView {
        StoreView::new(Arc::clone(&self.0.db), self.0.dir.clone())
    }

    /// What is said about metrics.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Exemplars, which are not kept over a restart.
    #[must_use]
    pub fn exemplars(&self) -> &Exemplars {
        &self.0.exemplars
    }

    /// How old samples get.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.0.retention
    }

    /// Whether data is accepted.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the writer has ended for good, and says why: only a restart helps then.
    pub async fn failed(&self) -> String {
        loop {
            if let StoreState::Failed(reason) = self.state() {
                return reason;
            }
            tokio::time::sleep(FAILED_LOOK).await;
        }
    }

    /// What has been done since the start.
    #[must_use]
    pub fn figures(&self) -> StoreFigures {
        let free = u64::try_from(self.0.room.available_permits()).unwrap_or(0);
        let queue_samples_max = u64::from(SAMPLES_WAITING_MAX);
        let (exemplars, exemplar_series) = self.0.exemplars.counts();
        StoreFigures {
            queue_samples: queue_samples_max.saturating_sub(free),
            queue_samples_max,
            refused_descriptions: self.0.metadata.refused(),
            exemplars,
            exemplar_series,
            ..self.0.counters.read()
        }
    }

    /// Answers everyone who waits, syncs, saves and ends the threads; later calls find it closed.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the last sync failed, or one before it.
    pub async fn close(&self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.0);
        let ended = tokio::task::spawn_blocking(move || {
            let threads =
                std::mem::take(&mut *shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
            shared.db.interrupt_compaction();
            // each fails only when its thread has ended already
            let _ended = shared.maintenance.try_send(());
            let _ended = shared.compaction.try_send(());
            shared.queue.send(Job::Close);
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a thread of the store panicked");
                }
            }
            // Where this fails the targets are sent some samples twice.
            drop(shared.db.save_followers().map(|()| shared.db.sync()));
        });
        let _joined = ended.await;
        match self.state() {
            StoreState::Failed(reason) => Err(StoreError::Failed { reason }),
            _ => Ok(()),
        }
    }
}

/// A batch that has been handed over.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Stored, StoreError>>,
    state: Arc<Mutex<StoreState>>,
}

impl Pending {
    /// Waits until the batch is durable.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn stored(self) -> Result<Stored, StoreError> {
        self.answer.await.unwrap_or_else(|_writer_ended| {
            Err(self.state.lock().unwrap_or_else(PoisonError::into_inner).clone().refusal())
        })
    }
}

impl StoreState {
    /// Why a batch did not get to the writer.
    fn refusal(self) -> StoreError {
        match self {
            Self::Failed(reason) => StoreError::Failed { reason },
            Self::Open | Self::DiskFull { .. } | Self::Closed => StoreError::Closed,
        }
    }
}

/// Removes snapshots that a crash cut off: nobody asks for them by their names again. Says how many.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> u64 {
    // What is not there or cannot be removed is met by the next start.
    let names = disk.list(dir).unwrap_or_default();
    let unfinished = names.iter().filter(|name| name.ends_with(".tmp"));
    unfinished.map(|name| u64::from(disk.remove_dir_all(&dir.join(name)).is_ok())).sum()
}

fn maintain(
    db: &Db,
    dir: &Path,
    metadata: &Metadata,
    counters: &Counters,
    clock: &Clock,
    stop: &mpsc::Receiver<()>,
) {
    while stop.recv_timeout(MAINTENANCE_PACE) == Err(mpsc::RecvTimeoutError::Timeout) {
        let _span = tracing::debug_span!("maintain").entered();
        match db.maintain(clock()) {
            Ok(done) => damage::log_deleted(&done.deleted),
            Err(error) => {
                figures::add(&counters.maintenance_failures, 1);
                tracing::error!(error = error_chain(&error), "maintenance failed, will try again");
            }
        }
        log_damage(db, dir);
        metadata.save();
    }
    metadata.save();
}

/// Merges blocks beside everything else: a long merge delays neither appends nor maintenance.
fn compact(db: &Db, dir: &Path, counters: &Counters, clock: &Clock, stop: &mpsc::Receiver<()>) {
    let mut pace = COMPACTION_PACE;
    while stop.recv_timeout(pace) == Err(mpsc::RecvTimeoutError::Timeout) {
        pace = COMPACTION_PACE;
        match db.compact(clock()) {
            Ok(done) if done.is_partial => pace = PARTIAL_PACE,
            Ok(_) => {}
            Err(error) => {
                figures::add(&counters.maintenance_failures, 1);
                tracing::error!(
                    error = error_chain(&error),
                    "merging blocks failed, will try again"
                );
            }
        }
        log_damage(db, dir);
    }
}

/// Says what queries and maintenance have met.
fn log_damage(db: &Db, dir: &Path) {
    let (found, unlisted) = db.take_damage();
    damage::log(dir, &found, unlisted);
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(StoreError::Thread)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
