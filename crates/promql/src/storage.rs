//! All that evaluation asks of the world: one method.

use std::sync::Arc;

use stoa_model::{Labels, Matcher, TimestampMs};

use crate::histogram::Histogram;

/// What a query needs of the stored series.
#[derive(Clone, Debug)]
pub struct Select<'a> {
    /// All must hold.
    pub matchers: &'a [Matcher],
    /// First timestamp wanted, inclusive.
    pub start_ms: TimestampMs,
    /// Last timestamp wanted, inclusive.
    pub end_ms: TimestampMs,
    /// Most series the caller will take; storage refuses rather than cuts.
    pub series_max: usize,
    /// Most samples the caller will take over all series; storage refuses rather than cuts.
    pub samples_max: usize,
}

/// One stored series within the range asked for. Both columns have one length; timestamps ascend
/// strictly. Stale markers are among the values.
#[derive(Clone, Debug)]
pub struct Series {
    /// The series' labels.
    pub labels: Labels,
    /// When. Series that were read at the same times may share them.
    pub timestamps: Arc<[TimestampMs]>,
    /// What.
    pub values: Vec<f64>,
}

/// One stored series of native histograms within the range asked for. Timestamps ascend strictly
/// and are none of those of the floats under the same labels.
#[derive(Clone, Debug)]
pub struct HistogramSeries {
    /// The series' labels.
    pub labels: Labels,
    /// When and what.
    pub samples: Vec<(TimestampMs, Arc<Histogram>)>,
}

/// Why storage could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// More series match than the caller takes.
    #[error("the query selects more than {max} series")]
    TooManySeries {
        /// The limit.
        max: usize,
    },
    /// More samples match than the caller takes.
    #[error("the query loads more than {max} samples")]
    TooManySamples {
        /// The limit.
        max: usize,
    },
    /// Reading failed.
    #[error("read from storage")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where series come from. Called once per selector of a query, for its whole time range.
pub trait Storage: Sync {
    /// The series all matchers hold for that have a sample in the range, in any order.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select(&self, select: &Select<'_>) -> Result<Vec<Series>, StorageError>;

    /// The same for native histograms. A storage that keeps none leaves this as it is.
    ///
    /// # Errors
    /// [`StorageError`] when a limit is passed or reading fails.
    fn select_histograms(&self, select: &Select<'_>) -> Result<Vec<HistogramSeries>, StorageError> {
        let _none = select;
        Ok(Vec::new())
    }
}
