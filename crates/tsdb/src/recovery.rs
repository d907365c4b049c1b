//! Bringing the head back: the checkpoint, then the log after it.
//!
//! Recovery never fails because of what it reads. A damaged record costs itself; its bytes are copied
//! to `quarantine/` before the log moves on. Marks are never ahead of their samples: after damage to
//! bytes that were durable once, later marks of that log are not believed, so that a sender resends
//! what may be missing and the samples it repeats are recognised one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_wal::{DamageReason, Disk, Entry, Reader};

use crate::bytes::{Cursor, Malformed};
use crate::checkpoint::{
    self, KIND_CHUNKS, KIND_END, KIND_FILES, KIND_HEAD, KIND_OPEN, KIND_PLACES, KIND_WINDOWS,
    OpenKind, PlaceRecord, checkpoint_dir, segment_of_name,
};
use crate::chunk::decode_values;
use crate::damage::{Cost, Damage, LISTED_MAX};
use crate::head::{Head, Place, Presence, split_stored, stored_histograms};
use crate::head_file::{self, CRC_BYTES, HeadFile, check};
use crate::quarantine;
use crate::record::{
    self, BatchRecord, HistogramsRecord, KIND_BATCH, KIND_HISTOGRAMS, KIND_MARKS, KIND_SERIES,
    SEQUENCE_MAX,
};
use crate::{GroupId, HistogramSample, Options, Row, SeriesRef};

/// Places copied aside at one start: more is a disk that is gone, not a damaged one.
const QUARANTINED_MAX: usize = 1000;
/// References left out where it is not known which ones were given: more than a head ever gives between
/// two checkpoints.
const REFS_GAP: u32 = 1 << 26;
/// They are read in pieces of this size.
const PIECE_BYTES: usize = 4096;
/// Damaged bytes copied aside per place.
const QUARANTINE_BYTES_MAX: u64 = 16 << 20;

/// What was found when a database was opened.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Series in the head.
    pub series: u64,
    /// Samples in the head.
    pub samples: u64,
    /// Marks held.
    pub marks: u64,
    /// Blocks opened.
    pub blocks: u64,
    /// Blocks that could not be read this time, and why: not damaged as far as anybody knows, left
    /// where they are, and opened by a later maintenance.
    pub unread: Vec<String>,
    /// Records applied, of checkpoint and log.
    pub records: u64,
    /// Samples whose series' definition was lost to damage; gone.
    pub samples_orphaned: u64,
    /// Places where bytes that had been durable are damaged or missing.
    pub damaged: u64,
    /// Those of them in log and checkpoint.
    pub log_damaged: u64,
    /// Blocks set aside, of samples and of tiers.
    pub blocks_quarantined: u64,
    /// Places where a crash cut off what was not durable yet: nothing of it was acknowledged.
    pub torn: u64,
    /// Chunks of files of the head that are damaged or missing; their samples are gone.
    pub chunks_damaged: u64,
    /// Marks are as they were before the damage; those written after it in that log are not believed.
    pub marks_held_back: bool,
    /// The first thousand damaged places, for a person to read.
    pub damage: Vec<Damage>,
    /// What was moved or copied aside, under `quarantine/`.
    pub quarantined: Vec<PathBuf>,
    /// Unfinished files of an earlier process that were removed.
    pub unfinished_removed: u64,
}

impl Recovery {
    pub(crate) fn damage(&mut self, damage: Damage) {
        self.damaged += 1;
        self.log_damaged += u64::from(matches!(damage.cost, Cost::Records { .. }));
        self.quarantined.extend(damage.kept.clone());
        if self.damage.len() < LISTED_MAX {
            self.damage.push(damage);
        }
    }

    /// The same of a block that was to be set aside.
    pub(crate) fn block_damage(&mut self, damage: Damage) {
        self.blocks_quarantined += u64::from(damage.kept.is_some());
        self.damage(damage);
    }

    /// A block that was told before has been set aside.
    pub(crate) fn set_aside(&mut self, block: &Path, kept: PathBuf) {
        self.blocks_quarantined += 1;
        self.quarantined.push(kept.clone());
        if let Some(damage) = self.damage.iter_mut().find(|damage| damage.path == block) {
            damage.kept = Some(kept);
        }
    }
}

