//! Histograms of OTLP as native histograms.
//!
//! OTLP's bucket `i` of scale `s` reaches from `base^i` (left out) to `base^(i+1)` with a base of
//! 2^(2^-s); it is bucket `i + 1` of schema `s` here. A finer scale than there are schemas is made
//! coarser: 2^n neighbours become one. Nothing is said of resets: OTLP's start times are not kept.

use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, SCHEMA_MAX, SCHEMA_MIN, Span,
};

use super::{Buckets, Explicit, Exponential};

/// Where the zero bucket ends when the sender does not say: as Prometheus has it.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Empty buckets that are written out rather than left out by a span, which costs as much.
const GAP_MAX: i64 = 2;

/// Why an exponential histogram is no native one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// Coarser than there are schemas.
    #[error("an exponential histogram of scale {0}: the coarsest is {SCHEMA_MIN}")]
    TooCoarse(i32),
    /// A bucket's index is beyond 32 bits.
    #[error("an exponential histogram with bucket {0}, which is beyond 32 bits")]
    Index(i64),
}

impl Exponential<'_> {
    /// As a native histogram. Whether its parts agree is for [`Histogram::validate`] to say.
    ///
    /// # Errors
    /// [`ScaleError`].
    pub fn native(&self) -> Result<Histogram, ScaleError> {
        if self.scale < SCHEMA_MIN {
            return Err(ScaleError::TooCoarse(self.scale));
        }
        let schema = self.scale.min(SCHEMA_MAX);
        let coarser = self.scale.abs_diff(schema);
        let (positive_spans, positive) = layout(scaled(self.positive, coarser))?;
        let (negative_spans, negative) = layout(scaled(self.negative, coarser))?;
        let known = self.zero_threshold > 0.0 && self.zero_threshold.is_finite();
        Ok(Histogram {
            schema,
            zero_threshold: if known { self.zero_threshold } else { ZERO_THRESHOLD },
            sum: self.sum.unwrap_or(0.0),
            positive_spans,
            negative_spans,
            custom_values: Vec::new(),
            counts: Counts::Integer(BucketCounts {
                count: self.count,
                zero_count: self.zero_count,
                positive,
                negative,
            }),
            reset: ResetHint::Unknown,
        })
    }
}

impl Explicit<'_> {
    /// As a native histogram with custom buckets. Whether its parts agree is for
    /// [`Histogram::validate`] to say.
    #[must_use]
    pub fn custom(&self) -> Histogram {
        // Without buckets all there is to say is how many there were.
        let all = [self.count];
        let counts = if self.counts.is_empty() { all.as_slice() } else { self.counts };
        // There are fewer than 32 bits can count, and none is left out.
        let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            zero_threshold: 0.0,
            sum: self.sum.unwrap_or(0.0),
            positive_spans: vec![Span { offset: 0, length }],
            negative_spans: Vec::new(),
            custom_values: if self.counts.is_empty() { Vec::new() } else { self.bounds.to_vec() },
            counts: Counts::Integer(BucketCounts {
                count: self.count,
                zero_count: 0,
                positive: counts.to_vec(),
                negative: Vec::new(),
            }),
            reset: ResetHint::Unknown,
        }
    }
}

/// The buckets that are not empty, by their index here, after 2^`coarser` became one.
fn scaled(buckets: Buckets<'_>, coarser: u32) -> impl Iterator<Item = (i64, u64)> {
    let first = i64::from(buckets.offset);
    let mut counts = (first..).zip(buckets.counts).filter(|(_, count)| **count > 0).peekable();
    let place = move |index: i64| (index >> coarser.min(63)) + 1;
    std::iter::from_fn(move || {
        let (index, count) = counts.next()?;
        let (at, mut sum) = (place(index), *count);
        while let Some((_, count)) = counts.next_if(|(index, _)| place(*index) == at) {
            // Beyond all there can be they are found to disagree with the count.
            sum = sum.saturating_add(*count);
        }
        Some((at, sum))
    })
}

fn layout(buckets: impl Iterator<Item = (i64, u64)>) -> Result<(Vec<Span>, Vec<u64>), ScaleError> {
    let (mut spans, mut counts): (Vec<Span>, Vec<u64>) = Default::default();
    // Where the bucket after the last one is.
    let mut next = 0;
    for (at, count) in buckets {
        i32::try_from(at).map_err(|_beyond| ScaleError::Index(at))?;
        let gap = at - next;
        match spans.last_mut() {
            Some(span) if gap <= GAP_MAX => {
                while next < at {
                    counts.push(0);
                    span.length += 1;
                    next += 1;
                }
                span.length += 1;
            }
            _ => {
                let offset = i32::try_from(gap).map_err(|_beyond| ScaleError::Index(at))?;
                spans.push(Span { offset, length: 1 });
            }
        }
        counts.push(count);
        next = at + 1;
    }
    Ok((spans, counts))
}
