//! The reading end of the log.
//!
//! Reading never fails and never changes a file: what cannot be read is an [`Entry::Damage`]
//! between the records that can. A damaged payload costs its record; a damaged header costs its record
//! too, for the next one is found by its marker and a checksum that only fits its place.
//!
//! Open the [`Wal`](crate::Wal) before reading what an earlier process left: opening makes it durable.
//!
//! Memory: one window of 256 KiB, or one record if that is longer.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::record::{HEADER_BYTES, MARKER, RecordHeader};
use crate::segment::{BadHeader, SEGMENT_HEADER_BYTES, SegmentHeader, list_segments, segment_path};
use crate::window::Window;
use crate::{Disk, Position, WalError};

/// What stands in the log, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record, exactly as it was appended.
    Record {
        /// Where it starts.
        position: Position,
        /// The kind it was appended with.
        kind: u8,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Bytes that are not a record.
    Damage {
        /// The segment they are in.
        segment: u64,
        /// Where they start.
        offset: u64,
        /// How many they are, as far as that is known.
        bytes: u64,
        /// What is wrong with them.
        reason: DamageReason,
        /// Whether they are known to have been durable once: then the disk or somebody on it
        /// changed them, and what they said may have been acknowledged. If not, this is what a crash
        /// leaves of the last unsynced bytes: nothing in them and nothing after them in this
        /// segment was ever acknowledged.
        synced: bool,
    },
}

/// What is wrong with damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageReason {
    /// The header of the segment; its records can be read all the same.
    SegmentHeader,
    /// The segment was written by another version of the format. None of it was read.
    Version(u16),
    /// The segment file is another one by its header, whose number this is. None of it was read.
    Misplaced(u64),
    /// No record starts where one should.
    Record,
    /// The payload of a record.
    Payload,
    /// The segment ends before its last record, or before the length it is known to have had.
    Truncated,
    /// The segments from this one to the one before the next are not there.
    Missing,
    /// The segment file cannot be opened.
    Unreadable,
}

impl std::fmt::Display for DamageReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SegmentHeader => f.write_str("the header of the segment is damaged"),
            Self::Version(version) => {
                write!(f, "written in version {version} of the format, which is not known here")
            }
            Self::Misplaced(segment) => {
                write!(f, "it is segment {segment:016x} by its header")
            }
            Self::Record => f.write_str("no record begins where one should"),
            Self::Payload => f.write_str("a record fails its checksum"),
            Self::Truncated => f.write_str("cut off"),
            Self::Missing => f.write_str("the segment is missing"),
            Self::Unreadable => f.write_str("the segment cannot be opened"),
        }
    }
}

/// Reads a log from the start of a segment to the end that it had when the segment was reached, or
/// from one place to another.
#[derive(Debug)]
pub struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    todo: VecDeque<u64>,
    /// Where to begin in the first segment.
    from: Option<Position>,
    /// Where to end.
    end: Option<Position>,
    /// Up to where has been read.
    position: Position,
    /// The number after the last segment that was read; `None` before the first of a whole log.
    expected: Option<u64>,
    current: Option<SegmentReader>,
    /// Found out while the segment was opened, to be told before its records.
    found: Option<Entry>,
}

