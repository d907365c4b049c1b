//! Points that count from the point before, added up to points that count from the beginning.
//!
//! The rules are those of the OpenTelemetry collector's `deltatocumulative`: a stream begins with its
//! first point; each further one is added, whatever time lies between; one that is not younger than the
//! last, or counts from before the stream began, is refused; a sender that begins anew is counted on; a
//! stream of which nothing comes for [`DeltaLimits::stale_ms`] ends, and begins anew with its next point,
//! which queries see as a counter's reset. Histograms of other bounds begin anew, exponential ones become
//! as coarse as [`Total`] says. One thing is more: the last point repeated, as who got no answer sends it,
//! is answered with what the stream has come to, and not added again; it is known by its times and by a hash
//! of what it says. Another one of these times is refused.
//!
//! A point that is wrong by itself ([`check`]), or whose sum would be, is refused and leaves its stream as
//! it was: what is wrong in it would be wrong in all that come after.
//!
//! Streams are told apart by what the caller says of them: a name that has a byte `ff` is, up to there, its
//! sender's, who has a quarter of all room at most. Time comes from outside. Bounds:
//! [`DeltaLimits::streams_max`], [`DELTA_BYTES_MAX`] and
//! [`STREAM_NUMBERS_MAX`]; what finds no room is refused and counted.
//! [`Deltas::write`] and [`Deltas::read`] keep streams over a restart.

mod check;
mod kept;

use std::collections::HashMap;

use stoa_model::TimestampMs;
use stoa_model::histogram::SCHEMA_MIN;

use super::{Measure, Point, Total};

/// Most bytes of all streams together, their names included.
pub const DELTA_BYTES_MAX: usize = 128 << 20;

/// Most bounds and buckets of a stream's histogram, each of whose points may ask for a copy.
pub const STREAM_NUMBERS_MAX: usize = 4096;

/// A sender has one part of so many of all room.
const SENDERS: usize = 4;

/// How often streams of which nothing comes are looked for, in milliseconds.
const SWEEP_MS: i64 = 60_000;

/// What a stream takes beside its name and buckets, in bytes.
const STREAM_BYTES: usize = 256;

/// Bounds of [`Deltas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaLimits {
    /// Most streams.
    pub streams_max: usize,
    /// After how long without a point a stream ends, in milliseconds; never when 0.
    pub stale_ms: i64,
}

/// Why a point is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaFault {
    /// Of a time before the last one's, or of the same and not the same point.
    #[error("it is not younger than the point before, which is another")]
    OutOfOrder,
    /// It counts from before the stream began.
    #[error("it counts from before its series began here")]
    OlderStart,
    /// Of a time after all that is taken.
    #[error("it is too far in the future")]
    Ahead,
    /// A histogram of more than [`STREAM_NUMBERS_MAX`].
    #[error("a histogram of deltas with more than {STREAM_NUMBERS_MAX} bounds and buckets")]
    TooWide,
    /// A number, or a histogram's sum, that is none.
    #[error("its value is not a finite number")]
    NotFinite,
    /// Of a sum that only grows.
    #[error("it is below zero, but its sum is said to be monotonic")]
    Negative,
    /// A histogram whose parts do not agree.
    #[error("its histogram's count, buckets and bounds do not agree")]
    Inconsistent,
    /// A histogram, or one with what came before it, for which there is no schema.
    #[error("its histogram is coarser than scale {SCHEMA_MIN}")]
    TooCoarse,
    /// There is no room for another stream.
    #[error(
        "too many series of deltas; otlp.delta_streams_max says how many there may be, a quarter of them of one sender"
    )]
    TooMany,
}

/// What became of points so far, and streams now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeltaCounts {
    /// Streams now.
    pub streams: u64,
    /// What they take, their names included.
    pub bytes: u64,
    /// Streams that ended because nothing came.
    pub ended: u64,
    /// Points added.
    pub added: u64,
    /// Points that came again.
    pub repeated: u64,
    /// Points refused: [`DeltaFault::OutOfOrder`].
    pub out_of_order: u64,
    /// Points refused: [`DeltaFault::OlderStart`].
    pub older_start: u64,
    /// Points refused: [`DeltaFault::Ahead`].
    pub ahead: u64,
    /// Points refused: [`DeltaFault::TooMany`] and [`DeltaFault::TooWide`].
    pub over_limit: u64,
    /// Points refused for what they say: [`DeltaFault::NotFinite`], [`DeltaFault::Negative`],
    /// [`DeltaFault::Inconsistent`] and [`DeltaFault::TooCoarse`].
    pub unfit: u64,
    /// Points before which something is missing: they count from after the point before.
    pub gaps: u64,
}

