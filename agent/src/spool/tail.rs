//! The ticks that came last, durable one by one, until they are enough for a record.

use std::sync::Arc;

use stoa_model::TimestampMs;
use stoa_proto::delivery::{DropReason, DropRecord, Leg};
use stoa_proto::tick::Tick;
use stoa_wal::queue::{Item, Stamp};

use super::pack::{Pack, with_header};
use super::{DENSE, Spool, TAIL, THIN, VERSION, told};

/// Ticks packed into one record when they come one by one: more make it denser, and the copy that is
/// written meanwhile larger.
pub const TAIL_TICKS: usize = 10;

/// Ticks being packed that wait for the collector: each is durable in [`TAIL`] as what it adds to the
/// payload, until the whole is a record of ticks like any other.
pub(super) struct Tail {
    pub(super) leg: Leg,
    pub(super) pack: Pack,
    /// The disk refused what was added last, so that nothing can be added behind it.
    pub(super) closed: bool,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("leg", &self.leg).finish_non_exhaustive()
    }
}

impl Spool {
    /// Packs ticks behind those of the tail, which is a new one when there is none, and makes them
    /// durable: how many were.
    pub(super) fn add_to_tail(
        &mut self,
        tail: Option<Tail>,
        leg: Leg,
        seq: u64,
        ticks: &[Arc<Tick>],
    ) -> usize {
        let tail = match (tail, ticks.first()) {
            (Some(tail), _) => Some(tail),
            (None, Some(first)) => {
                Pack::new(seq, first.t).ok().map(|pack| Tail { leg, pack, closed: false })
            }
            (None, None) => None,
        };
        let Some(mut tail) = tail else { return 0 };
        let before = tail.pack.extent();
        let mut times: Option<(TimestampMs, TimestampMs)> = None;
        for tick in ticks {
            let full = tail.pack.ticks > 0 && !tail.pack.has_room(tick);
            let so_far = tail.pack.extent();
            if full || tail.pack.add(tick).is_err() {
                break;
            }
            if tail.pack.ticks > 1 && tail.pack.is_too_long() {
                // The whole could not be written; alone, perhaps, it can.
                tail.pack.cut(&so_far);
                tail.closed = true;
                break;
            }
            let (first, last) = times.unwrap_or((tick.t, tick.t));
            times = Some((first.min(tick.t), last.max(tick.t)));
        }
        let taken = tail.pack.ticks - before.ticks;
        let (Some((t_first_ms, t_last_ms)), true) = (times, taken > 0) else {
            // No room behind it: the next comes into a new one.
            self.tail = (tail.pack.ticks > 0).then_some(tail);
            let full = self.tail.is_some() && self.seal();
            return if full { self.add_to_tail(None, leg, seq, ticks) } else { 0 };
        };
        let whole = self.stamp(leg, &tail.pack);
        let durable = if tail.pack.ticks >= TAIL_TICKS {
            let durable = self.push_ticks(whole, &tail.pack.payload());
            if durable {
                self.queue.ack_through(TAIL, whole.epoch, whole.seq_last);
                return taken;
            }
            durable
        } else {
            let stamp = Stamp {
                seq_first: self.numbered(seq),
                samples: (tail.pack.samples - before.samples) as u64,
                t_first_ms,
                t_last_ms,
                ..whole
            };
            self.push_durably(TAIL, stamp, &tail.pack.increment(&before))
        };
        if !durable {
            tail.pack.cut(&before);
            tail.closed = true;
        }
        self.tail = (tail.pack.ticks > 0).then_some(tail);
        if durable { taken } else { 0 }
    }

    /// Makes the tail a record of ticks; whether there is none any more.
    pub(super) fn seal(&mut self) -> bool {
        let Some(tail) = self.tail.take() else { return true };
        let stamp = self.stamp(tail.leg, &tail.pack);
        let durable = self.push_ticks(stamp, &tail.pack.payload());
        if durable {
            self.queue.ack_through(TAIL, stamp.epoch, stamp.seq_last);
        } else {
            self.tail = Some(Tail { closed: true, ..tail });
        }
        durable
    }

    /// Makes records of ticks of the increments that processes before this one have left.
    pub(super) fn recover_tail(&mut self) {
        let (mut from, mut part) = (0, None);
        while let Ok(Some(item)) = self.queue.peek_from(TAIL, from) {
            let found = match item {
                Item::Record(found) => found,
                Item::Dropped(lost) => {
                    self.lost.push(told(&lost));
                    continue;
                }
            };
            from = found.number + 1;
            let (stamp, payload) = (found.stamp, &found.payload);
            let packed = [DENSE, THIN]
                .into_iter()
                .flat_map(|stream| self.queue.newest(stream))
                .any(|one| one.epoch == stamp.epoch && one.seq_last >= stamp.seq_last);
            if packed {
                // The record was written, and the process ended before it could say so here.
                self.queue.ack_through(TAIL, stamp.epoch, stamp.seq_last);
                continue;
            }
            let increment = match payload.split_first_chunk() {
                Some((&[VERSION, begins], rest)) => rest
                    .split_first_chunk()
                    .map(|(ticks, bytes)| (begins == 1, u32::from_le_bytes(*ticks), bytes)),
                _ => None,
            };
            match (part.take(), increment) {
                (before, Some((true, ticks, bytes))) => {
                    self.push_part(before);
                    part = Some((stamp, ticks, bytes.to_vec()));
                }
                (Some((whole, sum, mut all)), Some((false, ticks, bytes)))
                    if continues(&whole, &stamp) =>
                {
                    all.extend_from_slice(bytes);
                    let whole = Stamp {
                        seq_last: stamp.seq_last,
                        samples: whole.samples + stamp.samples,
                        t_first_ms: whole.t_first_ms.min(stamp.t_first_ms),
                        t_last_ms: whole.t_last_ms.max(stamp.t_last_ms),
                        ..whole
                    };
                    part = Some((whole, sum.saturating_add(ticks), all));
                }
                (before, _) => {
                    part = before;
                    // What it continues is damaged.
                    if let Some(gone) = self.queue.discard(TAIL, found.number) {
                        let reason = DropReason::SpoolDamaged;
                        self.lost.push(DropRecord { reason, ..told(&gone) });
                    }
                }
            }
        }
        self.push_part(part);
    }

    /// What increments amount to; when the disk refuses, the next opening tries again.
    fn push_part(&mut self, part: Option<(Stamp, u32, Vec<u8>)>) {
        let Some((stamp, ticks, bytes)) = part else { return };
        if self.push_ticks(stamp, &with_header(&[VERSION], ticks, &bytes)) {
            self.queue.ack_through(TAIL, stamp.epoch, stamp.seq_last);
        }
    }
}

/// Whether an increment follows what came before.
fn continues(whole: &Stamp, next: &Stamp) -> bool {
    whole.epoch == next.epoch && whole.seq_last + 1 == next.seq_first
}