impl Reader {
    /// Reads the log in `dir` from the start of `from_segment`, or all there is when that is 0. An
    /// error only when the directory cannot be listed.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, from_segment: u64) -> Result<Self, WalError> {
        let segments = list_segments(&*disk, dir)
            .map_err(|source| WalError::Open { dir: dir.to_owned(), source: Arc::new(source) })?;
        let todo: VecDeque<u64> =
            segments.into_iter().filter(|segment| *segment >= from_segment).collect();
        let expected = Some(from_segment).filter(|segment| *segment > 0);
        let all_missing = expected.filter(|_| todo.is_empty());
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            todo,
            from: None,
            end: None,
            position: Position { segment: from_segment, offset: 0 },
            expected,
            current: None,
            found: all_missing.map(|segment| whole(segment, 0, DamageReason::Missing)),
        })
    }

    /// Reads the log in `dir` from the place where a record starts (or the start of a segment) up to
    /// another such place: what follows is not looked at, so that a log that is being written is read
    /// up to what is durable of it. An error only when the directory cannot be listed.
    pub fn between(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: Position,
        end: Position,
    ) -> Result<Self, WalError> {
        let mut reader = Self::open(disk, dir, from.segment)?;
        reader.todo.retain(|segment| *segment <= end.segment);
        if end < from {
            reader.todo.clear();
            reader.found = None;
        }
        reader.position = from;
        (reader.from, reader.end) = (Some(from), Some(end));
        Ok(reader)
    }

    /// Up to where the log has been read: reading on from here gives the entries that follow.
    #[must_use]
    pub fn reached(&self) -> Position {
        self.position
    }

    fn open_next(&mut self) -> Option<()> {
        let segment = *self.todo.front()?;
        if let Some(missing) = self.expected.replace(segment).filter(|next| *next < segment) {
            self.found = Some(whole(missing, 0, DamageReason::Missing));
            return Some(());
        }
        self.expected = Some(segment + 1);
        self.todo.pop_front();
        let next = self.header_after(segment);
        let of_segment = |at: &Position| at.segment == segment;
        let from = self.from.filter(of_segment).map_or(0, |from| from.offset);
        let end = self.end.filter(of_segment).map(|end| end.offset);
        self.position = Position { segment, offset: from };
        match SegmentReader::open(&*self.disk, &self.dir, segment, next, from, end) {
            Ok((reader, found)) => {
                self.position.offset = reader.at;
                (self.current, self.found) = (Some(reader), found);
            }
            Err(damage) => self.found = Some(damage),
        }
        Some(())
    }

    /// The header of the following segment, which knows how long this one was.
    fn header_after(&self, segment: u64) -> Option<SegmentHeader> {
        let next = segment + 1;
        if self.todo.front() != Some(&next) {
            return None;
        }
        let file = self.disk.open(&segment_path(&self.dir, next)).ok()?;
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).ok()?;
        SegmentHeader::decode(&bytes).ok().filter(|header| header.segment == next)
    }
}

impl Iterator for Reader {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.found.take() {
                return Some(entry);
            }
            if let Some(reader) = &mut self.current {
                let entry = reader.next();
                self.position.offset = reader.at;
                match entry {
                    Some(entry) => return Some(entry),
                    None => self.current = None,
                }
            }
            self.open_next()?;
        }
    }
}

fn whole(segment: u64, bytes: u64, reason: DamageReason) -> Entry {
    Entry::Damage { segment, offset: 0, bytes, reason, synced: true }
}

#[derive(Debug)]
struct SegmentReader {
    segment: u64,
    window: Window,
    at: u64,
    /// What the next segment says of this one.
    next: Option<SegmentHeader>,
    /// Found out by the first damage: the offset before which bytes were known to be durable.
    synced_bytes: Option<u64>,
}

impl SegmentReader {
    /// The reader, and what is wrong with the header; or why there is nothing to read. It begins at
    /// `from`, if that is beyond the header, and sees nothing beyond `end`.
    fn open(
        disk: &dyn Disk,
        dir: &Path,
        segment: u64,
        next: Option<SegmentHeader>,
        from: u64,
        end: Option<u64>,
    ) -> Result<(Self, Option<Entry>), Entry> {
        let opened = disk.open(&segment_path(dir, segment));
        let (file, size) = opened
            .and_then(|file| file.size().map(|size| (file, size)))
            .map_err(|_unreadable| whole(segment, 0, DamageReason::Unreadable))?;
        let size = end.map_or(size, |end| size.min(end));
        let mut window = Window::new(file, size);
        let header = SegmentHeader::decode(window.get(0, SEGMENT_HEADER_BYTES));
        let reason = match header {
            Ok(header) if header.segment == segment => None,
            Ok(header) => {
                return Err(whole(segment, size, DamageReason::Misplaced(header.segment)));
            }
            Err(BadHeader::Version(version)) => {
                return Err(whole(segment, size, DamageReason::Version(version)));
            }
            Err(BadHeader::Damaged) => Some(DamageReason::SegmentHeader),
        };
        let header_bytes = size.min(SEGMENT_HEADER_BYTES as u64);
        let mut reader = Self { segment, window, at: header_bytes, next, synced_bytes: None };
        // A segment that was named and not yet written: a crash while it was made.
        let found = reason
            .filter(|_| from == 0 && (size > 0 || reader.was_longer_than(0)))
            .map(|reason| reader.damage(0, header_bytes, reason));
        reader.at = reader.at.max(from);
        Ok((reader, found))
    }