/// All streams.
#[derive(Debug)]
pub struct Deltas {
    limits: DeltaLimits,
    streams: HashMap<Box<[u8]>, Stream>,
    bytes: usize,
    /// What senders have of it.
    shares: HashMap<Box<[u8]>, Share>,
    swept_ms: TimestampMs,
    counts: DeltaCounts,
}

/// Streams and bytes of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    streams: usize,
    bytes: usize,
}

/// What a stream has come to.
#[derive(Clone, Debug, PartialEq)]
struct Stream {
    /// From when on it counts.
    begun_ns: u64,
    /// From when on its last point counts.
    start_ns: u64,
    /// Of when its last point is.
    time_ns: u64,
    /// What that said, see [`kept::hash`]; not known of streams that an earlier version kept.
    hash: Option<u64>,
    /// When that came.
    seen_ms: TimestampMs,
    total: Total,
}

impl Deltas {
    /// No streams yet.
    #[must_use]
    pub fn new(limits: DeltaLimits) -> Self {
        let counts = DeltaCounts::default();
        Self {
            limits,
            streams: HashMap::new(),
            bytes: 0,
            shares: HashMap::new(),
            swept_ms: i64::MIN,
            counts,
        }
    }

    /// What became of points so far.
    #[must_use]
    pub fn counts(&self) -> DeltaCounts {
        DeltaCounts { streams: self.streams.len() as u64, bytes: self.bytes as u64, ..self.counts }
    }

    /// Adds a point to its stream, which it begins where there is none: what the stream has come to.
    /// Points after `horizon_ms` would hold up all that come after them. `None` for what cannot be added
    /// up: a point without a value, and summaries. `grows` says that a sum is monotonic.
    ///
    /// # Errors
    /// [`DeltaFault`]; the stream is as it was.
    pub fn add(
        &mut self,
        stream: &[u8],
        point: &Point<'_>,
        grows: bool,
        now_ms: TimestampMs,
        horizon_ms: TimestampMs,
    ) -> Result<Option<Total>, DeltaFault> {
        let Some(measured) = Total::of(&point.measure) else { return Ok(None) };
        self.sweep_if_due(now_ms);
        let added = self.add_measured(stream, (point, grows), measured, (now_ms, horizon_ms));
        let counts = &mut self.counts;
        match &added {
            Ok(_) => {}
            Err(DeltaFault::OutOfOrder) => counts.out_of_order += 1,
            Err(DeltaFault::OlderStart) => counts.older_start += 1,
            Err(DeltaFault::Ahead) => counts.ahead += 1,
            Err(DeltaFault::TooMany | DeltaFault::TooWide) => counts.over_limit += 1,
            Err(
                DeltaFault::NotFinite
                | DeltaFault::Negative
                | DeltaFault::Inconsistent
                | DeltaFault::TooCoarse,
            ) => counts.unfit += 1,
        }
        added.map(Some)
    }

    /// From when on a stream counts, in nanoseconds since 1970; 0 where its first point did not say so.
    #[must_use]
    pub fn begun_ns(&self, stream: &[u8]) -> Option<u64> {
        self.streams.get(stream).map(|stream| stream.begun_ns)
    }