/// What a block says about samples it holds: those of its range that the log has before a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) start: TimestampMs,
    pub(crate) end: TimestampMs,
    pub(crate) log_before: u64,
}

/// Applies checkpoint and log to an empty head.
pub(crate) struct Replay<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) dir: &'a Path,
    pub(crate) covered: &'a [Covered],
    pub(crate) head: Head,
    pub(crate) recovery: Recovery,
    /// The last sequence number seen.
    pub(crate) sequence: u64,
    /// Marks are not believed until the log says all of them again.
    marks_frozen: bool,
    /// Something of the checkpoint, or of the files it names, could not be read or was damaged.
    pub(crate) checkpoint_damaged: bool,
    /// The newest tick of what the checkpoint holds, which may be more than it is to know.
    checkpoint_max_t: TimestampMs,
    head_seen: bool,
    /// The checkpoint's windows of version 1 by their number in it.
    windows: BTreeMap<u64, ChunksOfWindow>,
    /// Files of chunks the checkpoint names: by number, unless one cannot be opened.
    files: BTreeMap<u64, Option<Arc<HeadFile>>>,
    end_seen: bool,
    /// Segments of the log of which nothing was read, though they are there.
    pub(crate) log_unread: BTreeSet<u64>,
}

/// A window of version 1 while its chunks are collected.
#[derive(Debug)]
struct ChunksOfWindow {
    group: GroupId,
    times: Vec<TimestampMs>,
    chunks: Vec<(SeriesRef, Vec<u8>)>,
}

impl<'a> Replay<'a> {
    pub(crate) fn new(
        disk: &'a Arc<dyn Disk>,
        dir: &'a Path,
        options: &'a Options,
        covered: &'a [Covered],
        recovery: Recovery,
    ) -> Self {
        Self {
            disk,
            dir,
            covered,
            head: Head::new(options.clone()),
            recovery,
            sequence: 0,
            marks_frozen: false,
            checkpoint_damaged: false,
            checkpoint_max_t: TimestampMs::MIN,
            head_seen: false,
            windows: BTreeMap::new(),
            files: BTreeMap::new(),
            end_seen: false,
            log_unread: BTreeSet::new(),
        }
    }

    /// The numbers of the files of chunks the checkpoint names.
    pub(crate) fn files_named(&self) -> BTreeSet<u64> {
        self.files.keys().copied().collect()
    }

    /// Files of chunks the checkpoint names whose header, which nobody needs, is damaged.
    pub(crate) fn headers_damaged(&self) -> impl Iterator<Item = u64> {
        let is_plain = |file: &Arc<HeadFile>| file.header_is_plain();
        self.files.values().flatten().filter(move |file| !is_plain(file)).map(|file| file.number)
    }

    /// Applies the newest checkpoint among the names of the directory, if there is one, and says
    /// the segment from which the log goes on.
    pub(crate) fn checkpoint(&mut self, names: &[String]) -> u64 {
        let Some(segment) = names.iter().filter_map(|name| segment_of_name(name)).max() else {
            return 0;
        };
        let path = checkpoint_dir(self.dir, segment);
        let damaged_before = self.recovery.damaged;
        self.read(&path, 0, Some(segment));
        if !self.end_seen {
            self.recovery.damage(Damage::new(&path, "its end is missing", self.records()));
            self.marks_frozen = true;
        }
        for window in std::mem::take(&mut self.windows).into_values() {
            let chunks = window.chunks.iter().map(|(series, stored)| (*series, stored.as_slice()));
            let restored = self.head.restore_chunks(window.group, &window.times, chunks);
            self.count_restored(&path, restored);
        }
        if !self.head_seen {
            self.head.raise_max_t(self.checkpoint_max_t);
        }
        self.checkpoint_damaged = self.recovery.damaged > damaged_before;
        segment
    }

    fn count_restored(&mut self, path: &Path, (damaged, orphaned): (u64, u64)) {
        for _ in 0..damaged {
            let cost = Cost::Chunks { chunks: 1, times: None };
            self.recovery.damage(Damage::new(path, "a chunk does not decode", cost));
        }
        self.recovery.chunks_damaged += damaged;
        self.recovery.samples_orphaned += orphaned;
    }

