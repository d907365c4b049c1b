//! Samples of any age on their way to blocks of their own, past head and log.
//!
//! The head takes what is new; history comes in bulk, in any order, and is due only once all of it
//! has been read. A [`Bulk`] keeps an open column per series; a column that is full, or whose next
//! sample lies in another span, is compressed and put with the others of its span. At the end
//! [`Db::write_bulk`](crate::Db::write_bulk) makes a block of each span; before that no query sees any
//! of it, and nothing is left of it when it is dropped.
//!
//! Memory: the labels of all series, [`LABEL_BYTES_MAX`] at most; [`OPEN_SAMPLES_MAX`] open samples;
//! [`HELD_BYTES_MAX`] bytes of compressed ones. What is more goes to files in a directory that the
//! next start removes, as long as the disk keeps the room it was told to. Writing takes one block's
//! compressed samples at a time, [`BLOCK_BYTES_MAX`] at most.

mod histograms;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use stoa_model::{Labels, TimestampMs};
use stoa_wal::Disk;

use crate::GroupId;
use crate::bytes::{Cursor, Malformed, put_bytes, put_varint};
use crate::checkpoint::{GroupSnapshot, MemberSnapshot};
use crate::chunk::{decode_times, encode_times, encode_values, holds_histograms};
use crate::head::{Sealed, WindowBuilder};
use histograms::Histograms;

/// Samples in open columns together, over all series: 128 MiB, twice that with what columns grow by.
const OPEN_SAMPLES_MAX: usize = 8 << 20;

/// Samples of one column before it is compressed.
const COLUMN_SAMPLES: usize = 1024;

/// Compressed samples held before they go to files.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What the samples of one block take in memory while it is made, values compressed and timestamps
/// not; of more in one span there are several.
const BLOCK_BYTES_MAX: u64 = 256 << 20;

/// What a column takes beside its timestamps and values.
const COLUMN_BYTES: usize = 192;

/// Labels of all series, in bytes of memory: some 400 000 series of ten labels.
const LABEL_BYTES_MAX: usize = 512 << 20;

/// What a series takes beside its labels' text: its place in table and list, its column.
const SERIES_BYTES: usize = 160;

/// What a label takes beside its text: two counted strings and how they are found.
const LABEL_BYTES: usize = 80;

/// The group of imported series: they share no sender.
const GROUP: GroupId = GroupId(u64::MAX);

/// Tells the directories of one process apart.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A series of a [`Bulk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BulkSeries(u32);

/// What a bulk holds and what it refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkCounts {
    /// Samples taken.
    pub taken: u64,
    /// Samples refused: older than the retention keeps.
    pub too_old: u64,
    /// Samples refused: later than they may be.
    pub too_new: u64,
    /// Series named.
    pub series: u64,
    /// The first and last instant taken; meaningless while nothing is.
    pub first_t: TimestampMs,
    /// The last one.
    pub last_t: TimestampMs,
}

/// What became of a bulk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkWritten {
    /// What it held.
    pub counts: BulkCounts,
    /// Samples that are in blocks now.
    pub written: u64,
    /// Samples left out because the bulk had their instant already; the first one stays.
    pub duplicate: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Bytes of those.
    pub block_bytes: u64,
}

/// The disk has too little room left for what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk is full: {free_bytes} bytes are free, {bytes} are to be written and \
     {free_bytes_min} must stay free; make room, then import again"
)]
pub struct NoRoom {
    /// Free now.
    pub free_bytes: u64,
    /// To be written next.
    pub bytes: u64,
    /// The floor given to [`Db::bulk`](crate::Db::bulk).
    pub free_bytes_min: u64,
}

/// Why a bulk does not take a sample.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// There are too many series.
    #[error("there are {max} series already; import in parts")]
    TooManySeries {
        /// [`Options::series_max`](crate::Options::series_max).
        max: usize,
    },
    /// The labels of all series take too much memory.
    #[error("the labels of {series} series take more than {max} bytes; import in parts")]
    LabelBytes {
        /// Series there are.
        series: usize,
        /// The most their labels may take.
        max: usize,
    },
    /// What does not fit memory must not be written, or the disk would be full.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// What does not fit memory could not be written.
    #[error("cannot write {}", path.display())]
    Spill {
        /// Where.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

/// Looks whether the disk keeps enough room.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    disk: Arc<dyn Disk>,
    db_dir: PathBuf,
    free_bytes_min: u64,
}

impl Room {
    pub(crate) fn new(disk: Arc<dyn Disk>, db_dir: &Path, free_bytes_min: u64) -> Self {
        Self { disk, db_dir: db_dir.to_owned(), free_bytes_min }
    }

