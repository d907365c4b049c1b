//! Reading a stream back when the queue is opened: what is there, what is missing, and whether more
//! may be missing than can be known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::note::{Accounted, Note, Numbered};
use super::stream::{Mark, SegmentIndex, Stream};
use super::{Count, DropReason, Dropped, Epoch, QueueError, Stamp};
use crate::segment::{list_segments, segment_path};
use crate::{DamageReason, Disk, Entry, Position, Reader, WalOptions};

/// Higher record numbers were never written by us; they must not exhaust the numbers.
const NUMBER_MAX: u64 = 1 << 56;

/// What opening a queue found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Each stream that was there.
    pub streams: Vec<StreamRecovery>,
    /// What is known to be lost by damage. It is in the books and will not be told again.
    pub dropped: Vec<Dropped>,
    /// What could not be opened. The streams concerned are tried again at each push.
    pub errors: Vec<QueueError>,
}

/// What opening a stream found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecovery {
    /// The stream.
    pub stream: u8,
    /// Whether it was closed in good order. If not, records pushed after `last` and never synced may
    /// be missing, and their number is not known.
    pub clean: bool,
    /// The stamp of the newest record that is there.
    pub last: Option<Stamp>,
    /// Records that wait to be acknowledged.
    pub in_spool: Count,
    /// Records that were acknowledged and are kept.
    pub kept: Count,
    /// Bytes that were durable once and are damaged.
    pub rotten_bytes: u64,
    /// Unsynced bytes that a crash left unreadable.
    pub torn_bytes: u64,
}

impl Recovery {
    /// Whether every stream was closed in good order.
    pub fn clean(&self) -> bool {
        self.streams.iter().all(|stream| stream.clean)
    }
}

pub(super) fn stream_dir(dir: &Path, stream: u8) -> PathBuf {
    dir.join(format!("stream-{stream:02x}"))
}

pub(super) fn stream_of_name(name: &str) -> Option<u8> {
    let stream = u8::from_str_radix(name.strip_prefix("stream-")?, 16).ok()?;
    (format!("stream-{stream:02x}") == name).then_some(stream)
}

/// Opens a stream that is there. What it cannot do goes into `recovery`.
pub(super) fn recover(
    id: u8,
    dir: PathBuf,
    disk: &Arc<dyn Disk>,
    options: WalOptions,
    recovery: &mut Recovery,
) -> Stream {
    let mut stream = Stream::new(id, dir, Arc::clone(disk), options);
    let found = list_segments(&**disk, &stream.dir);
    let segments = found.unwrap_or_else(|source| {
        let dir = stream.dir.clone();
        recovery.errors.push(QueueError::Open { dir, source: Arc::new(source) });
        Vec::new()
    });
    let last_segment = segments.last().copied();
    // First the log, which makes durable what an earlier process left, then its records.
    if let Err(error) = stream.wal() {
        recovery.errors.push(QueueError::Log(error));
    }
    let current = stream.segments.pop_back();
    for number in segments {
        let bytes = disk.open(&segment_path(&stream.dir, number)).and_then(|file| file.size());
        let bytes = bytes.unwrap_or(0);
        stream.segments.push_back(SegmentIndex { number, bytes, ..SegmentIndex::default() });
    }
    let mut scan = Scan::default();
    match Reader::open(Arc::clone(disk), &stream.dir, 0) {
        Ok(reader) => reader.for_each(|entry| scan.take(entry, &mut stream)),
        Err(error) => recovery.errors.push(QueueError::Log(error)),
    }
    stream.segments.extend(current);
    recovery.dropped.extend(scan.settle(&mut stream));
    recovery.streams.push(StreamRecovery {
        stream: id,
        clean: last_segment == scan.closed_in,
        last: scan.last.map(|last| last.stamp),
        in_spool: stream.totals.in_spool,
        kept: stream.totals.kept,
        rotten_bytes: scan.rotten_bytes,
        torn_bytes: scan.torn_bytes,
    });
    stream
}

