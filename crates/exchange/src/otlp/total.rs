//! Points that are kept: what a stream of deltas has come to, and native histograms as OTLP has them.
//!
//! Numbers are added; integers stay such as long as they fit. Histograms with listed bounds are added
//! bucket by bucket; one of other bounds is no sum of both and begins anew. Exponential ones take the
//! coarser of both scales, and a still coarser one where more than [`BUCKETS_MAX`] buckets on one side
//! would be needed; the zero bucket takes the wider of both thresholds, and what lies within it.

use stoa_model::histogram::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, Span};

use super::{Buckets, Explicit, Exponential, Measure};

/// Most buckets of one side of an exponential histogram, as SDKs have it.
pub const BUCKETS_MAX: i64 = 160;

/// Most buckets of one side of a native histogram that are written out, empty ones between them included;
/// one with more is made coarser.
const DENSE_BUCKETS_MAX: i64 = 1 << 12;

/// What a stream has come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Total {
    /// Of integers.
    Integer(i64),
    /// Of doubles.
    Double(f64),
    /// Of histograms with listed bounds.
    Explicit(ExplicitTotal),
    /// Of exponential histograms.
    Exponential(ExponentialTotal),
}

/// A histogram with listed bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExplicitTotal {
    pub(in crate::otlp) count: u64,
    pub(in crate::otlp) sum: Option<f64>,
    pub(in crate::otlp) bounds: Vec<f64>,
    pub(in crate::otlp) counts: Vec<u64>,
}

/// An exponential histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExponentialTotal {
    pub(in crate::otlp) scale: i32,
    pub(in crate::otlp) count: u64,
    pub(in crate::otlp) sum: Option<f64>,
    pub(in crate::otlp) zero_count: u64,
    pub(in crate::otlp) zero_threshold: f64,
    pub(in crate::otlp) positive: Side,
    pub(in crate::otlp) negative: Side,
}

/// Buckets from the first that is not empty to the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::otlp) struct Side {
    pub(in crate::otlp) offset: i32,
    pub(in crate::otlp) counts: Vec<u64>,
}

impl Total {
    /// Of one point. `None` where there is nothing to add up.
    pub(in crate::otlp) fn of(measure: &Measure<'_>) -> Option<Self> {
        match measure {
            Measure::Absent | Measure::Summary(_) => None,
            Measure::Integer(value) => Some(Self::Integer(*value)),
            Measure::Double(value) => Some(Self::Double(*value)),
            Measure::Histogram(histogram) => {
                let Explicit { count, sum, bounds, counts } = *histogram;
                let (bounds, counts) = (bounds.to_vec(), counts.to_vec());
                Some(Self::Explicit(ExplicitTotal { count, sum, bounds, counts }))
            }
            Measure::Exponential(histogram) => {
                let mut total = ExponentialTotal::of(histogram);
                total.fit(&mut ExponentialTotal::default());
                Some(Self::Exponential(total))
            }
        }
    }

    /// A native histogram as OTLP has it: with listed bounds where it has custom buckets, exponential
    /// otherwise. `None` where it counts in floats, which OTLP does not.
    #[must_use]
    pub fn of_native(histogram: &Histogram) -> Option<Self> {
        let Counts::Integer(counts) = &histogram.counts else { return None };
        let BucketCounts { count, zero_count, positive, negative } = counts;
        // Stale markers are for the caller to tell; a sum that is not known is none.
        let sum = (!histogram.sum.is_nan()).then_some(histogram.sum);
        if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
            let bounds = histogram.custom_values.clone();
            let mut counts = vec![0; bounds.len() + 1];
            for (index, count) in placed(&histogram.positive_spans, positive) {
                let at = usize::try_from(index).unwrap_or(usize::MAX);
                *counts.get_mut(at)? = count;
            }
            return Some(Self::Explicit(ExplicitTotal { count: *count, sum, bounds, counts }));
        }
        // Bucket i here is bucket i - 1 there.
        let side = |spans: &[Span], counts: &[u64]| -> Vec<(i64, u64)> {
            placed(spans, counts).map(|(index, count)| (index - 1, count)).collect()
        };
        let positive = side(&histogram.positive_spans, positive);
        let negative = side(&histogram.negative_spans, negative);
        let mut coarser = 0;
        while width(&positive, coarser).max(width(&negative, coarser)) > DENSE_BUCKETS_MAX {
            coarser += 1;
        }
        Some(Self::Exponential(ExponentialTotal {
            scale: histogram.schema.saturating_sub_unsigned(coarser),
            count: *count,
            sum,
            zero_count: *zero_count,
            zero_threshold: histogram.zero_threshold,
            positive: dense(&positive, coarser),
            negative: dense(&negative, coarser),
        }))
    }

    /// Adds another; what is of another kind begins anew, as does what is more than can be counted.
    pub(in crate::otlp) fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Integer(a), Self::Integer(b)) => {
                *self = match a.checked_add(b) {
                    Some(sum) => Self::Integer(sum),
                    None => Self::Double(*a as f64 + b as f64),
                }
            }
            (Self::Integer(a), Self::Double(b)) => *self = Self::Double(*a as f64 + b),
            (Self::Double(a), Self::Integer(b)) => *a += b as f64,
            (Self::Double(a), Self::Double(b)) => {
                *a = if (*a + b).is_finite() { *a + b } else { b }
            }
            (Self::Explicit(a), Self::Explicit(b))
                if a.is_like(&b) && can_count((a.count, a.sum), (b.count, b.sum)) =>
            {
                a.add(&b);
            }
            (Self::Exponential(a), Self::Exponential(b))
                if can_count((a.count, a.sum), (b.count, b.sum)) =>
            {
                a.add(b);
            }
            (_, other) => *self = other,
        }
    }

    /// As a point has it.
    #[must_use]
    pub fn measure(&self) -> Measure<'_> {
        match self {
            Self::Integer(value) => Measure::Integer(*value),
            Self::Double(value) => Measure::Double(*value),
            Self::Explicit(ExplicitTotal { count, sum, bounds, counts }) => {
                Measure::Histogram(Explicit { count: *count, sum: *sum, bounds, counts })
            }
            Self::Exponential(total) => Measure::Exponential(Exponential {
                scale: total.scale,
                count: total.count,
                sum: total.sum,
                zero_count: total.zero_count,
                zero_threshold: total.zero_threshold,
                positive: total.positive.buckets(),
                negative: total.negative.buckets(),
            }),
        }
    }

    /// What its buckets take.
    pub(in crate::otlp) fn bytes(&self) -> usize {
        let numbers = match self {
            Self::Integer(_) | Self::Double(_) => 0,
            Self::Explicit(total) => total.bounds.len() + total.counts.len(),
            Self::Exponential(total) => total.positive.counts.len() + total.negative.counts.len(),
        };
        numbers * size_of::<u64>()
    }
}

