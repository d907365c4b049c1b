//! Ticks packed into one payload, and the parts it grows by.

use stoa_model::TimestampMs;
use stoa_proto::frame::{Encoder, FrameError, TICKS_MAX};
use stoa_proto::tick::Tick;

use super::{RECORD_BYTES_MAX, RECORD_SAMPLES_MAX, VERSION};

/// Of an increment; a record of ticks has one less.
const HEADER_BYTES_MAX: usize = 6;

/// Ticks as a payload that starts with a key frame.
pub(super) struct Pack {
    encoder: Encoder,
    payload: Vec<u8>,
    pub(super) seq_first: u64,
    pub(super) ticks: usize,
    pub(super) samples: usize,
    pub(super) t_first: TimestampMs,
    pub(super) t_last: TimestampMs,
}

impl Pack {
    pub(super) fn new(seq_first: u64, t: TimestampMs) -> Result<Self, FrameError> {
        Ok(Self {
            encoder: Encoder::for_spool()?,
            payload: Vec::new(),
            seq_first,
            ticks: 0,
            samples: 0,
            t_first: t,
            t_last: t,
        })
    }

    pub(super) fn has_room(&self, tick: &Tick) -> bool {
        self.ticks < TICKS_MAX && self.samples + tick.samples.len() <= RECORD_SAMPLES_MAX
    }

    pub(super) fn add(&mut self, tick: &Tick) -> Result<(), FrameError> {
        self.payload.extend(self.encoder.encode(&[tick])?);
        self.ticks += 1;
        self.samples += tick.samples.len();
        self.t_first = self.t_first.min(tick.t);
        self.t_last = self.t_last.max(tick.t);
        Ok(())
    }

    pub(super) fn seq_last(&self) -> u64 {
        self.seq_first + self.ticks as u64 - 1
    }

    pub(super) fn payload(&self) -> Vec<u8> {
        with_header(&[VERSION], u32::try_from(self.ticks).unwrap_or(u32::MAX), &self.payload)
    }

    /// Whether the payload is over what a record may hold.
    pub(super) fn is_too_long(&self) -> bool {
        let bytes = self.payload.len().saturating_add(HEADER_BYTES_MAX);
        u32::try_from(bytes).map_or(true, |bytes| bytes > RECORD_BYTES_MAX)
    }

    pub(super) fn extent(&self) -> Extent {
        Extent {
            bytes: self.payload.len(),
            ticks: self.ticks,
            samples: self.samples,
            times: (self.t_first, self.t_last),
        }
    }

    /// What was added since.
    pub(super) fn increment(&self, since: &Extent) -> Vec<u8> {
        let ticks = u32::try_from(self.ticks - since.ticks).unwrap_or(u32::MAX);
        let bytes = self.payload.get(since.bytes..).unwrap_or_default();
        with_header(&[VERSION, u8::from(since.ticks == 0)], ticks, bytes)
    }

    /// Takes back what was added since; nothing can be added any more.
    pub(super) fn cut(&mut self, to: &Extent) {
        self.payload.truncate(to.bytes);
        (self.ticks, self.samples) = (to.ticks, to.samples);
        (self.t_first, self.t_last) = to.times;
    }
}

/// How far a pack was at some moment.
pub(super) struct Extent {
    bytes: usize,
    pub(super) ticks: usize,
    pub(super) samples: usize,
    times: (TimestampMs, TimestampMs),
}

pub(super) fn with_header(head: &[u8], ticks: u32, bytes: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(bytes.len() + HEADER_BYTES_MAX);
    payload.extend_from_slice(head);
    payload.extend(ticks.to_le_bytes());
    payload.extend_from_slice(bytes);
    payload
}