    fn next(&mut self) -> Option<Entry> {
        let size = self.window.size();
        let position = Position { segment: self.segment, offset: self.at };
        if self.at >= size {
            let lost = self.next?.previous_bytes.checked_sub(self.at).filter(|lost| *lost > 0)?;
            self.at += lost;
            // The next segment was made when these bytes had just been synced.
            return Some(Entry::Damage {
                segment: self.segment,
                offset: position.offset,
                bytes: lost,
                reason: DamageReason::Truncated,
                synced: true,
            });
        }
        let Some(header) = self.header_at(self.at) else {
            self.at = self.next_header(self.at + 1).unwrap_or(size);
            let bytes = self.at - position.offset;
            return Some(self.damage(position.offset, bytes, DamageReason::Record));
        };
        let payload_at = self.at + HEADER_BYTES as u64;
        let end = payload_at + u64::from(header.payload_bytes);
        if end > size {
            self.at = size;
            return Some(self.damage(
                position.offset,
                size - position.offset,
                DamageReason::Truncated,
            ));
        }
        self.at = end;
        let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        let payload = self.window.get(payload_at, payload_bytes);
        if crc32c::crc32c(payload) != header.payload_crc {
            return Some(self.damage(
                position.offset,
                end - position.offset,
                DamageReason::Payload,
            ));
        }
        Some(Entry::Record { position, kind: header.kind, payload: payload.to_vec() })
    }

    fn header_at(&mut self, offset: u64) -> Option<RecordHeader> {
        let position = Position { segment: self.segment, offset };
        RecordHeader::decode(position, self.window.get(offset, HEADER_BYTES))
    }

    /// Where the next header stands that belongs where it stands.
    fn next_header(&mut self, mut from: u64) -> Option<u64> {
        loop {
            from = self.window.find(MARKER, from)?;
            if self.header_at(from).is_some() {
                return Some(from);
            }
            from += 1;
        }
    }

    fn damage(&mut self, offset: u64, bytes: u64, reason: DamageReason) -> Entry {
        let synced = self.was_longer_than(offset) || offset < self.synced_bytes_after(offset);
        Entry::Damage { segment: self.segment, offset, bytes, reason, synced }
    }

    /// Whether the next segment says that this one was synced whole, beyond `offset`.
    fn was_longer_than(&self, offset: u64) -> bool {
        self.next.is_some_and(|next| next.continues && next.previous_bytes > offset)
    }

    /// What the records from `offset` on know to have been durable when they were written.
    fn synced_bytes_after(&mut self, offset: u64) -> u64 {
        if let Some(synced_bytes) = self.synced_bytes {
            return synced_bytes;
        }
        let mut synced_bytes = 0;
        let mut next = self.next_header(offset);
        while let Some(at) = next {
            let Some(header) = self.header_at(at) else { break };
            synced_bytes = synced_bytes.max(at.saturating_sub(u64::from(header.unsynced_bytes)));
            let end = at + HEADER_BYTES as u64 + u64::from(header.payload_bytes);
            next = if self.header_at(end).is_some() { Some(end) } else { self.next_header(end) };
        }
        self.synced_bytes = Some(synced_bytes);
        synced_bytes
    }
}
