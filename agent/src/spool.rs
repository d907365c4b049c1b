//! The spool: what waits on disk for the collector, and what it has and might lose again.
//!
//! Constraints
//! - A leg's records are read back in the order of their numbers; the collector relies on it.
//! - A record acknowledged is kept for [`SpoolOptions::keep_ms`] and sent again when the collector
//!   turns out to have less than it acknowledged; but only those of the [`LEGS_KEPT`] newest legs, as
//!   the collector does not remember all there ever were.
//! - Every record that goes without being acknowledged becomes a drop record, durable here as well.
//! - Few ticks at a time do not become a record each, which would name every series again: see
//!   [`Tail`].
//!
//! Format: a [`Queue`] of four streams. A queue epoch is one leg: 12 bytes of the epoch, then the
//! leg's number (little endian). A queue sequence number is the process's **generation** (upper
//! bits from 2^40; it counts starts) and the number within the leg. Every [`THIN_EVERY`]th record of
//! ticks goes to a stream of its own, which is evicted last: so a spool that is full is thinned
//! first, and only then loses its oldest. Payloads: a version byte; ticks: their count (4 bytes,
//! little endian) and a wire payload that starts with a key frame; drop records: the wire's frame;
//! increments: 1 when it begins a payload, else 0, then ticks as above, the payload's next part.
//!
//! Bounds: the queue's; [`RECORD_SAMPLES_MAX`], [`RECORD_BYTES_MAX`]; [`KEEP_TICKS`] ticks being packed.
//! It knows neither sockets nor clocks; calls block.

mod pack;
mod tail;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use stoa_model::TimestampMs;
use stoa_proto::delivery::{DropReason, DropRecord, Epoch, LEGS_KEPT, Leg, Mark, Stream};
use stoa_proto::message::Push;
use stoa_proto::tick::Tick;
use stoa_proto::v1;
use stoa_wal::queue::{self, Dropped, Item, Spooled, Stamp};
use stoa_wal::{Disk, Queue, QueueError, QueueOptions};

pub use tail::TAIL_TICKS;

use pack::Pack;
use tail::Tail;

use crate::uplink::event::{
    Lane, Record, RecordBody, SpoolDone, SpoolJob, SpoolWorker, drop_record,
};

/// One record of ticks in so many outlives thinning.
pub const THIN_EVERY: u64 = 6;

/// Samples of one record, at most: what is decoded at once on the other side.
pub const RECORD_SAMPLES_MAX: usize = 1 << 16;

/// Bytes of one record's payload, at most.
pub const RECORD_BYTES_MAX: u32 = 1 << 20;

/// Acknowledged ticks packed into one record: a minute at one a second.
pub const KEEP_TICKS: usize = 60;

const CRITICAL: u8 = 1;
const DENSE: u8 = 2;
const THIN: u8 = 3;
/// Increments; never evicted, as there are [`TAIL_TICKS`] at most that wait.
const TAIL: u8 = 4;

/// The first byte of every payload.
const VERSION: u8 = 1;

const GENERATION_SHIFT: u32 = 40;
const NUMBER_MASK: u64 = (1 << GENERATION_SHIFT) - 1;

/// The limits of a spool.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Bytes on disk, at most.
    pub bytes_max: u64,
    /// What waits longer than this is dropped, milliseconds.
    pub age_max_ms: i64,
    /// How long acknowledged records are kept, milliseconds.
    pub keep_ms: i64,
    /// Nothing is written when the disk has fewer bytes free.
    pub free_bytes_min: u64,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            age_max_ms: 24 * 3_600_000,
            keep_ms: 3_600_000,
            free_bytes_min: 64 << 20,
        }
    }
}

/// What opening a spool found.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Samples that wait.
    pub recovered: u64,
    /// What is lost by damage or by an end without saving; told to the collector as well.
    pub dropped: Vec<DropRecord>,
}