    fn add_measured(
        &mut self,
        name: &[u8],
        (point, grows): (&Point<'_>, bool),
        measured: Total,
        (now_ms, horizon_ms): (TimestampMs, TimestampMs),
    ) -> Result<Total, DeltaFault> {
        let (start_ns, time_ns) = (point.start_ns, point.time_ns);
        if i64::try_from(time_ns / 1_000_000).unwrap_or(i64::MAX) > horizon_ms {
            return Err(DeltaFault::Ahead);
        }
        if measured.bytes() > STREAM_NUMBERS_MAX * size_of::<u64>() {
            return Err(DeltaFault::TooWide);
        }
        check::measured(&point.measure, grows)?;
        let hash = Some(kept::hash(&measured));
        let is_stale = |stream: &Stream| self.limits.is_stale(stream, now_ms);
        if self.streams.get(name).is_some_and(is_stale) {
            self.forget(name);
        }
        let Some(stream) = self.streams.get_mut(name) else {
            let begun_ns = start_ns;
            let total = measured;
            let stream = Stream { begun_ns, start_ns, time_ns, hash, seen_ms: now_ms, total };
            return self.begin(name, stream);
        };
        let is_same = stream.hash.is_none() || stream.hash == hash;
        if is_same && (start_ns, time_ns) == (stream.start_ns, stream.time_ns) {
            stream.seen_ms = now_ms;
            self.counts.repeated += 1;
            return Ok(stream.total.clone());
        }
        // Where it is not said from when on a point counts, nothing can be told by it.
        if start_ns != 0 && start_ns < stream.begun_ns {
            return Err(DeltaFault::OlderStart);
        }
        if time_ns <= stream.time_ns {
            return Err(DeltaFault::OutOfOrder);
        }
        let before = stream.total.bytes();
        let mut total = stream.total.clone();
        total.add(measured);
        if let Measure::Exponential(histogram) = total.measure()
            && histogram.scale < SCHEMA_MIN
        {
            return Err(DeltaFault::TooCoarse);
        }
        let after = self.bytes - before + total.bytes();
        let share = sender(name).and_then(|sender| self.shares.get_mut(sender));
        let of_sender = share.as_ref().map_or(0, |share| share.bytes - before + total.bytes());
        let is_full = after > DELTA_BYTES_MAX || of_sender > DELTA_BYTES_MAX.div_ceil(SENDERS);
        if is_full && total.bytes() > before {
            return Err(DeltaFault::TooMany);
        }
        self.bytes = after;
        if let Some(share) = share {
            share.bytes = of_sender;
        }
        self.counts.added += 1;
        self.counts.gaps += u64::from(start_ns > stream.time_ns);
        let begun_ns = stream.begun_ns;
        *stream = Stream { begun_ns, start_ns, time_ns, hash, seen_ms: now_ms, total };
        Ok(stream.total.clone())
    }

    fn begin(&mut self, name: &[u8], stream: Stream) -> Result<Total, DeltaFault> {
        let total = stream.total.clone();
        if !self.hold(name.into(), stream) {
            return Err(DeltaFault::TooMany);
        }
        self.counts.added += 1;
        Ok(total)
    }

    /// Takes a stream that there is not yet, if there is room.
    fn hold(&mut self, name: Box<[u8]>, stream: Stream) -> bool {
        let bytes = STREAM_BYTES + name.len() + stream.total.bytes();
        let has_room = |held: Share, parts: usize| {
            held.streams < self.limits.streams_max.div_ceil(parts)
                && held.bytes + bytes <= DELTA_BYTES_MAX.div_ceil(parts)
        };
        let all = Share { streams: self.streams.len(), bytes: self.bytes };
        let of_sender = |sender| self.shares.get(sender).copied().unwrap_or_default();
        let sender = sender(&name);
        if !has_room(all, 1) || sender.is_some_and(|sender| !has_room(of_sender(sender), SENDERS)) {
            return false;
        }
        if let Some(sender) = sender {
            let share = self.shares.entry(sender.into()).or_default();
            share.streams += 1;
            share.bytes += bytes;
        }
        self.bytes += bytes;
        self.streams.insert(name, stream);
        true
    }

    fn forget(&mut self, name: &[u8]) {
        if let Some(stream) = self.streams.remove(name) {
            let bytes = STREAM_BYTES + name.len() + stream.total.bytes();
            self.bytes -= bytes;
            if let Some(sender) = sender(name)
                && let Some(share) = self.shares.get_mut(sender)
            {
                share.streams -= 1;
                share.bytes -= bytes;
                if share.streams == 0 {
                    self.shares.remove(sender);
                }
            }
            self.counts.ended += 1;
        }
    }

    fn sweep_if_due(&mut self, now_ms: TimestampMs) {
        if now_ms.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        let limits = self.limits;
        let stale = self.streams.iter().filter(|(_, stream)| limits.is_stale(stream, now_ms));
        let stale: Vec<Box<[u8]>> = stale.map(|(name, _)| name.clone()).collect();
        for name in stale {
            self.forget(&name);
        }
    }
}

/// Whose stream it is, where its name says so.
fn sender(name: &[u8]) -> Option<&[u8]> {
    name.iter().position(|byte| *byte == 0xff).and_then(|end| name.get(..end))
}

impl DeltaLimits {
    fn is_stale(self, stream: &Stream, now_ms: TimestampMs) -> bool {
        self.stale_ms > 0 && now_ms.saturating_sub(stream.seen_ms) > self.stale_ms
    }
}

#[cfg(test)]
mod tests;