    /// Applies the log from a segment on.
    pub(crate) fn log(&mut self, log_dir: &Path, from_segment: u64) {
        self.read(log_dir, from_segment, None);
        if (self.checkpoint_damaged && !self.head_seen) || !self.log_unread.is_empty() {
            // The references it says are taken may be known again to the next start.
            let last = self.head.next_ref().saturating_add(REFS_GAP);
            self.head.reserve_ref(SeriesRef(last));
        }
        self.recovery.marks_held_back = self.marks_frozen;
        self.recovery.series = self.head.series_count() as u64;
        self.recovery.samples = self.head.footprint().0;
        self.recovery.marks = self.head.marks.len() as u64;
    }

    fn read(&mut self, dir: &Path, from_segment: u64, checkpoint: Option<u64>) {
        use DamageReason::{Misplaced, Unreadable, Version};
        let reader = match Reader::open(Arc::clone(self.disk), dir, from_segment) {
            Ok(reader) => reader,
            Err(error) => {
                self.recovery.damage(Damage::new(dir, error.to_string(), self.records()));
                self.marks_frozen = true;
                return;
            }
        };
        // A segment whose unsynced tail is torn: nothing after that was acknowledged either.
        let mut torn_segment = None;
        for entry in reader {
            match entry {
                Entry::Record { position, .. } if torn_segment == Some(position.segment) => {}
                Entry::Record { position, kind, payload } => {
                    // Everything a checkpoint holds was in the log before its segment.
                    let segment = checkpoint.map_or(position.segment, |at| at.saturating_sub(1));
                    if let Err(malformed) = self.record(segment, kind, &payload) {
                        let path = dir.join(format!("{:016x}.wal", position.segment));
                        let damage = Damage::new(path, malformed.to_string(), self.records());
                        self.recovery.damage(damage.at(position.offset, 0));
                        self.marks_frozen = true;
                    }
                }
                Entry::Damage { segment, offset, bytes, reason, synced } => {
                    let in_checkpoint = checkpoint.is_some();
                    if synced || in_checkpoint {
                        let is_unread = matches!(reason, Unreadable | Version(_) | Misplaced(_));
                        let kept = if is_unread && !in_checkpoint {
                            // Set aside whole before the log is cut there.
                            self.log_unread.insert(segment);
                            None
                        } else {
                            self.set_aside(dir, segment, offset, bytes)
                        };
                        let damage =
                            log_damage(dir, segment, offset, bytes, reason, self.records());
                        self.recovery.damage(damage.kept(kept));
                        self.marks_frozen |= reason != DamageReason::SegmentHeader;
                    } else {
                        self.recovery.torn += 1;
                        torn_segment = Some(segment);
                    }
                }
            }
        }
    }

    /// What it costs to lose the records that come next.
    fn records(&self) -> Cost {
        Cost::Records { after: Some(self.head.max_t()).filter(|t| *t != TimestampMs::MIN) }
    }

    fn record(&mut self, segment: u64, kind: u8, payload: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(payload);
        let sequence = cursor.varint()?;
        if sequence != 0 {
            if sequence <= self.sequence {
                return Ok(());
            }
            if sequence > SEQUENCE_MAX {
                return Err(Malformed("sequence number nobody counted to"));
            }
            self.sequence = sequence;
        }
        match kind {
            KIND_SERIES => self.series(&mut cursor)?,
            KIND_BATCH => {
                self.batch(segment, BatchRecord::get(&mut cursor)?, Vec::new());
            }
            KIND_HISTOGRAMS => {
                let record = HistogramsRecord::get(&mut cursor)?;
                self.batch(segment, record.batch, record.histograms);
            }
            KIND_MARKS => self.marks(&mut cursor)?,
            KIND_HEAD => {
                let head = checkpoint::get_head(&mut cursor)?;
                if head.sequence > SEQUENCE_MAX {
                    return Err(Malformed("sequence number nobody counted to"));
                }
                self.head_seen = true;
                self.sequence = head.sequence;
                self.head.raise_max_t(head.max_t);
                if let Some(last) = head.next_ref.checked_sub(1) {
                    self.head.reserve_ref(SeriesRef(last));
                }
            }
            KIND_WINDOWS => self.windows(segment, &mut cursor)?,
            KIND_CHUNKS => self.chunks(&mut cursor)?,
            KIND_PLACES => self.places(segment, &mut cursor)?,
            KIND_OPEN => self.open(segment, &mut cursor)?,
            KIND_FILES => self.lengths(&mut cursor)?,
            KIND_END => {
                let _records = cursor.varint()?;
                self.end_seen = true;
            }
            _ => return Err(Malformed("unknown kind of record")),
        }
        self.recovery.records += 1;
        cursor.end()
    }

