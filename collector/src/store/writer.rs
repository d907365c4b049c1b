//! The thread that appends, syncs and answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stoa_daemon::error_chain;
use stoa_tsdb::{AppendError, Batch, Db, DbError, HistogramSample};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::figures::{Counters, add};
use super::queue::Receiver;
use super::{COMMIT_BYTES_MAX, COMMIT_PACE, StoreError, StoreState, Stored};

/// How long an answer about free space is good for.
const FREE_SPACE_PACE: Duration = Duration::from_secs(1);

/// How much is appended on one answer about free space, in bytes as counted in memory.
const FREE_SPACE_BYTES: usize = 8 << 20;

/// Something for the thread to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Append and answer after the sync.
    Append(Append),
    /// Answer all that waits, sync, end.
    Close,
}

/// A batch, and who waits for it.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) batch: Batch,
    /// Native histograms beside it.
    pub(super) histograms: Vec<HistogramSample>,
    /// When it was handed over.
    pub(super) came: Instant,
    pub(super) reply: oneshot::Sender<Result<Stored, StoreError>>,
    /// The batch's part of the queue, given back when it is answered.
    pub(super) room: OwnedSemaphorePermit,
}

/// A batch that is written but not synced.
struct Unsynced {
    stored: Stored,
    reply: oneshot::Sender<Result<Stored, StoreError>>,
    room: OwnedSemaphorePermit,
}

/// Looks up how many bytes are free where the store lives.
pub(super) type FreeBytes = Box<dyn Fn() -> std::io::Result<u64> + Send>;