/// The spool of one agent process.
#[derive(Debug)]
pub struct Spool {
    queue: Queue,
    options: SpoolOptions,
    /// Of the drop records of this process.
    critical: Leg,
    critical_seq: u64,
    generation: u64,
    /// Records of ticks appended by this process.
    appended: u64,
    /// The last number appended to the newest leg.
    last: Option<(Leg, u64)>,
    /// Where reading goes on, and what was read ahead, of [`CRITICAL`], [`DENSE`] and [`THIN`].
    readers: [Reader; 3],
    keep: Option<Keep>,
    tail: Option<Tail>,
    /// Lost by work whose answer cannot say so; the next answer that can does.
    lost: Vec<DropRecord>,
}

#[derive(Debug)]
struct Reader {
    stream: u8,
    from: u64,
    head: Option<Spooled>,
}

/// Acknowledged ticks being packed.
struct Keep {
    leg: Leg,
    pack: Pack,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep").field("leg", &self.leg).finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens the spool in `dir` for a process. Damage is told, never fatal.
    ///
    /// # Errors
    /// [`QueueError`] when the directory cannot be used.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: SpoolOptions,
        epoch: Epoch,
        now: TimestampMs,
    ) -> Result<(Self, Opened), QueueError> {
        let queue_options = QueueOptions {
            bytes_max: options.bytes_max,
            record_bytes_max: RECORD_BYTES_MAX,
            free_bytes_min: options.free_bytes_min,
            evict: vec![DENSE, THIN],
            ..QueueOptions::default()
        };
        let (queue, recovery) = Queue::open(disk, dir, queue_options)?;
        let generations = [CRITICAL, DENSE, THIN, TAIL]
            .into_iter()
            .flat_map(|stream| queue.newest(stream))
            .map(|stamp| stamp.seq_last >> GENERATION_SHIFT);
        let generation = generations.max().unwrap_or(0) + 1;
        let mut dropped: Vec<DropRecord> = recovery.dropped.iter().map(told).collect();
        let unclean = recovery
            .streams
            .iter()
            .filter(|stream| !stream.clean && stream.stream != CRITICAL)
            .filter_map(|stream| stream.last)
            .max_by_key(|stamp| stamp.seq_last);
        if let Some(last) = unclean {
            let (leg, seq) = (leg_of(last.epoch, Stream::Metrics), last.seq_last & NUMBER_MASK);
            let (seqs, times) = ((seq + 1, u64::MAX), (last.t_last_ms, now));
            dropped.push(drop_record(leg, seqs, 0, times, DropReason::Crashed));
        }
        let mut spool = Self {
            queue,
            options,
            critical: Leg { epoch, stream: Stream::Critical, number: 0 },
            critical_seq: 0,
            generation,
            appended: 0,
            last: None,
            readers: [CRITICAL, DENSE, THIN].map(|stream| Reader { stream, from: 0, head: None }),
            keep: None,
            tail: None,
            lost: Vec::new(),
        };
        spool.recover_tail();
        dropped.append(&mut spool.lost);
        let opened = Opened { recovered: spool.waiting_samples(), dropped };
        if !opened.dropped.is_empty() {
            spool.append_drops(&opened.dropped);
        }
        Ok((spool, opened))
    }

    /// Samples that wait to be acknowledged.
    #[must_use]
    pub fn waiting_samples(&self) -> u64 {
        let waiting = |stream| self.queue.stream_totals(stream).in_spool.samples;
        [DENSE, THIN, TAIL].map(waiting).iter().sum()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.queue.bytes()
    }

    /// Does what the uplink asks.
    pub fn run(&mut self, job: SpoolJob, now: TimestampMs) -> Option<SpoolDone> {
        if !matches!(job, SpoolJob::Append { .. } | SpoolJob::AppendDrops(_)) {
            self.seal();
        }
        Some(match job {
            SpoolJob::Append { leg, seq_first, ticks } => self.append(leg, seq_first, &ticks),
            SpoolJob::AppendDrops(records) => {
                let durable = self.append_drops(&records);
                SpoolDone::DropsAppended { records: records.len(), durable }
            }
            SpoolJob::Keep { leg, seq, tick } => {
                self.keep(leg, seq, &tick);
                if self.keep.is_none() {
                    self.forget(now);
                }
                return None;
            }
            SpoolJob::Survey { marks, live, live_from } => {
                self.survey(&marks, live, live_from, now)
            }
            SpoolJob::Next { lane: Lane::Critical, .. } => self.next_critical(),
            SpoolJob::Next { lane: Lane::Backlog, except } => self.next_backlog(except, now),
            SpoolJob::Acknowledge { leg, seq } => {
                SpoolDone::Acknowledged { samples: self.acknowledge(leg, seq) }
            }
        })
    }

    /// Ends in good order: everything durable, and a mark that says so.
    pub fn close(mut self) {
        self.seal();
        self.flush_keep();
        // What a failing disk drops now nobody can be told any more; the next opening finds it.
        let _outcome = self.queue.close();
    }

    fn append(&mut self, leg: Leg, seq_first: u64, ticks: &[Arc<Tick>]) -> SpoolDone {
        self.flush_keep();
        let mut through = None;
        let mut rest: &[Arc<Tick>] = ticks;
        let mut seq = seq_first;
        let follows = self.tail.as_ref().is_some_and(|tail| {
            !tail.closed && tail.leg == leg && tail.pack.seq_last() + 1 == seq_first
        });
        if !follows && !self.seal() {
            rest = &[];
        }
        while !rest.is_empty() {
            if self.tail.as_ref().is_some_and(|tail| tail.closed) && !self.seal() {
                break;
            }
            let tail = self.tail.take();
            let taken = self.add_to_tail(tail, leg, seq, rest);
            if taken == 0 {
                break;
            }
            seq += taken as u64;
            through = Some(seq - 1);
            self.last = Some((leg, seq - 1));
            rest = rest.get(taken..).unwrap_or_default();
        }
        SpoolDone::Appended { leg, through, dropped: std::mem::take(&mut self.lost) }
    }

    /// A record of ticks, durable.
    fn push_ticks(&mut self, stamp: Stamp, payload: &[u8]) -> bool {
        let stream = if self.appended.is_multiple_of(THIN_EVERY) { THIN } else { DENSE };
        let durable = self.push_durably(stream, stamp, payload);
        self.appended += u64::from(durable);
        durable
    }

    /// Pushes and syncs; once more when that failed, as the queue opens a new segment then.
    fn push_durably(&mut self, stream: u8, stamp: Stamp, payload: &[u8]) -> bool {
        for _ in 0..2 {
            let pushed = self.queue.push(stream, stamp, payload);
            let mut gone = self.lose_all_but(&pushed.dropped, stream, &stamp);
            if !gone {
                let synced = self.queue.sync();
                gone = self.lose_all_but(&synced.dropped, stream, &stamp);
            }
            if !gone {
                return true;
            }
        }
        false
    }

    /// Remembers what was lost, but for the record of `stamp`, which its giver still has, and for
    /// drop records, about which none is written; whether that one was lost.
    fn lose_all_but(&mut self, lost: &[Dropped], stream: u8, stamp: &Stamp) -> bool {
        let mut itself = false;
        for one in lost {
            let holds = one.stream == stream
                && one.epoch == stamp.epoch
                && one.seq_first <= stamp.seq_first
                && stamp.seq_last <= one.seq_last;
            let mut record = told(one);
            if holds && !itself {
                itself = true;
                record.samples = record.samples.saturating_sub(stamp.samples);
                record.seq_last = (stamp.seq_first & NUMBER_MASK).saturating_sub(1);
                if one.records <= 1 {
                    continue;
                }
            }
            if one.stream != CRITICAL {
                self.lost.push(record);
            }
        }
        itself
    }

    fn stamp(&self, leg: Leg, pack: &Pack) -> Stamp {
        Stamp {
            epoch: queue_epoch(leg),
            seq_first: self.numbered(pack.seq_first),
            seq_last: self.numbered(pack.seq_last()),
            samples: pack.samples as u64,
            t_first_ms: pack.t_first,
            t_last_ms: pack.t_last,
        }
    }

    fn numbered(&self, seq: u64) -> u64 {
        self.generation << GENERATION_SHIFT | seq & NUMBER_MASK
    }

    fn append_drops(&mut self, records: &[DropRecord]) -> bool {
        let seq = self.critical_seq + 1;
        let times = records.iter().map(|record| record.t_first);
        let stamp = Stamp {
            epoch: queue_epoch(self.critical),
            seq_first: self.numbered(seq),
            seq_last: self.numbered(seq),
            samples: 0,
            t_first_ms: times.min().unwrap_or(0),
            t_last_ms: records.iter().map(|record| record.t_last).max().unwrap_or(0),
        };
        let frame = v1::Frame::from(Push::Drops { seq, records: records.to_vec() });
        let mut payload = vec![VERSION];
        payload.extend(frame.encode_to_vec());
        let durable = self.push_durably(CRITICAL, stamp, &payload);
        if durable {
            self.critical_seq = seq;
        }
        durable
    }

    fn keep(&mut self, leg: Leg, seq: u64, tick: &Tick) {
        let follows = self.keep.as_ref().is_some_and(|keep| {
            keep.leg == leg && keep.pack.seq_last() + 1 == seq && keep.pack.has_room(tick)
        });
        if !follows {
            self.flush_keep();
        }
        let keep = match self.keep.take() {
            Some(keep) => Ok(keep),
            None => Pack::new(seq, tick.t).map(|pack| Keep { leg, pack }),
        };
        // What cannot be packed is not kept; the collector has it.
        self.keep = keep.and_then(|mut keep| keep.pack.add(tick).map(|()| keep)).ok();
        if self.keep.as_ref().is_some_and(|keep| keep.pack.ticks >= KEEP_TICKS) {
            self.flush_keep();
        }
    }

    /// Writes the acknowledged ticks that are being packed, unsynced, unless the backlog needs the
    /// room.
    fn flush_keep(&mut self) {
        let Some(Keep { leg, pack }) = self.keep.take() else { return };
        if self.queue.bytes() > self.options.bytes_max / 2 {
            return;
        }
        let stamp = self.stamp(leg, &pack);
        // It is itself no loss: the collector has it.
        let pushed = self.queue.push(DENSE, stamp, &pack.payload());
        self.lose_all_but(&pushed.dropped, DENSE, &stamp);
        self.queue.ack_through(DENSE, stamp.epoch, stamp.seq_last);
    }

    /// Lets go of what has been kept long enough.
    fn forget(&mut self, now: TimestampMs) {
        let forgotten = self.queue.forget_acked_before(now - self.options.keep_ms);
        self.lost.extend(forgotten.dropped.iter().map(told));
    }

    fn acknowledge(&mut self, leg: Leg, seq: u64) -> u64 {
        let epoch = queue_epoch(leg);
        let streams: &[u8] =
            if leg.stream == Stream::Critical { &[CRITICAL] } else { &[DENSE, THIN] };
        let mut samples = 0;
        for &stream in streams {
            let newest = self.queue.newest(stream).into_iter().find(|stamp| stamp.epoch == epoch);
            if let Some(stamp) = newest {
                let through = stamp.seq_last & !NUMBER_MASK | seq & NUMBER_MASK;
                samples += self.queue.ack_through(stream, epoch, through).samples;
            }
        }
        samples
    }

    /// The collector's marks are the truth: what is at or below them is acknowledged, what is
    /// above waits.
    fn survey(&mut self, marks: &[Mark], live: Leg, live_from: u64, now: TimestampMs) -> SpoolDone {
        self.flush_keep();
        let (mut acknowledged, mut returned, mut live_leg_waits) = (0, 0, false);
        let oldest_kept = self.oldest_kept();
        for (stream, of) in
            [(CRITICAL, Stream::Critical), (DENSE, Stream::Metrics), (THIN, Stream::Metrics)]
        {
            for newest in self.queue.newest(stream) {
                let leg = leg_of(newest.epoch, of);
                let mark = marks.iter().find(|mark| mark.leg == leg).map(|mark| mark.seq);
                let through = mark.map(|seq| newest.seq_last & !NUMBER_MASK | seq & NUMBER_MASK);
                if let Some(through) = through {
                    acknowledged += self.queue.ack_through(stream, newest.epoch, through).samples;
                }
                if place_of(&newest) < oldest_kept {
                    continue;
                }
                let back = self.queue.rewind(stream, newest.epoch, through);
                returned += back.samples;
                live_leg_waits |= leg == live && back.records > 0;
            }
        }
        if let Some((leg, last)) = self.last
            && leg == live
        {
            let mark = marks.iter().find(|mark| mark.leg == leg).map_or(0, |mark| mark.seq);
            live_leg_waits |= last > mark && mark + 1 < live_from;
        }
        for reader in &mut self.readers {
            reader.from = 0;
            reader.head = None;
        }
        self.forget(now);
        let dropped = std::mem::take(&mut self.lost);
        SpoolDone::Surveyed { acknowledged, returned, live_leg_waits, dropped }
    }

    /// The place of the oldest leg of which what was acknowledged may be sent again.
    fn oldest_kept(&self) -> Place {
        let newest = [CRITICAL, DENSE, THIN].into_iter().flat_map(|stream| {
            self.queue.newest(stream).into_iter().map(move |stamp| (stream == CRITICAL, stamp))
        });
        // A leg has records in both streams of ticks.
        let legs: BTreeSet<(Place, bool)> =
            newest.map(|(critical, stamp)| (place_of(&stamp), critical)).collect();
        legs.iter().rev().nth(LEGS_KEPT - 1).map_or((0, 0), |(place, _)| *place)
    }

    fn next_critical(&mut self) -> SpoolDone {
        let lane = Lane::Critical;
        while let Some(found) = self.take_head(CRITICAL) {
            let stamp = found.stamp;
            let frame = found.payload.split_first().filter(|(version, _)| **version == VERSION);
            let push = frame
                .and_then(|(_, bytes)| v1::Frame::decode(bytes).ok())
                .and_then(|frame| Push::try_from(frame).ok());
            if let Some(Push::Drops { records, .. }) = push {
                let leg = leg_of(stamp.epoch, Stream::Critical);
                let seq = stamp.seq_last & NUMBER_MASK;
                let body = RecordBody::Drops(records);
                let record = Some(Record { leg, seq_first: seq, seq_last: seq, samples: 0, body });
                return SpoolDone::Next { lane, record, dropped: Vec::new() };
            }
            // It says nothing that can be read; it carries no samples.
            self.queue.discard(CRITICAL, found.number);
        }
        SpoolDone::Next { lane, record: None, dropped: Vec::new() }
    }

    fn next_backlog(&mut self, except: Option<Leg>, now: TimestampMs) -> SpoolDone {
        let lane = Lane::Backlog;
        self.forget(now);
        let mut next = None;
        while let Some(stream) = self.first_stream() {
            let Some(found) = self.take_head(stream) else { break };
            let stamp = found.stamp;
            let leg = leg_of(stamp.epoch, Stream::Metrics);
            if Some(leg) == except {
                continue;
            }
            let seqs = (stamp.seq_first & NUMBER_MASK, stamp.seq_last & NUMBER_MASK);
            let reason = if stamp.t_last_ms < now - self.options.age_max_ms {
                DropReason::SpoolAge
            } else if let Some(payload) = ticks_of(&found.payload, seqs) {
                next = Some(Record {
                    leg,
                    seq_first: seqs.0,
                    seq_last: seqs.1,
                    samples: u32::try_from(stamp.samples).unwrap_or(u32::MAX),
                    body: RecordBody::Ticks(payload),
                });
                break;
            } else {
                DropReason::SpoolDamaged
            };
            if let Some(gone) = self.queue.discard(stream, found.number) {
                self.lost.push(DropRecord { reason, ..told(&gone) });
            }
        }
        SpoolDone::Next { lane, record: next, dropped: std::mem::take(&mut self.lost) }
    }

    /// The stream of ticks whose next record comes first, by generation, leg and number.
    fn first_stream(&mut self) -> Option<u8> {
        let mut places = Vec::new();
        for stream in [DENSE, THIN] {
            if let Some(stamp) = self.head(stream).map(|head| head.stamp) {
                let generation = stamp.seq_first >> GENERATION_SHIFT;
                let number = leg_of(stamp.epoch, Stream::Metrics).number;
                places.push((generation, number, stamp.seq_first, stream));
            }
        }
        places.into_iter().min().map(|(_, _, _, stream)| stream)
    }

    /// The next record of a stream, which is read when it has not been.
    fn head(&mut self, stream: u8) -> Option<&Spooled> {
        let reader = self.readers.iter_mut().find(|reader| reader.stream == stream)?;
        while reader.head.is_none() {
            match self.queue.peek_from(stream, reader.from) {
                Ok(Some(Item::Record(found))) => {
                    reader.from = found.number + 1;
                    reader.head = Some(found);
                }
                Ok(Some(Item::Dropped(_))) if stream == CRITICAL => {}
                Ok(Some(Item::Dropped(lost))) => self.lost.push(told(&lost)),
                // An error passes or not; the record is asked for again with the next session.
                Ok(None) | Err(_) => return None,
            }
        }
        reader.head.as_ref()
    }

    fn take_head(&mut self, stream: u8) -> Option<Spooled> {
        self.head(stream)?;
        self.readers.iter_mut().find(|reader| reader.stream == stream)?.head.take()
    }
}

