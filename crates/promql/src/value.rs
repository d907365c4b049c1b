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
    /// Samples storage handed over.
    pub samples_loaded: u64,
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
