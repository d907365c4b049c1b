//! The agent's spool: streams of records that wait on disk until somebody far away has them.
//!
//! A record is opaque; beside it stands a [`Stamp`]: the epoch it belongs to, its sequence numbers in it,
//! how many samples it carries and of what time. Each stream is a log of its own in
//! `stream-NN/`, so one stream's backlog never holds another's segments. A record acknowledged is kept
//! until it is forgotten or its place is needed, and can be asked for again ([`Queue::rewind`]).
//!
//! Nothing is lost in silence: what a full disk, a failed write or damage takes is a [`Dropped`],
//! and [`Queue::totals`] balances at every moment. It never knows what a record means, what
//! time it is, or where records go; formats are in `docs/formats/spool.md`.
//!
//! Bounds: [`QueueOptions`]. A record is in the hands of the operating system when `push` returns
//! and durable when `sync` does. Memory: 80 bytes per record on disk, and one record.

mod note;
mod recovery;
mod stream;
mod totals;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::create_dir_durable;
use crate::{Disk, WalError, WalOptions};
use note::RECORD_FIELDS_BYTES;
pub use recovery::{Recovery, StreamRecovery};
use recovery::{recover, stream_dir, stream_of_name};
use stream::Stream;
pub use totals::{Count, Totals};

/// One life of the producer: 128 random bits, drawn anew by each process.
pub type Epoch = [u8; 16];

/// Damaged segments put aside are kept up to this many; then the first by name goes. They count
/// towards [`QueueOptions::bytes_max`].
const QUARANTINE_FILES_MAX: usize = 8;
const QUARANTINE: &str = "quarantine";
/// What a record takes on disk beside its payload.
const RECORD_OVERHEAD_BYTES: u64 = (RECORD_FIELDS_BYTES + crate::record::HEADER_BYTES) as u64;

/// The limits of a queue, all streams together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Bytes on disk; when reached, the oldest goes.
    pub bytes_max: u64,
    /// What goes at once. At most a sixteenth of `bytes_max`.
    pub segment_bytes_max: u32,
    /// A longer payload is dropped as [`DropReason::TooLong`].
    pub record_bytes_max: u32,
    /// Records on disk, each of which costs 80 bytes of memory.
    pub records_max: u64,
    /// When the disk has fewer bytes free than this, acknowledged records go; if that does not help,
    /// new ones are dropped as [`DropReason::NoSpace`].
    pub free_bytes_min: u64,
    /// The streams whose unacknowledged records may go when the queue is full, in that order. The
    /// others are never evicted: when only they are left, new records are dropped.
    pub evict: Vec<u8>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            segment_bytes_max: 4 << 20,
            record_bytes_max: 1 << 20,
            records_max: 1 << 17,
            free_bytes_min: 256 << 20,
            evict: Vec::new(),
        }
    }
}

/// What the producer says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer's life.
    pub epoch: Epoch,
    /// The first sequence number in the record. Numbers of an epoch grow from record to record.
    pub seq_first: u64,
    /// The last one.
    pub seq_last: u64,
    /// Samples in it, or whatever the producer counts.
    pub samples: u64,
    /// The time of its first sample, in ms.
    pub t_first_ms: i64,
    /// The time of its last sample, in ms.
    pub t_last_ms: i64,
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// Its place in the stream: ask for what follows with this plus one.
    pub number: u64,
    /// As it was pushed.
    pub stamp: Stamp,
    /// As it was pushed.
    pub payload: Vec<u8>,
}

/// What stands next in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Spooled),
    /// A record that turned out to be damaged, and is gone. Ask again.
    Dropped(Dropped),
}

/// A run of records of one epoch that are lost, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Their stream.
    pub stream: u8,
    /// Their epoch. Records lost between two epochs are told under the older.
    pub epoch: Epoch,
    /// The first sequence number lost.
    pub seq_first: u64,
    /// The last one; `u64::MAX` when only the end of the epoch is known to follow.
    pub seq_last: u64,
    /// Records.
    pub records: u64,
    /// Samples in them.
    pub samples: u64,
    /// The time of the first sample, or of the last before it.
    pub t_first_ms: i64,
    /// The time of the last sample, or of the first after it.
    pub t_last_ms: i64,
    /// Bytes of payload; 0 when not known.
    pub bytes: u64,
    /// Why.
    pub reason: DropReason,
}

/// Why records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was full.
    Full,
    /// The disk has too little free, and others have the rest.
    NoSpace,
    /// The payload is over [`QueueOptions::record_bytes_max`].
    TooLong,
    /// The disk refused to write or to sync.
    WriteFailed,
    /// The disk gave back something else.
    Damaged,
    /// The reader gave it up ([`Queue::discard`]).
    Discarded,
}

