//! Bringing the head back: the checkpoint, then the log after it.
//!
//! Recovery never fails because of what it reads. A damaged record costs itself; its bytes are copied
//! to `quarantine/` before the log moves on. Marks are never ahead of their samples: after damage to
//! bytes that were durable once, later marks of that log are not believed, so that a sender resends
//! what may be missing and the samples it repeats are recognised one by one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_wal::{DamageReason, Disk, Entry, Reader};

use crate::bytes::{Cursor, Malformed};
use crate::checkpoint::{
    self, KIND_CHUNKS, KIND_END, KIND_HEAD, KIND_WINDOWS, checkpoint_dir, segment_of_name,
};
use crate::chunk::decode_values;
use crate::head::{Head, Presence, Sealed, Ticks};
use crate::record::{self, BatchRecord, KIND_BATCH, KIND_MARKS, KIND_SERIES};
use crate::{GroupId, Options, SeriesRef};

/// Damage described one by one; the rest is only counted.
const DAMAGE_LISTED_MAX: usize = 100;
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
    /// Records applied, of checkpoint and log.
    pub records: u64,
    /// Samples whose series' definition was lost to damage; gone.
    pub samples_orphaned: u64,
    /// Places where bytes that had been durable are damaged or missing.
    pub damaged: u64,
    /// Places where a crash cut off what was not durable yet: nothing of it was acknowledged.
    pub torn: u64,
    /// Marks are as they were before the damage; those written after it in that log are not believed.
    pub marks_held_back: bool,
    /// The first hundred damaged places, for a person to read.
    pub damage: Vec<String>,
    /// What was moved or copied aside, under `quarantine/`.
    pub quarantined: Vec<PathBuf>,
    /// Unfinished files of an earlier process that were removed.
    pub unfinished_removed: u64,
}