    /// Compares the lengths of files of chunks that the checkpoint names. What is too much nobody refers
    /// to; what is missing is missed by its chunks, if there are any.
    fn lengths(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        for (number, was) in checkpoint::get_files(cursor)? {
            if !self.files.contains_key(&number) {
                continue;
            }
            // One that cannot be opened was told of by its places.
            let Ok(file) = self.disk.open(&head_file::path(self.dir, number)) else { continue };
            let Ok(is) = file.size() else { continue };
            if is == was {
                continue;
            }
            let what = if is > was { "more than was written" } else { "cut off" };
            let mut tail = vec![
                0;
                usize::try_from(is.saturating_sub(was).min(QUARANTINE_BYTES_MAX))
                    .unwrap_or(0)
            ];
            let mut kept = None;
            if !tail.is_empty() && file.read_exact_at(&mut tail, was).is_ok() {
                kept = self.keep_aside(&format!("head-{number:016x}-{was}"), &tail);
            }
            let path = head_file::path(self.dir, number);
            let damage = Damage::new(path, what, Cost::Nothing).at(is.min(was), is.abs_diff(was));
            self.recovery.damage(damage.kept(kept));
        }
        Ok(())
    }

    fn series(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let (group, series) = record::get_series(cursor)?;
        for (series, labels) in &series {
            if !self.head.define(group, *series, labels) {
                return Err(Malformed("series reference defined otherwise before"));
            }
        }
        Ok(())
    }

    fn batch(
        &mut self,
        segment: u64,
        mut batch: BatchRecord,
        mut histograms: Vec<HistogramSample>,
    ) {
        for row in &batch.rows {
            for (series, _) in &row.samples {
                self.head.reserve_ref(*series);
            }
        }
        for sample in &histograms {
            self.head.reserve_ref(sample.series);
        }
        if self.covered.iter().any(|covered| segment < covered.log_before) {
            for row in &batch.rows {
                let newest = row.t_ms;
                if self.is_covered(segment, row.t_ms) {
                    self.head.raise_max_t(newest);
                    self.head.restore_last_t(batch.group, newest);
                }
            }
            batch.rows.retain(|row| !is_covered(self.covered, segment, row.t_ms));
            for sample in &histograms {
                if self.is_covered(segment, sample.t_ms) {
                    self.head.raise_max_t(sample.t_ms);
                }
            }
            histograms.retain(|sample| !is_covered(self.covered, segment, sample.t_ms));
        }
        let known = self.head.repeats(batch.group, &batch.rows, &histograms, None).read();
        let (_, orphaned) = self.head.apply(batch.group, &batch.rows, &histograms, known);
        self.recovery.samples_orphaned += orphaned;
        if !self.marks_frozen {
            for (key, value) in batch.marks {
                self.head.marks.insert(key, value);
            }
            for key in &batch.removed {
                self.head.marks.remove(key);
            }
        }
    }

    fn marks(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let part = record::get_marks_part(cursor)?;
        if part.is_first {
            self.head.marks.clear();
        }
        self.head.marks.extend(part.marks);
        if part.is_last {
            self.marks_frozen = false;
        }
        Ok(())
    }