    /// Whether `bytes` can be written; a disk that does not say what is free will say so by itself.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        let free_bytes = self.disk.free_bytes(&self.db_dir).unwrap_or(u64::MAX);
        if free_bytes >= self.free_bytes_min.saturating_add(bytes) {
            return Ok(());
        }
        Err(NoRoom { free_bytes, bytes, free_bytes_min: self.free_bytes_min })
    }
}

/// Samples on their way to blocks; made by [`Db::bulk`](crate::Db::bulk).
#[derive(Debug)]
pub struct Bulk {
    disk: Arc<dyn Disk>,
    room: Room,
    /// Made when first needed.
    dir: PathBuf,
    has_dir: bool,
    span_ms: i64,
    keep: (TimestampMs, TimestampMs),
    series_max: usize,
    open_samples_max: usize,
    held_bytes_max: usize,
    block_bytes_max: u64,
    label_bytes_max: usize,
    label_bytes: usize,
    by_labels: HashMap<Labels, u32>,
    labels: Vec<Labels>,
    columns: Vec<Column>,
    open_samples: usize,
    histograms: Histograms,
    held: BTreeMap<TimestampMs, Vec<u8>>,
    held_bytes: usize,
    /// Bytes of each span's file.
    spilled: BTreeMap<TimestampMs, u64>,
    counts: BulkCounts,
    times: Vec<u8>,
    values: Vec<u8>,
}

/// The samples of one series and span that are not compressed yet.
#[derive(Debug, Default)]
struct Column {
    start: TimestampMs,
    samples: Vec<(TimestampMs, f64)>,
}

impl Bulk {
    /// A bulk for blocks of `span_ms` that takes samples between the ends of `keep`, both included.
    pub(crate) fn new(
        room: Room,
        span_ms: i64,
        keep: (TimestampMs, TimestampMs),
        series_max: usize,
    ) -> Self {
        let number = NUMBER.fetch_add(1, Relaxed);
        let (first_t, last_t) = (TimestampMs::MAX, TimestampMs::MIN);
        Self {
            disk: Arc::clone(&room.disk),
            dir: room.db_dir.join(format!("bulk-{number}.tmp")),
            room,
            has_dir: false,
            span_ms,
            keep,
            series_max,
            open_samples_max: OPEN_SAMPLES_MAX,
            held_bytes_max: HELD_BYTES_MAX,
            block_bytes_max: BLOCK_BYTES_MAX,
            label_bytes_max: LABEL_BYTES_MAX,
            label_bytes: 0,
            by_labels: HashMap::new(),
            labels: Vec::new(),
            columns: Vec::new(),
            open_samples: 0,
            histograms: Histograms::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            spilled: BTreeMap::new(),
            counts: BulkCounts { first_t, last_t, ..BulkCounts::default() },
            times: Vec::new(),
            values: Vec::new(),
        }
    }

    /// The number of a series. Hold on to it: this hashes the labels, [`Self::push`] does not.
    ///
    /// # Errors
    /// [`BulkError::TooManySeries`] and [`BulkError::LabelBytes`].
    pub fn series(&mut self, labels: &Labels) -> Result<BulkSeries, BulkError> {
        if let Some(number) = self.by_labels.get(labels) {
            return Ok(BulkSeries(*number));
        }
        let too_many = BulkError::TooManySeries { max: self.series_max };
        let number = u32::try_from(self.labels.len()).ok();
        let Some(number) = number.filter(|_| self.labels.len() < self.series_max) else {
            return Err(too_many);
        };
        let bytes = labels.text_bytes() + labels.len() * LABEL_BYTES + SERIES_BYTES;
        if self.label_bytes.saturating_add(bytes) > self.label_bytes_max {
            let (series, max) = (self.labels.len(), self.label_bytes_max);
            return Err(BulkError::LabelBytes { series, max });
        }
        self.label_bytes += bytes;
        self.by_labels.insert(labels.clone(), number);
        self.labels.push(labels.clone());
        self.columns.push(Column::default());
        self.counts.series += 1;
        Ok(BulkSeries(number))
    }

