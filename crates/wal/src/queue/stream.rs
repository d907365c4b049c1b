//! One stream of the queue: its log, and an index of the records in it.
//!
//! The index holds a [`Mark`] per record (80 bytes), acknowledged or not, by segment. Every change
//! of the index changes the stream's [`Totals`] in the same function.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::note::{Accounted, Note, Numbered};
use super::{Count, DropReason, Dropped, Epoch, Item, QueueError, Spooled, Stamp, Totals};
use crate::record::{HEADER_BYTES, RecordHeader};
use crate::segment::segment_path;
use crate::{Disk, DiskRead, Position, Wal, WalError, WalOptions};

/// Acknowledged epochs are remembered up to this many; beyond, only those of records that are
/// there, and the newest.
const EPOCHS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u8,
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: WalOptions,
    /// `None` after a failure, until the next push opens it anew.
    pub(super) wal: Option<Wal>,
    /// Oldest first; the last is the one being written when there is a `wal`.
    pub(super) segments: VecDeque<SegmentIndex>,
    /// The number of the next record, and the samples in all before it.
    pub(super) next_number: u64,
    pub(super) samples_total: u64,
    pub(super) acked: BTreeMap<Epoch, Option<u64>>,
    /// The epoch of the last record or acknowledgement.
    newest_epoch: Option<Epoch>,
    /// Acknowledgements that are not in the log yet.
    pub(super) acked_unwritten: BTreeSet<Epoch>,
    /// Numbers missing from the log that were told of, and those notes not in the log yet.
    pub(super) accounted: Vec<Accounted>,
    pub(super) accounted_unwritten: bool,
    pub(super) totals: Totals,
    /// The file of the last record that was read.
    pub(super) reading: Option<(u64, Box<dyn DiskRead>)>,
}

#[derive(Debug, Default)]
pub(super) struct SegmentIndex {
    pub(super) number: u64,
    pub(super) bytes: u64,
    /// Ascending by number.
    pub(super) marks: Vec<Mark>,
    pub(super) unacked: u64,
    /// The newest sample in it; `None` when there is no record.
    pub(super) t_last_ms: Option<i64>,
    /// Bytes that were durable once are not what they were.
    pub(super) rotten: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) number: u64,
    pub(super) stamp: Stamp,
    pub(super) offset: u32,
    pub(super) payload_bytes: u32,
    pub(super) acked: bool,
}

impl Mark {
    pub(super) fn count(&self) -> Count {
        Count::of(&self.stamp, u64::from(self.payload_bytes))
    }
}

impl SegmentIndex {
    pub(super) fn add(&mut self, mark: Mark) {
        let t_last_ms = mark.stamp.t_last_ms;
        self.t_last_ms = Some(self.t_last_ms.map_or(t_last_ms, |last| last.max(t_last_ms)));
        self.unacked += u64::from(!mark.acked);
        self.marks.push(mark);
    }
}

/// A record could not be written.
#[derive(Debug)]
pub(super) struct WriteFailure {
    pub(super) error: WalError,
    /// Earlier records that went with it.
    pub(super) dropped: Vec<Dropped>,
}

impl From<WalError> for WriteFailure {
    fn from(error: WalError) -> Self {
        Self { error, dropped: Vec::new() }
    }
}

impl Stream {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn newest(&self) -> Vec<Stamp> {
        let mut newest = BTreeMap::new();
        for mark in self.segments.iter().flat_map(|segment| &segment.marks) {
            newest.insert(mark.stamp.epoch, mark.stamp);
        }
        newest.into_values().collect()
    }