    /// Whether a window of the checkpoint is to be brought back: a block may have it meanwhile.
    fn takes_window(&mut self, segment: u64, times: &[TimestampMs]) -> bool {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return false };
        if self.is_covered(segment, *first) {
            return false;
        }
        self.checkpoint_max_t = self.checkpoint_max_t.max(*last);
        true
    }

    fn restore_last_t(&mut self, group: GroupId, times: &[TimestampMs]) {
        if let Some(last) = times.last() {
            self.head.restore_last_t(group, *last);
        }
    }

    fn windows(&mut self, segment: u64, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let record = checkpoint::get_windows(cursor)?;
        let group = record.group;
        self.head.restore_last_t(group, record.last_t);
        for (serial, times) in record.windows {
            if self.takes_window(segment, &times) {
                self.restore_last_t(group, &times);
                self.windows.insert(serial, ChunksOfWindow { group, times, chunks: Vec::new() });
            }
        }
        Ok(())
    }

    fn chunks(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let _group = GroupId(cursor.u64()?);
        while cursor.len() > 0 {
            let chunk = checkpoint::get_chunk(cursor)?;
            // A window not there went to a block meanwhile, or was lost with its record.
            if let Some(window) = self.windows.get_mut(&chunk.serial) {
                window.chunks.push((chunk.series, chunk.stored));
            }
        }
        Ok(())
    }

    fn places(&mut self, segment: u64, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let (group, last_t, places) = checkpoint::get_places(cursor)?;
        self.head.restore_last_t(group, last_t);
        for place in places {
            // Also of a window that is not brought back: this checkpoint may be read again.
            let file = self.file(place.file);
            if self.takes_window(segment, &place.times) {
                self.place(group, &place, file.as_ref());
            }
        }
        Ok(())
    }

    /// Opens a file of chunks, once.
    fn file(&mut self, number: u64) -> Option<Arc<HeadFile>> {
        if let Some(file) = self.files.get(&number) {
            return file.clone();
        }
        let file = HeadFile::open(&**self.disk, self.dir, number);
        let file = file.map(Arc::new).inspect_err(|error| {
            let what = format!("cannot be opened: {error}");
            let cost = Cost::Samples { most: 0, times: None };
            self.recovery.damage(Damage::new(head_file::path(self.dir, number), what, cost));
        });
        let file = file.ok();
        self.files.insert(number, file.clone());
        file
    }

    /// Brings back a window whose chunks are in a file. Each is checked: what is damaged is set aside,
    /// and the others of the window go to another file by and by.
    fn place(&mut self, group: GroupId, place: &PlaceRecord, file: Option<&Arc<HeadFile>>) {
        let lens = place.members.iter().map(|(_, len)| CRC_BYTES + usize::from(*len));
        let bytes = lens.clone().sum();
        let times = place.times.first().copied().zip(place.times.last().copied());
        let Some(file) = file else {
            self.recovery.chunks_damaged += place.members.len() as u64;
            let path = head_file::path(self.dir, place.file);
            let cost = Cost::Samples { most: place.samples, times };
            let damage = Damage::new(path, "cannot be opened", cost);
            self.recovery.damage(damage.at(place.offset, bytes as u64));
            return;
        };
        // Where one sector is bad each chunk is read for itself: it costs those that lie in it.
        let read = file.read(place.offset, bytes).unwrap_or_else(|_unread| {
            let mut read = Vec::with_capacity(bytes);
            for len in lens.clone() {
                let at = place.offset + read.len() as u64;
                let end = read.len() + len;
                read.extend(file.read(at, len).or_else(|_| file.read(at, len)).unwrap_or_default());
                read.resize(end, 0);
            }
            read
        });
        let mut whole = Vec::with_capacity(place.members.len());
        let mut rest = read.as_slice();
        let mut at = place.offset;
        for ((series, _), len) in place.members.iter().zip(lens) {
            let (stored, behind) = rest.split_at_checked(len).unwrap_or_default();
            rest = behind;
            match check(file.number, at, stored) {
                Ok(chunk) => whole.push((*series, chunk)),
                Err(malformed) => {
                    self.recovery.chunks_damaged += 1;
                    let file = file.number;
                    let kept = self.keep_aside(&format!("head-{file:016x}-{at}"), stored);
                    let cost = Cost::Samples { most: place.times.len() as u64, times };
                    let path = head_file::path(self.dir, file);
                    let damage = Damage::new(path, malformed.to_string(), cost);
                    self.recovery.damage(damage.at(at, len as u64).kept(kept));
                }
            }
            at += len as u64;
        }
        let is_whole = whole.len() == place.members.len();
        let first = whole.first().map(|(_, stored)| *stored).unwrap_or_default();
        let in_file = Place::File { file: Arc::clone(file), offset: place.offset };
        if is_whole
            && self.head.restore_window(
                group,
                &place.times,
                &place.members,
                place.samples,
                (first, in_file),
            )
        {
            return;
        }
        let restored = self.head.restore_chunks(group, &place.times, whole.into_iter());
        self.recovery.samples_orphaned += restored.1;
    }

    fn open(&mut self, segment: u64, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let record = checkpoint::get_open(cursor)?;
        let (group, times) = (record.group, record.times);
        if record.what == OpenKind::Late {
            return self.late(segment, group, &times, &record.columns);
        }
        if !self.takes_window(segment, &times) {
            return Ok(());
        }
        // Those of histograms are no ticks of the group's; an empty record does not say whose they are,
        // and only earlier versions wrote one of a sealed window.
        let are_ticks = match record.columns.first() {
            Some((_, stored)) => !stored_histograms(stored),
            None => record.what == OpenKind::Live,
        };
        if are_ticks {
            self.restore_last_t(group, &times);
        }
        let columns = record.columns.into_iter();
        let restored = if record.what == OpenKind::Live {
            self.head.restore_live(group, &times, columns)?
        } else {
            self.head.restore_chunks(group, &times, columns)
        };
        self.count_restored(&checkpoint_dir(self.dir, segment + 1), restored);
        Ok(())
    }

    /// Late columns go the way they came: their ticks are of many spans.
    fn late(
        &mut self,
        segment: u64,
        group: GroupId,
        times: &[TimestampMs],
        columns: &[(SeriesRef, &[u8])],
    ) -> Result<(), Malformed> {
        let mut rows: Vec<Row> =
            times.iter().map(|t_ms| Row { t_ms: *t_ms, samples: Vec::new() }).collect();
        for (series, stored) in columns {
            let (present, chunk) = split_stored(stored)?;
            let present = present.unwrap_or_else(|| Presence::first(times.len()));
            let mut values = Vec::new();
            decode_values(chunk, present.count(), &mut values)?;
            for (tick, v) in present.ticks().zip(values) {
                if let Some(row) = rows.get_mut(tick) {
                    row.samples.push((*series, v));
                }
            }
        }
        rows.retain(|row| !is_covered(self.covered, segment, row.t_ms));
        self.recovery.samples_orphaned += self.head.restore_rows(group, &rows);
        Ok(())
    }

    fn is_covered(&self, segment: u64, t: TimestampMs) -> bool {
        is_covered(self.covered, segment, t)
    }

    /// Copies damaged bytes to `quarantine/`, as far as they can be read.
    fn set_aside(&self, dir: &Path, segment: u64, offset: u64, bytes: u64) -> Option<PathBuf> {
        // Bytes that cannot be copied (missing, unreadable, no room) are reported all the same.
        let file = self.disk.open(&dir.join(format!("{segment:016x}.wal"))).ok()?;
        let there = file.size().unwrap_or(0).saturating_sub(offset);
        let len = bytes.min(there).min(QUARANTINE_BYTES_MAX);
        let mut copied = vec![0; usize::try_from(len).unwrap_or(0)];
        // A bad sector is zeros and costs none of its neighbours.
        let mut at = offset;
        for piece in copied.chunks_mut(PIECE_BYTES) {
            if file.read_exact_at(piece, at).is_err() {
                piece.fill(0);
            }
            at += piece.len() as u64;
        }
        self.keep_aside(&format!("log-{segment:016x}-{offset}"), &copied)
    }

    fn keep_aside(&self, name: &str, bytes: &[u8]) -> Option<PathBuf> {
        let is_wanted = !bytes.is_empty() && self.recovery.quarantined.len() < QUARANTINED_MAX;
        let keep = || quarantine::keep_bytes(&**self.disk, self.dir, name, bytes).ok();
        is_wanted.then(keep).flatten()
    }
}

/// What the reader of a log says of a damaged place.
pub(crate) fn log_damage(
    dir: &Path,
    segment: u64,
    offset: u64,
    bytes: u64,
    reason: DamageReason,
    records: Cost,
) -> Damage {
    let cost = match reason {
        DamageReason::SegmentHeader => Cost::Nothing,
        _ => records,
    };
    let path = dir.join(format!("{segment:016x}.wal"));
    Damage::new(path, reason.to_string(), cost).at(offset, bytes)
}

fn is_covered(covered: &[Covered], segment: u64, t: TimestampMs) -> bool {
    covered.iter().any(|c| segment < c.log_before && c.start <= t && t < c.end)
}
