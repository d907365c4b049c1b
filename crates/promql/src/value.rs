//! What a query answers.

use std::sync::Arc;

use stoa_model::{Labels, TimestampMs};

use crate::histogram::Histogram;
pub use crate::number::format_float;

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// What makes the result doubtful, each with its place in the query; without order.
    pub warnings: Vec<String>,
    /// What is worth knowing about the result, each with its place in the query; without order.
    pub infos: Vec<String>,
    /// What it cost.
    pub samples: SampleStats,
}

/// How many samples a query was about, counted as Prometheus counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleStats {
    /// What selectors gave their expressions, at each step once.
    pub queryable: u64,
    /// The same, but where windows overlap each sample once.
    pub read: u64,
    /// The most that were held at a time.
    pub peak: u64,
    /// What storage handed over: samples are read for all steps at once, and some are between these.
    pub loaded: u64,
    /// The first two for each step, if they were asked for.
    pub by_step: Option<Vec<StepSamples>>,
}

/// How many samples one step was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSamples {
    /// Which step.
    pub t: TimestampMs,
    /// What selectors gave.
    pub queryable: u64,
    /// Those of them that the step before did not have.
    pub read: u64,
}

/// A result by its type. A range query answers with a matrix, whatever its expression is.
#[derive(Clone, Debug)]
pub enum Value {
    /// One number.
    Scalar {
        /// The time asked for.
        t: TimestampMs,
        /// The number.
        v: f64,
    },
    /// A string.
    String {
        /// The time asked for.
        t: TimestampMs,
        /// The string.
        s: String,
    },
    /// One sample per series. Sorted by labels unless the query sorts.
    Vector(Vec<VectorSample>),
    /// Samples over time per series, sorted by labels; no series is without samples.
    Matrix(Vec<MatrixSeries>),
}

/// One series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    /// Which series.
    pub labels: Labels,
    /// The time asked for.
    pub t: TimestampMs,
    /// Its value; NaN when `histogram` is there.
    pub v: f64,
    /// Its value, if it is a histogram.
    pub histogram: Option<Arc<Histogram>>,
}

/// One series over time. Times ascend in each list and are in one list at most.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// Which series.
    pub labels: Labels,
    /// Its numbers.
    pub points: Vec<(TimestampMs, f64)>,
    /// Its histograms.
    pub histograms: Vec<(TimestampMs, Arc<Histogram>)>,
}
