//! Native histograms as samples: exponential or custom buckets, sparse, integer or float counts.
//!
//! Field by field what Prometheus keeps (`model/histogram/histogram.go`, `float_histogram.go` and
//! `generic.go` of prometheus/prometheus), but for one thing: integer buckets are counts here, not
//! differences of neighbours as in Prometheus's own struct and in remote write.

use std::fmt;

use crate::sample::{is_stale, stale_nan};

/// The schema of histograms whose bucket bounds are listed in [`Histogram::custom_values`].
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// The coarsest exponential schema: bounds grow by 2^16 from bucket to bucket.
pub const SCHEMA_MIN: i32 = -4;

/// The finest exponential schema: bounds grow by 2^(1/256) from bucket to bucket.
pub const SCHEMA_MAX: i32 = 8;

/// One native histogram: what had been observed at one instant.
///
/// Equality is of bits, so that a NaN sum equals itself.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// [`SCHEMA_MIN`] to [`SCHEMA_MAX`]: bounds grow by 2^(2^-schema) from bucket to bucket.
    /// Or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Half the width of the zero bucket, its bound included. 0 with custom buckets.
    pub zero_threshold: f64,
    /// The sum of all observations; NaN once one was NaN; the stale marker ends the series.
    pub sum: f64,
    /// Which buckets above zero there are (all buckets, with custom bounds).
    pub positive_spans: Vec<Span>,
    /// Which buckets below zero there are, away from zero.
    pub negative_spans: Vec<Span>,
    /// Upper bounds of custom buckets, ascending; +Inf is implied. Empty with exponential buckets.
    pub custom_values: Vec<f64>,
    /// How many observations there were, in all and in each bucket.
    pub counts: Counts,
    /// What is known of a reset between the sample before and this one.
    pub reset: ResetHint,
}

/// A run of buckets that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Buckets left out since the span before; for the first span, the index of its first bucket.
    pub offset: i32,
    /// Buckets in this span.
    pub length: u32,
}

/// The counts of a histogram, in the kind of number its sender counts in.
#[derive(Clone, Debug)]
pub enum Counts {
    /// As counted by a client.
    Integer(BucketCounts<u64>),
    /// As computed, for instance by a recording rule.
    Float(BucketCounts<f64>),
}

/// Numbers of observations; buckets are not cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketCounts<C> {
    /// All observations, those of NaN included.
    pub count: C,
    /// Those no further from zero than the zero threshold.
    pub zero_count: C,
    /// One for each bucket of the positive spans, in their order.
    pub positive: Vec<C>,
    /// One for each bucket of the negative spans, in their order.
    pub negative: Vec<C>,
}

/// What the sender says of a counter reset just before a sample (`CounterResetHint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResetHint {
    /// Nothing: compare with the sample before.
    #[default]
    Unknown,
    /// There was a reset.
    Reset,
    /// There was none.
    NotReset,
    /// It is no counter, so there can be none.
    Gauge,
}

/// Why a histogram is none (Prometheus's `Validate`, rule by rule).
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// Neither exponential nor custom.
    #[error("unknown schema {0}: send one from -4 to 8, or -53 for custom buckets")]
    Schema(i32),
    /// A later span steps back, or any does among custom buckets.
    #[error("{side} span {span} has a negative offset ({offset})")]
    SpanOffset {
        /// Which spans.
        side: Side,
        /// Which of them, from 0.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// The spans name more or fewer buckets than there are.
    #[error("{side} spans need {spans} buckets, there are {buckets}")]
    SpansMismatch {
        /// Which spans.
        side: Side,
        /// Buckets the spans name.
        spans: u64,
        /// Counts given.
        buckets: usize,
    },
    /// A float count below zero.
    #[error("a count is negative ({0})")]
    NegativeCount(f64),
    /// More observations in buckets than in all, or, with a sum that is a number, fewer.
    #[error("{buckets} observations found in buckets, but the count is {count}")]
    Count {
        /// Observations in the buckets, the zero bucket included.
        buckets: u128,
        /// The count given.
        count: u64,
    },
    /// Bounds of custom buckets that do not ascend strictly, or are NaN or +Inf.
    #[error("custom bounds must be numbers below +Inf in ascending order, {0} is not")]
    CustomBounds(f64),
    /// Custom buckets beyond the bounds given.
    #[error("{bounds} custom bounds do not cover {buckets} buckets")]
    CustomBoundsTooFew {
        /// Bounds given.
        bounds: usize,
        /// Buckets up to the last one named.
        buckets: u64,
    },
    /// Custom buckets have neither a zero bucket nor negative ones.
    #[error("custom buckets go without zero bucket and negative buckets")]
    CustomWithZeroOrNegative,
    /// Custom bounds beside an exponential schema.
    #[error("an exponential schema goes without custom bounds")]
    ExponentialWithBounds,
}

/// The positive or the negative half of the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Above zero.
    Positive,
    /// Below zero.
    Negative,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positive => "positive",
            Self::Negative => "negative",
        })
    }
}

impl Histogram {
    /// The marker that says a series of histograms has ended: nothing but a stale sum.
    #[must_use]
    pub fn stale() -> Self {
        Self {
            schema: 0,
            zero_threshold: 0.0,
            sum: stale_nan(),
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            custom_values: Vec::new(),
            counts: Counts::Integer(BucketCounts::default()),
            reset: ResetHint::Unknown,
        }
    }