    /// Takes a sample, in whatever order they come; one out of the range that is kept is counted and
    /// left out.
    ///
    /// # Errors
    /// [`BulkError::Spill`] and [`BulkError::NoRoom`]: the bulk is of no more use.
    pub fn push(&mut self, series: BulkSeries, t: TimestampMs, v: f64) -> Result<(), BulkError> {
        if !self.is_kept(t) {
            return Ok(());
        }
        let Some(column) = self.columns.get_mut(series.0 as usize) else { return Ok(()) };
        let in_column = column.start <= t && t.saturating_sub(column.start) < self.span_ms;
        if column.samples.is_empty() {
            column.start = t.div_euclid(self.span_ms).saturating_mul(self.span_ms);
        } else if !in_column || column.samples.len() >= COLUMN_SAMPLES {
            self.seal(series.0);
            if let Some(column) = self.columns.get_mut(series.0 as usize) {
                column.start = t.div_euclid(self.span_ms).saturating_mul(self.span_ms);
            }
        }
        if let Some(column) = self.columns.get_mut(series.0 as usize) {
            column.samples.push((t, v));
        }
        self.open_samples += 1;
        self.count(t);
        if self.open_samples >= self.open_samples_max {
            self.seal_all();
        }
        if self.held_bytes >= self.held_bytes_max { self.spill() } else { Ok(()) }
    }

    /// Whether an instant is in the range that is kept; counts it when it is not.
    fn is_kept(&mut self, t: TimestampMs) -> bool {
        let (too_old, too_new) = (t < self.keep.0, t > self.keep.1);
        self.counts.too_old += u64::from(too_old);
        self.counts.too_new += u64::from(too_new);
        !too_old && !too_new
    }

    fn count(&mut self, t: TimestampMs) {
        self.counts.taken += 1;
        self.counts.first_t = self.counts.first_t.min(t);
        self.counts.last_t = self.counts.last_t.max(t);
    }

    /// What it holds and refused so far.
    #[must_use]
    pub fn counts(&self) -> BulkCounts {
        self.counts
    }

    fn seal_all(&mut self) {
        for number in 0..self.columns.len() {
            self.seal(u32::try_from(number).unwrap_or(u32::MAX));
        }
        self.seal_all_histograms();
    }

    /// Compresses an open column: series, count, times, values, each with its length.
    fn seal(&mut self, number: u32) {
        let Some(column) = self.columns.get_mut(number as usize) else { return };
        if column.samples.is_empty() {
            return;
        }
        self.open_samples -= column.samples.len();
        // The column gives its memory back: of many series most have few samples, and what an empty
        // one kept would be counted by nobody.
        let mut samples = std::mem::take(&mut column.samples);
        if !samples.is_sorted_by(|(a, _), (b, _)| a < b) {
            // Stable: of one instant the sample that came first stays.
            samples.sort_by_key(|(t, _)| *t);
            samples.dedup_by_key(|(t, _)| *t);
        }
        let (times, values): (Vec<TimestampMs>, Vec<f64>) = samples.into_iter().unzip();
        self.times.clear();
        self.values.clear();
        encode_times(&times, &mut self.times);
        encode_values(&values, &mut self.values);
        let start = column.start;
        self.hold(start, number, values.len());
    }

    /// Puts a compressed column with the others of its span.
    fn hold(&mut self, start: TimestampMs, number: u32, count: usize) {
        let held = self.held.entry(start).or_default();
        let before = held.len();
        put_varint(held, u64::from(number));
        put_varint(held, count as u64);
        put_bytes(held, &self.times);
        put_bytes(held, &self.values);
        self.held_bytes += held.len() - before;
    }

    /// Moves what is compressed to one file per span: runs, each with its length in front.
    fn spill(&mut self) -> Result<(), BulkError> {
        let error = |path: &Path, source| BulkError::Spill { path: path.to_owned(), source };
        self.room.check(self.held_bytes as u64)?;
        if !self.has_dir {
            let made = self.disk.create_dir_all(&self.dir);
            made.map_err(|source| error(&self.dir, source))?;
            self.has_dir = true;
        }
        for (start, bytes) in std::mem::take(&mut self.held) {
            let path = self.path(start);
            let length = (bytes.len() as u64).to_le_bytes();
            let append = || {
                let mut file = self.disk.append(&path)?;
                file.write_all(&length)?;
                file.write_all(&bytes)
            };
            append().map_err(|source| error(&path, source))?;
            *self.spilled.entry(start).or_default() += 8 + bytes.len() as u64;
        }
        self.held_bytes = 0;
        Ok(())
    }

    fn path(&self, start: TimestampMs) -> PathBuf {
        self.dir.join(format!("{start}"))
    }

    /// Compresses what is open and says the spans there are, each by its start and end.
    pub(crate) fn spans(&mut self) -> Vec<(TimestampMs, TimestampMs)> {
        self.seal_all();
        let mut starts: Vec<TimestampMs> =
            self.held.keys().chain(self.spilled.keys()).copied().collect();
        starts.sort_unstable();
        starts.dedup();
        starts.into_iter().map(|start| (start, start.saturating_add(self.span_ms))).collect()
    }

