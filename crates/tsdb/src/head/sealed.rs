//! What a window leaves behind: one compressed chunk per series, and their timestamps once.
//!
//! A sealed chunk lies within one block range and is never changed, so readers and the block writer
//! share it without a lock.

use std::sync::Arc;

use stoa_model::TimestampMs;

use super::column::Presence;
use crate::bytes::Malformed;
use crate::chunk::{decode_values, encode_values};

/// The timestamps of one sealed window.
#[derive(Debug)]
pub(crate) struct Ticks {
    /// Counts the windows of the process in the order they were sealed.
    pub(crate) serial: u64,
    /// Ascending, at least one, all in one block range.
    pub(crate) times: Box<[TimestampMs]>,
}

impl Ticks {
    pub(crate) fn first_t(&self) -> TimestampMs {
        self.times.first().copied().unwrap_or(TimestampMs::MAX)
    }

    pub(crate) fn last_t(&self) -> TimestampMs {
        self.times.last().copied().unwrap_or(TimestampMs::MIN)
    }

    pub(crate) fn has(&self, t: TimestampMs) -> bool {
        self.first_t() <= t && t <= self.last_t() && self.times.binary_search(&t).is_ok()
    }
}

/// One series' values in one sealed window.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    /// The window's timestamps, shared by all series of the group.
    pub(crate) ticks: Arc<Ticks>,
    /// Which of them the series has; all of them when `None`.
    pub(crate) present: Option<Arc<Presence>>,
    /// The values, encoded.
    pub(crate) chunk: Arc<[u8]>,
}

impl Sealed {
    /// Encodes the values a series has at the ticks `present` of `times`.
    pub(crate) fn encode(
        ticks: &Arc<Ticks>,
        present: Presence,
        values: &[f64],
        scratch: &mut Vec<u8>,
    ) -> Self {
        scratch.clear();
        encode_values(values, scratch);
        let all = present.count() == ticks.times.len();
        Self {
            ticks: Arc::clone(ticks),
            present: (!all).then(|| Arc::new(present)),
            chunk: Arc::from(scratch.as_slice()),
        }
    }

    pub(crate) fn overlaps(&self, start: TimestampMs, end: TimestampMs) -> bool {
        self.ticks.first_t() <= end && self.ticks.last_t() >= start
    }

    pub(crate) fn count(&self) -> usize {
        self.present.as_ref().map_or(self.ticks.times.len(), |present| present.count())
    }

    /// Whether the series has a sample at `t`, and which one.
    pub(crate) fn find(&self, t: TimestampMs) -> Result<Option<f64>, Malformed> {
        let Ok(tick) = self.ticks.times.binary_search(&t) else { return Ok(None) };
        let at = match &self.present {
            None => tick,
            Some(present) if present.has(tick) => present.rank(tick),
            Some(_) => return Ok(None),
        };
        let mut values = Vec::new();
        decode_values(&self.chunk, self.count(), &mut values)?;
        Ok(values.get(at).copied())
    }

    /// Appends the samples in the range, both ends included.
    pub(crate) fn decode(
        &self,
        start: TimestampMs,
        end: TimestampMs,
        out: &mut Vec<(TimestampMs, f64)>,
    ) -> Result<(), Malformed> {
        let mut values = Vec::new();
        decode_values(&self.chunk, self.count(), &mut values)?;
        let in_range = |(t, _): &(TimestampMs, f64)| start <= *t && *t <= end;
        match &self.present {
            None => out.extend(self.ticks.times.iter().copied().zip(values).filter(in_range)),
            Some(present) => {
                let times = present.ticks().filter_map(|tick| self.ticks.times.get(tick).copied());
                out.extend(times.zip(values).filter(in_range));
            }
        }
        Ok(())
    }

    /// Whether a sample lies in the range, both ends included.
    pub(crate) fn has_samples(&self, start: TimestampMs, end: TimestampMs) -> bool {
        if !self.overlaps(start, end) {
            return false;
        }
        let Some(present) = &self.present else {
            return self.ticks.times.iter().any(|t| start <= *t && *t <= end);
        };
        let mut times = present.ticks().filter_map(|tick| self.ticks.times.get(tick));
        times.any(|t| start <= *t && *t <= end)
    }
}
