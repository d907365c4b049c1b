//! Native histograms: many observations in one sample.
//!
//! A histogram counts observations in buckets whose bounds follow from a **schema**: schema `n` of
//! -4..=8 has bounds `2^(i * 2^-n)`, positive and negative, and a zero bucket between; schema -53
//! has the bounds listed in `custom_bounds`. Buckets are kept sparse: index and count, ascending,
//! which is all that spans say. Counts are floats, since rates and means are histograms too.
//!
//! Arithmetic brings two histograms to one layout first: the coarser schema, the wider zero bucket,
//! the custom bounds both have. What has no common layout is [`Incompatible`].

mod arithmetic;
mod bucket;
mod quantile;
pub(crate) mod reset;
pub(crate) mod running;
mod text;
pub(crate) mod trim;

pub use bucket::Bucket;

/// The schema of custom bounds.
pub const CUSTOM_SCHEMA: i32 = -53;

/// One native histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// -4..=8 for exponential buckets, [`CUSTOM_SCHEMA`] for custom ones.
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations, those of NaN included.
    pub count: f64,
    /// The sum of all observations.
    pub sum: f64,
    /// Buckets above zero (all buckets, with custom bounds), by ascending index.
    pub positive: Vec<(i32, f64)>,
    /// Buckets below zero, by ascending index, which is descending value.
    pub negative: Vec<(i32, f64)>,
    /// Upper bounds of the custom buckets but for the last, which is infinite.
    pub custom_bounds: Vec<f64>,
    /// What is known of counter resets before this sample.
    pub reset_hint: ResetHint,
}

/// What a histogram says of itself as a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    /// Nothing: compare with the sample before.
    #[default]
    Unknown,
    /// There was a reset since the sample before.
    Reset,
    /// There was none.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// Two histograms have no common layout: one has exponential buckets, the other custom ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("histograms have incompatible schemas")]
pub struct Incompatible;

/// What happened on the way while two histograms were combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One side was marked as a reset, the other as none.
    pub reset_collision: bool,
    /// Custom bounds differed and were cut to those in common.
    pub bounds_reconciled: bool,
}

/// What a histogram counts as beside its buckets, in bytes, as in Prometheus (`FloatHistogram.Size`).
const FIXED_BYTES: usize = 168;

impl Histogram {
    /// How many samples of 16 bytes it counts as where a query's samples are limited: about as many as
    /// in Prometheus (`HPoint.size`).
    #[must_use]
    pub fn samples(&self) -> usize {
        let numbers = self.positive.len() + self.negative.len() + self.custom_bounds.len();
        (FIXED_BYTES + 8 + numbers * 8) / 16
    }

    /// Whether its bounds are listed, not computed.
    #[must_use]
    pub fn has_custom_bounds(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Whether it marks the end of its series.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        stoa_model::is_stale(self.sum)
    }
}

#[cfg(test)]
mod tests;