/// What is learnt from the entries of a log, in order.
#[derive(Debug, Default)]
struct Scan {
    last: Option<Numbered>,
    gaps: Vec<Gap>,
    acked: BTreeMap<Epoch, Option<u64>>,
    /// By the first number; of two from there the longer was written later.
    accounted: BTreeMap<u64, Accounted>,
    /// The segment that ends with a closing note.
    closed_in: Option<u64>,
    closed_samples: u64,
    /// The number after the last that was ever given, as far as is known.
    next_number: u64,
    rotten_bytes: u64,
    torn_bytes: u64,
}

/// Numbers that should stand between two records, or behind the last, and do not.
#[derive(Debug)]
struct Gap {
    missing: Accounted,
    before: Stamp,
    after: Option<Stamp>,
}

impl Scan {
    fn take(&mut self, entry: Entry, stream: &mut Stream) {
        match entry {
            Entry::Record { position, kind, payload } => {
                let Some((note, payload)) = Note::decode(kind, &payload) else { return };
                if note.end() > NUMBER_MAX {
                    return;
                }
                self.closed_in = None;
                match note {
                    Note::Record(numbered) => {
                        self.record(position, numbered, payload.len(), stream);
                    }
                    Note::Acked { epoch, through } => {
                        self.acked.insert(epoch, through);
                    }
                    Note::Accounted(accounted) => {
                        let known = self.accounted.entry(accounted.number).or_insert(accounted);
                        if known.records < accounted.records {
                            *known = accounted;
                        }
                        self.next_number = self.next_number.max(accounted.end());
                    }
                    Note::Closed { records, samples } => {
                        self.closed_in = Some(position.segment);
                        self.closed_samples = samples;
                        self.gap_before(records, samples, None);
                        self.next_number = self.next_number.max(records);
                    }
                }
            }
            Entry::Damage { segment, bytes, reason, synced, .. } => {
                self.closed_in = None;
                if !synced {
                    self.torn_bytes += bytes;
                } else if reason != DamageReason::Missing {
                    self.rotten_bytes += bytes;
                    if let Some(segment) = index_of(stream, segment) {
                        segment.rotten = true;
                    }
                }
            }
        }
    }

    fn record(
        &mut self,
        position: Position,
        numbered: Numbered,
        payload_bytes: usize,
        stream: &mut Stream,
    ) {
        // Numbers only grow; one that does not was never written here by us.
        if self.last.is_some_and(|last| last.number >= numbered.number) {
            return;
        }
        self.gap_before(numbered.number, numbered.samples_before, Some(numbered.stamp));
        self.last = Some(numbered);
        self.next_number = self.next_number.max(numbered.number.saturating_add(1));
        if let Some(segment) = index_of(stream, position.segment) {
            segment.add(Mark {
                number: numbered.number,
                stamp: numbered.stamp,
                offset: u32::try_from(position.offset).unwrap_or(u32::MAX),
                payload_bytes: u32::try_from(payload_bytes).unwrap_or(u32::MAX),
                acked: false,
            });
        }
    }

    fn gap_before(&mut self, number: u64, samples_before: u64, after: Option<Stamp>) {
        let Some(last) = self.last else { return };
        let from = last.number.saturating_add(1);
        if from < number {
            let known = last.samples_before.saturating_add(last.stamp.samples);
            let samples = samples_before.saturating_sub(known);
            let missing = Accounted { number: from, records: number - from, samples };
            self.gaps.push(Gap { missing, before: last.stamp, after });
        }
    }