impl SpoolWorker for Spool {
    fn work(&mut self, job: SpoolJob, now: TimestampMs) -> Option<SpoolDone> {
        self.run(job, now)
    }

    fn end(self) {
        self.close();
    }
}

/// The wire payload of a record of ticks, when it holds as many as its stamp says.
fn ticks_of(payload: &[u8], (seq_first, seq_last): (u64, u64)) -> Option<Bytes> {
    let (version, rest) = payload.split_first()?;
    let (ticks, rest) = rest.split_first_chunk()?;
    let said = u64::from(u32::from_le_bytes(*ticks));
    (*version == VERSION && seq_first + said == seq_last + 1).then(|| Bytes::copy_from_slice(rest))
}

/// Where a leg stands among those of all processes: generation and number.
type Place = (u64, u32);

fn place_of(stamp: &Stamp) -> Place {
    (stamp.seq_last >> GENERATION_SHIFT, leg_of(stamp.epoch, Stream::Metrics).number)
}

fn queue_epoch(leg: Leg) -> queue::Epoch {
    let mut bytes = leg.epoch.0;
    for (byte, of_number) in bytes.iter_mut().skip(12).zip(leg.number.to_le_bytes()) {
        *byte = of_number;
    }
    bytes
}

fn leg_of(epoch: queue::Epoch, stream: Stream) -> Leg {
    let number = epoch.last_chunk().map_or(0, |number| u32::from_le_bytes(*number));
    let mut bytes = epoch;
    for byte in bytes.iter_mut().skip(12) {
        *byte = 0;
    }
    Leg { epoch: Epoch(bytes), stream, number }
}

/// What the queue lost, as it is told.
fn told(lost: &Dropped) -> DropRecord {
    let stream = if lost.stream == CRITICAL { Stream::Critical } else { Stream::Metrics };
    let reason = match lost.reason {
        queue::DropReason::Full if lost.stream == DENSE => DropReason::SpoolThinned,
        queue::DropReason::Full => DropReason::SpoolBytes,
        queue::DropReason::Discarded => DropReason::SpoolAge,
        queue::DropReason::Damaged => DropReason::SpoolDamaged,
        queue::DropReason::NoSpace
        | queue::DropReason::TooLong
        | queue::DropReason::WriteFailed => DropReason::SpoolFailed,
    };
    let end = if lost.seq_last == u64::MAX { u64::MAX } else { lost.seq_last & NUMBER_MASK };
    let seqs = (lost.seq_first & NUMBER_MASK, end);
    let times = (lost.t_first_ms, lost.t_last_ms);
    drop_record(leg_of(lost.epoch, stream), seqs, lost.samples, times, reason)
}

#[cfg(test)]
mod tests;
