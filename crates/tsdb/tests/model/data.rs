//! What is appended and what must be stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use stoa_model::Labels;
use stoa_model::histogram::{
    BucketCounts, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, Span,
};

use crate::{MINUTE_MS, OUT_OF_ORDER_MS};

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Below `n`, for times.
    pub(crate) fn ms(&mut self, n: u64) -> i64 {
        self.below(n).cast_signed()
    }

    /// A valid one of a few layouts, some of them large.
    pub(crate) fn histogram(&mut self) -> Histogram {
        if self.below(12) == 0 {
            return Histogram::stale();
        }
        let buckets = match self.below(30) {
            0 => 700,
            n => 1 + n as usize % 4,
        };
        let counts: Vec<u64> = (0..buckets).map(|_| self.below(1 << 20)).collect();
        let is_custom = self.below(4) == 0;
        // Custom buckets go without these.
        let of_zero = if is_custom { 0 } else { self.below(3) };
        let negative: Vec<u64> = (0..of_zero).map(|_| self.below(9)).collect();
        let zero_count = of_zero * self.below(5);
        let count = counts.iter().chain(&negative).sum::<u64>() + zero_count;
        let gap = if is_custom { 0 } else { self.below(5) as i32 - 2 };
        let sum = match self.below(8) {
            0 => -0.0,
            1 => f64::from_bits(0x7ff8_0000_0000_0123),
            2 => f64::NEG_INFINITY,
            _ => f64::from_bits(self.below(u64::MAX / 4)),
        };
        let bounds = if is_custom { buckets } else { 0 };
        let is_float = self.below(3) == 0;
        let float = |n: u64| n as f64 / 3.0;
        Histogram {
            schema: if is_custom { CUSTOM_BUCKETS_SCHEMA } else { self.below(3) as i32 },
            zero_threshold: [0.0, 1e-128, 0.25][of_zero as usize],
            sum,
            positive_spans: vec![Span { offset: gap, length: buckets as u32 }],
            negative_spans: negative.iter().map(|_| Span { offset: 1, length: 1 }).collect(),
            custom_values: (0..bounds).map(|n| n as f64).collect(),
            counts: if is_float {
                let [positive, negative] =
                    [&counts, &negative].map(|counts| counts.iter().map(|n| float(*n)).collect());
                let (count, zero_count) = (float(count), float(zero_count));
                Counts::Float(BucketCounts { count, zero_count, positive, negative })
            } else {
                let positive = counts;
                Counts::Integer(BucketCounts { count, zero_count, positive, negative })
            },
            reset: [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge]
                [self.below(4) as usize],
        }
    }
}

/// A float's bits or a histogram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Float(u64),
    Histogram(Arc<Histogram>),
}

impl Value {
    pub(crate) fn is_histogram(&self) -> bool {
        matches!(self, Self::Histogram(_))
    }
}

/// Samples by series and instant.
pub(crate) type Samples = BTreeMap<(Labels, i64), Value>;

/// Samples of one instant.
pub(crate) type Instant = (i64, Vec<(Labels, Value)>);

/// What must be stored, after a number of batches.
#[derive(Clone, Default)]
pub(crate) struct Model {
    /// With what is old enough to be gone.
    pub(crate) samples: Samples,
    /// The first instant of a series that was ever deleted: what came after one says nothing of resets.
    pub(crate) deleted_from: BTreeMap<Labels, i64>,
    pub(crate) max_t: Option<i64>,
    pub(crate) batches: u64,
}

impl Model {
    /// Floats in order of rows, then histograms one by one. The database was told last that it is
    /// `told`: what is further ahead of that than five minutes makes nothing older.
    pub(crate) fn apply(&mut self, rows: &[Instant], told: i64) {
        for histograms in [false, true] {
            for (t, samples) in rows {
                for (labels, value) in samples {
                    if value.is_histogram() != histograms {
                        continue;
                    }
                    let newest = self.max_t.unwrap_or(i64::MIN).min(told + 5 * MINUTE_MS);
                    if *t < newest.saturating_sub(OUT_OF_ORDER_MS) {
                        continue;
                    }
                    self.max_t = self.max_t.max(Some(*t));
                    self.samples.entry((labels.clone(), *t)).or_insert(value.clone());
                }
            }
        }
        self.batches += 1;
    }

    /// Deletes what lies from `start` to `end` of the series with this `n`.
    pub(crate) fn delete(&mut self, n: &str, start: i64, end: i64) {
        let Self { samples, deleted_from, .. } = self;
        samples.retain(|(labels, t), _| {
            let is_kept = !is_of(labels, n) || *t < start || *t > end;
            if !is_kept {
                let first = deleted_from.entry(labels.clone()).or_insert(*t);
                *first = *t.min(first);
            }
            is_kept
        });
    }
}

/// Whether it is of the series with this `n`; `.*` is all of them.
pub(crate) fn is_of(labels: &Labels, n: &str) -> bool {
    n == ".*" || labels.get("n") == Some(n)
}