impl Recovery {
    pub(crate) fn damage(&mut self, what: String) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_LISTED_MAX {
            self.damage.push(what);
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
    /// The checkpoint's windows by their number in it.
    windows: HashMap<u64, Arc<Ticks>>,
    end_seen: bool,
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
            windows: HashMap::new(),
            end_seen: false,
        }
    }

    /// Applies the newest checkpoint among the names of the directory, if there is one, and says
    /// the segment from which the log goes on.
    pub(crate) fn checkpoint(&mut self, names: &[String]) -> u64 {
        let Some(segment) = names.iter().filter_map(|name| segment_of_name(name)).max() else {
            return 0;
        };
        let path = checkpoint_dir(self.dir, segment);
        self.read(&path, 0, Some(segment));
        if !self.end_seen {
            self.recovery.damage(format!("checkpoint {segment:016x}: its end is missing"));
            self.marks_frozen = true;
        }
        self.windows = HashMap::new();
        segment
    }

    /// Applies the log from a segment on.
    pub(crate) fn log(&mut self, log_dir: &Path, from_segment: u64) {
        self.read(log_dir, from_segment, None);
        self.recovery.marks_held_back = self.marks_frozen;
        self.recovery.series = self.head.series_count() as u64;
        self.recovery.samples = self.head.footprint().0;
        self.recovery.marks = self.head.marks.len() as u64;
    }

    fn read(&mut self, dir: &Path, from_segment: u64, checkpoint: Option<u64>) {
        let reader = match Reader::open(Arc::clone(self.disk), dir, from_segment) {
            Ok(reader) => reader,
            Err(error) => {
                self.recovery.damage(format!("{error}"));
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
                        let place = dir.display();
                        self.recovery.damage(format!("{place} {position}: {malformed}"));
                        self.marks_frozen = true;
                    }
                }
                Entry::Damage { segment, offset, bytes, reason, synced } => {
                    let in_checkpoint = checkpoint.is_some();
                    if synced || in_checkpoint {
                        let place = dir.display();
                        self.recovery.damage(format!(
                            "{place} {segment}:{offset}, {bytes} bytes: {reason:?}"
                        ));
                        self.set_aside(dir, segment, offset, bytes);
                        self.marks_frozen |= reason != DamageReason::SegmentHeader;
                    } else {
                        self.recovery.torn += 1;
                        torn_segment = Some(segment);
                    }
                }
            }
        }
    }

    fn record(&mut self, segment: u64, kind: u8, payload: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(payload);
        let sequence = cursor.varint()?;
        if sequence != 0 {
            if sequence <= self.sequence {
                return Ok(());
            }
            self.sequence = sequence;
        }
        match kind {
            KIND_SERIES => self.series(&mut cursor)?,
            KIND_BATCH => self.batch(segment, &mut cursor)?,
            KIND_MARKS => self.marks(&mut cursor)?,
            KIND_HEAD => {
                let head = checkpoint::get_head(&mut cursor)?;
                self.sequence = head.sequence;
                self.head.raise_max_t(head.max_t);
                if let Some(last) = head.next_ref.checked_sub(1) {
                    self.head.reserve_ref(SeriesRef(last));
                }
            }
            KIND_WINDOWS => self.windows(segment, &mut cursor)?,
            KIND_CHUNKS => self.chunks(&mut cursor)?,
            KIND_END => {
                let _records = cursor.varint()?;
                self.end_seen = true;
            }
            _ => return Err(Malformed("unknown kind of record")),
        }
        self.recovery.records += 1;
        cursor.end()
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

    fn batch(&mut self, segment: u64, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let mut batch = BatchRecord::get(cursor)?;
        for row in &batch.rows {
            for (series, _) in &row.samples {
                self.head.reserve_ref(*series);
            }
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
        }
        let (_, orphaned) = self.head.apply(batch.group, &batch.rows);
        self.recovery.samples_orphaned += orphaned;
        if !self.marks_frozen {
            for (key, value) in batch.marks {
                self.head.marks.insert(key, value);
            }
            for key in &batch.removed {
                self.head.marks.remove(key);
            }
        }
        Ok(())
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

    fn windows(&mut self, segment: u64, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let record = checkpoint::get_windows(cursor)?;
        self.head.restore_last_t(record.group, record.last_t);
        for (serial, times) in record.windows {
            let first = times.first().copied().unwrap_or_default();
            if self.is_covered(segment, first) {
                continue;
            }
            if let Some(ticks) = self.head.restore_window(record.group, times) {
                self.windows.insert(serial, ticks);
            }
        }
        Ok(())
    }

    fn chunks(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let _group = GroupId(cursor.u64()?);
        while cursor.len() > 0 {
            let chunk = checkpoint::get_chunk(cursor)?;
            // A window not there went to a block meanwhile, or was lost with its record.
            let Some(ticks) = self.windows.get(&chunk.serial) else { continue };
            let count = chunk.present.as_ref().map_or(ticks.times.len(), Presence::count);
            decode_values(chunk.chunk, count, &mut Vec::new())?;
            let sealed = Sealed {
                ticks: Arc::clone(ticks),
                present: chunk.present.map(Arc::new),
                chunk: Arc::from(chunk.chunk),
            };
            self.head.restore_sealed(chunk.series, sealed);
        }
        Ok(())
    }

    fn is_covered(&self, segment: u64, t: TimestampMs) -> bool {
        is_covered(self.covered, segment, t)
    }

    /// Copies damaged bytes to `quarantine/`, as far as they can be read.
    fn set_aside(&mut self, dir: &Path, segment: u64, offset: u64, bytes: u64) {
        let from = dir.join(format!("{segment:016x}.wal"));
        let to = quarantine_dir(self.dir).join(format!("log-{segment:016x}-{offset}"));
        let copy = || -> std::io::Result<()> {
            let len = bytes.min(QUARANTINE_BYTES_MAX);
            let mut copied = vec![0; usize::try_from(len).unwrap_or(0)];
            self.disk.open(&from)?.read_exact_at(&mut copied, offset)?;
            self.disk.create_dir_all(&quarantine_dir(self.dir))?;
            self.disk.replace(&to, &copied)
        };
        // Bytes that cannot be copied (missing, unreadable, no room) are reported all the same.
        if bytes > 0 && copy().is_ok() {
            self.recovery.quarantined.push(to);
        }
    }
}

fn is_covered(covered: &[Covered], segment: u64, t: TimestampMs) -> bool {
    covered.iter().any(|c| segment < c.log_before && c.start <= t && t < c.end)
}

/// Where damaged things go.
pub(crate) fn quarantine_dir(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}