    /// What tells whether there is room for its blocks.
    pub(crate) fn room(&self) -> Room {
        self.room.clone()
    }

    /// Hands a span's samples to `write`, as many at once as one block holds, and how many bytes
    /// they are.
    pub(crate) fn take_span<E: From<io::Error>>(
        &mut self,
        start: TimestampMs,
        mut write: impl FnMut(GroupSnapshot, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut gathered = Gathered::default();
        if let Some(len) = self.spilled.remove(&start) {
            let path = self.path(start);
            let file = self.disk.open(&path)?;
            let mut at = 0;
            while at < len {
                let mut length = [0; 8];
                file.read_exact_at(&mut length, at)?;
                let length = u64::from_le_bytes(length);
                let mut run = vec![0; usize::try_from(length).unwrap_or(0)];
                file.read_exact_at(&mut run, at + 8)?;
                at += 8 + length;
                self.gather(&run, &mut gathered, &mut write)?;
            }
            drop(file);
            self.disk.remove_file(&path)?;
        }
        if let Some(held) = self.held.remove(&start) {
            self.gather(&held, &mut gathered, &mut write)?;
        }
        self.hand_over(gathered, &mut write)
    }

    /// Reads a run; hands over what is gathered whenever it is a block's worth.
    fn gather<E: From<io::Error>>(
        &self,
        run: &[u8],
        gathered: &mut Gathered,
        write: &mut impl FnMut(GroupSnapshot, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursor = Cursor::new(run);
        while cursor.len() > 0 {
            gathered
                .take(&mut cursor)
                .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
            if gathered.memory_bytes as u64 >= self.block_bytes_max {
                self.hand_over(std::mem::take(gathered), write)?;
            }
        }
        Ok(())
    }

    /// Hands over columns as the head would.
    fn hand_over<E>(
        &self,
        gathered: Gathered,
        write: &mut impl FnMut(GroupSnapshot, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        if gathered.members.is_empty() {
            return Ok(());
        }
        let member = |(number, sealed): (u32, Vec<Sealed>)| {
            let labels = self.labels.get(number as usize).cloned().unwrap_or_default();
            MemberSnapshot { labels, sealed }
        };
        let members = gathered.members.into_iter().map(member).collect();
        write(GroupSnapshot { id: GROUP, members }, gathered.bytes)
    }
}

/// The columns of one block.
#[derive(Default)]
struct Gathered {
    members: BTreeMap<u32, Vec<Sealed>>,
    /// Timestamps, by how they are encoded and how many they are, each with a number of their own:
    /// series read at the same instants share them, here as in the block.
    times: HashMap<Vec<u8>, (u64, Arc<[TimestampMs]>)>,
    /// Compressed.
    bytes: u64,
    /// With timestamps decoded.
    memory_bytes: usize,
}

impl Gathered {
    /// Takes one column; columns of equal timestamps get the same serial number, under which a block
    /// writer remembers what it has decoded.
    fn take(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let before = cursor.len();
        let number = cursor.varint_u32()?;
        let count = usize::try_from(cursor.varint()?).ok().ok_or(Malformed("count too large"))?;
        let (times, values) = (cursor.bytes()?, cursor.bytes()?);
        self.bytes += (before - cursor.len()) as u64;
        self.memory_bytes += values.len() + COLUMN_BYTES;
        let next = self.times.len() as u64;
        let mut key = times.to_vec();
        put_varint(&mut key, count as u64);
        let key_bytes = key.len();
        let (serial, times) = match self.times.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let mut decoded = Vec::new();
                decode_times(times, count, &mut decoded)?;
                self.memory_bytes += key_bytes + size_of_val(decoded.as_slice());
                new.insert((next, decoded.into()))
            }
        };
        let mut window = WindowBuilder::default();
        if holds_histograms(values) {
            let _fits = window.push_histograms(0, count, None, values);
        } else {
            window.push(0, count, None, |out| out.extend_from_slice(values));
        }
        let sealed = Arc::new(window.finish(*serial, times)).sealed(0);
        let sealed = sealed.ok_or(Malformed("column over 64 KiB"))?;
        self.members.entry(number).or_default().push(sealed);
        Ok(())
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        if self.has_dir {
            // What cannot be removed now is by the next start.
            drop(self.disk.remove_dir_all(&self.dir));
        }
    }
}

#[cfg(test)]
mod tests;