/// What an operation cost, and what went wrong on the way.
#[derive(Debug, Default)]
#[must_use = "what was dropped must be accounted for"]
pub struct Outcome {
    /// Records that were lost, the pushed one included if it was refused.
    pub dropped: Vec<Dropped>,
    /// The last failure of the disk. The queue goes on.
    pub error: Option<QueueError>,
}

/// Why the queue could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// A directory could not be made or listed.
    #[error("cannot open the spool in {}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// A segment could not be opened for reading. Its records are still in the spool.
    #[error("cannot read the spool segment {}", path.display())]
    Read {
        /// The segment file.
        path: PathBuf,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// The log of a stream failed; the next push opens it anew.
    #[error("cannot write to the spool")]
    Log(#[source] WalError),
}

/// A spool, open for both ends. One per directory.
#[derive(Debug)]
pub struct Queue {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: QueueOptions,
    streams: BTreeMap<u8, Stream>,
    /// Segments put aside, with their lengths.
    quarantine: Vec<(PathBuf, u64)>,
    /// Segments put aside since the opening.
    quarantined: u64,
}

impl Queue {
    /// Opens the spool in `dir`, making it if need be, and says what it found. An error only when
    /// the directory itself cannot be used: damage in it is reported, never fatal.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: QueueOptions,
    ) -> Result<(Self, Recovery), QueueError> {
        let open_error =
            |source| QueueError::Open { dir: dir.to_owned(), source: Arc::new(source) };
        create_dir_durable(&*disk, dir).map_err(open_error)?;
        let names = disk.list(dir).map_err(open_error)?;
        let mut queue = Self {
            disk,
            dir: dir.to_owned(),
            options,
            streams: BTreeMap::new(),
            quarantine: Vec::new(),
            quarantined: 0,
        };
        let mut recovery = Recovery::default();
        for id in names.iter().filter_map(|name| stream_of_name(name)) {
            let (dir, options) = (stream_dir(&queue.dir, id), queue.wal_options());
            let stream = recover(id, dir, &queue.disk, options, &mut recovery);
            queue.streams.insert(id, stream);
        }
        queue.find_quarantine();
        let mut outcome = Outcome::default();
        for stream in queue.streams.values_mut() {
            outcome.take(stream.sync());
        }
        queue.remove_empty(&mut outcome);
        recovery.dropped.extend(outcome.dropped);
        recovery.errors.extend(outcome.error);
        Ok((queue, recovery))
    }

    /// Takes a record to the end of a stream. When it returns the operating system has it, or the
    /// outcome says that it was dropped.
    pub fn push(&mut self, stream: u8, stamp: Stamp, payload: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        let refused = self.try_push(stream, stamp, payload, &mut outcome);
        let bytes = payload.len() as u64;
        let totals = &mut self.stream(stream).totals;
        totals.pushed.add(Count::of(&stamp, bytes));
        if let Some(reason) = refused {
            totals.dropped.add(Count::of(&stamp, bytes));
            outcome.dropped.push(Dropped::of(stream, &stamp, bytes, reason));
        }
        outcome
    }

    /// Makes all records durable, and what is known of acknowledgements.
    pub fn sync(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        for stream in self.streams.values_mut() {
            outcome.take(stream.sync());
        }
        outcome
    }

    /// The first record of a stream that waits to be acknowledged, at or after a number; 0 is the
    /// oldest. An error is the disk's and passes or not; nothing is lost by it.
    pub fn peek_from(&mut self, stream: u8, number: u64) -> Result<Option<Item>, QueueError> {
        self.streams.get_mut(&stream).map_or(Ok(None), |stream| stream.peek_from(number))
    }

    /// All of an epoch up to `seq` is safe elsewhere. Returns what that acknowledges. The
    /// knowledge is durable by the next [`Queue::sync`]; lost, it costs sending again.
    pub fn ack_through(&mut self, stream: u8, epoch: Epoch, seq: u64) -> Count {
        self.stream(stream).ack_through(epoch, seq)
    }

    /// The other side has less of an epoch than it acknowledged: what follows `through` (`None`: all)
    /// and is still kept waits again. Returns what that is; it is found by `peek_from` from 0.
    pub fn rewind(&mut self, stream: u8, epoch: Epoch, through: Option<u64>) -> Count {
        self.stream(stream).rewind(epoch, through)
    }

    /// Gives up a record that waits: it is lost, is told once, and does not come back by a rewind
    /// or, from the next [`Queue::sync`] on, by a restart. `None` when no record of that number waits.
    pub fn discard(&mut self, stream: u8, number: u64) -> Option<Dropped> {
        self.streams.get_mut(&stream)?.discard(number)
    }

    /// The newest record of each epoch that has any in a stream, acknowledged or not.
    #[must_use]
    pub fn newest(&self, stream: u8) -> Vec<Stamp> {
        self.streams.get(&stream).map(Stream::newest).unwrap_or_default()
    }

    /// Removes the oldest segments of each stream in which everything is acknowledged and older than
    /// `t_ms`.
    pub fn forget_acked_before(&mut self, t_ms: i64) -> Outcome {
        let mut outcome = Outcome::default();
        for id in self.ids() {
            while self.streams.get(&id).is_some_and(|stream| {
                stream.segments.front().is_some_and(|segment| {
                    segment.unacked == 0
                        && !stream.is_current(segment)
                        && segment.t_last_ms.is_none_or(|t_last_ms| t_last_ms < t_ms)
                })
            }) {
                if !self.remove(id, 0, &mut outcome) {
                    break;
                }
            }
        }
        outcome
    }

    /// Ends the queue in good order: everything durable, and a mark that says so.
    pub fn close(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        for stream in self.streams.values_mut() {
            outcome.take(stream.close());
        }
        outcome
    }

    /// The books of all streams.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for stream in self.streams.values() {
            totals.add(&stream.totals);
        }
        totals
    }

    /// The books of one stream.
    pub fn stream_totals(&self, stream: u8) -> Totals {
        self.streams.get(&stream).map(|stream| stream.totals).unwrap_or_default()
    }

    /// The time of the oldest sample in records that wait, of one stream.
    pub fn oldest_waiting_ms(&self, stream: u8) -> Option<i64> {
        let segments = &self.streams.get(&stream)?.segments;
        let segment = segments.iter().find(|segment| segment.unacked > 0)?;
        segment.marks.iter().find(|mark| !mark.acked).map(|mark| mark.stamp.t_first_ms)
    }

    /// Bytes on disk, those put aside included.
    pub fn bytes(&self) -> u64 {
        let aside: u64 = self.quarantine.iter().map(|(_, bytes)| bytes).sum();
        aside + self.streams.values().map(Stream::bytes).sum::<u64>()
    }

    /// Damaged segments put aside since the opening.
    pub fn quarantined(&self) -> u64 {
        self.quarantined
    }

    fn ids(&self) -> Vec<u8> {
        self.streams.keys().copied().collect()
    }

    fn stream(&mut self, id: u8) -> &mut Stream {
        let options = self.wal_options();
        self.streams.entry(id).or_insert_with(|| {
            Stream::new(id, stream_dir(&self.dir, id), Arc::clone(&self.disk), options)
        })
    }

    fn wal_options(&self) -> WalOptions {
        let most = u32::try_from(self.options.bytes_max / 16).unwrap_or(u32::MAX);
        let fields = u32::try_from(RECORD_FIELDS_BYTES).unwrap_or(0);
        WalOptions {
            segment_bytes_max: self.options.segment_bytes_max.min(most),
            record_bytes_max: self.options.record_bytes_max.saturating_add(fields),
        }
    }

    fn try_push(
        &mut self,
        id: u8,
        stamp: Stamp,
        payload: &[u8],
        outcome: &mut Outcome,
    ) -> Option<DropReason> {
        if payload.len() as u64 > u64::from(self.options.record_bytes_max) {
            return Some(DropReason::TooLong);
        }
        let bytes = payload.len() as u64 + RECORD_OVERHEAD_BYTES;
        if let Some(reason) = self.make_room(bytes, outcome) {
            return Some(reason);
        }
        // Once more in a new segment: what failed may have been one bad place.
        for _ in 0..2 {
            if outcome.take(self.stream(id).append(stamp, payload)) {
                return None;
            }
        }
        Some(DropReason::WriteFailed)
    }

    /// Removes what may go until `bytes` more fit; or says why they do not.
    fn make_room(&mut self, bytes: u64, outcome: &mut Outcome) -> Option<DropReason> {
        loop {
            let records: u64 = self.streams.values().map(Stream::records).sum();
            let full = self.bytes().saturating_add(bytes) > self.options.bytes_max
                || records >= self.options.records_max;
            let free = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
            let low = free < self.options.free_bytes_min.saturating_add(bytes);
            if !full && !low {
                return None;
            }
            if self.remove_quarantined() {
                continue;
            }
            let reason = if full { DropReason::Full } else { DropReason::NoSpace };
            let victim = self.oldest_acked().or_else(|| self.oldest_evictable().filter(|_| full));
            let Some((id, at)) = victim else { return Some(reason) };
            if !self.remove(id, at, outcome) {
                return Some(reason);
            }
        }
    }

    /// The segment to go first: nothing in it waits.
    fn oldest_acked(&self) -> Option<(u8, usize)> {
        let segments = self.streams.iter().flat_map(|(id, stream)| {
            stream.segments.iter().enumerate().map(move |(at, segment)| (*id, stream, at, segment))
        });
        segments
            .filter(|(_, stream, _, segment)| {
                segment.unacked == 0 && (!segment.marks.is_empty() || !stream.is_current(segment))
            })
            .min_by_key(|(_, _, _, segment)| segment.t_last_ms)
            .map(|(id, _, at, _)| (id, at))
    }

    /// The segment to go next: the oldest of the first stream that may lose records.
    fn oldest_evictable(&self) -> Option<(u8, usize)> {
        self.options.evict.iter().find_map(|id| {
            let segments = &self.streams.get(id)?.segments;
            segments.iter().position(|segment| !segment.marks.is_empty()).map(|at| (*id, at))
        })
    }

    /// Removes a segment, or puts it aside when it is rotten; whether it is gone.
    fn remove(&mut self, id: u8, at: usize, outcome: &mut Outcome) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let Some(segment) = stream.segments.get(at) else { return false };
        let bytes = segment.bytes;
        let name = format!("{id:02x}-{:016x}.wal", segment.number);
        let quarantine = self.dir.join(QUARANTINE);
        let aside = segment.rotten.then(|| quarantine.join(name));
        if aside.is_some()
            && let Err(source) = create_dir_durable(&*self.disk, &quarantine)
        {
            outcome.error = Some(QueueError::Open { dir: quarantine, source: Arc::new(source) });
            return false;
        }
        let result = stream.remove(at, aside.as_deref());
        let gone = result.is_ok();
        match result {
            Ok(dropped) => outcome.dropped.extend(dropped),
            Err(failure) => {
                outcome.take(Err::<(), _>(failure));
            }
        }
        if let Some(path) = aside.filter(|_| gone) {
            self.quarantined += 1;
            self.quarantine.push((path, bytes));
            while self.quarantine.len() > QUARANTINE_FILES_MAX && self.remove_quarantined() {}
        }
        gone
    }

    fn find_quarantine(&mut self) {
        let dir = self.dir.join(QUARANTINE);
        for name in self.disk.list(&dir).unwrap_or_default() {
            let path = dir.join(name);
            let bytes = self.disk.open(&path).and_then(|file| file.size()).unwrap_or(0);
            self.quarantine.push((path, bytes));
        }
    }

    fn remove_quarantined(&mut self) -> bool {
        if self.quarantine.is_empty() {
            return false;
        }
        let (path, _) = self.quarantine.remove(0);
        // Whatever comes of it: one that stays is found again by the next opening.
        drop(self.disk.remove_file(&path));
        true
    }

    /// Removes the segments that hold no record: what they note was just written again.
    fn remove_empty(&mut self, outcome: &mut Outcome) {
        for id in self.ids() {
            while let Some(at) = self.streams.get(&id).and_then(|stream| {
                stream
                    .segments
                    .iter()
                    .position(|segment| segment.marks.is_empty() && !stream.is_current(segment))
            }) {
                if !self.remove(id, at, outcome) {
                    break;
                }
            }
        }
    }
}

impl Dropped {
    fn of(stream: u8, stamp: &Stamp, bytes: u64, reason: DropReason) -> Self {
        Self {
            stream,
            epoch: stamp.epoch,
            seq_first: stamp.seq_first,
            seq_last: stamp.seq_last,
            records: 1,
            samples: stamp.samples,
            t_first_ms: stamp.t_first_ms,
            t_last_ms: stamp.t_last_ms,
            bytes,
            reason,
        }
    }

    fn join(&mut self, later: &Self) {
        self.seq_last = self.seq_last.max(later.seq_last);
        self.records += later.records;
        self.samples = self.samples.saturating_add(later.samples);
        self.t_first_ms = self.t_first_ms.min(later.t_first_ms);
        self.t_last_ms = self.t_last_ms.max(later.t_last_ms);
        self.bytes += later.bytes;
    }
}

impl Outcome {
    /// Takes in a failure; whether there was none.
    fn take(&mut self, result: Result<(), stream::WriteFailure>) -> bool {
        match result {
            Ok(()) => true,
            Err(failure) => {
                self.dropped.extend(failure.dropped);
                self.error = Some(QueueError::Log(failure.error));
                false
            }
        }
    }
}