    /// Brings the stream's books into order; returns what is newly known to be lost.
    fn settle(&mut self, stream: &mut Stream) -> Vec<Dropped> {
        stream.acked = std::mem::take(&mut self.acked);
        stream.next_number = self.next_number;
        stream.samples_total = self.samples_total();
        let accounted: Vec<Accounted> = self.accounted.values().copied().collect();
        for segment in &mut stream.segments {
            // Told of as lost because the disk failed twice over them; here they are again.
            segment.marks.retain(|mark| {
                !accounted.iter().any(|told| (told.number..told.end()).contains(&mark.number))
            });
            segment.unacked = 0;
            for mark in &mut segment.marks {
                let through = stream.acked.get(&mark.stamp.epoch).copied().flatten();
                mark.acked = through.is_some_and(|through| through >= mark.stamp.seq_last);
                segment.unacked += u64::from(!mark.acked);
                stream.totals.recovered.add(mark.count());
                if mark.acked {
                    stream.totals.acked.add(mark.count());
                    stream.totals.kept.add(mark.count());
                } else {
                    stream.totals.in_spool.add(mark.count());
                }
            }
        }
        // Notes go with the segments they stand in, and these may go before the records they are
        // about: each run begins with all that still matter.
        let here = stream.segments.iter().flat_map(|segment| &segment.marks);
        let epochs: BTreeSet<Epoch> = here.map(|mark| mark.stamp.epoch).collect();
        stream.acked.retain(|epoch, _| epochs.contains(epoch));
        stream.acked_unwritten = stream.acked.keys().copied().collect();
        stream.accounted_unwritten = !accounted.is_empty();
        stream.accounted = accounted;
        let mut dropped = Vec::new();
        for gap in &self.gaps {
            let lost = gap.unexplained(&stream.accounted);
            if lost.records == 0 {
                continue;
            }
            let missing = gap.missing;
            stream
                .accounted
                .retain(|told| told.end() <= missing.number || told.number >= missing.end());
            stream.accounted.push(missing);
            stream.accounted_unwritten = true;
            if let Some(one) = gap.dropped(stream, lost) {
                stream.totals.recovered.add(one.count());
                stream.totals.dropped.add(one.count());
                dropped.push(one);
            }
        }
        dropped
    }

    fn samples_total(&self) -> u64 {
        let Some(last) = self.last else { return self.closed_samples };
        let behind = self.accounted.range(last.number..).map(|(_, told)| told.samples);
        let total = last.samples_before.saturating_add(last.stamp.samples);
        behind.fold(total, u64::saturating_add).max(self.closed_samples)
    }
}

impl Gap {
    fn unexplained(&self, told: &[Accounted]) -> Accounted {
        let mut left = self.missing;
        for told in told {
            let from = told.number.max(self.missing.number);
            let to = told.end().min(self.missing.end());
            if from < to {
                left.records = left.records.saturating_sub(to - from);
                left.samples = left.samples.saturating_sub(told.samples);
            }
        }
        left
    }

    /// The loss, unless all of it was acknowledged before.
    fn dropped(&self, stream: &Stream, lost: Accounted) -> Option<Dropped> {
        let (epoch, seq_first) = (self.before.epoch, self.before.seq_last.saturating_add(1));
        let after = self.after.filter(|after| after.epoch == epoch);
        let seq_last = after.map_or(u64::MAX, |after| after.seq_first.saturating_sub(1));
        if stream.acked.get(&epoch).is_some_and(|known| *known >= Some(seq_last)) {
            return None;
        }
        Some(Dropped {
            stream: stream.id,
            epoch,
            seq_first,
            seq_last,
            records: lost.records,
            samples: lost.samples,
            t_first_ms: self.before.t_last_ms,
            t_last_ms: self.after.map_or(self.before.t_last_ms, |after| after.t_first_ms),
            bytes: 0,
            reason: DropReason::Damaged,
        })
    }
}

fn index_of(stream: &mut Stream, segment: u64) -> Option<&mut SegmentIndex> {
    let at = stream.segments.binary_search_by_key(&segment, |index| index.number).ok()?;
    stream.segments.get_mut(at)
}