    pub(super) fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.marks.len() as u64).sum()
    }

    pub(super) fn new(id: u8, dir: PathBuf, disk: Arc<dyn Disk>, options: WalOptions) -> Self {
        Self {
            id,
            dir,
            disk,
            options,
            wal: None,
            segments: VecDeque::new(),
            next_number: 0,
            samples_total: 0,
            acked: BTreeMap::new(),
            newest_epoch: None,
            acked_unwritten: BTreeSet::new(),
            accounted: Vec::new(),
            accounted_unwritten: false,
            totals: Totals::default(),
            reading: None,
        }
    }

    /// The open log; opens it, with the notes the last one lost, when a failure closed it.
    pub(super) fn wal(&mut self) -> Result<&mut Wal, WalError> {
        let wal = match self.wal.take() {
            Some(wal) => wal,
            None => {
                let mut wal = Wal::open(Arc::clone(&self.disk), &self.dir, self.options)?;
                let number = wal.position().segment;
                let notes = self.unwritten_notes();
                for note in &notes {
                    let (kind, bytes) = note.encode();
                    wal.append(kind, &bytes)?;
                }
                if !notes.is_empty() {
                    wal.sync()?;
                }
                self.acked_unwritten.clear();
                self.accounted_unwritten = false;
                if self.segments.back().is_none_or(|last| last.number < number) {
                    self.segments.push_back(SegmentIndex { number, ..SegmentIndex::default() });
                }
                wal
            }
        };
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes = wal.position().offset;
        }
        Ok(self.wal.insert(wal))
    }

    /// Writes a record through to the operating system.
    pub(super) fn append(&mut self, stamp: Stamp, payload: &[u8]) -> Result<(), WriteFailure> {
        let number = self.next_number;
        let numbered = Numbered { number, samples_before: self.samples_total, stamp };
        let (kind, mut bytes) = Note::Record(numbered).encode();
        bytes.extend_from_slice(payload);
        let position = self.write(kind, &bytes)?;
        self.next_number += 1;
        self.newest_epoch = Some(stamp.epoch);
        self.samples_total = self.samples_total.saturating_add(stamp.samples);
        let mark = Mark {
            number,
            stamp,
            offset: u32::try_from(position.offset).unwrap_or(u32::MAX),
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            acked: self.acked.get(&stamp.epoch).is_some_and(|known| *known >= Some(stamp.seq_last)),
        };
        if let Some(segment) = self.segments.back_mut() {
            segment.add(mark);
        }
        if mark.acked {
            // The note that says so may go with an older segment.
            self.acked_unwritten.insert(stamp.epoch);
            self.totals.acked.add(mark.count());
            self.totals.kept.add(mark.count());
        } else {
            self.totals.in_spool.add(mark.count());
        }
        Ok(())
    }

    /// Appends one entry to the log and hands it to the operating system.
    fn write(&mut self, kind: u8, bytes: &[u8]) -> Result<Position, WriteFailure> {
        let result = self.wal().and_then(|wal| {
            let position = wal.append(kind, bytes)?;
            wal.flush()?;
            Ok((position, wal.position().offset))
        });
        match result {
            Ok((position, end)) => {
                if self.segments.back().is_none_or(|last| last.number != position.segment) {
                    let number = position.segment;
                    self.segments.push_back(SegmentIndex { number, ..SegmentIndex::default() });
                }
                if let Some(segment) = self.segments.back_mut() {
                    segment.bytes = end;
                }
                Ok(position)
            }
            Err(error) => {
                let dropped = self.give_up(&error);
                Err(WriteFailure { error, dropped })
            }
        }
    }

    /// Makes all records durable, and the notes about them.
    pub(super) fn sync(&mut self) -> Result<(), WriteFailure> {
        if self.segments.is_empty() {
            return Ok(());
        }
        // After a failure this opens the log, which makes durable what the last one left unsynced.
        self.wal()?;
        self.write_notes()?;
        match self.wal()?.sync() {
            Ok(_) => Ok(()),
            Err(error) => {
                let dropped = self.give_up(&error);
                Err(WriteFailure { error, dropped })
            }
        }
    }

    fn write_notes(&mut self) -> Result<(), WriteFailure> {
        for note in self.unwritten_notes() {
            let (kind, bytes) = note.encode();
            self.write(kind, &bytes)?;
        }
        self.acked_unwritten.clear();
        self.accounted_unwritten = false;
        Ok(())
    }

    fn unwritten_notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        for epoch in &self.acked_unwritten {
            let through = self.acked.get(epoch).copied();
            notes.extend(through.map(|through| Note::Acked { epoch: *epoch, through }));
        }
        if self.accounted_unwritten {
            notes.extend(self.accounted.iter().copied().map(Note::Accounted));
        }
        notes
    }

    /// Ends the log in good order, so that the next opening knows that nothing is missing.
    pub(super) fn close(&mut self) -> Result<(), WriteFailure> {
        if self.segments.is_empty() {
            return Ok(());
        }
        self.write_notes()?;
        let closed = Note::Closed { records: self.next_number, samples: self.samples_total };
        let (kind, bytes) = closed.encode();
        self.write(kind, &bytes)?;
        self.sync()?;
        self.wal = None;
        Ok(())
    }

    /// Leaves a log that failed. What it could not sync was cut off, so it is not in the spool.
    fn give_up(&mut self, error: &WalError) -> Vec<Dropped> {
        if matches!(error, WalError::Record { .. }) {
            return Vec::new();
        }
        let Some(wal) = self.wal.take() else { return Vec::new() };
        self.reading = None;
        // Notes may be among what is lost; they are written again into the next segment.
        self.rewrite_notes();
        let synced = wal.synced();
        let written = self.segments.iter().position(|segment| segment.number == synced.segment);
        let Some(segment) = written.and_then(|at| self.segments.get_mut(at)) else {
            return Vec::new();
        };
        if !matches!(error, WalError::Sync { .. }) {
            return Vec::new();
        }
        segment.bytes = synced.offset;
        let kept = segment.marks.partition_point(|mark| u64::from(mark.offset) < synced.offset);
        let lost = segment.marks.split_off(kept);
        segment.unacked = segment.marks.iter().filter(|mark| !mark.acked).count() as u64;
        self.account_for(&lost);
        self.take_from_books(&lost, DropReason::WriteFailed)
    }

    fn rewrite_notes(&mut self) {
        self.acked_unwritten = self.acked.keys().copied().collect();
        self.accounted_unwritten = !self.accounted.is_empty();
    }

    /// Strikes records from the books: the unacknowledged ones are dropped.
    fn take_from_books(&mut self, lost: &[Mark], reason: DropReason) -> Vec<Dropped> {
        let mut dropped: Vec<Dropped> = Vec::new();
        for mark in lost {
            if mark.acked {
                self.totals.kept.sub(mark.count());
                continue;
            }
            self.totals.in_spool.sub(mark.count());
            self.totals.dropped.add(mark.count());
            let one = Dropped::of(self.id, &mark.stamp, u64::from(mark.payload_bytes), reason);
            match dropped.last_mut() {
                Some(last) if last.epoch == one.epoch => last.join(&one),
                _ => dropped.push(one),
            }
        }
        dropped
    }

    /// Notes the numbers of records that go missing from the log, so that the next opening does not
    /// miss them again.
    fn account_for(&mut self, lost: &[Mark]) {
        for Mark { number, stamp, .. } in lost {
            if self.accounted.iter().any(|known| (known.number..known.end()).contains(number)) {
                continue;
            }
            self.accounted_unwritten = true;
            match self.accounted.last_mut() {
                Some(last) if last.end() == *number => {
                    last.records += 1;
                    last.samples = last.samples.saturating_add(stamp.samples);
                }
                _ => self.accounted.push(Accounted {
                    number: *number,
                    records: 1,
                    samples: stamp.samples,
                }),
            }
        }
    }

    /// The first unacknowledged record at or after a number.
    pub(super) fn peek_from(&mut self, number: u64) -> Result<Option<Item>, QueueError> {
        let mut found = None;
        for (at, segment) in self.segments.iter().enumerate() {
            if segment.unacked == 0 {
                continue;
            }
            let from = segment.marks.partition_point(|mark| mark.number < number);
            let waiting = segment.marks.iter().enumerate().skip(from);
            if let Some((mark_at, mark)) = waiting.into_iter().find(|(_, mark)| !mark.acked) {
                found = Some((at, mark_at, segment.number, *mark));
                break;
            }
        }
        let Some((at, mark_at, segment_number, mark)) = found else { return Ok(None) };
        if let Some(payload) = self.read(segment_number, &mark)? {
            return Ok(Some(Item::Record(Spooled {
                number: mark.number,
                stamp: mark.stamp,
                payload,
            })));
        }
        if let Some(segment) = self.segments.get_mut(at) {
            segment.marks.remove(mark_at);
            segment.unacked -= 1;
            segment.rotten = true;
        }
        self.account_for(&[mark]);
        let dropped = self.take_from_books(&[mark], DropReason::Damaged);
        Ok(dropped.into_iter().next().map(Item::Dropped))
    }

    pub(super) fn discard(&mut self, number: u64) -> Option<Dropped> {
        for segment in &mut self.segments {
            let Ok(at) = segment.marks.binary_search_by_key(&number, |mark| mark.number) else {
                continue;
            };
            if segment.marks.get(at).is_none_or(|mark| mark.acked) {
                return None;
            }
            let mark = segment.marks.remove(at);
            segment.unacked -= 1;
            self.account_for(&[mark]);
            return self.take_from_books(&[mark], DropReason::Discarded).into_iter().next();
        }
        None
    }

    /// The payload of a record, or `None` when it is damaged.
    fn read(&mut self, segment: u64, mark: &Mark) -> Result<Option<Vec<u8>>, QueueError> {
        if self.reading.as_ref().is_none_or(|(number, _)| *number != segment) {
            let path = segment_path(&self.dir, segment);
            let file = match self.disk.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(QueueError::Read { path, source: Arc::new(source) }),
            };
            self.reading = Some((segment, file));
        }
        let Some((_, file)) = &self.reading else { return Ok(None) };
        let position = Position { segment, offset: u64::from(mark.offset) };
        let mut frame = [0; HEADER_BYTES];
        if file.read_exact_at(&mut frame, position.offset).is_err() {
            return Ok(None);
        }
        let Some(header) = RecordHeader::decode(position, &frame) else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(header.payload_bytes).unwrap_or(0)];
        let payload_at = position.offset + HEADER_BYTES as u64;
        if file.read_exact_at(&mut bytes, payload_at).is_err()
            || crc32c::crc32c(&bytes) != header.payload_crc
        {
            return Ok(None);
        }
        match Note::decode(header.kind, &bytes) {
            Some((Note::Record(numbered), payload))
                if numbered.number == mark.number && numbered.stamp == mark.stamp =>
            {
                Ok(Some(payload.to_vec()))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn ack_through(&mut self, epoch: Epoch, seq: u64) -> Count {
        let known = self.acked.get(&epoch).copied().flatten();
        if known.is_some_and(|known| known >= seq) {
            return Count::default();
        }
        let mut newly = Count::default();
        for segment in self.segments.iter_mut().filter(|segment| segment.unacked > 0) {
            for mark in &mut segment.marks {
                if !mark.acked && mark.stamp.epoch == epoch && mark.stamp.seq_last <= seq {
                    mark.acked = true;
                    segment.unacked -= 1;
                    newly.add(mark.count());
                }
            }
        }
        self.acked.insert(epoch, Some(seq));
        self.acked_unwritten.insert(epoch);
        self.newest_epoch = Some(epoch);
        self.totals.in_spool.sub(newly);
        self.totals.acked.add(newly);
        self.totals.kept.add(newly);
        newly
    }

    pub(super) fn rewind(&mut self, epoch: Epoch, through: Option<u64>) -> Count {
        let mut again = Count::default();
        for segment in &mut self.segments {
            for mark in &mut segment.marks {
                let stored = through.is_some_and(|seq| mark.stamp.seq_last <= seq);
                if mark.acked && mark.stamp.epoch == epoch && !stored {
                    mark.acked = false;
                    segment.unacked += 1;
                    again.add(mark.count());
                }
            }
        }
        if self.acked.get(&epoch).is_some_and(|known| *known > through) {
            self.acked.insert(epoch, through);
            self.acked_unwritten.insert(epoch);
        }
        self.totals.in_spool.add(again);
        self.totals.acked.sub(again);
        self.totals.kept.sub(again);
        again
    }

    /// Removes the segment at an index, whatever is in it, or renames it to `aside`. A failure leaves
    /// the segment.
    pub(super) fn remove(
        &mut self,
        at: usize,
        aside: Option<&Path>,
    ) -> Result<Vec<Dropped>, WriteFailure> {
        let Some(number) = self.segments.get(at).map(|segment| segment.number) else {
            return Ok(Vec::new());
        };
        if self.wal.as_ref().is_some_and(|wal| wal.position().segment == number) {
            self.cut()?;
        }
        if at > 0 {
            // A hole between records: the notes that explain it are durable before it is made.
            let marks = self.segments.get(at).map(|segment| segment.marks.clone());
            self.account_for(&marks.unwrap_or_default());
            self.rewrite_notes();
            self.wal()?;
            self.sync()?;
        }
        self.wal()?.remove(number, aside)?;
        self.reading = None;
        let Some(segment) = self.segments.remove(at) else { return Ok(Vec::new()) };
        let dropped = self.take_from_books(&segment.marks, DropReason::Full);
        self.forget_what_is_gone();
        Ok(dropped)
    }

    /// Whether a segment is the one being written.
    pub(super) fn is_current(&self, segment: &SegmentIndex) -> bool {
        self.wal.as_ref().is_some_and(|wal| wal.position().segment == segment.number)
    }

    fn cut(&mut self) -> Result<(), WriteFailure> {
        let Some(wal) = &mut self.wal else { return Ok(()) };
        match wal.cut() {
            Ok(number) => {
                let bytes = wal.position().offset;
                self.segments.push_back(SegmentIndex { number, bytes, ..SegmentIndex::default() });
                Ok(())
            }
            Err(error) => {
                let dropped = self.give_up(&error);
                Err(WriteFailure { error, dropped })
            }
        }
    }

    /// Forgets notes about what lies before the first record: a gap needs two sides.
    fn forget_what_is_gone(&mut self) {
        let first = self.segments.iter().find_map(|segment| segment.marks.first());
        let first_number = first.map_or(self.next_number, |mark| mark.number);
        self.accounted.retain(|accounted| accounted.end() > first_number);
        if self.acked.len() > EPOCHS_MAX {
            let mut epochs: BTreeSet<Epoch> = self.newest_epoch.into_iter().collect();
            for segment in &self.segments {
                epochs.extend(segment.marks.iter().map(|mark| mark.stamp.epoch));
            }
            self.acked.retain(|epoch, _| epochs.contains(epoch));
        }
    }
}