impl ExplicitTotal {
    /// Whether it has the same buckets.
    fn is_like(&self, other: &Self) -> bool {
        self.counts.len() == other.counts.len() && self.bounds == other.bounds
    }

    fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum = both(self.sum, other.sum);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
    }
}

/// Whether two counts and sums can be added.
fn can_count(a: (u64, Option<f64>), b: (u64, Option<f64>)) -> bool {
    a.0.checked_add(b.0).is_some() && both(a.1, b.1).is_none_or(f64::is_finite)
}

/// A sum of which a part is not known is not known.
fn both(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? + b?)
}

impl ExponentialTotal {
    fn of(histogram: &Exponential<'_>) -> Self {
        let Exponential { scale, count, sum, zero_count, zero_threshold, positive, negative } =
            *histogram;
        let (positive, negative) = (Side::of(positive), Side::of(negative));
        Self { scale, count, sum, zero_count, zero_threshold, positive, negative }
    }

    fn add(&mut self, mut other: Self) {
        let scale = self.scale.min(other.scale);
        for part in [&mut *self, &mut other] {
            part.coarser(part.scale.abs_diff(scale));
        }
        self.fit(&mut other);
        // A zero bucket ends where a bucket of its side does, which can be further than the other's.
        while self.zero_threshold != other.zero_threshold {
            let threshold = self.zero_threshold.max(other.zero_threshold);
            let before = (self.zero_threshold, other.zero_threshold);
            self.widen_zero(threshold);
            other.widen_zero(threshold);
            if before == (self.zero_threshold, other.zero_threshold) {
                break;
            }
        }
        self.positive.add(&other.positive);
        self.negative.add(&other.negative);
        self.count = self.count.saturating_add(other.count);
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        self.sum = both(self.sum, other.sum);
    }

    /// Makes both coarser, which are of one scale, until neither side of their sum has too many buckets.
    fn fit(&mut self, other: &mut Self) {
        while self.positive.width(&other.positive).max(self.negative.width(&other.negative))
            > BUCKETS_MAX
        {
            self.coarser(1);
            other.coarser(1);
        }
    }

    fn coarser(&mut self, by: u32) {
        if by > 0 {
            self.scale = self.scale.saturating_sub_unsigned(by);
            self.positive.coarser(by);
            self.negative.coarser(by);
        }
    }

    /// Takes what is no further from zero into the zero bucket, which ends where a bucket does.
    fn widen_zero(&mut self, threshold: f64) {
        if threshold <= self.zero_threshold || !threshold.is_finite() {
            return;
        }
        let fine = f64::from(self.scale).exp2();
        // Bucket i ends at 2^((i + 1) / fine): of the last one that is taken in whole or in part.
        let last = (threshold.log2() * fine).ceil() - 1.0;
        self.zero_threshold = ((last + 1.0) / fine).exp2().min(f64::MAX).max(threshold);
        for side in [&mut self.positive, &mut self.negative] {
            self.zero_count = self.zero_count.saturating_add(side.take_until(last));
        }
    }
}

