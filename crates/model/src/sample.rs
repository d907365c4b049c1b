//! One reading at one instant, and the marker that says a series has ended.

use crate::TimestampMs;

/// One reading of a series.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was read.
    pub t: TimestampMs,
    /// What was read. Compare with [`f64::to_bits`]: NaN payloads carry meaning.
    pub v: f64,
}

impl PartialEq for Sample {
    /// Bit equality, so that a stale marker equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.t == other.t && self.v.to_bits() == other.v.to_bits()
    }
}

/// The bits of the NaN that marks the end of a series (Prometheus `value.StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker as a value.
#[must_use]
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `v` is the stale marker; an ordinary NaN is not.
#[must_use]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}