    /// Whether this is a stale marker, whatever else it holds.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Whether its bounds are listed, not computed.
    #[must_use]
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Whether both have the same kind of counts in the same buckets, so that one follows the
    /// other without a change of layout.
    #[must_use]
    pub fn same_layout(&self, other: &Self) -> bool {
        let same_kind = matches!(
            (&self.counts, &other.counts),
            (Counts::Integer(_), Counts::Integer(_)) | (Counts::Float(_), Counts::Float(_))
        );
        same_kind
            && self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && same_bits(&self.custom_values, &other.custom_values)
    }

    /// Checks it as Prometheus does before it takes a histogram in. A stale marker is not checked.
    ///
    /// # Errors
    /// The first [`HistogramError`] found.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.is_stale() {
            return Ok(());
        }
        let (positive, negative) = match &self.counts {
            Counts::Integer(counts) => (counts.positive.len(), counts.negative.len()),
            Counts::Float(counts) => (counts.positive.len(), counts.negative.len()),
        };
        match self.schema {
            CUSTOM_BUCKETS_SCHEMA => self.check_custom(positive, negative)?,
            SCHEMA_MIN..=SCHEMA_MAX => {
                check_spans(Side::Positive, &self.positive_spans, positive)?;
                check_spans(Side::Negative, &self.negative_spans, negative)?;
                if !self.custom_values.is_empty() {
                    return Err(HistogramError::ExponentialWithBounds);
                }
            }
            other => return Err(HistogramError::Schema(other)),
        }
        match &self.counts {
            Counts::Integer(counts) => check_integers(counts, self.sum.is_nan()),
            Counts::Float(counts) => check_floats(counts),
        }
    }

    fn check_custom(&self, positive: usize, negative: usize) -> Result<(), HistogramError> {
        let mut last = f64::NEG_INFINITY;
        for &bound in &self.custom_values {
            if bound.is_nan() || bound <= last || bound == f64::INFINITY {
                return Err(HistogramError::CustomBounds(bound));
            }
            last = bound;
        }
        let mut reach = 0u64;
        for (span, Span { offset, length }) in self.positive_spans.iter().enumerate() {
            let Ok(skipped) = u64::try_from(*offset) else {
                return Err(HistogramError::SpanOffset {
                    side: Side::Positive,
                    span,
                    offset: *offset,
                });
            };
            reach = reach.saturating_add(skipped + u64::from(*length));
        }
        check_spans(Side::Positive, &self.positive_spans, positive)?;
        if reach > self.custom_values.len() as u64 + 1 {
            return Err(HistogramError::CustomBoundsTooFew {
                bounds: self.custom_values.len(),
                buckets: reach,
            });
        }
        let zero_is_empty = match &self.counts {
            Counts::Integer(counts) => counts.zero_count == 0,
            Counts::Float(counts) => counts.zero_count == 0.0,
        };
        let none_negative = negative == 0 && self.negative_spans.is_empty();
        if zero_is_empty && self.zero_threshold == 0.0 && none_negative {
            Ok(())
        } else {
            Err(HistogramError::CustomWithZeroOrNegative)
        }
    }
}

fn check_spans(side: Side, spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    for (span, Span { offset, .. }) in spans.iter().enumerate().skip(1) {
        if *offset < 0 {
            return Err(HistogramError::SpanOffset { side, span, offset: *offset });
        }
    }
    let named = spans.iter().fold(0u64, |sum, span| sum.saturating_add(span.length.into()));
    if named == buckets as u64 {
        Ok(())
    } else {
        Err(HistogramError::SpansMismatch { side, spans: named, buckets })
    }
}

/// Observations of NaN are in the count and in no bucket; without any the two are equal.
fn check_integers(counts: &BucketCounts<u64>, nan_seen: bool) -> Result<(), HistogramError> {
    let parts = counts.positive.iter().chain(&counts.negative).chain([&counts.zero_count]);
    let buckets = parts.map(|count| u128::from(*count)).sum::<u128>();
    let count = u128::from(counts.count);
    if if nan_seen { buckets <= count } else { buckets == count } {
        Ok(())
    } else {
        Err(HistogramError::Count { buckets, count: counts.count })
    }
}

/// Floats are not added up: rounding would find faults where there are none.
fn check_floats(counts: &BucketCounts<f64>) -> Result<(), HistogramError> {
    let own = [&counts.count, &counts.zero_count];
    let mut all = counts.positive.iter().chain(&counts.negative).chain(own);
    all.find(|count| **count < 0.0).map_or(Ok(()), |c| Err(HistogramError::NegativeCount(*c)))
}

fn same_bits(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.same_layout(other)
            && self.sum.to_bits() == other.sum.to_bits()
            && self.reset == other.reset
            && self.counts == other.counts
    }
}

impl PartialEq for Counts {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => {
                let BucketCounts { count, zero_count, positive, negative } = a;
                count.to_bits() == b.count.to_bits()
                    && zero_count.to_bits() == b.zero_count.to_bits()
                    && same_bits(positive, &b.positive)
                    && same_bits(negative, &b.negative)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