impl Side {
    fn of(buckets: Buckets<'_>) -> Self {
        let mut side = Self { offset: buckets.offset, counts: buckets.counts.to_vec() };
        side.trim();
        side
    }

    fn buckets(&self) -> Buckets<'_> {
        Buckets { offset: self.offset, counts: &self.counts }
    }

    /// Leaves out empty buckets at both ends.
    fn trim(&mut self) {
        let empty = self.counts.iter().take_while(|count| **count == 0).count();
        self.counts.drain(..empty);
        let filled = self.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.counts.truncate(filled);
        let empty = i64::try_from(empty).unwrap_or(i64::MAX);
        let first = if filled == 0 { 0 } else { i64::from(self.offset).saturating_add(empty) };
        self.offset = clamped(first);
    }

    /// The first and the last bucket that is not empty.
    fn range(&self) -> Option<(i64, i64)> {
        let first = i64::from(self.offset);
        let length = i64::try_from(self.counts.len()).unwrap_or(i64::MAX);
        (length > 0).then(|| (first, first.saturating_add(length - 1)))
    }

    /// Of how many buckets the sum is.
    fn width(&self, other: &Self) -> i64 {
        let ranges = self.range().into_iter().chain(other.range());
        let whole = ranges.reduce(|(a, b), (first, last)| (a.min(first), b.max(last)));
        whole.map_or(0, |(first, last)| last.saturating_sub(first).saturating_add(1))
    }

    /// 2^`by` neighbours become one.
    fn coarser(&mut self, by: u32) {
        let Some((first, last)) = self.range() else { return };
        let by = by.min(63);
        let place = |index: i64| index >> by;
        let length = usize::try_from(place(last) - place(first) + 1).unwrap_or(0);
        let mut counts = vec![0_u64; length];
        for (index, count) in (first..).zip(&self.counts) {
            let at = usize::try_from(place(index) - place(first)).unwrap_or(usize::MAX);
            if let Some(sum) = counts.get_mut(at) {
                *sum = sum.saturating_add(*count);
            }
        }
        self.offset = clamped(place(first));
        self.counts = counts;
    }

    /// To be called where the sum has few buckets: see [`ExponentialTotal::fit`].
    fn add(&mut self, other: &Self) {
        let Some((from, to)) = other.range() else { return };
        let Some((first, last)) = self.range() else { return self.clone_from(other) };
        let begin = first.min(from);
        let length = usize::try_from(last.max(to) - begin + 1).unwrap_or(0);
        let mut counts = vec![0_u64; length];
        for side in [&*self, other] {
            for (index, count) in (i64::from(side.offset)..).zip(&side.counts) {
                let at = usize::try_from(index - begin).unwrap_or(usize::MAX);
                if let Some(sum) = counts.get_mut(at) {
                    *sum = sum.saturating_add(*count);
                }
            }
        }
        self.offset = clamped(begin);
        self.counts = counts;
    }

    /// Takes out buckets up to this one, and says how many observations they held.
    fn take_until(&mut self, last: f64) -> u64 {
        let first = i64::from(self.offset);
        let within = (first..).zip(&self.counts).take_while(|(index, _)| *index as f64 <= last);
        let taken: Vec<u64> = within.map(|(_, count)| *count).collect();
        self.counts.drain(..taken.len());
        self.offset = clamped(first.saturating_add(i64::try_from(taken.len()).unwrap_or(0)));
        self.trim();
        taken.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }
}

/// An index as OTLP has it; beyond its 32 bits there are no numbers to count.
fn clamped(index: i64) -> i32 {
    i32::try_from(index).unwrap_or(if index < 0 { i32::MIN } else { i32::MAX })
}

/// Buckets that are not empty, by their index.
fn placed(spans: &[Span], counts: &[u64]) -> impl Iterator<Item = (i64, u64)> {
    let mut next = 0_i64;
    let indexes = spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset.into());
        next = first.saturating_add(span.length.into());
        first..next
    });
    indexes.zip(counts.iter().copied()).filter(|(_, count)| *count > 0)
}

fn width(buckets: &[(i64, u64)], coarser: u32) -> i64 {
    let ends = buckets.first().zip(buckets.last());
    ends.map_or(0, |((first, _), (last, _))| (last >> coarser) - (first >> coarser) + 1)
}

fn dense(buckets: &[(i64, u64)], coarser: u32) -> Side {
    let Some((first, _)) = buckets.first() else { return Side::default() };
    let first = first >> coarser;
    let mut counts = vec![0_u64; usize::try_from(width(buckets, coarser)).unwrap_or(0)];
    for (index, count) in buckets {
        let at = usize::try_from((index >> coarser) - first).unwrap_or(usize::MAX);
        if let Some(sum) = counts.get_mut(at) {
            *sum = sum.saturating_add(*count);
        }
    }
    Side { offset: clamped(first), counts }
}