/// The thread's own state; nothing of it is shared but the counters and the state others read.
pub(super) struct Writer {
    db: Arc<Db>,
    counters: Arc<Counters>,
    state: Arc<Mutex<StoreState>>,
    free_bytes: FreeBytes,
    free_bytes_min: u64,
    space_seen: Option<Instant>,
    space_bytes: usize,
    /// The free bytes when last found too few.
    full: Option<u64>,
    unsynced: VecDeque<Unsynced>,
    unsynced_bytes: usize,
    /// When the first of the unsynced came.
    unsynced_since: Option<Instant>,
    synced_at: Option<Instant>,
    /// When to try again to sync what a full disk did not let be synced.
    sync_retry_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        db: Arc<Db>,
        counters: Arc<Counters>,
        state: Arc<Mutex<StoreState>>,
        free_bytes: FreeBytes,
        free_bytes_min: u64,
    ) -> Self {
        Self {
            db,
            counters,
            state,
            free_bytes,
            free_bytes_min,
            space_seen: None,
            space_bytes: 0,
            full: None,
            unsynced: VecDeque::new(),
            unsynced_bytes: 0,
            unsynced_since: None,
            synced_at: None,
            sync_retry_at: None,
        }
    }

    /// Works until it is told to close, has nobody left to work for, or a sync fails.
    pub(super) fn run(mut self, jobs: &Receiver) {
        let _noticed = PanicNoticed(Arc::clone(&self.state));
        loop {
            let paced = self.synced_at.map(|at| at + COMMIT_PACE);
            let paced = paced.filter(|_| self.sync_retry_at.is_none());
            let mut taken = jobs.take(paced, self.sync_retry_at, now);
            match self.work(&mut taken) {
                Ok(false) => {}
                Ok(true) => {
                    self.set_state(StoreState::Closed);
                    return;
                }
                Err(reason) => {
                    self.fail(&reason, taken.into_iter().chain(jobs.close()));
                    return;
                }
            }
        }
    }

    /// Appends what was taken and commits it; says whether that was the end.
    fn work(&mut self, jobs: &mut VecDeque<Job>) -> Result<bool, String> {
        while let Some(job) = jobs.pop_front() {
            match job {
                Job::Append(append) => self.append(append, now())?,
                Job::Close => {
                    self.commit(now)?;
                    return Ok(true);
                }
            }
            if self.unsynced_bytes >= COMMIT_BYTES_MAX {
                self.commit_if_due()?;
            }
        }
        self.commit_if_due()?;
        Ok(false)
    }

    /// Commits, unless a full disk says to wait.
    fn commit_if_due(&mut self) -> Result<(), String> {
        match self.sync_retry_at {
            Some(at) if now() < at => Ok(()),
            _ => self.commit(now),
        }
    }

    /// Appends a batch; an error is the end of the store.
    fn append(&mut self, append: Append, now: Instant) -> Result<(), String> {
        let samples = samples(&append.batch, &append.histograms);
        let bytes = bytes(&append.batch, &append.histograms);
        if let Some(free_bytes) = self.too_little_space(bytes, now) {
            add(&self.counters.disk_full_samples, samples);
            let free_bytes_min = self.free_bytes_min;
            answer(append.reply, Err(StoreError::DiskFull { free_bytes, free_bytes_min }));
            return Ok(());
        }
        match self.db.append_with(&append.batch, &append.histograms) {
            Ok(done) => {
                let stored = Stored {
                    stored: done.stored,
                    duplicate: done.duplicate,
                    conflicting: done.conflicting,
                    too_old: done.too_old,
                };
                let Append { reply, room, came, .. } = append;
                self.unsynced.push_back(Unsynced { stored, reply, room });
                self.unsynced_bytes += bytes;
                self.unsynced_since.get_or_insert(came);
            }
            Err(AppendError::DiskFull(_)) => {
                let free_bytes = self.no_room_left(now);
                let free_bytes_min = self.free_bytes_min;
                add(&self.counters.disk_full_samples, samples);
                answer(append.reply, Err(StoreError::DiskFull { free_bytes, free_bytes_min }));
            }
            Err(AppendError::Stopped(error)) => {
                let reason = error_chain(&error);
                add(&self.counters.unavailable_samples, samples);
                answer(append.reply, Err(StoreError::Failed { reason: reason.clone() }));
                return Err(reason);
            }
            Err(error) => {
                add(&self.counters.refused_samples, samples);
                answer(append.reply, Err(StoreError::Append(error)));
            }
        }
        Ok(())
    }

    /// Makes everything appended durable and answers for it.
    fn commit(&mut self, now: fn() -> Instant) -> Result<(), String> {
        let Some(since) = self.unsynced_since else { return Ok(()) };
        let bytes = self.unsynced_bytes;
        let span = tracing::debug_span!("commit", batches = self.unsynced.len(), bytes);
        if let Err(error) = span.in_scope(|| self.db.sync()) {
            let full = matches!(error, DbError::DiskFull(_));
            if !full {
                return Err(error_chain(&error));
            }
            self.sync_later(now());
            return Ok(());
        }
        let done = now();
        self.unsynced_since = None;
        self.sync_retry_at = None;
        self.synced_at = Some(done);
        self.unsynced_bytes = 0;
        self.counters.committed(done.saturating_duration_since(since));
        for Unsynced { stored, reply, room } in self.unsynced.drain(..) {
            self.counters.stored(stored);
            drop(room);
            answer(reply, Ok(stored));
        }
        Ok(())
    }

    /// The disk has no room for the log's last bytes: those who wait go on waiting, nothing more is
    /// taken, and the sync is tried again in a while.
    fn sync_later(&mut self, now: Instant) {
        self.no_room_left(now);
        self.sync_retry_at = Some(now + FREE_SPACE_PACE);
    }

    /// Takes note that a write found no room, whatever the file system says is free.
    fn no_room_left(&mut self, now: Instant) -> u64 {
        let free_bytes = (self.free_bytes)().unwrap_or(0);
        if self.full.is_none() {
            tracing::error!(free_bytes, "a write found the disk full, nothing is accepted");
            self.set_state(StoreState::DiskFull { free_bytes });
        }
        self.full = Some(free_bytes);
        self.space_seen = Some(now);
        self.space_bytes = 0;
        free_bytes
    }

    /// The free bytes when they are too few. Looked up at intervals of time and of bytes appended.
    fn too_little_space(&mut self, bytes: usize, now: Instant) -> Option<u64> {
        self.space_bytes += bytes;
        let fresh = |seen: Instant| now.saturating_duration_since(seen) < FREE_SPACE_PACE;
        if self.space_seen.is_some_and(fresh) && self.space_bytes < FREE_SPACE_BYTES {
            return self.full;
        }
        self.space_seen = Some(now);
        self.space_bytes = 0;
        let free_bytes = match (self.free_bytes)() {
            Ok(free_bytes) => free_bytes,
            Err(error) => {
                tracing::warn!(%error, "cannot look up free disk space");
                return self.full;
            }
        };
        let full = (free_bytes < self.free_bytes_min).then_some(free_bytes);
        match (self.full.is_some(), full) {
            (false, Some(free_bytes)) => {
                let free_bytes_min = self.free_bytes_min;
                tracing::error!(free_bytes, free_bytes_min, "disk is full, nothing is accepted");
                self.set_state(StoreState::DiskFull { free_bytes });
            }
            (true, None) => {
                tracing::info!(free_bytes, "there is room on disk again, accepting");
                self.set_state(StoreState::Open);
            }
            _ => {}
        }
        self.full = full;
        full
    }

    /// Ends for good: says so to everyone who waits, and to everyone who comes, by the state.
    fn fail(&mut self, reason: &str, jobs: impl Iterator<Item = Job>) {
        tracing::error!(reason, "the store has failed and takes nothing more until a restart");
        self.set_state(StoreState::Failed(reason.to_owned()));
        let failed = || Err(StoreError::Failed { reason: reason.to_owned() });
        for waiting in self.unsynced.drain(..) {
            let Stored { stored, duplicate, conflicting, too_old } = waiting.stored;
            let samples = stored + duplicate + conflicting + too_old;
            add(&self.counters.unavailable_samples, samples);
            answer(waiting.reply, failed());
        }
        for job in jobs {
            if let Job::Append(append) = job {
                add(&self.counters.unavailable_samples, samples(&append.batch, &append.histograms));
                answer(append.reply, failed());
            }
        }
    }

    fn set_state(&self, state: StoreState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// Turns a panic of the writer into a state others see.
struct PanicNoticed(Arc<Mutex<StoreState>>);

impl Drop for PanicNoticed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the writer panicked".to_owned();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = StoreState::Failed(reason);
        }
    }
}

/// A caller that no longer listens loses only the answer.
fn answer(reply: oneshot::Sender<Result<Stored, StoreError>>, result: Result<Stored, StoreError>) {
    drop(reply.send(result));
}

pub(super) fn samples(batch: &Batch, histograms: &[HistogramSample]) -> u64 {
    let floats = batch.rows.iter().map(|row| row.samples.len() as u64).sum::<u64>();
    floats + histograms.len() as u64
}

fn bytes(batch: &Batch, histograms: &[HistogramSample]) -> usize {
    let rows = batch.rows.iter().map(|row| 16 + 12 * row.samples.len());
    let marks = batch.marks.iter().map(|mark| mark.key.len() + mark.value.len());
    let histograms = histograms.iter().map(HistogramSample::bytes);
    rows.chain(marks).chain(histograms).sum()
}

#[expect(clippy::disallowed_methods, reason = "this thread is the driver: it paces the syncs")]
pub(super) fn now() -> Instant {
    Instant::now()
}
